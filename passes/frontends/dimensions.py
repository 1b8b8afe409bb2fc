"""Which dimensions of an exported program are dynamic: their names, places and ranges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from attrs import frozen
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from passes.frontends.fakes import known_int
from passes.frontends.symbols import Expression
from passes.symbolic.dynamic import Symbol

FARTHEST = 2**48
"""No dimension is larger.  A range that ends beyond has no end."""


@frozen(eq=False)
class Dimension:
    """A symbol, and what torch calls it."""

    symbol: Symbol
    expression: Expression


def dimensions_of(exported: ExportedProgram, inputs: Sequence[object] | None) -> list[Dimension]:
    """The dynamic dimensions of an exported program, called with these flat inputs, or else
    with the recorded ones."""
    places: dict[Expression, list[str]] = {}
    examples: dict[Expression, int] = {}
    derived: dict[Expression, list[str]] = {}
    names: dict[Expression, str] = {}
    given = iter(inputs or ())
    placeholders = [node for node in exported.graph.nodes if node.op == "placeholder"]
    for node, spec in zip(placeholders, exported.graph_signature.input_specs, strict=True):
        if spec.kind is not InputKind.USER_INPUT:
            continue
        recorded = node.meta.get("val")
        real = recorded if inputs is None else next(given)
        for place, size, example in symbolic_sizes(node.name, recorded, real):
            expression = size.node.expr
            if expression.is_Symbol:
                places.setdefault(expression, []).append(place)
                examples.setdefault(expression, example)
                names |= _named(size)
            else:
                for symbol in expression.free_symbols:
                    derived.setdefault(symbol, []).append(f"{place} = {expression}")
                    examples.setdefault(symbol, int(size.node.shape_env.size_hint(symbol)))
    found = []
    for expression, example in examples.items():
        name = names.get(expression) or next(iter(places.get(expression, [str(expression)])))
        said = exported.range_constraints.get(expression)
        low, high = (0, None) if said is None else (int(said.lower), _end(said.upper))
        where = (*places.get(expression, ()), *derived.get(expression, ()))
        found.append(Dimension(Symbol(name, where, low, high, example), expression))
    return found


# Any: an input of any kind.
def symbolic_sizes(
    label: str, recorded: object, real: object
) -> Iterable[tuple[str, torch.SymInt, int]]:
    """The symbolic sizes of an input: where, which, and its value in the example."""
    found: list[tuple[str, object, Any]] = [(label, recorded, real)]
    if isinstance(recorded, torch.Tensor) and isinstance(real, torch.Tensor):
        pairs = enumerate(zip(recorded.shape, real.shape, strict=True))
        found = [(f"{label}.shape[{number}]", size, known) for number, (size, known) in pairs]
    for place, size, known in found:
        example = known_int(known)
        if isinstance(size, torch.SymInt) and example is not None:
            yield place, size, example


def _named(size: torch.SymInt) -> dict[Expression, str]:
    """What the user called the dimension, if this program still knows."""
    env = size.node.shape_env
    names = getattr(env, "source_name_to_debug_name", {})
    return {symbol: names[s] for s, symbol in env.source_to_var.items() if s in names}


def _end(upper: Expression) -> int | None:
    return int(upper) if upper.is_Integer and upper < FARTHEST else None
