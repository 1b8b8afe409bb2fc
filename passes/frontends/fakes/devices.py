"""Devices of models and inputs: what stands for the meta device, on which there is no data, and
what can be done for a device that this machine has not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorDeviceMismatchError
from torch.utils._pytree import tree_leaves

from passes.errors import CaptureError
from passes.frontends.walk.nodes import recorded_of


def is_recorded_on_meta(node: fx.Node) -> bool:
    """Whether a graph was captured with this input on the meta device; it then may make tensors
    there itself."""
    recorded = recorded_of(node)
    return isinstance(recorded, torch.Tensor) and recorded.is_meta


def device_for(inputs: Sequence[object], state: object) -> torch.device | None:
    """Where to put meta inputs: with the model's parameters, or on the CPU."""
    leaves = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, torch.Tensor)]
    if not any(leaf.is_meta for leaf in leaves):
        return None
    tensors = [t for t in state if isinstance(t, torch.Tensor)]  # type: ignore[attr-defined]  # iterable
    return tensors[0].device if tensors else torch.device("cpu")


def without_gradients(tensors: Iterable[object]) -> torch.Tensor | None:
    """The first fake tensor that wants a gradient and is on a device that this machine has not.

    torch's autograd asks the device for its stream, and ends the process where there is none.
    """
    for tensor in tensors:
        if isinstance(tensor, FakeTensor) and tensor.requires_grad and _is_absent(tensor.device):
            return tensor
    return None


def check_gradients(tensors: Iterable[object]) -> None:
    """Raise `CaptureError` where there is such a tensor."""
    absent = without_gradients(tensors)
    if absent is not None:
        raise CaptureError(
            f"the step wants gradients of fake tensors on {absent.device}, which this machine has "
            "not, and torch cannot record them: put the model and its inputs on the meta device"
        )


def _is_absent(device: torch.device) -> bool:
    if device.type in ("cpu", "meta"):
        return False
    try:
        return not torch.get_device_module(device).is_available()
    except (RuntimeError, AttributeError):
        return True


def advice_for(error: BaseException, otherwise: str) -> str:
    """The line that says what to do about an error, if devices are the cause of it."""
    if isinstance(error, FakeTensorDeviceMismatchError):
        return (
            "  Put the model, its inputs and what it makes (device=x.device) on one device; on the "
            "meta device all of them, if they should have no data"
        )
    if any(told in str(error) for told in _ABSENT):
        return (
            "  This machine has no such device, and what is moved there cannot be followed. Ask "
            "of the model on one device, moving tensors to where others are (x.to(other.device)), "
            "or ask where the device is"
        )
    return f"  {otherwise}"


_ABSENT = ("not linked with support for", "not compiled with", "Found no NVIDIA driver")
