"""When is each value last used?  What is alive at each op?

A value is *live* at a point if it may still be used: by a later op, by the program's
exit, or, of a region's inputs, by the run, which holds them as long as the region runs.

Backward over values, may.  A value's fact is the index of the last op that uses it, so a
value is live from the op that defines it to that op, and the sets at every point follow
by counting: one int per value, not one set per op.  What goes around a loop is used at
the end of the loop's body, by the body's output; what a region captures is an operand of
its op, used when the op ends.

A storage class is alive while any member, sure or possible, is live.  Sound for what
effects say; ops that may do anything are taken to use what they were handed until the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

from attrs import define, field, frozen

from dataflow import UNREACHED, Chain, Lattice, SparseBackward, solve
from passes.alias import Aliases
from passes.census import NEVER, Census
from passes.holding import WhyAlive, why_alive
from passes.program import ANYTHING, Op, Program, Value, check_program
from passes.storages import ANY, UNKNOWN, Storage, StorageClass, numbers

Span = tuple[int, int]
"""First and last op index of an interval, both included."""

LiveAtExit = Literal["outputs", "all"]


@frozen
class LastUse(SparseBackward[Op, int]):
    """The index of the last op that uses each value; `NEVER` where none does.

    Backward, may.  `at_exit` are the values that are used after the last op, at `end`.
    """

    end: int
    lattice: Lattice[int] = Chain(NEVER)

    def transfer(self, op: Op, results: Sequence[int]) -> Sequence[int]:
        use = self.end if op.effects.origin is ANYTHING else op.index
        return [use] * len(op.operands)

    def exit(self, value: object) -> int:
        return self.end

    def copy(self, copy: object, value: int) -> int:
        # A copy is no use of its own: the region's op uses what goes in, the region's
        # output what comes out.
        return NEVER


@frozen
class LiveRange:
    """When a storage class is alive, in op indices, first and last included.

    Intervals are in order and apart: between two of them no execution has it alive, as
    in the other branch of a `cond`.  There are none for a storage nobody uses, such as an
    unused input; then `first` and `last` are None.
    """

    intervals: tuple[Span, ...]

    @property
    def first(self) -> int | None:
        """The index of the first op it is alive at."""
        return self.intervals[0][0] if self.intervals else None

    @property
    def last(self) -> int | None:
        """The index of the last op it is alive at."""
        return self.intervals[-1][1] if self.intervals else None

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and any(a <= index <= b for a, b in self.intervals)


@define(eq=False, frozen=True, slots=False, repr=False)
class Liveness:
    """The answer: live values and storage classes at each op.  `Liveness.of(program)`.

    Points are asked for by op; `before` and `after` are in execution order.  To be asked of an op,
    a value or a class of another program raises `KeyError`, of anything else `TypeError`.
    """

    program: Program
    aliases: Aliases
    live_at_exit: LiveAtExit
    _defined: Sequence[int]
    _last: Sequence[int]
    _cursor: _Cursor

    @classmethod
    def of(cls, program: Program, live_at_exit: LiveAtExit = "outputs") -> Liveness:
        """Solve liveness over a program.

        `"outputs"`: at exit live are the returned values, and every entry value whose
        storage the program writes, since the caller sees it.  `"all"`: every value is,
        as in a training step that keeps them for its backward.
        """
        if live_at_exit not in ("outputs", "all"):
            raise ValueError(f"live_at_exit is 'outputs' or 'all', not {live_at_exit!r}")
        check_program(program)
        return program.once((cls, live_at_exit), lambda: cls._solve(program, live_at_exit))

    @classmethod
    def _solve(cls, program: Program, live_at_exit: LiveAtExit) -> Liveness:
        aliases = Aliases.of(program)
        end = len(program.all_ops)
        results = solve(LastUse(end), program)
        last = [NEVER if fact is UNREACHED else fact for fact in results.states]
        census = Census.of(program)
        for op in census.nested:
            for region in op.regions:
                # The run holds a region's inputs until the region ends.
                for value in region.inputs:
                    last[value.index] = max(last[value.index], region.ops[-1].index)
            if op.region_flow:
                until = op.index - (not op.region_flow.held_for_stacking)
                for value in op.region_flow.held:
                    last[value.index] = max(last[value.index], until)
                for value in op.region_flow.early:  # used or not
                    last[value.index] = max(last[value.index], op.index)
        if live_at_exit == "all":
            last = [end] * len(last)
        else:
            for value in _written_entries(program, aliases):
                last[value.index] = end
        cursor = _Cursor(program, census.defined, last)
        return cls(program, aliases, live_at_exit, census.defined, last, cursor)

    def __repr__(self) -> str:
        return f"<Liveness of {self.program.name}, live at exit: {self.live_at_exit}>"

    @cached_property
    def _all_ops(self) -> Sequence[Op]:
        return self.program.all_ops

    def before(self, op: Op) -> frozenset[Value]:
        """The values live before `op` and its regions run."""
        self.program.check(op)
        return self._cursor.after(op.first_index - 1)

    def after(self, op: Op) -> frozenset[Value]:
        """The values live after `op` has run."""
        self.program.check(op)
        return self._cursor.after(op.index)

    def around(self, op: Op) -> frozenset[Value]:
        """The values live before `op`, live after it, or defined by it."""
        return self.before(op) | self.after(op) | frozenset(op.defines)

    def classes(self, op: Op) -> frozenset[StorageClass]:
        """The storage classes alive while `op` runs."""
        pointees = self.aliases.pointees
        storages = frozenset[Storage]().union(*map(pointees, self.around(op)))
        return frozenset(map(self.aliases.class_of, storages - {UNKNOWN}))

    def span(self, value: Value) -> Span | None:
        """The first and last op index a value is live at; None if it never is.

        An entry value is there from op 0 on.
        """
        self.program.check_value(value)
        start, stop = self._defined[value.index], self._last[value.index]
        if start < 0:
            return (0, min(stop, len(self._all_ops) - 1)) if stop >= 0 else None
        return start, max(start, min(stop, len(self._all_ops) - 1))

    @cached_property
    def spans(self) -> dict[int, tuple[Span, ...]]:
        """Per storage number, the intervals of op indices in which some member is live."""
        found: dict[int, tuple[Span, ...]] = {}
        final = len(self._all_ops) - 1
        for fact, start, stop in zip(self.aliases.facts, self._defined, self._last):  # noqa: B905  # one per value
            if start < 0:
                if stop < 0:
                    continue  # an entry value that nobody uses
                start = 0
            if stop > final:
                stop = final
            if stop < start:
                stop = start
            for number in (fact,) if type(fact) is int else numbers(fact):
                if number not in found:
                    found[number] = ((start, stop),)
                    continue
                begin, end = found[number][-1]
                if not begin <= start <= end:  # only where there are regions
                    found[number] = merged(found[number], (start, stop))
                elif stop > end:
                    found[number] = (*found[number][:-1], (begin, stop))
        return found

    @cached_property
    def users(self) -> dict[Value, list[Op]]:
        """The ops that each value is an operand of, in execution order."""
        found: dict[Value, list[Op]] = {}
        for op in self._all_ops:
            for value in dict.fromkeys(op.operands):
                found.setdefault(value, []).append(op)
        return found

    def is_live_at_exit(self, value: Value) -> bool:
        """Whether a value may be used after the program's last op."""
        self.program.check_value(value)
        return self._last[value.index] == len(self._all_ops)

    def why(self, storage_class: StorageClass, op: Op) -> WhyAlive:
        """Why a storage class is alive while `op` runs: who made it, and every use that still
        needs it, with the views that lead there.  Print it.

        Raises `ValueError` if it is not alive there.
        """
        return why_alive(self, storage_class, op)

    def range(self, storage_class: StorageClass) -> LiveRange:
        """When a storage class is alive."""
        self.aliases.check_class(storage_class)
        return LiveRange(self.storage_spans.get(storage_class.storage, ()))

    @cached_property
    def storage_spans(self) -> dict[Storage, tuple[Span, ...]]:
        """`spans` by storage."""
        storage = self.aliases.allocations.storage
        return {storage(number): intervals for number, intervals in self.spans.items()}


