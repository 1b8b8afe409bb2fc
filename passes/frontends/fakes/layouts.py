"""Operators whose real kernels lay out their results otherwise than fake ones do.

Strides decide which later operators copy.  Each entry was found by comparing the results of
real and fake kernels on tensors of several layouts.  All are kernels of the CPU, and all agree
where their arguments are contiguous and in one memory format only.

An image of one channel, or of one pixel, is contiguous and may have its channels last besides, as
its strides say.  What is computed of it then has its channels last or not, as these say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch._ops import OpOverload
from torch._prims_common import suggest_memory_format

from passes.frontends.effects.schema import signature
from passes.frontends.fakes.undecided import is_undecided, same_layout

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


def iterated(args: Arguments, result: torch.Tensor) -> torch.Tensor:
    """In the order of dimensions if all arguments have one shape and are contiguous."""
    plain = contiguous(args, result)
    if same_layout(plain, result):
        return result  # either way, so what the run decides is not asked
    for one in args:
        if not isinstance(one, torch.Tensor) or one.shape != result.shape:
            return result
        if not one.is_contiguous():
            return result
    return plain


def elementwise(first: int = 0, second: int = 1) -> Layout:
    """As an addition of the arguments at two places."""

    def layout(args: Arguments, result: torch.Tensor) -> torch.Tensor:
        both = args[first], args[second]
        made: torch.Tensor = iterated(both, torch.ops.aten.add.Tensor(*both))
        return torch.empty_like(made, dtype=result.dtype)

    return layout


def of_one_format(place: int) -> Layout:
    """In the memory format of the argument at a place, and contiguous if that is both."""

    def preferred(args: Arguments, result: torch.Tensor) -> torch.Tensor:
        wanted = suggest_memory_format(args[place])
        # Asked last, as what the run decides has no answer.
        if wanted is not torch.contiguous_format and args[place].is_contiguous():
            wanted = torch.contiguous_format
        return torch.empty_like(result, memory_format=wanted)

    return preferred


def rolled(args: Arguments, result: torch.Tensor) -> torch.Tensor:
    """As a concatenation of parts, or of what was flattened."""
    flat = len(args) < 3 or not args[2]
    return (contiguous if flat else of_format(0))(args, result)


def in_training(args: Arguments, result: torch.Tensor) -> torch.Tensor:
    """In the order of dimensions if noise is drawn."""
    return contiguous(args, result) if len(args) > 4 and args[4] else result


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
        "_batch_norm_with_update _batch_norm_no_update".split(),
        (of_one_format(0), 1),
    ),
    **dict.fromkeys(
        "channel_shuffle native_channel_shuffle max_unpool2d reflection_pad3d "
        "replication_pad3d native_group_norm upsample_nearest2d upsample_bilinear2d "
        "upsample_bicubic2d _upsample_nearest_exact2d upsample_nearest3d upsample_trilinear3d "
        "_upsample_nearest_exact3d".split(),
        (of_format(0), 1),
    ),
    "roll": (rolled, 1),
    "rrelu_with_noise": (in_training, 1),
    **dict.fromkeys(
        "native_batch_norm_backward batch_norm_backward replication_pad2d_backward "
        "replication_pad3d_backward reflection_pad2d_backward reflection_pad3d_backward "
        "native_group_norm_backward".split(),
        (of_format(1), 1),
    ),
    "angle": (contiguous_if_complex, 1),
    "log_sigmoid_forward": (contiguous, 2),
    "native_layer_norm_backward": (contiguous, 3),
    **dict.fromkeys(
        "normal _log_softmax_backward_data mse_loss_backward smooth_l1_loss_backward "
        "huber_loss_backward isin.Tensor_Tensor native_layer_norm "
        "_upsample_lanczos2d_aa_backward glu_backward".split(),
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

ITERATE = frozenset(
    "hardswish _log_softmax linalg_vector_norm renorm mse_loss smooth_l1_loss huber_loss".split()
)
"""Operators that lay out as those on elements do, where the shape stays."""

AS_THEIRS = frozenset(
    "clone hardtanh relu6 conj_physical _conj_physical deg2rad rad2deg nan_to_num frexp".split()
)
"""Operators on elements that lay out their results as their argument is, whatever that is."""

TAKE_NUMBERS = frozenset("pow float_power lerp masked_fill".split())
"""Operators to which a number is none of the tensors that they go through."""

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


@cache
def _iterating(operator: OpOverload) -> tuple[int, ...]:
    """The places of the tensors that an operator goes through together, element by element."""
    about = signature(operator)
    on_elements = torch.Tag.pointwise in operator.tags and about.name not in AS_THEIRS
    scales = "calar" in operator._overloadname and about.name not in TAKE_NUMBERS
    if about.written or scales or not (on_elements or about.name in ITERATE):
        return ()
    kinds = [str(argument.type) for argument in operator._schema.arguments]
    return tuple([place for place, kind in enumerate(kinds) if "Tensor" in kind])


def has_two_formats(shape: Sequence[int | None], stride: Sequence[int | None]) -> bool:
    """Whether an image of a shape that may be contiguous with its channels last has these last,
    as torch tells by strides."""
    if not _is_of_two(shape) or 0 in shape:
        return False
    least = 0
    for place in (1, *range(len(shape) - 1, 1, -1), 0):
        size, step = shape[place], stride[place]
        if size is None or step is None or step < least or (place == 0 and least == stride[1]):
            return False
        least = step * size
    return True


def _is_of_two(shape: Sequence[int | None]) -> bool:
    """Whether contiguous images of a shape may have their channels last: those of one channel,
    and of one pixel."""
    if len(shape) not in (4, 5):
        return False
    if type(shape[1]) is int and shape[1] == 1:  # symbols are never 1
        return True
    return all(type(size) is int and size == 1 for size in shape[2:])


def laid_out(operator: OpOverload, args: Arguments, result: Any) -> Any:
    """The result of an operator on fakes, laid out as the real one."""
    found = layout_of(operator)
    if found is None:
        places = _iterating(operator)
        if not places or not isinstance(result, torch.Tensor) or not _is_of_two(result.shape):
            return result
        args = [args[place] for place in places if place < len(args) and args[place] is not None]
        found = iterated, 1
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
    if not on_cpu or not tensors:
        return result
    decided = not any(map(is_undecided, tensors))
    if decided and all(t.is_contiguous() and not _is_of_two(t.shape) for t in tensors):
        return result
    made = layout(args, result)
    return result if same_layout(made, result) else made
