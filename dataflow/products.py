"""Lattices whose facts hold several facts side by side.

    Product   a pair
    Record    an instance of an attrs class, a lattice per field
    Reduced   a pair whose sides sharpen each other

Each side is joined, and widened where it grew, by its own lattice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic, TypeVar

import attrs
from attrs import field, frozen

from dataflow.combinators import show_named, widen_grown
from dataflow.lattice import Lattice, LatticeError, a_lattice, inner_lattice

A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R", bound=attrs.AttrsInstance)


def _parts(lattices: Sequence[Lattice[Any]], values: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
    """The parts of each component, the others at bottom; or at their value if they have none."""
    rest, complete = [], True
    for lattice, value in zip(lattices, values, strict=True):
        try:
            rest.append(lattice.bottom)
        except LatticeError:
            rest.append(value)
            complete = False
    found = False
    for at, lattice in enumerate(lattices):
        if rest[at] is values[at]:
            continue
        for part in lattice.parts(values[at]):
            found = True
            yield (*rest[:at], part, *rest[at + 1 :])
    if not found and not complete:
        yield tuple(rest)


@frozen
class Product(Lattice["tuple[A, B]"], Generic[A, B]):
    """Pairs of facts, each side by its own lattice.  For more than two, see `Record`."""

    first: Lattice[A] = field(validator=inner_lattice)
    second: Lattice[B] = field(validator=inner_lattice)

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
            widen_grown(self.first, old[0], new[0], visits),
            widen_grown(self.second, old[1], new[1], visits),
        )

    def parts(self, value: tuple[A, B]) -> Iterable[tuple[A, B]]:
        return [(first, second) for first, second in _parts((self.first, self.second), value)]

    def show(self, value: tuple[A, B]) -> str:
        return f"({self.first.show(value[0])}, {self.second.show(value[1])})"


@frozen(init=False, repr=False)
class Record(Lattice[R], Generic[R]):
    """Instances of a frozen attrs class, each field by its own lattice.

    The lattices are given by name, `Record(Size, rows=Interval(), columns=Interval())`, or
    with the fields, `rows: Range = field(metadata={"lattice": Interval()})`.
    """

    cls: type[R]
    lattices: tuple[tuple[str, Lattice[Any]], ...]
    _arguments: tuple[str, ...] = field(eq=False)

    def __init__(self, cls: type[R], /, **lattices: Lattice[Any]) -> None:
        fields = _comparable_fields(cls)
        if unknown := sorted(lattices.keys() - {a.name for a in fields}):
            raise LatticeError(f"{cls.__qualname__} has no field {unknown[0]!r} for a lattice")
        given: dict[str, Lattice[Any]] = {}
        for attribute in fields:
            name = attribute.name
            lattice: Any = lattices.get(name, attribute.metadata.get("lattice"))
            given[name] = lattice
            if isinstance(lattice, type):
                a_lattice(lattice, f"`{name}` of Record")
            if not isinstance(lattice, Lattice):
                raise LatticeError(
                    f"field {name!r} of {cls.__qualname__} has no lattice: write Record("
                    f"{cls.__qualname__}, {name}=...), or metadata={{'lattice': ...}} in its field"
                )
        arguments = tuple(a.alias or a.name for a in fields)
        self.__attrs_init__(cls, tuple(given.items()), arguments)

    def __repr__(self) -> str:
        return show_named("Record", self.lattices, self.cls.__qualname__)

    def _build(self, facts: Iterable[Any]) -> R:
        return self.cls(**dict(zip(self._arguments, facts, strict=True)))

    @property
    def bottom(self) -> R:
        return self._build(lattice.bottom for _, lattice in self.lattices)

    @property
    def top(self) -> R:
        return self._build(lattice.top for _, lattice in self.lattices)

    def join(self, a: R, b: R) -> R:
        if a is b:
            return a
        return self._build(
            lattice.join(getattr(a, name), getattr(b, name)) for name, lattice in self.lattices
        )

    def meet(self, a: R, b: R) -> R:
        return self._build(
            lattice.meet(getattr(a, name), getattr(b, name)) for name, lattice in self.lattices
        )

    def leq(self, a: R, b: R) -> bool:
        return all(
            lattice.leq(getattr(a, name), getattr(b, name)) for name, lattice in self.lattices
        )

    def widen(self, old: R, new: R, visits: int) -> R:
        return self._build(
            widen_grown(lattice, getattr(old, name), getattr(new, name), visits)
            for name, lattice in self.lattices
        )

    def parts(self, value: R) -> Iterable[R]:
        facts = [getattr(value, name) for name, _ in self.lattices]
        return [self._build(part) for part in _parts([found for _, found in self.lattices], facts)]

    def show(self, value: R) -> str:
        fields = [f"{name}={lattice.show(getattr(value, name))}" for name, lattice in self.lattices]
        return f"{self.cls.__qualname__}({', '.join(fields)})"


def _comparable_fields(cls: Any) -> tuple[attrs.Attribute[Any], ...]:  # Any: looked at here
    """The fields of a class whose instances are plain values; raises where they are not."""
    if not (isinstance(cls, type) and attrs.has(cls)):
        raise LatticeError(f"Record needs an attrs class, and {cls!r} is none")
    name = cls.__qualname__
    if cls.__eq__ is object.__eq__ or cls.__hash__ is None:
        raise LatticeError(
            f"facts are compared and never change: make {name} an attrs.frozen class"
        )
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(cls)
    for attribute in fields:
        if not attribute.init or not attribute.eq:
            raise LatticeError(
                f"field {attribute.name!r} of {name} must be an argument and be compared: "
                "remove init=False or eq=False, or the field"
            )
    return fields


REDUCED_WIDENINGS: Final = 8
"""How often a loop's widened fact is reduced, before it is left as it is."""


