"""Straight lines of integer additions: constants and intervals, one fact per value."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, frozen

from bench.measure import Posed
from dataflow import (
    BOTTOM,
    TOP,
    Bottom,
    Flat,
    Flow,
    Interval,
    Lattice,
    SparseForward,
    Top,
    ValueResults,
    solve,
)

FEW_SUMS = (-8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8)
ALL_DIFFERENT = tuple(range(1, 17))


@frozen
class Additions:
    """A program: constants, then sums, each of the value before it and of a constant.

    The constants come round in turn.  `FEW_SUMS` add up to 0, so the same numbers come again
    and again; of `ALL_DIFFERENT` no two sums are the same.  Nothing overflows: an engine with
    ints of 32 bits and one with ints of any length have the same problem.
    """

    size: int
    constants: tuple[int, ...] = FEW_SUMS

    def operands(self, number: int) -> tuple[int, ...]:
        """The values that value `number` is the sum of; none if it is a constant."""
        count = len(self.constants)
        return () if number < count else (number - 1, number % count)

    def constant(self, number: int) -> int | None:
        """What value `number` is, if it is a constant."""
        return self.constants[number] if number < len(self.constants) else None


@define(eq=False)
class Node:
    """An integer constant, or the sum of two operands."""

    constant: int | None


@frozen(eq=False)
class Graph:
    """A graph to solve over."""

    flow: Flow[Node]


def graph_of(program: Additions) -> Graph:
    numbers = range(program.size)
    return Graph(
        Flow(
            nodes=[Node(program.constant(n)) for n in numbers],
            blocks=[numbers],
            edges=[],
            entries=[0],
            exits=[0],
            values=[f"x{n}" for n in numbers],
            operands=[program.operands(n) for n in numbers],
            results=[(n,) for n in numbers],
            checked=True,  # as the peers have seen theirs before, too
        )
    )


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
            return ((a + b + 2**31) % 2**32 - 2**31,)
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
        fits = low >= -(2**31) and high < 2**31
        return ((low, high) if fits else (-(2**31), 2**31 - 1),)


def constants(program: Additions) -> Posed[ValueResults[Node, Constant], Constant]:
    """Our engine, asked which values are constants."""
    graph = graph_of(program)
    return Posed(
        lambda: solve(Constants(), graph),
        lambda results: map(results.of, graph.flow.values),
    )


def ranges(program: Additions) -> Posed[ValueResults[Node, Range], Range]:
    """Our engine, asked for intervals."""
    graph = graph_of(program)
    return Posed(
        lambda: solve(Ranges(), graph),
        lambda results: map(results.of, graph.flow.values),
    )


def transfers_alone(
    analysis: Constants | Ranges, program: Additions
) -> Posed[list[object], object]:
    """What an author's own loop would do: no engine, the transfers only."""
    flow = graph_of(program).flow
    transfer: Callable[..., Sequence[object]] = analysis.transfer

    def run() -> list[object]:
        state: list[object] = [None] * len(flow.nodes)
        for number, node in enumerate(flow.nodes):
            operands = [state[value] for value in flow.operands[number]]
            state[number] = transfer(node, operands)[0]
        return state

    return Posed(run, iter)
