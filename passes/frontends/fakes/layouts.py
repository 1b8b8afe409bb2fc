"""Operators whose real kernels lay out their results otherwise than fake ones do.

Strides decide which later operators copy.  Each entry was found by comparing the results of
real and fake kernels on tensors of several layouts.  All are kernels of the CPU, and all agree
where their arguments are contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch._ops import OpOverload
from torch._prims_common import suggest_memory_format

from passes.frontends.effects.schema import signature

# Any: arguments of an operator.
Arguments = Sequence[Any]
Layout = Callable[[Arguments, torch.Tensor], torch.Tensor]
"""From arguments and a fake result to a new fake laid out as the real result is."""


def contiguous(_: Arguments, result: torch.Tensor) -> torch.Tensor:
    """In the order of dimensions, whatever the arguments are like."""
    return torch.empty_like(result, memory_format=torch.contiguous_format)


def contiguous_if_complex(args: Arguments, result: torch.Tensor) -> torch.Tensor:
    """In the order of dimensions, if the first argument is complex."""
    return contiguous(args, result) if args[0].is_complex() else result


def of_format(place: int) -> Layout:
    """In the memory format of the argument at a place: `channels_last` or contiguous."""

    def layout(args: Arguments, result: torch.Tensor) -> torch.Tensor:
        wanted = suggest_memory_format(args[place])
        return torch.empty_like(result, memory_format=wanted)

    return layout


def elementwise(first: int = 0, second: int = 1) -> Layout:
    """As an addition of the arguments at two places."""

    def layout(args: Arguments, result: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = torch.ops.aten.add.Tensor(args[first], args[second])
        return torch.empty_like(made, dtype=result.dtype)

    return layout


def like(place: int) -> Layout:
    """As a clone of the argument at a place, where it has the result's shape."""

    def layout(args: Arguments, result: torch.Tensor) -> torch.Tensor:
        if args[place].shape != result.shape:
            return result
        return torch.empty_like(args[place], dtype=result.dtype)

    return layout


LAYOUTS: Mapping[str, tuple[Layout, int]] = {
    **dict.fromkeys(
        "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
        "_batch_norm_with_update _batch_norm_no_update "
        "channel_shuffle native_channel_shuffle max_unpool2d reflection_pad3d "
        "replication_pad3d".split(),
        (of_format(0), 1),
    ),
    **dict.fromkeys(
        "native_batch_norm_backward batch_norm_backward replication_pad2d_backward "
        "replication_pad3d_backward reflection_pad3d_backward native_group_norm_backward".split(),
        (of_format(1), 1),
    ),
    "angle": (contiguous_if_complex, 1),
    "log_sigmoid_forward": (contiguous, 2),
    "native_layer_norm_backward": (contiguous, 3),
    **dict.fromkeys(
        "normal _log_softmax_backward_data mse_loss_backward smooth_l1_loss_backward "
        "huber_loss_backward isin.Tensor_Tensor".split(),
        (contiguous, 1),
    ),
    **dict.fromkeys(
        "copysign floor_divide div.Tensor_mode native_dropout_backward hardswish_backward "
        "hardtanh_backward logit_backward hardsigmoid_backward softplus_backward "
        "complex polar heaviside logaddexp logaddexp2 logical_and logical_or logical_xor "
        "special_xlog1py.default xlogy.Tensor".split(),
        (elementwise(), 1),
    ),
    **dict.fromkeys(
        "threshold_backward leaky_relu_backward rrelu_with_noise_backward".split(),
        (elementwise(1, 0), 1),
    ),
    "elu_backward": (elementwise(0, 5), 1),
    "binary_cross_entropy_backward": (like(1), 1),
    "log_sigmoid_backward": (like(0), 1),
    "ldexp": (like(0), 1),
}
"""How operators lay out their results in truth, and of how many of them this is so."""

_COMPOSITES = frozenset("batch_norm _batch_norm_impl_index instance_norm log_sigmoid".split())
"""Operators that call one of these."""


@cache
def layout_of(operator: OpOverload) -> tuple[Layout, int] | None:
    """The entry of an operator or of its overload."""
    about = signature(operator)
    if about.outputs:
        return None
    overload = f"{about.name}.{operator._overloadname}"
    return LAYOUTS.get(overload) or LAYOUTS.get(about.name)


@cache
def is_doubtful(operator: OpOverload) -> bool:
    """Whether a capture that ran fakes may have recorded wrong strides of its results."""
    return layout_of(operator) is not None or signature(operator).name in _COMPOSITES


def laid_out(operator: OpOverload, args: Arguments, result: Any) -> Any:
    """The result of an operator on fakes, laid out as the real one."""
    found = layout_of(operator)
    if found is None:
        return result
    layout, count = found
    if isinstance(result, tuple):
        return tuple(
            _as(layout, args, part) if number < count else part
            for number, part in enumerate(result)
        )
    return _as(layout, args, result)


def _as(layout: Layout, args: Arguments, result: Any) -> Any:
    if not isinstance(result, torch.Tensor):
        return result  # what a backward operator was not asked for
    tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
    on_cpu = result.device.type == "cpu" and result.layout is torch.strided
    if not on_cpu or not tensors or all(tensor.is_contiguous() for tensor in tensors):
        return result
    made = layout(args, result)
    return result if made.stride() == result.stride() else made
