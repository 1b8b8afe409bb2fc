"""Plans of plain buffers: against brute force, within capacities, and what is refused."""

from __future__ import annotations

import random

import pytest

import passes
from passes import Buffer, PlanError
from passes.planning.buffers import Sections, components
from passes.planning.check import check
from passes.planning.solve import Layout, _Work, smallest, within

Given = tuple[int, int, int]


def as_buffers(given: list[Given]) -> list[Buffer]:
    return [Buffer(((start, end),), size) for start, end, size in given]


def best_of_all(buffers: list[Buffer]) -> int:
    """The smallest arena, by dropping the buffers in every order.

    Any plan is no larger when its buffers fall as far as they can, lowest first.
    """
    together = [
        [
            any(a < d and c < b for a, b in one.lifetime for c, d in other.lifetime)
            for other in buffers
        ]
        for one in buffers
    ]
    best = sum(buffer.size for buffer in buffers)

    def drop(floors: list[int], left: frozenset[int], peak: int) -> None:
        nonlocal best
        if peak >= best:
            return
        if not left:
            best = peak
        for number in left:
            top = floors[number] + buffers[number].size
            higher = [
                max(floor, top) if together[number][other] else floor
                for other, floor in enumerate(floors)
            ]
            drop(higher, left - {number}, max(peak, top))

    drop([0] * len(buffers), frozenset(range(len(buffers))), 0)
    return best


def some_buffers(rng: random.Random, count: int, with_gaps: bool) -> list[Buffer]:
    buffers = []
    for _ in range(count):
        moments = sorted(rng.sample(range(10), 4 if with_gaps and rng.random() < 0.5 else 2))
        lifetime = tuple(zip(moments[::2], moments[1::2], strict=True))
        buffers.append(Buffer(lifetime, rng.randint(1, 6)))
    return buffers


def hard_buffers(seed: int) -> list[Buffer]:
    rng = random.Random(seed)
    return [
        Buffer(((start, start + rng.randint(1, 20)),), rng.randint(1, 50))
        for start in (rng.randrange(40) for _ in range(60))
    ]


def guillotine(rng: random.Random, width: int, height: int, pieces: int) -> list[Given]:
    """A rectangle cut up: buffers that fill an arena of `height` without a byte to spare."""
    found = [(0, width, 0, height)]
    while len(found) < pieces:
        left, right, low, high = found.pop(rng.randrange(len(found)))
        if rng.random() < 0.5 and right - left > 1:
            cut = rng.randint(left + 1, right - 1)
            found += [(left, cut, low, high), (cut, right, low, high)]
        elif high - low > 1:
            cut = rng.randint(low + 1, high - 1)
            found += [(left, right, low, cut), (left, right, cut, high)]
        else:
            found.append((left, right, low, high))
    return [(left, right, high - low) for left, right, low, high in found]


