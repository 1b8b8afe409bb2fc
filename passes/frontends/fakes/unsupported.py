"""Tensors that analysis cannot follow, and what to give instead.

What is analysed has one storage, and operators do to it what their schemas say.  A subclass may do
anything; nested, quantized and oneDNN's tensors keep their elements where no fake shows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import is_lazy

from passes.errors import CaptureError


def check_tensors(named: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Raise `CaptureError` for the first of these tensors that cannot be followed, by name."""
    for name, tensor in named:
        reason = why_unsupported(tensor)
        if reason is not None:
            raise CaptureError(f"{name} is {reason}")


def check_hooks(prefix: str, root: nn.Module) -> None:
    """Raise `CaptureError` for the first parameter of a module with hooks that know it."""
    for name, parameter in root.named_parameters():
        if parameter._post_accumulate_grad_hooks:
            raise CaptureError(
                f"parameter {prefix}{name} has hooks for when its gradient is there, which "
                "know the real tensor, and a step is captured on copies. Remove them, and do "
                "their work in a hook of the optimizer (register_step_pre_hook)"
            )


def why_unsupported(tensor: torch.Tensor) -> str | None:
    """What a tensor is and what to give instead, if it cannot be followed."""
    if is_lazy(tensor):
        return "lazy and has no shape yet: call the model once, then load it"
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return "inside a transform such as vmap: load the program outside of it"
    if tensor.is_nested:
        return (
            "a nested tensor, whose parts have sizes of their own: give a padded one "
            "(torch.nested.to_padded_tensor), or its values and offsets as two tensors"
        )
    if not is_plain(type(tensor)):
        return (
            f"a {type(tensor).__qualname__}, a subclass of torch.Tensor, which may do anything "
            "with the tensors it stands for: give those, or the plain tensor "
            "(as_subclass(torch.Tensor)) where it is one with a name of its own"
        )
    if torch._is_functional_tensor(tensor):
        return "a functional tensor: give the one inside (torch._from_functional_tensor)"
    if tensor.is_quantized:
        return (
            "quantized, and fake tensors cannot be: give it dequantized (dequantize), or load the "
            "model as it was before"
        )
    if tensor.is_mkldnn:
        return "in oneDNN's layout, which only its kernels know: give it dense (to_dense)"
    return None


@cache
def is_plain(kind: type[torch.Tensor]) -> bool:
    """Whether a class of tensors leaves to torch what operators do to them."""
    if kind in (torch.Tensor, nn.Parameter, FakeTensor):
        return True
    own = [vars(base) for base in kind.__mro__[: kind.__mro__.index(torch.Tensor)]]
    return issubclass(kind, nn.Parameter) and not any("__torch_dispatch__" in one for one in own)


def memory_of(tensor: torch.Tensor) -> Sequence[torch.UntypedStorage]:
    """The storages that hold a real tensor's elements; a sparse tensor has several."""
    return [part.untyped_storage() for part in _parts(tensor)]


def _parts(tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    if tensor.layout is torch.strided:
        return [tensor]
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return []
