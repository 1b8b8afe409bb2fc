"""Analyses that need each other.  Fields of an analysis that `solve` fills in:

    Solved    another analysis' final answer: it is solved before, once per graph
    Partial   another analysis' answer so far: both are solved as one system
    Shared    unknowns of your own, by key: gathered from everywhere, read anywhere

They are the field's default value, and its type says which it is:

    @frozen
    class Uses(Forward[Node, Names]):
        constants: Partial[Node, Constant] = Partial(Constants)

What is asked through `Partial` and `Shared` is recorded: who asked is evaluated again when
the answer grows, and waits where there is none yet.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from attrs import define, field

from dataflow.analysis import UNREACHED, Analysis, Backward, Forward, System, Unreached
from dataflow.graph import Flow
from dataflow.lattice import Lattice
from dataflow.order import collector_paused

if TYPE_CHECKING:
    from dataflow.results import Results
    from dataflow.solve import Sweep

N = TypeVar("N")
V = TypeVar("V")
K = TypeVar("K", bound=Hashable)


class NotYet(Exception):
    """Nothing is known yet of what was asked for; the constraint says nothing."""


class Solved(Generic[N, V]):
    """The final answer of another analysis, asked for like `Results`."""

    def __init__(self, analysis: Callable[[], Analysis[N, V]]) -> None:
        self.analysis = analysis
        self.given: object = None  # the one of the analysis that was passed to `solve`
        self._results: Results[N, V] | None = None

    @property
    def results(self) -> Results[N, V]:
        """All of the answer.  Raises `RuntimeError` outside of `solve`."""
        if self._results is None:
            raise RuntimeError(f"{self.analysis} is solved by solve(), and nothing is known before")
        return self._results

    def before(self, node: N) -> V:
        """The fact before a node."""
        return self.results.before(node)

    def after(self, node: N) -> V:
        """The fact after a node."""
        return self.results.after(node)

    def of(self, value: object) -> V:
        """The fact of a value."""
        return self.results.of(value)


class Partial(Generic[N, V]):
    """The answer so far of another analysis, which is solved in the same fixpoint."""

    def __init__(self, analysis: Callable[[], Analysis[N, V]]) -> None:
        self.analysis = analysis
        self.given: object = None
        self._part: _Part | None = None

    @property
    def _bound(self) -> _Part:
        if self._part is None:
            raise RuntimeError(f"{self.analysis} is solved by solve(), and nothing is known before")
        return self._part

    def before(self, node: N) -> V:
        """The fact before a node, so far."""
        part = self._bound
        place = part.flow.place(node)
        return self._at(*place)

    def after(self, node: N) -> V:
        """The fact after a node, so far."""
        part = self._bound
        block, position = part.flow.places[part.flow.number(node)]
        return self._at(block, position + 1)

    def of(self, value: object) -> V:
        """The fact of a value, so far."""
        part = self._bound
        return part.read(part.flow.value(value))  # type: ignore[no-any-return]  # of that analysis

    def _at(self, block: int, position: int) -> V:
        part = self._bound
        analysis = part.analysis
        assert isinstance(analysis, (Forward, Backward)), f"{analysis} has a fact per value"
        fact: V = part.read(block)
        nodes = part.flow.blocks[block]
        inside = nodes[:position] if isinstance(analysis, Forward) else nodes[position:][::-1]
        for node in inside:
            fact = analysis.transfer(part.flow.nodes[node], fact)
        return fact


class Shared(Generic[K, V]):
    """Unknowns by key, which any transfer may `add` to and ask for: summaries, facts about
    something that many places contribute to.  Starts at bottom."""

    def __init__(self, lattice: Lattice[V]) -> None:
        self.lattice = lattice
        self.given: object = None
        self._sweep: Sweep[Any] | None = None
        self._number = 0
        self._keys: dict[K, int] = {}

    def add(self, key: K, fact: V) -> None:
        """Join a fact into the one under `key`."""
        self._bound.tell(self._unknown(key), (self._number, fact))

    def of(self, key: K) -> V:
        """The fact under `key`, so far; after solving, the final one."""
        tagged = self._bound.read(self._unknown(key))
        return tagged[1]  # type: ignore[index,no-any-return]  # is tagged, and starts reached

    def items(self) -> Iterator[tuple[K, V]]:
        """Every key that was asked for or added to, with its fact."""
        return ((key, self.of(key)) for key in list(self._keys))

    @property
    def _bound(self) -> Sweep[Any]:
        if self._sweep is None:
            raise RuntimeError("shared unknowns are known inside solve() and in its results")
        return self._sweep

    def _unknown(self, key: K) -> int:
        if key not in self._keys:
            self._keys[key] = self._bound.new((self._number, self.lattice.bottom), str(key))
        return self._keys[key]


@define(eq=False)
class _Part:
    """One analysis of a joint system: where its unknowns begin, and how to ask for them."""

    analysis: Analysis[Any, Any]  # Any: analyses of all kinds of facts stand side by side
    system: System[Any]
    flow: Flow[Any]
    offset: int
    sweep: Sweep[Any] | None = None

    def read(self, unknown: int) -> Any:
        assert self.sweep is not None
        tagged = self.sweep.read(self.offset + unknown)
        if tagged is UNREACHED:
            raise NotYet
        return tagged[1]


class Tagged(Lattice[tuple[int, Any]]):
    """Facts of several lattices side by side; an unknown always has facts of the same one."""

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
        return " with ".join(map(repr, self.lattices))


@define(eq=False)
class Joint:
    """An analysis with all it needs, posed as one system."""

    analysis: Analysis[Any, Any]
    system: System[Any]
    lattice: Lattice[Any]
    count: int
    parts: list[_Part]
    shared: list[Shared[Any, Any]]

    def own(self, state: list[Any]) -> list[Any]:
        """The facts of the analysis itself."""
        if not self.system.asks:
            return state
        return [fact if fact is UNREACHED else fact[1] for fact in state[: self.count]]

    def bind(self, sweep: Sweep[Any]) -> None:
        """From here on what is asked is asked of this sweep."""
        for part in self.parts:
            part.sweep = sweep
        for shared in self.shared:
            shared._sweep = sweep


Need = Solved[Any, Any] | Partial[Any, Any] | Shared[Any, Any]


def needs(analysis: Analysis[Any, Any]) -> dict[str, Need]:
    """The fields of an analysis that `solve` fills in."""
    names = [own.name for own in getattr(type(analysis), "__attrs_attrs__", ())]
    found = {name: getattr(analysis, name) for name in names}
    return {
        name: need for name, need in found.items() if isinstance(need, (Solved, Partial, Shared))
    }


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
            fresh = copy.copy(need)
            fresh.given = need
            object.__setattr__(own, name, fresh)
            if isinstance(fresh, Solved):
                fresh._results = _solved(fresh.analysis, flow, solve)
            elif isinstance(fresh, Shared):
                fresh._keys = {}
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

    parts: list[_Part] = []
    offset = 0
    for each in bound:
        parts.append(_Part(each, each.pose(flow), flow, offset))
        offset += len(parts[-1].system.initial)
    for partial, number in asked:
        partial._part = parts[number]
    lattice = Tagged([*(part.analysis.lattice for part in parts), *(s.lattice for s in shared)])
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


def _one_system(parts: Sequence[_Part]) -> System[Any]:
    """The constraints of several systems, each with its facts tagged by its number."""
    initial: list[Any] = []
    reads: list[Sequence[int]] = []
    writes: list[Sequence[int]] = []
    subjects: list[tuple[int, object, int]] = []
    names: list[Callable[[], str]] = []
    for number, part in enumerate(parts):
        system, offset = part.system, part.offset
        initial += [f if f is UNREACHED else (number, f) for f in system.initial]
        reads += [tuple(offset + unknown for unknown in found) for found in system.reads]
        writes += [tuple(offset + unknown for unknown in found) for found in system.writes]
        for constraint, subject in enumerate(system.subjects):
            subjects.append((number, subject, len(system.writes[constraint])))
            names.append(lambda s=system, c=constraint: s.constraint_name(c))  # type: ignore[misc]  # bound now

    def evaluate(subject: tuple[int, object, int], values: list[Any]) -> Sequence[Any | Unreached]:
        number, inner, count = subject
        try:
            facts = parts[number].system.evaluate(inner, [fact for _, fact in values])
        except NotYet:
            return [UNREACHED] * count
        return [UNREACHED if fact is UNREACHED else (number, fact) for fact in facts]

    def unknown_name(unknown: int) -> str:
        part = next(p for p in reversed(parts) if p.offset <= unknown)
        return part.system.unknown_name(unknown - part.offset)

    return System(
        initial, reads, writes, subjects, evaluate, lambda c: names[c](), unknown_name, asks=True
    )
