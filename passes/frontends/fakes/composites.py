"""Composite operators that call others on fake tensors than they do on real ones.

Some kernels in C++ ask for one size of a tensor and are told all of them, or take numbers alone.
A tensor with one symbolic size has only such numbers to tell as make a number of the symbol.  The
same kernels in Python ask for a size alone.  torch has some, but uses them together with
decompositions that do other things to memory; those of upsampling are such decompositions.

`one_hot` asks whether a tensor is fake, and then compares where it else writes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey
from torch._ops import OpOverload
from torch.fx.experimental.symbolic_shapes import guard_or_false

_COMPOSITE = DispatchKey.CompositeImplicitAutograd


def _upsampling(default: OpOverload) -> Callable[..., Tensor]:
    """What an operator's overload `vec` does with its overload for sizes alone."""

    def upsampled(tensor: Tensor, size: Sequence[int] | None, *rest: Any) -> Tensor:
        *corners, scales = rest
        if size is None:
            size = [_scaled(n, scale) for n, scale in zip(tensor.shape[2:], scales, strict=True)]
        found: Tensor = default(tensor, size, *corners, *(scales or [None] * len(size)))
        return found

    return upsampled


def _scaled(size: int, scale: float) -> int:
    """The whole part of a product, a symbol's where it is exact."""
    over, under = scale.as_integer_ratio()
    return size * over // under if under < _EXACT else int(int(size) * scale)


_EXACT = 2**16


UPSAMPLING = (
    "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d "
    "_upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d "
    "upsample_trilinear3d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa "
    "_upsample_lanczos2d_aa"
).split()

ASKING: Mapping[OpOverload, Callable[..., object]] = {
    # As recurrent layers call it, on their gates.
    torch.ops.aten.unsafe_chunk.default: torch.ops.aten.unsafe_chunk.default.py_kernels[_COMPOSITE],
    **{
        packet.vec: _upsampling(packet.default)
        for packet in (getattr(torch.ops.aten, name) for name in UPSAMPLING)
    },
}
"""The operators, and their kernels in Python."""


@contextmanager
def sizes_asked_alone() -> Iterator[None]:
    """Has these operators' kernels in Python called, in all threads, from C++ too."""
    library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]  # torch's
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a kernel is replaced
            for operator, kernel in ASKING.items():
                library.impl(operator, kernel, _COMPOSITE.name)
        yield
    finally:
        library._destroy()


def _one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor | None:
    """As on real tensors; None where the data decides the size, nothing is there to write, or
    what is given is refused."""
    if tensor.dtype is not torch.int64 or guard_or_false(num_classes < 1):
        return None
    if guard_or_false(tensor.numel() == 0):
        return None
    if tensor.device.type == "cpu":
        torch.aminmax(tensor)  # whether all are below `num_classes`
    made = torch.zeros((*tensor.shape, num_classes), dtype=tensor.dtype, device=tensor.device)
    return made.scatter_(-1, tensor.unsqueeze(-1), 1)


AS_ON_REAL: Mapping[object, Callable[..., Tensor | None]] = {torch._C._nn.one_hot: _one_hot}
"""By torch's function: what does on fakes what that does on real tensors; None: that itself."""
