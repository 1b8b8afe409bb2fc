"""One pass from the bottom up: the best buffer that fits goes into the lowest niche.

Gives a plan, in a time that is nearly linear for the lifetimes of programs.  It is not
always the smallest plan, and says nothing of how far from it it is.
"""

from __future__ import annotations

from passes.planning.skyline import Puzzle, Skyline, fitting, next_floor


def dive(puzzle: Puzzle) -> list[int]:
    """An offset for each buffer."""
    offsets = [0] * len(puzzle.order)
    if not offsets:
        return offsets
    skyline = Skyline.flat(len(puzzle.sections.load))
    unplaced = puzzle.everything
    while unplaced:
        niche = skyline.lowest()
        floor = skyline.heights[niche]
        found = fitting(puzzle, skyline, niche, unplaced)
        if not found:
            skyline.fill(niche, next_floor(puzzle, skyline, niche, unplaced))
            continue
        best = found & -found
        unplaced ^= best
        bit = best.bit_length() - 1
        offsets[puzzle.order[bit]] = floor
        parts = puzzle.parts[bit]
        if len(parts) == 1:
            skyline.put(niche, parts[0], floor + puzzle.sizes[bit])
        else:
            skyline.put_all(parts, floor + puzzle.sizes[bit])
    return offsets
