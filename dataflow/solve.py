"""THE LOOP.  Read this first.

Solving is one sweep over the constraints in weak topological order.

    order      reads and writes -> a weak topological order, its loops and their heads
    visit      evaluate constraints and join what they say into the state
    settle     in a loop, whoever reads what grew is marked; step back to the first mark
    widen      where a loop feeds back, the lattice may leap ahead
    descend    once per widened loop, recompute it from its own answer

What feeds no loop is evaluated exactly once.  An inner loop settles before its
surroundings go on, and nested loops are one system: no solve inside a solve.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import cached_property
from typing import Generic, TypeVar, overload

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
    sequence = order.sequence
    sweep = _Sweep(system, lattice, order.feedback, limit)
    try:
        for ranks in order.parts:
            if ranks in order.loops:
                _settle(sweep, [sequence[rank] for rank in ranks])
            else:
                sweep.visit(sequence[ranks.start : ranks.stop])
    except Exception as error:
        notes = getattr(error, "__notes__", ())
        if not any(note.startswith("while analysing") for note in notes):
            error.add_note(f"while analysing {system.constraint_name(sweep.at)}")
        raise
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
        for unknown in sweep.visit(loop[rank : rank + 1]):
            for reader in readers.get(unknown, ()):
                marked[reader] = 1
                first = min(first, reader)
        rank = marked.find(1, first)
    if sweep.widened:
        sweep.descend(loop)


class _Sweep(Generic[V]):
    """The state being solved for, and how it changes."""

    def __init__(
        self,
        system: System[V],
        lattice: Lattice[V],
        feedback: frozenset[tuple[int, int]],
        limit: int,
    ) -> None:
        self.system, self.lattice, self.feedback, self.limit = system, lattice, feedback, limit
        self.reads, self.writes, self.evaluate = system.reads, system.writes, system.evaluate
        self.state = list(system.initial)
        self.at = 0
        self.visits = 0
        self.widened = False
        self.growth: dict[int, deque[V]] = {}
        self.times: dict[int, int] = {}

    def visit(self, constraints: Iterable[int]) -> list[int]:
        """Evaluate constraints in order and join what they say; the unknowns that grew.

        A constraint says nothing while something it reads is unreached.
        """
        reads, writes, evaluate, state = self.reads, self.writes, self.evaluate, self.state
        leq, join, feedback = self.lattice.leq, self.lattice.join, self.feedback
        grown: list[int] = []
        for constraint in constraints:
            targets = writes[constraint]
            if not targets:
                continue
            values: list[V] = []
            for unknown in reads[constraint]:
                value = state[unknown]
                if value is UNREACHED:
                    break
                values.append(value)
            if len(values) < len(reads[constraint]):
                continue
            self.visits += 1
            self.at = constraint
            facts = evaluate(constraint, values)
            if len(facts) != len(targets):
                raise TransferError(
                    f"transfer gave {len(facts)} facts where {len(targets)} are needed"
                )
            for unknown, new in zip(targets, facts):  # noqa: B905  # lengths were just compared
                old = state[unknown]
                if old is not UNREACHED:
                    if leq(new, old):
                        continue
                    new = join(old, new)
                    if (constraint, unknown) in feedback:
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
        """Recompute each unknown of a widened loop once, in order, from its own answer.

        Sound for monotone transfers: the state covers all equations before and after each
        step.  An unknown that would not shrink keeps its fact.
        """
        self.widened = False
        inside = {unknown for constraint in loop for unknown in self.writes[constraint]}
        # In the order they are read: what feeds a constraint shrinks before what it feeds.
        order = (u for c in loop for u in (*self.reads[c], *self.writes[c]) if u in inside)
        for unknown in dict.fromkeys(order):
            new = self.system.initial[unknown]
            for writer, position in self.writers[unknown]:
                values = [self.state[read] for read in self.reads[writer]]
                if any(value is UNREACHED for value in values):
                    continue
                self.visits += 1
                said = self.evaluate(writer, values)[position]  # type: ignore[arg-type]  # reached
                new = said if new is UNREACHED else self.lattice.join(new, said)
            old = self.state[unknown]
            if new is not UNREACHED and old is not UNREACHED and self.lattice.leq(new, old):
                self.state[unknown] = new

    @cached_property
    def writers(self) -> list[list[tuple[int, int]]]:
        """Per unknown, the constraints that write it, each with the position it has there."""
        found: list[list[tuple[int, int]]] = [[] for _ in self.state]
        for constraint, outputs in enumerate(self.writes):
            for position, unknown in enumerate(outputs):
                found[unknown].append((constraint, position))
        return found
