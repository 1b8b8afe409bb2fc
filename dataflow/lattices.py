"""The library of lattices: the atoms, which are built from no other lattice.

    here           Powerset  Bits  Chain  Flat
    numeric.py     Interval  Signs  Congruence
    partition.py   Partition
    combinators.py Lifted  Dual  MapOf  DisjointUnion
    products.py    Product  Record  Reduced

Every one of them is under `check_lattice` in `tests/laws`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from enum import Enum
from typing import Final, Generic, Literal, TypeVar

from attrs import field, frozen

from dataflow.lattice import Lattice, LatticeError

T = TypeVar("T", bound=Hashable)


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


def show_set(items: Iterable[str]) -> str:
    return "{" + ", ".join(sorted(items)) + "}"


@frozen
class Powerset(Lattice[frozenset[T]]):
    """Sets under union: a fact is "any of these may hold".

    Finite ascending chains as long as the elements come from a finite set.  `universe`
    is needed only for `top`, and so for the bottom of `Dual(Powerset(...))`.

    A join costs 30 to 200 ns per element and builds a new set of 30 to 80 bytes per
    element.  Where elements can be numbered, see `Bits`.
    """

    universe: frozenset[T] | None = field(default=None, repr=lambda u: u and show_set(map(repr, u)))

    @property
    def bottom(self) -> frozenset[T]:
        return frozenset()

    @property
    def top(self) -> frozenset[T]:
        if self.universe is None:
            raise LatticeError(
                "Powerset() has no top: it does not know all elements. "
                "Write Powerset(universe=...); a must-analysis needs none if it has a `boundary`"
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

    def parts(self, value: frozenset[T]) -> Iterable[frozenset[T]]:
        return [frozenset((element,)) for element in sorted(value, key=str)]

    def show(self, value: frozenset[T]) -> str:
        return show_set([str(element) for element in value])


@frozen
class Bits(Lattice[int]):
    """Sets of ints from 0 as the bits of one Python int, under union.

    The cost of a set is that of its largest element, not of how many it has: a byte for
    eight, and about 15 ns a join for each thousand.  So what decides between this and
    `Powerset` is density.  Sets with more than one in 500 of the numbers below their
    largest are faster here, a hundred times for dense ones, and with more than one in 200
    smaller; sparser ones are better off as a `Powerset`, ten times at one in 10,000.  Up to
    a thousand numbers it does not matter how sparse they are.  Ints are invisible to the
    garbage collector.

    `size` is needed only for `top`.
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
        return (value | old) ^ old | new  # as `value & ~old | new`, without a negative number

    @staticmethod
    def members(value: int) -> list[int]:
        """The elements of a set, ascending."""
        if value < 0:
            raise ValueError(f"{value} is no set: the bits of a negative number have no end")
        digits = bin(value)[:1:-1]
        found = []
        position = digits.find("1")
        while position >= 0:
            found.append(position)
            position = digits.find("1", position + 1)
        return found

    def parts(self, value: int) -> Iterable[int]:
        return [1 << member for member in self.members(value)]

    def show(self, value: int) -> str:
        return "{" + ", ".join(map(str, self.members(value))) + "}"


@frozen
class Chain(Lattice[int]):
    """Ints from `low` up to `high`, ordered by size; join is the larger.

    For counters, ranks and positions, such as "the last place this is used".  Without
    `high` the chain is infinite.  Loops that count need one, and a transfer that stops there:
    `min(value + 1, high)`.
    """

    low: int = 0
    high: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.high is not None and self.high < self.low:
            raise LatticeError(f"{self!r} has nothing in it: `high` is below `low`")

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
    compared by type and `==`, so that 1, 1.0 and True stay three constants; floats and tuples
    by `repr` too, so that 0.0 and -0.0 stay two, and so do (1,) and (True,).
    """

    @property
    def bottom(self) -> T | Bottom | Top:
        return BOTTOM

    @property
    def top(self) -> T | Bottom | Top:
        return TOP

    @staticmethod
    def _same(a: T | Bottom | Top, b: T | Bottom | Top) -> bool:
        return a is b or (
            type(a) is type(b)
            and a == b
            and (not isinstance(a, (float, complex, tuple)) or repr(a) == repr(b))
        )

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
