"""Dominators as a dataflow problem: what every path from an entry has passed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

from attrs import frozen

from dataflow import Dual, FlowGraph, Forward, Lattice, Powerset, solve

N = TypeVar("N", bound=Hashable)


@frozen
class Dominators(Forward[N, frozenset[N]]):
    """Nodes that every path from an entry has passed.  Forward, must.

    After a node they are its dominators, itself among them.
    """

    lattice: Lattice[frozenset[N]] = Dual(Powerset())

    def boundary(self) -> frozenset[N]:
        return frozenset()

    def transfer(self, node: N, value: frozenset[N]) -> frozenset[N]:
        return value | {node}


def immediate_dominators(graph: FlowGraph[N]) -> Mapping[N, N | None]:
    """Each reached node's closest dominator other than itself; None: it has none."""
    analysis: Dominators[N] = Dominators()
    results = solve(analysis, graph)
    above = {node: results.before(node) for node in graph.flow.nodes if results.reached(node)}
    # The dominators of a node are a chain, and the closest of them has most of its own.
    return {
        node: max(found - {node}, key=lambda other: len(above[other]), default=None)
        for node, found in above.items()
    }
