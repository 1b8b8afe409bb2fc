"""Which operators return a view of an argument: always, or depending on types and mode.

A schema says at most "may".  Here is what decides: strides, dtypes, a mode argument.  Each
condition answers True (an alias), False (a copy), or None where something it needs is not
known.  The conditions are those of the operators' own code, so nothing is executed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import prod

import torch
from attrs import frozen
from torch._prims_common import are_strides_like_channels_last_or_false

from passes.frontends.effects.schema import RETURNS_IF_EMPTY, UNKNOWN_ARGUMENT
from passes.program import TensorType


@frozen
class Question:
    """Does result `number` alias this argument?  `arguments` has plain values by name."""

    source: TensorType | None
    result: TensorType | None
    number: int
    tensors: int
    arguments: Mapping[str, object]


Condition = Callable[[Question], bool | None]


def always(_: Question) -> bool | None:
    """A view, or the argument itself."""
    return True


def perhaps(_: Question) -> bool | None:
    """An alias or not; nothing that a type shows decides."""
    return None


def same_kind(q: Question) -> bool | None:
    """`to` and its like copy only to change something."""
    if q.source is None or q.result is None:
        return None
    if q.source.dtype != q.result.dtype or q.source.device != q.result.device:
        return False
    if q.arguments.get("copy") or q.arguments.get("pin_memory"):
        return False if q.arguments.get("copy") is True else None
    wanted = q.arguments.get("memory_format")
    if wanted is None or wanted is torch.preserve_format:
        return True
    found = _suggested_format(q.source)
    return None if found is None else wanted is found


def _suggested_format(tensor: TensorType) -> torch.memory_format | None:
    """The format that torch sees in strides: contiguous if they are like no other."""
    shape = [size for size in tensor.shape if size is not None]
    stride = [step for step in tensor.stride if step is not None]
    if len(shape) + len(stride) < 2 * len(tensor.shape):
        return None
    if not are_strides_like_channels_last_or_false(shape, stride):
        return torch.contiguous_format
    return torch.channels_last if len(shape) == 4 else torch.channels_last_3d


def contiguous(q: Question) -> bool | None:
    """`contiguous` and `ravel` copy only what is not contiguous."""
    if q.source is None:
        return None
    return is_contiguous(q.source, q.arguments.get("memory_format"))


def if_strides_allow(q: Question) -> bool | None:
    """`reshape` and its like copy only what no strides can express."""
    if q.source is None or q.result is None:
        return None
    if q.source.shape == q.result.shape:
        return True
    return can_view(q.source, q.result.shape)


def nothing_dropped(q: Question) -> bool | None:
    """Dropout returns its argument where it drops nothing."""
    train, p = q.arguments.get("train"), q.arguments.get("p")
    if train is False or p == 0 or (q.source is not None and 0 in q.source.shape):
        return True
    if train is UNKNOWN_ARGUMENT or p is UNKNOWN_ARGUMENT:
        return None
    if q.source is None or None in q.source.shape:
        return None
    return False


def empty(q: Question) -> bool | None:
    """Some kernels have nothing to do for an argument without elements, and return it first."""
    if q.number:
        return False
    if q.source is None or (None in q.source.shape and 0 not in q.source.shape):
        return None
    return 0 in q.source.shape


def real(q: Question) -> bool | None:
    """What conjugates returns real tensors as they are."""
    return None if q.source is None else not q.source.dtype.startswith("complex")


def not_conjugated(q: Question) -> bool | None:
    """`resolve_conj` copies what has its conjugate bit set, which no type shows."""
    return True if real(q) else None


def same_shape(q: Question) -> bool | None:
    """`sum_to_size` returns what has that shape already, unless it has no dimensions."""
    if q.source is None or q.result is None or None in (*q.source.shape, *q.result.shape):
        return None
    return q.source.shape == q.result.shape != ()


def alone(q: Question) -> bool | None:
    """Combines tensors; a single one may come back as a view."""
    return None if q.tensors == 1 else False


ALWAYS_VIEWS = frozenset(
    """
    _conj _fw_primal _make_dual _neg_view _reshape_alias adjoint alias as_strided broadcast_in_dim
    broadcast_to chunk collapse_view conj detach diagonal dsplit expand expand_as hsplit imag
    lift_fresh linalg_diagonal matrix_H mH moveaxis movedim mT narrow numpy_T permute positive real
    select slice split split_dim split_with_sizes squeeze swapaxes swapdims t tensor_split transpose
    unbind unflatten unfold unsqueeze view view_as view_as_complex view_as_real view_of
    view_of_dtype vsplit
    """.split()
)
"""Operators annotated as views that never copy."""

CONDITIONAL_VIEWS: Mapping[str, Condition] = {
    "to": same_kind,
    "_autocast_to_full_precision": same_kind,
    "_autocast_to_reduced_precision": same_kind,
    "contiguous": contiguous,
    "ravel": contiguous,
    "reshape": if_strides_allow,
    "reshape_as": if_strides_allow,
    "flatten": if_strides_allow,
    "resolve_conj": not_conjugated,
}
"""Operators annotated as views that copy where they must."""

UNANNOTATED: Mapping[str, Condition] = {
    **dict.fromkeys(
        "_unsafe_view unsafe_split unsafe_split_with_sizes unsafe_chunk atleast_1d atleast_2d "
        "atleast_3d broadcast_tensors meshgrid lift data _saturate_weight_to_fp16".split(),
        always,
    ),
    **dict.fromkeys(
        "dropout alpha_dropout feature_dropout feature_alpha_dropout".split(), nothing_dropped
    ),
    **dict.fromkeys(
        "type_as to_dense device_put _to_cpu _cast_Byte _cast_Char _cast_Double _cast_Float "
        "_cast_Int _cast_Long _cast_Short _cast_Half".split(),
        same_kind,
    ),
    **dict.fromkeys(
        "flatten_dense_tensors unflatten_dense_tensors _remove_batch_dim cumprod_backward "
        "to_dense_backward to_mkldnn_backward dequantize histogramdd "
        "_convolution_double_backward".split(),
        perhaps,
    ),
    **dict.fromkeys(RETURNS_IF_EMPTY, empty),
    "sum_to_size": same_shape,
    "conj_physical": real,
    "cartesian_prod": alone,
    "einsum": alone,
}
"""Operators that return an argument or a view of one, though their schema says nothing."""


def is_contiguous(tensor: TensorType, memory_format: object = None) -> bool | None:
    """Whether the elements lie one after another in this order of dimensions."""
    if None in tensor.shape or None in tensor.stride:
        return None
    order: Sequence[int] = range(len(tensor.shape))[::-1]
    if memory_format in (torch.channels_last, torch.channels_last_3d):
        if len(tensor.shape) != (4 if memory_format is torch.channels_last else 5):
            return None
        order = (1, *order[:-2], 0)
    elif memory_format not in (None, 0, torch.contiguous_format):
        return None
    elif 0 in tensor.shape:
        return True
    expected = 1
    for dimension in order:
        length = tensor.shape[dimension] or 0
        if length != 1:
            if tensor.stride[dimension] != expected:
                return False
            expected *= length
    return True


def can_view(tensor: TensorType, shape: Sequence[int | None]) -> bool | None:
    """Whether strides exist that show the tensor's elements in this shape.

    Neighbouring dimensions that run through memory in one go form a run, and each run must
    be cut into dimensions of the new shape by itself.
    """
    if None in tensor.shape or None in tensor.stride or None in shape:
        return None
    if 0 in tensor.shape:
        return True
    wanted = [length for length in shape if length != 1]
    for run in _runs(tensor):
        taken = 1
        while taken < run and wanted:
            taken *= wanted.pop() or 0
        if taken != run:
            return False
    return True


def _runs(tensor: TensorType) -> Sequence[int]:
    """Lengths of the runs through memory, the innermost first."""
    runs: list[int] = []
    expected: int | None = None
    for length, step in zip(tensor.shape[::-1], tensor.stride[::-1], strict=True):
        if length is None or step is None or length == 1:
            continue
        if step == expected:
            runs[-1] *= length
        else:
            runs.append(length)
        expected = step * length
    return runs


def fresh_bytes(found: TensorType | None) -> int | None:
    """Bytes of a fresh storage for a tensor of this type; sparse ones have several."""
    if found is None or len(found.stride) != len(found.shape):
        return None
    return extent(found, itemsize(found.dtype))


@cache
def itemsize(dtype: str) -> int:
    """Bytes of one element."""
    found: torch.dtype = getattr(torch, dtype)
    return found.itemsize


def extent(tensor: TensorType | None, itemsize: int) -> int | None:
    """Bytes of a storage that ends where the tensor ends.

    A gap between rows is taken to be after the last one too, because tensors with gaps are
    parts of larger ones.
    """
    if tensor is None or tensor.offset is None:
        return None
    if None in tensor.shape or None in tensor.stride:
        return None
    last, widest = 1, 1
    for length, step in zip(tensor.shape, tensor.stride, strict=True):
        assert length is not None
        assert step is not None
        if length == 0:
            return 0
        last += (length - 1) * step
        widest = max(widest, length * step if length > 1 else 1)
    return (tensor.offset + max(last, widest)) * itemsize


def repeats(tensor: TensorType) -> bool:
    """Whether some dimension shows the same elements again and again, as `expand` makes them."""
    return any(step == 0 and n != 1 for n, step in zip(tensor.shape, tensor.stride, strict=True))


def covers(tensor: TensorType | None, nbytes: int | None, itemsize: int) -> bool:
    """Whether every byte of a storage of this size belongs to the tensor."""
    if tensor is None or nbytes is None or tensor.offset != 0 or None in tensor.shape:
        return False
    elements = prod(length or 0 for length in tensor.shape)
    if elements * itemsize != nbytes or extent(tensor, itemsize) != nbytes:
        return False
    return len(_sorted_runs(tensor)) <= 1


def _sorted_runs(tensor: TensorType) -> Sequence[int]:
    """The runs, with the dimensions taken in the order of memory."""
    pairs = [
        (step, length)
        for step, length in zip(tensor.stride, tensor.shape, strict=True)
        if step is not None and length is not None
    ]
    pairs.sort(reverse=True)
    ordered = TensorType(
        tuple(length for _, length in pairs), tuple(step for step, _ in pairs), 0, "", ""
    )
    return _runs(ordered)
