"""The arithmetic of intervals, signs and congruences covers that of the numbers."""

from __future__ import annotations

from collections.abc import Callable
from operator import add, mul, sub
from typing import Any

import pytest
from attrs import frozen
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataflow import BOTTOM, Congruence, Interval, Lattice, Signs
from tests.laws.specimens import INFINITY, congruences, intervals, signs

NUMBERS = st.one_of(st.integers(-60, 60), st.integers())


@frozen
class Domain:
    """A lattice of numbers, its facts, and whether a fact covers a number."""

    lattice: Lattice[Any]
    facts: st.SearchStrategy[Any]
    covers: Callable[[Any, int], bool]

    def __str__(self) -> str:
        return type(self.lattice).__name__


def in_interval(fact: Any, number: int) -> bool:
    return fact is not BOTTOM and bool(fact[0] <= number <= fact[1])


def in_signs(fact: Any, number: int) -> bool:
    return ("-" if number < 0 else "+" if number else "0") in fact


def in_congruence(fact: Any, number: int) -> bool:
    if fact is BOTTOM:
        return False
    remainder, modulus = fact
    return bool((number - remainder) % modulus == 0 if modulus else number == remainder)


DOMAINS = [
    Domain(Interval(), intervals().values, in_interval),
    Domain(Signs(), signs().values, in_signs),
    Domain(Congruence(), congruences().values, in_congruence),
]
SMALL = range(-12, 13)


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
@settings(deadline=None)
@given(st.data())
def test_order_join_and_meet_are_those_of_sets_of_numbers(
    domain: Domain, data: st.DataObject
) -> None:
    """A join covers the numbers of both, a meet exactly the common ones."""
    lattice = domain.lattice
    a, b = data.draw(domain.facts), data.draw(domain.facts)
    for number in [*SMALL, data.draw(NUMBERS)]:
        in_a, in_b = domain.covers(a, number), domain.covers(b, number)
        assert domain.covers(lattice.meet(a, b), number) == (in_a and in_b)
        assert domain.covers(lattice.join(a, b), number) >= (in_a or in_b)
        assert not lattice.leq(a, b) or in_a <= in_b
    assert not any(domain.covers(lattice.bottom, number) for number in SMALL)
    assert all(domain.covers(lattice.top, number) for number in SMALL)


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
@pytest.mark.parametrize("operation", [add, sub, mul], ids=lambda operation: operation.__name__)
@settings(deadline=None)
@given(st.data())
def test_arithmetic_covers_that_of_numbers(
    operation: Callable[[int, int], int], domain: Domain, data: st.DataObject
) -> None:
    """Whatever numbers two facts cover, their sum, difference and product cover the result."""
    lattice: Any = domain.lattice
    a, b = data.draw(domain.facts), data.draw(domain.facts)
    name = operation.__name__
    if name == "sub" and not hasattr(lattice, "sub"):
        result = lattice.add(a, lattice.neg(b))
    else:
        result = getattr(lattice, name)(a, b)
    far = data.draw(NUMBERS), data.draw(NUMBERS)
    for x in (*SMALL, far[0]):
        for y in (*SMALL, far[1]):
            if domain.covers(a, x) and domain.covers(b, y):
                assert domain.covers(result, operation(x, y))


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
@settings(deadline=None)
@given(st.data())
def test_neg_covers_exactly_the_negatives(domain: Domain, data: st.DataObject) -> None:
    lattice: Any = domain.lattice
    fact = data.draw(domain.facts)
    for number in SMALL:
        assert domain.covers(lattice.neg(fact), -number) == domain.covers(fact, number)
    assert lattice.neg(lattice.neg(fact)) == fact


@settings(deadline=None)
@given(NUMBERS, NUMBERS)
@example(10**400, -(10**400))
def test_constants_stay_constants(x: int, y: int) -> None:
    """Arithmetic of single numbers is exact, however large they are."""
    for operation in (add, sub, mul):
        name, result = operation.__name__, operation(x, y)
        assert getattr(Interval(), name)((x, x), (y, y)) == (result, result)
        if name != "sub":
            assert getattr(Congruence(), name)((x, 0), (y, 0)) == (result, 0)
    assert Signs.mul(Signs.of(x), Signs.of(y)) == Signs.of(x * y)


def test_large_numbers_meet_infinity() -> None:
    """A bound too large for a float is added to and multiplied by an infinite one."""
    large, half = (10**400, 10**400), (0, INFINITY)
    assert Interval.add(large, half) == (10**400, INFINITY)
    assert Interval.mul(large, half) == (0, INFINITY)
    assert Interval.mul((-INFINITY, INFINITY), (0, 0)) == (0, 0)
    assert Interval.mul((-3, 2), (-INFINITY, 5)) == (-INFINITY, INFINITY)
    assert Interval.sub(half, half) == (-INFINITY, INFINITY)


