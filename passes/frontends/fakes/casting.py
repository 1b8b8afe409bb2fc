"""A model in another dtype, cast on fakes as `model.to(dtype)` casts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from passes.errors import CaptureError
from passes.frontends.fakes.reach import tensors_inside
from passes.frontends.fakes.world import World


def dtype_named(dtype: object) -> torch.dtype:
    """A floating dtype, by itself or by its name, such as `"bfloat16"`."""
    found = dtype
    if isinstance(dtype, str):
        found = getattr(torch, dtype.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise CaptureError(
            f"dtype={dtype!r}: give a floating dtype or its name, such as 'bfloat16', 'float16' "
            "or 'float32'"
        )
    return found


class CastWorld(World):
    """A fake world in which the tensors to cast, and floating inputs, have another dtype.

    `device` is as for `World`.
    """

    def __init__(
        self, device: torch.device, dtype: torch.dtype, cast: Iterable[torch.Tensor]
    ) -> None:
        super().__init__(device)
        self.dtype = dtype
        self._cast = {id(tensor) for tensor in cast}

    def tensor(self, real: torch.Tensor) -> torch.Tensor:
        """The fake of a real tensor, cast."""
        fake = super().tensor(real)
        if id(real) in self._cast and fake.dtype != self.dtype and not _is_whole(fake):
            with self.mode:
                made = fake.detach().to(self.dtype).requires_grad_(fake.requires_grad)
                fake = nn.Parameter(made, made.requires_grad) if _is_parameter(real) else made
            self._memo[id(real)] = fake
        return fake

    def inputs(self, given: Any) -> Any:
        """Fakes of inputs, the floating ones cast."""
        leaves = [tensor for _, tensor in tensors_inside("", given)]
        self._cast.update(id(leaf) for leaf in leaves if leaf.is_floating_point())
        return self.value(given)


def _is_whole(tensor: torch.Tensor) -> bool:
    """Whether the elements are integers or booleans, which no cast of a module changes."""
    return not (tensor.is_floating_point() or tensor.is_complex())


def _is_parameter(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, nn.Parameter)
