"""How facts grew: what a place rests on solved once more, and written down.

Around a loop facts can rest on each other: ⊤ comes out because ⊤ goes in.  None of the equations
begins them.  They came to be one after the other, and what each rested on then was there before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from dataflow.hearing import Ear, Equation, Fact, Place, joined
from dataflow.lattice import Lattice
from dataflow.solve import Sweep
from dataflow.system import UNREACHED, System


@frozen
class Event:
    """What an equation said at a time, from what it read."""

    time: int
    equation: Equation
    read: Mapping[Place, Fact]
    said: Fact


@frozen
class Rise:
    """How a place first came to cover a fact: the events that together give it.

    Where a loop leapt further than anything said, `before` is the fact that it leapt from; else
    it is UNREACHED.
    """

    events: Sequence[Event]
    before: Fact = UNREACHED


class Growth:
    """The solving of all that a place rests on.

    Its facts are below the solution's at any time: they hold.
    """

    def __init__(self, ear: Ear, goal: Place, limit: int) -> None:
        self.ear = ear
        self.number = {goal: 0}
        self.reads: dict[Place, list[tuple[int, Fact]]] = {}  # when it was read as what
        self.said: dict[Place, list[Event]] = {}
        self.time = 0
        places = [goal]
        self.equations: list[tuple[Place, Equation, list[Place]]] = []
        for place in places:  # grows while it is walked
            for equation in place.answer.equations(place.at):
                given, read = ear.evaluate(equation)
                if given is UNREACHED:
                    continue
                self.equations.append((place, equation, list(read)))
                new = [other for other in read if other not in self.number]
                self.number.update({other: len(places) + n for n, other in enumerate(new)})
                places += new
        system: System[tuple[int, Fact]] = System(
            [UNREACHED] * len(places),
            [tuple(self.number[other] for other in read) for _, _, read in self.equations],
            [(self.number[place],) for place, _, _ in self.equations],
            range(len(self.equations)),
            self._evaluate,
            lambda constraint: self.equations[constraint][1].name,
            lambda unknown: str(places[unknown]),
        )
        Sweep(system, _EachItsOwn(places), limit).run()

    def _evaluate(self, number: int, values: list[tuple[int, Fact]]) -> Sequence[Any]:
        place, equation, reads = self.equations[number]
        read = dict(zip(reads, [fact for _, fact in values], strict=True))
        said, _ = self.ear.evaluate(equation, lambda other: read.get(other, UNREACHED))
        for other, fact in read.items():
            self.reads.setdefault(other, []).append((self.time, fact))
        if said is not UNREACHED:
            event = Event(self.time, equation, read, said)
            self.said.setdefault(place, []).append(event)
            said = self.number[place], said
        self.time += 1
        return (said,)

    def rise(self, place: Place, covers: Callable[[Fact], bool]) -> Rise | None:
        """How a place first came to a fact that `covers` what is asked for; None if it
        never did."""
        reads = self.reads.get(place, ())
        end = next((time for time, fact in reads if covers(fact)), self.time)
        needed = [event for event in self.said.get(place, ()) if event.time < end]
        lattice = place.answer.lattice

        def enough(events: Sequence[Event]) -> bool:
            return bool(events) and covers(joined(lattice, [event.said for event in events]))

        if not enough(needed):  # widening did the rest
            before = [fact for time, fact in reads if time < end]
            return Rise(needed[-1:], before[-1]) if before else None
        for event in reversed(needed):  # what was first stays
            fewer = [other for other in needed if other is not event]
            if enough(fewer):
                needed = fewer
        return Rise(needed)


class _EachItsOwn(Lattice[tuple[int, Any]]):
    """Facts with the number of their place, each in the lattice of that; no leap goes beyond
    the solution."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = places

    @property
    def bottom(self) -> tuple[int, Any]:
        raise TypeError("each place has its own bottom")

    def join(self, a: tuple[int, Any], b: tuple[int, Any]) -> tuple[int, Any]:
        return a[0], self.places[a[0]].answer.lattice.join(a[1], b[1])

    def leq(self, a: tuple[int, Any], b: tuple[int, Any]) -> bool:
        return self.places[a[0]].answer.lattice.leq(a[1], b[1])

    def widen(self, old: tuple[int, Any], new: tuple[int, Any], visits: int) -> tuple[int, Any]:
        place = self.places[new[0]]
        lattice = place.answer.lattice
        wide = lattice.widen(old[1], new[1], visits)
        return new[0], wide if lattice.leq(wide, place.state) else place.state
