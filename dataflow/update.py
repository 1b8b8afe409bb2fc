"""Edit a graph, and bring results up to date for less than a fresh solve.

    draft = Draft(graph)                  a copy that can be edited
    results = solve(analysis, draft)
    edit = draft.replace_operand(node, 0, value)
    results = results.update(edit)        the old ones are stale, and refuse to answer

Numbers never change: an erased node keeps its own, a new one gets the next.

What the edit reaches is evaluated again in order, from the values that stand there now,
and where a value stays as it was nothing beyond it is.  A loop that is reached starts from
nothing, as if it were solved for the first time: restarted from its old facts, one that is
no longer true would keep itself alive around the loop.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

from attrs import define, evolve, frozen

from dataflow.analysis import UNREACHED, Backward, Forward, SparseBackward, System
from dataflow.graph import Flow, FlowGraph
from dataflow.results import PointResults, Results, StaleError
from dataflow.solve import Sweep, solve
from dataflow.together import needs

N = TypeVar("N")
R = TypeVar("R", bound=Results[Any, Any])  # Any: the same kind of results comes back


@frozen(eq=False)
class Edit:
    """One change: of a node in a block; for a new one, the nodes it stands between; what it
    read and defined before."""

    node: int
    block: int
    between: tuple[int, int | None] | None
    read: tuple[int, ...]
    defined: tuple[int, ...]


class Draft(Generic[N]):
    """A copy of a graph that can be edited.

    Raises `KeyError` for nodes and values of another graph, and `ValueError` for an edit
    that would leave a value used and not defined.
    """

    def __init__(self, graph: FlowGraph[N]) -> None:
        flow = graph.flow
        self.flow: Flow[N] = evolve(
            flow,
            nodes=list(flow.nodes),
            blocks=[list(block) for block in flow.blocks],
            values=list(flow.values),
            operands=list(flow.operands),
            results=list(flow.results),
        )
        self.block_of = {node: number for number, b in enumerate(flow.blocks) for node in b}
        self.users: dict[int, int] = {}
        for operands in (*self.flow.operands, self.flow.outputs):
            self._use(operands, 1)
        for copy in self.flow.copies:
            self._use((copy.source,), 1)

    def insert(
        self, node: N, after: N, operands: Sequence[object] = (), results: Sequence[object] = ()
    ) -> Edit:
        """A new node after another one of the same block, with new values as results."""
        flow = self.flow
        read = tuple(map(flow.value, operands))
        if node in flow.node_number:
            raise ValueError(f"{node} is in the graph already")
        for result in results:
            if result in flow.value_number:
                raise ValueError(f"{result} is defined already")
        place = flow.number(after)
        block = self.block_of[place]
        position = flow.blocks[block].index(place)
        number = len(flow.nodes)
        first = len(flow.values)
        flow.nodes.append(node)  # type: ignore[attr-defined]  # a draft's sequences are lists
        flow.values.extend(results)  # type: ignore[attr-defined]
        flow.value_number.update({value: first + n for n, value in enumerate(results)})
        flow.operands.append(read)  # type: ignore[attr-defined]
        flow.results.append(tuple(range(first, first + len(results))))  # type: ignore[attr-defined]
        flow.node_number[node] = number
        line = [*flow.blocks[block]]
        line.insert(position + 1, number)
        self._reline(block, line)
        self.block_of[number] = block
        self._use(read, 1)
        following = line[position + 2] if position + 2 < len(line) else None
        return self._made(Edit(number, block, (place, following), (), ()))

    def erase(self, node: N) -> Edit:
        """Take a node out; nothing may use its results."""
        flow = self.flow
        number = flow.number(node)
        for value in flow.results[number]:
            if self.users.get(value):
                raise ValueError(f"{flow.values[value]} is used, so {node} cannot be erased")
        if number in flow.begins or any(copy.node == number for copy in flow.copies):
            raise ValueError(f"{node} has sub-graphs or hands values on: it cannot be erased")
        block = self.block_of[number]
        line = [*flow.blocks[block]]
        if len(line) == 1:
            raise ValueError(f"{node} is the only one of its block: it cannot be erased")
        line.remove(number)
        edit = Edit(number, block, None, tuple(flow.operands[number]), tuple(flow.results[number]))
        self._use(edit.read, -1)
        flow.operands[number] = flow.results[number] = ()  # type: ignore[index]
        del flow.node_number[node]
        self._reline(block, line)
        return self._made(edit)

    def replace_operand(self, node: N, position: int, value: object) -> Edit:
        """Let a node read another value at one of its operands."""
        flow = self.flow
        number, new = flow.number(node), flow.value(value)
        old = tuple(flow.operands[number])
        if not 0 <= position < len(old):
            raise ValueError(f"{node} has {len(old)} operands, and no number {position}")
        flow.operands[number] = (*old[:position], new, *old[position + 1 :])  # type: ignore[index]
        self._use((old[position],), -1)
        self._use((new,), 1)
        # A node may say what it reads itself, as in a dense analysis: its block is another.
        block = self.block_of[number]
        self._reline(block, [*flow.blocks[block]])
        return self._made(Edit(number, block, None, old, tuple(flow.results[number])))

    def _use(self, values: Iterable[int], times: int) -> None:
        for value in values:
            self.users[value] = self.users.get(value, 0) + times

    def _reline(self, block: int, line: list[int]) -> None:
        self.flow.blocks[block] = line  # type: ignore[index]
        self.flow.__dict__.pop("places", None)  # found again where somebody asks

    def _made(self, edit: Edit) -> Edit:
        self.flow.edits.append(edit)
        self.flow.__dict__.pop("feeds_onward", None)
        return edit


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
    if index is None and not needs(results.analysis) and _numbered(results):
        index = sweep.index = Index(sweep)
    if index is None or not index.apply(results, edit):
        return solve(results.analysis, _Same(flow), limit=sweep.limit)  # type: ignore[call-overload,no-any-return]  # the kind it was
    return type(results)(results.analysis, flow, sweep.state, sweep)


def _numbered(results: Results[Any, Any]) -> bool:
    """Whether constraints can be found by node: not where control is part of the system."""
    return isinstance(results, PointResults) or results.sweep.system.first is not None


@frozen(eq=False)
class _Same(Generic[N]):
    flow: Flow[N]


@define(eq=False, slots=False)
class Index:
    """Who reads and writes an unknown, and where constraints stand, kept up to date."""

    sweep: Sweep[Any]

    def __attrs_post_init__(self) -> None:
        system, order = self.sweep.system, self.sweep.order
        # The lists of the system itself, so that `verify` and `why` see what update does.
        self.reads: list[Sequence[int]] = system.reads  # type: ignore[assignment]
        self.writes: list[Sequence[int]] = system.writes  # type: ignore[assignment]
        self.subjects: list[object] = system.subjects  # type: ignore[assignment]
        self.initial: list[Any] = system.initial  # type: ignore[assignment]
        self.readers: dict[int, list[int]] = {}
        self.writers: dict[int, list[int]] = {}
        for constraint in range(len(self.reads)):
            self._link(constraint, 1)
        self.rank = [0.0] * len(self.reads)
        for number, constraint in enumerate(order.sequence):
            self.rank[constraint] = float(number)
        self.ends = [float(loop.stop) for loop in order.loops]
        self.starts = [float(loop.start) for loop in order.loops]
        self.members = [[order.sequence[r] for r in loop] for loop in order.loops]

    def _link(self, constraint: int, times: int) -> None:
        for links, unknowns in ((self.readers, self.reads), (self.writers, self.writes)):
            for unknown in unknowns[constraint]:
                found = links.setdefault(unknown, [])
                if times > 0:
                    found.append(constraint)
                else:
                    found.remove(constraint)

    def loop(self, constraint: int) -> int | None:
        """The outermost loop that a constraint stands in."""
        found = bisect_right(self.ends, self.rank[constraint])
        if found < len(self.ends) and self.starts[found] <= self.rank[constraint]:
            return found
        return None

    # -- an edit --------------------------------------------------------------------------

    def apply(self, results: Results[Any, Any], edit: Edit) -> bool:
        """Solve again what the edit reaches; False where its order would be another."""
        flow, system = results.flow, self.sweep.system
        if isinstance(results.analysis, (Forward, Backward)):
            self._solve({edit.block}, ())
            return True
        assert system.first is not None
        constraint = system.first + edit.node
        if edit.between is None:
            self._link(constraint, -1)
        elif not self._place(flow, constraint, edit.between, system.first):
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
        self._link(constraint, 1)
        if not self._in_order(constraint):
            return False
        was_written = edit.read if backward else edit.defined
        self._solve({constraint}, set(was_written) - set(self.writes[constraint]))
        return True

    def _place(
        self, flow: Flow[Any], constraint: int, between: tuple[int, int | None], first: int
    ) -> bool:
        """Give a new node's constraint a rank between those of its neighbours."""
        low = self.rank[first + between[0]]
        high = low + 1 if between[1] is None else self.rank[first + between[1]]
        rank = (low + high) / 2
        if rank in (low, high):
            return False  # no number is left in between
        self.rank.append(rank)
        self.reads.append(())
        self.writes.append(())
        self.subjects.append(flow.nodes[constraint - first])
        loop = self.loop(constraint)
        if loop is not None:
            insort(self.members[loop], constraint, key=self.rank.__getitem__)
        return True

    def _in_order(self, constraint: int) -> bool:
        """Whether what a constraint reads still comes before it, and what reads it after,
        or all stand in one loop."""
        rank, loop = self.rank, self.loop(constraint)
        before = {w for unknown in self.reads[constraint] for w in self.writers.get(unknown, ())}
        after = {r for unknown in self.writes[constraint] for r in self.readers.get(unknown, ())}
        return all(
            rank[w] < rank[constraint] or (loop is not None and self.loop(w) == loop)
            for w in before
        ) and all(
            rank[r] > rank[constraint] or (loop is not None and self.loop(r) == loop) for r in after
        )

    # -- solving --------------------------------------------------------------------------

    def _solve(self, constraints: set[int], unknowns: Iterable[int]) -> None:
        """Evaluate constraints again, and whatever reads what changes by that."""
        pending = [(self.rank[constraint], constraint) for constraint in constraints]
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
        writers, readers = self.writers.get(unknown, ()), self.readers.get(unknown, ())
        around = {loop for w in writers if (loop := self.loop(w)) is not None}
        for loop in around.intersection(map(self.loop, readers)):
            # What the loop said of it may rest on what it was: the loop is solved again.
            first = self.members[loop][0]
            heapq.heappush(pending, (self.rank[first], first))
            return
        new = self._said(unknown, writers)
        old = self.sweep.state[unknown]
        if new is old or new == old:
            return
        self.sweep.state[unknown] = new
        for reader in readers:
            heapq.heappush(pending, (self.rank[reader], reader))

    def _said(self, unknown: int, writers: Iterable[int]) -> Any:
        state, system, lattice = self.sweep.state, self.sweep.system, self.sweep.lattice
        total = self.initial[unknown]
        for writer in writers:
            values = [state[read] for read in self.reads[writer]]
            if any(value is UNREACHED for value in values):
                continue
            self.sweep.visits += 1
            facts = system.evaluate(self.subjects[writer], values)
            for written, fact in zip(self.writes[writer], facts, strict=True):
                if written == unknown and fact is not UNREACHED:
                    total = fact if total is UNREACHED else lattice.join(total, fact)
        return total

    def _solve_loop(self, loop: int, pending: list[tuple[float, int]]) -> None:
        """Solve a loop from nothing, as a system of its own."""
        members, state = self.members[loop], self.sweep.state
        inside = set(members)
        written = dict.fromkeys(u for member in members for u in self.writes[member])
        read = dict.fromkeys(u for member in members for u in self.reads[member])
        local = {unknown: number for number, unknown in enumerate({**written, **read})}
        initial = []
        for unknown in local:
            if unknown in written:
                outside = [w for w in self.writers[unknown] if w not in inside]
                initial.append(self._said(unknown, outside))
            else:
                initial.append(state[unknown])
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
        )
        sweep = Sweep(part, self.sweep.lattice, self.sweep.limit)
        found = sweep.run()
        self.sweep.visits += sweep.visits
        for unknown in written:
            new, old = found[local[unknown]], state[unknown]
            if new is not old and new != old:
                state[unknown] = new
                for reader in self.readers.get(unknown, ()):
                    if reader not in inside:
                        heapq.heappush(pending, (self.rank[reader], reader))
