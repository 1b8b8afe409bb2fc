"""Sizes that depend on symbols: polynomials, with what is no polynomial as further unknowns.

    Size          bytes or elements as a function of symbols, such as 4*batch*sequence**2
    Application   a value of `//`, `%`, `max` or `min` that stands in a polynomial like a symbol

Arithmetic is exact, on integers of any length.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import product
from math import prod

from attrs import define, field, frozen


@frozen
class Application:
    """`//`, `%`, `max` or `min` of sizes: no polynomial, but a number."""

    operator: str
    arguments: tuple[Size, ...]

    def at(self, values: Mapping[str, int]) -> int:
        """Its value at sizes of the symbols."""
        return _OPERATORS[self.operator](*(argument.at(values) for argument in self.arguments))

    def __str__(self) -> str:
        shown = [str(argument) for argument in self.arguments]
        if self.operator in ("max", "min"):
            return f"{self.operator}({', '.join(shown)})"
        inside = [f"({one})" if " " in one or "*" in one else one for one in shown]
        return f" {self.operator} ".join(inside)


_OPERATORS: Mapping[str, Callable[..., int]] = {
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "max": max,
    "min": min,
}

Atom = str | Application
Monomial = tuple[tuple[Atom, int], ...]
"""Atoms with their powers, in the order of their names."""


@define(eq=False, frozen=True, slots=False, repr=False)
class Size:
    """A sum of integers times products of atoms.  `Size.of(3)`, `Size.symbol("batch")`."""

    terms: Mapping[Monomial, int] = field(factory=dict)

    @classmethod
    def of(cls, number: int) -> Size:
        """A size that depends on nothing."""
        return cls({(): number} if number else {})

    @classmethod
    def symbol(cls, name: str) -> Size:
        """A symbol as a size."""
        return cls({((name, 1),): 1})

    @classmethod
    def apply(cls, operator: str, *arguments: Size) -> Size:
        """`//`, `%`, `max` or `min` of sizes; a number where all of them are."""
        made = Application(operator, arguments)
        if all(argument.constant is not None for argument in arguments):
            return cls.of(made.at({}))
        return cls({((made, 1),): 1})

    @cached_property
    def _key(self) -> frozenset[tuple[Monomial, int]]:
        return frozenset(self.terms.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Size) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __add__(self, other: Size) -> Size:
        return Size.sum((self, other))

    def __neg__(self) -> Size:
        return Size({monomial: -number for monomial, number in self.terms.items()})

    def __sub__(self, other: Size) -> Size:
        return Size.sum((self, -other))

    def __mul__(self, other: Size) -> Size:
        found: dict[Monomial, int] = {}
        for (one, a), (two, b) in product(self.terms.items(), other.terms.items()):
            monomial = _times(one, two)
            found[monomial] = found.get(monomial, 0) + a * b
        return Size({monomial: n for monomial, n in found.items() if n})

    @classmethod
    def sum(cls, sizes: Iterable[Size]) -> Size:
        """Sizes added up."""
        found: dict[Monomial, int] = {}
        for size in sizes:
            for monomial, number in size.terms.items():
                found[monomial] = found.get(monomial, 0) + number
        return cls({monomial: number for monomial, number in found.items() if number})

    def divided(self, factor: Size) -> Size:
        """This size without a factor that `common_factor` has found."""
        (monomial,) = factor.terms
        taken = dict(monomial)
        return Size(
            {
                tuple((a, p - taken.get(a, 0)) for a, p in old if p > taken.get(a, 0)): number
                for old, number in self.terms.items()
            }
        )

    @cached_property
    def constant(self) -> int | None:
        """The number it is, if it depends on no symbol."""
        if not self.terms:
            return 0
        return self.terms.get(()) if len(self.terms) == 1 else None

    @cached_property
    def symbols(self) -> frozenset[str]:
        """The symbols it depends on."""
        found = set[str]()
        for atom in self.atoms():
            if isinstance(atom, str):
                found.add(atom)
            else:
                found.update(*(argument.symbols for argument in atom.arguments))
        return frozenset(found)

    def atoms(self) -> Iterator[Atom]:
        """Its symbols and applications, each as often as it stands there."""
        return (atom for monomial in self.terms for atom, _ in monomial)

    def grows_with(self, names: Collection[str]) -> bool:
        """Whether it certainly gets no smaller where symbols with these names get larger."""
        return all(
            number > 0 and all(isinstance(atom, str) for atom, _ in monomial)
            for monomial, number in self.terms.items()
            if not Size({monomial: number}).symbols.isdisjoint(names)
        )

    def replaced(self, sizes: Mapping[str, Size]) -> Size:
        """It with sizes in place of symbols, none of which is in an application."""
        terms = []
        for monomial, number in self.terms.items():
            term = Size.of(number)
            for atom, power in monomial:
                known = sizes.get(atom) if isinstance(atom, str) else None
                factor = Size({((atom, 1),): 1}) if known is None else known
                term = prod([factor] * power, start=term)
            terms.append(term)
        return Size.sum(terms)

    def at(self, values: Mapping[str, int]) -> int:
        """Its value where the symbols have these.  Raises `KeyError` for one without."""
        return sum(
            number * prod(_value(atom, values) ** power for atom, power in monomial)
            for monomial, number in self.terms.items()
        )

    def __str__(self) -> str:
        text = ""
        for monomial, number in sorted(self.terms.items(), key=_order):
            alone = abs(number) == 1 and len(monomial) == 1
            factors = [_factor(atom, power, alone) for atom, power in monomial]
            if abs(number) != 1 or not factors:
                factors.insert(0, str(abs(number)))
            sign = ("- " if number < 0 else "+ ") if text else ("-" if number < 0 else "")
            text += f"{' ' if text else ''}{sign}{'*'.join(factors)}"
        return text or "0"

    def __repr__(self) -> str:
        return f"<Size {self}>"


def _factor(atom: Atom, power: int, alone: bool) -> str:
    """An atom's power as it stands in a product."""
    text = str(atom)
    if isinstance(atom, Application) and atom.operator in "//%" and not (alone and power == 1):
        text = f"({text})"
    return f"{text}**{power}" if power > 1 else text


def _times(one: Monomial, two: Monomial) -> Monomial:
    if not one or not two:
        return one or two
    powers = dict(one)
    for atom, power in two:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=lambda factor: str(factor[0])))


def _value(atom: Atom, values: Mapping[str, int]) -> int:
    return values[atom] if isinstance(atom, str) else atom.at(values)


def _order(term: tuple[Monomial, int]) -> tuple[int, str]:
    """Higher powers first."""
    return -sum(power for _, power in term[0]), str(term[0])


def common_factor(sizes: Iterable[Size]) -> Size:
    """The atoms, with their powers, that divide every term of all sizes."""
    common: dict[Atom, int] | None = None
    for size in sizes:
        for monomial in size.terms:
            powers = dict(monomial)
            known = powers if common is None else common
            common = {
                atom: min(power, powers[atom]) for atom, power in known.items() if atom in powers
            }
    return Size({tuple((common or {}).items()): 1})