def training_step(seed: int) -> list[Buffer]:
    """Activations, which the backward pass frees in turn, as gradients take their room to the end;
    and what lives for a few moments."""
    rng = random.Random(seed)
    small = rng.randint(20, 200)
    weight = rng.randint(small // 2, 2 * small)
    given, kept = [], []
    for now, size in enumerate((small, 1, small, 4 * small, 4 * small, small) * 30):
        if rng.random() < 0.7:
            kept.append((now, size))
        else:
            given.append((now, now + 2, size))
    end = 1000
    for now, (start, size) in enumerate(reversed(kept), 200):
        given.append((start, now + 1, size))
        given.append((now, now + rng.randint(2, 4), max(size, small)))
        if rng.random() < 0.5:
            given.append((now, end, rng.choice((1, weight, weight, 4 * weight))))
    return as_buffers(given)


@pytest.mark.parametrize("with_gaps", [False, True])
def test_the_smallest_is_the_smallest_of_all(with_gaps: bool) -> None:
    """Both a plan of that size is found and a smaller one is proved not to be."""
    rng = random.Random(4)
    above = 0
    for _ in range(300):
        buffers = some_buffers(rng, rng.randint(2, 7), with_gaps)
        truth = best_of_all(buffers)
        layout = smallest(buffers)
        assert (layout.size, layout.is_optimal) == (truth, True)
        assert within(buffers, truth).size <= truth
        if truth > 1:
            with pytest.raises(PlanError, match="no plan fits"):
                within(buffers, truth - 1)
        above += truth > Sections.of(buffers).lower_bound
    assert not with_gaps or above > 10, "no instance needed a search for its proof"


def test_what_is_quick_reaches_the_bound_on_training_steps() -> None:
    for seed in range(50):
        assert smallest(training_step(seed), is_quick=True).is_optimal, seed


def test_what_is_quick_looks_at_no_clock() -> None:
    buffers = training_step(33)
    layout = smallest(buffers, is_quick=True)
    assert smallest(buffers, time_limit=0, is_quick=True) == layout
    assert smallest(buffers, time_limit=0).size > layout.size, "no search was needed"


def test_all_begin_with_what_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(*_: object) -> None:
        raise AssertionError("strategies took turns")

    monkeypatch.setattr(_Work, "search", search)
    buffers = training_step(33)
    assert smallest(buffers).is_optimal
    assert within(buffers, Sections.of(buffers).lower_bound).is_optimal


@pytest.mark.parametrize("pieces", [10, 30, 60])
def test_rectangles_cut_up_are_put_together(pieces: int) -> None:
    rng = random.Random(pieces)
    for _ in range(20):
        given = guillotine(rng, 40, 1000, pieces)
        offsets = passes.plan_buffers(given, capacity=1000)
        check(as_buffers(given), offsets, 1000)


def test_offsets_are_in_the_order_of_the_buffers() -> None:
    assert passes.plan_buffers([(0, 2, 10), (1, 3, 5), (2, 4, 10)], capacity=15) in (
        [0, 10, 0],
        [5, 0, 5],
    )


def test_a_gap_is_used() -> None:
    kept = Buffer(((0, 2), (4, 6)), 8)
    assert passes.plan_buffers([kept, (2, 4, 8)], capacity=8) == [0, 0]
    with pytest.raises(PlanError):
        passes.plan_buffers([(0, 6, 8), (2, 4, 8)], capacity=8)


def test_an_end_is_exclusive() -> None:
    assert passes.plan_buffers([(0, 1, 4), (1, 2, 4)]) == [0, 0]
    assert sorted(passes.plan_buffers([(0, 2, 4), (1, 2, 4)])) == [0, 4]


def test_offsets_are_aligned() -> None:
    offsets = passes.plan_buffers([(0, 2, 5), (0, 2, 5), (0, 2, 5)], alignment=64)
    assert sorted(offsets) == [0, 64, 128]


def test_nothing_needs_nothing() -> None:
    assert passes.plan_buffers([]) == []
    assert passes.plan_buffers([], capacity=1) == []


def test_parts_that_nothing_connects_are_apart() -> None:
    assert components(as_buffers([(0, 2, 1), (5, 6, 1), (1, 3, 1), (3, 5, 1)])) == [
        [0, 2],
        [3],
        [1],
    ]


def test_progress_gets_better() -> None:
    rng = random.Random(1)
    seen: list[Layout] = []
    passes.plan_buffers(guillotine(rng, 30, 500, 60), time_limit=5, progress=seen.append)
    assert seen
    assert [layout.size for layout in seen] == sorted((s.size for s in seen), reverse=True)
    assert seen[-1].is_optimal
    assert seen[-1].gap == 0


def test_plans_are_the_same_every_time() -> None:
    given = guillotine(random.Random(3), 40, 1000, 50)
    assert passes.plan_buffers(given) == passes.plan_buffers(given)


class TestWhatCannotBe:
    """Each says what, where, and what to do instead."""

    def test_too_many_alive_together_is_the_proof(self) -> None:
        with pytest.raises(PlanError, match=r"no plan fits in 9 bytes: 10 .* 2 buffers: 1, 2$"):
            passes.plan_buffers([(0, 1, 8), (1, 3, 4), (2, 4, 6)], capacity=9)

    def test_a_proof_by_search_says_so(self) -> None:
        rng = random.Random(4)
        buffers = some_buffers(rng, 6, True)
        while smallest(buffers).size == Sections.of(buffers).lower_bound:
            buffers = some_buffers(rng, 6, True)
        with pytest.raises(PlanError, match="all ways to arrange"):
            passes.plan_buffers(buffers, capacity=Sections.of(buffers).lower_bound)

    def test_no_time_is_no_proof(self) -> None:
        hard = next(
            buffers
            for seed in range(1000)
            if not smallest(buffers := hard_buffers(seed), time_limit=0).is_optimal
        )
        with pytest.raises(PlanError, match="nor a proof"):
            within(hard, Sections.of(hard).lower_bound, time_limit=0)

    @pytest.mark.parametrize("capacity", [0, -1, 1.5, "8", True, 1 << 70])
    def test_capacities_that_are_nonsense(self, capacity: int) -> None:
        with pytest.raises(PlanError, match="the capacity is"):
            passes.plan_buffers([(0, 1, 1)], capacity=capacity)

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ((0, 0, 4), "ends at 0"),
            ((2, 1, 4), "ends at 1"),
            ((0, 1, 0), "size 0"),
            ((0, 1, -4), "size -4"),
            ((0, 1, None), "size None"),
            ((0, 1), "give"),
            ((0.0, 1, 4), "give integers"),
            (Buffer((), 4), "no lifetime"),
            (Buffer((0, 2), 4), r"lifetime \(0, 2\): give intervals"),  # type: ignore[arg-type]
            (Buffer(((0, 1, 2),), 4), "give intervals"),  # type: ignore[arg-type]
            (Buffer(None, 4), "lifetime None"),  # type: ignore[arg-type]
            (Buffer(((0, 2), (1, 3)), 4), "not in order"),
            ((0, 1, 1 << 70), "64 bits"),
        ],
    )
    def test_buffers_that_are_nonsense(self, given: object, told: str) -> None:
        with pytest.raises(PlanError, match=told):
            passes.plan_buffers([given])

    def test_alignment_and_time_that_are_nonsense(self) -> None:
        with pytest.raises(PlanError, match="alignment"):
            passes.plan_buffers([(0, 1, 1)], alignment=0)
        for limit in (-1, "5", True, float("nan")):
            with pytest.raises(PlanError, match="time limit"):
                passes.plan_buffers([(0, 1, 1)], time_limit=limit)  # type: ignore[arg-type]


