"""Why does a fact hold?  A smallest derivation of it, from the same equations as the loop.

A fact may be any `f` with `leq(f, state)`: one element of a set, one key of a map.  An
equation gives it at a place.  A read of that equation *carries* it if the equation loses
it with bottom in the read's place; what the read must then have is again a fact, at
another place.  Without carriers the fact begins there: the node itself says it, or the
boundary.  Where no single equation gives all of it, several do together.

Of all derivations the answer is one with the fewest steps, and none goes in a circle.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen

from dataflow.analysis import UNREACHED, Backward, Forward
from dataflow.lattice import Lattice, LatticeError
from dataflow.results import PointResults, Results, UnreachedError, ValueResults

N = TypeVar("N")
V = TypeVar("V")

Place = Hashable
"""An unknown of a sparse analysis; of a dense one a block, and how many of its nodes the
analysis has gone through."""


ALONG = "along an edge"


@frozen
class Equation(Generic[V]):
    """One way a fact comes to a place: what it reads, and what it gives of that."""

    name: str
    reads: Sequence[Place]
    give: Callable[[list[V]], Any]  # a fact, or UNREACHED


@frozen(eq=False)
class Reason(Generic[V]):
    """A fact at a place, what gives it there, and the facts that this rests on."""

    place: str
    fact: str
    by: str
    premises: tuple[Reason[V], ...]

    def lines(self, first: str = "", rest: str = "") -> Iterator[str]:
        """The explanation, from the question to where it begins."""
        reason, indent = self, first
        while True:
            if reason.by != ALONG:
                begins = "" if reason.premises else ", where it begins"
                yield f"{indent}{reason.fact} {reason.place}: {reason.by}{begins}"
                indent = rest
            if len(reason.premises) != 1:
                break
            reason = reason.premises[0]
        for premise in reason.premises:
            yield from premise.lines(f"{rest}- ", f"{rest}  ")

    def __str__(self) -> str:
        return "\n".join(self.lines())

    @property
    def steps(self) -> int:
        """How many facts the derivation has."""
        return 1 + sum(premise.steps for premise in self.premises)


def why(results: Results[N, V], where: object, fact: V | None = None) -> Reason[V]:
    """Why a fact holds before a node, or of a value; by default all that is known there.

    Raises `ValueError` if it does not hold, `UnreachedError` where nothing is reached.
    """
    equations: _Equations[V]
    place: Place
    if isinstance(results, PointResults):
        equations, place = _Points(results), _place(results, where)
        state = results.before(where)
    elif isinstance(results, ValueResults):
        equations, place = _Values(results), results.flow.value(where)
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
    return _Search(equations, lattice).derive((place, wanted))


def _place(results: PointResults[Any, Any], node: object) -> tuple[int, int]:
    block, position = results.flow.place(node)
    length = len(results.flow.blocks[block])
    return block, length - position if isinstance(results.analysis, Backward) else position


class _Equations(Generic[V]):
    """What gives a fact at a place."""

    def state(self, place: Any) -> Any:
        """The solved fact at a place, or UNREACHED."""
        raise NotImplementedError

    def name(self, place: Any) -> str:
        raise NotImplementedError

    def of(self, place: Any) -> Iterator[Equation[V]]:
        """The equations for a place, the boundary first."""
        raise NotImplementedError


class _Values(_Equations[V]):
    """A fact per value."""

    def __init__(self, results: ValueResults[Any, V]) -> None:
        self.system, self.states = results.sweep.system, results.states
        self.asks = self.system.asks
        self.results = results

    def state(self, place: int) -> Any:
        if place < len(self.states):
            return self.states[place]
        return self.results.sweep.state[place]

    def name(self, place: int) -> str:
        return f"of {self.system.unknown_name(place)}"

    def of(self, place: int) -> Iterator[Equation[V]]:
        system = self.system
        start = system.initial[place]
        if start is not UNREACHED:
            yield Equation("the boundary", (), lambda _: start)
        for constraint, position in system.writers[place]:
            subject = system.subjects[constraint]

            def give(values: list[Any], subject: object = subject, position: int = position) -> Any:
                return system.evaluate(subject, values)[position]

            yield Equation(system.constraint_name(constraint), system.reads[constraint], give)


class _Points(_Equations[V]):
    """A fact per program point, node by node."""

    def __init__(self, results: PointResults[Any, V]) -> None:
        self.results, self.flow = results, results.flow
        analysis = results.analysis
        assert isinstance(analysis, (Forward, Backward))
        self.analysis = analysis
        self.backward = isinstance(analysis, Backward)
        pairs = [(t, s) if self.backward else (s, t) for s, t in self.flow.edges]
        self.into: dict[int, list[tuple[int, Any]]] = {}
        for (source, target), way in zip(pairs, self.flow.ways, strict=True):
            self.into.setdefault(target, []).append((source, way))

    def node(self, block: int, step: int) -> Any:
        nodes = self.flow.blocks[block]
        return self.flow.nodes[nodes[-1 - step] if self.backward else nodes[step]]

    def state(self, place: tuple[int, int]) -> Any:
        block, steps = place
        if self.results.states[block] is UNREACHED:
            return UNREACHED
        length = len(self.flow.blocks[block])
        return self.results.at(block, length - steps if self.backward else steps)

    def name(self, place: tuple[int, int]) -> str:
        block, steps = place
        length = len(self.flow.blocks[block])
        if not length:
            return "on an edge"
        before, after = ("after", "before") if self.backward else ("before", "after")
        if steps < length:
            return f"{before} [{self.node(block, steps)}]"
        return f"{after} [{self.node(block, length - 1)}]"

    def of(self, place: tuple[int, int]) -> Iterator[Equation[V]]:
        block, steps = place
        analysis = self.analysis
        if steps:
            node = self.node(block, steps - 1)
            yield Equation(
                f"by [{node}]", ((block, steps - 1),), lambda v: analysis.transfer(node, v[0])
            )
            return
        start = self.results.sweep.system.initial[self.unknown(block)]
        if start is not UNREACHED:
            yield Equation("the boundary", (), lambda _: start)
        for source, way in self.into.get(block, ()):

            def give(values: list[V], way: Any = way) -> Any:
                return values[0] if way is None else analysis.edge(way[0], way[1], values[0])

            yield Equation(ALONG, ((source, len(self.flow.blocks[source])),), give)

    def unknown(self, block: int) -> int:
        return block


Goal = tuple[Place, V]


@define(eq=False)
class _Way(Generic[V]):
    """One way to derive a goal."""

    by: str
    premises: list[Any]
    missing: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.missing = len(self.premises)


class _Search(Generic[V]):
    """The cheapest derivation (Knuth, 1977): goals are settled in the order of their size."""

    def __init__(self, equations: _Equations[V], lattice: Lattice[V]) -> None:
        self.equations, self.lattice = equations, lattice
        try:
            self.bottom: list[V] = [lattice.bottom]
        except LatticeError:  # then every read counts as a carrier
            self.bottom = []

    def derive(self, goal: Goal[V]) -> Reason[V]:
        goals: list[Goal[V]] = [goal]
        ways: list[list[_Way[V]]] = []
        number = {self.key(goal): 0}
        users: dict[int, list[tuple[int, _Way[V]]]] = {}
        ready: list[tuple[int, int, int, _Way[V]]] = []  # size, a tie-breaker, goal, way
        count = 0
        for at, each in enumerate(goals):  # grows while it is walked
            found = list(self.ways(each))
            ways.append(found)
            for way in found:
                numbers = []
                for premise in way.premises:
                    key = self.key(premise)
                    if key not in number:
                        number[key] = len(goals)
                        goals.append(premise)
                    numbers.append(number[key])
                way.premises = list(dict.fromkeys(numbers))
                way.missing = len(way.premises)
                for premise_number in way.premises:
                    users.setdefault(premise_number, []).append((at, way))
                if not way.premises:
                    count += 1
                    heapq.heappush(ready, (1, count, at, way))
        size: dict[int, int] = {}
        best: dict[int, _Way[V]] = {}
        while ready and 0 not in best:
            cost, _, at, way = heapq.heappop(ready)
            if at in best:
                continue
            best[at], size[at] = way, cost
            for user, using in users.get(at, ()):
                using.missing -= 1
                if not using.missing and user not in best:
                    count += 1
                    total = 1 + sum(size[premise] for premise in using.premises)
                    heapq.heappush(ready, (total, count, user, using))
        return self.reason(0, goals, best)

    def key(self, goal: Goal[V]) -> Hashable:
        place, fact = goal
        return place, fact if _hashes(fact) else repr(fact)

    def ways(self, goal: Goal[V]) -> Iterator[_Way[V]]:
        """Every equation that gives the fact, or what of several gives it together."""
        place, fact = goal
        leq = self.lattice.leq
        said: list[tuple[Equation[V], list[V], V]] = []
        for equation in self.equations.of(place):
            values = [self.equations.state(read) for read in equation.reads]
            if any(value is UNREACHED for value in values):
                continue
            given = equation.give(list(values))
            if given is not UNREACHED:
                said.append((equation, values, given))
        alone = [each for each in said if leq(fact, each[2])]
        for equation, values, _ in alone:
            yield _Way(equation.name, self.carriers(equation, values, fact))
        if alone:
            return
        smaller = [part for part in self.lattice.parts(fact) if not leq(fact, part)]
        if smaller:
            yield _Way("together", [(place, part) for part in smaller])
            return
        # No fact of one equation: what they say together.
        needed = list(said)
        for each in said:
            rest = [other for other in needed if other is not each]
            if rest and leq(fact, self.joined([given for _, _, given in rest])):
                needed = rest
        premises = [c for e, values, given in needed for c in self.carriers(e, values, given)]
        yield _Way("merged: " + " and ".join(e.name for e, _, _ in needed), premises)

    def joined(self, facts: list[V]) -> V:
        total = facts[0]
        for fact in facts[1:]:
            total = self.lattice.join(total, fact)
        return total

    def carriers(self, equation: Equation[V], values: list[V], fact: V) -> list[Goal[V]]:
        """What an equation must read, and where, to give a fact."""
        found: list[Goal[V]] = []
        for position, place in enumerate(equation.reads):
            if self.bottom and self.gives(equation, values, position, self.bottom[0], fact):
                continue
            state = values[position]
            candidates = [fact] if self.lattice.leq(fact, state) else []
            candidates += list(self.lattice.parts(state))
            enough = (c for c in candidates if self.gives(equation, values, position, c, fact))
            found.append((place, next(enough, state)))
        return found

    def gives(
        self, equation: Equation[V], values: list[V], position: int, instead: V, fact: V
    ) -> bool:
        changed = [*values[:position], instead, *values[position + 1 :]]
        given = equation.give(changed)
        return given is not UNREACHED and self.lattice.leq(fact, given)

    def reason(self, root: int, goals: list[Goal[V]], best: dict[int, _Way[V]]) -> Reason[V]:
        """The derivation as a tree, built from its leaves."""
        if root not in best:  # widened further than any equation says
            return self.leaf(goals[root])
        made: dict[int, Reason[V]] = {}
        pending = [root]
        while pending:
            at = pending[-1]
            wanted = [p for p in best[at].premises if p not in made]
            if wanted:
                pending += wanted
                continue
            pending.pop()
            place, fact = goals[at]
            made[at] = Reason(
                self.equations.name(place),
                self.lattice.show(fact),
                best[at].by,
                tuple(made[premise] for premise in best[at].premises),
            )
        return made[root]

    def leaf(self, goal: Goal[V]) -> Reason[V]:
        place, fact = goal
        return Reason(self.equations.name(place), self.lattice.show(fact), "by widening", ())


def _hashes(fact: object) -> bool:
    try:
        hash(fact)
    except TypeError:
        return False
    return True


__all__ = ["Reason", "UnreachedError", "why"]
