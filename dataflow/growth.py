"""How the facts of a system grew while it was solved: the solving once more, written down.

Around a loop facts can rest on each other: ⊤ comes out because ⊤ goes in.  None of the equations
begins them.  They came to be one after the other, and what each rested on then was there before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from attrs import evolve, frozen

from dataflow.lattice import Lattice
from dataflow.solve import Sweep
from dataflow.system import UNREACHED, System

V = TypeVar("V")


@frozen
class Event(Generic[V]):
    """What a constraint said of the unknown at a position of its writes, from what it read."""

    time: int
    constraint: int
    position: int
    read: Sequence[V]
    said: V


@frozen
class Rise(Generic[V]):
    """How an unknown first came to cover a fact: the events that together give it.

    `start` is the boundary's fact, if it is needed, too.  Where a loop leapt further than anything
    said, `before` is the fact that it leapt from.
    """

    events: Sequence[Event[V]]
    start: V | None = None
    before: V | None = None


class Growth(Generic[V]):
    """The solving of a system, written down."""

    def __init__(self, system: System[V], lattice: Lattice[V], limit: int) -> None:
        self.initial, self.lattice = system.initial, lattice
        self.reads: dict[int, list[tuple[int, V]]] = {}  # per unknown, when it was read as what
        self.said: dict[int, list[Event[V]]] = {}
        time = 0

        def evaluate(constraint: int, values: list[V]) -> Sequence[Any]:
            nonlocal time
            said = system.evaluate(system.subjects[constraint], values)
            for unknown, value in zip(system.reads[constraint], values, strict=True):
                self.reads.setdefault(unknown, []).append((time, value))
            for position, unknown in enumerate(system.writes[constraint]):
                fact = said[position]
                if fact is not UNREACHED:
                    event = Event(time, constraint, position, list(values), fact)
                    self.said.setdefault(unknown, []).append(event)
            time += 1
            return said

        every = range(len(system.reads))
        again = evolve(system, subjects=every, evaluate=evaluate, sequence=every, is_straight=False)
        Sweep(again, lattice, limit).run()
        self.end = time

    def read(self, unknown: int, covers: Callable[[V], bool]) -> V | None:
        """The first fact that an unknown was read as and that `covers` what is asked for."""
        return next((fact for _, fact in self.reads.get(unknown, ()) if covers(fact)), None)

    def rise(self, unknown: int, covers: Callable[[V], bool]) -> Rise[V] | None:
        """How an unknown first came to a fact that `covers` what is asked for; None if it
        never did."""
        reads = self.reads.get(unknown, ())
        end = next((time for time, fact in reads if covers(fact)), self.end)
        start = self.initial[unknown]
        events = [event for event in self.said.get(unknown, ()) if event.time < end]
        facts = [event.said for event in events]
        if start is not UNREACHED:
            facts.insert(0, start)
        if not facts or not covers(self._joined(facts)):  # widening did the rest
            before = [fact for time, fact in reads if time < end]
            return Rise(events[-1:], before=before[-1]) if before else None
        needed = list(range(len(facts)))
        for number in reversed(range(len(facts))):  # what was first stays
            fewer = [other for other in needed if other != number]
            if fewer and covers(self._joined([facts[other] for other in fewer])):
                needed = fewer
        if start is UNREACHED:
            return Rise([events[number] for number in needed])
        return Rise([events[n - 1] for n in needed if n], start if 0 in needed else None)

    def _joined(self, facts: Sequence[V]) -> V:
        total = facts[0]
        for fact in facts[1:]:
            total = self.lattice.join(total, fact)
        return total
