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

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from attrs import define

from dataflow.analysis import UNREACHED, Analysis, Backward, Forward, System
from dataflow.cursor import Cursor
from dataflow.graph import Flow
from dataflow.lattice import Lattice, a_lattice
from dataflow.system import NotYet

if TYPE_CHECKING:
    from dataflow.results import Results
    from dataflow.solve import Sweep

N = TypeVar("N")
V = TypeVar("V")
K = TypeVar("K", bound=Hashable)


class _Asks(Generic[N, V]):
    """A field for another analysis, which `analysis()` makes."""

    def __init__(self, analysis: Callable[[], Analysis[N, V]]) -> None:
        given: object = analysis
        if isinstance(given, Analysis):
            kind, name = type(self).__name__, type(given).__name__
            raise TypeError(f"{kind} wants what makes an analysis, not one: write {kind}({name})")
        if not callable(given):
            raise TypeError(f"{type(self).__name__} wants what makes an analysis, not {given!r}")
        self.analysis = analysis
        self.given: object = self  # as the author gave it, before solving filled it in

    def unbound(self) -> Self:
        """The same field, with nothing of what was solved before in it."""
        fresh = type(self)(self.analysis)
        fresh.given = self.given
        return fresh

    def _unbound(self) -> RuntimeError:
        return _unbound(f"{type(self).__name__}({getattr(self.analysis, '__name__', '...')})")


def _unbound(field: str) -> RuntimeError:
    return RuntimeError(
        f"nothing is known of {field} here: solve() fills in the fields of an attrs class, which "
        f"is @frozen and has `name: {field.partition('(')[0]}[...] = {field}`; when it is solved, "
        "ask results.filled(analysis.name)"
    )


class Solved(_Asks[N, V]):
    """The final answer of another analysis, asked for like `Results`."""

    _results: Results[N, V] | None = None

    @property
    def results(self) -> Results[N, V]:
        """All of the answer.  Raises `RuntimeError` outside of `solve`."""
        if self._results is None:
            raise self._unbound()
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


class Partial(_Asks[N, V]):
    """The answer so far of another analysis, which is solved in the same fixpoint.

    Raises `RuntimeError` outside of `solve`, and `TypeError` if that analysis has no such facts.
    """

    _part: Part | None = None
    _cursor: Cursor[N, V] | None = None

    @property
    def _bound(self) -> Part:
        if self._part is None:
            raise self._unbound()
        return self._part

    def before(self, node: N) -> V:
        """The fact before a node, so far."""
        return self._at(*self._bound.flow.place(node))

    def after(self, node: N) -> V:
        """The fact after a node, so far."""
        flow = self._bound.flow
        block, position = flow.places[flow.number(node)]
        return self._at(block, position + 1)

    def of(self, value: object) -> V:
        """The fact of a value, so far."""
        part = self._bound
        if isinstance(part.analysis, (Forward, Backward)):
            name = type(part.analysis).__name__
            raise TypeError(f"{name} has a fact per program point: ask before(node)")
        return part.read(part.flow.value(value))  # type: ignore[no-any-return]  # of that analysis

    def _at(self, block: int, position: int) -> V:
        part = self._bound
        analysis = part.analysis
        if not isinstance(analysis, (Forward, Backward)):
            raise TypeError(f"{type(analysis).__name__} has a fact per value: ask of(value)")
        fact: V = part.read(block)
        if not needs(analysis):
            self._cursor = self._cursor or Cursor(analysis, part.flow)
            return self._cursor.at(block, fact, position)  # type: ignore[return-value]  # reached
        # What its transfers ask of others is asked by whoever asks for this fact.
        nodes = part.flow.blocks[block]
        steps = position if isinstance(analysis, Forward) else len(nodes) - position
        with part.replays:
            facts = part.replays.facts.setdefault(part.offset + block, [fact])
            while len(facts) <= steps:
                node = nodes[len(facts) - 1 if isinstance(analysis, Forward) else -len(facts)]
                with part.replays.running(part.offset + block, part, node):
                    facts.append(analysis.transfer(part.flow.nodes[node], facts[-1]))
            return facts[steps]  # type: ignore[no-any-return]  # of that analysis


