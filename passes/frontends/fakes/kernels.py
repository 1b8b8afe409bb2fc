"""Fake kernels where torch's refuse what the real ones do, or give results of other sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._prims_common import infer_size, is_contiguous_or_false, suggest_memory_format
from torch._subclasses.fake_impls import _compute_stride
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import guard_or_false, has_free_unbacked_symbols
from torch.utils._pytree import tree_leaves

from passes.frontends.effects.schema import signature
from passes.frontends.fakes.composites import UPSAMPLING


class FakeMode(FakeTensorMode):  # type: ignore[no-untyped-call]  # torch's own
    """A fake mode with the kernels below."""

    # Any: the signature is torch's.
    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kernel = KERNELS.get(func)
        if kernel is not None:
            with self:
                own = kernel(*args, **(kwargs or {}))
            if own is not None:
                return own
        strided = _strided(*args) if func in _VIEWS else None
        if strided is not None:
            func, args = torch.ops.aten.as_strided.default, strided
        given = (*args, *kwargs.values()) if kwargs else args
        if _has_undecided(given):
            return self._without_values(func, types, args, kwargs or {})
        return super().dispatch(func, types, args, kwargs)

    # Any: as above.
    def _without_values(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """The same where a number is given that only the run knows.  Torch's would compute with
        what values there are, and make one up for that."""
        known = [t for t in tree_leaves((args, kwargs)) if getattr(t, "constant", None) is not None]
        values = [tensor.constant for tensor in known]
        for tensor in known:
            tensor.constant = None
        try:
            return super().dispatch(func, types, args, kwargs)
        finally:
            for tensor, value in zip(known, values, strict=True):
                tensor.constant = value
            about = signature(func)
            given = {**dict(zip(about.arguments, args)), **kwargs}  # noqa: B905  # rest by name
            for tensor in tree_leaves([given.get(name) for name in about.written]):
                if any(tensor is one for one in known):
                    self.fake_tensor_converter.invalidate_constant_aliases(tensor.constant)


def _has_undecided(arguments: Sequence[object]) -> bool:
    """Whether a number that is neither a size nor known is among arguments, or in one."""
    for argument in arguments:
        kind = type(argument)
        if kind is torch.SymFloat or kind is torch.SymBool:
            return True
        if isinstance(argument, (tuple, list)) and _has_undecided(argument):
            return True
    return False


def _grouped_mm(
    a: Tensor,
    b: Tensor,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor | None:
    """Torch's wants bfloat16, as one kernel for CUDA does.  Others take what `mm` takes."""
    if a.dtype is torch.bfloat16:
        return None
    groups: tuple[int, ...] = ()
    if a.dim() == b.dim():
        groups = a.shape[:1] if offs is None else offs.shape[:1]
    shape = (*groups, a.shape[-2], b.shape[-1])
    return torch.empty(shape, dtype=out_dtype or a.dtype, device=a.device)


def _embedding_bag(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
    forward_only: bool = False,
) -> tuple[Tensor, ...] | None:
    """The kernel for the CPU makes the first two of its three tables of indices one row too
    long, if at all."""
    if weight.device.type != "cpu":
        return None
    summed, largest = mode == _SUM, mode == _MAX
    given, count = offsets.shape[0], offsets.shape[0] - include_last_offset
    dense = weight.stride(1) == 1
    dense = dense and (per_sample_weights is None or per_sample_weights.stride() == (1,))
    at_once = summed and dense and padding_idx < 0 and weight.dtype in _SUMMED_AT_ONCE
    shown = given if forward_only and summed else count
    last = (count, weight.shape[1]) if largest else (shown,)
    return (
        weight.new_empty(count, weight.shape[1]),
        offsets.new_empty(0) if at_once else offsets.new_empty(indices.numel() + 1)[:-1],
        offsets.new_empty(given)[:shown],
        offsets.new_empty(last),
    )


def _strided(tensor: Tensor, size: list[int]) -> tuple[Any, ...] | None:
    """The arguments of `as_strided` for a view; none if torch's own view will do.

    Torch's gives dimensions of size 1 other strides, and these decide whether an image of a
    batch of one has its channels last.
    """
    numbers = (*size, *tensor.shape)
    # Types first: to ask whether a symbol is 1 would be a condition on it.
    if not all(type(n) is int for n in (*numbers, *tensor.stride())):
        return None
    if 1 not in numbers and -1 not in numbers:
        return None
    shape = infer_size(size, tensor.numel()) if -1 in size else size
    if prod(shape) != tensor.numel():
        return None
    strides = _compute_stride(tensor.shape, tensor.stride(), shape)
    return None if strides is None else (tensor, shape, strides)


