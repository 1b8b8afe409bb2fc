"""Ops in words: which call, in which module, on which line; many alike as one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from passes.program import Fresh, Op

SHOWN = 4


def told(ops: Sequence[Op]) -> str:
    """The ops by name, module and source line; layers of a model together, largest first."""
    groups: dict[tuple[str, str, str], list[Op]] = {}
    for op in ops:
        module = re.sub(r"(?<![^.\[])\d+(?![^.\]])", "*", op.module)
        groups.setdefault((op.target, module, op.source), []).append(op)
    ordered = sorted(groups.items(), key=lambda item: -sum(map(_allocated, item[1])))
    parts = [_group(*key, found) for key, found in ordered]
    more = sum(len(found) for _, found in ordered[SHOWN:])
    return "; ".join(parts[:SHOWN]) + (f"; and {more} more ops" if more else "")


def _allocated(op: Op) -> int:
    return sum(effect.nbytes or 0 for effect in op.effects.results if isinstance(effect, Fresh))


def _group(target: str, module: str, source: str, ops: Sequence[Op]) -> str:
    name = ops[0].name if len(ops) == 1 else f"{len(ops)} times {target}"
    where = module if len(ops) > 1 else ops[0].module
    return name + (f" in {where}" if where else "") + (f" ({source})" if source else "")
