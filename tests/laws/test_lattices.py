"""Every lattice of the library obeys the laws, and `check_lattice` catches those that do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow import (
    BOTTOM,
    TOP,
    Bits,
    Chain,
    Dual,
    Flat,
    Interval,
    Lattice,
    LatticeError,
    LawBroken,
    Lifted,
    MapOf,
    Powerset,
    Product,
    check_lattice,
)

INFINITY = float("inf")
LETTERS = frozenset("abcd")
V = TypeVar("V")


@frozen
class Specimen(Generic[V]):
    """A lattice, the values it is tried on, and how often widening may move a fact."""

    name: str
    lattice: Lattice[V]
    values: st.SearchStrategy[V]
    steps: int

    def __str__(self) -> str:
        return self.name


def powersets(universe: frozenset[str] | None = None) -> Specimen[frozenset[str]]:
    lattice = Powerset(universe)
    return Specimen("Powerset", lattice, st.frozensets(st.sampled_from(sorted(LETTERS))), 4)


def intervals(*thresholds: int) -> Specimen[Any]:
    bounds = st.integers(-40, 40)
    values = st.one_of(
        st.just(BOTTOM),
        st.builds(Interval.of, bounds, bounds),
        st.builds(Interval.of, st.just(-INFINITY), bounds),
        st.builds(Interval.of, bounds, st.just(INFINITY)),
        st.just((-INFINITY, INFINITY)),
    )
    steps = 1 + 2 * (len(thresholds) + 1)  # out of bottom, then each bound past each threshold
    return Specimen(f"Interval{thresholds}", Interval(thresholds), values, steps)


def flats() -> Specimen[Any]:
    constants = [0, 1, 2, 0.0, 1.0, True, False, "a", None]
    return Specimen("Flat", Flat(), st.sampled_from([BOTTOM, TOP, *constants]), 2)


def lifted(inner: Specimen[Any]) -> Specimen[Any]:
    lattice: Lifted[Any] = Lifted(inner.lattice)
    values = st.one_of(st.just(lattice.bottom), inner.values)
    return Specimen(f"Lifted({inner})", lattice, values, inner.steps + 1)


def dual(inner: Specimen[V], steps: int) -> Specimen[V]:
    return Specimen(f"Dual({inner})", Dual(inner.lattice), inner.values, steps)


def pairs(first: Specimen[Any], second: Specimen[Any]) -> Specimen[tuple[Any, Any]]:
    return Specimen(
        f"Product({first}, {second})",
        Product(first.lattice, second.lattice),
        st.tuples(first.values, second.values),
        first.steps + second.steps,
    )


def maps(inner: Specimen[Any]) -> Specimen[Any]:
    lattice: MapOf[str, Any] = MapOf(inner.lattice)
    items = st.dictionaries(st.sampled_from("xyz"), inner.values, max_size=3)
    return Specimen(f"MapOf({inner})", lattice, items.map(lattice.of), 3 * inner.steps)


LIBRARY: list[Specimen[Any]] = [
    powersets(),
    powersets(LETTERS),
    Specimen("Bits()", Bits(), st.integers(0, 255), 8),
    Specimen("Bits(8)", Bits(8), st.integers(0, 255), 8),
    Specimen("Chain()", Chain(), st.integers(0, 30), 30),
    Specimen("Chain(-3, 9)", Chain(-3, 9), st.integers(-3, 9), 12),
    flats(),
    intervals(),
    intervals(0),
    intervals(-10, 0, 16),
    lifted(powersets()),
    lifted(powersets(LETTERS)),
    lifted(Specimen("Chain(-3, 9)", Chain(-3, 9), st.integers(-3, 9), 12)),
    dual(powersets(), 4),
    dual(powersets(LETTERS), 4),
    dual(Specimen("Bits(8)", Bits(8), st.integers(0, 255), 8), 8),
    dual(flats(), 2),
    dual(dual(powersets(LETTERS), 4), 4),
    lifted(dual(powersets(), 4)),
    pairs(powersets(), intervals()),
    pairs(flats(), dual(powersets(), 4)),
    pairs(pairs(flats(), intervals(5)), lifted(powersets())),
    maps(powersets()),
    maps(flats()),
    maps(intervals(-10, 10)),
    maps(dual(powersets(LETTERS), 4)),
    maps(lifted(dual(powersets(), 4))),
    maps(maps(intervals())),
    maps(pairs(flats(), intervals())),
    lifted(maps(flats())),
    lifted(pairs(dual(powersets(), 4), intervals(3))),
]


@pytest.mark.parametrize("specimen", LIBRARY, ids=str)
def test_the_library_obeys_the_laws(specimen: Specimen[Any]) -> None:
    """Every lattice, alone and nested, obeys every law."""
    check_lattice(specimen.lattice, specimen.values)


def test_dual_of_interval_obeys_the_laws() -> None:
    """Upside down, an interval is a promise that shrinks; it is a lattice but never widens."""
    check_lattice(Dual(Interval()), intervals().values)


@pytest.mark.parametrize("inner", [intervals(), flats()], ids=str)
def test_lifted_obeys_the_laws_over_duals_that_have_their_own_bottom(
    inner: Specimen[Any],
) -> None:
    """`Lifted(Dual(...))` is how a must-analysis is written; it must hold for any inner one.

    Seen upside down, the inner `BOTTOM` is the greatest fact, not the new least one.
    """
    lattice = Lifted(Dual(inner.lattice))
    check_lattice(lattice, st.one_of(st.just(lattice.bottom), inner.values))


@pytest.mark.parametrize("inner", [Powerset(), Chain(), Flat(), Interval()], ids=repr)
def test_lifted_keeps_its_bottom_apart_from_the_inner_one(inner: Lattice[Any]) -> None:
    """What was "nothing known yet" becomes a value of its own, apart from the inner bottom."""
    lattice = Lifted(inner)
    assert lattice.leq(lattice.bottom, inner.bottom)
    assert not lattice.leq(inner.bottom, lattice.bottom)


@pytest.mark.parametrize("specimen", LIBRARY, ids=str)
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_widening_stabilises(specimen: Specimen[Any], data: st.DataObject) -> None:
    """However new facts arrive, a widened fact moves a few times and then covers them all."""
    lattice = specimen.lattice
    fact = data.draw(specimen.values)
    moves = 0
    for new in data.draw(st.lists(specimen.values, max_size=20)):
        if not lattice.leq(new, fact):
            moves += 1
            fact = lattice.widen(fact, lattice.join(fact, new), moves)
            assert lattice.leq(new, fact)
    assert moves <= specimen.steps


@pytest.mark.parametrize(
    ("lattice", "grow", "steps"),
    [
        (Interval(), lambda n: (-n, n * n), 1),
        (Interval((-50, 10, 100)), lambda n: (-n, n * n), 4),
        (Lifted(Interval()), lambda n: (0, n), 1),
        (MapOf(Interval((7,))), lambda n: {"x": (0, n), "y": (-n, 0), "z": (0, 0)}, 2),
        (Product(Interval(), Powerset()), lambda n: ((0, n), frozenset("a")), 1),
        (MapOf(MapOf(Interval())), lambda n: {"x": {"y": (0, n)}}, 1),
    ],
)
def test_widening_ends_what_grows_for_ever(lattice: Lattice[Any], grow: Any, steps: int) -> None:
    """A chain without end is leapt over in a few steps, inside combinators too."""
    fact, moves = grow(0), 0
    for n in range(1, 1000):
        if not lattice.leq(grow(n), fact):
            moves += 1
            fact = lattice.widen(fact, lattice.join(fact, grow(n)), moves)
    assert 1 <= moves <= steps


def test_widening_stops_at_the_thresholds() -> None:
    """A bound that still grows goes to the next threshold, and past the last to infinity."""
    lattice = Interval((-8, 10, 100))
    assert lattice.widen((0, 0), (0, 1), 1) == (0, 10)
    assert lattice.widen((0, 10), (0, 10), 2) == (0, 10)
    assert lattice.widen((0, 10), (0, 11), 2) == (0, 100)
    assert lattice.widen((0, 100), (-1, 101), 3) == (-8, INFINITY)
    assert lattice.widen((-8, INFINITY), (-9, INFINITY), 4) == (-INFINITY, INFINITY)


def test_widening_leaves_keys_and_components_alone_that_did_not_grow() -> None:
    """Only what changed leaps."""
    maps_of: MapOf[str, Any] = MapOf(Interval())
    wide = maps_of.widen({"x": (0, 1), "y": (2, 2)}, {"x": (0, 2), "y": (2, 2), "z": (5, 5)}, 1)
    assert wide == {"x": (0, INFINITY), "y": (2, 2), "z": (5, 5)}
    both: Product[Any, Any] = Product(Interval(), Interval())
    assert both.widen(((0, 0), (3, 3)), ((0, 1), (3, 3)), 1) == ((0, INFINITY), (3, 3))


def test_widening_is_not_asked_of_keys_that_did_not_grow() -> None:
    """Even a widening that always leaps leaves them where they are."""

    @frozen
    class Leaps(Interval):
        def widen(self, old: Any, new: Any, visits: int) -> Any:
            return self.top

    lattice: MapOf[str, Any] = MapOf(Leaps())
    wide = lattice.widen({"x": (0, 1), "y": (2, 2)}, {"x": (0, 2), "y": (2, 2)}, 1)
    assert wide == {"x": (-INFINITY, INFINITY), "y": (2, 2)}


def test_an_empty_interval_is_bottom() -> None:
    """Numbers that two intervals do not share are none, not an interval upside down."""
    lattice = Interval()
    assert lattice.of(3, 2) is BOTTOM
    assert lattice.of(3, 3) == (3, 3)
    assert lattice.meet((0, 1), (5, 6)) is BOTTOM
    assert lattice.meet((0, 5), (5, 6)) == (5, 5)


def test_flat_keeps_numbers_of_different_types_apart() -> None:
    """1, 1.0 and True are three constants, alone and inside a map."""
    lattice: Flat[Any] = Flat()
    for a, b in [(1, 1.0), (1, True), (1.0, True), (0, False)]:
        assert lattice.join(a, b) is TOP
        assert lattice.meet(a, b) is BOTTOM
        assert not lattice.leq(a, b)
        inside: MapOf[str, Any] = MapOf(lattice)
        assert inside.join({"x": a}, {"x": b}) == {"x": TOP}
        assert not inside.leq({"x": a}, {"x": b})
    joined = lattice.join(1, 1)
    assert type(joined) is int
    assert lattice.join("a", "".join("a")) == "a"


def test_canonical_maps_leave_out_what_says_nothing() -> None:
    """A key with the inner bottom and an absent key are the same fact and the same map."""
    lattice: MapOf[str, frozenset[str]] = MapOf(Powerset())
    empty: frozenset[str] = frozenset()
    assert lattice.of({"x": empty, "y": frozenset("a")}) == {"y": frozenset("a")}
    assert lattice.meet({"x": frozenset("a")}, {"x": frozenset("b")}) == lattice.bottom


@pytest.mark.parametrize(
    ("lattice", "advice"),
    [
        (Powerset(), r"Lifted\(Dual\(Powerset\(\)\)\)"),
        (Bits(), "size"),
        (Chain(), "high"),
        (MapOf(Flat()), "MapOf"),
        (Product(Flat(), Powerset()), "universe"),
    ],
)
def test_a_top_that_nobody_gave_raises(lattice: Lattice[Any], advice: str) -> None:
    """No made-up greatest fact; the message says what to write instead."""
    with pytest.raises(LatticeError, match=advice):
        _ = lattice.top
    with pytest.raises(LatticeError, match=advice):
        _ = Dual(lattice).bottom


@pytest.mark.parametrize(
    ("lattice", "value", "shown"),
    [
        (Powerset(), frozenset("ba"), "{a, b}"),
        (Bits(), 0b1010_0000_0001, "{0, 9, 11}"),
        (Chain(), 3, "3"),
        (Flat(), BOTTOM, "⊥"),
        (Flat(), TOP, "⊤"),
        (Flat(), "a", "'a'"),
        (Lifted(Powerset()), Lifted(Powerset()).bottom, "nothing"),
        (Lifted(Powerset()), frozenset("a"), "{a}"),
        (Dual(Powerset()), frozenset("a"), "{a}"),
        (Product(Flat(), Interval()), (1.0, (0, INFINITY)), "(1.0, [0, inf])"),
        (MapOf(Flat()), {"y": TOP, "x": 1}, "{x: 1, y: ⊤}"),
        (Interval(), BOTTOM, "⊥"),
    ],
)
def test_facts_are_shown_on_one_line(lattice: Lattice[Any], value: Any, shown: str) -> None:
    """A fact reads the same whatever order its parts came in."""
    assert lattice.show(value) == shown


# Lattices that are none, each breaking one law.


@frozen
class KeepsLeft(Flat[int]):
    """Where two constants clash the first one wins: the answer depends on path order."""

    def join(self, a: Any, b: Any) -> Any:
        return b if a is BOTTOM else a


@frozen
class AlwaysCovers(Powerset[str]):
    """Claims that everything covers everything, so solving would end at once."""

    def leq(self, a: frozenset[str], b: frozenset[str]) -> bool:
        return True


@frozen
class NeverCovers(Powerset[str]):
    """Denies what its join says, so solving would never end."""

    def leq(self, a: frozenset[str], b: frozenset[str]) -> bool:
        return a < b


@frozen
class WidensToOld(Interval):
    """Widening that ends by forgetting the new fact."""

    def widen(self, old: Any, new: Any, visits: int) -> Any:
        return old


@frozen
class WidensTooLow(Interval):
    """Widening that forgets the low bound."""

    def widen(self, old: Any, new: Any, visits: int) -> Any:
        return new if old is BOTTOM else (old[0], INFINITY)


@frozen
class Adds(Chain):
    """Counts a fact twice when it arrives twice."""

    def join(self, a: int, b: int) -> int:
        return a + b

    def leq(self, a: int, b: int) -> bool:
        return a + b == b


@frozen
class RockPaperScissors(Lattice[str]):
    """Each covers another in a circle: what three paths merge to depends on grouping."""

    @property
    def bottom(self) -> str:
        return ""

    def join(self, a: str, b: str) -> str:
        if not a or not b or a == b:
            return a or b
        pairs = {"rock": "paper", "paper": "scissors", "scissors": "rock"}
        return b if pairs[a] == b else a


@frozen
class BottomIsNotLeast(Chain):
    """Starts above some of its facts."""

    @property
    def bottom(self) -> int:
        return 5


@frozen
class TopIsNotGreatest(Powerset[str]):
    """Names a top that does not cover all facts."""

    @property
    def top(self) -> frozenset[str]:
        return frozenset("a")


@frozen
class MeetIsJoin(Powerset[str]):
    """Its dual would be the may-analysis once more."""

    def meet(self, a: frozenset[str], b: frozenset[str]) -> frozenset[str]:
        return a | b


@frozen
class Impostor:
    """A lattice that breaks a law, and what the message must name."""

    lattice: Lattice[Any]
    values: Sequence[Any]
    law: str

    def __str__(self) -> str:
        return type(self.lattice).__name__


SETS = [frozenset(letters) for letters in ["", "a", "b", "ab"]]
IMPOSTORS = [
    Impostor(KeepsLeft(), [BOTTOM, 1, 2], "join(a, b) == join(b, a)"),
    Impostor(AlwaysCovers(), SETS, "leq(a, b) iff join(a, b) == b"),
    Impostor(NeverCovers(), SETS, "leq(a, a)"),
    Impostor(WidensToOld(), [BOTTOM, (0, 1), (0, 2)], "widen(a, join(a, b), n)"),
    Impostor(WidensTooLow(), [(0, 1), (-1, 2)], "widen(a, join(a, b), n)"),
    Impostor(Adds(), [0, 1, 2], "join(a, a) == a"),
    Impostor(RockPaperScissors(), ["rock", "paper", "scissors"], "join(a, join(b, c))"),
    Impostor(BottomIsNotLeast(), [3, 7], "join(bottom, a) == a"),
    Impostor(TopIsNotGreatest(), SETS, "join(top, a) == top"),
    Impostor(MeetIsJoin(), SETS, "join(a, meet(a, b)) == a"),
]


@pytest.mark.parametrize("impostor", IMPOSTORS, ids=str)
def test_a_broken_law_is_caught_on_given_values(impostor: Impostor) -> None:
    """Given some facts, the message has the lattice, the law and facts that break it."""
    with pytest.raises(LawBroken) as caught:
        check_lattice(impostor.lattice, impostor.values)
    message = str(caught.value)
    assert repr(impostor.lattice) in message
    assert impostor.law in message
    shown = message.split(" for ")[1].removeprefix(" a = ")
    assert any(shown.startswith(repr(value)) for value in impostor.values)


@pytest.mark.parametrize("impostor", IMPOSTORS, ids=str)
def test_a_broken_law_is_found_by_search(impostor: Impostor) -> None:
    """Given a strategy, hypothesis finds the counterexample."""
    with pytest.raises(LawBroken, match=r"breaks  .*  for  a = "):
        check_lattice(impostor.lattice, st.sampled_from(impostor.values))


def test_the_counterexample_is_shrunk() -> None:
    """The facts in the message are the simplest that hypothesis knows."""
    with pytest.raises(LawBroken, match=r"join\(a, a\) == a  for  a = 1\b"):
        check_lattice(Adds(), st.integers(0, 10**6))
