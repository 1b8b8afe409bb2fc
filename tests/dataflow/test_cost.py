"""The cost contract: evaluations and bytes per node, on straight lines and in nests of loops."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Sequence

import pytest
from attrs import frozen

from dataflow import (
    Backward,
    Bits,
    Chain,
    DidNotConverge,
    Flow,
    Forward,
    GenKill,
    Lattice,
    SparseBackward,
    SparseForward,
    solve,
)

SIZE = 20_000


@frozen(eq=False)
class Line:
    flow: Flow[int]


def line(size: int = SIZE) -> Line:
    return Line(
        Flow(
            nodes=range(size),
            blocks=[range(size)],
            edges=[],
            entries=[0],
            exits=[0],
            values=range(size),
            operands=[(), *((n - 1,) for n in range(1, size))],
            results=[(n,) for n in range(size)],
        )
    )


@frozen
class Depth(SparseForward[int, int]):
    lattice: Lattice[int] = Chain()

    def transfer(self, node: int, operands: Sequence[int]) -> Sequence[int]:
        return [1 + max(operands, default=0)]


@frozen
class DepthOnWays(Depth):
    def takes(self, node: int, way: int, operands: Sequence[int]) -> bool:
        return True


@frozen
class Height(SparseBackward[int, int]):
    lattice: Lattice[int] = Chain()

    def transfer(self, node: int, results: Sequence[int]) -> Sequence[int]:
        return [1 + results[0]] * (node > 0)


@frozen
class Count(Forward[int, int]):
    lattice: Lattice[int] = Chain()

    def transfer(self, node: int, value: int) -> int:
        return value + 1


@frozen
class Seen(GenKill[int, int], Backward[int, int]):
    lattice: Lattice[int] = Bits()

    def effect(self, node: int) -> tuple[int, int]:
        return 1 << node % 64, 1 << (node + 1) % 64


@pytest.mark.parametrize("make", [Depth, DepthOnWays, Height, Count, Seen])
def test_a_straight_line_is_evaluated_once_and_keeps_little(make: Callable[[], Depth]) -> None:
    graph = line()
    solve(make(), graph)  # what the flow itself keeps is there now
    gc.collect()
    tracemalloc.start()
    results = solve(make(), graph)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept <= 200 * SIZE
    assert results.visits <= SIZE + isinstance(
        results.analysis, DepthOnWays
    )  # the end of the block


@pytest.mark.parametrize("make", [Count, Seen])
def test_a_block_keeps_little_however_short(make: Callable[[], Count | Seen]) -> None:
    edges = [(n, n + 1) for n in range(SIZE - 1)]
    graph = Line(Flow(range(SIZE), [[n] for n in range(SIZE)], edges, [0], [SIZE - 1]))
    solve(make(), graph)
    gc.collect()
    tracemalloc.start()
    results = solve(make(), graph)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept <= 350 * SIZE
    assert results.visits <= SIZE


@frozen
class SeenByCode(Backward[int, int]):
    """`Seen`, its transfer as code."""

    lattice: Lattice[int] = Bits()

    def transfer(self, node: int, value: int) -> int:
        return value & ~(1 << (node + 1) % 64) | 1 << node % 64


def nest(depth: int) -> Line:
    """The loops of depth d are heads h1..hd, a body, and ways back from the inside out."""
    heads, backs = list(range(depth)), list(range(depth + 1, 2 * depth + 1))
    size = 2 * depth + 2
    edges = [(n, n + 1) for n in range(size - 1)]
    edges += [(back, heads[depth - 1 - number]) for number, back in enumerate(backs)]
    return Line(Flow(range(size), [[n] for n in range(size)], edges, [0], [size - 1]))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 12])
def test_nested_loops_cost_about_one_more_evaluation_per_loop_around(depth: int) -> None:
    graph = nest(depth)
    results = solve(SeenByCode(), graph)
    transfers_flat = depth * (depth + 1)  # 156 at depth 12; 8,190 by recursion from bottom
    assert results.visits <= 2 * transfers_flat + 2 * len(graph.flow.blocks)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 12])
def test_gen_and_kill_go_around_nested_loops_twice(depth: int) -> None:
    """As many ways back as a path without circles has, and once more."""
    graph = nest(depth)
    results = solve(Seen(), graph)
    assert results.visits <= 2 * len(graph.flow.blocks)
    assert results.states == solve(SeenByCode(), graph).states


@frozen
class Shifting(Bits):
    """A `replace` that is none: the solver would go around for ever."""

    def replace(self, value: int, old: int, new: int) -> int:
        return value << 1 | new


def test_gen_and_kill_that_grow_for_ever_are_noticed() -> None:
    with pytest.raises(DidNotConverge, match="grew 31 times around its loop"):
        solve(Seen(Shifting()), nest(2), limit=30)
    solve(Seen(Shifting()), line(100), limit=30)
