"""The lattices of the library, alone and nested, with facts to try them on."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from attrs import frozen
from hypothesis import strategies as st

from dataflow import (
    BOTTOM,
    TOP,
    Bits,
    Chain,
    Congruence,
    DisjointUnion,
    Dual,
    Flat,
    Interval,
    Lattice,
    Lifted,
    MapOf,
    Partition,
    Powerset,
    Product,
    Record,
    Reduced,
    Signs,
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


def signs() -> Specimen[Any]:
    return Specimen("Signs", Signs(), st.frozensets(st.sampled_from("-0+")), 3)


def congruences() -> Specimen[Any]:
    values = st.builds(Congruence.of, st.integers(-30, 30), st.integers(0, 24))
    return Specimen("Congruence", Congruence(), st.one_of(st.just(BOTTOM), values), 8)


def partitions(universe: frozenset[str] | None = None) -> Specimen[Any]:
    groups = st.lists(st.lists(st.sampled_from(sorted(LETTERS)), max_size=3), max_size=3)
    return Specimen("Partition", Partition(universe), groups.map(Partition[str].of), 3)


def unions(**inner: Specimen[Any]) -> Specimen[Any]:
    lattice = DisjointUnion(**{name: each.lattice for name, each in inner.items()})
    tagged = [st.tuples(st.just(name), each.values) for name, each in inner.items()]
    values: st.SearchStrategy[Any] = st.one_of(st.sampled_from([BOTTOM, TOP]), *tagged)
    return Specimen(repr(lattice), lattice, values, 2 + max(each.steps for each in inner.values()))


@frozen
class Box:
    """What a tensor program may say of a box of numbers."""

    rows: Any
    _name: Any


def boxes(rows: Specimen[Any], name: Specimen[Any]) -> Specimen[Any]:
    lattice = Record(Box, rows=rows.lattice, _name=name.lattice)
    return Specimen(
        f"Record({rows}, {name})",
        lattice,
        st.builds(Box, rows.values, name.values),
        rows.steps + name.steps,
    )


def inner_multiples(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    """An interval whose bounds are in the congruence, and a constant where one number is left."""
    bounds, congruent = pair
    if bounds is BOTTOM or congruent is BOTTOM:
        return BOTTOM, BOTTOM
    low, high = bounds
    remainder, modulus = congruent
    if modulus == 0:
        return ((remainder, remainder), congruent) if low <= remainder <= high else (BOTTOM, BOTTOM)
    low = low if low == -INFINITY else low + (remainder - low) % modulus
    high = high if high == INFINITY else high - (high - remainder) % modulus
    if low > high:
        return BOTTOM, BOTTOM
    return (low, high), (low, 0) if low == high else congruent


def strides(*thresholds: int) -> Specimen[Any]:
    lattice: Reduced[Any, Any] = Reduced(Interval(thresholds), Congruence(), reduce=inner_multiples)
    pairs_of = st.tuples(intervals().values, congruences().values)
    return Specimen(f"Reduced{thresholds}", lattice, pairs_of.map(lattice.of), 20)


def strict(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    """Nothing on one side is nothing on both."""
    return pair if all(pair) else (frozenset(), frozenset())


def strict_pairs() -> Specimen[Any]:
    sets = powersets(LETTERS)
    lattice: Reduced[Any, Any] = Reduced(sets.lattice, sets.lattice, reduce=strict)
    values = st.tuples(sets.values, sets.values).map(lattice.of)
    return Specimen("Reduced(strict)", lattice, values, 8)


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
    signs(),
    congruences(),
    partitions(),
    partitions(LETTERS),
    dual(partitions(), 4),
    lifted(dual(partitions(), 4)),
    dual(signs(), 3),
    unions(size=intervals(3), name=flats()),
    unions(kept=powersets(), lost=unions(kept=powersets(), lost=lifted(flats()))),
    lifted(unions(lifted=lifted(powersets()))),
    dual(unions(a=flats(), b=powersets(LETTERS)), 6),
    boxes(intervals(8), powersets()),
    boxes(dual(powersets(), 4), dual(powersets(LETTERS), 4)),
    boxes(boxes(flats(), flats()), maps(intervals())),
    strides(),
    strides(-7, 0, 10),
    strict_pairs(),
    maps(strides()),
    boxes(strict_pairs(), partitions()),
    dual(strict_pairs(), 8),
    lifted(dual(dual(intervals(3), 9), 9)),
    lifted(maps(flats())),
    lifted(pairs(dual(powersets(), 4), intervals(3))),
]
