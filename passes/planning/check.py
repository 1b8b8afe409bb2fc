"""Whether a plan is one: no two buffers that are alive together overlap.

A sweep over time that keeps the arena's free and taken stretches.  Shares nothing with what
makes plans.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from passes.errors import PlanError
from passes.planning.buffers import Buffer


def check(buffers: Sequence[Buffer], offsets: Sequence[int], size: int, alignment: int = 1) -> None:
    """Raise PlanError unless these offsets are a plan within `size` bytes."""
    if len(offsets) != len(buffers):
        raise PlanError(f"{len(buffers)} buffers and {len(offsets)} offsets")
    for number, (buffer, offset) in enumerate(zip(buffers, offsets, strict=True)):
        if offset < 0 or offset + buffer.size > size:
            raise PlanError(
                f"buffer {number} is at {offset} to {offset + buffer.size}, in an arena of {size}"
            )
        if offset % alignment:
            raise PlanError(f"buffer {number} is at {offset}, not a multiple of {alignment}")
    events = sorted(
        (moment, is_start, number)
        for number, buffer in enumerate(buffers)
        for interval in buffer.lifetime
        for moment, is_start in zip(interval, (True, False), strict=True)
    )
    taken: list[tuple[int, int, int]] = []
    for moment, is_start, number in events:
        stretch = offsets[number], offsets[number] + buffers[number].size, number
        place = bisect_left(taken, stretch)
        if not is_start:
            del taken[place]
            continue
        for _, end, other in taken[max(place - 1, 0) : place]:
            if end > stretch[0]:
                raise _overlap(moment, other, number)
        for start, _, other in taken[place : place + 1]:
            if start < stretch[1]:
                raise _overlap(moment, other, number)
        insort(taken, stretch)


def _overlap(moment: int, one: int, other: int) -> PlanError:
    return PlanError(f"buffers {one} and {other} overlap, and both are alive at {moment}")
