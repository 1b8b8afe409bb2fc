"""THE LOOP.  Read this first.

Solving is one sweep over the constraints in weak topological order.

    order      reads and writes -> a weak topological order, with its loops
    run        evaluate a constraint and join what it says into the state; in a loop, mark
               whoever reads what grew, and step back to the first mark (in a rapid system
               only at the loop's end)
    widen      where growth feeds back to what was evaluated before, the lattice may leap
    descend    once per widened loop, recompute it from its own answer

What feeds no loop is evaluated exactly once.  An inner loop settles before its
surroundings go on, and nested loops are one system: no solve inside a solve.

While it is evaluated a constraint may also `read` unknowns that it does not list, and
`tell` others something.  The sweep records who read what, so nobody names a dependency.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar, overload

from attrs import frozen

from dataflow.analysis import (
    UNREACHED,
    Analysis,
    Backward,
    Forward,
    SparseBackward,
    SparseForward,
    System,
    Unreached,
    an_analysis,
)
from dataflow.around import ANALYSING, add_advice, add_place, notes_of, wrong_number
from dataflow.graph import Flow, FlowGraph, flow_of
from dataflow.joint import joint
from dataflow.lattice import Lattice
from dataflow.order import Order, readers_of, weak_topological_order
from dataflow.results import PointResults, Results, ValueResults
from dataflow.wellformed import check_graph

N = TypeVar("N")
V = TypeVar("V")


class DidNotConverge(RuntimeError):
    """A loop still grew when its limit was reached.  Says which, and its last facts."""


class TransferError(RuntimeError):
    """An analysis broke its contract at a node; the message names the node."""


@frozen
class Step(Generic[V]):
    """One evaluation: what it read, and `(unknown, fact before, fact after)` of what grew."""

    constraint: str
    read: Sequence[V]
    grew: Sequence[tuple[str, V | Unreached, V]]


Observer = Callable[[Step[V]], None]
"""Called after every evaluation, for progress and traces."""


@overload
def solve(
    analysis: Forward[N, V] | Backward[N, V],
    graph: FlowGraph[N],
    *,
    limit: int | None = ...,
    observer: Observer[V] | None = ...,
) -> PointResults[N, V]: ...
@overload
def solve(
    analysis: SparseForward[N, V] | SparseBackward[N, V],
    graph: FlowGraph[N],
    *,
    limit: int | None = ...,
    observer: Observer[V] | None = ...,
) -> ValueResults[N, V]: ...
def solve(
    analysis: Analysis[N, V],
    graph: FlowGraph[N],
    *,
    limit: int | None = None,
    observer: Observer[V] | None = None,
) -> Results[N, V]:
    """The least solution of an analysis over a graph.

    `limit` is how often one unknown of a loop may grow before `DidNotConverge`; by default
    five hundred times, and ten more for each node, at most ten thousand.
    Each constraint is evaluated once where nothing loops; memory is one fact per block
    (dense) or per value (sparse).
    """
    an_analysis(analysis, "solve")
    flow = flow_of(graph, "solve")
    if not (limit is None or isinstance(limit, int)):
        raise TypeError(f"solve wants a whole number as `limit`, and {limit!r} is none")
    if limit is None:
        limit = min(500 + 10 * len(flow.nodes), 10_000)
    return _solve(analysis, flow, limit, observer)


def _solve(
    analysis: Analysis[N, V], flow: Flow[N], limit: int, observer: Observer[V] | None = None
) -> Results[N, V]:
    if not flow.refers_to_itself:
        check_graph(flow)
    posed = joint(analysis, flow, lambda needed: _solve(needed, flow, limit))
    sweep = Sweep(posed.system, posed.lattice, limit, observer)
    posed.bind(sweep)
    try:
        state = posed.own(sweep.run())
    except Exception as error:
        number = None if sweep.failed is None else posed.system.node(sweep.failed)
        if number is not None:
            add_place(error, flow, number)
        add_advice(error)
        raise
    if isinstance(posed.analysis, (Forward, Backward)):
        return PointResults(posed.analysis, flow, state, sweep)
    values = state[: len(flow.values)]  # blocks may have unknowns too
    return ValueResults(posed.analysis, flow, values, sweep)


class Sweep(Generic[V]):
    """The least solution of a system, while it is being found.

    `limit` is how often one unknown of a loop may grow before `DidNotConverge`.
    """

    def __init__(
        self,
        system: System[V],
        lattice: Lattice[V],
        limit: int = 10_000,
        observer: Observer[V] | None = None,
    ) -> None:
        self.system, self.lattice, self.limit, self.observer = system, lattice, limit, observer
        self.state = list(system.initial)
        self.marked = bytearray(b"\x01") * len(system.reads)
        self.visits = 0
        self.rank = -1
        self.failed: int | None = None  # the constraint whose evaluation raised
        self.index: Any = None  # what `update` keeps; it is not this module's to know
        self.told: list[tuple[int, V]] = []
        self.names: dict[int, str] = {}
        self.widened = False
        self.growth: dict[int, deque[V]] = {}
        self.times: dict[int, int] = {}

    @cached_property
    def order(self) -> Order:
        """Where constraints ask while they run, anything may feed back: one loop."""
        system = self.system
        if system.is_straight:
            return Order(system.sequence, (), [])
        order = weak_topological_order(
            system.reads, system.writes, len(system.initial), system.sequence, system.initial,
            nested=not system.is_rapid,
        )  # fmt: skip
        if not system.asks:
            return order
        readers = order.readers or readers_of(order.sequence, system.reads, len(self.state))
        return Order(order.sequence, [range(len(order.sequence))], readers)

    @cached_property
    def ranks(self) -> Sequence[int]:
        """Where each constraint stands in the order."""
        found = [0] * len(self.system.reads)
        for rank, constraint in enumerate(self.order.sequence):
            found[constraint] = rank
        return found

    def run(self) -> list[V | Unreached]:
        """The least state that covers all constraints."""
        try:
            for part in self.order.parts:
                self.settle(part)
                if self.widened:
                    self.descend(part)
            if self.observer or self.system.is_watched:
                self.look_at_ends()
        except Exception as error:
            if self.rank >= 0:
                self.failed = self.order.sequence[self.rank]
            is_told = any(note.startswith(ANALYSING) for note in notes_of(error))
            if self.failed is not None and not is_told:
                error.add_note(f"{ANALYSING}{self.system.constraint_name(self.failed)}")
            raise
        return self.state

    def name(self, rank: int) -> str:
        """The constraint with a rank, for messages."""
        return self.system.constraint_name(self.order.sequence[rank])

    def unknown_name(self, unknown: int) -> str:
        """An unknown, for messages."""
        return self.names.get(unknown) or self.system.unknown_name(unknown)

    def settle(self, part: range) -> None:
        """Evaluate the constraints with these ranks until nothing grows."""
        sequence, readers, marked = self.order.sequence, self.order.readers, self.marked
        system, state, join, told = self.system, self.state, self.lattice.join, self.told
        reads, writes, subjects, evaluate = (
            system.reads, system.writes, system.subjects, system.evaluate,
        )  # fmt: skip
        asks, is_rapid, stop, bottom = system.asks, system.is_rapid, part.stop, system.bottom
        grew: list[tuple[int, V | Unreached]] | None = [] if self.observer else None
        visits, rank = 0, part.start
        try:
            while rank >= 0:
                constraint = sequence[rank]
                targets: Sequence[int] = writes[constraint]
                marked[rank] = 0
                following = rank + 1
                values = []
                for unknown in reads[constraint]:
                    value = state[unknown]
                    if value is UNREACHED:  # then the constraint says nothing
                        break
                    values.append(value)
                else:
                    if targets or asks:
                        visits += 1
                        if asks:
                            self.rank = rank
                        facts = evaluate(subjects[constraint], values)
                        if facts is None or len(facts) != len(targets):  # type: ignore[redundant-expr]  # None is a mistake often made
                            raise TransferError(wrong_number(facts, len(targets)))
                        if told:
                            targets = [*targets, *(unknown for unknown, _ in told)]
                            facts = [*facts, *(fact for _, fact in told)]
                            told.clear()
                        for unknown, new in zip(targets, facts):  # noqa: B905  # lengths were compared
                            if new is UNREACHED:
                                continue
                            old = state[unknown]
                            if old is not UNREACHED:
                                if old is not bottom:  # joined with that, any fact is itself
                                    new = join(old, new)
                                if new is old or new == old:
                                    continue
                            ahead = readers[unknown] if readers else None
                            if ahead:
                                if not is_rapid and ahead[0] <= rank:  # it feeds back
                                    if old is not UNREACHED:
                                        new = self.widen(unknown, old, new)
                                    if ahead[0] < following:
                                        following = ahead[0]
                                for reader in ahead:
                                    marked[reader] = 1
                            state[unknown] = new
                            if grew is not None:
                                grew.append((unknown, old))
                        if grew is not None:
                            self.observe(constraint, values, grew)
                if following < stop and marked[following]:
                    rank = following
                else:
                    rank = marked.find(1, following, stop)
                    if rank < 0 and is_rapid:
                        rank = self.around_again(part)
        finally:
            self.rank = rank
            self.visits += visits

    # -- what a constraint may ask for while it is evaluated ------------------------------

    def read(self, unknown: int) -> V | Unreached:
        """The state of an unknown; whoever is being evaluated is so again when it grows."""
        if self.rank >= 0:
            ranks = self.order.readers[unknown]
            if ranks is None:
                self.order.readers[unknown] = [self.rank]
            elif self.rank not in ranks:
                insort(ranks, self.rank)
        return self.state[unknown]

    def tell(self, unknown: int, fact: V) -> None:
        """Join a fact into an unknown that the constraint does not list."""
        self.told.append((unknown, fact))

    def new(self, fact: V, name: str) -> int:
        """One more unknown."""
        self.names[len(self.state)] = name
        self.order.readers.append(None)
        self.state.append(fact)
        return len(self.state) - 1

    # -- loops ----------------------------------------------------------------------------

    def widen(self, unknown: int, old: V, new: V) -> V:
        """The lattice's leap at a loop head."""
        wide = self.lattice.widen(old, new, self.times.get(unknown, 0) + 1)
        self.widened |= wide != new
        self.grow(unknown, wide)
        return wide

    def around_again(self, part: range) -> int:
        """The first mark in a loop that was gone around; -1 if there is none."""
        rank = self.marked.find(1, part.start, part.stop)
        if rank >= 0:
            unknown = self.system.reads[self.order.sequence[rank]][0]
            self.grow(unknown, self.state[unknown])  # type: ignore[arg-type]  # reached
        return rank

    def grow(self, unknown: int, fact: V) -> None:
        """The guard against loops without end: an unknown has grown around its loop."""
        times = self.times[unknown] = self.times.get(unknown, 0) + 1
        if times > self.limit - 4:
            self.growth.setdefault(unknown, deque(maxlen=4)).append(fact)
        if times > self.limit:
            last = "\n  ".join(_short(self.lattice.show(value)) for value in self.growth[unknown])
            raise DidNotConverge(
                f"the fact at {self.unknown_name(unknown)} grew {times} times around "
                f"its loop ({self.around(unknown)}) and still grows; its last values:\n  {last}\n"
                f"{self.lattice!r} has chains without end: give it a `widen`; or, if they do end, "
                f"solve with a `limit` above {self.limit}"
            )

    def around(self, unknown: int) -> str:
        """The loop that an unknown is in, for messages."""
        rank = self.order.readers[unknown][0]  # type: ignore[index]  # who reads it is in the loop
        loop = next(loop for loop in self.order.loops if rank in loop)
        names = [self.name(rank) for rank in loop[:4]]
        return ", ".join(names) + (f" and {len(loop) - 4} more" if len(loop) > 4 else "")

    def descend(self, loop: range) -> None:
        """Recompute each unknown of a widened loop once, in order, from its own answer.

        Sound for monotone transfers: the state covers all equations before and after each
        step.  An unknown that would not shrink keeps its fact.
        """
        self.widened = False
        reads, writes = self.system.reads, self.system.writes
        inside = [self.order.sequence[rank] for rank in loop]
        written = {unknown for constraint in inside for unknown in writes[constraint]}
        # In the order they are read: what feeds a constraint shrinks before what it feeds.  What
        # leads out of the loop is last, and made of what is solved: its own loops come later.
        order = [u for c in inside for u in reads[c]] + [u for c in inside for u in writes[c]]
        for unknown in dict.fromkeys(u for u in order if u in written):
            new = self.system.initial[unknown]
            for writer, position in self.system.writers[unknown]:
                if self.ranks[writer] >= loop.stop:
                    continue
                facts = self.ask(writer, [self.state[read] for read in reads[writer]])
                self.told.clear()  # what is told aside stays as it is
                said = UNREACHED if facts is None else facts[position]
                if said is not UNREACHED:
                    new = said if new is UNREACHED else self.lattice.join(new, said)
            old = self.state[unknown]
            if new is not UNREACHED and old is not UNREACHED and self.lattice.leq(new, old):
                self.state[unknown] = new

    def ask(
        self, constraint: int, values: Sequence[V | Unreached]
    ) -> Sequence[V | Unreached] | None:
        """What a constraint says, outside of `settle`; None if it reads what is not reached."""
        if any(value is UNREACHED for value in values):
            return None
        self.visits += 1
        self.failed = constraint
        facts = self.system.evaluate(self.system.subjects[constraint], values)  # type: ignore[arg-type]  # reached
        needed = len(self.system.writes[constraint])
        if facts is None or len(facts) != needed:  # type: ignore[redundant-expr]  # as in `settle`
            raise TransferError(wrong_number(facts, needed))
        self.failed = None
        return facts

    # -- for people -----------------------------------------------------------------------

    def look_at_ends(self) -> None:
        """Evaluate what a solution does not need, for whoever watches."""
        for constraint in self.system.ends:
            values = [self.state[unknown] for unknown in self.system.reads[constraint]]
            if self.ask(constraint, values) is not None and self.observer:
                self.observe(constraint, values, [])  # type: ignore[arg-type]  # reached

    def observe(
        self, constraint: int, values: Sequence[V], grew: list[tuple[int, V | Unreached]]
    ) -> None:
        """Tell the observer of one evaluation."""
        assert self.observer is not None
        name, state = self.unknown_name, self.state
        changes = [(name(unknown), old, state[unknown]) for unknown, old in grew]
        grew.clear()
        self.observer(Step(self.system.constraint_name(constraint), values, changes))  # type: ignore[arg-type]  # what grew is reached


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:90]} ... {text[-90:]}"
