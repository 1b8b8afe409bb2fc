"""The cases of a program with dynamic dimensions: for which sizes is the answer which?

A *case* has the sizes for which one set of facts holds, and the bytes as functions of the
symbols there.  Cases are found when somebody asks about sizes in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property

from attrs import define, evolve, field, frozen

from passes.errors import CaptureError, ProgramError
from passes.liveness import Liveness
from passes.program import Op, Program, Role
from passes.storages import Storage
from passes.symbolic.bounds import Box, Interval, extreme
from passes.symbolic.dynamic import Condition, Dynamic, Facts
from passes.symbolic.envelope import points, upper_envelope
from passes.symbolic.sizes import Size
from passes.uncertain import Amounts, Uncertain

MOST = 32
"""How many cases are looked for before an answer is refused: each costs a walk."""

POINTS = 2
"""How many single sizes of a symbol may be cases of their own."""


@frozen
class Piece:
    """One of the polynomials whose maximum is the peak.

    `size` is in bytes, `op` the first op at which it is alive, and `where` sizes at which
    it is the peak; None if none were found, and yet no other piece is known to be above it.
    """

    size: Size
    op: Op
    where: Mapping[str, int] | None

    def __str__(self) -> str:
        return f"{self.size}  while {self.op} runs"


@frozen
class PeakAt:
    """The peak at given sizes: bytes of intermediates, the first op that reaches it, and the
    bytes of all there is then, inputs and parameters too."""

    nbytes: int
    op: Op
    total_bytes: int


@define(eq=False, frozen=True, slots=False, repr=False)
class Case:
    """The answer for all sizes for which one set of facts holds."""

    facts: Facts

    @cached_property
    def timeline(self) -> tuple[Size, ...]:
        """Bytes alive while each op runs, by `op.index`."""
        liveness = Liveness.of(self.facts.program)
        made = liveness.aliases.allocations
        uncertain = Uncertain(liveness, _amounts(self.facts))
        count = len(self.facts.program.all_ops)
        held = uncertain.kept or uncertain.held_again
        changes: list[list[Size]] = [[] for _ in range(count + 1)]
        for number, spans in uncertain.certain_spans.items():
            size = self.facts.sizes.get(number)
            if number not in made.owner and size is not None:
                for start, stop in spans:
                    changes[start].append(size)
                    changes[stop + 1].append(-size)
        timeline = []
        level = Size.of(0)
        for index in range(count):
            if changes[index]:
                level = Size.sum((level, *changes[index]))
            timeline.append(level + uncertain.at(index) if held else level)
        return tuple(timeline)

    @property
    def storages(self) -> object:
        """Which storages values are, when each is alive, and how large it is."""
        liveness = Liveness.of(self.facts.program)
        return liveness.aliases.facts, liveness.spans, self.facts.sizes

    @cached_property
    def entry(self) -> Mapping[Role, Size]:
        """Bytes of what exists at entry, by role."""
        made = Liveness.of(self.facts.program).aliases.allocations
        found = dict.fromkeys(Role, Size.of(0))
        for number, entry in made.owner.items():
            found[entry.role] += self.facts.sizes.get(number, Size.of(0))
        return found

    @cached_property
    def unsized(self) -> tuple[Storage, ...]:
        """Storages whose size only a run decides; they count as 0 bytes."""
        liveness = Liveness.of(self.facts.program)
        made = liveness.aliases.allocations
        numbers = sorted(liveness.spans.keys() - self.facts.sizes.keys() - made.owner.keys())
        return tuple(made.storage(number) for number in numbers if number >= 0)

    @cached_property
    def bounded(self) -> tuple[Storage, ...]:
        """Storages whose size the data decides; they count as the most they can be."""
        made = Liveness.of(self.facts.program).aliases.allocations
        return tuple(map(made.storage, sorted(self.facts.bounded)))

    @cached_property
    def resident(self) -> Size:
        """Bytes of all that exists at entry."""
        return Size.sum(self.entry.values())

    def joined(self, other: Case, condition: Condition) -> Case | None:
        """This case and another one together, if they have the same answers and one has a
        condition where the other has its opposite."""
        facts, others = self.facts, other.facts
        opposite = condition.opposite
        at = [c for c in others.conditions if c.is_same(opposite)] if opposite else []
        same = facts.box == others.box and self.storages == other.storages
        if not at or not same or self.entry != other.entry or self.names != other.names:
            return None
        left = tuple([c for c in facts.conditions if c is not condition])
        more = [c for c in others.conditions if c not in at and not any(map(c.is_same, left))]
        if not all(c.holds_in(facts.box) for c in more):
            return None
        return Case(evolve(facts, conditions=left))

    @property
    def names(self) -> list[str]:
        """The names of storages without a size, or without an exact one."""
        return [storage.name for storage in (*self.unsized, *self.bounded)]

    @cached_property
    def levels(self) -> Mapping[Size, Op]:
        """The different sizes on the timeline, each with the first op at which it is alive."""
        found: dict[Size, Op] = {}
        for op, size in zip(self.facts.program.all_ops, self.timeline, strict=True):
            found.setdefault(size, op)
        return found

    @cached_property
    def peak(self) -> tuple[Piece, ...]:
        """The polynomials whose maximum is the peak, each the greatest somewhere."""
        sizes = list(self.levels)
        pieces = []
        for found in upper_envelope(sizes, self.facts.box):
            size, where = sizes[found.index], found.point
            if where is not None and not self.facts.hold_in(point(where)):
                where = None
            pieces.append(Piece(size, self.levels[size], where))
        return tuple(pieces)

    def at(self, sizes: Mapping[str, int]) -> PeakAt:
        """The peak at sizes of this case."""
        nbytes, place = max((size.at(sizes), -op.index) for size, op in self.levels.items())
        return PeakAt(nbytes, self.facts.program.all_ops[-place], nbytes + self.resident.at(sizes))


@define(eq=False)
class Cases:
    """The cases found so far, of a program that was loaded at some sizes."""

    dynamic: Dynamic
    loaded: Program
    found: list[Case] = field(factory=list)

    def of(self, box: Box) -> Case | None:
        """A case that has all of a box; None if no one case has.

        A new one is looked for at the highest corner (the lowest, where there is none), if
        that is in no case so far.
        """
        found = self._known(box)
        corner = point({name: low if high is None else high for name, (low, high) in box.items()})
        if found is None and self._known(corner) is None:
            if len(self.found) >= MOST:
                raise ProgramError(
                    f"what shares memory changes with sizes in more than {MOST} ways: ask for "
                    "fewer sizes, or load the program at each"
                )
            self.found.append(self._widened(self._made({n: low for n, (low, _) in corner.items()})))
            found = self._known(box)
            self._refuse_points(box)
        return found

    def _refuse_points(self, box: Box) -> None:
        """Raise where one size after the other turns out to be a case of its own."""
        for name, (low, high) in box.items():
            if low != high and sum(case.facts.pin(name) for case in self.found) > POINTS:
                raise ProgramError(
                    f"what is known holds for one size of {name} at a time, because the program "
                    "makes a number of it, as a loop over it does, and a recurrent layer of the "
                    f"length of what it reads: ask at single sizes, as in at({name}=8)"
                )

    def _known(self, box: Box) -> Case | None:
        return next((case for case in self.found if case.facts.hold_in(box)), None)

    def _made(self, sizes: Mapping[str, int]) -> Case:
        made = Case(self.dynamic.find(sizes, self.loaded))
        if not made.facts.hold_in(point(sizes)):
            raise ProgramError(f"the facts that were found at {dict(sizes)} do not hold there")
        return made

    def _widened(self, case: Case) -> Case:
        """A case without the conditions that make no difference: where one does not hold,
        another case has the same answer."""
        others: dict[tuple[tuple[str, int], ...], Case | None] = {}  # where many do not hold
        for condition in case.facts.conditions:
            sizes = self._against(condition, case.facts.box)
            if sizes is None or condition not in case.facts.conditions:
                continue
            at = tuple(sizes.items())
            if at not in others:
                others[at] = None
                with suppress(CaptureError):  # too small for the model, maybe: it stays
                    others[at] = self._made(sizes)
            other = others[at]
            case = (other and case.joined(other, condition)) or case
        return case

    def _against(self, condition: Condition, box: Box) -> Mapping[str, int] | None:
        """Sizes in a box at which a condition does not hold."""
        return next((at for at in points(box) if not condition.holds(at)), None)


def point(values: Mapping[str, int]) -> dict[str, Interval]:
    return {name: (value, value) for name, value in values.items()}


def _again(facts: Facts, op: Op) -> Size:
    """How many earlier iterations an op's run holds something of."""
    known = op.region_flow.again if op.region_flow else 0
    return facts.again.get(op.index, Size.of(known or 0))


def _amounts(facts: Facts) -> Amounts[Size]:
    """Bytes as functions of symbols."""
    return Amounts(
        of=lambda number: facts.sizes.get(number if number >= 0 else -2 - number),
        total=Size.sum,
        most=lambda sizes: extreme("max", sizes, facts.box),
        less=lambda one, other: extreme("min", (one, other), facts.box),
        again=lambda size, op: size * _again(facts, op),
    )
