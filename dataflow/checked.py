"""An analysis that is watched while it is solved: `solve(checked(analysis), graph)`.

For finding out what is wrong with an analysis; it costs a few times as much.  Wherever one
of the author's functions is called, it is found out if it

    raises                      the error has the node and the program around it
    returns what is no fact     None, a fact of another type, too few facts
    changes its argument        facts are shared: everybody else would see the change
    is not monotone             it gave less for more than it gives now
    gives what breaks a law     the lattice's laws are tried on the very facts at hand

The graph is looked at before, by `check_graph`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs

from dataflow.analysis import (
    UNREACHED,
    Analysis,
    Backward,
    Forward,
    SparseBackward,
    SparseForward,
    System,
    kind_of,
)
from dataflow.around import around
from dataflow.genkill import GenKill
from dataflow.graph import Flow
from dataflow.lattice import Lattice, LatticeError
from dataflow.laws import LawBroken, try_laws, unchanged
from dataflow.snapshot import snapshot
from dataflow.solve import TransferError
from dataflow.system import NotYet
from dataflow.together import Partial, Shared, needs
from dataflow.wellformed import check_graph

A = TypeVar("A", bound=Analysis[Any, Any])
Fact = Any
"""A fact of whatever lattice the watched analysis has."""

_FUNCTIONS: dict[type[Any], tuple[str, ...]] = {
    Forward: ("transfer", "edge", "boundary"),
    Backward: ("transfer", "edge", "boundary"),
    SparseForward: ("transfer", "entry", "copy", "takes"),
    SparseBackward: ("transfer", "exit", "copy"),
}
_MANY = (SparseForward, SparseBackward)


def checked(analysis: A) -> A:
    """The same analysis, which raises `TransferError` or `LawBroken` where it goes wrong.

    It is watched at every node that is reached, in blocks that no fact goes on from too.  Raises
    `TypeError` for what is no analysis, such as its class.
    """
    kind = kind_of(analysis, "checked")
    watch = _Watch(analysis, many=kind in _MANY)
    own = type(analysis)
    body: dict[str, Any] = {"__slots__": (), "__doc__": own.__doc__, "pose": _pose(own, watch)}
    for name in _FUNCTIONS[kind]:
        if getattr(own, name) is not getattr(kind, name):  # the solver asks whether there is one
            body[name] = _watched(own, name, watch)
    if isinstance(analysis, GenKill):  # node by node, as others are
        body["is_composed"] = lambda self: False
    watched = copy.copy(analysis)
    object.__setattr__(watched, "__class__", type(own.__name__, (own,), body))
    return watched


def _pose(own: type[Any], watch: _Watch) -> Callable[[Any, Flow[Any]], System[Any]]:
    def pose(self: Any, flow: Flow[Any]) -> System[Any]:
        check_graph(flow)
        watch.flow = flow
        watch.earlier.clear()  # of another graph, or of this one before an edit
        return attrs.evolve(own.pose(self, flow), is_watched=True)

    return pose


def _watched(own: type[Any], name: str, watch: _Watch) -> Callable[..., Any]:
    function = getattr(own, name)

    def call(self: Any, *arguments: Any) -> Any:
        return watch.call(name, lambda: function(self, *arguments), arguments)

    return call


class _Watch:
    """What is looked at around each call."""

    def __init__(self, analysis: Analysis[Any, Any], many: bool) -> None:
        self.name = type(analysis).__name__
        self.lattice: Lattice[Any] = analysis.lattice
        self.many = many
        # An answer may grow with those of others, which are no arguments.
        self.alone = not any(isinstance(n, (Partial, Shared)) for n in needs(analysis).values())
        self.flow: Flow[Any] | None = None
        self.earlier: dict[object, tuple[list[Fact], list[Fact]]] = {}

    def call(self, name: str, function: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
        where = f"{self.name}.{name}"
        if name in ("transfer", "edge", "takes"):
            where += f" at {arguments[0]}" + (f", way {arguments[1]}" if len(arguments) > 2 else "")
        elif arguments:
            where += f" of {arguments[0]}"
        before = snapshot(arguments[-1]) if arguments else None
        try:
            given = function()
        except NotYet:
            raise
        except Exception as error:
            raise TransferError(
                f"{where} raised {type(error).__name__}: {error}{self.around(arguments)}"
            ) from error
        if arguments and before != snapshot(arguments[-1]):
            raise TransferError(
                f"{where} changed its argument into {arguments[-1]!r}; facts are shared, so build "
                f"a new one and return that{self.around(arguments)}"
            )
        if name == "takes":
            if not isinstance(given, bool):
                raise TransferError(
                    f"{where} returned {given!r}, and True or False is needed"
                    f"{self.around(arguments)}"
                )
            return given
        self.examine(name, where, given, arguments)
        return given

    def examine(self, name: str, where: str, given: Any, arguments: tuple[Any, ...]) -> None:
        """Whether what came back is facts, lawful ones, and no less than before."""
        of_facts = name in ("transfer", "edge", "copy")
        several = name == "transfer" and self.many
        if several and not isinstance(given, Sequence):
            raise TransferError(
                f"{where} returned {given!r}, and a list of facts is needed{self.around(arguments)}"
            )
        gave = list(given) if several else [given]
        took = (list(arguments[-1]) if several else [arguments[-1]]) if of_facts else []
        gave_facts = [fact for fact in gave if fact is not UNREACHED or name != "edge"]
        for fact in gave_facts:
            self.lawful(where, fact, took[:2], arguments)
        if of_facts and self.alone:
            self.monotone(where, took, gave, arguments)

    def lawful(self, where: str, fact: Fact, others: list[Fact], arguments: Any) -> None:
        lattice = self.lattice
        try:
            with unchanged(lattice, [fact, *others]):
                kinds = {type(lattice.join(fact, other)) is type(lattice.join(other, fact))
                         for other in others}  # fmt: skip
                kinds.add(type(self.from_bottom(fact)) is type(fact))
                try_laws(lattice, [fact, *others])
        except LawBroken as error:
            error.add_note(f"with what {where} returned")
            raise
        except LatticeError:
            raise
        except Exception as error:
            raise TransferError(self.no_fact(where, fact, arguments)) from error
        if False in kinds:
            raise TransferError(self.no_fact(where, fact, arguments))

    def from_bottom(self, fact: Fact) -> Fact:
        try:
            bottom = self.lattice.bottom
        except LatticeError:
            return fact
        return self.lattice.join(bottom, fact)

    def no_fact(self, where: str, fact: Fact, arguments: Any) -> str:
        return (
            f"{where} returned {fact!r}, of type {type(fact).__name__}, which is no fact of "
            f"{self.lattice!r}{self.around(arguments)}"
        )

    def monotone(self, where: str, took: list[Fact], gave: list[Fact], arguments: Any) -> None:
        """Compare with the call before, if one of the two was given more than the other."""
        key = where, *arguments[:-1]  # different nodes may look the same
        then = self.earlier.get(key)
        self.earlier[key] = took, gave
        if then is None or len(then[1]) != len(gave):
            return
        for (less, answer), (more, larger) in ((then, (took, gave)), ((took, gave), then)):
            if self.covered(less, more) and not self.covered(answer, larger):
                raise LawBroken(
                    f"{where} is not monotone: it gave {self.show(answer)} for {self.show(less)}, "
                    f"and for {self.show(more)}, which is more, {self.show(larger)}, which does "
                    f"not cover that{self.around(arguments)}"
                )

    def covered(self, less: list[Fact], more: list[Fact]) -> bool:
        return all(
            a is UNREACHED or (b is not UNREACHED and self.lattice.leq(a, b))
            for a, b in zip(less, more, strict=True)
        )

    def show(self, facts: list[Fact]) -> str:
        return ", ".join("unreached" if f is UNREACHED else self.lattice.show(f) for f in facts)

    def around(self, arguments: Sequence[Any]) -> str:
        """The program around a node, as lines to put under a message."""
        if self.flow is None or not arguments:
            return ""
        try:
            here = self.flow.number(arguments[0])
        except (KeyError, TypeError):
            return ""
        return around(self.flow, here)
