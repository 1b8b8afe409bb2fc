"""Random plans with no room to spare, against a reference solver (OR-tools' CP-SAT).

    python -m bench.tight [INSTANCES] [SECONDS]

Three kinds in turn: a rectangle of time and bytes cut into pieces, so that a plan without a gap
exists; buffers that fill every moment up to the capacity, for which there may be a plan or not;
random buffers, with the lower bound as the capacity.  Both solvers get SECONDS (default 5) and
one core.  What they find must agree wherever both finish, and our plans are checked here.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from random import Random

from attrs import define, field
from ortools.sat.python import cp_model

from passes import PlanError, plan_buffers

Given = tuple[int, int, int]


def cut(random: Random, pieces: int, duration: int, capacity: int) -> list[Given]:
    """A rectangle cut into buffers: any one in two, or the largest into a pinwheel of five."""
    whole = [(0, duration, 0, capacity)]
    while len(whole) < pieces:
        big = max(range(len(whole)), key=lambda n: _area(whole[n]))
        number = big if random.random() < 0.3 else random.randrange(len(whole))
        start, end, low, high = whole[number]
        if end - start >= 3 and high - low >= 3 and random.random() < 0.3:
            a, b = sorted(random.sample(range(start + 1, end), 2))
            c, d = sorted(random.sample(range(low + 1, high), 2))
            whole[number : number + 1] = [
                (start, b, low, c), (b, end, low, d), (a, end, d, high), (start, a, c, high),
                (a, b, c, d),
            ]  # fmt: skip
        elif random.random() < 0.5 and end - start >= 2:
            at = random.randrange(start + 1, end)
            whole[number : number + 1] = [(start, at, low, high), (at, end, low, high)]
        elif high - low >= 2:
            at = random.randrange(low + 1, high)
            whole[number : number + 1] = [(start, end, low, at), (start, end, at, high)]
        elif _area(whole[big]) < 4:
            break
    given = [(start, end, high - low) for start, end, low, high in whole]
    random.shuffle(given)
    return given


def _area(piece: tuple[int, int, int, int]) -> int:
    start, end, low, high = piece
    return (end - start) * (high - low)


def fill(random: Random, duration: int, capacity: int) -> list[Given]:
    """Buffers that are, at any moment, `capacity` bytes together."""
    left = [capacity] * duration
    given = []
    while any(left):
        moment = random.choice([number for number, room in enumerate(left) if room])
        start, end = moment, moment + 1
        while start > 0 and left[start - 1] and random.random() < 0.6:
            start -= 1
        while end < duration and left[end] and random.random() < 0.6:
            end += 1
        room = min(left[start:end])
        size = room if room < capacity / 8 else random.randint(1, room)
        left[start:end] = [before - size for before in left[start:end]]
        given.append((start, end, size))
    return given


def scatter(random: Random, count: int, duration: int, largest: int) -> list[Given]:
    """Buffers of any lifetime and size."""
    given = []
    for _ in range(count):
        start = random.randrange(duration - 1)
        end = random.randrange(start + 1, min(duration, start + 1 + duration // 2) + 1)
        given.append((start, end, random.randint(1, largest)))
    return given


def load(given: list[Given]) -> int:
    """The most bytes alive together."""
    return max(sum(s for a, b, s in given if a <= start < b) for start, _, _ in given)


def ours(given: list[Given], capacity: int, seconds: float) -> bool | None:
    """Whether there is a plan; None: not known in time."""
    try:
        offsets = plan_buffers(given, capacity=capacity, time_limit=seconds)
    except PlanError as error:
        return None if "nor a proof" in str(error) else False
    placed = list(zip(given, offsets, strict=True))
    for number, ((start, end, size), low) in enumerate(placed):
        assert 0 <= low <= capacity - size
        for (other_start, other_end, other_size), other in placed[:number]:
            apart = end <= other_start or other_end <= start
            assert apart or low + size <= other or other + other_size <= low
    return True


def theirs(given: list[Given], capacity: int, seconds: float) -> bool | None:
    """The same by CP-SAT."""
    model = cp_model.CpModel()
    lifetimes, extents = [], []
    for number, (start, end, size) in enumerate(given):
        low = model.new_int_var(0, capacity - size, f"low{number}")
        lifetimes.append(model.new_fixed_size_interval_var(start, end - start, f"time{number}"))
        extents.append(model.new_fixed_size_interval_var(low, size, f"bytes{number}"))
    model.add_no_overlap_2d(lifetimes, extents)
    model.add_cumulative(lifetimes, [size for _, _, size in given], capacity)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 1
    found = solver.solve(model)
    if found in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return True
    return False if found == cp_model.INFEASIBLE else None


@define
class Tally:
    """What came of some instances, and the seconds each took."""

    answers: Counter[tuple[bool | None, bool | None]] = field(factory=Counter)
    seconds: list[tuple[float, float]] = field(factory=list)

    def __str__(self) -> str:
        both = self.answers[True, True], self.answers[False, False]
        unfinished = [sum(n for a, n in self.answers.items() if a[who] is None) for who in (0, 1)]
        median = [statistics.median(s[who] for s in self.seconds) * 1000 for who in (0, 1)]
        return (
            f"{len(self.seconds):6} {both[0]:8} {both[1]:10} {unfinished[0]:10} {unfinished[1]:8}"
            f" {median[0]:9.1f} {median[1]:9.1f}"
        )


def main(arguments: list[str]) -> None:
    count = int(arguments[0]) if arguments else 150
    limit = float(arguments[1]) if len(arguments) > 1 else 5.0
    random = Random(0)
    tallies = {"cut": Tally(), "filled": Tally(), "random": Tally()}
    for number in range(count):
        kind = list(tallies)[number % 3]
        if kind == "random":
            given = scatter(random, random.randint(6, 40), random.randint(6, 40), 50)
        elif kind == "filled":
            given = fill(random, random.randint(3, 12), random.randint(10, 100))
        else:
            height = random.randint(20, 400)
            given = cut(random, random.randint(8, 60), random.randint(10, 60), height)
        capacity = load(given)
        start = time.process_time()
        mine = ours(given, capacity, limit)
        middle = time.process_time()
        reference = theirs(given, capacity, limit)
        end = time.process_time()
        if {mine, reference} == {True, False} or (kind == "cut" and mine is False):
            raise SystemExit(f"ours {mine}, reference {reference}: {capacity=} {given=}")
        tallies[kind].answers[mine, reference] += 1
        tallies[kind].seconds.append((middle - start, end - middle))
        if number % 100 == 99:
            print(f"{number + 1} of {count}", file=sys.stderr, flush=True)
    print("                   both say        not in time     median CPU ms")
    print("instances      a plan    no plan     ours  reference    ours  reference")
    for kind, tally in tallies.items():
        print(f"{kind:8}{tally}")


if __name__ == "__main__":
    main(sys.argv[1:])
