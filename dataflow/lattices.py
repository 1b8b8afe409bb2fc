"""The library of lattices: a few atoms, and combinators that build the rest.

    atoms        Powerset  Bits  Chain  Interval
    combinators  Flat  Lifted  Dual  Product  MapOf

Every one of them is under `check_lattice` in `tests/laws`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from enum import Enum
from typing import Final, Generic, Literal, TypeVar

from attrs import frozen

from dataflow.lattice import Lattice, LatticeError

T = TypeVar("T", bound=Hashable)
V = TypeVar("V")
A = TypeVar("A")
B = TypeVar("B")
K = TypeVar("K", bound=Hashable)


class Extreme(Enum):
    """Added elements: `BOTTOM` below and `TOP` above all ordinary values, and `NOTHING`
    below another lattice's bottom."""

    BOTTOM = "⊥"
    TOP = "⊤"
    NOTHING = "nothing"

    def __repr__(self) -> str:
        return self.name


BOTTOM: Final = Extreme.BOTTOM
TOP: Final = Extreme.TOP
NOTHING: Final = Extreme.NOTHING
Bottom = Literal[Extreme.BOTTOM]
Nothing = Literal[Extreme.NOTHING]
Top = Literal[Extreme.TOP]


def _show_set(items: list[str]) -> str:
    return "{" + ", ".join(sorted(items)) + "}"


@frozen
class Powerset(Lattice[frozenset[T]]):
    """Sets under union: a fact is "any of these may hold".

    Finite ascending chains as long as the elements come from a finite set.  `universe`
    is needed only for `top`, and so for the bottom of `Dual(Powerset(...))`.
    Use `Bits` where elements are small ints and sets are large and dense.
    """

    universe: frozenset[T] | None = None

    @property
    def bottom(self) -> frozenset[T]:
        return frozenset()

    @property
    def top(self) -> frozenset[T]:
        if self.universe is None:
            raise LatticeError(
                "Powerset() has no top: it does not know all elements. "
                "Write Powerset(universe=...), or Lifted(Dual(Powerset())) for a must-analysis"
            )
        return self.universe

    def join(self, a: frozenset[T], b: frozenset[T]) -> frozenset[T]:
        return a if a is b else a | b

    def meet(self, a: frozenset[T], b: frozenset[T]) -> frozenset[T]:
        return a & b

    def leq(self, a: frozenset[T], b: frozenset[T]) -> bool:
        return a <= b

    def replace(self, value: frozenset[T], old: frozenset[T], new: frozenset[T]) -> frozenset[T]:
        return (value - old) | new

    def show(self, value: frozenset[T]) -> str:
        return _show_set([str(element) for element in value])


@frozen
class Bits(Lattice[int]):
    """Sets of small ints as the bits of one Python int, under union.

    The fastest set there is up to about 30,000 elements, and invisible to the garbage
    collector; beyond that, or where sets are sparse, `Powerset` wins.  `size` is needed
    only for `top`.
    """

    size: int | None = None

    @property
    def bottom(self) -> int:
        return 0

    @property
    def top(self) -> int:
        if self.size is None:
            raise LatticeError("Bits() has no top: write Bits(size=...)")
        return (1 << self.size) - 1

    def join(self, a: int, b: int) -> int:
        return a | b

    def meet(self, a: int, b: int) -> int:
        return a & b

    def leq(self, a: int, b: int) -> bool:
        return a | b == b

    def replace(self, value: int, old: int, new: int) -> int:
        return value & ~old | new

    @staticmethod
    def members(value: int) -> list[int]:
        """The elements of a set, ascending."""
        digits = bin(value)[:1:-1]
        found = []
        position = digits.find("1")
        while position >= 0:
            found.append(position)
            position = digits.find("1", position + 1)
        return found

    def show(self, value: int) -> str:
        return "{" + ", ".join(map(str, self.members(value))) + "}"


@frozen
class Chain(Lattice[int]):
    """Ints from `low` up to `high`, ordered by size; join is the larger.

    For counters, ranks and positions, such as "the last place this is used".  Without
    `high` the chain is infinite, and loops that count need one.
    """

    low: int = 0
    high: int | None = None

    @property
    def bottom(self) -> int:
        return self.low

    @property
    def top(self) -> int:
        if self.high is None:
            raise LatticeError("Chain() has no top: write Chain(low, high)")
        return self.high

    def join(self, a: int, b: int) -> int:
        return a if a >= b else b

    def meet(self, a: int, b: int) -> int:
        return a if a <= b else b

    def leq(self, a: int, b: int) -> bool:
        return a <= b


