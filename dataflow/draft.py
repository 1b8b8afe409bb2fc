"""A graph that can be edited, and what each edit changed.

    draft = Draft(graph)                  a copy
    results = solve(analysis, draft)
    edit = draft.replace_operand(node, 0, value)
    results = results.update(edit)        the old ones are stale, and refuse to answer

Numbers never change: an erased node keeps its own, a new one gets the next.  So a node is moved
by erasing and inserting it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from attrs import evolve, frozen

from dataflow.graph import CopyKind, Flow, FlowGraph, flow_of
from dataflow.wellformed import check_graph

N = TypeVar("N")


class Links:
    """Who reads and who defines each value, and which block leads to which.

    Readers and definers are steps: copies by their number, and after them the nodes.
    """

    def __init__(self, flow: Flow[N]) -> None:
        self.readers: list[list[int]] = [[] for _ in flow.values]
        self.definers: list[list[int]] = [[] for _ in flow.values]
        self.first = len(flow.copies)
        for step, copy in enumerate(flow.copies):
            self.readers[copy.source].append(step)
            self.definers[copy.target].append(step)
        for node, (read, defined) in enumerate(zip(flow.operands, flow.results, strict=True)):
            self.add(node, read, defined)
        self.before, self.after = flow.predecessors, flow.successors

    def add(self, node: int, read: Iterable[int], defined: Iterable[int]) -> None:
        """A node with what it reads and defines."""
        for value in read:
            self.readers[value].append(self.first + node)
        for value in defined:
            self.definers[value].append(self.first + node)

    def remove(self, node: int, read: Iterable[int], defined: Iterable[int]) -> None:
        """The reverse."""
        for value in read:
            self.readers[value].remove(self.first + node)
        for value in defined:
            self.definers[value].remove(self.first + node)


@frozen(eq=False)
class Edit:
    """One change of the graph with these `links`: of a node in a block; for a new one, the
    nodes it stands between; what it read and defined before."""

    links: Links
    node: int
    block: int
    between: tuple[int, int | None] | None
    read: tuple[int, ...]
    defined: tuple[int, ...]


class Draft(Generic[N]):
    """A copy of a graph that can be edited.

    Raises `KeyError` for nodes and values of another graph, and `ValueError` for an edit
    that would leave a value used and not defined.
    """

    def __init__(self, graph: FlowGraph[N]) -> None:
        flow = flow_of(graph, "Draft")
        if not flow.refers_to_itself:
            check_graph(flow)
        self.flow: Flow[N] = evolve(
            flow,
            checked=True,
            nodes=list(flow.nodes),
            blocks=[list(block) for block in flow.blocks],
            values=list(flow.values),
            operands=list(flow.operands) or [()] * len(flow.nodes),  # without values, of control
            results=list(flow.results) or [()] * len(flow.nodes),
            erased_nodes=set(flow.erased_nodes),
            erased_values=set(flow.erased_values),
        )
        _ = self.flow.node_number, self.flow.value_number, self.flow.places  # kept up to date
        self.links = Links(self.flow)
        self._returned = frozenset(flow.outputs)

    def insert(
        self, node: N, after: N, operands: Sequence[object] = (), results: Sequence[object] = ()
    ) -> Edit:
        """A new node after another one of the same block, with new values as results.

        After the last one of its block, it is the one that decides which way control goes on.
        """
        flow = self.flow
        read = tuple(map(flow.value, operands))
        if node in flow.node_number:
            raise ValueError(f"{node} is in the graph already")
        for position, result in enumerate(results):
            if result in flow.value_number:
                raise ValueError(f"{result} is defined already")
            if result in results[:position]:
                raise ValueError(f"{result} is given twice: {node} defines each result once")
        place = flow.number(after)
        block, position = flow.places[place]
        number = len(flow.nodes)
        first = len(flow.values)
        flow.nodes.append(node)  # type: ignore[attr-defined]  # a draft's sequences are lists
        flow.values.extend(results)  # type: ignore[attr-defined]
        flow.value_number.update({value: first + n for n, value in enumerate(results)})
        flow.operands.append(read)  # type: ignore[attr-defined]
        flow.results.append(tuple(range(first, first + len(results))))  # type: ignore[attr-defined]
        flow.node_number[node] = number
        self.links.readers.extend([] for _ in results)
        self.links.definers.extend([] for _ in results)
        self.links.add(number, read, flow.results[number])
        line = [*flow.blocks[block]]
        line.insert(position + 1, number)
        self._reline(block, line, position + 1)
        following = line[position + 2] if position + 2 < len(line) else None
        return self._made(Edit(self.links, number, block, (place, following), (), ()))

    def erase(self, node: N) -> Edit:
        """Take a node out, with its results, which nothing may use.

        If it decided which way control goes on, the one before it does so now.
        """
        flow = self.flow
        number = flow.number(node)
        for value in flow.results[number]:
            if self.links.readers[value] or value in self._returned:
                raise ValueError(f"{flow.values[value]} is used, so {node} cannot be erased")
        if number in flow.begins or any(copy.node == number for copy in flow.copies):
            raise ValueError(f"{node} has sub-graphs or hands values on: it cannot be erased")
        block, position = flow.places[number]
        line = [*flow.blocks[block]]
        if len(line) == 1:
            raise ValueError(f"{node} is the only one of its block: it cannot be erased")
        del line[position]
        read, defined = tuple(flow.operands[number]), tuple(flow.results[number])
        self.links.remove(number, read, defined)
        flow.operands[number] = flow.results[number] = ()  # type: ignore[index]
        del flow.node_number[node], flow.places[number]
        # What another node or a copy defines as well is still there.
        gone = [v for v in defined if not self.links.definers[v] and v not in flow.inputs]
        for value in gone:
            del flow.value_number[flow.values[value]]
        flow.erased_nodes.add(number)  # type: ignore[attr-defined]  # a draft's sets can grow
        flow.erased_values.update(gone)  # type: ignore[attr-defined]
        self._reline(block, line, position)
        return self._made(Edit(self.links, number, block, None, read, defined))

    def replace_operand(self, node: N, position: int, value: object) -> Edit:
        """Let a node read another value at one of its operands; not at one that it hands on
        into a sub-graph, such as an argument of a call."""
        flow = self.flow
        number, new = flow.number(node), flow.value(value)
        old = tuple(flow.operands[number])
        if not 0 <= position < len(old):
            raise ValueError(f"{node} has {len(old)} operands, and no number {position}")
        if self._hands_on(number, old[position]):
            raise ValueError(
                f"{node} hands {flow.values[old[position]]} on into a sub-graph: "
                "it cannot be replaced"
            )
        flow.operands[number] = (*old[:position], new, *old[position + 1 :])  # type: ignore[index]
        defined = tuple(flow.results[number])
        self.links.remove(number, old, defined)
        self.links.add(number, flow.operands[number], defined)
        # A node may say what it reads itself, as in a dense analysis: its block is another.
        block, _ = flow.places[number]
        self._reline(block, [*flow.blocks[block]], len(flow.blocks[block]))
        return self._made(Edit(self.links, number, block, None, old, defined))

    def _hands_on(self, node: int, value: int) -> bool:
        """Whether a value goes from a node into its sub-graphs, or past them."""
        copies = (self.flow.copies[r] for r in self.links.readers[value] if r < self.links.first)
        return any(copy.node == node and copy.kind is not CopyKind.EDGE for copy in copies)

    def _reline(self, block: int, line: list[int], changed: int) -> None:
        """Make a block another list, which is different from position `changed` on."""
        if line[-1] != self.flow.blocks[block][-1]:  # it decides
            self.flow.__dict__.pop("ways", None)
        self.flow.blocks[block] = line  # type: ignore[index]
        for position in range(changed, len(line)):
            self.flow.places[line[position]] = block, position

    def _made(self, edit: Edit) -> Edit:
        self.flow.edits.append(edit)
        self.flow.__dict__.pop("feeds_onward", None)
        return edit
