"""Which operator a torch function or tensor method is, for nodes that could not run.

`torch.cov` and `x.cov()` are `aten::cov`; which overload depends on the arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload


def operator_of(
    node: fx.Node, args: Sequence[object], kwargs: Mapping[str, object]
) -> OpOverload | None:
    """The operator that a node calls with these arguments; None if it is not one."""
    if isinstance(node.target, OpOverload):
        return node.target
    name = _name(node)
    if name is None:
        return None
    try:
        overload = torch._C._jit_resolve_packet(f"aten::{name}", *args, **kwargs)
    except Exception:  # whatever torch says of arguments that fit no overload
        return None
    found: OpOverload = getattr(getattr(torch.ops.aten, name), overload or "default")
    return found


def _name(node: fx.Node) -> str | None:
    if node.op == "call_method":
        return str(node.target)
    # Any: any callable at all.
    target: Any = node.target
    own = getattr(target, "__module__", None) or "torch"
    if node.op != "call_function" or not own.startswith("torch"):
        return None
    if type(target).__name__ != "builtin_function_or_method":
        return None
    return str(target.__name__)