_VIEWS = frozenset((torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default))

_SUM, _MAX = 0, 2
_SUMMED_AT_ONCE = (torch.float32, torch.float16, torch.bfloat16)


def _constant_pad_nd(tensor: Tensor, pad: Sequence[int], value: float = 0) -> Tensor | None:
    """Torch's kernel in C++ takes numbers only."""
    if not has_free_unbacked_symbols([*tensor.shape, *pad]):
        return None
    shape = list(tensor.shape)
    for place, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True), 1):
        shape[-place] += before + after
    # What is only made smaller is cloned, as it is laid out.
    if all(guard_or_false(n <= 0) for n in pad):
        return tensor.as_strided(shape, tensor.stride()).clone()
    if not (any(guard_or_false(n > 0) for n in pad) or is_contiguous_or_false(tensor)):
        return None
    wanted = suggest_memory_format(tensor)
    return torch.empty(shape, dtype=tensor.dtype, device=tensor.device, memory_format=wanted)


def _nan_to_num(tensor: Tensor, *limits: float | None, **named: float | None) -> Tensor | None:
    """Torch's asks which numbers are infinite, and cannot ask that of complex ones."""
    return torch.empty_like(tensor) if tensor.is_complex() else None


def _nan_to_num_(tensor: Tensor, *limits: float | None, **named: float | None) -> Tensor | None:
    return tensor if tensor.is_complex() else None


def _ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    zero_infinity: bool = False,
) -> tuple[Tensor, Tensor] | None:
    """Torch has none.  How long the longest target is, the data decides."""
    mode = getattr(log_probs, "fake_mode", None)
    most = targets.shape[-1]
    if mode is None or mode.shape_env is None or not isinstance(most, int):
        return None
    longest = mode.shape_env.create_unbacked_symint()
    mode.shape_env._constrain_range_for_size(longest.node.expr, min=0, max=most)
    steps, batch = log_probs.shape[:2]
    return log_probs.new_empty(batch), log_probs.new_empty(batch, steps, 2 * longest + 1)


def _ctc_loss_backward(gradient: Tensor, log_probs: Tensor, *rest: object) -> Tensor:
    return torch.empty_like(log_probs, memory_format=torch.contiguous_format)


def _masked_select(tensor: Tensor, mask: Tensor) -> Tensor | None:
    """Torch's takes the operand's elements for the most there can be, where it is stretched too."""
    mode = getattr(tensor, "fake_mode", None)
    if mode is None or mode.shape_env is None:
        return None
    known = all(type(size) is int for size in (*tensor.shape, *mask.shape))
    if known and torch.broadcast_shapes(tensor.shape, mask.shape) == tensor.shape:  # type: ignore[no-untyped-call]  # torch's own
        return None
    picked = mode.shape_env.create_unbacked_symint()
    mode.shape_env._constrain_range_for_size(picked.node.expr)
    return tensor.new_empty(picked)


def _upsample(tensor: Tensor, output_size: Sequence[int], *rest: object) -> Tensor | None:
    """Torch's ask whether there is anything, or take numbers only."""
    if not has_free_unbacked_symbols([*tensor.shape, *output_size]):
        return None
    wanted = suggest_memory_format(tensor)
    shape = (*tensor.shape[:2], *output_size)
    return torch.empty(shape, dtype=tensor.dtype, device=tensor.device, memory_format=wanted)


def _upsample_backward(in_format: bool) -> Callable[..., Tensor | None]:
    """Torch's kernels in C++ take numbers only."""

    def kernel(
        gradient: Tensor, output_size: Sequence[int], input_size: Sequence[int], *rest: object
    ) -> Tensor | None:
        if all(type(size) is int for size in (*gradient.shape, *output_size, *input_size)):
            return None
        wanted = suggest_memory_format(gradient) if in_format else torch.contiguous_format
        return torch.empty(
            input_size, dtype=gradient.dtype, device=gradient.device, memory_format=wanted
        )

    return kernel


_KEEP_FORMATS = (
    "upsample_nearest2d _upsample_nearest_exact2d upsample_linear1d upsample_bilinear2d "
    "upsample_trilinear3d _upsample_bilinear2d_aa"
).split()
_ARE_CONTIGUOUS = (
    "upsample_nearest1d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact3d "
    "upsample_bicubic2d _upsample_bicubic2d_aa _upsample_lanczos2d_aa"
).split()


def _reshape_alias(tensor: Tensor, size: list[int], stride: list[int]) -> Tensor:
    """Torch's makes a view and looks at no strides."""
    return tensor.as_strided(size, stride)


