"""Several analyses posed as one system of equations, with the answers they need solved before.

Facts are tagged with the number of the analysis, or of the shared unknowns, that they are of.
So the loop knows nothing of it, and constraints that ask each other settle as any others do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field

from dataflow.analysis import UNREACHED, Analysis, System, Unreached, an_analysis
from dataflow.graph import Flow
from dataflow.lattice import Lattice
from dataflow.lattices import Powerset
from dataflow.order import collector_paused
from dataflow.system import NotYet
from dataflow.together import KEYS, Part, Partial, Replays, Shared, Solved, needs, untagged

if TYPE_CHECKING:
    from dataflow.results import Results
    from dataflow.solve import Sweep

N = TypeVar("N")
V = TypeVar("V")


class Tagged(Lattice[tuple[int, Any]]):
    """Facts of several lattices side by side; an unknown always has facts of the same one.

    The last is that of sets of keys (`KEYS`).
    """

    def __init__(self, lattices: Sequence[Lattice[Any]]) -> None:
        self.lattices = lattices

    @property
    def bottom(self) -> tuple[int, Any]:
        raise TypeError("each of several lattices has its own bottom")

    def join(self, a: tuple[int, Any], b: tuple[int, Any]) -> tuple[int, Any]:
        return a[0], self.lattices[a[0]].join(a[1], b[1])

    def leq(self, a: tuple[int, Any], b: tuple[int, Any]) -> bool:
        return self.lattices[a[0]].leq(a[1], b[1])

    def widen(self, old: tuple[int, Any], new: tuple[int, Any], visits: int) -> tuple[int, Any]:
        return new[0], self.lattices[new[0]].widen(old[1], new[1], visits)

    def parts(self, value: tuple[int, Any]) -> list[tuple[int, Any]]:
        return [(value[0], part) for part in self.lattices[value[0]].parts(value[1])]

    def show(self, value: tuple[int, Any]) -> str:
        return self.lattices[value[0]].show(value[1])

    def __repr__(self) -> str:
        return " with ".join(map(repr, self.lattices[:KEYS]))


@define(eq=False)
class Joint:
    """An analysis with all it needs, posed as one system."""

    analysis: Analysis[Any, Any]
    system: System[Any]
    lattice: Lattice[Any]
    count: int
    parts: list[Part]
    shared: list[Shared[Any, Any]]

    def own(self, state: list[Any]) -> list[Any]:
        """The facts of the analysis itself."""
        if not self.system.asks:
            return state
        return untagged(state[: self.count])

    def bind(self, sweep: Sweep[Any]) -> None:
        """From here on what is asked is asked of this sweep."""
        for part in self.parts:
            part.sweep = sweep
        for shared in self.shared:
            shared._sweep = sweep


def joint(
    analysis: Analysis[N, V],
    flow: Flow[N],
    solve: Callable[[Analysis[N, Any]], Results[N, Any]],
) -> Joint:
    """Bind what an analysis needs and pose it: alone, or with all it asks in one system."""
    made = _Made()
    bound: list[Analysis[Any, Any]] = []
    asked: list[tuple[Partial[Any, Any], int]] = []
    shared: list[Shared[Any, Any]] = []

    def bind(original: Analysis[Any, Any]) -> Analysis[Any, Any]:
        own = copy.copy(original)
        bound.append(own)
        for name, need in needs(original).items():
            fresh = need.unbound()
            object.__setattr__(own, name, fresh)
            if isinstance(fresh, Solved):
                fresh._results = _solved(fresh.analysis, flow, solve)
            elif isinstance(fresh, Shared):
                shared.append(fresh)
            else:
                number = made.number(fresh.analysis)
                asked.append((fresh, number))
                if number == len(bound):
                    bind(made.analyses[number])
        return own

    made.add(analysis)
    main = bind(analysis) if needs(analysis) else analysis
    if not asked and not shared:
        with collector_paused():
            system = main.pose(flow)
        return Joint(main, system, main.lattice, len(system.initial), [], [])

    parts: list[Part] = []
    replays = Replays()
    offset = 0
    for each in bound:
        parts.append(Part(each, each.pose(flow), flow, offset, replays))
        offset += len(parts[-1].system.initial)
    for partial, number in asked:
        partial._part = parts[number]
    lattice = Tagged(
        [*(part.analysis.lattice for part in parts), *(s.lattice for s in shared), Powerset()]
    )
    for number, each_shared in enumerate(shared, len(parts)):
        each_shared._number = number
    count = len(parts[0].system.initial)
    return Joint(main, _one_system(parts), lattice, count, parts, shared)


class _Made:
    """Analyses by number, and which factory made them.

    What two factories make is one analysis if it is of one class and its fields are equal;
    what one factory makes is one analysis, though its fields may compare unequal.
    """

    def __init__(self) -> None:
        self.analyses: list[Analysis[Any, Any]] = []
        self.number_of: dict[object, int] = {}

    def number(self, factory: Callable[[], Analysis[Any, Any]]) -> int:
        """The number of what a factory makes; a new one if nothing like it was made."""
        if factory not in self.number_of:
            analysis = factory()
            an_analysis(analysis, "Solved or Partial")
            alike = (n for n, other in enumerate(self.analyses) if _same(analysis, other))
            found = next(alike, None)
            self.number_of[factory] = self.add(analysis) if found is None else found
        return self.number_of[factory]

    def add(self, analysis: Analysis[Any, Any]) -> int:
        """A number for one more analysis."""
        self.analyses.append(analysis)
        if len(self.analyses) > MOST:
            name = type(analysis).__name__
            raise TypeError(
                f"{name} asks for more than {MOST} analyses, most of them new ones of the same "
                "kind: a factory in `Partial` or `Solved` should be a class or a function of the "
                "module, not one made anew each time"
            )
        return len(self.analyses) - 1


MOST = 200
"""Analyses of one joint system, or solved one before the other: more is taken for a mistake."""


def _same(one: Analysis[Any, Any], other: Analysis[Any, Any]) -> bool:
    """Whether two analyses of one class have equal fields, what they need included."""
    if type(one) is not type(other):
        return False
    mine, theirs = _fields(one), _fields(other)
    return mine.keys() == theirs.keys() and all(_equal(a, theirs[n]) for n, a in mine.items())


def _equal(one: object, other: object) -> bool:
    if isinstance(one, (Solved, Partial)) and type(one) is type(other):
        return one.analysis is other.analysis
    return one is other or bool(one == other)


def _fields(analysis: Analysis[Any, Any]) -> dict[str, Any]:
    names = [own.name for own in getattr(type(analysis), "__attrs_attrs__", ())]
    return {**getattr(analysis, "__dict__", {}), **{n: getattr(analysis, n) for n in names}}


@define(eq=False)
class _Answers:
    """Final answers over one graph, so that each is found once."""

    made: _Made = field(factory=_Made)
    results: dict[int, Results[Any, Any]] = field(factory=dict)
    pending: list[int] = field(factory=list)


def _solved(
    factory: Callable[[], Analysis[Any, Any]],
    flow: Flow[Any],
    solve: Callable[[Analysis[Any, Any]], Results[Any, Any]],
) -> Results[Any, Any]:
    """The answer of another analysis over a graph; solved once, kept with the graph."""
    version = len(flow.edits)
    if version not in flow.answers:
        flow.answers.clear()  # of the graph as it was
    known = flow.answers.setdefault(version, _Answers())
    assert isinstance(known, _Answers)
    number = known.made.number(factory)
    if number in known.results:
        return known.results[number]
    if number in known.pending:
        circle = [*known.pending[known.pending.index(number) :], number]
        names = ", before ".join(type(known.made.analyses[n]).__name__ for n in reversed(circle))
        raise TypeError(
            f"each is to be solved before the other: {names}; let one ask the other's answer so "
            "far, through `Partial` in place of `Solved`"
        )
    known.pending.append(number)
    try:
        known.results[number] = solve(known.made.analyses[number])
    finally:
        known.pending.remove(number)
    return known.results[number]


def _one_system(parts: Sequence[Part]) -> System[Any]:
    """The constraints of several systems, each with its facts tagged by its number."""
    initial: list[Any] = []
    reads: list[Sequence[int]] = []
    writes: list[Sequence[int]] = []
    subjects: list[tuple[int, object, int]] = []
    sequence: list[int] = []
    own: list[tuple[System[Any], int]] = []  # constraints as their systems number them
    replays = parts[0].replays
    for number, part in enumerate(parts):
        system, offset = part.system, part.offset
        sequence += [len(own) + constraint for constraint in system.sequence]
        initial += [f if f is UNREACHED else (number, f) for f in system.initial]
        reads += [tuple(offset + unknown for unknown in found) for found in system.reads]
        writes += [tuple(offset + unknown for unknown in found) for found in system.writes]
        for constraint, subject in enumerate(system.subjects):
            subjects.append((number, subject, len(system.writes[constraint])))
            own.append((system, constraint))

    def evaluate(subject: tuple[int, object, int], values: list[Any]) -> Sequence[Any | Unreached]:
        number, inner, count = subject
        try:
            with replays:
                facts = parts[number].system.evaluate(inner, [fact for _, fact in values])
            if not count:  # evaluated for what it tells
                return ()
        except NotYet:
            return [UNREACHED] * count
        return [UNREACHED if fact is UNREACHED else (number, fact) for fact in facts]

    def unknown_name(unknown: int) -> str:
        part = next(p for p in reversed(parts) if p.offset <= unknown)
        found = part.system.unknown_name(unknown - part.offset)
        return f"{found} of {type(part.analysis).__name__}" if len(parts) > 1 else found

    def constraint_name(constraint: int) -> str:
        system, number = own[constraint]
        return system.constraint_name(number)

    def node_of(constraint: int) -> int | None:
        system, number = own[constraint]
        return system.node(number)

    return System(
        initial, reads, writes, subjects, evaluate, constraint_name, unknown_name,
        sequence=sequence, asks=True, node_of=node_of,
    )  # fmt: skip