@frozen
class Flat(Lattice["T | Bottom | Top"], Generic[T]):
    """Values of one type side by side, with `BOTTOM` below and `TOP` above them all.

    Two different values join to `TOP`: the constant-propagation lattice.  Values are
    compared by type and `==`, so that 1, 1.0 and True stay three constants.
    """

    @property
    def bottom(self) -> T | Bottom | Top:
        return BOTTOM

    @property
    def top(self) -> T | Bottom | Top:
        return TOP

    @staticmethod
    def _same(a: T | Bottom | Top, b: T | Bottom | Top) -> bool:
        return a is b or (type(a) is type(b) and a == b)

    def join(self, a: T | Bottom | Top, b: T | Bottom | Top) -> T | Bottom | Top:
        if a is BOTTOM or self._same(a, b):
            return b
        return a if b is BOTTOM else TOP

    def meet(self, a: T | Bottom | Top, b: T | Bottom | Top) -> T | Bottom | Top:
        if a is TOP or self._same(a, b):
            return b
        return a if b is TOP else BOTTOM

    def leq(self, a: T | Bottom | Top, b: T | Bottom | Top) -> bool:
        return a is BOTTOM or b is TOP or self._same(a, b)

    def show(self, value: T | Bottom | Top) -> str:
        return value.value if isinstance(value, Extreme) else repr(value)


@frozen
class Lifted(Lattice["V | Nothing"], Generic[V]):
    """Another lattice with a new least element `NOTHING` put under it.

    "Nothing known yet" becomes a value of its own, apart from the inner bottom.
    """

    inner: Lattice[V]

    @property
    def bottom(self) -> V | Nothing:
        return NOTHING

    @property
    def top(self) -> V | Nothing:
        return self.inner.top

    def join(self, a: V | Nothing, b: V | Nothing) -> V | Nothing:
        if a is NOTHING:
            return b
        if b is NOTHING:
            return a
        return self.inner.join(a, b)

    def meet(self, a: V | Nothing, b: V | Nothing) -> V | Nothing:
        if a is NOTHING or b is NOTHING:
            return NOTHING
        return self.inner.meet(a, b)

    def leq(self, a: V | Nothing, b: V | Nothing) -> bool:
        if a is NOTHING:
            return True
        return b is not NOTHING and self.inner.leq(a, b)

    def widen(self, old: V | Nothing, new: V | Nothing, visits: int) -> V | Nothing:
        if old is NOTHING or new is NOTHING:
            return new
        return self.inner.widen(old, new, visits)

    def show(self, value: V | Nothing) -> str:
        return NOTHING.value if value is NOTHING else self.inner.show(value)


@frozen
class Dual(Lattice[V]):
    """Another lattice upside down: join is its meet, bottom its top.

    Turns may into must: `Dual(Powerset())` merges two paths by keeping what holds on
    both.  Unreached paths are never joined, so a must-analysis needs no universe until
    somebody asks for its bottom.
    """

    inner: Lattice[V]

    @property
    def bottom(self) -> V:
        return self.inner.top

    @property
    def top(self) -> V:
        return self.inner.bottom

    def join(self, a: V, b: V) -> V:
        return self.inner.meet(a, b)

    def meet(self, a: V, b: V) -> V:
        return self.inner.join(a, b)

    def leq(self, a: V, b: V) -> bool:
        return self.inner.leq(b, a)

    def show(self, value: V) -> str:
        return self.inner.show(value)


@frozen
class Product(Lattice["tuple[A, B]"], Generic[A, B]):
    """Pairs of facts, each component joined and widened by its own lattice."""

    first: Lattice[A]
    second: Lattice[B]

    @property
    def bottom(self) -> tuple[A, B]:
        return self.first.bottom, self.second.bottom

    @property
    def top(self) -> tuple[A, B]:
        return self.first.top, self.second.top

    def join(self, a: tuple[A, B], b: tuple[A, B]) -> tuple[A, B]:
        return self.first.join(a[0], b[0]), self.second.join(a[1], b[1])

    def meet(self, a: tuple[A, B], b: tuple[A, B]) -> tuple[A, B]:
        return self.first.meet(a[0], b[0]), self.second.meet(a[1], b[1])

    def leq(self, a: tuple[A, B], b: tuple[A, B]) -> bool:
        return self.first.leq(a[0], b[0]) and self.second.leq(a[1], b[1])

    def widen(self, old: tuple[A, B], new: tuple[A, B], visits: int) -> tuple[A, B]:
        return (
            self.first.widen(old[0], new[0], visits),
            self.second.widen(old[1], new[1], visits),
        )

    def show(self, value: tuple[A, B]) -> str:
        return f"({self.first.show(value[0])}, {self.second.show(value[1])})"


