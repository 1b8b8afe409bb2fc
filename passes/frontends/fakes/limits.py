"""How large can sizes get that the data decides?

A symbol that an operator makes for such a size has a limit: the number of elements that the
operator goes through, or what torch knows of it.  What the program asserts of it is among that,
as far as `asserted` learns it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import TYPE_CHECKING

import torch
from attrs import define, field
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._pytree import tree_leaves

from passes.frontends.dynamic.symbols import Expression, Reader
from passes.symbolic.bounds import Box, bounds
from passes.symbolic.sizes import Size

if TYPE_CHECKING:
    from passes.frontends.effects.observe import Call

ENDLESS = 2**62
"""Ranges that end beyond are torch's way to say that nothing is known."""

COUNTERS = frozenset(
    "nonzero masked_select index _unique _unique2 unique_dim unique_consecutive "
    "unique_dim_consecutive".split()
)
"""Operators whose result has at most one row for each element they are given."""

ALONG = frozenset(("unique_dim", "unique_dim_consecutive"))
"""Those that go along the dimension which is their second argument."""


@define(eq=False)
class Limits:
    """Limits of symbols that the data decides; `names` are those of all other symbols."""

    env: ShapeEnv | None
    names: Mapping[object, str] = field(factory=dict)
    _known: dict[Expression, Size | None] = field(factory=dict)

    def note(self, calls: Iterable[Call]) -> None:
        """Take the limits of symbols that a node has made, which these calls are of."""
        if self.env is None or not self.env.unbacked_symint_counter:
            return
        for symbol in self.env.var_to_range:
            if symbol not in self._known and symbol not in self.names:
                self._known[symbol] = self._counted(symbol, calls)

    def most(self, size: int | torch.SymInt) -> Size | None:
        """What a size cannot exceed; None if nothing is known."""
        if isinstance(size, int):
            return Size.of(size)
        expression = size.node.expr
        limits: dict[str, Size] = {}
        names = dict(self.names)
        for symbol in expression.free_symbols - self.names.keys():
            limit = self._known.get(symbol) or self._ranging(symbol)
            if limit is None:
                return None
            names[symbol] = str(symbol)
            limits[str(symbol)] = limit
        box: Box = {
            name: (0, limits[name].constant if name in limits else None) for name in names.values()
        }
        read = Reader(names, box).read(expression)
        if read.grows_with(limits):
            return read.replaced(limits)
        _, high = bounds(read, box)
        return None if high is None else Size.of(high)

    def _ranging(self, symbol: Expression) -> Size | None:
        """The end of the range in which torch knows a symbol to be, if that has one."""
        found = None if self.env is None else self.env.var_to_range.get(symbol)
        if found is None or found.lower < 0 or not found.upper.is_Integer:
            return None
        return Size.of(int(found.upper)) if found.upper < ENDLESS else None

    def _counted(self, symbol: Expression, calls: Iterable[Call]) -> Size | None:
        """How many elements the operator goes through that has made a symbol."""
        for call in calls:
            name = call.operator._schema.name.partition("::")[2]
            if name in COUNTERS and any(symbol in _symbols(t) for t in _tensors(call.result)):
                if name in ALONG:
                    tensor, dim = call.args[:2]
                    assert isinstance(tensor, torch.Tensor)
                    assert isinstance(dim, int)
                    return self.most(tensor.shape[dim])
                given = _tensors([call.args, call.kwargs])
                counted = [t for t in given if t.dtype in MASKS] if name == "index" else given
                shape = torch.broadcast_shapes(*(t.shape for t in counted))  # type: ignore[no-untyped-call]  # torch's own
                return self.most(prod(shape))
        return None


MASKS = (torch.bool, torch.uint8)
"""Types of tensors that choose elements, as indices."""


def _tensors(tree: object) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _symbols(tensor: torch.Tensor) -> set[Expression]:
    sizes: list[object] = list(tensor.shape)
    found = [size.node.expr for size in sizes if isinstance(size, torch.SymInt)]
    return {symbol for expression in found for symbol in expression.free_symbols}
