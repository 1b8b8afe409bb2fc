"""Which dimensions of an exported program are dynamic: their names, places and ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sympy
import torch
from attrs import frozen
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec
from torch.utils._sympy.printers import PythonPrinter

from passes.errors import CaptureError
from passes.frontends.dynamic.symbols import Expression
from passes.frontends.fakes.world import known_int
from passes.symbolic.dynamic import Symbol

FARTHEST = 2**48
"""No dimension is larger.  A range that ends beyond has no end."""


@frozen(eq=False)
class Dimension:
    """A symbol, and what torch calls it."""

    symbol: Symbol
    expression: Expression


@frozen(eq=False)
class Sized:
    """A size of an input that was recorded as an expression over symbols, and is `size` here."""

    place: str
    recorded: torch.SymInt
    size: int

    @property
    def expression(self) -> Expression:
        """What was recorded."""
        return self.recorded.node.expr


def dimensions_of(exported: ExportedProgram, inputs: Sequence[object] | None) -> list[Dimension]:
    """The dynamic dimensions of an exported program, called with these flat inputs, or else
    with the recorded ones."""
    sizes = sizes_of(exported, inputs)
    names = names_of(sizes)
    found = []
    for expression, example in values_of(sizes).items():
        places = [sized.place for sized in sizes if sized.expression == expression]
        derived = [
            f"{sized.place} = {told(sized.expression, names)}"
            for sized in sizes
            if sized.expression != expression and expression in sized.expression.free_symbols
        ]
        low, high = range_of(exported, expression)
        symbol = Symbol(names[expression], (*places, *derived), low, high, example)
        found.append(Dimension(symbol, expression))
    return found


def user_inputs(exported: ExportedProgram) -> Iterator[tuple[fx.Node, InputSpec]]:
    """The placeholders of inputs that the caller gives, in order, and what is said of them."""
    placeholders = exported.graph.find_nodes(op="placeholder")
    for node, spec in zip(placeholders, exported.graph_signature.input_specs, strict=True):
        if spec.kind is InputKind.USER_INPUT:
            yield node, spec


def sizes_of(exported: ExportedProgram, inputs: Sequence[object] | None) -> list[Sized]:
    """The sizes of these flat inputs, or else of the recorded ones, that are symbolic."""
    placeholders = [node for node, _ in user_inputs(exported)]
    recorded = [node.meta.get("val") for node in placeholders]
    given = recorded if inputs is None else inputs
    return [
        sized
        for node, one, other in zip(placeholders, recorded, given, strict=True)
        for sized in sizes_in(node.name, one, other)
    ]


def taken_at(source: str, sizes: Iterable[Sized]) -> Iterator[str]:
    """A note about the sizes of dynamic dimensions, if there are any, and where they are from.

    A number that is the size of a tensor too, as in Dynamo's graphs, is not told twice.
    """
    sizes = list(sizes)
    shapes = {sized.expression for sized in sizes if ".shape[" in sized.place}
    told_once = [s for s in sizes if ".shape[" in s.place or s.expression not in shapes]
    if told_once:
        taken = ", ".join(f"{sized.place} = {sized.size}" for sized in told_once)
        yield f"dynamic dimensions are taken at {source}: {taken}"


def fixed_int(size: object) -> int | None:
    """A recorded size as an int; None if it is not the same at all inputs."""
    if isinstance(size, torch.SymInt) and size.node.expr.is_Integer:
        return int(size.node.expr)
    return size if isinstance(size, int) else None


def sizes_in(label: str, recorded: object, real: object) -> Iterator[Sized]:
    """The sizes of one input that were recorded as symbols, or the number that it is; none of a
    tensor with another number of dimensions, which a bare graph may be given."""
    # Any: an input of any kind.
    found: list[tuple[str, object, Any]] = [(label, recorded, real)]
    if isinstance(recorded, torch.Tensor) and isinstance(real, torch.Tensor):
        same = recorded.dim() == real.dim()
        pairs = enumerate(zip(recorded.shape, real.shape, strict=True) if same else ())
        found = [(f"{label}.shape[{number}]", size, known) for number, (size, known) in pairs]
    for place, size, known in found:
        example = known_int(known)
        if isinstance(size, torch.SymInt) and fixed_int(size) is None and example is not None:
            yield Sized(place, size, example)


def values_of(sizes: Iterable[Sized]) -> dict[Expression, int]:
    """What each symbol is at these sizes: by where it stands alone, or else by the first size
    that is linear in it, such as `2*batch`.

    Raises `CaptureError` if no whole number gives that size.
    """
    sizes = list(sizes)
    found: dict[Expression, int] = {}
    for sized in sizes:
        if sized.expression.is_Symbol:
            found.setdefault(sized.expression, sized.size)
    for sized in sizes:
        unknown = sized.expression.free_symbols - found.keys()
        if len(unknown) == 1:
            symbol = unknown.pop()
            found[symbol] = _solved(sized, symbol, sized.expression.xreplace(_exact(found)))
    return found


def _solved(sized: Sized, symbol: Expression, expression: Expression) -> int:
    slope = expression.coeff(symbol)
    rest = sympy.expand(expression - slope * symbol)
    if not slope.is_Integer or not rest.is_Integer or (sized.size - rest) % slope:
        raise CaptureError(
            f"{sized.place} is {sized.size}, and the program was captured for "
            f"{told(expression, names_of([sized]))}, which no whole number makes that"
        )
    return int((sized.size - rest) / slope)


def at(expression: Expression, values: Mapping[Expression, int]) -> Expression:
    """An expression, or a condition, at these values of symbols."""
    return sympy.sympify(expression.xreplace(_exact(values)))


def _exact(values: Mapping[Expression, int]) -> dict[Expression, Expression]:
    return {symbol: sympy.Integer(value) for symbol, value in values.items()}


def names_of(sizes: Iterable[Sized]) -> dict[Expression, str]:
    """What to call the symbols: as the user did if this program still knows, else by the first
    place that one has to itself, else as torch does."""
    names: dict[Expression, str] = {}
    places: dict[Expression, str] = {}
    plain: dict[Expression, str] = {}
    for sized in sizes:
        env = sized.recorded.node.shape_env
        said = getattr(env, "source_name_to_debug_name", {})
        for source, symbol in env.source_to_var.items():
            if source in said or source.isidentifier():  # a Dim that no size is alone
                names[symbol] = said.get(source, source)
        if sized.expression.is_Symbol:
            places.setdefault(sized.expression, sized.place)
        plain |= {symbol: str(symbol) for symbol in sized.expression.free_symbols}
    return plain | places | names


def told(expression: Expression, names: Mapping[Expression, str]) -> str:
    """An expression in the user's names."""
    named = expression.xreplace({s: sympy.Symbol(name, integer=True) for s, name in names.items()})
    return str(_PRINTER.doprint(named))


_PRINTER = PythonPrinter()


def range_of(exported: ExportedProgram, expression: Expression) -> tuple[int, int | None]:
    """The least and greatest size that a program was captured for; None: no greatest."""
    said = exported.range_constraints.get(expression)
    return (0, None) if said is None else (int(said.lower), _end(said.upper))


def _end(upper: Expression) -> int | None:
    return int(upper) if upper.is_Integer and upper < FARTHEST else None
