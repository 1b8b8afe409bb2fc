"""One system of equations: what the four ways to pose a problem come to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import cached_property
from typing import Any, Final, Generic, Literal, TypeVar

from attrs import define, field

V = TypeVar("V")


class Answer(Enum):
    """`UNREACHED`: no execution gets here.  Neither bottom nor any other fact."""

    UNREACHED = "unreached"

    def __repr__(self) -> str:
        return self.name


UNREACHED: Final = Answer.UNREACHED
Unreached = Literal[Answer.UNREACHED]


class NotYet(Exception):
    """Nothing is known yet of what was asked for; the constraint says nothing."""


@define(eq=False, frozen=True, slots=False, repr=False)
class System(Generic[V]):
    """Constraints over unknowns, all numbered.

    `initial` is the state to start from: `UNREACHED`, or the boundary's fact.  A
    constraint is evaluated, as `evaluate(subjects[c], facts it reads)`, only while
    everything it reads is reached; a fact it gives may be `UNREACHED`, which says nothing.
    `asks`: constraints also read and tell others while they run.  `sequence` has the
    constraints in the analysis' direction: a straight-line program needs no other order, and
    `is_straight` says that this is known to be one.
    `is_rapid` (Kam and Ullman, 1976): once around a loop is enough to know what it does to a
    fact, so the solver goes around outermost loops as a whole, and none needs widening.
    `first` is the number of the first node's constraint; None where it is not one by one.
    `node_of` is the number of the node that a constraint is of, if it is not that easy.
    `bottom` is the lattice's where unknowns begin with it, the very object.
    `ends` write nothing, so no fact of others rests on them, but have facts inside: the blocks
    from which an analysis goes nowhere.  Solving leaves them out unless somebody watches: an
    observer, or `is_watched`.
    `constraint_name` and `unknown_name` are for messages.
    """

    initial: Sequence[V | Unreached]
    reads: Sequence[Sequence[int]]
    writes: Sequence[Sequence[int]]
    subjects: Sequence[object]
    evaluate: Callable[[Any, list[V]], Sequence[V | Unreached]]  # Any: a subject of its own kind
    constraint_name: Callable[[int], str]
    unknown_name: Callable[[int], str]
    sequence: Sequence[int] = field()
    first: int | None = None
    is_straight: bool = False
    is_rapid: bool = False
    asks: bool = False
    bottom: V | Unreached = UNREACHED
    ends: Sequence[int] = ()
    is_watched: bool = False
    node_of: Callable[[int], int | None] | None = None

    @sequence.default
    def _as_given(self) -> Sequence[int]:
        return range(len(self.reads))

    def __repr__(self) -> str:
        return f"<System of {len(self.reads)} constraints over {len(self.initial)} unknowns>"

    @cached_property
    def writers(self) -> list[list[tuple[int, int]]]:
        """Per unknown, the constraints that write it, each with the position it has there."""
        found: list[list[tuple[int, int]]] = [[] for _ in self.initial]
        for constraint, outputs in enumerate(self.writes):
            for position, unknown in enumerate(outputs):
                found[unknown].append((constraint, position))
        return found

    def node(self, constraint: int) -> int | None:
        """The number of the node that a constraint is of; None for others."""
        if self.node_of is not None:
            return self.node_of(constraint)
        of_nodes = self.first is not None and constraint >= self.first
        return constraint - self.first if of_nodes else None  # type: ignore[operator]  # is one
