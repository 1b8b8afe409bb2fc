"""Every plan within a capacity, until one is found or none is left.

Depth first, from the bottom up.  A step looks at one section at the bottom of one niche and
asks what lies there: one of the buffers that fit, or nothing.  If nothing, the section is
raised to where something can be.  Every plan whose buffers have been let fall as far as they
can is reached in exactly one way, as niches are independent; so no order of theirs is tried
twice.

What is raised leaves a section emptier than it could be; how many bytes of it may still be left
empty is its *slack*.  A step is hopeless if it takes more than there is, if what sticks out of
a niche does not fit above its walls (`room.py`), or if that has been found of the same skyline
and the same unplaced buffers before.

What may lie in a niche changes only by what is put there, so niches are kept from step to step.

Which niche is looked at first, which section there, and which buffer is tried first decide
how long it takes, by orders of magnitude and for each instance otherwise.  A `Strategy`
fixes them; `solve.py` takes turns.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from enum import Enum
from hashlib import blake2b
from operator import attrgetter

from attrs import define, field, frozen

from passes.planning.room import lacks_room
from passes.planning.skyline import Preference, Puzzle, Skyline, bits, fitting, next_floor

NOTHING = -1
"""The answer that no buffer lies there."""

REMEMBERED = 200_000
"""How many hopeless steps are kept, of some hundred bytes each."""


_rank = attrgetter("rank")


class Outcome(Enum):
    """What a search came to if it found no plan."""

    IMPOSSIBLE = "impossible"
    UNDECIDED = "undecided"


@define(eq=False)  # made at each step, so not frozen
class Niche:
    """A section at the bottom of a niche, and what may lie there.

    `slack` is that of the section; `choices` how many answers there are; `raised` where it is
    raised to if nothing lies there, None if that is too high.  `rank` is its place among the
    niches, after so many `failures`.
    """

    start: int
    end: int
    section: int
    floor: int
    found: int
    raised: int | None
    slack: int
    choices: int
    rank: tuple[float, ...] = ()
    failures: int = -1


Rule = Callable[[Niche, int], tuple[float, ...]]
"""Of a niche and how often its section was raised too high: niches with less come first."""


@frozen
class Strategy:
    """How to search: `preference` of buffers, `rule` between niches, and whether the section
    is one where the best buffer would lie, rather than any with the least slack."""

    preference: Preference
    rule: Rule
    follows_best: bool


@define(eq=False)
class _Partial:
    """A partial plan, the niches in it, and the answers not tried yet at one of them.

    `emptied` is what its last step left empty: ranges of sections, and how many bytes of each.
    `digest` is that of the skyline and the unplaced buffers, if it was asked for.
    """

    skyline: Skyline
    unplaced: int
    niches: dict[int, Niche]
    niche: Niche | None = None
    answers: Iterator[int] = iter(())
    emptied: list[tuple[int, int, int]] = field(factory=list)
    digest: bytes = b""

    def copy(self) -> _Partial:
        """The same, with no question asked yet."""
        return _Partial(self.skyline.copy(), self.unplaced, self.niches.copy())


@define(eq=False)
class Search:
    """A search for a plan within `capacity` that takes back at most so many steps, until so
    late.

    `slack[s]` is how many bytes of section `s` may still be left empty.
    """

    puzzle: Puzzle
    strategy: Strategy
    capacity: int
    steps: int
    deadline: float = float("inf")
    taken: int = 0
    slack: list[int] = field(init=False)
    twins: list[int] = field(init=False)
    failures: list[int] = field(init=False)
    hopeless: set[bytes] = field(factory=set)

    def __attrs_post_init__(self) -> None:
        puzzle = self.puzzle
        self.slack = [self.capacity - load for load in puzzle.sections.load]
        self.failures = [0] * len(puzzle.sections.load)
        self.twins = []
        same: dict[object, int] = {}
        for bit, parts in enumerate(puzzle.parts):
            key = puzzle.sizes[bit], tuple(parts)
            self.twins.append(same.get(key, 0))
            same[key] = same.get(key, 0) | 1 << bit

    def run(self) -> list[int] | Outcome:
        """Offsets, or why there are none."""
        offsets = [0] * len(self.puzzle.order)
        first = self._begin()
        if first is None:
            return Outcome.IMPOSSIBLE
        self._ask(first)
        stack = [first]
        while stack:
            partial = stack[-1]
            if not partial.unplaced:
                return offsets
            answer = next(partial.answers, None)
            if answer is None:
                stack.pop()
                self._give_up(partial)
                self._take_back(partial)
                continue
            self.taken += 1
            if self.taken - len(stack) > self.steps or (
                self.taken % 256 == 0 and time.monotonic() > self.deadline
            ):
                return Outcome.UNDECIDED
            niche = partial.niche
            assert niche is not None
            if answer != NOTHING:
                offsets[self.puzzle.order[answer]] = niche.floor
            partial = partial.copy()
            if self._follow(partial, niche, answer) and self._is_hopeful(partial, niche, answer):
                self._ask(partial)
                stack.append(partial)
            else:
                self._take_back(partial)
        return Outcome.IMPOSSIBLE

    def _begin(self) -> _Partial | None:
        """Nothing is placed; None if that is hopeless already."""
        first = _Partial(Skyline.flat(len(self.slack)), self.puzzle.everything, {})
        if first.unplaced and not (
            min(self.slack) >= 0 and self._settle(first, 0, len(self.slack))
        ):
            return None
        return first

    def _follow(self, partial: _Partial, niche: Niche, answer: int) -> bool:
        """Do what the answer says; whether something may lie in every niche that is left."""
        skyline = partial.skyline
        segment = bisect_right(skyline.starts, niche.start) - 1
        if answer == NOTHING:
            assert niche.raised is not None
            section = niche.section
            self._leave_empty(partial, section, section + 1, niche.raised - niche.floor)
            skyline.put(segment, (section, section + 1), niche.raised)
        else:
            size, parts = self.puzzle.sizes[answer], self.puzzle.parts[answer]
            if len(parts) == 1:
                skyline.put(segment, parts[0], niche.floor + size)
            else:
                skyline.put_all(parts, niche.floor + size)
            partial.unplaced ^= 1 << answer
        del partial.niches[niche.start]
        return not partial.unplaced or self._settle(partial, niche.start, niche.end)

    def _leave_empty(self, partial: _Partial, start: int, end: int, nbytes: int) -> None:
        """Take so much of the slack of some sections."""
        self.slack[start:end] = [slack - nbytes for slack in self.slack[start:end]]
        partial.emptied.append((start, end, nbytes))

    def _take_back(self, partial: _Partial) -> None:
        """Give back the slack that the last step took."""
        for start, end, nbytes in partial.emptied:
            self.slack[start:end] = [slack + nbytes for slack in self.slack[start:end]]

    def _is_hopeful(self, partial: _Partial, niche: Niche, answer: int) -> bool:
        """Whether there is room beside what the answer raised, and this was not met before."""
        skyline, section = partial.skyline, niche.section
        parts = [(section, section + 1)] if answer == NOTHING else self.puzzle.parts[answer]
        for part in parts:
            full = lacks_room(self.puzzle, skyline, self.slack, partial.unplaced, part)
            if full is not None:
                self.failures[full] += 1
                return False
        return not self.hopeless or self._digest(partial) not in self.hopeless

    # -- niches ------------------------------------------------------------------------

    def _settle(self, partial: _Partial, start: int, end: int) -> bool:
        """Find the niches that are new since this stretch was changed, and raise those in which
        nothing fits; whether all that is left still may."""
        puzzle, skyline, unplaced = self.puzzle, partial.skyline, partial.unplaced
        if puzzle.gapped:
            partial.niches.clear()
        while True:
            raised = False
            for segment in self._candidates(skyline, start, end):
                left, right = skyline.starts[segment], skyline.starts[segment + 1]
                if left in partial.niches:
                    continue
                every = fitting(puzzle, skyline, segment, unplaced)
                if every:
                    niche = self._niche(partial, segment, every)
                    if not niche.choices:
                        self.failures[niche.section] += 1
                        return False
                    partial.niches[left] = niche
                    continue
                height = next_floor(puzzle, skyline, segment, unplaced)
                empty = height - skyline.heights[segment]
                least = min(self.slack[left:right])
                if empty > least:
                    self.failures[self.slack.index(least, left, right)] += 1
                    return False
                self._leave_empty(partial, left, right, empty)
                skyline.fill(segment, height)
                start, end = min(start, left), max(end, right)
                raised = True
                break
            if not raised:
                return True

    def _candidates(self, skyline: Skyline, start: int, end: int) -> list[int]:
        """The segments lower than their walls, in and beside a stretch; the lowest only, where
        buffers have gaps."""
        if self.puzzle.gapped:
            return [skyline.lowest()]
        first = max(bisect_right(skyline.starts, start) - 2, 0)
        last = min(bisect_right(skyline.starts, end), len(skyline.heights))
        return skyline.niches(first, last)

    def _niche(self, partial: _Partial, segment: int, every: int) -> Niche:
        puzzle, skyline = self.puzzle, partial.skyline
        floor = skyline.heights[segment]
        left, right = start, end = skyline.starts[segment], skyline.starts[segment + 1]
        if self.strategy.follows_best:
            best = (every & -every).bit_length() - 1
            for first, last in puzzle.parts[best]:
                if start <= first and last <= end:
                    start, end = first, last
                    break
        slack = min(self.slack[start:end])
        section = self.slack.index(slack, start, end)
        found = every & puzzle.alive[section]
        raised = next_floor(puzzle, skyline, segment, partial.unplaced)
        others = every & ~found
        if others:
            raised = min(raised, floor + puzzle.least_size(others))
        possible = raised - floor <= slack
        return Niche(
            left,
            right,
            section,
            floor,
            found,
            raised if possible else None,
            slack,
            found.bit_count() + possible,
        )

    def _ask(self, partial: _Partial) -> None:
        """Choose the niche to look at, and the answers there."""
        if not partial.unplaced:
            return
        for niche in partial.niches.values():
            failures = self.failures[niche.section]
            if niche.failures != failures:
                niche.failures = failures
                niche.rank = niche.choices > 1, *self.strategy.rule(niche, failures), niche.start
        partial.niche = min(partial.niches.values(), key=_rank)
        partial.answers = self._answers(partial.niche, partial.unplaced)

    def _answers(self, niche: Niche, unplaced: int) -> Iterator[int]:
        """What may lie there, the best first.  Of buffers that are alike, the first will do."""
        for bit in bits(niche.found):
            if not unplaced & self.twins[bit]:
                yield bit
        if niche.raised is not None:
            yield NOTHING

    def _give_up(self, partial: _Partial) -> None:
        """Remember that there is no plan with this skyline and these unplaced buffers."""
        if len(self.hopeless) < REMEMBERED:
            self.hopeless.add(self._digest(partial))

    def _digest(self, partial: _Partial) -> bytes:
        if not partial.digest:
            skyline = partial.skyline
            text = array("q", skyline.starts + skyline.heights).tobytes()
            text += partial.unplaced.to_bytes(len(self.twins) // 8 + 1)
            partial.digest = blake2b(text, digest_size=16).digest()
        return partial.digest
