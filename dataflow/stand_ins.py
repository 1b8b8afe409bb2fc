"""All the answers that one answer rests on: other analyses' and shared unknowns.

The analyses are given stand-ins to ask in place of `Solved`, `Partial` and `Shared`, so that what
they ask for is heard.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from dataflow.analysis import UNREACHED, Backward, Forward
from dataflow.equations import Points, Solution, Values
from dataflow.hearing import Answer, Ear, Equation, Fact, Place, joined
from dataflow.results import PointResults, Results, UnreachedError, ValueResults
from dataflow.system import NotYet
from dataflow.together import Part, Partial, Shared, Solved


class Answers:
    """The answers that `results` rest on, and who hears what is asked of them."""

    def __init__(self, results: Results[Any, Any]) -> None:
        self.ear = Ear()
        self._known: dict[int, Solution] = {}
        self._main = self.solution(results)

    def place(self, where: Any) -> Place:
        """The place before a node, or of a value, of the results themselves."""
        flow = self._main.flow
        if isinstance(self._main, Points):
            return self._main.place(*flow.place(where))
        return Place(self._main, flow.value(where))

    def solution(self, results: Results[Any, Any], offset: int = 0) -> Solution:
        """The places of an analysis; `offset` is where its unknowns begin in the sweep."""
        original = results.analysis
        known = self._known.get(id(original))
        if known is not None:
            return known
        suffix = f" in {type(original).__name__}" if self._known else ""
        kind = Points if isinstance(results, PointResults) else Values
        found = self._known[id(original)] = kind(results, offset, suffix)
        if found.needs:
            found.analysis = copy.copy(original)
            for name, need in found.needs.items():
                stand_in = (
                    _Told(self.ear, Cells(self.ear, need, found))
                    if isinstance(need, Shared)
                    else _Asked(self, need)
                )
                object.__setattr__(found.analysis, name, stand_in)
        return found

    def part(self, part: Part) -> Solution:
        """The places of an analysis that was solved together with others."""
        if id(part.analysis) in self._known:
            return self._known[id(part.analysis)]
        dense = isinstance(part.analysis, (Forward, Backward))
        kind: type[Results[Any, Any]] = PointResults if dense else ValueResults
        return self.solution(kind(part.analysis, part.flow, part.state(), part.bound), part.offset)


class Cells(Answer):
    """Shared unknowns, by key."""

    def __init__(self, ear: Ear, need: Shared[Any, Any], owner: Solution) -> None:
        self.ear, self.need, self.owner, self.lattice = ear, need, owner, need.lattice

    def state(self, at: Any) -> Fact:
        return self.need.of(at) if at in self.need._keys else self.lattice.bottom

    def name(self, at: Any) -> str:
        return f"under {at}"

    def equations(self, at: Any) -> Iterator[Equation]:
        yield Equation("at first", (), lambda _: self.lattice.bottom)
        here = Place(self, at)
        for step in self.owner.steps():

            def say(values: list[Fact], step: Equation = step) -> Fact:
                step.say(values)
                told = [fact for place, fact in self.ear.told if place == here]
                return joined(self.lattice, told) if told else UNREACHED

            yield Equation(step.name, step.reads, say)


class _Asked:
    """Stands in for `Solved` and `Partial`."""

    def __init__(self, answers: Answers, need: Solved[Any, Any] | Partial[Any, Any]) -> None:
        self._answers, self._need = answers, need

    @cached_property
    def _answer(self) -> Solution:
        need = self._need
        if isinstance(need, Solved):
            return self._answers.solution(need.results)
        return self._answers.part(need._bound)

    @property
    def results(self) -> Results[Any, Any]:
        """All of the answer, whose parts are then taken as given."""
        return self._answer.results

    def before(self, node: Any) -> Fact:
        return self._read(self._answer.place(*self._answer.flow.place(node)), node)

    def after(self, node: Any) -> Fact:
        flow = self._answer.flow
        block, position = flow.places[flow.number(node)]
        return self._read(self._answer.place(block, position + 1), node)

    def of(self, value: object) -> Fact:
        return self._read(Place(self._answer, self._answer.flow.value(value)), value)

    def _read(self, place: Place, what: object) -> Fact:
        fact = self._answers.ear.read(place)
        if fact is not UNREACHED:
            return fact
        if isinstance(self._need, Solved) and place.state is UNREACHED:
            raise UnreachedError(f"no execution reaches {what}")
        raise NotYet


class _Told:
    """Stands in for `Shared`."""

    def __init__(self, ear: Ear, cells: Cells) -> None:
        self._ear, self._cells = ear, cells

    def add(self, key: Any, fact: Fact) -> None:
        self._ear.told.append((Place(self._cells, key), fact))

    def of(self, key: Any) -> Fact:
        return self._ear.read(Place(self._cells, key))

    def items(self) -> Iterator[tuple[Any, Fact]]:
        return ((key, self.of(key)) for key in list(self._cells.need._keys))
