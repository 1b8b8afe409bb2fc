"""What each combinator promises beyond the laws."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field, frozen
from hypothesis import given, settings

from dataflow import (
    BOTTOM,
    NOTHING,
    TOP,
    Bits,
    Chain,
    Congruence,
    DidNotConverge,
    DisjointUnion,
    Dual,
    Flat,
    Forward,
    Interval,
    Lattice,
    LatticeError,
    Lifted,
    MapOf,
    Powerset,
    Product,
    Record,
    Reduced,
    Signs,
    TextNode,
    parse,
    solve,
    verify,
)
from tests.laws.specimens import INFINITY, inner_multiples, strides

LOOP = """
    head: n = count n -> head, done
    done: write n
"""


# -- Lifted, Dual ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inner", [Lifted(Flat()), Dual(Lifted(Flat())), Dual(Dual(Lifted(Flat())))]
)
def test_lifting_twice_is_refused(inner: Lattice[Any]) -> None:
    """Two least elements cannot share one name; the message says what to write instead."""
    with pytest.raises(LatticeError, match=r"lift once.*DisjointUnion"):
        Lifted(inner)


@pytest.mark.parametrize(
    ("where", "build"),
    [
        ("`inner` of Lifted", Lifted),
        ("`inner` of Dual", Dual),
        ("`inner` of MapOf", MapOf),
        ("`first` of Product", lambda given: Product(given, Flat())),
        ("`second` of Product", lambda given: Product(Flat(), given)),
        ("`name` of DisjointUnion", lambda given: DisjointUnion(name=given)),
    ],
)
def test_what_is_no_lattice_is_refused(where: str, build: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match=f"{where} wants a lattice, not its class"):
        build(Powerset)
    with pytest.raises(TypeError, match=f"{where} wants a lattice, and None is none"):
        build(None)


def test_lifting_apart_is_not_refused() -> None:
    """Inside a pair, a map or a union the inner element is another value."""
    inner: Lifted[Any] = Lifted(Powerset())
    apart: list[Lattice[Any]] = [Product(inner, inner), MapOf(inner), DisjointUnion(some=inner)]
    for lattice in apart:
        assert Lifted(lattice).bottom is NOTHING
    union: Lifted[Any] = Lifted(DisjointUnion(some=inner))
    assert union.leq(NOTHING, BOTTOM)
    assert not union.leq(BOTTOM, NOTHING)
    assert not union.leq(("some", NOTHING), BOTTOM)


def test_twice_upside_down_widens_again() -> None:
    """Dual of dual is the lattice itself, in widening too."""
    twice = Dual(Dual(Interval()))
    assert twice.widen((0, 0), (0, 1), 1) == (0, INFINITY)
    assert Dual(Interval()).widen((0, INFINITY), (1, INFINITY), 1) == (1, INFINITY)


def test_maps_of_facts_without_a_bottom_go_around_loops() -> None:
    """A key that is new in a loop has nothing to be widened from."""
    must = MapOf[str, frozenset[str]](Dual(Powerset()))
    old, new = {"x": frozenset("ab")}, {"x": frozenset("a"), "y": frozenset("c")}
    assert must.widen(old, must.join(old, new), 1) == new
    numbers = MapOf[str, Any](Interval())
    assert numbers.widen({"x": (0, 0)}, {"x": (0, 1), "y": (0, 1)}, 1) == {
        "x": (0, INFINITY),
        "y": (0, 1),
    }


@frozen
class Shrinks(Forward[TextNode, Any]):
    """Numbers certainly in range, one less per round."""

    lattice: Lattice[Any] = Dual(Interval())

    def boundary(self) -> Any:
        return 0, INFINITY

    def transfer(self, node: TextNode, value: Any) -> Any:
        return (value[0] + 1, value[1]) if node.word == "count" else value


def test_a_dual_that_shrinks_for_ever_is_loud() -> None:
    """It does not widen, so solving says which lattice has chains without end."""
    with pytest.raises(DidNotConverge, match=r"Dual\(inner=Interval"):
        solve(Shrinks(), parse(LOOP), limit=50)


# -- Record ----------------------------------------------------------------------------------


@frozen
class Shape:
    rows: Any = field(metadata={"lattice": Interval()})
    dtype: Any = field(metadata={"lattice": Flat()})
    _names: frozenset[str] = field(metadata={"lattice": Powerset()})


def test_a_record_is_joined_and_widened_field_by_field() -> None:
    """The lattices come from the fields' metadata, or by name, which counts more."""
    lattice = Record(Shape)
    a = Shape((0, 1), "int", frozenset("a"))
    b = Shape((0, 3), "int", frozenset("b"))
    assert lattice.join(a, b) == Shape((0, 3), "int", frozenset("ab"))
    assert lattice.meet(a, b) == Shape((0, 1), "int", frozenset())
    assert lattice.widen(a, lattice.join(a, b), 1) == Shape((0, INFINITY), "int", frozenset("ab"))
    assert lattice.bottom == Shape(BOTTOM, BOTTOM, frozenset())
    assert lattice.show(b) == "Shape(rows=[0, 3], dtype='int', _names={b})"
    other = Record(Shape, rows=Flat())
    assert other.join(a, b).rows is TOP
    assert repr(other) == "Record(Shape, rows=Flat(), dtype=Flat(), _names=Powerset(universe=None))"
    assert other == Record(Shape, rows=Flat()) != lattice
    assert hash(other) == hash(Record(Shape, rows=Flat()))
    assert pickle.loads(pickle.dumps(lattice)) == lattice


