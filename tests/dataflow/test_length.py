"""Long programs: what solving and asking costs, and keeps."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Sequence
from typing import Any, overload

import pytest
from attrs import define, field, frozen

from dataflow import (
    UNREACHED,
    Backward,
    Bits,
    Flow,
    Forward,
    Interval,
    Lattice,
    PointResults,
    Powerset,
    SparseBackward,
    SparseForward,
    solve,
)
from dataflow.analysis import System
from dataflow.solve import Sweep
from tests.dataflow.test_solve import INFINITY, Graph, T

LENGTH = 100_000


@define(eq=False)
class Counted(Sequence[T]):
    """A sequence that counts the items it hands out."""

    items: Sequence[T]
    handed_out: int = 0

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, int):
            self.handed_out += 1
            return self.items[index]
        self.handed_out += len(range(len(self.items))[index])
        return self.items[index]


def long_line() -> tuple[Graph, Counted[int]]:
    """A hundred thousand nodes in a straight line, between an entry and an exit."""
    line = Counted(range(1, LENGTH + 1))
    nodes = range(LENGTH + 2)
    return Graph(Flow(nodes, [[0], line, [LENGTH + 1]], [(0, 1), (1, 2)], [0], [2])), line


@frozen
class LastFew(Forward[int, Any]):
    """The last two digits of node numbers behind a point, as bits or as a small set."""

    lattice: Lattice[Any]
    start: Any
    calls: Counter[str] = field(factory=Counter)

    def boundary(self) -> Any:
        return self.start

    def transfer(self, node: int, value: Any) -> Any:
        self.calls["transfer"] += 1
        return 1 << node % 100 if self.start == 0 else frozenset({node % 100})


@frozen
class NextFew(Backward[int, Any]):
    """The same ahead of a point."""

    lattice: Lattice[Any]
    start: Any
    calls: Counter[str] = field(factory=Counter)

    def boundary(self) -> Any:
        return self.start

    def transfer(self, node: int, value: Any) -> Any:
        self.calls["transfer"] += 1
        return 1 << node % 100 if self.start == 0 else frozenset({node % 100})


@pytest.mark.parametrize(
    "analysis",
    [
        LastFew(Bits(), 0),
        LastFew(Powerset(), frozenset()),
        NextFew(Bits(), 0),
        NextFew(Powerset(), frozenset()),
    ],
    ids=["forward-bits", "forward-sets", "backward-bits", "backward-sets"],
)
@pytest.mark.parametrize("reverse", [False, True], ids=["onward", "in-reverse"])
def test_a_long_line_costs_a_few_transfers_per_node(
    analysis: LastFew | NextFew, reverse: bool
) -> None:
    """Solving takes one per node; asking twice for every point, in either direction, four."""
    graph, _ = long_line()
    analysis.calls.clear()
    results = solve(analysis, graph)
    assert analysis.calls["transfer"] <= LENGTH + 2
    nodes = range(1, LENGTH + 1)
    wrong = 0
    for node in reversed(nodes) if reverse else nodes:
        before, after = results.before(node), results.after(node)
        near, far = (node - 1, node) if isinstance(analysis, LastFew) else (node + 1, node)
        expected = [1 << n % 100 if analysis.start == 0 else {n % 100} for n in (near, far)]
        got = [before, after] if isinstance(analysis, LastFew) else [after, before]
        wrong += got != expected
    assert wrong == 0
    assert analysis.calls["transfer"] <= 5.1 * LENGTH


@pytest.mark.parametrize("direction", [LastFew, NextFew])
def test_asking_does_not_walk_the_whole_line(direction: type[LastFew] | type[NextFew]) -> None:
    """A query touches about the square root of its block, not all of it."""
    graph, line = long_line()
    results = solve(direction(Bits(), 0), graph)
    line.handed_out = 0
    for node in range(1, LENGTH + 1):
        results.before(node)
    assert line.handed_out <= 5 * LENGTH


@pytest.mark.parametrize("base", [Forward, Backward])
def test_asking_for_every_point_keeps_few_facts(base: type[Any]) -> None:
    """About twice the square root of the line's length, never a table of all points."""
    made: list[weakref.ref[Any]] = []

    class Fresh(base):  # type: ignore[misc]  # either direction
        lattice: Lattice[Any] = Powerset()

        def transfer(self, node: int, value: Any) -> Any:
            fact = frozenset({node})
            made.append(weakref.ref(fact))
            return fact

    length = 10_000
    edges = [(0, 1), (1, 2)]
    flow = Flow(range(length + 2), [[0], range(1, length + 1), [length + 1]], edges, [0], [2])
    results: PointResults[int, Any] = solve(Fresh(), Graph(flow))
    for node in range(1, length + 1):
        results.before(node)
    gc.collect()
    assert len(made) > length
    assert sum(fact() is not None for fact in made) <= 300


def test_a_long_chain_of_values_is_one_evaluation_per_node() -> None:
    """Facts per value need no recomputing at all."""
    flow = Flow(
        nodes=range(LENGTH),
        blocks=[range(LENGTH)],
        edges=[],
        entries=[0],
        exits=[0],
        values=range(LENGTH + 1),
        operands=[(n,) for n in range(LENGTH)],
        results=[(n + 1,) for n in range(LENGTH)],
        inputs=[0],
        outputs=[LENGTH],
    )

    @frozen
    class Depth(SparseForward[int, int]):
        lattice: Lattice[int] = Bits()

        def transfer(self, node: int, operands: Sequence[int]) -> Sequence[int]:
            return [operands[0] + 1]

    @frozen
    class Height(SparseBackward[int, int]):
        lattice: Lattice[int] = Bits()

        def transfer(self, node: int, results: Sequence[int]) -> Sequence[int]:
            return [results[0] + 1]

    forward, backward = solve(Depth(), Graph(flow)), solve(Height(), Graph(flow))
    assert forward.visits == backward.visits == LENGTH
    assert forward.of(LENGTH) == backward.of(0) == LENGTH


def test_a_widened_loop_costs_the_same_however_long_the_program_is() -> None:
    """Counters one after the other: each loop looks at its own constraints only."""
    loops = 500
    # Constraint 2i counts unknown i up for ever; constraint 2i + 1 starts the next one.
    writes = Counted([(n // 2 + n % 2,) for n in range(2 * loops)])
    system: System[Any] = System(
        initial=[(0, 0), *[UNREACHED] * loops],
        reads=[(n // 2,) for n in range(2 * loops)],
        writes=writes,
        subjects=range(2 * loops),
        evaluate=lambda n, values: [(0, 0) if n % 2 else (0, values[0][1] + 1)],
        constraint_name=str,
        unknown_name=str,
    )
    sweep = Sweep(system, Interval(), limit=1_000)
    state, visits = sweep.run(), sweep.visits
    assert state == [(0, INFINITY)] * loops + [(0, 0)]
    assert visits <= 10 * loops
    assert writes.handed_out <= 40 * loops
