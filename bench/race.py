"""`make bench`: the engine against its peers, side by side in one run.

    constants, intervals   a straight line of additions; mlir-opt (Debian's mlir-16-tools),
                           by its own pass timer, where it is installed
    liveness               control-flow graphs of blocks with three assignments; mypyc's
                           compiled `analyze_live_regs`, which comes with mypy

Through the public API a user has, the problem built beforehand.  Solutions of liveness must
agree, block by block.  CPU seconds, medians; the numbers that matter are the ratios.
"""

from __future__ import annotations

import gc
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from random import Random

from attrs import define, frozen
from mypyc.analysis.dataflow import analyze_live_regs, get_cfg
from mypyc.ir.ops import Assign, BasicBlock, Branch, Goto, Register, Return
from mypyc.ir.rtypes import int_rprimitive

from dataflow import (
    BOTTOM,
    TOP,
    Backward,
    Bits,
    Bottom,
    Flat,
    Flow,
    GenKill,
    Interval,
    Lattice,
    SparseForward,
    Top,
    solve,
)

SIZE = 100_000
VARIABLES = 64


def median(run: Callable[[], object], repeats: int) -> float:
    """Median CPU seconds, the collector run before each."""
    times = []
    for _ in range(repeats):
        gc.collect()
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return statistics.median(times)


@frozen(eq=False)
class Graph:
    """A graph to solve over."""

    flow: Flow[Node]


# -- straight lines --------------------------------------------------------------------------


@define(eq=False)
class Node:
    """An integer constant, or the sum of the two operands."""

    constant: int | None
    generated: int = 0
    killed: int = 0


Constant = int | Bottom | Top


@frozen
class Constants(SparseForward[Node, Constant]):
    """32-bit constants."""

    lattice: Lattice[Constant] = Flat[int]()

    def transfer(self, node: Node, operands: Sequence[Constant]) -> Sequence[Constant]:
        if node.constant is not None:
            return (node.constant,)
        a, b = operands
        if isinstance(a, int) and isinstance(b, int):
            return ((a + b) & 0xFFFFFFFF,)
        return (BOTTOM,) if BOTTOM in operands else (TOP,)


Range = tuple[float, float] | Bottom


@frozen
class Ranges(SparseForward[Node, Range]):
    """Ranges of 32-bit numbers."""

    lattice: Lattice[Range] = Interval()

    def transfer(self, node: Node, operands: Sequence[Range]) -> Sequence[Range]:
        if node.constant is not None:
            return ((node.constant, node.constant),)
        a, b = operands
        if a is BOTTOM or b is BOTTOM:
            return (BOTTOM,)
        low, high = a[0] + b[0], a[1] + b[1]
        return ((low, high) if high < 2**31 else (-(2**31), 2**31 - 1),)


def additions(size: int) -> Graph:
    """x0 = 1, x1 = 1, and every other the sum of the two before."""
    return Graph(
        Flow(
            nodes=[Node(1 if number < 2 else None) for number in range(size)],
            blocks=[range(size)],
            edges=[],
            entries=[0],
            exits=[0],
            values=[f"x{number}" for number in range(size)],
            operands=[() if n < 2 else (n - 1, n - 2) for n in range(size)],
            results=[(n,) for n in range(size)],
        )
    )


def mlir(size: int, option: str, name: str) -> float | None:
    """Seconds that mlir-opt's pass takes by its own timer; None if it is not installed."""
    program = shutil.which("mlir-opt-16") or shutil.which("mlir-opt")
    if program is None:
        return None
    lines = ["func.func @f() -> i32 {"]
    lines += [f"  %x{n} = arith.constant 1 : i32" for n in range(2)]
    lines += [f"  %x{n} = arith.addi %x{n - 1}, %x{n - 2} : i32" for n in range(2, size)]
    lines += [f"  return %x{size - 1} : i32", "}"]
    with tempfile.NamedTemporaryFile("w", suffix=".mlir") as file:
        file.write("\n".join(lines))
        file.flush()
        done = subprocess.run(
            [program, option, "--mlir-timing", file.name, "-o", "/dev/null"],
            capture_output=True,
            text=True,
            check=True,
        )
    found = re.search(rf"([\d.]+) \([^)]*\)\s+(?:'[^']*' Pipeline\n.*?)?{name}", done.stderr)
    return float(found[1]) if found else None


def transfers_alone(analysis: Constants | Ranges, flow: Flow[Node]) -> None:
    """What an author's own loop would do on a straight line."""
    transfer: Callable[..., Sequence[object]] = analysis.transfer
    state: list[object] = [None] * len(flow.nodes)
    for number, node in enumerate(flow.nodes):
        operands = [state[value] for value in flow.operands[number]]
        state[number] = transfer(node, operands)[0]


