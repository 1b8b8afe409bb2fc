"""Whether a partial plan leaves room for what sticks out of its basins.

A *basin* is a stretch of the skyline below walls on both sides; basins lie in basins.  Of the
unplaced buffers that are alive in a section of it, those that do not fit between its walls lie
above the lower one.  So that wall, and they, have to be within the capacity.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from passes.planning.buffers import Interval
from passes.planning.skyline import NO_WALL, Puzzle, Skyline, bits


def lacks_room(
    puzzle: Puzzle,
    skyline: Skyline,
    slack: Sequence[int],
    unplaced: int,
    part: Interval,
) -> int | None:
    """A section that has too little room since a part of the skyline was raised, or None.

    `slack` is how many bytes of each section may still be left empty.
    """
    starts, heights = skyline.starts, skyline.heights
    for first, last, wall in _basins_beside(skyline, part):
        fitting: int | None = None
        for segment in range(first, last):
            depth = wall - heights[segment]
            left, right = starts[segment], starts[segment + 1]
            if depth <= min(slack[left:right]):
                continue
            if fitting is None:
                around = puzzle.starting[starts[first]] & puzzle.ending[starts[last]]
                fitting = unplaced & (around | puzzle.with_gaps)
            full = _not_covered(puzzle, slack, fitting, (left, right), depth)
            if full is not None:
                return full
    return None


def _not_covered(
    puzzle: Puzzle, slack: Sequence[int], fitting: int, part: Interval, depth: int
) -> int | None:
    """A section where all that fits, and the slack, do not fill so many bytes; None if none."""
    counted, total = 0, 0  # some that are alive in the section: no more than are needed
    first, end = part
    for section in [s for s, free in enumerate(slack[first:end], first) if free < depth]:
        needed = depth - slack[section]
        inside = fitting & puzzle.alive[section]
        if gone := counted & ~inside:
            total -= sum([puzzle.sizes[bit] for bit in bits(gone)])
            counted ^= gone
        if total >= needed:
            continue
        for bit in bits(inside & ~counted):
            total += puzzle.sizes[bit]
            counted |= 1 << bit
            if total >= needed:
                break
        else:
            return section
    return None


def _basins_beside(skyline: Skyline, part: Interval) -> Iterator[tuple[int, int, int]]:
    """The basins of which this part is a wall: the first segment of each, the first after it, and
    its lower wall."""
    starts, heights = skyline.starts, skyline.heights
    last = len(heights) - 1
    first = bisect_right(starts, part[0]) - 1
    top, low = heights[first], first
    while low > 0 and heights[low - 1] < top:
        peak = heights[low - 1]
        while low > 0 and heights[low - 1] <= peak:
            low -= 1
        wall = min(heights[low - 1] if low else NO_WALL, top)
        yield low, first, wall
    first = bisect_left(starts, part[1]) - 1
    top, high = heights[first], first
    while high < last and heights[high + 1] < top:
        peak = heights[high + 1]
        while high < last and heights[high + 1] <= peak:
            high += 1
        wall = min(heights[high + 1] if high < last else NO_WALL, top)
        yield first + 1, high + 1, wall
