"""A plan within a capacity, or the smallest one: dives first, then searches in turn.

A dive takes milliseconds and mostly reaches the lower bound; where none does, a search that
hardly turns back mostly does.  Else strategies take turns: each searches from the beginning,
with as many steps as the others and twice as many in the next round.  Buffers in stretches of
time that nothing connects are searched apart.

The best plan so far, the lower bound so far and what is left between them are known at any
time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import gcd

from attrs import define, evolve, field, frozen

from passes.errors import PlanError
from passes.planning.buffers import (
    LARGEST,
    Buffer,
    Sections,
    as_buffer,
    components,
    round_up,
    total,
)
from passes.planning.check import check
from passes.planning.conflict import Conflict
from passes.planning.dive import dive
from passes.planning.search import Outcome, Search, Strategy
from passes.planning.skyline import Preference, Puzzle
from passes.planning.strategies import PROVER, QUICK, STRATEGIES

FIRST_ROUND = 300
"""Steps that each strategy may take back in the first round."""

PROVER_SHARE = 20
"""How many times as many the strategy that proves may, after the others."""

EXPLAINING = 50_000
"""Steps, of all searches together, for the few buffers that say why there is no plan."""

FEW = 100
"""Steps that a search may take back if it is to be quick."""


@frozen
class Layout:
    """Offsets for buffers, in an arena of `size` bytes.

    No plan is smaller than `lower_bound`.
    """

    offsets: tuple[int, ...]
    size: int
    lower_bound: int

    @property
    def is_optimal(self) -> bool:
        """Whether it is proved that no plan is smaller."""
        return self.size == self.lower_bound

    @property
    def gap(self) -> float:
        """By how much of the lower bound the arena may be too large."""
        return self.size / self.lower_bound - 1 if self.lower_bound else 0.0


Progress = Callable[[Layout], None]
"""Called with the best layout so far, whenever that or the lower bound gets better."""


def plan_buffers(
    buffers: Sequence[object],
    *,
    capacity: int | None = None,
    alignment: int = 1,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> list[int]:
    """An offset for each buffer, such that no two that are alive together overlap.

    A buffer is `(start, end, size)`, alive from start to before end, or a `Buffer`, whose
    lifetime may have gaps.  Sizes are rounded up to `alignment`, and offsets are multiples
    of it.  With a `capacity`, every plan within it will do; without, it is the smallest that
    is found in `time_limit` seconds (None: until it is proved that none is smaller).

    Raises `PlanError` where there is no plan, with the proof; where none was found in time;
    and for what is no buffer.
    """
    given = [as_buffer(number, buffer) for number, buffer in enumerate(buffers)]
    if capacity is None:
        return list(smallest(given, alignment, time_limit, progress).offsets)
    return list(within(given, capacity, alignment, time_limit).offsets)


def within(
    buffers: Sequence[Buffer], capacity: int, alignment: int = 1, time_limit: float | None = None
) -> Layout:
    """A layout of at most `capacity` bytes.  Raises `PlanError` if there is none, or none in
    time."""
    if type(capacity) is not int or not 0 < capacity < LARGEST:
        raise PlanError(f"the capacity is {capacity!r}: give a number of bytes, above 0")
    work = _Work.of(buffers, alignment, time_limit)
    if work.lower_bound > capacity:
        raise PlanError(_too_many(work, capacity))
    work.begin(capacity)
    steps = FIRST_ROUND
    while work.best.size > capacity:
        if work.is_late:
            raise PlanError(
                f"no plan in {capacity} bytes was found in {time_limit} s, nor a proof that there "
                f"is none; the best has {work.best.size}: give more time or {work.best.size} bytes"
            )
        outcome = work.search(capacity, steps)
        if outcome is Outcome.IMPOSSIBLE:
            raise PlanError(_too_tight(work, capacity))
        steps *= 2
    return work.checked


def smallest(
    buffers: Sequence[Buffer],
    alignment: int = 1,
    time_limit: float | None = None,
    progress: Progress | None = None,
    is_quick: bool = False,
) -> Layout:
    """The smallest layout that is found in so many seconds.

    `is_quick`: only what finds most plans, without a clock, so the same on every machine.
    """
    work = _Work.of(buffers, alignment, time_limit)
    work.progress = progress
    if is_quick:
        work.deadline = float("inf")
    work.begin(work.lower_bound)
    steps = FIRST_ROUND
    while not (is_quick or work.best.is_optimal or work.is_late):
        # At the bound, where most plans are found; then half way, to get nearer at least.
        low, high = work.best.lower_bound, work.best.size
        for target in (low, (low + high) // 2 // work.unit * work.unit):
            if not low <= target < work.best.size or work.is_late:
                continue
            if work.search(target, steps) is Outcome.IMPOSSIBLE:
                work.prove(target + work.unit)
        steps *= 2
    return work.checked


@define(eq=False)
class _Work:
    """What is known of one instance: the best layout and the lower bound so far."""

    given: Sequence[Buffer]
    buffers: list[Buffer]
    alignment: int
    deadline: float
    sections: Sections
    best: Layout
    progress: Progress | None = None
    impossible: list[int] = field(factory=list)
    puzzles: dict[Preference, Puzzle] = field(factory=dict)

    @classmethod
    def of(cls, given: Sequence[Buffer], alignment: int, time_limit: float | None) -> _Work:
        if type(alignment) is not int or alignment <= 0:
            raise PlanError(f"the alignment is {alignment!r}: give a positive integer")
        is_number = isinstance(time_limit, (int, float)) and not isinstance(time_limit, bool)
        if time_limit is not None and not (is_number and time_limit >= 0):
            raise PlanError(f"the time limit is {time_limit!r}: give seconds, or None")
        buffers = [evolve(b, size=round_up(b.size, alignment)) for b in given]
        if total(buffers) >= LARGEST:
            raise PlanError(f"the buffers have {total(buffers)} bytes: offsets need 64 bits")
        offsets = []
        above = 0
        for buffer in buffers:  # side by side: a plan to begin with
            offsets.append(above)
            above += buffer.size
        sections = Sections.of(buffers)
        deadline = float("inf") if time_limit is None else time.monotonic() + time_limit
        best = Layout(tuple(offsets), above, sections.lower_bound)
        return cls(given, buffers, alignment, deadline, sections, best)

    @property
    def unit(self) -> int:
        """What every sum of sizes is a multiple of."""
        return gcd(*(buffer.size for buffer in self.buffers)) or 1

    @property
    def lower_bound(self) -> int:
        return self.best.lower_bound

    @property
    def lower_bound_of_load(self) -> int:
        return self.sections.lower_bound

    @property
    def is_late(self) -> bool:
        return time.monotonic() > self.deadline

    def prove(self, lower_bound: int) -> None:
        """No plan is smaller than this."""
        self._better(evolve(self.best, lower_bound=min(lower_bound, self.best.size)))

    def found(self, offsets: Sequence[int]) -> None:
        """A plan: kept if it is the smallest so far."""
        size = max((o + b.size for o, b in zip(offsets, self.buffers, strict=True)), default=0)
        if size < self.best.size:
            self._better(Layout(tuple(offsets), size, self.best.lower_bound))

    @property
    def checked(self) -> Layout:
        """The best layout, after a look at whether it is one."""
        check(self.buffers, self.best.offsets, self.best.size, self.alignment)
        return self.best

    def _better(self, layout: Layout) -> None:
        self.best = layout
        if self.progress is not None:
            self.progress(layout)

    def begin(self, capacity: int) -> None:
        """What finds most plans within a capacity: dives, and searches that hardly turn back."""
        for way in QUICK:
            if self.best.size <= capacity:
                return
            if not isinstance(way, Strategy):
                self.found(dive(self._puzzle(way)))
            elif not self.is_late:
                puzzle = self._puzzle(way.preference)
                found = Search(puzzle, way, capacity, FEW, self.deadline).run()
                if not isinstance(found, Outcome):
                    self.found(found)

    def _puzzle(self, preference: Preference) -> Puzzle:
        if preference not in self.puzzles:
            self.puzzles[preference] = Puzzle(self.buffers, self.sections, preference)
        return self.puzzles[preference]

    def search(self, capacity: int, steps: int) -> Outcome | None:
        """One round of searches; None if it has found a plan within `capacity`."""
        offsets = list(self.best.offsets)
        undecided = False
        for group in components(self.buffers):
            part = [self.buffers[number] for number in group]
            found = self._search_apart(part, capacity, steps)
            if found is Outcome.IMPOSSIBLE:
                self.impossible = group
                return Outcome.IMPOSSIBLE
            if isinstance(found, Outcome):
                undecided = True
                continue
            for number, offset in zip(group, found, strict=True):
                offsets[number] = offset
        if undecided:
            return Outcome.UNDECIDED
        self.found(offsets)
        return None

    def _search_apart(
        self, part: Sequence[Buffer], capacity: int, steps: int
    ) -> list[int] | Outcome:
        sections = Sections.of(part)
        tried = set()
        for strategy in (*STRATEGIES, PROVER):
            puzzle = Puzzle(part, sections, strategy.preference)
            alike = tuple(puzzle.order), strategy.rule, strategy.follows_best
            if alike in tried and strategy is not PROVER:
                continue
            tried.add(alike)
            share = steps * (PROVER_SHARE if strategy is PROVER else 1)
            found = Search(puzzle, strategy, capacity, share, self.deadline).run()
            if found is not Outcome.UNDECIDED:
                return found
            if self.is_late:
                break
        return Outcome.UNDECIDED


def _too_many(work: _Work, capacity: int) -> str:
    section = work.sections.load.index(work.sections.lower_bound)
    alive = work.sections.alive_at(section)
    rounded = f", each rounded up to {work.alignment}" if work.alignment > 1 else ""
    return (
        f"no plan fits in {capacity} bytes: {work.lower_bound} are alive together{rounded}, in "
        f"{len(alive)} buffers: {_listed(alive)}"
    )


def _too_tight(work: _Work, capacity: int) -> str:
    conflict = Conflict(work.buffers, work.impossible, capacity, EXPLAINING, work.deadline)
    numbers = conflict.numbers
    told = (
        f"no plan fits in {capacity} bytes: at most {work.lower_bound_of_load} are alive together, "
        f"but all ways to arrange {len(numbers)} of the {len(work.buffers)} buffers, "
        f"{_listed(numbers)}, were tried"
    )
    if conflict.is_minimal:
        told += "; without any one of these there is room for the rest of them"
    return told


def _listed(numbers: Sequence[int]) -> str:
    shown = list(numbers)
    text = ", ".join(map(str, shown[:20]))
    return text if len(shown) <= 20 else f"{text}, ... ({len(shown)} in all)"
