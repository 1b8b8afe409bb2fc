"""Lattices of whole numbers: where they lie, what sign they have, what they leave over.

Each has the arithmetic a transfer needs: `add`, `mul` and `neg` of facts are sound, that is,
they cover the sums, products and negatives of all numbers that the facts cover.  `of` makes
a fact from numbers.
"""

from __future__ import annotations

from math import gcd
from typing import Final, Literal

from attrs import field, frozen

from dataflow.lattice import Lattice
from dataflow.lattices import BOTTOM, TOP, Bottom, Powerset

Bound = float
"""An int, or one of the two infinities."""

INFINITY: Final = float("inf")


def _sum(a: Bound, b: Bound) -> Bound:
    for bound in (a, b):
        if abs(bound) == INFINITY:
            return bound  # large ints cannot be added to a float
    return a + b


def _product(a: Bound, b: Bound) -> Bound:
    if a == 0 or b == 0:
        return 0  # of a bound that no number reaches, too
    if INFINITY in (abs(a), abs(b)):
        return INFINITY if (a > 0) == (b > 0) else -INFINITY
    return a * b


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

    @staticmethod
    def add(
        a: tuple[Bound, Bound] | Bottom, b: tuple[Bound, Bound] | Bottom
    ) -> tuple[Bound, Bound] | Bottom:
        if a is BOTTOM or b is BOTTOM:
            return BOTTOM
        return _sum(a[0], b[0]), _sum(a[1], b[1])

    @staticmethod
    def neg(a: tuple[Bound, Bound] | Bottom) -> tuple[Bound, Bound] | Bottom:
        return BOTTOM if a is BOTTOM else (-a[1], -a[0])

    @staticmethod
    def sub(
        a: tuple[Bound, Bound] | Bottom, b: tuple[Bound, Bound] | Bottom
    ) -> tuple[Bound, Bound] | Bottom:
        return Interval.add(a, Interval.neg(b))

    @staticmethod
    def mul(
        a: tuple[Bound, Bound] | Bottom, b: tuple[Bound, Bound] | Bottom
    ) -> tuple[Bound, Bound] | Bottom:
        if a is BOTTOM or b is BOTTOM:
            return BOTTOM
        corners = [_product(x, y) for x in a for y in b]
        return min(corners), max(corners)

    def show(self, value: tuple[Bound, Bound] | Bottom) -> str:
        if value is BOTTOM:
            return BOTTOM.value
        return f"[{_written(value[0])}, {_written(value[1])}]"


def _written(number: Bound) -> str:
    """A number in digits; its size where they are so many that nobody reads them, and Python
    refuses to write them."""
    if abs(number) == INFINITY or abs(number) < 1e300:
        return str(number)
    return f"about {'-' if number < 0 else ''}2**{int(number).bit_length() - 1}"


Sign = Literal["-", "0", "+"]

_SIGNS: Final[tuple[Sign, ...]] = ("-", "0", "+")


@frozen
class Signs(Powerset[Sign]):
    """Which signs a number may have: the subsets of -, 0 and +, under union."""

    universe: frozenset[Sign] | None = field(default=frozenset(_SIGNS), init=False, repr=False)

    @staticmethod
    def of(*numbers: int) -> frozenset[Sign]:
        """The signs of some numbers."""
        return frozenset(_SIGNS[(number > 0) - (number < 0) + 1] for number in numbers)

    @staticmethod
    def add(a: frozenset[Sign], b: frozenset[Sign]) -> frozenset[Sign]:
        # Of any two signs there are numbers of size 1 and 2 that show each sign of a sum.
        sizes = ((1, 1), (1, 2), (2, 1))
        return Signs.of(
            *(Signs._unit(x) * m + Signs._unit(y) * n for x in a for y in b for m, n in sizes)
        )

    @staticmethod
    def neg(a: frozenset[Sign]) -> frozenset[Sign]:
        return Signs.of(*(-Signs._unit(x) for x in a))

    @staticmethod
    def mul(a: frozenset[Sign], b: frozenset[Sign]) -> frozenset[Sign]:
        return Signs.of(*(Signs._unit(x) * Signs._unit(y) for x in a for y in b))

    @staticmethod
    def _unit(sign: Sign) -> int:
        return _SIGNS.index(sign) - 1

    def show(self, value: frozenset[Sign]) -> str:
        return "{" + ", ".join(sign for sign in _SIGNS if sign in value) + "}"


@frozen
class Congruence(Lattice["tuple[int, int] | Bottom"]):
    """Numbers that leave one remainder modulo another: `(3, 4)` is ..., -1, 3, 7, 11, ...

    `(n, 0)` is the number n alone, `(0, 1)` any number.  Join is the largest modulus that
    fits both.  Ascending chains are finite, as a modulus only ever loses factors.
    """

    @property
    def bottom(self) -> tuple[int, int] | Bottom:
        return BOTTOM

    @property
    def top(self) -> tuple[int, int] | Bottom:
        return 0, 1

    @staticmethod
    def of(remainder: int, modulus: int = 0) -> tuple[int, int]:
        """The numbers that differ from `remainder` by a multiple of `modulus`."""
        modulus = abs(modulus)
        return (remainder % modulus if modulus else remainder), modulus

    def join(
        self, a: tuple[int, int] | Bottom, b: tuple[int, int] | Bottom
    ) -> tuple[int, int] | Bottom:
        if a is BOTTOM:
            return b
        if b is BOTTOM:
            return a
        return self.of(a[0], gcd(a[1], b[1], a[0] - b[0]))

    def meet(
        self, a: tuple[int, int] | Bottom, b: tuple[int, int] | Bottom
    ) -> tuple[int, int] | Bottom:
        if a is BOTTOM or b is BOTTOM:
            return BOTTOM
        common, apart = gcd(a[1], b[1]), b[0] - a[0]
        if common == 0:
            return a if apart == 0 else BOTTOM
        if apart % common:
            return BOTTOM
        if 0 in (a[1], b[1]):
            return a if a[1] == 0 else b
        # The step of a's numbers that first lands on one of b's.
        steps = apart // common * pow(a[1] // common, -1, b[1] // common)
        return self.of(a[0] + a[1] * steps, a[1] * b[1] // common)

    def leq(self, a: tuple[int, int] | Bottom, b: tuple[int, int] | Bottom) -> bool:
        return a is BOTTOM or (b is not BOTTOM and self.join(a, b) == b)

    @staticmethod
    def add(a: tuple[int, int] | Bottom, b: tuple[int, int] | Bottom) -> tuple[int, int] | Bottom:
        if a is BOTTOM or b is BOTTOM:
            return BOTTOM
        return Congruence.of(a[0] + b[0], gcd(a[1], b[1]))

    @staticmethod
    def neg(a: tuple[int, int] | Bottom) -> tuple[int, int] | Bottom:
        return BOTTOM if a is BOTTOM else Congruence.of(-a[0], a[1])

    @staticmethod
    def mul(a: tuple[int, int] | Bottom, b: tuple[int, int] | Bottom) -> tuple[int, int] | Bottom:
        if a is BOTTOM or b is BOTTOM:
            return BOTTOM
        return Congruence.of(a[0] * b[0], gcd(a[0] * b[1], b[0] * a[1], a[1] * b[1]))

    def show(self, value: tuple[int, int] | Bottom) -> str:
        if value is BOTTOM:
            return BOTTOM.value
        if value == self.top:
            return TOP.value
        remainder, modulus = value
        whole = _written(remainder)
        return f"{whole} mod {_written(modulus)}" if modulus else whole
