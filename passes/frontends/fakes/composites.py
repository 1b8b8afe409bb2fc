"""Composite operators that call others on fake tensors than they do on real ones.

Some kernels in C++ ask for one size of a tensor and are told all of them.  A tensor with one
symbolic size has only such numbers to tell as make a number of the symbol.  torch has the same
kernels in Python too, where a size is asked for alone; but it uses them together with
decompositions that do other things to memory.

`one_hot` asks whether a tensor is fake, and then compares where it else writes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey
from torch.fx.experimental.symbolic_shapes import guard_or_false

ASKING = (torch.ops.aten.unsafe_chunk.default,)
"""As recurrent layers call it, on their gates."""


@contextmanager
def sizes_asked_alone() -> Iterator[None]:
    """Has these operators' kernels in Python called, in all threads, from C++ too."""
    key = DispatchKey.CompositeImplicitAutograd
    library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]  # torch's
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a kernel is replaced
            for operator in ASKING:
                library.impl(operator._schema.name, operator.py_kernels[key], key.name)
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
