"""Orders in which to try: preferences among buffers, rules among niches, and all pairs.

Preferences by the largest load that a buffer is under, how full it is where it lives, lifetime and
area; three rules; two ways to choose a section.  None is best everywhere, so they take turns.
"""

from __future__ import annotations

from collections.abc import Sequence

from passes.planning.buffers import Buffer, Interval, Sections
from passes.planning.search import Niche, Strategy
from passes.planning.skyline import Preference


def _width(buffer: Buffer) -> int:
    return sum(end - start for start, end in buffer.lifetime)


Parts = Sequence[Interval]


def by_load_and_fullness(buffer: Buffer, parts: Parts, sections: Sections) -> tuple[int, ...]:
    """Under the largest load; then the longest where it is nearly as large."""
    return sections.largest_load(parts), sections.fullness(parts), buffer.size


def by_fullness(buffer: Buffer, parts: Parts, sections: Sections) -> tuple[int, ...]:
    """The longest where the load is nearly the largest."""
    return sections.fullness(parts), buffer.size


def by_load_and_width(buffer: Buffer, parts: Parts, sections: Sections) -> tuple[int, ...]:
    """Under the largest load; then the longest."""
    return sections.largest_load(parts), _width(buffer), buffer.size


def by_load_and_sections(buffer: Buffer, parts: Parts, sections: Sections) -> tuple[int, ...]:
    """Under the largest load; then alive in the most sections."""
    alive = sum(end - start for start, end in parts)
    return sections.largest_load(parts), alive, _width(buffer) * buffer.size


def by_load_and_area(buffer: Buffer, parts: Parts, sections: Sections) -> tuple[int, ...]:
    """Under the largest load; then the largest, times lifetime."""
    width = _width(buffer)
    return sections.largest_load(parts), width * buffer.size, width


def by_area(buffer: Buffer, parts: Parts, sections: Sections) -> tuple[int, ...]:
    """The largest, times lifetime."""
    width = _width(buffer)
    return width * buffer.size, width, sections.largest_load(parts)


def by_width(buffer: Buffer, parts: Parts, sections: Sections) -> tuple[int, ...]:
    """The longest; then the largest."""
    return _width(buffer), buffer.size, sections.largest_load(parts)


def tightest(niche: Niche, failures: int) -> tuple[float, ...]:
    """The niche whose section may be raised the least."""
    return niche.slack, niche.choices


def lowest(niche: Niche, failures: int) -> tuple[float, ...]:
    """The niche at the bottom."""
    return niche.floor, niche.slack


def most_failed(niche: Niche, failures: int) -> tuple[float, ...]:
    """The niche with few choices, and whose section was raised too high often."""
    return (niche.choices / (1 + failures),)


STRATEGIES = tuple(
    Strategy(preference, rule, follows_best)
    for preference in (by_load_and_width, by_load_and_area, by_load_and_sections, by_area)
    for follows_best in (True, False)
    for rule in (tightest, most_failed, lowest)
)
"""Those of searches that go on, in the order in which they take turns."""

QUICK: tuple[Preference | Strategy, ...] = (
    by_load_and_fullness,
    by_load_and_width,
    Strategy(by_load_and_fullness, tightest, follows_best=True),
    Strategy(by_load_and_area, tightest, follows_best=True),
    Strategy(by_fullness, tightest, follows_best=True),
    by_fullness,
    by_load_and_area,
    by_load_and_sections,
    by_area,
    by_width,
    Strategy(by_load_and_width, tightest, follows_best=True),
)
"""What finds most plans, in turn: a preference by a dive, a strategy by a search that hardly turns
back.  Of programs, mostly one of the first three does."""

PROVER = Strategy(by_load_and_area, tightest, follows_best=False)
"""The one that mostly proves first that there is no plan, for which preferences do not matter."""