def test_parts_of_a_record_have_one_field_each() -> None:
    lattice = Record(Shape)
    none: frozenset[str] = frozenset()
    assert list(lattice.parts(Shape((0, 3), BOTTOM, frozenset("ab")))) == [
        Shape((0, 3), BOTTOM, none),
        Shape(BOTTOM, BOTTOM, frozenset("a")),
        Shape(BOTTOM, BOTTOM, frozenset("b")),
    ]


@frozen
class Open:
    a: int
    b: int


@define
class Changes:
    a: int


@frozen(eq=False)
class Incomparable:
    a: int


@frozen
class Derived:
    a: int
    b: int = field(init=False, default=0)


@frozen
class Partly:
    a: int
    b: int = field(eq=False)


@pytest.mark.parametrize(
    ("cls", "lattices", "message"),
    [
        (Open, {"a": Chain()}, r"field 'b' of Open has no lattice: write Record\(Open, b=\.\.\.\)"),
        (Open, {"a": Chain(), "b": 3}, "field 'b' of Open has no lattice"),
        (Open, {"a": Chain(), "b": Chain(), "c": Chain()}, "Open has no field 'c'"),
        (Open, {name: Chain() for name in "ahgfedcb"}, "Open has no field 'c'"),
        (Changes, {"a": Chain()}, r"make Changes an attrs\.frozen class"),
        (Incomparable, {"a": Chain()}, r"make Incomparable an attrs\.frozen class"),
        (Derived, {"a": Chain(), "b": Chain()}, "field 'b' of Derived must be an argument"),
        (Partly, {"a": Chain(), "b": Chain()}, "field 'b' of Partly .* be compared"),
        (int, {}, "needs an attrs class"),
        (Open(1, 2), {}, r"needs an attrs class, and Open\(.*\) is none"),
    ],
)
def test_a_class_that_makes_no_record_is_refused(cls: Any, lattices: Any, message: str) -> None:
    """The message names the class and the field."""
    with pytest.raises(LatticeError, match=message):
        Record(cls, **lattices)


# -- DisjointUnion ---------------------------------------------------------------------------


