"""Orders in which to try: preferences among buffers, rules among niches, and all pairs.

Four preferences, by largest load that a buffer is under, lifetime and area; three rules; two
ways to choose a section.  None is best everywhere, so a search takes turns among all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from passes.planning.buffers import Buffer, Interval
from passes.planning.search import Niche, Strategy


def _width(buffer: Buffer) -> int:
    return sum(end - start for start, end in buffer.lifetime)


def by_load_and_width(buffer: Buffer, parts: Sequence[Interval], load: int) -> tuple[int, ...]:
    """Under the largest load; then the longest."""
    return load, _width(buffer), buffer.size


def by_load_and_sections(buffer: Buffer, parts: Sequence[Interval], load: int) -> tuple[int, ...]:
    """Under the largest load; then alive in the most sections."""
    return load, sum(end - start for start, end in parts), _width(buffer) * buffer.size


def by_load_and_area(buffer: Buffer, parts: Sequence[Interval], load: int) -> tuple[int, ...]:
    """Under the largest load; then the largest, times lifetime."""
    return load, _width(buffer) * buffer.size, _width(buffer)


def by_area(buffer: Buffer, parts: Sequence[Interval], load: int) -> tuple[int, ...]:
    """The largest, times lifetime."""
    return _width(buffer) * buffer.size, _width(buffer), load


def by_width(buffer: Buffer, parts: Sequence[Interval], load: int) -> tuple[int, ...]:
    """The longest; then the largest."""
    return _width(buffer), buffer.size, load


def tightest(niche: Niche, failures: int) -> tuple[float, ...]:
    """The niche whose section may be raised the least."""
    return niche.slack, niche.choices


def lowest(niche: Niche, failures: int) -> tuple[float, ...]:
    """The niche at the bottom."""
    return niche.floor, niche.slack


def most_failed(niche: Niche, failures: int) -> tuple[float, ...]:
    """The niche with few choices, and whose section was raised too high often."""
    return (niche.choices / (1 + failures),)


PREFERENCES = (by_load_and_width, by_load_and_area, by_load_and_sections, by_area, by_width)
"""The first four are those of searches; all are those of dives."""

STRATEGIES = tuple(
    Strategy(preference, rule, follows_best)
    for preference in PREFERENCES[:4]
    for follows_best in (True, False)
    for rule in (tightest, most_failed, lowest)
)
"""Every preference with every rule, in the order in which they take turns."""

QUICK = tuple(
    Strategy(preference, rule, follows_best=True)
    for rule in (lowest, tightest)
    for preference in (by_load_and_area, by_load_and_width)
)
"""The few that mostly find a plan without turning back."""

PROVER = Strategy(by_load_and_area, tightest, follows_best=False)
"""The one that mostly proves first that there is no plan, for which preferences do not matter."""