@pytest.mark.parametrize(
    ("a", "b", "product"),
    [
        ((0, 0), (0, INFINITY), (0, 0)),
        ((0, INFINITY), (0, 0), (0, 0)),
        ((0, 1), (1, INFINITY), (0, INFINITY)),
        ((1, 1), (-INFINITY, -1), (-INFINITY, -1)),
        ((-1, -1), (-INFINITY, -1), (1, INFINITY)),
        ((1, INFINITY), (1, 1), (1, INFINITY)),
        ((1, INFINITY), (-1, -1), (-INFINITY, -1)),
        ((-INFINITY, -2), (2, 3), (-INFINITY, -4)),
    ],
)
def test_products_with_bounds_that_no_number_reaches(a: Any, b: Any, product: Any) -> None:
    """Exactly what numbers give: the sign of an infinity comes from both sides."""
    assert Interval.mul(a, b) == product
    assert Interval.mul(b, a) == product


def test_widening_goes_to_the_next_threshold_and_no_further() -> None:
    """A bound that is at one stays there."""
    lattice = Interval((-5, -3, 0, 3, 5))
    assert lattice.widen((0, 0), (-3, 3), 1) == (-3, 3)
    assert lattice.widen((0, 0), (-2, 2), 1) == (-3, 3)
    assert lattice.widen((0, 0), (-4, 4), 1) == (-5, 5)
    assert lattice.widen((0, 0), (-6, 0), 1) == (-INFINITY, 0)
    assert lattice.widen((0, 0), (0, 6), 1) == (0, INFINITY)


def test_nothing_in_nothing_out() -> None:
    """Arithmetic with no number has no result."""
    cases: list[Any] = [(domain.lattice, domain.lattice.top) for domain in DOMAINS]
    for lattice, some in cases:
        for operation in (lattice.add, lattice.mul):
            assert operation(lattice.bottom, some) == lattice.bottom
            assert operation(some, lattice.bottom) == lattice.bottom


@pytest.mark.parametrize(
    ("a", "b", "total", "product"),
    [
        ("+", "+", "+", "+"),
        ("+", "-", "-0+", "-"),
        ("-", "-", "-", "+"),
        ("0", "-", "-", "0"),
        ("0+", "+", "+", "0+"),
        ("0+", "0+", "0+", "0+"),
        ("-+", "0", "-+", "0"),
    ],
)
def test_signs(a: str, b: str, total: str, product: str) -> None:
    """No sign is lost, and none is there that no numbers give."""
    lattice: Any = Signs()
    assert lattice.add(frozenset(a), frozenset(b)) == frozenset(total)
    assert lattice.mul(frozenset(a), frozenset(b)) == frozenset(product)


def test_signs_are_shown_in_order_and_are_all_there_is() -> None:
    lattice: Any = Signs()
    assert repr(lattice) == "Signs()"
    assert lattice.show(frozenset("+-")) == "{-, +}"
    assert lattice.show(lattice.top) == "{-, 0, +}"
    assert lattice.show(lattice.bottom) == "{}"
    with pytest.raises(TypeError, match="argument"):
        Signs(universe=None)  # type: ignore[call-arg]  # on purpose


def test_congruences() -> None:
    """Strides and offsets, as an analysis of indices meets them."""
    lattice = Congruence()
    assert lattice.join((4, 0), (10, 0)) == (4, 6)
    assert lattice.join((1, 4), (3, 4)) == (1, 2)
    assert lattice.join((0, 4), (1, 4)) == lattice.top
    assert lattice.meet((1, 4), (0, 3)) == (9, 12)
    assert lattice.meet((1, 4), (0, 2)) is BOTTOM
    assert lattice.meet((9, 0), (1, 4)) == (9, 0)
    assert lattice.meet((8, 0), (1, 4)) is BOTTOM
    assert lattice.add((1, 4), (2, 6)) == (1, 2)
    assert lattice.mul((0, 4), (1, 2)) == (0, 4)
    assert lattice.mul((2, 0), (1, 3)) == (2, 6)
    assert lattice.of(-1, 4) == lattice.of(3, -4) == (3, 4)
    assert lattice.of(-1) == (-1, 0)
    shown = [lattice.show(fact) for fact in (BOTTOM, (7, 0), (3, 4), (0, 1))]
    assert shown == ["⊥", "7", "3 mod 4", "⊤"]