def merged(spans: tuple[Span, ...], new: Span) -> tuple[Span, ...]:
    """Intervals in order with one more; overlapping ones are one."""
    if not spans:
        return (new,)
    start, stop = new
    begin, end = spans[-1]
    if begin <= start <= end:  # as everywhere outside of regions
        return spans if stop <= end else (*spans[:-1], (begin, stop))
    before = [span for span in spans if span[1] < start]
    after = [span for span in spans if span[0] > stop]
    touched = spans[len(before) : len(spans) - len(after)]
    if touched:
        start, stop = min(start, touched[0][0]), max(stop, touched[-1][1])
    return (*before, (start, stop), *after)


def _written_entries(program: Program, aliases: Aliases) -> list[Value]:
    """The entry values whose storage the program may write, and the caller may look at."""
    written: set[int] = set()
    for op in Census.of(program).writers:
        written |= aliases.numbers_written_by(op)
    entry = aliases.allocations.entry
    values = [found.value for found in program.entry.values if not found.donated]
    return [value for value in values if ANY in written or entry[value.index] in written]


@define(eq=False, slots=False)
class _Cursor:
    """The live set at one point, moved to others by what begins and ends between."""

    program: Program
    defined: Sequence[int]
    last: Sequence[int]
    point: int = NEVER
    live: set[Value] = field(factory=set)

    @cached_property
    def _events(self) -> tuple[dict[int, list[Value]], dict[int, list[Value]]]:
        """Values by the op that begins them, and by the op after which they are dead."""
        begins: dict[int, list[Value]] = {}
        ends: dict[int, list[Value]] = {}
        for value in self.program.values:
            start, stop = self.defined[value.index], self.last[value.index]
            if start < stop:
                begins.setdefault(start, []).append(value)
                ends.setdefault(stop, []).append(value)
        self.live.update(begins.get(NEVER, ()))
        return begins, ends

    def after(self, point: int) -> frozenset[Value]:
        """The values live after op number `point`; -1 is the program's entry."""
        begins, ends = self._events
        while self.point < point:
            self.point += 1
            self.live.update(begins.get(self.point, ()))
            self.live.difference_update(ends.get(self.point, ()))
        while self.point > point:
            self.live.difference_update(begins.get(self.point, ()))
            self.live.update(ends.get(self.point, ()))
            self.point -= 1
        return frozenset(self.live)
