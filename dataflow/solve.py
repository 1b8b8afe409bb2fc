"""THE LOOP.  Read this first.

Solving is one sweep over the constraints in weak topological order.

    order      reads and writes -> a weak topological order, its loops and their heads
    step       evaluate one constraint and join what it says into the state
    settle     in a loop, whoever reads what grew is marked; step back to the first mark
    widen      where a loop feeds back, the lattice may leap ahead
    descend    once per widened loop, recompute it from its own answer

What feeds no loop is evaluated exactly once.  An inner loop settles before its
surroundings go on, and nested loops are one system: no solve inside a solve.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar, overload

from attrs import define, field

from dataflow.analysis import (
    UNREACHED,
    Analysis,
    Backward,
    Forward,
    SparseBackward,
    SparseForward,
    System,
    Unreached,
)
from dataflow.graph import FlowGraph
from dataflow.lattice import Lattice
from dataflow.order import weak_topological_order
from dataflow.results import PointResults, Results, ValueResults

N = TypeVar("N")
V = TypeVar("V")


class DidNotConverge(RuntimeError):
    """A loop still grew when its limit was reached.  Says which, and its last facts."""


class TransferError(RuntimeError):
    """An analysis broke its contract at a node; the message names the node."""


@overload
def solve(
    analysis: Forward[N, V] | Backward[N, V], graph: FlowGraph[N], *, limit: int = ...
) -> PointResults[N, V]: ...
@overload
def solve(
    analysis: SparseForward[N, V] | SparseBackward[N, V], graph: FlowGraph[N], *, limit: int = ...
) -> ValueResults[N, V]: ...
def solve(analysis: Analysis[N, V], graph: FlowGraph[N], *, limit: int = 10_000) -> Results[N, V]:
    """The least solution of an analysis over a graph.

    `limit` is how often one unknown of a loop may grow before `DidNotConverge`.
    Each constraint is evaluated once where nothing loops; memory is one fact per block
    (dense) or per value (sparse).
    """
    flow = graph.flow
    system = analysis.pose(flow)
    state, visits = fixpoint(system, analysis.lattice, limit)
    if isinstance(analysis, (Forward, Backward)):
        return PointResults(analysis, flow, system, state, visits)
    return ValueResults(analysis, flow, system, state, visits)


def fixpoint(
    system: System[V], lattice: Lattice[V], limit: int = 10_000
) -> tuple[list[V | Unreached], int]:
    """`(state per unknown, number of evaluations)` of the least solution of a system."""
    order = weak_topological_order(system.reads, system.writes, len(system.initial))
    sweep = _Sweep(system, lattice, list(system.initial), order.heads, limit)
    for ranks in order.parts:
        if ranks in order.loops:
            _settle(sweep, [order.sequence[rank] for rank in ranks])
        else:
            for rank in ranks:
                sweep.step(order.sequence[rank])
    return sweep.state, sweep.visits


def _settle(sweep: _Sweep[V], loop: list[int]) -> None:
    """Evaluate the constraints of one loop until nothing grows, then descend once."""
    readers: dict[int, list[int]] = {}
    for rank, constraint in enumerate(loop):
        for unknown in sweep.system.reads[constraint]:
            readers.setdefault(unknown, []).append(rank)
    marked = bytearray(b"\x01") * len(loop)
    rank = 0
    while rank >= 0:
        marked[rank] = 0
        first = rank + 1
        for unknown in sweep.step(loop[rank]):
            for reader in readers.get(unknown, ()):
                marked[reader] = 1
                first = min(first, reader)
        rank = marked.find(1, first)
    if sweep.widened:
        sweep.descend(loop)


@define(eq=False)
class _Sweep(Generic[V]):
    """The state being solved for, and the three ways it changes."""

    system: System[V]
    lattice: Lattice[V]
    state: list[V | Unreached]
    heads: frozenset[int]
    limit: int
    visits: int = 0
    widened: bool = False
    growth: dict[int, deque[V]] = field(factory=dict)
    times: dict[int, int] = field(factory=dict)

    def contributions(self, constraint: int) -> Sequence[V]:
        """What a constraint says of each unknown it writes; nothing while unreached."""
        system, state = self.system, self.state
        values: list[V] = []
        for unknown in system.reads[constraint]:
            value = state[unknown]
            if value is UNREACHED:
                return ()
            values.append(value)
        self.visits += 1
        try:
            facts = system.evaluate(constraint, values)
        except Exception as error:
            error.add_note(f"while analysing {system.constraint_name(constraint)}")
            raise
        if len(facts) != len(system.writes[constraint]):
            raise TransferError(
                f"the transfer function gave {len(facts)} facts where "
                f"{len(system.writes[constraint])} are needed, at "
                f"{system.constraint_name(constraint)}"
            )
        return facts

    def step(self, constraint: int) -> list[int]:
        """Evaluate one constraint and join what it says; the unknowns that grew."""
        grown: list[int] = []
        targets = self.system.writes[constraint]
        if not targets:
            return grown
        state, lattice = self.state, self.lattice
        for unknown, new in zip(targets, self.contributions(constraint)):  # noqa: B905  # none, or as many
            old = state[unknown]
            if old is not UNREACHED:
                if lattice.leq(new, old):
                    continue
                new = lattice.join(old, new)
                if unknown in self.heads:
                    new = self.widen(unknown, old, new)
            state[unknown] = new
            grown.append(unknown)
        return grown

    def widen(self, unknown: int, old: V, new: V) -> V:
        """The lattice's leap at a loop head, and the guard against loops without end."""
        times = self.times[unknown] = self.times.get(unknown, 0) + 1
        wide = self.lattice.widen(old, new, times)
        self.widened |= not self.lattice.leq(wide, new)
        if times > self.limit - 4:
            self.growth.setdefault(unknown, deque(maxlen=4)).append(wide)
        if times > self.limit:
            last = "\n  ".join(self.lattice.show(value) for value in self.growth[unknown])
            raise DidNotConverge(
                f"the fact at {self.system.unknown_name(unknown)} grew {times} times around "
                f"its loop and still grows; its last values:\n  {last}\n"
                f"{self.lattice!r} has chains without end: give it a `widen`"
            )
        return wide

    def descend(self, loop: list[int]) -> None:
        """Recompute a widened loop once from its own answer.

        Sound for monotone transfers: the least solution is below both.  An unknown that
        would not shrink keeps its fact.
        """
        self.widened = False
        inside = {unknown for constraint in loop for unknown in self.system.writes[constraint]}
        fresh: dict[int, V | Unreached] = {u: self.system.initial[u] for u in inside}
        for constraint in range(len(self.system.writes)):
            if inside.isdisjoint(self.system.writes[constraint]):
                continue
            targets = self.system.writes[constraint]
            for unknown, new in zip(targets, self.contributions(constraint)):  # noqa: B905  # as above
                if unknown in inside:
                    known = fresh[unknown]
                    fresh[unknown] = new if known is UNREACHED else self.lattice.join(known, new)
        for unknown, value in fresh.items():
            old = self.state[unknown]
            if value is not UNREACHED and old is not UNREACHED and self.lattice.leq(value, old):
                self.state[unknown] = value
