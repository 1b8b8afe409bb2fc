"""ColossalAI's liveness interface: the stages of a graph and the variables live in each.

Derived from the backward liveness pass and the alias pass; there is no third algorithm.
Here a *variable* is an fx node, however many tensor leaves its result has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import field, frozen

from passes.alias import Aliases
from passes.errors import ProgramError
from passes.liveness import LiveAtExit, Liveness
from passes.program import AliasOf, Op, Program
from passes.storages import Storage, StorageClass


@frozen
class LiveVariable:
    """A node whose result is live.

    `is_inplace`: it writes an operand and returns it, as `relu_` does.
    """

    name: str
    # Any: an fx node, and torch is not imported here.
    node: Any = field(repr=False)
    is_inplace: bool


class LiveVariableVector(list[LiveVariable]):
    """Variables in graph order, each once, that can be asked for by name."""

    def exists(self, var_name: str) -> bool:
        """Whether a variable of this name is here."""
        return any(variable.name == var_name for variable in self)

    def get(self, var_name: str) -> LiveVariable:
        """The variable of this name.  Raises `KeyError` if it is not here."""
        for variable in self:
            if variable.name == var_name:
                return variable
        raise KeyError(f"no live variable is named {var_name!r}")

    def copy(self) -> LiveVariableVector:
        """A new vector of the same variables."""
        return LiveVariableVector(self)


@frozen
class LiveStage:
    """What is live around one node: before it, after it, or defined by it.

    `unique_live_vars` has one variable per storage class among `all_live_vars`.
    """

    name: str
    # Any: an fx node, as above.
    node: Any = field(repr=False)
    all_live_vars: LiveVariableVector
    unique_live_vars: LiveVariableVector


class GraphAnalyser:
    """Liveness and aliasing of a GraphModule that `shape_prop_pass` has been over."""

    # Any: a torch.fx.GraphModule, and torch is not imported here.
    def __init__(self, gm: Any) -> None:
        self._gm = gm
        self._analysed: Program | None = None
        self._nodes: Sequence[object] = ()

    @property
    def gm(self) -> Any:  # as above
        """The graph module."""
        return self._gm

    @property
    def program(self) -> Program:
        """The Program of the graph, with the input shapes that `shape_prop_pass` left.

        Raises `ProgramError` where no shapes are known, and for a graph that was changed since.
        """
        nodes = [(n, n.op, n.target, n.args, n.kwargs) for n in self._gm.graph.nodes]
        if self._analysed is not None and nodes != self._nodes:
            raise ProgramError(
                "the graph was changed after it was analysed: run shape_prop_pass(gm, *meta_args) "
                "again, and make a new GraphAnalyser"
            )
        if self._analysed is None:
            from passes.frontends.shapes import shapes_known

            missing = [node.name for node in self._gm.graph.nodes if not shapes_known(node)]
            if missing:
                raise ProgramError(
                    f"no shapes are known at {', '.join(missing[:3])}"
                    f"{' and others' if len(missing) > 3 else ''}: run "
                    "shape_prop_pass(gm, *meta_args) first"
                )
            from passes import load

            self._analysed, self._nodes = load(self._gm), nodes
        return self._analysed

    def liveness_analysis(self, live_at_exit: LiveAtExit = "all") -> list[LiveStage]:
        """The stages of the graph, without those that another one covers.

        `live_at_exit="all"` is a training step, which keeps everything for its backward;
        with `"outputs"` variables die after their last use.
        """
        program = self.program
        liveness = Liveness.of(program, live_at_exit)
        stages = []
        for op, live in _uncovered(program, liveness):
            everything = LiveVariableVector(map(_variable, live))
            unique = LiveVariableVector(map(_variable, _one_per_storage(live, liveness.aliases)))
            stages.append(LiveStage(op.name, op.node, everything, unique))
        return stages

    def get_alias_set(self) -> tuple[StorageClass, ...]:
        """The storage classes of the graph."""
        return Aliases.of(self.program).classes


def _variable(op: Op) -> LiveVariable:
    writes = op.effects.writes
    inplace = any(
        isinstance(effect, AliasOf) and not writes.isdisjoint(effect.operands)
        for effect in op.effects.results
    )
    return LiveVariable(op.name, op.node, inplace)


def _uncovered(program: Program, liveness: Liveness) -> list[tuple[Op, list[Op]]]:
    """Ops with the ops live around them, where no other op has all of those and more; of
    equal sets, the last.

    A variable is live over one stretch of the graph, so a set that lies inside any other
    lies inside one of its neighbours.
    """
    definer = {value: op for op in program.ops for value in op.results}
    stages: list[tuple[Op, frozenset[Op]]] = []
    for op in program.ops:
        live = frozenset(definer[value] for value in liveness.around(op) if value in definer)
        if stages and stages[-1][1] == live:
            stages.pop()
        stages.append((op, live))
    return [
        (op, sorted(live, key=lambda o: o.index))
        for number, (op, live) in enumerate(stages)
        if not any(
            live < stages[neighbour][1]
            for neighbour in (number - 1, number + 1)
            if 0 <= neighbour < len(stages)
        )
    ]


def _one_per_storage(live: Iterable[Op], aliases: Aliases) -> list[Op]:
    """Of live ops, per storage class the one that allocates it, else the earliest."""
    chosen: dict[Storage, Op] = {}
    ops = list(live)
    for op in ops:
        for value in op.results:
            for storage in aliases.pointees(value):
                if storage not in chosen or storage.op is op:
                    chosen[storage] = op
    kept = set(chosen.values())
    return [op for op in ops if op in kept]
