"""The fewest that are enough: what is needed of a lot, without trying all that it has.

QuickXplain (Junker, 2004).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def fewest(some: Sequence[T], enough: Callable[[Sequence[T]], bool]) -> list[T]:
    """Some of `some` that are enough together, and of which none can be left out.

    All of them are enough, and more are where fewer are; what comes first is kept rather than
    what comes later.  To find k of n it asks some k log(n / k) times.
    """

    def needed(given: Sequence[T], more: bool, rest: Sequence[T]) -> list[T]:
        """What of `rest` is needed when the others are `given`; `more` than when last asked."""
        if not rest or (more and enough(given)):
            return []
        if len(rest) == 1:
            return list(rest)
        half = len(rest) // 2
        later = needed([*given, *rest[:half]], True, rest[half:])
        return needed([*given, *later], bool(later), rest[:half]) + later

    return needed((), True, some)
