"""Parts of the planner, each by itself: room above basins, sets of buffers, conflicts."""

from __future__ import annotations

import random
import re

import pytest

import passes
from passes.planning.buffers import Buffer, Sections
from passes.planning.conflict import Conflict
from passes.planning.room import lacks_room
from passes.planning.skyline import Puzzle, Skyline
from passes.planning.strategies import by_area
from tests.passes.test_plan_buffers import best_of_all, some_buffers

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
    slack = [capacity - load for load in sections.load]
    return lacks_room(puzzle, Skyline([*range(len(heights) + 1)], heights), slack, unplaced, (0, 1))


@pytest.mark.parametrize("size", [1, 3])
def test_what_lies_between_the_walls_needs_no_room_above(size: int) -> None:
    between = Buffer(((1, 2),), size)
    assert full_section(between, capacity=6) is None
    assert full_section(between, capacity=5) == 1


def test_what_sticks_out_lies_on_the_lower_wall() -> None:
    wide = Buffer(((1, 3),), 3)
    assert full_section(wide, capacity=8) == 1
    assert full_section(wide, capacity=9) is None


def test_of_two_walls_the_lower_one_counts() -> None:
    """The buffer that sticks out to the left lies on 4, whatever was raised on the right."""
    buffers = [LEFT, BELOW, Buffer(((2, 3),), 6), Buffer(((0, 2),), 2)]
    puzzle = Puzzle(buffers, Sections.of(buffers), by_area)
    unplaced = 1 << puzzle.order.index(3)
    skyline = Skyline([0, 1, 2, 3], [4, 1, 6])
    assert lacks_room(puzzle, skyline, [0, 3, 0], unplaced, (2, 3)) is None
    assert lacks_room(puzzle, skyline, [0, 2, 0], unplaced, (2, 3)) == 1


def test_a_buffer_with_a_gap_may_be_between_the_walls() -> None:
    """Where it lies is not looked at, so it does not count as sticking out."""
    assert full_section(Buffer(((1, 2), (4, 5)), 3), capacity=6) is None


def test_sections_that_are_nearly_full_weigh_the_most() -> None:
    """A per cent of the bound that is free halves the weight; ranges add up."""
    sections = Sections([], [100, 99, 98, 50])
    full, nearly, less, half = (sections.fullness([(s, s + 1)]) for s in range(4))
    assert full == 1 << 32
    assert 1.8 < full / nearly < 2 < full / less < 4
    assert half == 0
    assert sections.fullness([(0, 2), (3, 4)]) == full + nearly
    assert [sections.largest_load([part]) for part in ((0, 4), (1, 3), (3, 4))] == [100, 99, 50]


def test_sets_of_a_puzzle() -> None:
    buffers = [Buffer(((0, 2),), 5), Buffer(((1, 3), (4, 6)), 9), Buffer(((2, 6),), 2)]
    puzzle = Puzzle(buffers, Sections.of(buffers), by_area)
    assert [sorted(puzzle.order[bit] for bit in range(3) if found >> bit & 1) for found in
            puzzle.alive] == [[0, 1], [1, 2], [1, 2]]  # fmt: skip
    assert puzzle.least_size(puzzle.everything) == 2
    assert puzzle.least_size(puzzle.with_gaps) == 9


def conflicting(count: int) -> list[list[Buffer]]:
    """Instances of which no plan is as small as what is alive together."""
    rng = random.Random(11)
    found: list[list[Buffer]] = []
    while len(found) < count:
        buffers = some_buffers(rng, 7, True)
        if best_of_all(buffers) > Sections.of(buffers).lower_bound:
            found.append(buffers)
    return found


@pytest.mark.parametrize("buffers", conflicting(8))
def test_a_minimal_conflict_is_one_and_no_part_of_it_is(buffers: list[Buffer]) -> None:
    capacity = Sections.of(buffers).lower_bound
    conflict = Conflict(buffers, [*range(len(buffers))], capacity, 10_000, float("inf"))
    assert conflict.is_minimal
    named = [buffers[number] for number in conflict.numbers]
    assert best_of_all(named) > capacity
    for left_out in range(len(named)):
        assert best_of_all(named[:left_out] + named[left_out + 1 :]) <= capacity


def test_without_steps_nothing_is_left_out_nor_said_of_it() -> None:
    [buffers] = conflicting(1)
    capacity = Sections.of(buffers).lower_bound
    conflict = Conflict(buffers, [*range(len(buffers))], capacity, -1, float("inf"))
    assert not conflict.is_minimal
    assert conflict.numbers == [*range(len(buffers))]


def test_what_has_no_part_in_a_conflict_is_not_named() -> None:
    [buffers] = conflicting(1)
    capacity = Sections.of(buffers).lower_bound
    other = Buffer(((50, 60),), 1)
    with pytest.raises(passes.PlanError, match="without any one of these") as raised:
        passes.plan_buffers([other, *buffers, other], capacity=capacity)
    named = re.search(r"buffers, ([\d, ]+), were tried", str(raised.value))
    assert named
    numbers = {int(number) for number in named[1].split(", ")}
    assert numbers <= {*range(1, len(buffers) + 1)}
    assert best_of_all([buffers[number - 1] for number in numbers]) > capacity
