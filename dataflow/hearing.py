"""What equations read, and what they ask of other analyses while they are evaluated.

A *place* is an unknown of one analysis.  What an equation asks of other analyses (`Solved`,
`Partial`, `Shared`) it reads like what it lists.  An `Ear` notes both, and can let an equation
find less than what was solved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

from attrs import define, field, frozen

from dataflow.analysis import UNREACHED
from dataflow.lattice import Lattice, LatticeError
from dataflow.system import NotYet

Fact = Any
"""A fact of the lattice of whatever analysis it is of, or UNREACHED."""


@frozen(cache_hash=True)
class Place:
    """An unknown.  `at` is, of a sparse analysis, its number; of a dense one a block and how
    many of its nodes the analysis has gone through; of shared unknowns the key."""

    answer: Answer
    at: Any

    @property
    def state(self) -> Fact:
        """The solved fact, or UNREACHED."""
        return self.answer.state(self.at)

    def __str__(self) -> str:
        return self.answer.name(self.at)


@frozen(eq=False)
class Equation:
    """One way a fact comes to a place: the places it lists, and what it says of their facts."""

    name: str
    reads: Sequence[Place]
    say: Callable[[list[Fact]], Fact]


Find = Callable[[Place], Fact]
"""What is found at a place; UNREACHED, if nothing is known there."""


@define(eq=False)
class Ear:
    """Evaluates equations, and hears what they ask for and tell meanwhile."""

    _find: Find | None = field(default=None, init=False)
    _asked: dict[Place, Fact] = field(factory=dict, init=False)
    _states: dict[Place, Fact] = field(factory=dict, init=False)
    told: list[tuple[Place, Fact]] = field(factory=list, init=False)

    def state(self, place: Place) -> Fact:
        """The solved fact at a place, or UNREACHED."""
        if place not in self._states:
            self._states[place] = place.state
        return self._states[place]

    def evaluate(
        self, equation: Equation, find: Find | None = None
    ) -> tuple[Fact, dict[Place, Fact]]:
        """What an equation says, and the facts that it read for that: those of the solution,
        or what else it is to `find`."""
        self._find = find
        self._asked.clear()
        self.told.clear()
        try:
            values = [self.read(place) for place in equation.reads]
            reached = all(value is not UNREACHED for value in values)
            return equation.say(values) if reached else UNREACHED, dict(self._asked)
        except NotYet:
            return UNREACHED, dict(self._asked)
        finally:
            self._find = None

    def read(self, place: Place) -> Fact:
        """What the equation that is evaluated finds at a place."""
        fact = self._find(place) if self._find else self.state(place)
        self._asked[place] = fact
        return fact


class Answer:
    """The places that one answer consists of.

    `bottom` holds its lattice's bottom, if there is one.
    """

    lattice: Lattice[Any]

    @cached_property
    def bottom(self) -> tuple[Fact, ...]:
        try:
            return (self.lattice.bottom,)
        except LatticeError:
            return ()

    def state(self, at: Any) -> Fact:
        """The solved fact at a place, or UNREACHED."""
        raise NotImplementedError

    def name(self, at: Any) -> str:
        """A place, for people."""
        raise NotImplementedError

    def equations(self, at: Any) -> Iterator[Equation]:
        """All that say something of a place, the boundary first."""
        raise NotImplementedError


def joined(lattice: Lattice[Any], facts: Sequence[Fact]) -> Fact:
    """What one or several facts come to: halves first, so that none is copied often."""
    if len(facts) == 1:
        return facts[0]
    half = len(facts) // 2
    return lattice.join(joined(lattice, facts[:half]), joined(lattice, facts[half:]))
