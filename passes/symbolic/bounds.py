"""Between which numbers are sizes, for symbols in given ranges?

Bounds hold at every point; they need not be tight, but at a single point they are the value.
What is not known is None, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from math import comb, prod

from passes.symbolic.sizes import Atom, Monomial, Size, common_factor

Interval = tuple[int, int | None]
Box = Mapping[str, Interval]
"""Least and greatest value of each symbol; None: there is no greatest."""

Bounds = tuple[int | None, int | None]
"""The same of a size, where the least may not be known either."""


def is_natural(size: Size, box: Box) -> bool:
    """Whether a size is certainly never negative in a box."""
    low, _ = bounds(size, box)
    if low is None and size.symbols:
        factor = common_factor((size,))
        positive, _ = bounds(factor, box)
        if positive is not None and positive >= 0:
            low, _ = bounds(size.divided(factor), box)
    return low is not None and low >= 0


def extreme(which: str, sizes: Iterable[Size], box: Box) -> Size:
    """The "max" or "min" of sizes, without those that never matter in a box; 0 of none."""
    kept: list[Size] = []
    for size in dict.fromkeys(sizes):
        if not any(_decides(which, other, size, box) for other in kept):
            kept = [other for other in kept if not _decides(which, size, other, box)]
            kept.append(size)
    if len(kept) > 1:
        return Size.apply(which, *kept)
    return kept[0] if kept else Size.of(0)


def _decides(which: str, one: Size, other: Size, box: Box) -> bool:
    """Whether a size makes another one superfluous in a maximum or minimum."""
    return is_natural(one - other if which == "max" else other - one, box)


def bounds(size: Size, box: Box) -> Bounds:
    """Least and greatest value in a box, as far as they are known.

    Each atom is its least value and something from 0 to its width.  After multiplying out,
    a product of such widths is between 0 and what it is where all are greatest.
    """
    ranges: dict[Atom, Interval] = {}
    for atom in size.atoms():
        low, high = _range(atom, box)
        if low is None:
            return None, None
        ranges[atom] = low, high
    shifted: dict[Monomial, int] = {}
    for monomial, number in size.terms.items():
        for moved, coefficient in _shifted(monomial, ranges):
            shifted[moved] = shifted.get(moved, 0) + number * coefficient
    # What widths without end are multiplied with decides by its sign alone.
    least: dict[Monomial, int] = {(): 0}
    greatest: dict[Monomial, int] = {(): 0}
    for monomial, number in shifted.items():
        endless = []
        most = number
        for atom, power in monomial:
            low, high = ranges[atom]
            if high is None:
                endless.append((atom, power))
            else:
                most *= (high - low) ** power
        end = tuple(endless)
        bounded = len(end) < len(monomial)  # so that it may be 0, too
        least[end] = least.get(end, 0) + (min(most, 0) if bounded else number)
        greatest[end] = greatest.get(end, 0) + (max(most, 0) if bounded else number)
    low, high = least.pop(()), greatest.pop(())
    return (
        None if any(number < 0 for number in least.values()) else low,
        None if any(number > 0 for number in greatest.values()) else high,
    )


def _shifted(monomial: Monomial, ranges: Mapping[Atom, Interval]) -> Iterator[tuple[Monomial, int]]:
    """A product of atoms in terms of what each is above its least value."""
    choices = [
        [(atom, taken, comb(power, taken) * ranges[atom][0] ** (power - taken))
         for taken in range(power + 1)]
        for atom, power in monomial
    ]  # fmt: skip
    for chosen in product(*choices):
        factors = tuple((atom, taken) for atom, taken, _ in chosen if taken)
        yield factors, prod(coefficient for _, _, coefficient in chosen)


def _range(atom: Atom, box: Box) -> Bounds:
    """Least and greatest value of an atom."""
    if isinstance(atom, str):
        return box[atom]
    found = [bounds(argument, box) for argument in atom.arguments]
    lows = [low for low, _ in found if low is not None]
    highs = [high for _, high in found if high is not None]
    all_lows, all_highs = len(lows) == len(found), len(highs) == len(found)
    if atom.operator == "max":
        return max(lows, default=None), max(highs) if all_highs else None
    if atom.operator == "min":
        return min(lows) if all_lows else None, min(highs, default=None)
    (low, high), (divisor, greatest) = found
    if divisor is None or divisor < 1:
        return None, None
    if atom.operator == "%":
        if low is not None and high is not None and divisor == greatest:
            same_turn = low // divisor == high // divisor
            return (low % divisor, high % divisor) if same_turn else (0, divisor - 1)
        return 0, None if greatest is None else greatest - 1
    return _divided(low, greatest, divisor, 0), _divided(high, divisor, greatest, -1)


def _divided(number: int | None, above: int | None, below: int | None, endless: int) -> int | None:
    """`number // divisor`, with one divisor for numbers from 0 on and one for those below;
    `endless` where that one has no bound."""
    if number is None:
        return None
    divisor = above if number >= 0 else below
    return endless if divisor is None else number // divisor
