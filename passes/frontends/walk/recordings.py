"""What a capture recorded of its nodes, as far as it holds for every run.

`make_fx` on real tensors records numbers for sizes that its own data decided.  Another run has
others, of such a tensor and of all that is made from it.
"""

from __future__ import annotations

from functools import cache
from itertools import zip_longest
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves, tree_map

from passes.errors import CaptureError
from passes.frontends.effects.schema import signature
from passes.frontends.fakes.limits import MASKS
from passes.frontends.fakes.undecided import is_dynamic, is_undecided, unsized
from passes.frontends.fakes.world import World, has_storage, known_int, tensors_in, type_of
from passes.frontends.walk.env import MISSING, Env
from passes.frontends.walk.nodes import recorded_of
from passes.program import TensorType


# Any: what captures record has no one type.
def holding_of(node: fx.Node, env: Env, world: World) -> Any:
    """What the capture recorded of a node, without the sizes of tensors that may be those of one
    run alone; `MISSING` if nothing."""
    recorded = recorded_of(node, MISSING)
    if recorded is MISSING:
        return recorded
    doubtful = _is_decided_by_data(node) or any(_is_less(n, env) for n in node.all_input_nodes)
    if not doubtful or any(map(is_dynamic, tree_leaves(recorded))):
        return recorded
    return tree_map(
        lambda leaf: unsized(leaf, world) if isinstance(leaf, torch.Tensor) else leaf, recorded
    )


def _is_less(node: fx.Node, env: Env) -> bool:
    """Whether less is known of a node than was recorded."""
    result, recorded = env[node].result, recorded_of(node, MISSING)
    if result is recorded:  # as for all that the walk took from the capture as it was
        return False
    if result is not MISSING and not any(map(_is_unsized, tree_leaves(result))):
        return False
    tensors = tensors_in(recorded)
    return bool(tensors) and not any(map(is_dynamic, tensors))


def _is_unsized(value: object) -> bool:
    """Whether the shape or the strides of a tensor are unknown, or what a number is.  Where in its
    storage a tensor begins may be unknown: no size follows from it."""
    if isinstance(value, torch.Tensor) and has_storage(value):
        layout = (*value.shape, *value.stride())
        return any(type(size) is not int and known_int(size) is None for size in layout)
    return is_undecided(value)


def _is_decided_by_data(node: fx.Node) -> bool:
    """Whether data decides the sizes of what an operator returns."""
    target = node.target
    if not isinstance(target, OpOverload) or not _may_ask_data(target):
        return False
    about = signature(target)
    given: dict[str, Any] = {**dict(zip(about.arguments, node.args)), **node.kwargs}  # noqa: B905  # rest by name
    if about.name == "index":
        found = [recorded_of(one, MISSING) for one in given["indices"] if one is not None]
        return any(one is MISSING or one.dtype in MASKS for one in found)
    return given.get(_TOLD_BY.get(about.name, ""), -1) in (None, -1)


@cache
def _may_ask_data(operator: OpOverload) -> bool:
    return torch.Tag.dynamic_output_shape in operator.tags


_TOLD_BY = {"one_hot": "num_classes", "repeat_interleave": "output_size"}
"""Arguments that tell the size, where they are given."""


def check_as_recorded(node: fx.Node, given: object) -> None:
    """Raise if an input is of another type than the one of the capture: what was recorded of
    every later value would be wrong."""
    recorded = recorded_of(node, MISSING)
    if recorded is MISSING:
        return
    for one, other in zip_longest(tensors_in(given), tensors_in(recorded)):
        if one is None or other is None:
            raise _not_as_recorded(node, str(one), str(other))
        if not has_storage(one) or not has_storage(other):
            continue
        found, wanted = type_of(one), type_of(other)
        steps = zip(found.shape, found.stride, wanted.stride, strict=True)
        apart = found.device != wanted.device and not (one.is_meta or other.is_meta)
        if (
            (found.shape, found.dtype) != (wanted.shape, wanted.dtype)
            or apart
            or any(n and n > 1 and a != b for n, a, b in steps)
        ):
            raise _not_as_recorded(node, _shown(found), _shown(wanted))


def _not_as_recorded(node: fx.Node, found: str, wanted: str) -> CaptureError:
    return CaptureError(
        f"input {node.name} is {found}, and the capture recorded {wanted}. What it recorded of "
        "later values holds for that alone: load with effects='observed', or capture the program "
        "again with inputs like these"
    )


def _shown(found: TensorType) -> str:
    return f"{found} with strides {found.stride}"
