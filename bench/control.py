"""Control-flow graphs of blocks with three assignments: liveness, and an analysis of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random
from statistics import median
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen

from bench.measure import Posed, seconds
from dataflow import (
    Backward,
    Bits,
    Draft,
    Flow,
    GenKill,
    Lattice,
    PointResults,
    Powerset,
    solve,
)

V = TypeVar("V")
KINDS = ("random", "loops", "chain")
DENSE = 64  # variables, if they are not three a block


# -- programs --------------------------------------------------------------------------------


@frozen
class Block:
    """Assignments `target = source` (None: a constant), what the last instruction reads,
    and where it leads."""

    assigns: Sequence[tuple[int, int | None]]
    read: int | None
    onward: Sequence[int]


@frozen
class Program:
    """Blocks over numbered variables.  Block 0 is the entry and gives each a value, as
    parameters would; the last block is the only exit."""

    blocks: Sequence[Block]
    variables: int


def edges_of(kind: str, size: int, random: Random) -> list[list[int]]:
    """Successors of each block: a chain, and what a `random` graph or `loops` have more."""
    onward = [[number + 1] for number in range(size - 1)] + [[]]
    if kind == "random":
        for number in range(1, size - 1):
            if random.random() < 0.5:
                near = max(1, min(size - 1, number + random.randint(-20, 20)))
                if near != number + 1:
                    onward[number].append(near)
    if kind == "loops":  # nests of eight
        for start in range(1, size - 18, 18):
            for depth in range(8):
                onward[start + 16 - depth].append(start + 1 + depth)
    return onward


def dense(kind: str, size: int) -> Program:
    """64 variables, assigned and read everywhere: of most blocks, most are live."""
    random = Random(1)
    onward = edges_of(kind, size, random)
    blocks = [Block([(variable, None) for variable in range(DENSE)], None, onward[0])]
    for following in onward[1:]:
        # An assignment to itself is left out: some peers say that it kills what it reads.
        assigns = [tuple(random.sample(range(DENSE), 2)) for _ in range(3)]
        read = None if len(following) == 1 else random.randrange(DENSE)
        blocks.append(Block([(target, source) for target, source in assigns], read, following))
    return Program(blocks, DENSE)


def sparse(kind: str, size: int) -> Program:
    """Three new variables in each block, read in the next 20: of very many, a few dozen are
    live at a time.  For chains and loops, where what stands before has run before; in a
    random graph a variable would live wherever control may come round its definition.
    """
    assert kind != "random"
    random = Random(1)
    onward = edges_of(kind, size, random)
    blocks = [Block([(variable, None) for variable in range(3)], None, onward[0])]
    for number, following in enumerate(onward[1:], 1):
        recent = range(3 * max(0, number - 20), 3 * number)
        assigns = [(3 * number + n, random.choice(recent)) for n in range(3)]
        read = None if len(following) == 1 else random.choice(recent)
        blocks.append(Block(assigns, read, following))
    return Program(blocks, 3 * size)


# -- our engine ------------------------------------------------------------------------------


@define(eq=False)
class Instruction(Generic[V]):
    """What an instruction reads and writes, as sets."""

    generated: V
    killed: V


@frozen(eq=False)
class Graph(Generic[V]):
    """A graph to solve over."""

    flow: Flow[Instruction[V]]


@frozen
class Live(GenKill[Instruction[V], V], Backward[Instruction[V], V]):
    """Live variables, the transfer as data."""

    lattice: Lattice[V]

    def effect(self, node: Instruction[V]) -> tuple[V, V]:
        return node.generated, node.killed


def graph_of(program: Program, only: Callable[[int], V], nothing: V) -> Graph[V]:
    """A program for our engine; `only(v)` is the set of one variable."""
    nodes: list[Instruction[V]] = []
    lines: list[range] = []
    edges: list[tuple[int, int]] = []
    for number, block in enumerate(program.blocks):
        start = len(nodes)
        for target, source in block.assigns:
            nodes.append(Instruction(nothing if source is None else only(source), only(target)))
        nodes.append(Instruction(nothing if block.read is None else only(block.read), nothing))
        lines.append(range(start, len(nodes)))
        edges += [(number, following) for following in block.onward]
    flow = Flow(nodes, lines, edges, [0], [len(lines) - 1], checked=True)
    _ = flow.predecessors, flow.successors  # a graph has them, and so have those of the peers
    return Graph(flow)


def bits_of(program: Program) -> Graph[int]:
    return graph_of(program, lambda variable: 1 << variable, 0)


def graph_of_sets(program: Program) -> Graph[frozenset[int]]:
    nothing: frozenset[int] = frozenset()
    return graph_of(program, lambda variable: frozenset((variable,)), nothing)


def _starts(graph: Graph[V], results: PointResults[Instruction[V], V]) -> Iterable[V]:
    return (results.before(graph.flow.nodes[line[0]]) for line in graph.flow.blocks)


def with_bits(program: Program) -> Posed[PointResults[Instruction[int], int], frozenset[int]]:
    """Liveness, a set of variables as the bits of an int."""
    graph = bits_of(program)
    return Posed(
        lambda: solve(Live(Bits()), graph),
        lambda results: (frozenset(Bits.members(live)) for live in _starts(graph, results)),
    )


def with_sets(
    program: Program,
) -> Posed[PointResults[Instruction[frozenset[int]], frozenset[int]], frozenset[int]]:
    """Liveness, a set of variables as a frozenset."""
    graph = graph_of_sets(program)
    return Posed(
        lambda: solve(Live(Powerset[int]()), graph), lambda results: _starts(graph, results)
    )


def edited(program: Program) -> tuple[float, float, int]:
    """Seconds of solving, and of bringing the answer up to date after one more instruction in
    the middle, medians of five; and at how many blocks facts change by the last."""
    draft = Draft(bits_of(program))
    fresh, taken, changed = [], [], 0
    for turn in range(5):
        spent, results = seconds(lambda: solve(Live(Bits()), draft))
        fresh.append(spent)
        before = list(results.states)
        middle = draft.flow.nodes[len(draft.flow.nodes) // 2]
        edit = draft.insert(Instruction(0, 1 << turn), middle)
        spent, results = seconds(partial(results.update, edit))
        taken.append(spent)
        changed = sum(old != new for old, new in zip(before, results.states, strict=True))
    return median(fresh), median(taken), changed


# -- an analysis of one's own ----------------------------------------------------------------

Call = tuple[Callable[[Any, Any], object], object, object]


@frozen
class Own(Backward[Instruction[frozenset[int]], frozenset[int]]):
    """Live variables as an author first writes it: plain values, a transfer in Python."""

    lattice: Lattice[frozenset[int]] = Powerset[int]()

    def transfer(self, node: Instruction[frozenset[int]], value: frozenset[int]) -> frozenset[int]:
        return (value - node.killed) | node.generated


@frozen
class _Joining(Powerset[int]):
    """`Powerset`, which records the joins it is asked for."""

    calls: list[Call] = field(factory=list, eq=False)

    def join(self, a: frozenset[int], b: frozenset[int]) -> frozenset[int]:
        self.calls.append((Powerset[int]().join, a, b))
        return super().join(a, b)


@frozen
class _Transferring(Own):
    """`Own`, which records the transfers it is asked for."""

    calls: list[Call] = field(factory=list, eq=False)

    def transfer(self, node: Instruction[frozenset[int]], value: frozenset[int]) -> frozenset[int]:
        self.calls.append((Own().transfer, node, value))
        return super().transfer(node, value)


@frozen
class OwnAnalysis:
    """An author's analysis to be solved, and the calls of the author's code by which that is
    done: of the transfer, and of the lattice's join."""

    solve: Callable[[], PointResults[Instruction[frozenset[int]], frozenset[int]]]
    visits: int
    transfers: Sequence[Call]
    joins: Sequence[Call]


def own(program: Program) -> OwnAnalysis:
    graph = graph_of_sets(program)
    lattice = _Joining()
    analysis = _Transferring(lattice)
    visits = solve(analysis, graph).visits
    return OwnAnalysis(lambda: solve(Own(), graph), visits, analysis.calls, lattice.calls)


def replay(calls: Iterable[Call]) -> None:
    """Make these calls, and nothing else."""
    for function, a, b in calls:
        function(a, b)
