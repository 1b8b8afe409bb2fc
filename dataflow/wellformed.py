"""Is a graph one?  `check_graph` looks at all a `Flow` is made of, and says what is wrong.

Solving looks once per graph whether it refers to anything it does not have.  The rest takes
as long as a simple analysis: who writes a builder calls this in its tests, and `checked`
calls it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from dataflow.graph import Flow, FlowGraph, equal, flow_of
from dataflow.graph import GraphError as GraphError

N = TypeVar("N")


def check_graph(graph: FlowGraph[N] | Flow[N]) -> None:
    """Demand that a graph has all it refers to, and has it once.

    Raises `GraphError` with the first fault: an edge or a copy that leads out of the graph,
    a node in no block or in two, two nodes or values that are equal, no entry.
    """
    for fault in _faults(flow_of(graph, "check_graph")):
        raise GraphError(fault)


def demand_values(flow: Flow[N], wanted_by: object) -> None:
    """Raise `GraphError` for a graph of control alone, where facts of values are asked for."""
    if len(flow.operands) < len(flow.nodes) or len(flow.results) < len(flow.nodes):
        raise GraphError(
            f"{type(wanted_by).__name__} has a fact per value, and this graph has no values: give "
            "it `values`, `operands` and `results`"
        )


def _faults(flow: Flow[N]) -> Iterator[str]:
    yield from equal("nodes", flow.nodes, flow.erased_nodes)
    yield from equal("values", flow.values, flow.erased_values)
    yield from _blocks(flow)
    blocks, values = len(flow.blocks), len(flow.values)
    for source, target in flow.edges:
        where = f"the edge from block {source} to block {target}"
        yield from _dangling(where, "block", (source, target), blocks)
    yield from _dangling("entries", "block", flow.entries, blocks)
    yield from _dangling("exits", "block", flow.exits, blocks)
    if not flow.entries and flow.blocks:
        yield "no block is an entry: name those where execution may start in `entries`"
    yield from _dangling("inputs", "value", flow.inputs, values)
    yield from _dangling("outputs", "value", flow.outputs, values)
    for role, lists in (("operands", flow.operands), ("results", flow.results)):
        if len(lists) != len(flow.nodes) and (lists or flow.values):
            yield f"`{role}` has {len(lists)} entries for {len(flow.nodes)} nodes: give one each"
        for node, numbers in zip(flow.nodes, lists, strict=False):
            yield from _dangling(f"the {role} of {node}", "value", numbers, values)
    for copy in flow.copies:
        where = f"the copy of value {copy.source} to value {copy.target}"
        yield from _dangling(where, "value", (copy.source, copy.target), values)
        yield from _dangling(where, "node", (copy.node,), len(flow.nodes))
        if copy.block is not None:
            yield from _dangling(where, "block", (copy.block,), blocks)
    for number, block in flow.begins.items():
        yield from _dangling("begins", "node", (number,), len(flow.nodes))
        yield from _dangling("begins", "block", (block,), blocks)


def _blocks(flow: Flow[N]) -> Iterator[str]:
    home: dict[int, int] = {}
    for block, numbers in enumerate(flow.blocks):
        yield from _dangling(f"block {block}", "node", numbers, len(flow.nodes))
        for number in numbers:
            if number in home:
                where = f"in block {home[number]} and in block {block}"
                yield (
                    f"{flow.nodes[number]} stands "
                    f"{where if home[number] != block else f'twice in block {block}'}: "
                    "a node that runs in two places is two nodes"
                )
            home[number] = block
    for node, number in flow.node_number.items():
        if number not in home:
            yield f"{node} stands in no block: put it in one, if in one that nothing leads to"


def _dangling(where: str, kind: str, numbers: Iterable[int], count: int) -> Iterator[str]:
    for number in numbers:
        if number not in range(count):
            has = f"{kind}s 0 to {count - 1}" if count else f"no {kind}s"
            yield f"{where}: there is no {kind} {number!r}; the graph has {has}"
