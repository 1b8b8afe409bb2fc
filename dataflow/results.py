"""Answers: what a solved analysis says, asked for by node or by value.

`PointResults` has `before(node)` and `after(node)`, `ValueResults` has `of(value)`.
Facts are kept where blocks meet; the points inside a block are found again on demand (`cursor`).

Asking outside the graph raises `KeyError`.  Where no execution gets there is no fact, not
even bottom, which would say "reached, and nothing is known": `before`, `after` and `of`
raise `UnreachedError` there, and `reached(node)` asks for that alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from attrs import define, field

from dataflow.analysis import UNREACHED, Analysis, Backward, Forward, SparseForward, Unreached
from dataflow.cursor import Cursor
from dataflow.graph import Flow
from dataflow.together import needs

if TYPE_CHECKING:
    from dataflow.solve import Sweep

N = TypeVar("N")
V = TypeVar("V")
F = TypeVar("F")


class StaleError(RuntimeError):
    """The graph was edited after it was analysed: ask `results.update(edit)`."""


class UnreachedError(LookupError):
    """A fact was asked for at a place that no execution reaches."""


@define(eq=False, repr=False)
class Results(Generic[N, V]):
    """The solution of one analysis over one graph.  Immutable to its users.

    `states` has the fact of each unknown the analysis poses, `sweep` all that was solved to
    find them, other analyses' parts too.
    """

    analysis: Analysis[N, V]
    flow: Flow[N]
    states: Sequence[V | Unreached]
    sweep: Sweep[Any]  # Any: facts of several analyses may stand side by side
    version: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.version = len(self.flow.edits)

    def fresh(self) -> None:
        """Raise `StaleError` if the graph has changed since."""
        if len(self.flow.edits) != self.version:
            raise StaleError(
                f"the graph had {len(self.flow.edits) - self.version} edits since {self._name} was "
                "solved: use the results that update(edit) returns"
            )

    def update(self, edit: object) -> Self:
        """The results after an edit of the graph (`Draft`); these become stale."""
        from dataflow.update import update

        return update(self, edit)

    def filled(self, need: F) -> F:
        """A field of the analysis that was solved (`Solved`, `Partial`, `Shared`), as solving
        filled it in: `results.filled(analysis.field)`.

        Raises `KeyError` for what is no such field of it.
        """
        for found in needs(self.analysis).values():
            if found.given is need:
                return cast(F, found)
        raise KeyError(f"{need} is no field of {self._name} that solving fills in")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._name} over {len(self.flow.node_number)} nodes>"

    @property
    def visits(self) -> int:
        """How many evaluations it took."""
        return self.sweep.visits

    def before(self, node: N) -> V:
        """The fact before `node` runs, in execution order."""
        raise TypeError(f"{self._name} has a fact per value: ask of(value)")

    def after(self, node: N) -> V:
        """The fact after `node` has run, in execution order."""
        raise TypeError(f"{self._name} has a fact per value: ask of(value)")

    def of(self, value: object) -> V:
        """The fact of a value."""
        raise TypeError(f"{self._name} has a fact per program point: ask before(node)")

    @property
    def _name(self) -> str:
        return type(self.analysis).__name__

    def _show(self, fact: V | Unreached) -> str:
        return "unreached" if fact is UNREACHED else self.analysis.lattice.show(fact)


@define(eq=False, repr=False)
class ValueResults(Results[N, V]):
    """A fact per value."""

    def of(self, value: object) -> V:
        self.fresh()
        fact = self.states[self.flow.value(value)]
        if fact is UNREACHED:
            raise UnreachedError(f"no execution defines {value}")
        return fact

    def reached(self, value: object) -> bool:
        """Whether any execution defines the value."""
        self.fresh()
        return self.states[self.flow.value(value)] is not UNREACHED

    def runs(self, node: N) -> bool:
        """Whether any execution gets to the node, as far as the analysis says which ways
        control `takes`."""
        self.fresh()
        number = self.flow.number(node)
        if getattr(type(self.analysis), "takes", SparseForward.takes) is SparseForward.takes:
            return True
        block, _ = self.flow.places[number]
        return self.sweep.state[len(self.flow.values) + block] is not UNREACHED

    def __str__(self) -> str:
        self.fresh()
        numbers = self.flow.value_number.items()
        return "\n".join(f"{value}  {self._show(self.states[number])}" for value, number in numbers)


@define(eq=False, repr=False)
class PointResults(Results[N, V]):
    """A fact per program point."""

    _cursor: Cursor[N, V] | None = field(default=None, init=False)

    def before(self, node: N) -> V:
        self.fresh()
        return self._fact(*self.flow.place(node), node)

    def after(self, node: N) -> V:
        self.fresh()
        block, position = self.flow.places[self.flow.number(node)]
        return self._fact(block, position + 1, node)

    def reached(self, node: N) -> bool:
        """Whether analysis gets to the node: from an entry, or backward from an exit.

        A node with sub-graphs is where these end, so a call that never returns is not reached,
        though there is a fact before it."""
        self.fresh()
        return self.known(*self.flow.places[self.flow.number(node)]) is not UNREACHED

    def at(self, block: int, position: int) -> V:
        """The fact at a point of a reached block, `position` nodes from its start."""
        self.fresh()
        return self._fact(block, position, self.flow.blocks[block])

    def _fact(self, block: int, position: int, node: object) -> V:
        fact = self.known(block, position)
        if fact is UNREACHED:
            raise UnreachedError(f"no execution reaches {node}")
        return fact

    def known(self, block: int, position: int) -> V | Unreached:
        """What is known at a point of a block, `position` nodes from its start: UNREACHED, too,
        after a node that asked for an answer that never comes."""
        self.fresh()
        start = self.states[block]
        if start is UNREACHED:
            return UNREACHED
        if self._cursor is None:
            assert isinstance(self.analysis, (Forward, Backward))
            self._cursor = Cursor(self.analysis, self.flow)
        fact = self._cursor.at(block, start, position)
        self.sweep.told.clear()  # what transfers tell others is known
        return fact

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """`(node, fact before, fact after)` for every node in order, as text."""
        self.fresh()
        for node, number in self.flow.node_number.items():
            block, position = self.flow.places[number]
            before = self.known(*self.flow.place(node))
            after = self.known(block, position + 1)
            yield str(node), self._show(before), self._show(after)

    def __str__(self) -> str:
        rows = list(self.rows())
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
        return "\n".join(
            f"{node:<{widths[0]}}  {before:<{widths[1]}}  {after}" for node, before, after in rows
        )
