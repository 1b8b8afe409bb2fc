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
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from dataflow.around import add_node, in_full
from dataflow.graph import Copy, Flow
from dataflow.lattice import Lattice, a_lattice
from dataflow.system import UNREACHED as UNREACHED
from dataflow.system import NotYet
from dataflow.system import System as System
from dataflow.system import Unreached as Unreached
from dataflow.wellformed import demand_values

N = TypeVar("N")
V = TypeVar("V")


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


class Dense(Analysis[N, V]):
    """A fact per program point; the state is kept at block boundaries only."""

    __slots__ = ()

    @abstractmethod
    def transfer(self, node: N, value: V) -> V:
        """The fact on the far side of `node`, given the fact on the near side."""

    def boundary(self) -> V:
        """The fact where analysis starts: at the entries, or at the exits if backward."""
        return self.lattice.bottom

    def edge(self, node: N, way: int, value: V) -> V | Unreached:
        """The fact that crosses an edge: what is known because control went this way.

        `node` decides between several ways to go on and this is number `way`, from 0.
        `UNREACHED` says that it is never taken.  By default the same fact.
        """
        return value

    def over_blocks(
        self, flow: Flow[N], step: int, ways: Sequence[int]
    ) -> Callable[[int, list[V]], Sequence[V]]:
        """The transfer of a whole block, by its number: from the one fact it reads, the same
        to each of its `ways` on.  `step` is -1 against execution."""
        transfer, nodes, blocks = self.transfer, flow.nodes, flow.blocks

        def run(block: int, values: list[V]) -> Sequence[V]:
            value = values[0]
            node = -1
            try:
                for node in blocks[block] if step == 1 else reversed(blocks[block]):
                    value = transfer(nodes[node], value)
                if value is None:
                    raise TypeError(f"transfer returned None in the block of {nodes[node]}")
            except NotYet:
                raise
            except Exception as error:
                add_node(error, flow, node)
                raise
            return (value,) * ways[block]

        return run

    def is_composed(self) -> bool:
        """Whether `over_blocks` goes through a block in one step: of sets, by what it generates
        and kills."""
        return False

    def _pose(
        self, flow: Flow[N], onward: list[list[int]], starts: Iterable[int], step: int
    ) -> System[V]:
        """Unknown b: the fact where the analysis enters block b.  Constraint b: block b."""
        blocks, nodes = flow.blocks, flow.nodes
        initial: list[V | Unreached] = [UNREACHED] * len(blocks)
        for start in starts:
            initial[start] = self.boundary()
            if initial[start] is None:
                raise TypeError(f"{type(self).__name__}.boundary returned None")
        evaluate = self.over_blocks(flow, step, list(map(len, onward)))
        crossings = self._crossings(flow, step)

        def evaluate_edges(block: int, values: list[V]) -> Sequence[V | Unreached]:
            ways = flow.ways  # an edit may let another node decide
            return [
                value if (way := ways[edge]) is None else self._cross(flow, way, value)
                for edge, value in zip(crossings[block], evaluate(block, values), strict=True)
            ]

        def name(block: int) -> str:
            inside = [str(nodes[node]) for node in blocks[block]] or ["no nodes"]
            shown = inside if len(inside) <= 3 else [inside[0], "...", inside[-1]]
            return "[" + "; ".join(shown) + "]"

        numbers = list(range(len(blocks)))  # a range is slower to look up in, at each visit
        return System(
            initial,
            list(zip(numbers)),
            onward,
            numbers,
            evaluate_edges if crossings else evaluate,
            name,
            name,
            sequence=range(len(blocks))[::step],
            is_rapid=self.is_composed() and not crossings,
            ends=[b for b, targets in enumerate(onward) if not targets and blocks[b]],
        )

    def _cross(self, flow: Flow[N], way: tuple[N, int], value: V) -> V | Unreached:
        """The fact that crosses an edge with a way."""
        try:
            crossed = self.edge(way[0], way[1], value)
            if crossed is None:
                raise TypeError(f"edge returned None for way {way[1]}")
        except NotYet:
            raise
        except Exception as error:
            add_node(error, flow, flow.number(way[0]))
            raise
        return crossed

    def _crossings(self, flow: Flow[N], step: int) -> list[list[int]]:
        """Per block the edges out of it in the analysis' direction, by number; empty if `edge`
        is the default."""
        if type(self).edge is Dense.edge:
            return []
        found: list[list[int]] = [[] for _ in flow.blocks]
        for number, (source, target) in enumerate(flow.edges):
            found[source if step == 1 else target].append(number)
        return found


