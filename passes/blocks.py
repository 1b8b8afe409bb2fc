"""Nested ops as straight lines and the edges between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from passes.program import Op


class Blocks:
    """Cuts nested ops into the blocks and edges of a `Flow`."""

    def __init__(self) -> None:
        self.blocks: list[list[int]] = [[]]
        self.edges: list[tuple[int, int]] = []
        self.begins: dict[int, int] = {}
        self.current = 0

    def start_block(self) -> int:
        self.blocks.append([])
        self.current = len(self.blocks) - 1
        return self.current

    def add(self, ops: tuple[Op, ...]) -> None:
        """Append ops to the current block; where one has regions, fork and join."""
        for op in ops:
            if op.region_flow is not None:
                begin = self.current
                self.begins[op.index] = begin
                first, last = [], []
                for region in op.regions:
                    first.append(self.start_block())
                    self.add(region.ops)
                    last.append(self.current)
                end = self.start_block()
                self.edges += [
                    (
                        begin if source is None else last[source],
                        end if target is None else first[target],
                    )
                    for source, target in op.region_flow.control
                ]
            self.blocks[self.current].append(op.index)
