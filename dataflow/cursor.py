"""Facts at the points inside blocks, found again on demand.

What is kept of a block is the fact where analysis enters it.  A cursor goes through the block in
stretches of about the square root of its length, so that asking for every point in any sensible
order costs at most two transfers each, and never a table of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from math import isqrt
from typing import Generic, TypeVar

from attrs import define, field

from dataflow.analysis import UNREACHED, Backward, Forward, Unreached
from dataflow.around import add_node
from dataflow.graph import Flow
from dataflow.system import NotYet

N = TypeVar("N")
V = TypeVar("V")


@define(eq=False)
class _Line(Generic[V]):
    """What is known of a block: facts at the start of each stretch, and in one of them."""

    start: V
    marks: Sequence[V | Unreached]
    number: int = -1
    stretch: Sequence[V | Unreached] = ()


@define(eq=False)
class Cursor(Generic[N, V]):
    """Facts inside the blocks of a graph, by an analysis."""

    analysis: Forward[N, V] | Backward[N, V]
    flow: Flow[N]
    _lines: dict[int, _Line[V]] = field(factory=dict, init=False)

    def at(self, block: int, start: V, position: int) -> V | Unreached:
        """The fact at a point, `position` nodes from the start of a block that analysis enters
        with the fact `start`."""
        length = len(self.flow.blocks[block])
        if isinstance(self.analysis, Backward):
            position = length - position
        stride = isqrt(length) + 1
        line = self._lines.get(block)
        if line is None or line.start is not start:
            nodes = self._in_direction(block, 0, length)
            marks = list(islice(self._run(start, nodes), 0, None, stride))
            line = self._lines[block] = _Line(start, marks)
        number, offset = divmod(position, stride)
        if line.number != number:
            nodes = self._in_direction(block, number * stride, min((number + 1) * stride, length))
            line.stretch = list(self._run(line.marks[number], nodes))
            line.number = number
        return line.stretch[offset]

    def _in_direction(self, block: int, begin: int, end: int) -> Sequence[int]:
        """Nodes of a block from `begin` to `end`, as the analysis goes through it."""
        nodes = self.flow.blocks[block]
        if isinstance(self.analysis, Backward):
            return nodes[len(nodes) - end : len(nodes) - begin][::-1]
        return nodes[begin:end]

    def _run(self, fact: V | Unreached, nodes: Sequence[int]) -> Iterator[V | Unreached]:
        yield fact
        for node in nodes:
            try:
                if fact is not UNREACHED:
                    fact = self.analysis.transfer(self.flow.nodes[node], fact)
                if fact is None:
                    raise TypeError("transfer returned None")
            except NotYet:  # it asked for an answer that never comes
                fact = UNREACHED
            except Exception as error:
                add_node(error, self.flow, node)
                raise
            yield fact