class Forward(Dense[N, V]):
    """A fact per program point, flowing with execution: what may have happened before.

    `transfer(node, value)` maps the fact before a node to the fact after it.
    """

    __slots__ = ()

    def pose(self, flow: Flow[N]) -> System[V]:
        return self._pose(flow, flow.successors, flow.entries, 1)


class Backward(Dense[N, V]):
    """A fact per program point, flowing against execution: what may happen afterwards.

    `transfer(node, value)` maps the fact after a node to the fact before it.
    """

    __slots__ = ()

    def pose(self, flow: Flow[N]) -> System[V]:
        return self._pose(flow, flow.predecessors, [*flow.exits, *flow.endless], -1)


class _Sparse(Analysis[N, V]):
    """A fact per value."""

    __slots__ = ()

    def copy(self, copy: Copy, value: V) -> V:
        """The fact that crosses a sub-graph's boundary or an edge.  By default the same."""
        return value

    @abstractmethod
    def transfer(self, node: N, facts: Sequence[V], /) -> Sequence[V]:
        """A fact per value on the far side of a node, given one per value on the near side."""

    def _evaluate(self, step: N | Copy, values: list[V]) -> Sequence[V]:
        if isinstance(step, Copy):
            return (self.copy(step, values[0]),)
        return self.transfer(step, values)


