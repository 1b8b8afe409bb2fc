"""Transfers that are data, composed to one step a block."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from dataflow.analysis import Dense
from dataflow.around import add_node
from dataflow.graph import Flow
from dataflow.together import Solved, needs

N = TypeVar("N")
V = TypeVar("V")


class GenKill(Dense[N, V]):
    """A mixin for transfers that are data: `(value without killed) joined with generated`.

    The solver composes them, so a block costs one step however long it is, and goes around
    a nest of loops as a whole, about twice.  Needs a lattice of sets: `Bits`, `Powerset`,
    or for a must-analysis the `Dual` of one, whose `effect` is of the same sets.
    Write `class Live(GenKill[N, V], Backward[N, V])`.

    With a `transfer` of its own, or effects that grow with answers so far (`Partial`,
    `Shared`), an analysis is solved node by node like any other.
    """

    __slots__ = ()

    @abstractmethod
    def effect(self, node: N) -> tuple[V, V]:
        """`(generated, killed)` at a node."""

    def transfer(self, node: N, value: V) -> V:
        generated, killed = self.effect(node)
        return self.lattice.replace(value, killed, generated)

    def is_composed(self) -> bool:
        is_final = all(isinstance(need, Solved) for need in needs(self).values())
        return is_final and type(self).transfer is GenKill.transfer

    def over_blocks(
        self, flow: Flow[N], step: int, ways: Sequence[int]
    ) -> Callable[[int, list[V]], Sequence[V]]:
        if not self.is_composed():
            return super().over_blocks(flow, step, ways)
        nodes, blocks, effect = flow.nodes, flow.blocks, self.effect
        replace = self.lattice.replace
        generated: list[V | None] = [None] * len(blocks)  # None for a block without nodes
        killed: list[V | None] = [None] * len(blocks)
        known: list[Sequence[int] | None] = [None] * len(blocks)

        def compose(block: int) -> None:
            line = blocks[block]
            gen: V | None = None
            kill: V | None = None
            for node in line if step == 1 else reversed(line):
                try:
                    more, fewer = effect(nodes[node])
                    if gen is None:
                        gen, kill = more, fewer
                    else:
                        gen = replace(gen, fewer, more)
                        kill = replace(kill, fewer, fewer)  # type: ignore[arg-type]  # as gen
                except Exception as error:
                    add_node(error, flow, node)
                    raise
            known[block], generated[block], killed[block] = line, gen, kill

        def run(block: int, values: list[V]) -> Sequence[V]:
            if known[block] is not blocks[block]:  # an edited block is another list
                compose(block)
            gen, kill = generated[block], killed[block]
            value = values[0]
            if gen is not None:
                value = replace(value, kill, gen)  # type: ignore[arg-type]  # as gen
            return (value,) * ways[block]

        return run
