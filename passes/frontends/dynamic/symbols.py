"""torch's symbolic integers as sizes, and its guards as conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sympy
import torch
from attrs import define, field
from torch.utils._sympy import functions

from passes.errors import CaptureError
from passes.symbolic.bounds import Box, extreme
from passes.symbolic.dynamic import Condition
from passes.symbolic.sizes import Size

# Any: sympy's expressions, which its own types leave untyped.
Expression = Any


@define(eq=False)
class Reader:
    """Reads expressions over torch's symbols, each of which has a name and a range."""

    names: Mapping[object, str]
    box: Box
    _read: dict[object, Size] = field(factory=dict, init=False)

    def size(self, number: int | torch.SymInt) -> Size | None:
        """A number as a size; None if a symbol in it has no name, because a run decides it."""
        if isinstance(number, int):
            return Size.of(number)
        expression = number.node.expr
        if not expression.free_symbols <= self.names.keys():
            return None
        return self.read(expression)

    def read(self, expression: Expression) -> Size:
        """An expression as a size."""
        known = self._read.get(expression)
        if known is None:
            known = self._read[expression] = self._convert(expression)
        return known

    def _convert(self, expression: Expression) -> Size:
        if expression.is_Integer:
            return Size.of(int(expression))
        if expression.is_Symbol:
            return Size.symbol(self.names[expression])
        parts = expression.args
        if expression.is_Add:
            return Size.sum(map(self.read, parts))
        if expression.is_Mul:
            made = Size.of(1)
            for part in parts:
                made = made * self.read(part)
            return made
        if expression.is_Pow and parts[1].is_Integer and parts[1] >= 0:
            made = Size.of(1)
            for _ in range(int(parts[1])):
                made = made * self.read(parts[0])
            return made
        for kinds, operator in _OPERATORS:
            if isinstance(expression, kinds):
                read = [self.read(part) for part in parts]
                if operator in ("max", "min"):
                    return extreme(operator, read, self.box)
                return Size.apply(operator, *read)
        raise CaptureError(
            f"torch gives a size as {expression}, and {type(expression).__name__} is not among "
            "the functions that symbolic sizes may have (+, *, //, %, max, min). Load the "
            "program at the sizes you need instead"
        )

    def conditions(self, guard: Expression) -> Iterator[Condition]:
        """A guard as conditions on the named symbols."""
        if isinstance(guard, sympy.And):
            for part in guard.args:
                yield from self.conditions(part)
            return
        text = self.text(guard)
        if isinstance(guard, sympy.Eq | sympy.Ne):
            sign = "==" if isinstance(guard, sympy.Eq) else "!="
            text = f"{self.text(guard.lhs)} {sign} {self.text(guard.rhs)}"
        relation = _RELATIONS.get(type(guard))
        size = None
        if relation is not None:
            try:
                size = relation[1](self.read(guard.lhs), self.read(guard.rhs))
            except CaptureError:
                relation = None
        yield Condition(text, self._holds(guard), relation[0] if relation else "", size)

    def _holds(self, guard: Expression) -> Callable[[Mapping[str, int]], bool]:
        used = guard.free_symbols
        return lambda sizes: holds(guard, {symbol: sizes[self.names[symbol]] for symbol in used})

    def text(self, expression: Expression) -> str:
        """An expression with the names of its symbols."""
        named = {symbol: sympy.Symbol(self.names[symbol]) for symbol in expression.free_symbols}
        return str(expression.xreplace(named))


def holds(condition: Expression, values: Mapping[Expression, int]) -> bool:
    """Whether a condition is true at these values of symbols; one that divides by a size that is
    0 there is not."""
    exact = {symbol: sympy.Integer(value) for symbol, value in values.items()}
    try:
        return bool(condition.xreplace(exact))
    except ZeroDivisionError:
        return False


_OPERATORS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((functions.FloorDiv, functions.CleanDiv), "//"),
    ((functions.Mod, functions.PythonMod), "%"),
    ((functions.Max, sympy.Max), "max"),
    ((functions.Min, sympy.Min), "min"),
)

_ONE = Size.of(1)
_RELATIONS: Mapping[type, tuple[str, Callable[[Size, Size], Size]]] = {
    sympy.Ge: (">=", lambda a, b: a - b),
    sympy.Gt: (">=", lambda a, b: a - b - _ONE),
    sympy.Le: (">=", lambda a, b: b - a),
    sympy.Lt: (">=", lambda a, b: b - a - _ONE),
    sympy.Eq: ("==", lambda a, b: a - b),
    sympy.Ne: ("!=", lambda a, b: a - b),
}
"""What a relation says of a size in comparison with 0; sizes are integers."""
