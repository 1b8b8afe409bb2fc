"""Bring results up to date with an edit, for less than a fresh solve.

What the edit reaches is evaluated again in order, from the values that stand there now,
and where a value stays as it was nothing beyond it is.  A loop that is reached starts from
nothing, as if it were solved for the first time: restarted from its old facts, one that is
no longer true would keep itself alive around the loop.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from attrs import define, field

from dataflow.analysis import UNREACHED, Backward, Forward, SparseBackward, System
from dataflow.around import wrong_number
from dataflow.draft import Edit, Links
from dataflow.graph import Flow
from dataflow.order import Order, readers_of
from dataflow.results import PointResults, Results, StaleError
from dataflow.solve import Sweep, TransferError, solve
from dataflow.together import needs

N = TypeVar("N")
R = TypeVar("R", bound=Results[Any, Any])  # Any: the same kind of results comes back


def update(results: R, edit: object) -> R:
    """Bring results up to date with the one edit made since."""
    flow = results.flow
    if len(flow.edits) != results.version + 1 or flow.edits[-1] is not edit:
        raise StaleError(
            "update wants the one edit made since: edit, update, and only then edit again"
        )
    assert isinstance(edit, Edit)
    sweep = results.sweep
    index: Index | None = sweep.index
    is_plain = not needs(results.analysis) and not sweep.system.is_watched
    if index is None and is_plain and _numbered(results):
        analysis = results.analysis
        index = sweep.index = Index(
            sweep,
            edit.links,
            isinstance(analysis, (Forward, Backward)),
            isinstance(analysis, (Backward, SparseBackward)),
            results.version,
        )
    if index is None or not index.apply(results, edit):
        return solve(results.analysis, flow, limit=sweep.limit)  # type: ignore[call-overload,no-any-return]  # the kind it was
    return type(results)(results.analysis, flow, sweep.state, sweep)


def _numbered(results: Results[Any, Any]) -> bool:
    """Whether constraints can be found by node: not where control is part of the system."""
    return isinstance(results, PointResults) or results.sweep.system.first is not None


@define(eq=False, slots=False)
class Index:
    """Who reads and writes an unknown, and where constraints stand."""

    sweep: Sweep[Any]
    links: Links
    dense: bool
    backward: bool
    version: int  # how many edits there were when the state was what the results say
    _inserted: dict[int, float] = field(factory=dict, init=False)  # their ranks
    _members: dict[int, list[int]] = field(factory=dict, init=False)
    _edited: set[int] = field(factory=set, init=False)  # constraints that say something else now
    _changed: set[int] = field(factory=set, init=False)  # unknowns that are something else now

    def __attrs_post_init__(self) -> None:
        system, loops = self.sweep.system, self.sweep.order.loops
        # The lists of the system itself, so that `verify` and `why` see what update does.
        self.reads: list[Sequence[int]] = system.reads  # type: ignore[assignment]
        self.writes: list[Sequence[int]] = system.writes  # type: ignore[assignment]
        self.subjects: list[object] = system.subjects  # type: ignore[assignment]
        self.initial: list[Any] = system.initial  # type: ignore[assignment]
        self.starts, self.ends = [loop.start for loop in loops], [loop.stop for loop in loops]

    def readers(self, unknown: int) -> Sequence[int]:
        """The constraints that read an unknown."""
        if self.dense:
            return (unknown,)
        return self.links.definers[unknown] if self.backward else self.links.readers[unknown]

    def writers(self, unknown: int) -> Sequence[int]:
        """The constraints that write an unknown."""
        if self.dense:
            return self.links.after[unknown] if self.backward else self.links.before[unknown]
        return self.links.readers[unknown] if self.backward else self.links.definers[unknown]

    def rank(self, constraint: int) -> float:
        """Where a constraint stands in the order."""
        if constraint in self._inserted:
            return self._inserted[constraint]
        order = self.sweep.order
        if isinstance(order.sequence, range):
            return order.sequence.index(constraint)
        if self.dense and (found := order.readers[constraint]):  # each reads an unknown of its own
            return found[0]
        return self.sweep.ranks[constraint]

    def members(self, loop: int) -> list[int]:
        """The constraints of an outermost loop, in order."""
        if loop not in self._members:
            ranks = range(self.starts[loop], self.ends[loop])
            self._members[loop] = [self.sweep.order.sequence[rank] for rank in ranks]
        return self._members[loop]

    def loop(self, constraint: int) -> int | None:
        """The outermost loop that a constraint stands in."""
        found = bisect_right(self.ends, self.rank(constraint))
        if found < len(self.ends) and self.starts[found] <= self.rank(constraint):
            return found
        return None

    # -- an edit --------------------------------------------------------------------------

    def apply(self, results: Results[Any, Any], edit: Edit) -> bool:
        """Solve again what the edit reaches; False where its order would be another, or the
        state is not that of the results."""
        if self.version != results.version:
            return False
        self.version = -1  # until it is done: a transfer may raise on the way
        if self._apply(results, edit):
            self.version = results.version + 1
        return self.version > 0

    def _apply(self, results: Results[Any, Any], edit: Edit) -> bool:
        flow, system = results.flow, self.sweep.system
        if isinstance(results.analysis, (Forward, Backward)):
            # What crosses an edge is said by the node that decides, from where it begins.
            blocks = {edit.block, flow.begins.get(edit.node, edit.block)}
            crosses = self.backward and type(results.analysis).edge is not Backward.edge
            self._solve(blocks, blocks if crosses else ())
            return True
        assert system.first is not None
        constraint = system.first + edit.node
        if edit.between is not None and not self._place(
            flow, constraint, edit.between, system.first
        ):
            return False
        system.__dict__.pop("writers", None)
        backward = isinstance(results.analysis, SparseBackward)
        reads, writes = flow.operands[edit.node], flow.results[edit.node]
        self.reads[constraint], self.writes[constraint] = (
            (writes, reads) if backward else (reads, writes)
        )
        for _ in range(len(self.initial), len(flow.values)):
            start = results.analysis.lattice.bottom if backward else UNREACHED
            self.initial.append(start)
            self.sweep.state.append(start)
        if not self._in_order(constraint):
            return False
        was_written = edit.read if backward else edit.defined
        self._solve({constraint}, set(was_written) - set(self.writes[constraint]))
        return True

    def _place(
        self, flow: Flow[Any], constraint: int, between: tuple[int, int | None], first: int
    ) -> bool:
        """Give a new node's constraint a rank between those of its neighbours."""
        low = self.rank(first + between[0])
        high = low + 1 if between[1] is None else self.rank(first + between[1])
        rank = (low + high) / 2
        if rank in (low, high):
            return False  # no number is left in between
        self._inserted[constraint] = rank
        self.reads.append(())
        self.writes.append(())
        self.subjects.append(flow.nodes[constraint - first])
        loop = self.loop(constraint)
        if loop is not None:
            insort(self.members(loop), constraint, key=self.rank)
        return True

    def _in_order(self, constraint: int) -> bool:
        """Whether what a constraint reads still comes before it, and what reads it after,
        or all stand in one loop."""
        rank, loop = self.rank, self.loop(constraint)
        before = {w for unknown in self.reads[constraint] for w in self.writers(unknown)}
        after = {r for unknown in self.writes[constraint] for r in self.readers(unknown)}
        return all(
            rank(w) < rank(constraint) or (loop is not None and self.loop(w) == loop)
            for w in before
        ) and all(
            rank(r) > rank(constraint) or (loop is not None and self.loop(r) == loop) for r in after
        )

    # -- solving --------------------------------------------------------------------------

    def _solve(self, constraints: set[int], unknowns: Iterable[int]) -> None:
        """Evaluate constraints again, and whatever reads what changes by that."""
        self._edited, self._changed = constraints, set()
        pending = [(self.rank(constraint), constraint) for constraint in constraints]
        for unknown in unknowns:
            self._change(unknown, pending)
        heapq.heapify(pending)
        done = -1
        while pending:
            _, constraint = heapq.heappop(pending)
            if constraint == done:
                continue
            done = constraint
            loop = self.loop(constraint)
            if loop is not None:
                self._solve_loop(loop, pending)
                while pending and self.loop(pending[0][1]) == loop:
                    heapq.heappop(pending)
                continue
            for unknown in self.writes[constraint]:
                self._change(unknown, pending)

    def _change(self, unknown: int, pending: list[tuple[float, int]]) -> None:
        """Make an unknown what its equations say now, and mark who reads it if it differs."""
        writers, readers = self.writers(unknown), self.readers(unknown)
        around = {loop for w in writers if (loop := self.loop(w)) is not None}
        for loop in around.intersection(map(self.loop, readers)):
            # What the loop said of it may rest on what it was: the loop is solved again.
            first = self.members(loop)[0]
            heapq.heappush(pending, (self.rank(first), first))
            return
        new = self._said(unknown, writers)
        old = self.sweep.state[unknown]
        if new is old or new == old:
            return
        self.sweep.state[unknown] = new
        self._changed.add(unknown)
        for reader in readers:
            heapq.heappush(pending, (self.rank(reader), reader))

    def _said(self, unknown: int, writers: Iterable[int]) -> Any:
        state, system, lattice = self.sweep.state, self.sweep.system, self.sweep.lattice
        total = self.initial[unknown]
        for writer in dict.fromkeys(writers):
            values = [state[read] for read in self.reads[writer]]
            if any(value is UNREACHED for value in values):
                continue
            self.sweep.visits += 1
            try:
                facts = system.evaluate(self.subjects[writer], values)
                if facts is None or len(facts) != len(self.writes[writer]):  # type: ignore[redundant-expr]  # None is a mistake often made
                    raise TransferError(wrong_number(facts, len(self.writes[writer])))
            except Exception as error:
                note = f"while analysing {system.constraint_name(writer)}"
                if note not in getattr(error, "__notes__", ()):
                    error.add_note(note)
                raise
            for written, fact in zip(self.writes[writer], facts, strict=True):
                if written == unknown and fact is not UNREACHED:
                    total = fact if total is UNREACHED else lattice.join(total, fact)
        return total

    def _solve_loop(self, loop: int, pending: list[tuple[float, int]]) -> None:
        """Solve a loop from nothing, as a system of its own."""
        members, state = self.members(loop), self.sweep.state
        inside = set(members)
        written = dict.fromkeys(u for member in members for u in self.writes[member])
        read = dict.fromkeys(u for member in members for u in self.reads[member])
        local = {unknown: number for number, unknown in enumerate({**written, **read})}
        initial = []
        for unknown in local:
            if unknown not in written:
                initial.append(state[unknown])
            elif unknown in read:
                outside = [w for w in self.writers(unknown) if w not in inside]
                initial.append(self._said(unknown, outside))
            else:
                initial.append(UNREACHED)  # it leads out, see below
        system = self.sweep.system
        numbers = list(local)
        part = System(
            initial,
            [tuple(local[u] for u in self.reads[member]) for member in members],
            [tuple(local[u] for u in self.writes[member]) for member in members],
            [self.subjects[member] for member in members],
            system.evaluate,
            lambda constraint: system.constraint_name(members[constraint]),
            lambda unknown: system.unknown_name(numbers[unknown]),
            is_rapid=system.is_rapid,
        )
        sweep = Sweep(part, self.sweep.lattice, self.sweep.limit)
        if self.dense:  # blocks stay in order: what widening gives is what it gave
            ranks = range(len(members))
            sweep.order = Order(ranks, [ranks], readers_of(ranks, part.reads, len(initial)))
        found = sweep.run()
        self.sweep.visits += sweep.visits
        for unknown in written:
            new, old = found[local[unknown]], state[unknown]
            if unknown in read and new is not old and new != old:
                state[unknown] = new
                self._changed.add(unknown)
                for reader in self.readers(unknown):
                    if reader not in inside:
                        heapq.heappush(pending, (self.rank(reader), reader))
        for member in members:
            if member in self._edited or not self._changed.isdisjoint(self.reads[member]):
                for unknown in self.writes[member]:
                    if unknown not in read:  # a loop of its own may go around there
                        self._change(unknown, pending)
