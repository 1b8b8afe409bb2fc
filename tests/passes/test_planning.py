"""Parts of the planner, each by itself: room above basins, sets of buffers."""

from __future__ import annotations

import pytest

from passes.planning.buffers import Buffer, Sections
from passes.planning.room import lacks_room
from passes.planning.skyline import Puzzle, Skyline
from passes.planning.strategies import by_area

LEFT, BELOW, RIGHT = Buffer(((0, 1),), 4), Buffer(((1, 2),), 1), Buffer(((2, 3),), 4)
"""Placed: a floor of 1 between walls of 4."""

OVER = Buffer(((0, 3),), 2)
"""Not placed, and in no case between the walls."""


def full_section(other: Buffer, capacity: int) -> int | None:
    """What lacks room for OVER and another buffer once the walls are there."""
    buffers = [LEFT, BELOW, RIGHT, OVER, other]
    sections = Sections.of(buffers)
    puzzle = Puzzle(buffers, sections, by_area)
    unplaced = sum(1 << bit for bit, number in enumerate(puzzle.order) if number >= 3)
    heights = [4, 1, 4] + [0] * (len(sections.load) - 3)
    limits = [capacity - load + height for load, height in zip(sections.load, heights, strict=True)]
    return lacks_room(
        puzzle, Skyline([*range(len(heights) + 1)], heights), limits, unplaced, (0, 1)
    )


@pytest.mark.parametrize("size", [1, 3])
def test_what_lies_between_the_walls_needs_no_room_above(size: int) -> None:
    between = Buffer(((1, 2),), size)
    assert full_section(between, capacity=6) is None
    assert full_section(between, capacity=5) == 1


def test_what_sticks_out_lies_on_the_lower_wall() -> None:
    wide = Buffer(((1, 3),), 3)
    assert full_section(wide, capacity=8) == 1
    assert full_section(wide, capacity=9) is None


def test_a_buffer_with_a_gap_may_be_between_the_walls() -> None:
    """Where it lies is not looked at, so it does not count as sticking out."""
    assert full_section(Buffer(((1, 2), (4, 5)), 3), capacity=6) is None


def test_sets_of_a_puzzle() -> None:
    buffers = [Buffer(((0, 2),), 5), Buffer(((1, 3), (4, 6)), 9), Buffer(((2, 6),), 2)]
    puzzle = Puzzle(buffers, Sections.of(buffers), by_area)
    assert [sorted(puzzle.order[bit] for bit in range(3) if found >> bit & 1) for found in
            puzzle.alive] == [[0, 1], [1, 2], [1, 2]]  # fmt: skip
    assert puzzle.least_size(puzzle.everything) == 2
    assert puzzle.least_size(puzzle.with_gaps) == 9