@frozen
class MapOf(Lattice[Mapping[K, V]]):
    """Finite maps joined key by key.

    An absent key means the inner bottom, and a key with the inner bottom is left out, so
    equal facts are equal maps.  Only keys that changed are widened.
    """

    inner: Lattice[V]

    @property
    def bottom(self) -> Mapping[K, V]:
        return {}

    def of(self, items: Mapping[K, V]) -> Mapping[K, V]:
        """The canonical form of a map: without keys that say nothing."""
        bottom = self.inner.bottom
        return {key: value for key, value in items.items() if value != bottom}

    def join(self, a: Mapping[K, V], b: Mapping[K, V]) -> Mapping[K, V]:
        if not a or a is b:
            return b
        if not b:
            return a
        merged = dict(a)
        for key, value in b.items():
            merged[key] = self.inner.join(merged[key], value) if key in merged else value
        return merged

    def meet(self, a: Mapping[K, V], b: Mapping[K, V]) -> Mapping[K, V]:
        return self.of({key: self.inner.meet(a[key], b[key]) for key in a if key in b})

    def leq(self, a: Mapping[K, V], b: Mapping[K, V]) -> bool:
        return all(key in b and self.inner.leq(value, b[key]) for key, value in a.items())

    def widen(self, old: Mapping[K, V], new: Mapping[K, V], visits: int) -> Mapping[K, V]:
        bottom = self.inner.bottom
        return {
            key: value
            if key in old and old[key] == value
            else self.inner.widen(old.get(key, bottom), value, visits)
            for key, value in new.items()
        }

    def show(self, value: Mapping[K, V]) -> str:
        return _show_set([f"{key}: {self.inner.show(fact)}" for key, fact in value.items()])


Bound = float
"""An int, or one of the two infinities."""

INFINITY: Final = float("inf")


@frozen
class Interval(Lattice["tuple[Bound, Bound] | Bottom"]):
    """Numbers from low to high, both included; join is the hull.  Infinite height.

    Widening moves a bound that still grows to the next of `thresholds`, and past the
    last of them to infinity.
    """

    thresholds: tuple[int, ...] = ()

    @property
    def bottom(self) -> tuple[Bound, Bound] | Bottom:
        return BOTTOM

    @property
    def top(self) -> tuple[Bound, Bound] | Bottom:
        return -INFINITY, INFINITY

    @staticmethod
    def of(low: Bound, high: Bound) -> tuple[Bound, Bound] | Bottom:
        """The interval from low to high; `BOTTOM` where it would be empty."""
        return (low, high) if low <= high else BOTTOM

    def join(
        self, a: tuple[Bound, Bound] | Bottom, b: tuple[Bound, Bound] | Bottom
    ) -> tuple[Bound, Bound] | Bottom:
        if a is BOTTOM:
            return b
        if b is BOTTOM:
            return a
        return min(a[0], b[0]), max(a[1], b[1])

    def meet(
        self, a: tuple[Bound, Bound] | Bottom, b: tuple[Bound, Bound] | Bottom
    ) -> tuple[Bound, Bound] | Bottom:
        if a is BOTTOM or b is BOTTOM:
            return BOTTOM
        return self.of(max(a[0], b[0]), min(a[1], b[1]))

    def widen(
        self,
        old: tuple[Bound, Bound] | Bottom,
        new: tuple[Bound, Bound] | Bottom,
        visits: int,
    ) -> tuple[Bound, Bound] | Bottom:
        if old is BOTTOM or new is BOTTOM:
            return new
        low, high = new
        if low < old[0]:
            low = max((t for t in self.thresholds if t <= low), default=-INFINITY)
        if high > old[1]:
            high = min((t for t in self.thresholds if t >= high), default=INFINITY)
        return low, high

    def show(self, value: tuple[Bound, Bound] | Bottom) -> str:
        return BOTTOM.value if value is BOTTOM else f"[{value[0]}, {value[1]}]"
