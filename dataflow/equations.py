"""Which equations give a fact at a place: the ground that `why` stands on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from dataflow.analysis import UNREACHED, Backward
from dataflow.around import in_full
from dataflow.hearing import Answer, Equation, Fact, Place
from dataflow.results import PointResults, Results
from dataflow.system import System
from dataflow.together import needs

ALONG = "along an edge"


class Solution(Answer):
    """What was solved of one analysis."""

    def __init__(self, results: Results[Any, Any], offset: int, suffix: str) -> None:
        self.results, self.flow, self.offset, self.suffix = results, results.flow, offset, suffix
        self.lattice = results.analysis.lattice
        self.needs = needs(results.analysis)
        self.analysis: Any = results.analysis  # where it needs others, one that asks stand-ins

    @cached_property
    def system(self) -> System[Any]:
        """Its equations alone, without those of what it needs."""
        posed = self.results.sweep.system
        return self.analysis.pose(self.flow) if self.needs or posed.asks else posed

    def boundary(self, unknown: int) -> Equation:
        """The equation that has no reads."""
        start = self.system.initial[unknown]
        return Equation("the boundary", (), lambda _: start)

    def place(self, block: int, position: int) -> Place:
        """The place of a point, `position` nodes from the start of a block."""
        raise NotImplementedError

    def steps(self) -> Iterator[Equation]:
        """All equations, whatever they say something of."""
        raise NotImplementedError


class Values(Solution):
    """A fact per value."""

    def state(self, at: int) -> Fact:
        sweep = self.results.sweep
        fact = sweep.state[self.offset + at]
        return fact[1] if sweep.system.asks and fact is not UNREACHED else fact

    def name(self, at: int) -> str:
        return f"of {self.system.unknown_name(at)}{self.suffix}"

    def equations(self, at: int) -> Iterator[Equation]:
        if self.system.initial[at] is not UNREACHED:
            yield self.boundary(at)
        for constraint, position in self.system.writers[at]:
            yield self.equation(constraint, position)

    def equation(self, constraint: int, position: int) -> Equation:
        """What one constraint says of one unknown."""
        step = self.step(constraint)
        return Equation(step.name, step.reads, lambda values: step.say(values)[position])

    def step(self, constraint: int) -> Equation:
        """What one constraint says of all it writes."""
        system = self.system
        reads = [Place(self, unknown) for unknown in system.reads[constraint]]
        subject = system.subjects[constraint]
        name = system.constraint_name(constraint)
        return Equation(name, reads, lambda values: system.evaluate(subject, values))

    def steps(self) -> Iterator[Equation]:
        return map(self.step, self.system.sequence)


class Points(Solution):
    """A fact per program point, node by node."""

    results: PointResults[Any, Any]

    @cached_property
    def backward(self) -> bool:
        """Whether facts flow against execution."""
        return isinstance(self.results.analysis, Backward)

    @cached_property
    def into(self) -> dict[int, list[tuple[int, Any]]]:
        """Per block those that the analysis comes from, with who decides to go this way."""
        found: dict[int, list[tuple[int, Any]]] = {}
        for (source, target), way in zip(self.flow.edges, self.flow.ways, strict=True):
            here, there = (source, target) if self.backward else (target, source)
            found.setdefault(here, []).append((there, way))
        return found

    def place(self, block: int, position: int) -> Place:
        length = len(self.flow.blocks[block])
        return Place(self, (block, length - position if self.backward else position))

    def node(self, block: int, step: int) -> Any:
        nodes = self.flow.blocks[block]
        return self.flow.nodes[nodes[-1 - step] if self.backward else nodes[step]]

    def state(self, at: tuple[int, int]) -> Fact:
        block, steps = at
        length = len(self.flow.blocks[block])
        return self.results.known(block, length - steps if self.backward else steps)

    def name(self, at: tuple[int, int]) -> str:
        block, steps = at
        length = len(self.flow.blocks[block])
        if not length:
            return f"on an edge{self.suffix}"
        before, after = ("after", "before") if self.backward else ("before", "after")
        if steps < length:
            return f"{before} [{self.node(block, steps)}]{self.suffix}"
        return f"{after} [{self.node(block, length - 1)}]{self.suffix}"

    def equations(self, at: tuple[int, int]) -> Iterator[Equation]:
        block, steps = at
        analysis = self.analysis
        if steps:
            node = self.node(block, steps - 1)
            reads = [Place(self, (block, steps - 1))]
            yield Equation(f"by [{in_full(node)}]", reads, lambda v: analysis.transfer(node, v[0]))
            return
        if self.system.initial[block] is not UNREACHED:
            yield self.boundary(block)
        for source, way in self.into.get(block, ()):

            def say(values: list[Fact], way: Any = way) -> Fact:
                return values[0] if way is None else analysis.edge(way[0], way[1], values[0])

            yield Equation(ALONG, [Place(self, (source, len(self.flow.blocks[source])))], say)

    def steps(self) -> Iterator[Equation]:
        for block, nodes in enumerate(self.flow.blocks):
            for steps in range(len(nodes) + 1):
                yield from self.equations((block, steps))
