"""A program as text, one op a line; bytes as text."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from passes.effects import AliasOf, OneOf, Origin, ResultEffect

if TYPE_CHECKING:
    from passes.program import Op

LISTED = 5
"""Names that are told in full in a list."""


def size(nbytes: int | None) -> str:
    """Bytes as a person reads them, in powers of 1024."""
    if nbytes is None:
        return "? B"
    amount = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{nbytes} B" if unit == "B" else f"{amount:.1f} {unit}"


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:LISTED])
    more = len(names) - LISTED
    return f"{shown} and {more} more" if more > 0 else shown


def place(op: Op) -> str:
    """The op's source line, its file relative to where the reader stands."""
    return op.source.removeprefix(os.getcwd() + os.sep)


def op_lines(ops: tuple[Op, ...], indent: str) -> Iterator[str]:
    for op in ops:
        types = ", ".join(str(value.type) for value in op.results)
        told = ", ".join(
            str(effect).replace("#", "") if not op.operands else _named(effect, op)
            for effect in op.effects.results
        )
        writes = ", ".join(op.operands[number].name for number in sorted(op.effects.writes))
        comment = "; ".join(
            part
            for part in (types, told, f"writes {writes}" if writes else "", _origin(op))
            if part
        )
        yield f"{indent}{op.line}" + (f"  # {comment}" if comment else "")
        for region in op.regions:
            inputs = ", ".join(value.name for value in region.inputs)
            yield f"{indent}  {region.name}({inputs}):"
            yield from op_lines(region.ops, indent + "    ")


def _named(effect: ResultEffect, op: Op) -> str:
    if isinstance(effect, AliasOf):
        return "alias of " + "=".join(op.operands[number].name for number in effect.operands)
    if isinstance(effect, OneOf) and effect.answers:
        return " or ".join(_named(answer, op) for answer in effect.answers)
    return str(effect)


def _origin(op: Op) -> str:
    if op.effects.origin is Origin.ANYTHING:
        return "MAY DO ANYTHING"
    return "by its schema" if op.effects.origin is Origin.DECLARED else ""
