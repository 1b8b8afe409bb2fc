"""Ops in words: which call, in which module, on which line; many alike as one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from passes.program import Op

SHOWN = 4


def told(ops: Sequence[Op]) -> str:
    """The ops by name, module and source line; layers of a model together."""
    groups: dict[tuple[str, str, str], list[Op]] = {}
    for op in ops:
        module = re.sub(r"(?<![^.\[])\d+(?![^.\]])", "*", op.module)
        groups.setdefault((op.target, module, op.source), []).append(op)
    parts = [_group(*key, found) for key, found in groups.items()]
    more = sum(len(found) for found in list(groups.values())[SHOWN:])
    return "; ".join(parts[:SHOWN]) + (f"; and {more} more ops" if more else "")


def _group(target: str, module: str, source: str, ops: Sequence[Op]) -> str:
    name = ops[0].name if len(ops) == 1 else f"{len(ops)} times {target}"
    where = module if len(ops) > 1 else ops[0].module
    return name + (f" in {where}" if where else "") + (f" ({source})" if source else "")