class TestTheChecker:
    """It accepts plans and nothing else."""

    BUFFERS = as_buffers([(0, 4, 4), (1, 3, 4), (3, 5, 4)])

    def test_a_plan(self) -> None:
        check(self.BUFFERS, [0, 4, 4], 8)

    @pytest.mark.parametrize("offsets", [[0, 3, 4], [0, 4, 3], [0, 4, 0], [2, 4, 8], [0, 0, 4]])
    def test_an_overlap(self, offsets: list[int]) -> None:
        with pytest.raises(PlanError, match="overlap"):
            check(self.BUFFERS, offsets, 12)

    def test_outside_of_the_arena(self) -> None:
        with pytest.raises(PlanError, match="arena of 7"):
            check(self.BUFFERS, [0, 4, 4], 7)
        with pytest.raises(PlanError, match="arena"):
            check(self.BUFFERS, [-1, 4, 4], 8)

    def test_alignment(self) -> None:
        with pytest.raises(PlanError, match="multiple of 8"):
            check(self.BUFFERS, [0, 4, 4], 8, 8)

    def test_a_gap_is_free(self) -> None:
        check([Buffer(((0, 1), (2, 3)), 4), Buffer(((1, 2),), 4)], [0, 0], 4)
        with pytest.raises(PlanError, match="overlap"):
            check([Buffer(((0, 1), (2, 3)), 4), Buffer(((1, 3),), 4)], [0, 0], 4)