@frozen
class Reduced(Product[A, B]):
    """Pairs of facts about one thing, each side sharpened by what the other knows.

    `reduce` takes a pair to its canonical form, which means the same and says it as
    sharply as both sides together can: ([1, 9], even) becomes ([2, 8], even).  It has to

        shrink             leq(reduce(x), x)
        be idempotent      reduce(reduce(x)) == reduce(x)
        be monotone        leq(x, y) implies leq(reduce(x), reduce(y))

    Then canonical pairs are closed under the join of each side, which makes joins
    associative: reducing what two canonical pairs join to changes nothing.  A `reduce` that
    grows is refused where it happens; `check_lattice` finds the other two, on pairs made
    by `of`.  All operations reduce what they are given, so a transfer may return any pair.

    A reduction may take back what widening gave, for ever.  So at one place it is
    applied to the first few widened facts only.
    """

    reduce: Callable[[tuple[A, B]], tuple[A, B]] = field(
        kw_only=True, repr=lambda function: getattr(function, "__qualname__", repr(function))
    )

    def of(self, pair: tuple[A, B]) -> tuple[A, B]:
        """The canonical form of a pair."""
        reduced = self.reduce(pair)
        if not super().leq(reduced, pair):
            raise LatticeError(
                f"{self!r}: reduce must shrink, but makes {self.show(pair)} "
                f"into {self.show(reduced)}"
            )
        return reduced

    @property
    def bottom(self) -> tuple[A, B]:
        return self.of(super().bottom)

    @property
    def top(self) -> tuple[A, B]:
        return self.of(super().top)

    def join(self, a: tuple[A, B], b: tuple[A, B]) -> tuple[A, B]:
        return super().join(self.of(a), self.of(b))

    def meet(self, a: tuple[A, B], b: tuple[A, B]) -> tuple[A, B]:
        return self.of(super().meet(a, b))

    def leq(self, a: tuple[A, B], b: tuple[A, B]) -> bool:
        return super().leq(self.of(a), self.of(b))

    def widen(self, old: tuple[A, B], new: tuple[A, B], visits: int) -> tuple[A, B]:
        wide = super().widen(old, super().join(old, new), visits)
        return self.of(wide) if visits <= REDUCED_WIDENINGS else wide

    def parts(self, value: tuple[A, B]) -> Iterable[tuple[A, B]]:
        """The parts of the sides where they make up the pair; else the pair as it is."""
        try:
            bottom = joined = self.bottom
        except LatticeError:
            return [value]
        parts = [part for part in map(self.of, super().parts(value)) if part != bottom]
        for part in parts:
            joined = self.join(joined, part)
        return parts if joined == self.of(value) else [value]