class SparseForward(_Sparse[N, V]):
    """A fact per value, from what defines it.

    `transfer(node, operands)` gets one fact per operand and returns one per result.
    `entry(value)` is the fact of a value that no node defines.  With `takes`, what no
    execution gets to is left out: conditional propagation.
    """

    __slots__ = ()

    @abstractmethod
    def transfer(self, node: N, operands: Sequence[V]) -> Sequence[V]:
        """One fact per result of `node`, given one per operand."""

    def entry(self, value: object) -> V:
        """The fact of a value that no node defines, such as an input."""
        return self.lattice.bottom

    def takes(self, node: N, way: int, operands: Sequence[V]) -> bool:
        """Whether control may leave `node`, which decides between several ways to go on,
        by way number `way`, from 0.  By default it may leave by all, and all nodes are
        taken to run, those that nothing leads to as well."""
        return True

    def pose(self, flow: Flow[N]) -> System[V]:
        demand_values(flow, self)
        initial: list[V | Unreached] = [UNREACHED] * len(flow.values)
        for number in flow.inputs:
            fact = initial[number] = self.entry(flow.values[number])
            if fact is None:
                raise TypeError(f"{type(self).__name__}.entry returned None")
        if type(self).takes is not SparseForward.takes:
            return self._pose_with_control(flow, initial)
        steps: list[object] = [*flow.copies, *flow.nodes]
        return System(
            initial,
            [*((copy.source,) for copy in flow.copies), *flow.operands],
            [*((copy.target,) for copy in flow.copies), *flow.results],
            steps,
            self._evaluate if flow.copies else self.transfer,
            lambda constraint: in_full(steps[constraint]),
            lambda value: str(flow.values[value]),
            sequence=_present(flow),
            first=len(flow.copies),
            is_straight=flow.feeds_onward,
        )

    def _takes(self, way: tuple[N, int], operands: Sequence[V]) -> bool:
        taken = self.takes(way[0], way[1], operands)
        if taken is None:  # a mistake often made
            raise TypeError(f"takes returned None for way {way[1]} of {way[0]}")
        return taken

    def _pose_with_control(self, flow: Flow[N], initial: list[V | Unreached]) -> System[V]:
        """One more unknown per block, bottom once control gets there; what a block has in
        it reads it, and the end of a block writes those it leads to."""
        first, reached = len(flow.values), self.lattice.bottom
        initial += [UNREACHED] * len(flow.blocks)
        for block in flow.entries:
            initial[first + block] = reached
        onward: list[list[int]] = [[] for _ in flow.blocks]
        ways: list[list[tuple[N, int] | None]] = [[] for _ in flow.blocks]
        for (source, target), way in zip(flow.edges, flow.ways, strict=True):
            onward[source].append(first + target)
            ways[source].append(way)
        deciders = [  # per block the node that decides which way control goes
            next((flow.number(way[0]) for way in found if way), None) for found in ways
        ]
        # The constraints are the copies, then the nodes, then the ends of blocks.
        nodes, ends = len(flow.copies), len(flow.copies) + len(flow.nodes)
        reads: list[Sequence[int]] = [()] * ends
        for number, copy in enumerate(flow.copies):
            within = () if copy.block is None else (first + copy.block,)
            reads[number] = (copy.source, *within)
        sequence = list(range(nodes))
        for block, inside in enumerate(flow.blocks):
            unknown, decider = first + block, deciders[block]
            for node in inside:
                reads[nodes + node] = (*flow.operands[node], unknown)
                sequence.append(nodes + node)
            reads.append((*(() if decider is None else flow.operands[decider]), unknown))
            sequence.append(ends + block)

        def evaluate(constraint: int, values: list[V]) -> Sequence[V | Unreached]:
            if constraint < nodes:
                return (self.copy(flow.copies[constraint], values[0]),)
            if constraint < ends:
                return self.transfer(flow.nodes[constraint - nodes], values[:-1])
            return [
                reached if way is None or self._takes(way, values[:-1]) else UNREACHED
                for way in ways[constraint - ends]
            ]

        def name(constraint: int) -> str:
            if constraint >= ends:
                return f"the end of block {constraint - ends}"
            if constraint >= nodes:
                return in_full(flow.nodes[constraint - nodes])
            return str(flow.copies[constraint])

        def node_of(constraint: int) -> int | None:
            if constraint >= ends:
                return deciders[constraint - ends]
            return constraint - nodes if constraint >= nodes else None

        def unknown_name(unknown: int) -> str:
            return str(flow.values[unknown]) if unknown < first else f"block {unknown - first}"

        return System(
            initial,
            reads,
            [*((copy.target,) for copy in flow.copies), *flow.results, *onward],
            range(len(reads)),
            evaluate,
            name,
            unknown_name,
            sequence=sequence,
            node_of=node_of,
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
        demand_values(flow, self)
        bottom = self.lattice.bottom
        initial: list[V | Unreached] = [bottom] * len(flow.values)
        for number in flow.outputs:
            initial[number] = self.exit(flow.values[number])
        copies = flow.copies
        steps: list[object] = [*copies, *flow.nodes]
        return System(
            initial,
            [*((copy.target,) for copy in copies), *flow.results],
            [*((copy.source,) for copy in copies), *flow.operands],
            steps,
            self._evaluate if copies else self.transfer,
            lambda constraint: in_full(steps[constraint]),
            lambda value: str(flow.values[value]),
            sequence=_present(flow)[::-1],
            first=len(copies),
            is_straight=flow.feeds_onward,
            bottom=bottom,
        )


def _present(flow: Flow[N]) -> Sequence[int]:
    """The constraints of a sparse analysis, without those of nodes that a draft has erased."""
    first, gone = len(flow.copies), flow.erased_nodes
    every = range(first + len(flow.nodes))
    return [c for c in every if c - first not in gone] if gone else every


def an_analysis(given: object, wanted_by: str) -> None:
    """Raise `TypeError` for what is no analysis, such as the class of one."""
    if isinstance(given, type):
        raise TypeError(
            f"{wanted_by} wants an analysis, not its class: write {given.__name__}(...)"
        )
    if not isinstance(given, Analysis):
        raise TypeError(f"{wanted_by} wants an analysis, and {given!r} is none")
    a_lattice(given.lattice, f"the field `lattice` of {type(given).__name__}")


def kind_of(analysis: object, wanted_by: str) -> type[Analysis[Any, Any]]:
    """Which of the four an analysis is.  Raises `TypeError` if it is none of them."""
    an_analysis(analysis, wanted_by)
    for kind in (Forward, Backward, SparseForward, SparseBackward):
        if isinstance(analysis, kind):
            return kind
    raise TypeError(
        f"{wanted_by} wants a Forward, Backward, SparseForward or SparseBackward analysis, and "
        f"{type(analysis).__name__} is none of them"
    )
