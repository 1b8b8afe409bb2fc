"""Which reads may find no value."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from dataflow import Forward, Lattice, PointResults, Powerset, TextGraph, TextNode, solve

Names = frozenset[str]


@frozen
class MaybeUninitialised(Forward[TextNode, Names]):
    """Names that may hold no value, because no line or a `drop` came before.  Forward, may.

    `names` are those that have no value at the start.
    """

    names: Names
    lattice: Lattice[Names] = Powerset()

    def boundary(self) -> Names:
        return self.names

    def transfer(self, node: TextNode, value: Names) -> Names:
        dropped = frozenset(node.operands if node.word == "drop" else ())
        return (value | dropped) - frozenset(node.results)


def uninitialised_reads(graph: TextGraph) -> Iterator[tuple[TextNode, str]]:
    """Lines that may read a name without a value, each with the name."""
    names = frozenset(map(str, graph.flow.values))
    results: PointResults[TextNode, Names] = solve(MaybeUninitialised(names), graph)
    for node in graph.flow.nodes:
        if node.word != "drop" and results.reached(node):
            empty = results.before(node)
            yield from ((node, name) for name in dict.fromkeys(node.operands) if name in empty)