def test_a_union_keeps_its_lattices_apart() -> None:
    """Facts of one lattice are joined there; facts of two say nothing together."""
    lattice = DisjointUnion(size=Interval(), self=Powerset())
    assert lattice.join(("size", (0, 1)), ("size", (4, 5))) == ("size", (0, 5))
    assert lattice.join(("size", (0, 1)), ("self", frozenset("a"))) is TOP
    assert lattice.meet(("size", (0, 1)), ("self", frozenset("a"))) is BOTTOM
    assert lattice.widen(("size", (0, 1)), ("size", (0, 2)), 1) == ("size", (0, INFINITY))
    assert not lattice.leq(("self", frozenset()), ("size", (0, 1)))
    assert lattice.show(lattice.of("size", (0, 1))) == "size [0, 1]"
    assert [lattice.show(found) for found in (lattice.bottom, lattice.top)] == ["⊥", "⊤"]
    assert list(lattice.parts(("self", frozenset("ab")))) == [
        ("self", frozenset("a")),
        ("self", frozenset("b")),
    ]
    assert pickle.loads(pickle.dumps(lattice)) == lattice
    assert hash(lattice) == hash(DisjointUnion(size=Interval(), self=Powerset()))
    with pytest.raises(LatticeError, match=r"no lattice 'sizes'; it has size, self$"):
        lattice.of("sizes", (0, 1))
    with pytest.raises(LatticeError, match=r"no lattice 'size'; it has none$"):
        DisjointUnion().of("size", (0, 1))


# -- Reduced ---------------------------------------------------------------------------------


def strides_of(*thresholds: int) -> Reduced[Any, Any]:
    """Intervals of multiples."""
    return Reduced(Interval(thresholds), Congruence(), reduce=inner_multiples)


def test_each_side_sharpens_the_other() -> None:
    """Facts go in as they are and come out canonical."""
    lattice = strides_of()
    assert lattice.of(((1, 9), (0, 4))) == ((4, 8), (0, 4))
    assert lattice.of(((1, 5), (0, 4))) == ((4, 4), (4, 0))
    assert lattice.of(((1, 3), (0, 4))) == (BOTTOM, BOTTOM)
    assert lattice.join(((0, 0), (0, 0)), ((8, 8), (8, 0))) == ((0, 8), (0, 8))
    assert lattice.join(((1, 3), (0, 4)), ((1, 9), (0, 4))) == ((4, 8), (0, 4))
    assert lattice.meet(((0, 9), (0, 4)), ((3, 20), (0, 6))) == (BOTTOM, BOTTOM)
    assert lattice.leq(((1, 9), (0, 4)), ((4, 8), (0, 2)))
    assert not lattice.leq(((4, 8), (0, 2)), ((1, 9), (0, 4)))


def test_a_widened_pair_is_reduced() -> None:
    """What a threshold adds and the other side excludes is not there."""
    lattice = strides_of(10)
    assert lattice.widen(((0, 0), (0, 0)), ((0, 4), (0, 4)), 1) == ((0, 8), (0, 4))


@settings(deadline=None)
@given(strides().values, strides().values)
def test_reduced_pairs_are_closed_under_join(a: Any, b: Any) -> None:
    """The reason why joins of reduced pairs are associative: there is nothing to reduce."""
    lattice = strides_of()
    product = Product(lattice.first, lattice.second)
    assert lattice.join(a, b) == product.join(a, b) == lattice.of(product.join(a, b))


def test_a_reduction_that_grows_is_refused() -> None:
    """Where it happens, with what it did."""
    lattice: Reduced[int, int] = Reduced(Chain(), Chain(), reduce=lambda pair: (pair[0] + 1, 0))
    with pytest.raises(LatticeError, match=r"must shrink, but makes \(3, 0\) into \(4, 0\)"):
        lattice.join((3, 0), (0, 0))


@frozen
class Alternates(Interval):
    """Widens in every second round."""

    odd: int = 0

    def widen(self, old: Any, new: Any, visits: int) -> Any:
        return super().widen(old, new, visits) if visits % 2 == self.odd else new


