"""Which of several sizes are the greatest somewhere?

Answered by cutting the box of the symbols into smaller ones until bounds decide (branch and
bound).  Bounds hold for every point of a box, so a size that is dropped is nowhere the only
greatest; nothing is assumed of the sizes, that they grow, say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import frozen

from passes.symbolic.bounds import Box, Interval, is_natural
from passes.symbolic.sizes import Size, common_factor

ENOUGH = 400
"""How many boxes are looked at before the rest stays undecided."""

ENDLESS = 8.0
"""How wide an interval without end is, relative to where it begins: whether to cut it first."""


@frozen
class Greatest:
    """A size that no others together are above, and a point where it is the greatest; None
    where none was found, though none of the others is known to be above it either."""

    index: int
    point: Mapping[str, int] | None


def upper_envelope(sizes: Sequence[Size], box: Box) -> tuple[Greatest, ...]:
    """The upper envelope: which of the sizes are the greatest somewhere in a box.

    Together they are the maximum of all at every point.  Of equal sizes the first counts.
    """
    found: dict[int, Mapping[str, int]] = {}
    undecided = set[int]()
    boxes = deque([(box, list(range(len(sizes))))])
    for _ in range(ENOUGH):
        if not boxes:
            break
        here, candidates = boxes.popleft()
        candidates = _undominated(sizes, candidates, here)
        for point in points(here):
            best = max(candidates, key=lambda index: (sizes[index].at(point), -index))
            found.setdefault(best, point)
        if len(candidates) > 1 and not found.keys() >= set(candidates):
            cut = _halves(here, (sizes[index] for index in candidates))
            if cut is None:
                undecided.update(candidates)
            boxes.extend((half, candidates) for half in cut or ())
    for _, candidates in boxes:
        undecided.update(candidates)
    kept = sorted(found.keys() | undecided)
    return tuple(Greatest(index, found.get(index)) for index in kept)


def _undominated(sizes: Sequence[Size], candidates: Sequence[int], box: Box) -> list[int]:
    """Candidates without those that others together are never below in the box."""
    low = {name: first for name, (first, _) in box.items()}
    far = {name: 4 * first + 64 if last is None else last for name, (first, last) in box.items()}
    order = sorted(candidates, key=lambda i: (-sizes[i].at(far), -sizes[i].at(low), i))
    kept: list[int] = []
    for index in _corners(sizes, order, (far, low), box):
        if not any(is_natural(sizes[other] - sizes[index], box) for other in kept):
            kept.append(index)
    return sorted(kept)


def _corners(
    sizes: Sequence[Size], order: Sequence[int], at: Sequence[Mapping[str, int]], box: Box
) -> list[int]:
    """Candidates, the greatest first, without those that neighbours are never below.

    Where a backward pass frees an activation and makes a gradient per layer, sizes are points
    of a line, and only its ends count.  Comparing each with each would take a square of layers.
    """
    kept: list[int] = []
    for index in order:
        if kept and is_natural(sizes[kept[-1]] - sizes[index], box):
            continue
        while len(kept) > 1 and _is_between(
            sizes[kept[-2]], sizes[kept[-1]], sizes[index], at, box
        ):
            kept.pop()
        kept.append(index)
    return kept


def _is_between(
    one: Size, middle: Size, other: Size, at: Iterable[Mapping[str, int]], box: Box
) -> bool:
    """Whether a mean of two sizes, with weights that fit at one of the points, is nowhere below
    the one in the middle; then neither is the greater of them."""
    for point in at:
        first, second = middle.at(point) - other.at(point), one.at(point) - middle.at(point)
        if first * second >= 0 and first + second:
            a, b = Size.of(abs(first)), Size.of(abs(second))
            if is_natural(one * a + other * b - middle * (a + b), box):
                return True
    return False


def points(box: Box) -> Iterator[Mapping[str, int]]:
    """The lowest corner, the middle and the highest corner; somewhere far for no end."""
    ends = {name: 4 * low + 64 if high is None else high for name, (low, high) in box.items()}
    for part in (0, 1, 2):
        yield {name: low + (ends[name] - low) * part // 2 for name, (low, _) in box.items()}


def _halves(box: Box, sizes: Iterable[Size]) -> tuple[Box, Box] | None:
    """A box cut in two where it is relatively widest; None for a single point."""

    def width(name: str) -> float:
        low, high = box[name]
        return ENDLESS if high is None else (high - low) / (low + 1)

    sizes = list(sizes)
    factor = common_factor(sizes)  # what it decides, it decides for all
    used = frozenset[str]().union(*(size.divided(factor).symbols for size in sizes))
    widest = max(used, key=width, default=None)
    if widest is None or box[widest][0] == box[widest][1]:
        return None
    below, above = halved(box[widest])
    return {**box, widest: below}, {**box, widest: above}


def halved(interval: Interval) -> tuple[Interval, Interval]:
    """Two parts of an interval that has more than one number."""
    low, high = interval
    middle = 2 * low + 1 if high is None else (low + high) // 2
    return (low, middle), (middle + 1, high)
