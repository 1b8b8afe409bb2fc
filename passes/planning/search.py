"""Every plan within a capacity, until one is found or none is left.

Depth first, from the bottom up.  A step looks at one section at the bottom of one niche and
asks what lies there: one of the buffers that fit, or nothing.  If nothing, the section is
raised to where something can be.  Every plan whose buffers have been let fall as far as they
can is reached in exactly one way, as niches are independent; so no order of theirs is tried
twice.

A step is hopeless if a section is raised so high that what is unplaced there does not fit
above it, or if that has been found of the same skyline and the same unplaced buffers before.

Which niche is looked at first, which section there, and which buffer is tried first decide
how long it takes, by orders of magnitude and for each instance otherwise.  A `Strategy`
fixes them; `solve.py` takes turns.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from enum import Enum
from hashlib import blake2b

from attrs import define, field, frozen

from passes.planning.skyline import NO_WALL, Preference, Puzzle, Skyline, bits, fitting, next_floor

NOTHING = -1
"""The answer that no buffer lies there."""

REMEMBERED = 200_000
"""How many hopeless steps are kept, of some hundred bytes each."""


class Outcome(Enum):
    """What a search came to if it found no plan."""

    IMPOSSIBLE = "impossible"
    UNDECIDED = "undecided"


@define(eq=False)  # made at each step, so not frozen
class Niche:
    """A section at the bottom of a niche, and what may lie there.

    `slack` is how far the section may still be raised; `choices` how many answers there are;
    `raised` where it is raised to if nothing lies there, None if that is too high.
    """

    segment: int
    section: int
    floor: int
    found: int
    raised: int | None
    slack: int
    choices: int


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
class Search:
    """A search for a plan within `capacity`, in at most so many steps and until so late."""

    puzzle: Puzzle
    strategy: Strategy
    capacity: int
    steps: int
    deadline: float = float("inf")
    taken: int = 0
    alive: list[int] = field(init=False)
    twins: list[int] = field(init=False)
    failures: list[int] = field(init=False)
    seen: set[bytes] = field(factory=set)

    def __attrs_post_init__(self) -> None:
        puzzle = self.puzzle
        self.failures = [0] * len(puzzle.sections.load)
        self.alive = [0] * len(puzzle.sections.load)
        self.twins = []
        same: dict[object, int] = {}
        for bit, parts in enumerate(puzzle.parts):
            key = puzzle.sizes[bit], tuple(parts)
            self.twins.append(same.get(key, 0))
            same[key] = same.get(key, 0) | 1 << bit
            for start, end in parts:
                for section in range(start, end):
                    self.alive[section] |= 1 << bit

    def run(self) -> list[int] | Outcome:
        """Offsets, or why there are none."""
        puzzle = self.puzzle
        offsets = [0] * len(puzzle.order)
        limits = [self.capacity - load for load in puzzle.sections.load]
        if min(limits, default=0) < 0:
            return Outcome.IMPOSSIBLE
        skyline = Skyline.flat(len(limits))
        unplaced = puzzle.everything
        niche, answers = self._question(skyline, limits, unplaced)
        stack = [(skyline, limits, unplaced, niche, answers)]
        while stack:
            skyline, limits, unplaced, niche, answers = stack[-1]
            if not unplaced:
                return offsets
            if not answers:
                stack.pop()
                continue
            self.taken += 1
            if self.taken > self.steps or (
                self.taken % 256 == 0 and time.monotonic() > self.deadline
            ):
                return Outcome.UNDECIDED
            assert niche is not None
            answer = answers.pop()
            skyline = skyline.copy()
            if answer == NOTHING:
                assert niche.raised is not None
                skyline.put(niche.segment, (niche.section, niche.section + 1), niche.raised)
            else:
                limits = self._placed(answer, niche, skyline, limits)
                unplaced ^= 1 << answer
                offsets[puzzle.order[answer]] = niche.floor
            if self._settled(skyline, limits, unplaced) and self._is_new(skyline, unplaced):
                niche, answers = self._question(skyline, limits, unplaced)
                stack.append((skyline, limits, unplaced, niche, answers))
        return Outcome.IMPOSSIBLE

    def _placed(self, bit: int, niche: Niche, skyline: Skyline, limits: list[int]) -> list[int]:
        """Put a buffer on the floor of a niche; the new limits."""
        size, parts = self.puzzle.sizes[bit], self.puzzle.parts[bit]
        limits = limits[:]
        for start, end in parts:
            limits[start:end] = [limit + size for limit in limits[start:end]]
        if len(parts) == 1:
            skyline.put(niche.segment, parts[0], niche.floor + size)
        else:
            skyline.put_all(parts, niche.floor + size)
        return limits

    # -- niches ------------------------------------------------------------------------

    def _niches(self, skyline: Skyline) -> Sequence[int]:
        """The segments lower than their walls; the lowest only, where buffers have gaps."""
        if self.puzzle.gapped:
            return [skyline.lowest()]
        heights = [NO_WALL, *skyline.heights, NO_WALL]
        return [
            segment
            for segment, (left, floor, right) in enumerate(
                zip(heights, heights[1:], heights[2:], strict=False)
            )
            if left > floor < right
        ]

    def _settled(self, skyline: Skyline, limits: list[int], unplaced: int) -> bool:
        """Raise the niches in which nothing fits; whether all that is left still may."""
        changed = bool(unplaced)
        while changed:
            changed = False
            for segment in reversed(self._niches(skyline)):
                if not fitting(self.puzzle, skyline, segment, unplaced):
                    height = next_floor(self.puzzle, skyline, segment, unplaced)
                    start, end = skyline.starts[segment], skyline.starts[segment + 1]
                    least = min(limits[start:end])
                    if height > least:
                        self.failures[limits.index(least, start, end)] += 1
                        return False
                    skyline.fill(segment, height)
                    changed = True
                    break
        return True

    def _question(
        self, skyline: Skyline, limits: list[int], unplaced: int
    ) -> tuple[Niche | None, list[int]]:
        """The section to look at, and the answers, the best last."""
        if not unplaced:
            return None, []
        best: Niche | None = None
        least: tuple[float, ...] = ()
        for segment in self._niches(skyline):
            niche = self._niche(skyline, limits, unplaced, segment)
            if niche.choices == 0:
                self.failures[niche.section] += 1
                return niche, []
            rank = niche.choices > 1, *self.strategy.rule(niche, self.failures[niche.section])
            if best is None or rank < least:
                best, least = niche, rank
        assert best is not None
        answers = [bit for bit in bits(best.found) if not unplaced & self.twins[bit]]
        answers.reverse()
        return best, answers if best.raised is None else [NOTHING, *answers]

    def _niche(self, skyline: Skyline, limits: list[int], unplaced: int, segment: int) -> Niche:
        puzzle, floor = self.puzzle, skyline.heights[segment]
        start, end = skyline.starts[segment], skyline.starts[segment + 1]
        every = fitting(puzzle, skyline, segment, unplaced)
        if self.strategy.follows_best and every:
            for first, last in puzzle.parts[next(bits(every))]:
                if start <= first and last <= end:
                    start, end = first, last
                    break
        limit = min(limits[start:end])
        section = limits.index(limit, start, end)
        found = every & self.alive[section]
        raised = next_floor(puzzle, skyline, segment, unplaced)
        others = every & ~found
        if others:
            raised = min(raised, floor + min(puzzle.sizes[bit] for bit in bits(others)))
        possible = raised <= limit
        return Niche(
            segment,
            section,
            floor,
            found,
            raised if possible else None,
            limit - floor,
            found.bit_count() + possible,
        )

    def _is_new(self, skyline: Skyline, unplaced: int) -> bool:
        """Whether this skyline with these unplaced buffers was not met before."""
        if len(self.seen) >= REMEMBERED:
            return True
        text = array("q", skyline.starts + skyline.heights).tobytes()
        key = blake2b(text + unplaced.to_bytes(len(self.twins) // 8 + 1), digest_size=16).digest()
        if key in self.seen:
            return False
        self.seen.add(key)
        return True
