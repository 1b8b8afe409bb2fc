"""The four ways to pose a problem, and the one system of equations behind them.

    Forward         a fact per program point, flowing with execution
    Backward        a fact per program point, flowing against it
    SparseForward   a fact per value, from what defines it
    SparseBackward  a fact per value, from what uses it

An analysis is a lattice, a direction (the base class) and a transfer function.  `pose`
turns it and a graph into *constraints* over numbered unknowns: constraint c reads some
unknowns and says what it contributes to others,

    state[w]  must cover  evaluate(c, [state[r] for r in reads[c]])[w]

and the answer is the least state that satisfies them all.  Who must be looked at again
when something grows follows from these lists; authors never name a dependency.

`before` and `after` mean execution order in all four.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, Generic, Literal, TypeVar

from attrs import define

from dataflow.graph import Copy, Flow
from dataflow.lattice import Lattice

N = TypeVar("N")
V = TypeVar("V")


class Answer(Enum):
    """`UNREACHED`: no execution gets here.  Neither bottom nor any other fact."""

    UNREACHED = "unreached"

    def __repr__(self) -> str:
        return self.name


UNREACHED: Final = Answer.UNREACHED
Unreached = Literal[Answer.UNREACHED]


@define(eq=False, frozen=True)
class System(Generic[V]):
    """Constraints over unknowns, all numbered.

    `initial` is the state to start from: `UNREACHED`, or the boundary's fact.  A
    constraint is evaluated only while everything it reads is reached.  `constraint_name`
    and `unknown_name` are for messages.
    """

    initial: Sequence[V | Unreached]
    reads: Sequence[Sequence[int]]
    writes: Sequence[Sequence[int]]
    evaluate: Callable[[int, list[V]], Sequence[V]]
    constraint_name: Callable[[int], str]
    unknown_name: Callable[[int], str]


class Analysis(ABC, Generic[N, V]):
    """A lattice and a way to pose equations over it.  Subclass one of the four below."""

    __slots__ = ()

    @property
    @abstractmethod
    def lattice(self) -> Lattice[V]:
        """The lattice of facts.  Usually an attrs field with a default."""

    @abstractmethod
    def pose(self, flow: Flow[N]) -> System[V]:
        """The system of equations of this analysis over a graph."""


class _Dense(Analysis[N, V]):
    """A fact per program point; the state is kept at block boundaries only."""

    __slots__ = ()

    @abstractmethod
    def transfer(self, node: N, value: V) -> V:
        """The fact on the far side of `node`, given the fact on the near side."""

    def boundary(self) -> V:
        """The fact where analysis starts: at the entries, or at the exits if backward."""
        return self.lattice.bottom

    def _pose(
        self,
        flow: Flow[N],
        edges: Sequence[tuple[int, int]],
        starts: Sequence[int],
        step: int,
    ) -> System[V]:
        """Unknown b: the fact where the analysis enters block b.  Constraint b: block b."""
        nodes, blocks, transfer = flow.nodes, flow.blocks, self.transfer
        onward: list[list[int]] = [[] for _ in blocks]
        for source, target in edges:
            onward[source].append(target)
        initial: list[V | Unreached] = [UNREACHED] * len(blocks)
        for start in starts:
            initial[start] = self.boundary()

        def evaluate(block: int, values: list[V]) -> Sequence[V]:
            value, node = values[0], -1
            try:
                for node in blocks[block][::step]:
                    value = transfer(nodes[node], value)
            except Exception as error:
                error.add_note(f"while analysing {nodes[node]}")
                raise
            return [value] * len(onward[block])

        def name(block: int) -> str:
            inside = [str(nodes[node]) for node in blocks[block]]
            shown = inside if len(inside) <= 3 else [inside[0], "...", inside[-1]]
            return "[" + "; ".join(shown) + "]"

        return System(initial, [(b,) for b in range(len(blocks))], onward, evaluate, name, name)


class Forward(_Dense[N, V]):
    """A fact per program point, flowing with execution: what may have happened before.

    `transfer(node, value)` maps the fact before a node to the fact after it.
    """

    __slots__ = ()

    def pose(self, flow: Flow[N]) -> System[V]:
        return self._pose(flow, flow.edges, flow.entries, 1)


class Backward(_Dense[N, V]):
    """A fact per program point, flowing against execution: what may happen afterwards.

    `transfer(node, value)` maps the fact after a node to the fact before it.
    """

    __slots__ = ()

    def pose(self, flow: Flow[N]) -> System[V]:
        # Blocks are numbered in execution order, so the reverse is the better sweep, and
        # the solver sweeps constraints in the order given; it reorders only for loops.
        edges = [(target, source) for source, target in flow.edges]
        system = self._pose(flow, edges, [*flow.exits, *_never_exits(flow)], -1)
        last = len(flow.blocks) - 1
        return System(
            system.initial,
            system.reads[::-1],
            system.writes[::-1],
            lambda constraint, values: system.evaluate(last - constraint, values),
            lambda constraint: system.constraint_name(last - constraint),
            system.unknown_name,
        )


def _never_exits(flow: Flow[N]) -> list[int]:
    """Blocks that no exit is reachable from: an endless loop is its own boundary."""
    before: list[list[int]] = [[] for _ in flow.blocks]
    for source, target in flow.edges:
        before[target].append(source)
    leads_out = set(flow.exits)
    pending = list(flow.exits)
    while pending:
        for source in before[pending.pop()]:
            if source not in leads_out:
                leads_out.add(source)
                pending.append(source)
    return [block for block in range(len(flow.blocks)) if block not in leads_out]


class _Sparse(Analysis[N, V]):
    """A fact per value."""

    __slots__ = ()

    def copy(self, copy: Copy, value: V) -> V:
        """The fact that crosses a sub-graph's boundary.  By default the same fact."""
        return value


