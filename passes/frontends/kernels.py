"""Fake kernels where torch's refuse what the real ones do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode


class FakeMode(FakeTensorMode):  # type: ignore[no-untyped-call]  # torch's own
    """A fake mode with the kernels below."""

    # Any: the signature is torch's.
    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kernel = KERNELS.get(func)
        if kernel is not None:
            with self:
                result = kernel(*args, **(kwargs or {}))
            if result is not None:
                return result
        return super().dispatch(func, types, args, kwargs)


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


KERNELS: Mapping[OpOverload, Callable[..., Tensor | None]] = {
    torch.ops.aten._grouped_mm.default: _grouped_mm,
}
"""None from a kernel: torch's will do."""
