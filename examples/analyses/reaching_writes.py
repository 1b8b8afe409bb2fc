"""Which writes may have given a name the value it has: def-use chains, point by point."""

from __future__ import annotations

from attrs import frozen

from dataflow import Forward, Lattice, Powerset, TextNode

Writes = frozenset[str]


@frozen
class ReachingWrites(Forward[TextNode, Writes]):
    """Writes, as name@line, that may have given a name its value.  Forward, may.

    A name none of whose writes reaches a point has no value there on any path.
    """

    lattice: Lattice[Writes] = Powerset()

    def transfer(self, node: TextNode, value: Writes) -> Writes:
        kept = {write for write in value if write.split("@")[0] not in node.results}
        return frozenset(kept) | {f"{name}@{node.label}" for name in node.results}
