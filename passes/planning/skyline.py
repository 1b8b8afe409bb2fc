"""A partial plan, as the heights that its buffers reach over time.

Plans are built from the bottom up: each buffer lies on the skyline of those below it.  What
the skyline leaves empty underneath stays empty, so a *segment* of sections with one height
that is lower than both neighbours is a *niche*: a buffer that is to lie on its floor fits
between its walls.  Nothing else can, so niches are independent of each other.

Sets of buffers are ints, a bit for each, in the order in which a `Puzzle` prefers them: the
lowest bit is the best.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from operator import or_

from attrs import define, field

from passes.planning.buffers import Buffer, Interval, Sections

NO_WALL = 1 << 63
"""The height of the walls at both ends of time."""

Preference = Callable[[Buffer, Sequence[Interval], Sections], tuple[int, ...]]
"""Of a buffer, where it is alive, and all sections: buffers with more come first."""


@define(eq=False)
class Puzzle:
    """Buffers in an order of preference, with sets of them by section.

    `order[bit]` is the buffer's number; `starting[s]` those that start in section `s` or
    later, `ending[s]` those that end before `s`, of the buffers without gaps; `gapped` are the
    others, as bits, and `with_gaps` as a set.
    """

    buffers: Sequence[Buffer]
    sections: Sections
    prefer: Preference
    order: list[int] = field(init=False)
    parts: list[list[Interval]] = field(init=False)
    sizes: list[int] = field(init=False)
    starting: list[int] = field(init=False)
    ending: list[int] = field(init=False)
    gapped: list[int] = field(init=False)
    with_gaps: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        parts = self.sections.parts
        keys = [
            self.prefer(buffer, own, self.sections)
            for buffer, own in zip(self.buffers, parts, strict=True)
        ]
        self.order = sorted(range(len(keys)), key=keys.__getitem__, reverse=True)
        self.parts = [parts[number] for number in self.order]
        self.sizes = [self.buffers[number].size for number in self.order]
        self.gapped = [bit for bit, own in enumerate(self.parts) if len(own) > 1]
        self.with_gaps = sum(1 << bit for bit in self.gapped)
        count = len(self.sections.load) + 1
        self.starting, self.ending = [0] * count, [0] * count
        for bit, own in enumerate(self.parts):
            if len(own) == 1:
                self.starting[own[0][0]] |= 1 << bit
                self.ending[own[0][1]] |= 1 << bit
        for section in range(count - 2, -1, -1):
            self.starting[section] |= self.starting[section + 1]
        for section in range(1, count):
            self.ending[section] |= self.ending[section - 1]

    @property
    def everything(self) -> int:
        """The set of all buffers."""
        return (1 << len(self.order)) - 1

    @cached_property
    def alive(self) -> list[int]:
        """All that are alive in each section."""
        whole = self.everything ^ self.with_gaps
        found = [
            whole & ~(later | gone)
            for later, gone in zip(self.starting[1:], self.ending, strict=False)
        ]
        for bit in self.gapped:
            for start, end in self.parts[bit]:
                for section in range(start, end):
                    found[section] |= 1 << bit
        return found

    @cached_property
    def up_to_size(self) -> list[tuple[int, int]]:
        """Each size there is, and the set of the buffers that are no larger."""
        groups: dict[int, int] = {}
        for bit, size in enumerate(self.sizes):
            groups[size] = groups.get(size, 0) | 1 << bit
        ordered = sorted(groups)
        sets = accumulate((groups[size] for size in ordered), or_)
        return list(zip(ordered, sets, strict=True))

    def least_size(self, found: int) -> int:
        """The size of the smallest of some buffers."""
        low, high = 0, len(self.up_to_size) - 1
        while low < high:
            middle = (low + high) // 2
            if found & self.up_to_size[middle][1]:
                high = middle
            else:
                low = middle + 1
        return self.up_to_size[low][0]


def bits(found: int) -> Iterator[int]:
    """The bits of a set, best first."""
    while found:
        lowest = found & -found
        yield lowest.bit_length() - 1
        found ^= lowest


@define(eq=False)
class Skyline:
    """Segments from left to right: `starts[k]` to `starts[k + 1]` has the height `heights[k]`."""

    starts: list[int]
    heights: list[int]

    @classmethod
    def flat(cls, sections: int) -> Skyline:
        """Nothing is placed yet."""
        return cls([0, sections], [0])

    def copy(self) -> Skyline:
        return Skyline(self.starts[:], self.heights[:])

    def walls(self, segment: int) -> tuple[int, int]:
        """The heights left and right of a segment."""
        heights = self.heights
        left = heights[segment - 1] if segment else NO_WALL
        return left, heights[segment + 1] if segment + 1 < len(heights) else NO_WALL

    def niches(self, first: int, last: int) -> list[int]:
        """Those of a few segments that are lower than both neighbours."""
        heights, end = self.heights, len(self.heights)
        found = []
        before = heights[first - 1] if first else NO_WALL
        for segment in range(first, last):
            floor = heights[segment]
            if before > floor and (segment + 1 == end or heights[segment + 1] > floor):
                found.append(segment)
            before = floor
        return found

    def lowest(self) -> int:
        """The leftmost of the lowest niches."""
        return self.heights.index(min(self.heights))

    def over(self, parts: Sequence[Interval]) -> int:
        """The height on which a buffer with these parts would lie."""
        height = 0
        for start, end in parts:
            segment = bisect_right(self.starts, start) - 1
            while segment < len(self.heights) and self.starts[segment] < end:
                height = max(height, self.heights[segment])
                segment += 1
        return height

    def put(self, segment: int, part: Interval, height: int) -> None:
        """Raise a part of a segment, and join neighbours of that height."""
        start, end = part
        left, right, floor = self.starts[segment], self.starts[segment + 1], self.heights[segment]
        if end < right:
            self.starts.insert(segment + 1, end)
            self.heights.insert(segment + 1, floor)
        if left < start:
            segment += 1
            self.starts.insert(segment, start)
            self.heights.insert(segment, floor)
        self.fill(segment, height)

    def put_all(self, parts: Sequence[Interval], height: int) -> None:
        """Raise several parts, each of one segment."""
        for part in parts:
            self.put(bisect_right(self.starts, part[0]) - 1, part, height)

    def join(self, segment: int) -> None:
        """Make a segment and its right neighbour one."""
        del self.starts[segment + 1], self.heights[segment + 1]

    def fill(self, segment: int, height: int) -> int:
        """Raise a whole segment, and join neighbours of that height; which one it is now."""
        left, right = self.walls(segment)
        self.heights[segment] = height
        if right == height:
            self.join(segment)
        if left == height:
            segment -= 1
            self.join(segment)
        return segment


def fitting(puzzle: Puzzle, skyline: Skyline, segment: int, unplaced: int) -> int:
    """The unplaced buffers that can lie on the floor of a niche.

    Of those with gaps, only if the niche is among the lowest.
    """
    left, right = skyline.starts[segment], skyline.starts[segment + 1]
    found = unplaced & puzzle.starting[left] & puzzle.ending[right]
    for bit in _gapped_inside(puzzle, left, right, unplaced):
        if skyline.over(puzzle.parts[bit]) == skyline.heights[segment]:
            found |= 1 << bit
    return found


def next_floor(puzzle: Puzzle, skyline: Skyline, segment: int, unplaced: int) -> int:
    """The lowest height at which something can be in a niche, if not on its floor."""
    lowest = min(skyline.walls(segment))
    left, right = skyline.starts[segment], skyline.starts[segment + 1]
    for bit in _gapped_inside(puzzle, left, right, unplaced):
        height = skyline.over(puzzle.parts[bit])
        if skyline.heights[segment] < height < lowest:
            lowest = height
    return lowest


def _gapped_inside(puzzle: Puzzle, left: int, right: int, unplaced: int) -> Sequence[int]:
    """The unplaced buffers with gaps of which a part is between two walls, and none across."""
    if not puzzle.gapped:
        return ()
    found = unplaced & puzzle.with_gaps
    for wall in (left, right):
        if 0 < wall < len(puzzle.alive):
            found &= ~(puzzle.alive[wall - 1] & puzzle.alive[wall])
    parts = puzzle.parts
    return [bit for bit in bits(found) if any(left <= start < right for start, _ in parts[bit])]
