"""What is learned of numbers that only a run decides: what the program asserts of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy.numbers import int_oo


class Asserted(ShapeEnv):
    """Symbols about which is learned what is asserted in the graph that has made them.

    A run that goes on has passed the assertions of its graph.  Inside a branch they say nothing
    about the other, and nothing about what stands for several numbers, as `Join` makes it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._own: set[object] = set()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """What a sub-graph is walked in."""
        before, self._own = self._own, set()
        try:
            yield
        finally:
            self._own |= before  # what leaves a branch is joined with the other's first

    def create_unbacked_symint(self, *args: Any) -> torch.SymInt:
        made: torch.SymInt = super().create_unbacked_symint(*args)
        if not self._ignore_fresh_unbacked_symbols_tls():
            self._own.add(made.node.expr)
        return made

    # Any: as below.
    def constrain_symbol_range(  # type: ignore[override]  # as below
        self, s: Any, compiler_min: int, compiler_max: int
    ) -> None:
        if s in self._own or not self.is_unbacked_symint(s):
            super().constrain_symbol_range(s, compiler_min, compiler_max)

    def unknown_size(self) -> torch.SymInt:
        """A size of which nothing will be learned."""
        with self.ignore_fresh_unbacked_symbols():
            size = self.create_unbacked_symint()
        super().constrain_symbol_range(size.node.expr, 0, int_oo)
        self.size_like.add(size.node.expr)
        return size

    # Any: the signature is torch's.
    def guard_or_defer_runtime_assert(  # type: ignore[override]  # torch's has a cache
        self, orig_expr: Any, msg: str, fx_node: Any = None
    ) -> bool:
        own = orig_expr.free_symbols <= self._own
        if not own and self._maybe_evaluate_static(orig_expr) is None:
            return True
        return super().guard_or_defer_runtime_assert(orig_expr, msg, fx_node)
