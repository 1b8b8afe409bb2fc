"""Every lattice of the library obeys the laws."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow import (
    BOTTOM,
    TOP,
    Bits,
    Chain,
    Congruence,
    Dual,
    Flat,
    Interval,
    Lattice,
    LatticeError,
    Lifted,
    MapOf,
    Powerset,
    Product,
    check_lattice,
)
from tests.laws.specimens import INFINITY, LIBRARY, Specimen, flats, intervals


@pytest.mark.parametrize("specimen", LIBRARY, ids=str)
def test_the_library_obeys_the_laws(specimen: Specimen[Any]) -> None:
    """Every lattice, alone and nested, obeys every law."""
    check_lattice(specimen.lattice, specimen.values)


@pytest.mark.parametrize("specimen", LIBRARY, ids=str)
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_parts_make_up_the_fact(specimen: Specimen[Any], data: st.DataObject) -> None:
    """The join of a fact's parts is the fact, and each is below it and says something."""
    lattice = specimen.lattice
    value = data.draw(specimen.values)
    parts = list(lattice.parts(value))
    joined = reduce(lattice.join, parts) if parts else lattice.bottom
    assert joined == value
    assert all(lattice.leq(part, value) for part in parts)
    if has_bottom(lattice):
        assert lattice.bottom not in parts
        assert list(lattice.parts(lattice.bottom)) == []


def has_bottom(lattice: Lattice[Any]) -> bool:
    """Whether a lattice knows its least fact."""
    try:
        _ = lattice.bottom
    except LatticeError:
        return False
    return True


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
    assert lattice.widen((0, 50), (-1, 50), 2) == (-8, 50)
    assert lattice.widen((0, 50), (0, 51), 2) == (0, 100)
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


def test_bits_are_sets_of_numbers() -> None:
    """All of a universe; what is taken out and put in."""
    assert Bits(3).top == 0b111
    assert Bits(0).top == 0
    assert Bits().replace(0b1011, 0b0011, 0b0100) == 0b1100
    assert Bits().replace(0b1011, 0b0001, 0b0001) == 0b1011
    names: Powerset[str] = Powerset()
    assert names.replace(frozenset("ab"), frozenset("a"), frozenset("c")) == frozenset("bc")


def test_a_chain_has_something_in_it() -> None:
    assert Chain(3, 3).top == Chain(3, 3).bottom == 3
    with pytest.raises(LatticeError, match=r"Chain\(low=3, high=2\) has nothing in it"):
        Chain(3, 2)


def test_a_negative_number_is_no_set() -> None:
    with pytest.raises(ValueError, match="-1 is no set"):
        Bits.members(-1)


def test_an_empty_interval_is_bottom() -> None:
    """Numbers that two intervals do not share are none, not an interval upside down."""
    lattice = Interval()
    assert lattice.of(3, 2) is BOTTOM
    assert lattice.of(3, 3) == (3, 3)
    assert lattice.meet((0, 1), (5, 6)) is BOTTOM
    assert lattice.meet((0, 5), (5, 6)) == (5, 5)


def test_flat_keeps_numbers_of_different_types_apart() -> None:
    """1, 1.0 and True are three constants, alone and inside a map; 0.0 and -0.0 are two."""
    lattice: Flat[Any] = Flat()
    for a, b in [(1, 1.0), (1, True), (1.0, True), (0, False)]:
        assert lattice.join(a, b) is TOP
        assert lattice.meet(a, b) is BOTTOM
        assert not lattice.leq(a, b)
        inside: MapOf[str, Any] = MapOf(lattice)
        assert inside.join({"x": a}, {"x": b}) == {"x": TOP}
        assert not inside.leq({"x": a}, {"x": b})
    pairs: list[tuple[Any, Any]] = [(0.0, -0.0), (0j, complex(0, -0.0)), ((1,), (True,))]
    for x, y in [*pairs, (((0.0,),), ((-0.0,),))]:
        assert lattice.join(x, y) is TOP
        assert lattice.meet(x, y) is BOTTOM
        assert not lattice.leq(x, y)
        assert lattice.leq(x, x)
    assert lattice.join((1, "a"), (1, "".join("a"))) == (1, "a")
    assert lattice.join(frozenset([0, 8]), frozenset([8, 0])) == {0, 8}  # they are written apart
    joined = lattice.join(1, 1)
    assert type(joined) is int
    assert lattice.join("a", "".join("a")) == "a"


def test_flat_keeps_what_is_not_equal_to_itself() -> None:
    """One that is no number joined with itself is itself."""
    lattice: Lattice[Any] = Flat()
    odd = float("nan")
    assert lattice.join(odd, odd) is odd
    assert lattice.meet(odd, odd) is odd
    assert lattice.leq(odd, odd)


def test_sets_are_taken_apart_and_written_in_order() -> None:
    """A set of 1 and 8 goes through 8 first."""
    assert list(Powerset[int]().parts(frozenset({1, 8}))) == [frozenset({1}), frozenset({8})]
    assert repr(Powerset(frozenset({8, 1}))) == "Powerset(universe={1, 8})"
    assert repr(Powerset()) == "Powerset(universe=None)"


def test_canonical_maps_leave_out_what_says_nothing() -> None:
    """A key with the inner bottom and an absent key are the same fact and the same map."""
    lattice: MapOf[str, frozenset[str]] = MapOf(Powerset())
    empty: frozenset[str] = frozenset()
    assert lattice.of({"x": empty, "y": frozenset("a")}) == {"y": frozenset("a")}
    assert lattice.meet({"x": frozenset("a")}, {"x": frozenset("b")}) == lattice.bottom


@pytest.mark.parametrize(
    ("lattice", "advice"),
    [
        (Powerset(), "`boundary`"),
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
        (Interval(), (-INFINITY, 2**99), f"[-inf, {2**99}]"),
        (Interval(), (-(2**20_000) - 1, 2**30_000 - 1), "[about -2**20000, about 2**29999]"),
        (Congruence(), (1, 2**20_000), "1 mod about 2**20000"),
    ],
)
def test_facts_are_shown_on_one_line(lattice: Lattice[Any], value: Any, shown: str) -> None:
    """A fact reads the same whatever order its parts came in."""
    assert lattice.show(value) == shown