class SparseForward(_Sparse[N, V]):
    """A fact per value, from what defines it.

    `transfer(node, operands)` gets one fact per operand and returns one per result.
    `entry(value)` is the fact of a value that no node defines.
    """

    __slots__ = ()

    @abstractmethod
    def transfer(self, node: N, operands: Sequence[V]) -> Sequence[V]:
        """One fact per result of `node`, given one per operand."""

    def entry(self, value: object) -> V:
        """The fact of a value that no node defines, such as an input."""
        return self.lattice.bottom

    def pose(self, flow: Flow[N]) -> System[V]:
        initial: list[V | Unreached] = [UNREACHED] * len(flow.values)
        for number in flow.inputs:
            initial[number] = self.entry(flow.values[number])
        nodes, transfer = flow.nodes, self.transfer
        if not flow.copies:
            return System(
                initial,
                flow.operands,
                flow.results,
                lambda node, operands: transfer(nodes[node], operands),
                lambda node: str(nodes[node]),
                lambda value: str(flow.values[value]),
            )
        # Copies stand beside their node: into sub-graphs where it begins, out of them at
        # the node itself; the solver orders what loops.
        steps: list[int | Copy] = [*flow.copies, *range(len(nodes))]

        def evaluate(constraint: int, values: list[V]) -> Sequence[V]:
            step = steps[constraint]
            if isinstance(step, int):
                return transfer(nodes[step], values)
            return (self.copy(step, values[0]),)

        return System(
            initial,
            [flow.operands[s] if isinstance(s, int) else (s.source,) for s in steps],
            [flow.results[s] if isinstance(s, int) else (s.target,) for s in steps],
            evaluate,
            lambda c: str(nodes[s]) if isinstance(s := steps[c], int) else s.kind.value,
            lambda value: str(flow.values[value]),
        )


class SparseBackward(_Sparse[N, V]):
    """A fact per value, from what uses it.

    `transfer(node, results)` gets one fact per result and returns one per operand; the
    facts from several uses are joined.  A value nobody uses has the lattice's bottom.
    `exit(value)` is the fact of a value that somebody reads after the program.
    """

    __slots__ = ()

    @abstractmethod
    def transfer(self, node: N, results: Sequence[V]) -> Sequence[V]:
        """One fact per operand of `node`, given one per result."""

    def exit(self, value: object) -> V:
        """The fact of a value in the graph's outputs."""
        return self.lattice.bottom

    def pose(self, flow: Flow[N]) -> System[V]:
        initial: list[V | Unreached] = [self.lattice.bottom] * len(flow.values)
        for number in flow.outputs:
            initial[number] = self.exit(flow.values[number])
        nodes, transfer = flow.nodes, self.transfer
        last = len(nodes) - 1
        if not flow.copies:
            return System(
                initial,
                flow.results[::-1],
                flow.operands[::-1],
                lambda c, results: transfer(nodes[last - c], results),
                lambda c: str(nodes[last - c]),
                lambda value: str(flow.values[value]),
            )
        steps: list[int | Copy] = [*reversed(flow.copies), *range(last, -1, -1)]

        def evaluate(constraint: int, values: list[V]) -> Sequence[V]:
            step = steps[constraint]
            if isinstance(step, int):
                return transfer(nodes[step], values)
            return (self.copy(step, values[0]),)

        return System(
            initial,
            [flow.results[s] if isinstance(s, int) else (s.target,) for s in steps],
            [flow.operands[s] if isinstance(s, int) else (s.source,) for s in steps],
            evaluate,
            lambda c: str(nodes[s]) if isinstance(s := steps[c], int) else s.kind.value,
            lambda value: str(flow.values[value]),
        )