class Shared(Generic[K, V]):
    """Unknowns by key, which any transfer may `add` to and ask for: summaries, facts about
    something that many places contribute to.  Starts at bottom."""

    def __init__(self, lattice: Lattice[V]) -> None:
        a_lattice(lattice, "Shared")
        self.lattice = lattice
        self.given: object = self
        self._sweep: Sweep[Any] | None = None
        self._number = 0
        self._keys: dict[K, int] = {}
        self._listing: int | None = None  # the unknown of which keys there are, if anyone asked

    def unbound(self) -> Self:
        """The same field, with nothing of what was solved before in it."""
        fresh = type(self)(self.lattice)
        fresh.given = self.given
        return fresh

    def add(self, key: K, fact: V) -> None:
        """Join a fact into the one under `key`."""
        self._bound.tell(self._unknown(key), (self._number, fact))

    def of(self, key: K) -> V:
        """The fact under `key`, so far; after solving, the final one."""
        tagged = self._bound.read(self._unknown(key))
        return tagged[1]  # type: ignore[index,no-any-return]  # is tagged, and starts reached

    def items(self) -> Iterator[tuple[K, V]]:
        """Every key that was asked for or added to, with its fact, so far; after solving, the
        final ones."""
        if self._listing is None:
            self._listing = self._bound.new((KEYS, frozenset(self._keys)), "the keys")
        self._bound.read(self._listing)
        return ((key, self.of(key)) for key in list(self._keys))

    @property
    def _bound(self) -> Sweep[Any]:
        if self._sweep is None:
            raise _unbound(f"Shared({self.lattice!r})")
        return self._sweep

    def _unknown(self, key: K) -> int:
        if key not in self._keys:
            self._keys[key] = self._bound.new((self._number, self.lattice.bottom), str(key))
            if self._listing is not None:
                self._bound.tell(self._listing, (KEYS, frozenset({key})))
        return self._keys[key]


KEYS = -1
"""The tag of facts that are sets of keys."""


def untagged(facts: Sequence[Any]) -> list[Any]:
    """Facts of one analysis of several, as they are to it."""
    return [fact if fact is UNREACHED else fact[1] for fact in facts]


class Replays:
    """Facts inside blocks that were asked for, of all analyses of a joint system, by unknown.

    To find one, transfers are replayed that may ask for others of the kind.  While a constraint
    is evaluated no state changes, and each is found once.
    """

    def __init__(self) -> None:
        self.facts: dict[int, list[Any]] = {}
        self._open = 0
        self._running: set[int] = set()

    def __enter__(self) -> None:
        self._open += 1

    def __exit__(self, *error: object) -> None:
        self._open -= 1
        if not self._open:
            self.facts.clear()

    @contextmanager
    def running(self, unknown: int, part: Part, node: int) -> Iterator[None]:
        """While a transfer is replayed.  Raises `TypeError` if it asks for what it gives."""
        if unknown in self._running:
            raise TypeError(
                f"{type(part.analysis).__name__} is asked for a fact inside the block of "
                f"[{part.flow.nodes[node]}] while that very fact is found: analyses that ask each "
                "other in both directions need a graph in which each node has a block of its own"
            )
        self._running.add(unknown)
        try:
            yield
        finally:
            self._running.discard(unknown)


@define(eq=False)
class Part:
    """One analysis of a joint system: where its unknowns begin, and how to ask for them."""

    analysis: Analysis[Any, Any]  # Any: analyses of all kinds of facts stand side by side
    system: System[Any]
    flow: Flow[Any]
    offset: int
    replays: Replays
    sweep: Sweep[Any] | None = None

    @property
    def bound(self) -> Sweep[Any]:
        """The sweep that solves all of them."""
        assert self.sweep is not None
        return self.sweep

    def read(self, unknown: int) -> Any:
        tagged = self.bound.read(self.offset + unknown)
        if tagged is UNREACHED:
            raise NotYet
        return tagged[1]

    def state(self) -> list[Any]:
        """The facts of its unknowns."""
        return untagged(self.bound.state[self.offset :][: len(self.system.initial)])


Need = Solved[Any, Any] | Partial[Any, Any] | Shared[Any, Any]


def needs(analysis: Analysis[Any, Any]) -> dict[str, Need]:
    """The fields of an analysis that `solve` fills in."""
    names = [own.name for own in getattr(type(analysis), "__attrs_attrs__", ())]
    found = {name: getattr(analysis, name) for name in names}
    return {
        name: need for name, need in found.items() if isinstance(need, (Solved, Partial, Shared))
    }