def race_on_straight_lines() -> None:
    graph = additions(SIZE)
    analyses: list[tuple[str, Constants | Ranges, str, str]] = [
        ("constants", Constants(), "--sccp", "SCCP"),
        ("intervals", Ranges(), "--int-range-optimizations", "ArithIntRangeOpts"),
    ]
    for what, analysis, option, name in analyses:
        ours = median(lambda a=analysis: solve(a, graph), 7)  # type: ignore[misc]  # bound now
        bare = median(lambda a=analysis: transfers_alone(a, graph.flow), 7)  # type: ignore[misc]  # as above
        theirs = [t for t in (mlir(SIZE, option, name) for _ in range(5)) if t is not None]
        line = (
            f"{ours / SIZE * 1e6:.2f} us/op, {(ours - bare) / SIZE * 1e6:.2f} besides the transfer"
        )
        if theirs:
            peer = statistics.median(theirs)
            print(
                f"{ours / peer:7.2f} {0.5:6.2f}  {what} of {SIZE:,} additions / mlir-opt {option}: "
                f"{line}; mlir {peer / SIZE * 1e6:.2f}"
            )
        else:
            print(f"{'':7} {'':6}  {what} of {SIZE:,} additions: {line}; no mlir-opt here")


# -- control-flow graphs ---------------------------------------------------------------------


@frozen
class Live(GenKill[Node, int], Backward[Node, int]):
    """Live variables as bits."""

    lattice: Lattice[int] = Bits()

    def effect(self, node: Node) -> tuple[int, int]:
        return node.generated, node.killed


def edges_of(kind: str, size: int, random: Random) -> list[list[int]]:
    """Successors of each block."""
    onward = [[number + 1] for number in range(size - 1)] + [[]]
    if kind == "random":
        for number in range(size - 1):
            if random.random() < 0.5:
                near = max(0, min(size - 1, number + random.randint(-20, 20)))
                if near != number + 1:
                    onward[number].append(near)
    if kind == "loops":  # nests of eight
        for start in range(0, size - 18, 18):
            for depth in range(8):
                onward[start + 16 - depth].append(start + 1 + depth)
    return onward


def liveness_problem(kind: str, size: int) -> tuple[Graph, list[BasicBlock], list[Register]]:
    """The same program twice: for us, and as mypyc's blocks."""
    random = Random(1)
    onward = edges_of(kind, size, random)
    registers = [Register(int_rprimitive, f"v{number}") for number in range(VARIABLES)]
    blocks = [BasicBlock(number) for number in range(size)]
    nodes: list[Node] = []
    lines: list[list[int]] = []
    for block, following in zip(blocks, onward, strict=True):
        lines.append([])
        for _ in range(3):
            source, target = random.randrange(VARIABLES), random.randrange(VARIABLES)
            block.ops.append(Assign(registers[target], registers[source]))
            lines[-1].append(len(nodes))
            nodes.append(Node(None, 1 << source, 1 << target))
        used = random.randrange(VARIABLES)
        if len(following) == 2:
            a, b = (blocks[target] for target in following)
            block.ops.append(Branch(registers[used], a, b, Branch.BOOL))
        elif following:
            block.ops.append(Goto(blocks[following[0]]))
        else:
            block.ops.append(Return(registers[used]))
        lines[-1].append(len(nodes))
        nodes.append(Node(None, 0 if len(following) == 1 else 1 << used, 0))
    edges = [(source, target) for source, found in enumerate(onward) for target in found]
    return Graph(Flow(nodes, lines, edges, [0], [size - 1])), blocks, registers


def race_on_control_flow(size: int) -> None:
    for kind, goal in (("random", 1 / 8), ("loops", 1 / 8), ("chain", 1 / 3)):
        graph, blocks, registers = liveness_problem(kind, size)
        cfg = get_cfg(blocks)
        ours = median(lambda g=graph: solve(Live(), g), 3)  # type: ignore[misc]  # bound now
        theirs = median(lambda b=blocks, c=cfg: analyze_live_regs(b, c), 1)  # type: ignore[misc]  # bound now
        results, peer = solve(Live(), graph), analyze_live_regs(blocks, cfg)
        numbers = {register: number for number, register in enumerate(registers)}
        for line, block in zip(graph.flow.blocks, blocks, strict=True):
            live = sum(1 << numbers[v] for v in peer.before[block, 0])  # type: ignore[index, misc]  # all are registers
            assert results.before(graph.flow.nodes[line[0]]) == live, (kind, block)
        print(
            f"{ours / theirs:7.2f} {goal:6.2f}  liveness, {kind} graph of {size:,} blocks / mypyc: "
            f"{ours / size * 1e6:.1f} and {theirs / size * 1e6:.1f} us a block; same answers",
            flush=True,
        )


def main() -> None:
    print(f"{'ratio':>7} {'goal':>6}  the engine, in CPU time")
    race_on_straight_lines()
    race_on_control_flow(10_000)
    race_on_control_flow(100_000)


if __name__ == "__main__":
    main()
