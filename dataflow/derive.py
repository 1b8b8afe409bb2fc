"""The smallest derivation of a fact, from the equations that give it.

A *goal* is a fact at a place; each way to derive it has other goals as premises.  Goals are settled
in the order of the size of their derivations (Knuth, 1977).  What is further away than a derivation
is large has no part in a smaller one, so nobody looks there.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from attrs import define, field

from dataflow.fewest import fewest
from dataflow.growth import Growth
from dataflow.hearing import Ear, Fact, Place, joined
from dataflow.premises import Goal, Said, covers
from dataflow.reason import Reason
from dataflow.system import UNREACHED

TOGETHER = "together"
FEW = 4
"""Goals of several parts at one place that are derived as they are."""


@define(eq=False)
class _Way:
    """One way to derive a goal."""

    by: str
    premises: Sequence[Goal]
    numbers: list[int] = field(factory=list, init=False)


class Derivations:
    """Derivations of any number of goals; what is found for one serves the others.

    With `growth`, facts may also rest on what was known when they came to be: needed where
    facts of a loop rest on each other.
    """

    def __init__(self, ear: Ear, limit: int, growth: Growth | None = None) -> None:
        self.ear, self.limit, self.growth = ear, limit, growth
        self._goals: list[Goal] = []
        self._numbers: dict[Hashable, int] = {}
        self._ways: dict[int, list[_Way]] = {}
        self._said: dict[Place, list[Said]] = {}
        self._reasons: dict[int, Reason[Any]] = {}
        self._grown: dict[Place, Derivations] = {}
        self._selections: dict[Place, int] = {}

    def derive(self, goal: Goal) -> Reason[Any]:
        """Why a goal holds.

        Parts of a fact that are only known together are searched for one by one.
        """
        root = at = self._number(goal)
        forced: dict[int, _Way] = {}  # each the only way there is
        ways = self._given(at)
        while at not in forced and len(ways) == 1 and len(ways[0].numbers) == 1:
            forced[at] = ways[0]
            at = ways[0].numbers[0]
            ways = self._given(at)
        if [way.by for way in ways] == [TOGETHER]:
            forced[at] = ways[0]
            for part in ways[0].numbers:
                if not self._search(part):
                    self._search_growth(part)
        elif at in forced or not self._search(at):
            self._search_growth(root)
            return self._reasons[root]
        for number in reversed(forced):
            self._conclude(number, forced[number])
        return self._reasons[root]

    def _search(self, root: int) -> bool:
        """Find the smallest derivation of a goal; False if it has none but circles."""
        distance = {root: 0}
        goals = [root]
        done, reach = 0, 1
        while True:
            while done < len(goals) and distance[goals[done]] <= reach:
                at = goals[done]
                done += 1
                for way in self._ways_of(at):
                    fresh = [number for number in way.numbers if number not in distance]
                    distance.update(dict.fromkeys(fresh, distance[at] + 1))
                    goals += dict.fromkeys(fresh)
            best, size = self._cheapest(root, goals[:done])
            if root in best and (size <= reach + 1 or done == len(goals)):
                break
            if done == len(goals):
                return False
            reach *= 2
        pending = [root]
        while pending:
            at = pending[-1]
            wanted = [n for n in best[at].numbers if n not in self._reasons]
            pending += wanted
            if not wanted:
                self._conclude(pending.pop(), best[at])
        return True

    def _cheapest(self, root: int, goals: Sequence[int]) -> tuple[dict[int, _Way], int]:
        """The best way to derive each of some goals, until the root has one, and the size of
        that."""
        users: dict[int, list[tuple[int, _Way]]] = {}
        missing: dict[_Way, int] = {}
        ready: list[tuple[int, int, int, _Way]] = []  # size, a tie-breaker, goal, way
        for at in goals:
            for way in self._ways[at]:
                missing[way] = len(way.numbers)
                for premise in way.numbers:
                    users.setdefault(premise, []).append((at, way))
                if not way.numbers:
                    ready.append((1, len(ready), at, way))
        count = len(ready)
        size: dict[int, int] = {}
        best: dict[int, _Way] = {}
        while ready and root not in best:
            cost, _, at, way = heapq.heappop(ready)
            if at in best:
                continue
            best[at], size[at] = way, cost
            for user, using in users.get(at, ()):
                missing[using] -= 1
                if not missing[using] and user not in best:
                    count += 1
                    total = 1 + sum(size[premise] for premise in using.numbers)
                    heapq.heappush(ready, (total, count, user, using))
        return best, size.get(root, 0)

    def _search_growth(self, root: int) -> None:
        """The same with what was known when facts came to be."""
        place, fact = self._goals[root]
        if place not in self._grown:
            growth = Growth(self.ear, place, self.limit)
            self._grown[place] = Derivations(self.ear, self.limit, growth)
        grown = self._grown[place]
        number = grown._number((place, fact))
        if grown._search(number):
            self._reasons[root] = grown._reasons[number]
        else:
            self._conclude(root, _Way("with facts that rest on each other", ()))

    def _conclude(self, number: int, way: _Way) -> None:
        """Note why a goal holds, its premises being explained."""
        if number not in self._reasons:
            place, fact = self._goals[number]
            premises = tuple(self._reasons[premise] for premise in way.numbers)
            shown = place.answer.lattice.show(fact)
            self._reasons[number] = Reason(str(place), shown, way.by, premises)

    # -- ways to derive a goal ------------------------------------------------------------

    def _number(self, goal: Goal) -> int:
        place, fact = goal
        key = place, fact if _hashes(fact) else repr(fact)
        if key not in self._numbers:
            self._numbers[key] = len(self._goals)
            self._goals.append(goal)
        return self._numbers[key]

    def _ways_of(self, number: int) -> list[_Way]:
        """The ways to derive a goal in a search: after the first few of several parts at one
        place part by part, since there are more selections of parts than anybody can try."""
        if number not in self._ways:
            place, fact = self._goals[number]
            parts = list(place.answer.lattice.parts(fact))
            if len(parts) > 1:
                self._selections[place] = self._selections.get(place, 0) + 1
            if self._selections.get(place, 0) > FEW and len(parts) > 1:
                self._ways[number] = self._numbered([self._apart(place, parts)])
            else:
                self._ways[number] = self._given(number)
        return self._ways[number]

    def _given(self, number: int) -> list[_Way]:
        """The ways that there are to derive a goal as a whole."""
        goal = self._goals[number]
        return self._numbered([*self._by_equations(goal), *self._by_growth(goal)])

    def _numbered(self, ways: list[_Way]) -> list[_Way]:
        for way in ways:
            way.numbers = list(dict.fromkeys(map(self._number, way.premises)))
        return ways

    def _apart(self, place: Place, parts: Sequence[Fact]) -> _Way:
        return _Way(TOGETHER, [(place, part) for part in parts])

    def _by_equations(self, goal: Goal) -> Iterator[_Way]:
        """Every equation that gives the fact, or what of several gives it together."""
        place, fact = goal
        lattice = place.answer.lattice
        if place not in self._said:
            said = [
                Said(self.ear, e, *self.ear.evaluate(e)) for e in place.answer.equations(place.at)
            ]
            self._said[place] = [each for each in said if each.given is not UNREACHED]
        said = self._said[place]
        alone = [each for each in said if covers(goal, each.given)]
        for each in alone:
            for premises in each.carriers(goal):
                yield _Way(each.equation.name, premises)
        if alone:
            return
        parts = [part for part in lattice.parts(fact) if not lattice.leq(fact, part)]
        if parts:
            yield self._apart(place, parts)
            return
        # No fact of one equation: what they say together.
        needed = fewest(
            said, lambda some: bool(some) and covers(goal, joined(lattice, [e.given for e in some]))
        )
        premises = [
            premise for each in needed for premise in next(each.carriers((place, each.given)))
        ]
        yield _Way("merged: " + " and ".join(each.equation.name for each in needed), premises)

    def _by_growth(self, goal: Goal) -> Iterator[_Way]:
        """How the fact came to be while the system was solved."""
        place, fact = goal
        lattice = place.answer.lattice
        if self.growth is None:
            return
        rise = self.growth.rise(place, lambda found: lattice.leq(fact, found))
        if rise is None:
            return
        premises: list[Goal] = []
        for event in rise.events:
            needed = fact if lattice.leq(fact, event.said) else event.said
            said = Said(self.ear, event.equation, event.said, event.read)
            premises += next(said.carriers((place, needed)))
        names = " and ".join(event.equation.name for event in rise.events)
        if rise.before is not UNREACHED:
            yield _Way(f"widened after {names}", [*premises, (place, rise.before)])
        else:
            yield _Way(names if len(rise.events) == 1 else f"merged: {names}", premises)


def _hashes(fact: object) -> bool:
    try:
        hash(fact)
    except TypeError:
        return False
    return True
