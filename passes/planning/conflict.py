"""The few buffers for which there is no room, of many.

A *conflict* is a set of buffers of which no plan is within a capacity.  It is *minimal* if there
is a plan whenever one of them is left out.  There may be others, and smaller ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field

from passes.planning.buffers import Buffer, Sections
from passes.planning.dive import dive
from passes.planning.search import Outcome, Search
from passes.planning.skyline import Puzzle
from passes.planning.strategies import PROVER


@define(eq=False)
class Conflict:
    """A conflict that gets smaller: `numbers` of buffers, and whether it `is_minimal`.

    Given a set that is known to be one, and how many steps all searches may take together; each
    may take an eighth of what is left.
    """

    buffers: Sequence[Buffer]
    numbers: list[int]
    capacity: int
    steps: int
    deadline: float
    is_minimal: bool = field(init=False, default=True)

    def __attrs_post_init__(self) -> None:
        """Leave out what can be: first many at once, at last each alone."""
        self.numbers = sorted(self.numbers)
        count = len(self.numbers) // 2
        while count:
            at = 0
            while at < len(self.numbers):
                rest = self.numbers[:at] + self.numbers[at + count :]
                outcome = self._outcome(rest)
                if outcome is Outcome.IMPOSSIBLE:
                    self.numbers = rest
                    continue
                if outcome is Outcome.UNDECIDED and count == 1:
                    self.is_minimal = False
                at += count
            count //= 2

    def _outcome(self, numbers: Sequence[int]) -> Outcome | None:
        """What a search for a plan of some of the buffers comes to; None if there is one."""
        part = [self.buffers[number] for number in numbers]
        puzzle = Puzzle(part, Sections.of(part), PROVER.preference)
        tops = (offset + b.size for offset, b in zip(dive(puzzle), part, strict=True))
        if max(tops, default=0) <= self.capacity:
            return None
        search = Search(puzzle, PROVER, self.capacity, self.steps // 8, self.deadline)
        found = search.run()
        self.steps -= search.taken
        return found if isinstance(found, Outcome) else None
