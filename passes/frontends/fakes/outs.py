"""What real kernels make of the shape and the strides of a tensor given as `out=`.

Some fake kernels leave an `out=` of another shape as it is, where the real one resizes it, and
others give it other strides.  A tensor that is resized gets the shape of what the operator returns
without `out=`.  Where that has other strides, either may be true.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch._ops import OpOverload

from passes.frontends.effects.schema import signature
from passes.frontends.fakes.world import known_int, tensors_in

_KEEPS_SHAPE = frozenset(("arange", "range", "linspace", "logspace"))
"""Operators that fill an `out=` of the right number of elements, whatever its shape is."""

_BROADCASTS = frozenset((torch.ops.aten.normal.Tensor_float_out,))
"""Operators that broadcast their operand with what is given as `out=`."""

_REDUCES_AGAIN = frozenset((torch.ops.aten.mean.out,))
"""Operators that reduce what they are given after they have resized the `out=`, which may be the
same tensor.  Of those with several results such a call is refused."""

_RESIZES_ANYWAY = frozenset((torch.ops.aten.linear.out,))
"""Operators that resize an `out=` for a vector, which fits, so that it is contiguous."""

_LEAVES_EMPTY = frozenset("native_batch_norm _native_batch_norm_legit".split())
"""Operators that do not touch the `out=` for a result that would be empty."""


# Any: arguments and results of an operator.
def called(
    func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Any, Sequence[torch.Tensor]]:
    """The result of an operator on fakes, and those given as `out=` whose strides are in doubt.

    What is given as `out=` has the shape and the bytes that the real kernel leaves it.
    """
    about = signature(func)
    given = [tensor for name in about.outputs for tensor in tensors_in(kwargs.get(name))]
    if not given:
        return func(*args, **kwargs), ()
    before = [(tensor.shape, tensor.stride()) for tensor in given]
    wanted = [*_returned_without(func, args, kwargs), *[None] * len(given)]
    if func in _REDUCES_AGAIN and any(tensor is args[0] for tensor in given):
        wanted = [None if one is None else _reduced(one, *args[1:], **kwargs) for one in wanted]
    result = func(*args, **kwargs)
    doubtful = []
    for tensor, (shape, stride), other in zip(given, before, wanted, strict=False):
        keeps = about.name in _KEEPS_SHAPE and tensor.numel() == shape.numel()
        if func in _BROADCASTS:
            tensor.resize_(torch.broadcast_shapes(args[0].shape, shape))  # type: ignore[no-untyped-call]  # torch's own
            other = None  # it has the operand's shape, whatever is given
        if func in _RESIZES_ANYWAY and tensor.dim() == 1:
            continue  # as fakes do
        if keeps or (tensor.shape == shape and tensor.stride() != stride):
            tensor.as_strided_(shape, stride)  # no kernel changes what fits
        elif other is not None and other.shape != shape:
            if about.name in _LEAVES_EMPTY and not other.numel():
                tensor.as_strided_(shape, stride)
                continue
            if tensor.shape != other.shape:
                tensor.resize_(other.shape)
            if not _laid_out_alike(tensor, other):
                doubtful.append(tensor)
    return result, doubtful


def _reduced(
    tensor: torch.Tensor,
    dim: int | list[int] | None = None,
    keepdim: bool = False,
    **_: object,
) -> torch.Tensor:
    return tensor.sum(tuple(range(tensor.dim())) if dim is None else dim, keepdim)


def _laid_out_alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether strides are the same where there is more than one element."""
    steps = zip(one.shape, one.stride(), other.stride(), strict=True)
    return one.numel() == 0 or all(size == 1 or a == b for size, a, b in steps)


def _returned_without(
    func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Iterator[torch.Tensor]:
    """What the operator returns if nothing is given as `out=`, where sizes are known."""
    plain = without_out(func)
    layout = [size for t in tensors_in([*args, *kwargs.values()]) for size in t.shape]
    if plain is None or any(known_int(size) is None for size in layout):
        return
    outputs = signature(func).outputs
    rest = {name: value for name, value in kwargs.items() if name not in outputs}
    try:
        yield from tensors_in(plain(*args, **rest))
    except Exception:  # what the operator with `out=` refuses too, or does otherwise
        return


@cache
def without_out(func: OpOverload) -> OpOverload | None:
    """The overload with the same arguments but for `out=`."""
    outputs = signature(func).outputs
    names = [a.name for a in func._schema.arguments if a.name not in outputs]
    for overload in func.overloadpacket.overloads():
        other: OpOverload = getattr(func.overloadpacket, overload)
        types = [str(a.type) for a in func._schema.arguments if a.name not in outputs]
        same = [a.name for a in other._schema.arguments] == names
        if same and [str(a.type) for a in other._schema.arguments] == types:
            return None if torch.Tag.dynamic_output_shape in other.tags else other
    return None
