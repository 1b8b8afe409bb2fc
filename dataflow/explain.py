"""Why does a fact hold?  A smallest derivation of it, from the same equations as the loop.

A fact may be any `f` with `leq(f, state)`: one element of a set, one key of a map.  An
equation gives it at a place.  A read of that equation *carries* it if the equation still gives
it with bottom in the place of all other reads; where none does alone, some do together.  What
is read must then have a fact, too, at another place.  Without carriers the fact begins there:
the node itself says it, or the boundary.  Where no single equation gives all of it, several do
together.

Of all derivations the answer is one with the fewest steps, a fact that is needed twice counted
twice, and none goes in a circle.  Where facts of a loop only rest on each other, they rest on what
they first rested on while they grew (`growth`).
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen

from dataflow.analysis import UNREACHED
from dataflow.equations import ALONG
from dataflow.growth import Growth
from dataflow.hearing import Ear, Equation, Fact, Place, joined
from dataflow.results import PointResults, Results, UnreachedError, ValueResults
from dataflow.stand_ins import Answers

N = TypeVar("N")
V = TypeVar("V")


@frozen(eq=False)
class Reason(Generic[V]):
    """A fact at a place, what gives it there, and the facts that this rests on."""

    place: str
    fact: str
    by: str
    premises: tuple[Reason[V], ...]

    def lines(self) -> Iterator[str]:
        """The explanation, from the question to where it begins.

        Under each fact is what it rests on: behind dashes, save for the one that goes on.
        """
        told: set[Reason[V]] = set()
        pending: list[tuple[Reason[V], str, str]] = [(self, "", "")]
        while pending:
            reason, first, rest = pending.pop()
            again = reason in told and bool(reason.premises)
            told.add(reason)
            if reason.by != ALONG:
                ending = "" if reason.premises else ", where it begins"
                by = "as above" if again else f"{reason.by}{ending}"
                yield f"{first}{reason.fact} {reason.place}: {by}"
                first = rest
                if again:
                    continue
            onward = reason.premises
            if len(onward) > 1:
                onward = tuple(premise for premise in onward if premise.premises)
            goes_on = onward[0] if len(onward) == 1 else None
            aside = [premise for premise in reason.premises if premise is not goes_on]
            if goes_on is not None:
                pending.append((goes_on, first, rest))
            pending += [(premise, f"{rest}- ", f"{rest}  ") for premise in reversed(aside)]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    @property
    def steps(self) -> int:
        """How many facts the derivation has."""
        found = dict.fromkeys([self])
        pending = [self]
        while pending:
            fresh = [premise for premise in pending.pop().premises if premise not in found]
            found.update(dict.fromkeys(fresh))
            pending += fresh
        return len(found)


def why(results: Results[N, V], where: object, fact: V | None = None) -> Reason[V]:
    """Why a fact holds before a node, or of a value; by default all that is known there.

    The answer goes on in other analyses that were asked (`Solved`, `Partial`, `Shared`).
    Raises `ValueError` if it does not hold, `UnreachedError` where nothing is reached.
    """
    if isinstance(results, PointResults):
        state = results.before(where)
    elif isinstance(results, ValueResults):
        state = results.of(where)
    else:
        raise TypeError(f"{results!r} is not the result of solve()")
    lattice = results.analysis.lattice
    wanted = state if fact is None else fact
    if not lattice.leq(wanted, state):
        raise ValueError(
            f"{lattice.show(wanted)} does not hold at {where}: the fact there is "
            f"{lattice.show(state)}"
        )
    answers = Answers(results)
    return _Search(answers.ear, results.sweep.limit).derive((answers.place(where), wanted))


Goal = tuple[Place, Fact]


@define(eq=False)
class _Way:
    """One way to derive a goal."""

    by: str
    premises: list[Goal]
    numbers: list[int] = field(factory=list, init=False)
    missing: int = field(default=0, init=False)


class _Search:
    """The cheapest derivation (Knuth, 1977): goals are settled in the order of their size."""

    def __init__(self, ear: Ear, limit: int) -> None:
        self.ear, self.limit = ear, limit

    def derive(self, goal: Goal, growth: Growth | None = None) -> Reason[Any]:
        """With `growth`, facts may also rest on what was known when they came to be: needed where
        facts of a loop rest on each other."""
        goals: list[Goal] = [goal]
        number = {self.key(goal): 0}
        users: dict[int, list[tuple[int, _Way]]] = {}
        ready: list[tuple[int, int, int, _Way]] = []  # size, a tie-breaker, goal, way
        count = 0
        for at, each in enumerate(goals):  # grows while it is walked
            ways = [*self.ways(each), *(self.origins(each, growth) if growth else ())]
            for way in ways:
                numbers = []
                for premise in way.premises:
                    key = self.key(premise)
                    if key not in number:
                        number[key] = len(goals)
                        goals.append(premise)
                    numbers.append(number[key])
                way.numbers = list(dict.fromkeys(numbers))
                way.missing = len(way.numbers)
                for premise_number in way.numbers:
                    users.setdefault(premise_number, []).append((at, way))
                if not way.numbers:
                    count += 1
                    heapq.heappush(ready, (1, count, at, way))
        size: dict[int, int] = {}
        best: dict[int, _Way] = {}
        while ready and 0 not in best:
            cost, _, at, way = heapq.heappop(ready)
            if at in best:
                continue
            best[at], size[at] = way, cost
            for user, using in users.get(at, ()):
                using.missing -= 1
                if not using.missing and user not in best:
                    count += 1
                    total = 1 + sum(size[premise] for premise in using.numbers)
                    heapq.heappush(ready, (total, count, user, using))
        if 0 not in best and not growth:
            return self.derive(goal, Growth(self.ear, goal[0], self.limit))
        return self.reason(0, goals, best)

    def key(self, goal: Goal) -> Hashable:
        place, fact = goal
        return place, fact if _hashes(fact) else repr(fact)

    def ways(self, goal: Goal) -> Iterator[_Way]:
        """Every equation that gives the fact, or what of several gives it together."""
        place, fact = goal
        lattice = place.answer.lattice
        said: list[tuple[Equation, Fact]] = []
        for equation in place.answer.equations(place.at):
            given, _ = self.ear.evaluate(equation)
            if given is not UNREACHED:
                said.append((equation, given))
        alone = [equation for equation, given in said if lattice.leq(fact, given)]
        for equation in alone:
            _, read = self.ear.evaluate(equation)
            for premises in self.carriers(equation, goal, read):
                yield _Way(equation.name, premises)
        if alone:
            return
        smaller = [part for part in lattice.parts(fact) if not lattice.leq(fact, part)]
        if smaller:
            yield _Way("together", [(place, part) for part in smaller])
            return
        # No fact of one equation: what they say together.
        needed = list(said)
        for each in said:
            rest = [other for other in needed if other is not each]
            if rest and lattice.leq(fact, joined(lattice, [given for _, given in rest])):
                needed = rest
        premises = [
            premise
            for equation, given in needed
            for premise in self.enough(equation, (place, given))
        ]
        yield _Way("merged: " + " and ".join(equation.name for equation, _ in needed), premises)

    def origins(self, goal: Goal, growth: Growth) -> Iterator[_Way]:
        """How the fact came to be while the system was solved."""
        place, fact = goal
        lattice = place.answer.lattice
        rise = growth.rise(place, lambda found: lattice.leq(fact, found))
        if rise is None:
            return
        premises: list[Goal] = []
        for event in rise.events:
            needed = fact if lattice.leq(fact, event.said) else event.said
            premises += next(self.carriers(event.equation, (place, needed), event.read))
        names = " and ".join(event.equation.name for event in rise.events)
        if rise.before is not UNREACHED:
            yield _Way(f"widened after {names}", [*premises, (place, rise.before)])
        else:
            yield _Way(names if len(rise.events) == 1 else f"merged: {names}", premises)

    def carriers(
        self, equation: Equation, goal: Goal, read: Mapping[Place, Fact]
    ) -> Iterator[list[Goal]]:
        """What an equation must read, and where, to give a fact: each read that is enough
        without the others; else some that are, of which none can be left out."""
        # Where there is no bottom to put in its place, a read counts as a carrier.
        kept = {place: fact for place, fact in read.items() if not place.answer.bottom}
        others = {place: fact for place, fact in read.items() if place.answer.bottom}
        if self.gives(equation, goal, kept):
            yield self.lowered(equation, goal, kept)
            return
        enough = [p for p, f in others.items() if self.gives(equation, goal, {**kept, p: f})]
        for place in enough:
            yield self.lowered(equation, goal, {**kept, place: others[place]})
        if enough:
            return
        for place in others:
            fewer = {other: fact for other, fact in read.items() if other != place}
            if self.gives(equation, goal, fewer):
                read = fewer
        yield self.lowered(equation, goal, read)

    def enough(self, equation: Equation, goal: Goal) -> list[Goal]:
        """What an equation must read, of the solution, to give a fact."""
        _, read = self.ear.evaluate(equation)
        return next(self.carriers(equation, goal, read))

    def lowered(self, equation: Equation, goal: Goal, kept: Mapping[Place, Fact]) -> list[Goal]:
        """Parts of what is read that are enough."""
        kept = dict(kept)
        for place, state in kept.items():
            lattice = place.answer.lattice
            small = list(lattice.parts(state))
            if lattice == goal[0].answer.lattice and lattice.leq(goal[1], state):
                small.insert(0, goal[1])
            for part in small:
                if self.gives(equation, goal, {**kept, place: part}):
                    kept[place] = part
                    break
        return list(kept.items())

    def gives(self, equation: Equation, goal: Goal, kept: Mapping[Place, Fact]) -> bool:
        def find(place: Place) -> Fact:
            state = self.ear.state(place)
            if place in kept or state is UNREACHED:
                return kept.get(place, state)
            return place.answer.bottom[0] if place.answer.bottom else state

        try:
            given, _ = self.ear.evaluate(equation, find)
        except Exception:  # it cannot do with less
            return False
        return given is not UNREACHED and goal[0].answer.lattice.leq(goal[1], given)

    def reason(self, root: int, goals: list[Goal], best: dict[int, _Way]) -> Reason[Any]:
        """The derivation as a tree, built from its leaves."""
        if root not in best:
            place, fact = goals[root]
            by = "with facts that rest on each other"
            return Reason(str(place), place.answer.lattice.show(fact), by, ())
        made: dict[int, Reason[Any]] = {}
        pending = [root]
        while pending:
            at = pending[-1]
            wanted = [p for p in best[at].numbers if p not in made]
            pending += wanted
            if wanted or pending.pop() in made:
                continue
            place, fact = goals[at]
            made[at] = Reason(
                str(place),
                place.answer.lattice.show(fact),
                best[at].by,
                tuple(made[premise] for premise in best[at].numbers),
            )
        return made[root]


def _hashes(fact: object) -> bool:
    try:
        hash(fact)
    except TypeError:
        return False
    return True


__all__ = ["Reason", "UnreachedError", "why"]
