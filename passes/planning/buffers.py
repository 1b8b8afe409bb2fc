"""What a planner is asked: buffers with sizes and lifetimes; sections of time.

A *section* is a stretch of time in which no buffer dies before one is born: what is alive
in it is alive together.  Only sections whose buffers are not all in a neighbour's matter,
so there are at most as many as lifetimes, and a buffer lives in some of them, in a row.

The *lower bound* is the most bytes alive together.  No arena is smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate

from attrs import define, frozen

from passes.errors import PlanError

Interval = tuple[int, int]
"""A stretch of time: the first moment, and the first one after it."""

LARGEST = 1 << 62
"""No arena is this large: offsets have to fit in 64 bits."""

SQUARINGS = 6
"""How often the share of a section is squared, for its weight: that halves with each per cent of
the lower bound that is free."""


@frozen
class Buffer:
    """A size, and the intervals of time in which it is alive: in order and apart."""

    lifetime: tuple[Interval, ...]
    size: int


def _is_interval(found: object) -> bool:
    return isinstance(found, (tuple, list)) and len(found) == 2


def as_buffer(number: int, given: object) -> Buffer:
    """A Buffer from `(start, end, size)`, or a Buffer checked.  Raises PlanError."""
    if isinstance(given, Buffer):
        buffer = given
    elif isinstance(given, (tuple, list)) and len(given) == 3:
        start, end, size = given
        buffer = Buffer(((start, end),), size)
    else:
        raise PlanError(f"buffer {number} is {given!r}: give (start, end, size) or a Buffer")
    lifetime: object = buffer.lifetime
    if not isinstance(lifetime, (tuple, list)) or not all(map(_is_interval, lifetime)):
        raise PlanError(
            f"buffer {number} has the lifetime {lifetime!r}: give intervals, as in ((0, 2), (5, 7))"
        )
    if not buffer.lifetime:
        raise PlanError(f"buffer {number} has no lifetime: leave it out")
    last = None
    for start, end in buffer.lifetime:
        if type(start) is not int or type(end) is not int:
            raise PlanError(f"buffer {number} lives from {start!r} to {end!r}: give integers")
        if start >= end:
            raise PlanError(f"buffer {number} ends at {end}, not after its start at {start}")
        if last is not None and start <= last:
            raise PlanError(f"buffer {number}: its intervals are not in order and apart")
        last = end
    if type(buffer.size) is not int or buffer.size <= 0:
        raise PlanError(f"buffer {number} has the size {buffer.size!r}: give a positive integer")
    return buffer


@define(eq=False)
class Sections:
    """Time, cut into sections.

    `parts[i]` are the ranges of sections in which buffer `i` is alive, `load[s]` the bytes
    alive in section `s`.
    """

    parts: list[list[Interval]]
    load: list[int]

    @classmethod
    def of(cls, buffers: Sequence[Buffer]) -> Sections:
        """Cut the time of buffers at each death that follows a birth."""
        events = sorted(
            (moment, is_start, number)
            for number, buffer in enumerate(buffers)
            for interval in buffer.lifetime
            for moment, is_start in zip(interval, (True, False), strict=True)
        )
        parts: list[list[Interval]] = [[] for _ in buffers]
        load: list[int] = []
        begun = [0] * len(buffers)
        alive, grown = 0, False
        for _, is_start, number in events:
            if is_start:
                begun[number] = len(load)
                alive += buffers[number].size
                grown = True
            else:
                if grown:
                    load.append(alive)
                    grown = False
                alive -= buffers[number].size
                own = parts[number]
                if own and own[-1][1] == begun[number]:
                    own[-1] = own[-1][0], len(load)  # a gap in which no section lies
                else:
                    own.append((begun[number], len(load)))
        return cls(parts, load)

    @property
    def lower_bound(self) -> int:
        """The most bytes alive together."""
        return max(self.load, default=0)

    def largest_load(self, parts: Iterable[Interval]) -> int:
        """The largest load in some ranges of sections, at the cost of a look-up for each."""
        found = 0
        for start, end in parts:
            level = (end - start).bit_length() - 1
            table = self._maxima[level]
            found = max(found, table[start], table[end - (1 << level)])
        return found

    def fullness(self, parts: Iterable[Interval]) -> int:
        """The weight of some ranges of sections: those that are nearly full weigh the most."""
        return sum(self._weights[end] - self._weights[start] for start, end in parts)

    @cached_property
    def _maxima(self) -> list[list[int]]:
        """`[level][s]` is the largest load in the `2 ** level` sections from `s`."""
        tables = [self.load]
        while 2 ** len(tables) <= len(self.load):
            table, half = tables[-1], 2 ** (len(tables) - 1)
            tables.append(list(map(max, table, table[half:])))
        return tables

    @cached_property
    def _weights(self) -> list[int]:
        """What all sections before each weigh.  In integers, so the same on every machine."""
        most = self.lower_bound
        weights = [(load << 32) // most for load in self.load]
        for _ in range(SQUARINGS):
            weights = [weight * weight >> 32 for weight in weights]
        return [0, *accumulate(weights)]

    def alive_at(self, section: int) -> list[int]:
        """The numbers of the buffers alive in a section."""
        return [
            number
            for number, parts in enumerate(self.parts)
            if any(start <= section < end for start, end in parts)
        ]


def components(buffers: Sequence[Buffer]) -> list[list[int]]:
    """Buffer numbers in groups of which no two are ever alive together.

    A lifetime with gaps counts as one without.
    """
    ordered = sorted(range(len(buffers)), key=lambda number: buffers[number].lifetime[0][0])
    groups: list[list[int]] = []
    end: int | None = None
    for number in ordered:
        lifetime = buffers[number].lifetime
        if end is None or lifetime[0][0] >= end:
            groups.append([])
            end = lifetime[-1][1]
        groups[-1].append(number)
        end = max(end, lifetime[-1][1])
    return groups


def round_up(size: int, alignment: int) -> int:
    """The next multiple of `alignment`."""
    return -(-size // alignment) * alignment


def total(buffers: Iterable[Buffer]) -> int:
    """Bytes of all buffers, side by side."""
    return sum(buffer.size for buffer in buffers)
