"""The engine against its peers, side by side in one run.

    python -m bench.race [PART ...]

    lines      constants and intervals on a straight line of additions; mlir-opt, xDSL, Kirin
    liveness   control-flow graphs; mypyc (compiled), numba, python_graphs, vyper; and what a
               loop takes that is written for nothing else
    variables  300,000 of them: where sets of a few are not best kept as bits; mypyc
    author     what the engine costs an analysis of one's own on top of the transfer
    edits      one instruction more in a control-flow graph, next to solving afresh
    bytes      of liveness, while it is solved and kept after

Through the public API a user of each has, the problem built beforehand.  Solutions must
agree, part by part.  CPU seconds, medians; the numbers that matter are the ratios, to the
fastest peer.  What is not installed is named and left out.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from bench import by_hand, control, straight
from bench.measure import Posed, bytes_of, race, seconds
from bench.peers import mlir

SIZES = (1_000, 10_000, 100_000)
REPEATS = {1_000: 5, 10_000: 3, 100_000: 1}
PATIENCE = 20  # CPU seconds: who takes longer is not run at larger sizes
ROOM = 2 * 10**9  # bytes: what takes more is not run
PEERS_OF_LIVENESS = ("mypyc", "numba", "python_graphs", "vyper")
PEERS_ON_LINES = ("xdsl", "kirin")
OURS, BY_HAND = "ours", "by hand"

Prepare = Callable[[Any], Posed[Any, Any]]


def installed(names: Iterable[str]) -> dict[str, Prepare]:
    """How each peer that is here prepares a problem; a line for each that is not."""
    found: dict[str, Prepare] = {}
    for name in names:
        try:
            found[name] = import_module(f"bench.peers.{name}").prepare
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("bench"):
                raise
            print(f"{'':15} {name} is not here (no module {error.name}): pip install '.[bench]'")
    return found


def report(
    what: str,
    times: Mapping[str, float],
    size: int,
    goal: float,
    note: str = "",
    ours: Sequence[str] = (OURS,),
) -> None:
    """A line: our time over that of the fastest peer, the goal for it, and microseconds."""
    peers = [taken for name, taken in times.items() if name not in ours]
    ratio = f"{'':14}"
    if peers:
        ratio = f"{min(times[name] for name in ours) / min(peers):7.2f} {goal:6.2f}"
    each = ", ".join(f"{name} {taken / size * 1e6:.2f}" for name, taken in times.items())
    print(f"{ratio}  {what}: {each}{note}", flush=True)


# -- straight lines --------------------------------------------------------------------------


def race_on_straight_lines(size: int) -> None:
    peers = installed(PEERS_ON_LINES)
    for sums, numbers in (
        ("few different sums", straight.FEW_SUMS),
        ("sums all different", straight.ALL_DIFFERENT),
    ):
        program = straight.Additions(size, numbers)
        ours: Prepare = straight.constants
        entrants = {OURS: ours, **peers}
        _race_on_a_line(f"constants, {sums},", program, entrants, straight.Constants(), "--sccp")
        ours = straight.ranges
        option = "--int-range-optimizations"
        _race_on_a_line(f"intervals, {sums},", program, {OURS: ours}, straight.Ranges(), option)


def _race_on_a_line(
    what: str,
    program: straight.Additions,
    prepare: Mapping[str, Prepare],
    analysis: straight.Constants | straight.Ranges,
    option: str,
) -> None:
    times = race({name: partial(p, program) for name, p in prepare.items()}, 5)
    alone = race({"": partial(straight.transfers_alone, analysis, program)}, 5)[""]
    passes = [taken for _ in range(5) if (taken := mlir.seconds(program, option))]
    if passes:
        times[f"mlir-opt {option}"] = statistics.median(passes)
    else:
        print(f"{'':15} mlir-opt is not here: apt install mlir-16-tools")
    size = program.size
    note = f"; {(times[OURS] - alone) / size * 1e6:.2f} of ours besides the transfer"
    report(f"{what} of {size:,} additions, us each", times, size, 1 / 2, note)


# -- control-flow graphs ---------------------------------------------------------------------


def race_on_control_flow(peers: Mapping[str, Prepare]) -> None:
    for kind, goal in (("random", 1 / 8), ("loops", 1 / 8), ("chain", 1 / 3)):
        prepare: dict[str, Prepare] = {
            OURS: control.with_bits, BY_HAND: by_hand.prepare, **peers,
        }  # fmt: skip
        slow: list[str] = []
        for size in SIZES:
            program = control.dense(kind, size)
            entrants = {name: partial(p, program) for name, p in prepare.items()}
            times = race(entrants, REPEATS[size])
            note = f"; {times.pop(BY_HAND) / size * 1e6:.2f} a loop for nothing else"
            note += f"; not run, as too slow: {', '.join(slow)}" if slow else ""
            report(f"liveness, {kind} graph of {size:,} blocks, us each", times, size, goal, note)
            slow += [name for name, taken in times.items() if taken > PATIENCE and name != OURS]
            prepare = {name: p for name, p in prepare.items() if name not in slow}


def bits_of_sparse_sets(program: control.Program) -> int:
    """Bytes of what a block reads, writes and has live as bits, where the variables around
    it are numbered like the block."""
    return 3 * len(program.blocks) * program.variables // 8 // 2


def race_with_many_variables(peers: Mapping[str, Prepare]) -> None:
    for kind in ("loops", "chain"):
        for size in SIZES:
            program = control.sparse(kind, size)
            needed = bits_of_sparse_sets(program)
            prepare: dict[str, Prepare] = {"Powerset": control.with_sets}
            note = ""
            if needed < ROOM:
                prepare["Bits"] = control.with_bits
            else:
                note = f"; Bits not run, which would take {needed / 1e9:.1f} GB"
            ours = list(prepare)
            prepare |= peers
            times = race({name: partial(p, program) for name, p in prepare.items()}, REPEATS[size])
            what = f"liveness of {program.variables:,} variables, {kind} graph of {size:,} blocks"
            report(f"{what}, us each", times, size, 1, note, ours)


def table_of_bytes(peers: Mapping[str, Prepare], size: int) -> None:
    print(f"\nbytes a block at the worst moment of solving / kept; {size:,} blocks")
    prepare: dict[str, Prepare] = {OURS: control.with_bits, **peers}
    print(f"{'ratio':>7} {'goal':>6}  {'':16}" + "".join(f"{name:>16}" for name in prepare))
    for kind in control.KINDS:
        program = control.dense(kind, size)
        found = {name: bytes_of(partial(p, program)) for name, p in prepare.items()}
        least = min((b.peak for name, b in found.items() if name != OURS), default=None)
        ratio = f"{found[OURS].peak / least:7.2f} {1 / 8:6.2f}" if least else f"{'':14}"
        cells = "".join(
            f"{f'{b.peak / size:,.0f} / {b.kept / size:,.0f}':>16}" for b in found.values()
        )
        print(f"{ratio}  {kind + ' graph':16}{cells}", flush=True)


def authors_analysis(size: int) -> None:
    for kind in control.KINDS:
        problem = control.own(control.dense(kind, size))

        def us(run: Callable[[], object]) -> float:
            return statistics.median(seconds(run)[0] for _ in range(5)) * 1e6

        ours = us(problem.solve)
        transfers = us(partial(control.replay, problem.transfers))
        joins = us(partial(control.replay, problem.joins))
        calls, visits = len(problem.transfers), problem.visits
        besides = (ours - transfers - joins) / calls
        print(
            f"{besides:7.2f} {1.5:6.2f}  us for each call of an author's transfer, besides it: "
            f"frozensets, {kind} graph of {size:,} blocks; "
            f"{transfers / calls:.2f} the transfer, {joins / calls:.2f} the lattice's joins; "
            f"{visits / size:.1f} visits a block of {calls / visits:.0f} calls",
            flush=True,
        )


def one_instruction_more(size: int) -> None:
    for kind in control.KINDS:
        fresh, edit, changed = control.edited(control.dense(kind, size))
        print(
            f"{edit / fresh:7.4f} {0.01:6.2f}  an edit / a fresh solve: liveness, {kind} graph of "
            f"{size:,} blocks; facts at {changed} blocks change; {edit * 1e6:.0f} us",
            flush=True,
        )


PARTS: dict[str, Callable[[], None]] = {
    "lines": lambda: race_on_straight_lines(100_000),
    "liveness": lambda: race_on_control_flow(installed(PEERS_OF_LIVENESS)),
    "variables": lambda: race_with_many_variables(installed(("mypyc",))),
    "author": lambda: authors_analysis(10_000),
    "edits": lambda: one_instruction_more(100_000),
    "bytes": lambda: table_of_bytes(installed(PEERS_OF_LIVENESS), 1_000),
}


def main(names: Sequence[str]) -> None:
    unknown = set(names) - set(PARTS)
    if unknown:
        sys.exit(f"no part of the race is called {min(unknown)}; there are {', '.join(PARTS)}")
    print("CPU time; the ratio is to the fastest peer")
    print(f"{'ratio':>7} {'goal':>6}")
    for name in names or PARTS:
        PARTS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