def _collapse_view(tensor: Tensor, start: int, end: int) -> Tensor | None:
    """Torch's takes the smallest stride, also that of a dimension of size 1."""
    shape = tensor.shape
    strided = _strided(tensor, [*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :]])
    # No view is made here: torch makes views of unknown sizes by collapsing.
    return None if strided is None else tensor.as_strided(*strided[1:])


# Any: a name or a device.
def _device_put(tensor: Tensor, device: Any, non_blocking: bool = False) -> Tensor | None:
    """Torch's makes a new tensor, on the same device too."""
    wanted, now = torch.device(device), tensor.device
    return tensor if wanted.type == now.type and wanted.index in (None, now.index) else None


def _scaled(operator: OpOverload) -> Callable[..., Tensor | None]:
    """Torch's multiplies first, and lays the result out as if that were one of the operands."""

    def kernel(one: Tensor, other: Any, *, alpha: Any = 1) -> Tensor | None:
        return None if type(alpha) is int and alpha == 1 else operator(one, other)

    return kernel


def _batch_norm(more: Callable[..., Sequence[Tensor]]) -> Callable[..., tuple[Tensor, ...] | None]:
    """Torch's divides by the number of values of each channel less one, and so refuses single
    values, of which real ones give no finite variance.  What is added up in running statistics
    decides no result; `more` are those beyond the three of all."""

    def kernel(
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor | None,
        variance: Tensor | None,
        *rest: Any,
    ) -> tuple[Tensor, ...] | None:
        *training, momentum, eps = rest
        single = all(type(n) is int and n == 1 for n in (input.shape[0], *input.shape[2:]))
        if not (single and mean is not None and all(training)):
            return None
        norm = torch.ops.aten._native_batch_norm_legit.no_stats
        made: tuple[Tensor, ...] = norm(input, weight, bias, True, momentum, eps)
        return (*made, *more(input, mean, variance))

    return kernel


def _reserved(input: Tensor) -> Tensor:
    return input.new_empty(0, dtype=torch.uint8)


KERNELS: Mapping[OpOverload, Callable[..., Tensor | tuple[Tensor, ...] | None]] = {
    torch.ops.aten._grouped_mm.default: _grouped_mm,
    torch.ops.aten.constant_pad_nd.default: _constant_pad_nd,
    torch.ops.aten.masked_select.default: _masked_select,
    torch.ops.aten.nan_to_num.default: _nan_to_num,
    torch.ops.aten.nan_to_num_.default: _nan_to_num_,
    torch.ops.aten._ctc_loss.Tensor: _ctc_loss,
    torch.ops.aten._ctc_loss_backward.Tensor: _ctc_loss_backward,
    torch.ops.aten._embedding_bag.default: _embedding_bag,
    torch.ops.aten._embedding_bag_forward_only.default: partial(_embedding_bag, forward_only=True),
    **{
        getattr(torch.ops.aten, f"{name}_backward").default: _upsample_backward(
            name in _KEEP_FORMATS
        )
        for name in (*_KEEP_FORMATS, *_ARE_CONTIGUOUS)
    },
    **{
        operator: _scaled(operator)
        for operator in (torch.ops.aten.add.Tensor, torch.ops.aten.sub.Tensor)
    },
    **{getattr(torch.ops.aten, name).default: _upsample for name in UPSAMPLING},
    torch.ops.aten.native_batch_norm.default: _batch_norm(lambda *_: ()),
    torch.ops.aten._native_batch_norm_legit.default: _batch_norm(lambda *_: ()),
    torch.ops.aten._native_batch_norm_legit_functional.default: _batch_norm(
        lambda input, mean, variance: (torch.empty_like(mean), torch.empty_like(variance))
    ),
    torch.ops.aten._batch_norm_with_update.default: _batch_norm(
        lambda input, *_: (_reserved(input),)
    ),
    torch.ops.aten._batch_norm_with_update_functional.default: _batch_norm(
        lambda input, *state: (_reserved(input), *map(torch.empty_like, state))
    ),
    torch.ops.aten._reshape_alias.default: _reshape_alias,
    # Views, of which torch's makes new tensors, or its cache does.
    torch.ops.prims.as_strided.default: torch.as_strided,
    torch.ops.prims.real.default: torch.real,
    torch.ops.prims.imag.default: torch.imag,
    torch.ops.prims.device_put.default: _device_put,
    torch.ops.prims.collapse_view.default: _collapse_view,
}
"""None from a kernel: torch's will do."""
