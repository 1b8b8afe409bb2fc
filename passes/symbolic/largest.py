"""What is the largest size of a symbol whose bytes are within a budget?

The range is cut until bounds decide; where bytes grow with the symbol that is bisection.
Nothing is assumed of them: of an interval in which bounds do not decide both halves are
looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from attrs import define, frozen

from passes.errors import CaptureError, ProgramError
from passes.symbolic.bounds import Box, Interval, bounds
from passes.symbolic.envelope import halved
from passes.symbolic.sizes import Size

FARTHEST = 2**62
"""No dimension is larger."""


@frozen
class Largest:
    """The largest size of a symbol within a budget.

    `limit` says what keeps it from being larger: the "budget", the end of its "range", or
    "nothing", because every size fits; then `value` is None, as it is where no size fits.
    `total_bytes` are all bytes at `value`, and `next_bytes` those at the next size (at the
    smallest size where none fits), None where there is none.
    """

    symbol: str
    value: int | None
    limit: Literal["budget", "range", "nothing"]
    total_bytes: int | None
    next_bytes: int | None


class Totals(Protocol):
    """All bytes together, as functions of the symbols."""

    def totals(self, box: Box) -> tuple[Size, ...] | None:
        """Sizes whose maximum it is everywhere in a box; None if not the same ones are."""

    def total_at(self, sizes: Mapping[str, int]) -> int:
        """The bytes where symbols have these sizes."""


@define
class Search:
    """The largest size of one symbol, where the others have the given sizes.

    `example` is the size that the program was loaded with.  Where it cannot be at a smaller one,
    too small for the model maybe, neither that one nor those below are within the budget.
    """

    totals: Totals
    name: str
    example: int
    sizes: Mapping[str, int]
    budget: int

    def run(self, low: int, high: int | None) -> Largest:
        """The answer for a range."""
        end = self._end(low) if high is None else high
        if end is None:
            return Largest(self.name, None, "nothing", None, None)
        value = self._within((low, end)) if end >= low else None
        if value is None:
            return Largest(self.name, None, "budget", None, self._at(low))
        limit: Literal["budget", "range"] = "range" if value == high else "budget"
        beyond = None if value == high else self._at(value + 1)
        return Largest(self.name, value, limit, self._at(value), beyond)

    def _end(self, low: int) -> int | None:
        """A size above which none is within the budget; None if all from some on are."""
        start = max(low, 2)  # below are cases of their own
        while start < FARTHEST:
            try:
                totals = self._totals((start, None))
            except CaptureError:
                if not self._may_be_too_small(start):
                    raise
                totals = None
            if totals is not None:
                if self._is_over(totals, (start, None)):
                    return start - 1
                if self._is_under(totals, (start, None)):
                    return None
            start = 2 * start + 1
        raise ProgramError(
            f"whether bytes exceed {self.budget} at large sizes of {self.name} is not decided: "
            f"export with a greatest size, as in Dim({self.name!r}, max=4096)"
        )

    def _within(self, interval: Interval) -> int | None:
        """The largest size in a finite interval that is within the budget."""
        high = interval[1]
        assert high is not None
        try:
            totals = self._totals(interval)
        except CaptureError:
            if not self._may_be_too_small(high):
                raise
            return None
        if totals is not None:
            if self._is_over(totals, interval):
                return None
            nbytes = self._at(high)
            if nbytes is not None and nbytes <= self.budget:
                return high
        if interval[0] == high:
            return None  # there is no program of this size
        below, above = halved(interval)
        found = self._within(above)
        return self._within(below) if found is None else found

    def _box(self, interval: Interval) -> Box:
        return {**{name: (size, size) for name, size in self.sizes.items()}, self.name: interval}

    def _totals(self, interval: Interval) -> tuple[Size, ...] | None:
        return self.totals.totals(self._box(interval))

    def _at(self, size: int) -> int | None:
        """Bytes at a size; None if the program cannot be loaded there."""
        try:
            return self.totals.total_at({**self.sizes, self.name: size})
        except CaptureError:
            if not self._may_be_too_small(size):
                raise
            return None

    def _may_be_too_small(self, size: int) -> bool:
        return size < max(self.example, 2)

    def _is_over(self, totals: tuple[Size, ...], interval: Interval) -> bool:
        """Whether no size in an interval is within the budget."""
        least = (bounds(total, self._box(interval))[0] for total in totals)
        return any(low is not None and low > self.budget for low in least)

    def _is_under(self, totals: tuple[Size, ...], interval: Interval) -> bool:
        """Whether all sizes in an interval are within the budget."""
        most = (bounds(total, self._box(interval))[1] for total in totals)
        return all(high is not None and high <= self.budget for high in most)
