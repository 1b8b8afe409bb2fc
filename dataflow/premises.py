"""What an equation must read to give a fact.

A read *carries* a fact if the equation still gives it with bottom in the place of all other
reads.  Where none does alone, some do together.  Of what is read, parts may be enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from attrs import define

from dataflow.fewest import fewest
from dataflow.hearing import Ear, Equation, Fact, Place, joined
from dataflow.lattice import Lattice, LatticeError
from dataflow.system import UNREACHED

Goal = tuple[Place, Fact]
"""A fact to be explained, and where."""


@define(eq=False, slots=False)
class Said:
    """An equation, the fact it gives, and what it read for that.

    What it gives of other reads is found out at most once for all facts that are asked for.
    """

    ear: Ear
    equation: Equation
    given: Fact
    read: Mapping[Place, Fact]

    @cached_property
    def fixed(self) -> dict[Place, Fact]:
        """Reads that have no bottom to put in their place: they count as carriers."""
        return {place: fact for place, fact in self.read.items() if not place.answer.bottom}

    @cached_property
    def others(self) -> dict[Place, Fact]:
        """The other reads."""
        return {place: fact for place, fact in self.read.items() if place.answer.bottom}

    @cached_property
    def begun(self) -> Fact:
        """What it gives with bottom in the place of all reads."""
        return self.say(self.fixed)

    @cached_property
    def alone(self) -> dict[Place, Fact]:
        """What it gives of each read alone."""
        if len(self.read) == 1:
            return dict.fromkeys(self.others, self.given)
        return {place: self.say({**self.fixed, place: fact}) for place, fact in self.others.items()}

    def say(self, kept: Mapping[Place, Fact]) -> Fact:
        """What it gives when it finds what is kept, and bottom elsewhere; UNREACHED, if it
        cannot do with that."""

        def find(place: Place) -> Fact:
            state = self.ear.state(place)
            if place in kept or state is UNREACHED:
                return kept.get(place, state)
            return place.answer.bottom[0] if place.answer.bottom else state

        try:
            given, _ = self.ear.evaluate(self.equation, find)
        except Exception:  # it cannot do with less
            return UNREACHED
        return given

    def carriers(self, goal: Goal) -> Iterator[list[Goal]]:
        """What it must read to give a fact: each read that is enough without the others; else
        some that are, of which none can be left out."""
        if covers(goal, self.begun):
            yield self.lowered(goal, self.fixed)
            return
        alone = [place for place, given in self.alone.items() if covers(goal, given)]
        for place in alone:
            yield self.lowered(goal, {**self.fixed, place: self.read[place]})
        if not alone:
            together = fewest(
                list(self.others.items()),
                lambda some: covers(goal, self.say({**self.fixed, **dict(some)})),
            )
            yield self.lowered(goal, {**self.fixed, **dict(together)})

    def lowered(self, goal: Goal, kept: Mapping[Place, Fact]) -> list[Goal]:
        """Parts of what is read that are enough."""
        lower = dict(kept)
        for place in kept:
            lower[place] = self.needed(goal, lower, place)
        return list(lower.items())

    def needed(self, goal: Goal, kept: Mapping[Place, Fact], place: Place) -> Fact:
        """What of the fact that is kept at a place is enough: what of the goal comes from there
        as it is, and the fewest other parts."""
        lattice, state = place.answer.lattice, kept[place]
        fewer = {other: fact for other, fact in kept.items() if other != place}

        def say(fact: Fact) -> Fact:
            return self.say({**fewer, place: fact})

        through: list[Fact] = []
        if lattice == goal[0].answer.lattice:
            through = common(lattice, goal[1], state)
            if place.answer.bottom:
                begun = self.begun if len(kept) == 1 else self.say(fewer)
                through = [left for fact in through for left in without(lattice, fact, begun)]
            for fact in through:
                given = say(fact)
                if covers(goal, given):
                    return fact
                through = common(lattice, fact, given)

        def enough(some: Sequence[Fact]) -> bool:
            return bool(some) and covers(goal, say(joined(lattice, some)))

        more = fewest(list(lattice.parts(state)), lambda some: enough([*through, *some]))
        if not enough(more):
            more = [*through, *more]
        return joined(lattice, more) if more else state


def covers(goal: Goal, given: Fact) -> bool:
    """Whether what is given at its place is the goal's fact, or more."""
    return given is not UNREACHED and goal[0].answer.lattice.leq(goal[1], given)


def common(lattice: Lattice[Any], fact: Fact, other: Fact) -> list[Fact]:
    """What of a fact the other has, too, if anything."""
    if other is UNREACHED:
        return []
    if lattice.leq(fact, other):
        return [fact]
    try:
        return [lattice.meet(fact, other)]
    except LatticeError:
        return []


def without(lattice: Lattice[Any], fact: Fact, other: Fact) -> list[Fact]:
    """What of a fact the other has not, if anything."""
    if other is UNREACHED:
        return [fact]
    try:
        return [lattice.replace(fact, other, lattice.bottom)]
    except LatticeError:
        parts = [part for part in lattice.parts(fact) if not lattice.leq(part, other)]
        return [joined(lattice, parts)] if parts else []