def intersect(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    both = Interval().meet(*pair)
    return both, both


@frozen
class Counts(Forward[TextNode, Any]):
    """How large a counter may be, said twice."""

    lattice: Lattice[Any]

    def boundary(self) -> Any:
        return (0, 0), (0, 0)

    def transfer(self, node: TextNode, value: Any) -> Any:
        first, second = value
        one = (1, 1) if node.word == "count" else (0, 0)
        return Interval.add(first, one), Interval.add(second, one)


def test_a_reduction_cannot_take_back_widening_for_ever() -> None:
    """The sides widen in turn, and each takes back what the other gained."""
    lattice: Reduced[Any, Any] = Reduced(Alternates(), Alternates(odd=1), reduce=intersect)
    loop = parse(LOOP)
    results = solve(Counts(lattice), loop, limit=50)
    verify(results)
    assert lattice.of(results.before(loop.node("done"))) == ((1, INFINITY), (1, INFINITY))


def test_sides_that_need_each_other_are_one_part() -> None:
    """Parts of a reduced pair are those of its sides only where they make it up."""
    chains: Reduced[int, int] = Reduced(Bits(), Bits(), reduce=lambda pair: pair)
    assert list(chains.parts((3, 4))) == [(1, 0), (2, 0), (0, 4)]
    both: Reduced[int, int] = Reduced(
        Bits(), Bits(), reduce=lambda pair: pair if all(pair) else (0, 0)
    )
    assert list(both.parts((3, 4))) == [(3, 4)]
    assert list(both.parts((3, 0))) == []


def test_pairs_without_a_bottom_are_not_taken_apart() -> None:
    upside_down: Reduced[Any, int] = Reduced(Dual(Powerset()), Bits(), reduce=lambda pair: pair)
    assert list(upside_down.parts((frozenset("ab"), 3))) == [(frozenset("ab"), 3)]


def test_a_reduction_is_given_by_name() -> None:
    """Third, it would look like one more side."""
    with pytest.raises(TypeError, match="argument"):
        Reduced(Bits(), Bits(), lambda pair: pair)  # type: ignore[call-arg]  # on purpose


# -- parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lattice", "value", "parts"),
    [
        (Powerset(), frozenset("ba"), [frozenset("a"), frozenset("b")]),
        (Bits(), 0b1010, [0b10, 0b1000]),
        (Chain(), 3, [3]),
        (Chain(), 0, []),
        (Flat(), TOP, [TOP]),
        (Flat(), 0, [0]),
        (Interval((1,)), (0, 4), [(0, 4)]),
        (Signs(), Signs.of(-1, 0), [Signs.of(-1), Signs.of(0)]),
        (MapOf(Bits()), {"x": 3, "y": 4}, [{"x": 1}, {"x": 2}, {"y": 4}]),
        (Product(Bits(), Chain()), (3, 7), [(1, 0), (2, 0), (0, 7)]),
        (Lifted(Bits()), 3, [1, 2]),
        (Lifted(Bits()), 0, [0]),
        (Lifted(Bits()), NOTHING, []),
        (DisjointUnion(a=Bits()), ("a", 0), [("a", 0)]),
        (DisjointUnion(a=Bits()), TOP, [TOP]),
        (Dual(Powerset()), frozenset("ab"), [frozenset("ab")]),
        # No bottom to put on the other side: it comes along.
        (
            Product(Dual(Powerset()), Bits()),
            (frozenset("ab"), 3),
            [(frozenset("ab"), 1), (frozenset("ab"), 2)],
        ),
        (Product(Dual(Powerset()), Bits()), (frozenset("ab"), 0), [(frozenset("ab"), 0)]),
    ],
)
def test_parts(lattice: Lattice[Any], value: Any, parts: list[Any]) -> None:
    """As small as is cheap to list."""
    found = list(lattice.parts(value))
    assert sorted(map(repr, found)) == sorted(map(repr, parts))
