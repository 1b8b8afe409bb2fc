"""Programs whose dimensions are symbols: what the symbols are, and facts for all their sizes.

    Symbol       a dynamic dimension: its name, where it stands, its range
    Facts        a program and its storages' sizes as functions of the symbols, with the
                 conditions under which they hold
    Dynamic      the symbols of a program, and how to find facts that hold around given sizes

Which storages are shared may depend on sizes: a transposed tensor with one row is
contiguous, so that `reshape` returns a view of it.  Frontends therefore find facts at some
sizes, and note every question about sizes that decided something there.  The answers are
the conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import frozen

from passes.errors import ProgramError
from passes.program import Program
from passes.symbolic.bounds import Box, bounds
from passes.symbolic.sizes import Size


@frozen
class Symbol:
    """A dimension whose size is not fixed.

    `places` are the sizes of inputs that it decides, such as `x.shape[0]`; `low` and `high`
    are its least and greatest size (None: no greatest), and `example` the one that the
    program was loaded with.
    """

    name: str
    places: tuple[str, ...]
    low: int
    high: int | None
    example: int

    @property
    def range(self) -> str:
        """Its range, as text."""
        return f"{self.low}..{'' if self.high is None else self.high}"


@frozen(eq=False)
class Condition:
    """Something that is true of the sizes: `size` compared with 0, or what `holds` says.

    `text` says it in words; without `size` only single points can be decided.
    """

    text: str
    holds: Callable[[Mapping[str, int]], bool]
    relation: str = ""
    size: Size | None = None

    @property
    def opposite(self) -> Condition | None:
        """What is true of the sizes where this is not; None if that cannot be said."""
        if self.relation != ">=" or self.size is None:
            return None
        size = -self.size - Size.of(1)
        return Condition(f"not {self.text}", lambda at: not self.holds(at), ">=", size)

    def is_same(self, other: Condition) -> bool:
        """Whether another one says the same."""
        if self.size is None:
            return self.text == other.text
        return self.relation == other.relation and self.size == other.size

    def holds_in(self, box: Box) -> bool:
        """Whether it certainly holds at every point of a box."""
        if self.size is not None:
            least, most = bounds(self.size, box)
            if self.relation == ">=":
                return least is not None and least >= 0
            if self.relation == "==":
                return least == most == 0
            if self.relation == "!=":
                return (least is not None and least > 0) or (most is not None and most < 0)
        if any(low != high for low, high in box.values()):
            return False
        return self.holds({name: low for name, (low, _) in box.items()})


@frozen(eq=False)
class Facts:
    """A program and its storages as functions of symbols, wherever the conditions hold.

    `sizes` are bytes by the number of a storage that is there at entry or that an op
    allocates; of those in `bounded` the data decides them, and these are the most they can be;
    one that is missing has no known size.  `again` are numbers of iterations by
    the index of the loop's op, where they are not those of `RegionFlow.again`.  `box` has the
    sizes of the symbols that `program` is for: from 2 on, or a single one.
    """

    program: Program
    sizes: Mapping[int, Size]
    bounded: frozenset[int]
    again: Mapping[int, Size]
    box: Box
    conditions: tuple[Condition, ...]

    def pin(self, name: str) -> bool:
        """Whether a condition leaves a symbol a single size."""
        return any(
            condition.relation == "==" and condition.size and condition.size.symbols == {name}
            for condition in self.conditions
        )

    def hold_in(self, box: Box) -> bool:
        """Whether these are the facts at every point of a box."""
        return all(map(_within, box.values(), (self.box[name] for name in box))) and all(
            condition.holds_in(box) for condition in self.conditions
        )


def _within(inner: tuple[int, int | None], outer: tuple[int, int | None]) -> bool:
    return inner[0] >= outer[0] and (
        outer[1] is None or (inner[1] is not None and inner[1] <= outer[1])
    )


@frozen(eq=False)
class Dynamic:
    """The symbols of a program, and a way to facts: `find` walks the program with the given
    sizes as examples, so that the facts hold there and at all sizes that no condition
    excludes, and compares it with the program as it was loaded, or else as it is at these
    sizes.  Raises `CaptureError` where that is impossible.  `named` is the same with other
    names, given by the old ones; `of_graph` the same of another graph over the same inputs, None
    for what is recorded anew at each size."""

    symbols: tuple[Symbol, ...]
    find: Callable[[Mapping[str, int], Program], Facts]
    named: Callable[[Mapping[str, str]], Dynamic]
    of_graph: Callable[[object], Dynamic | None]

    def symbol(self, name: str) -> Symbol:
        """The symbol with a name, or that decides the size at a place, such as `x.shape[0]`.

        Raises `ProgramError` if there is none.
        """
        for symbol in self.symbols:
            if name in (symbol.name, *symbol.places):
                return symbol
        told = (f"{s.name} ({', '.join(s.places)}; {s.range})" for s in self.symbols)
        raise ProgramError(f"no dynamic dimension is called {name!r}: there are {', '.join(told)}")
