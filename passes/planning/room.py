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
    limits: Sequence[int],
    unplaced: int,
    part: Interval,
) -> int | None:
    """A section that has too little room since a part of the skyline was raised, or None.

    `limits` is how high each section may be at most, if what is unplaced there is to lie on it.
    """
    for left, right, wall in _basins_beside(skyline, part):
        if wall <= min(limits[left:right]):
            continue
        fitting = unplaced & (puzzle.starting[left] & puzzle.ending[right] | puzzle.with_gaps)
        known, total = 0, 0
        for section in range(left, right):
            if wall <= limits[section]:
                continue
            inside = fitting & puzzle.alive[section]
            total += _size(puzzle, inside & ~known) - _size(puzzle, known & ~inside)
            known = inside
            if wall - total > limits[section]:
                return section
    return None


def _size(puzzle: Puzzle, found: int) -> int:
    """Bytes of some buffers."""
    return sum([puzzle.sizes[bit] for bit in bits(found)])


def _basins_beside(skyline: Skyline, part: Interval) -> Iterator[tuple[int, int, int]]:
    """The basins of which this part is a wall: where each begins and ends, and its lower wall."""
    starts, heights = skyline.starts, skyline.heights
    last = len(heights) - 1
    first = bisect_right(starts, part[0]) - 1
    top, low = heights[first], first
    while low > 0 and heights[low - 1] < top:
        peak = heights[low - 1]
        while low > 0 and heights[low - 1] <= peak:
            low -= 1
        wall = min(heights[low - 1] if low else NO_WALL, top)
        yield starts[low], starts[first], wall
    first = bisect_left(starts, part[1]) - 1
    top, high = heights[first], first
    while high < last and heights[high + 1] < top:
        peak = heights[high + 1]
        while high < last and heights[high + 1] <= peak:
            high += 1
        wall = min(heights[high + 1] if high < last else NO_WALL, top)
        yield starts[first + 1], starts[high + 1], wall
