"""What a loss is called with, and the number that it gives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from passes.errors import CaptureError

Loss = Callable[..., object] | None


def check_targets(targets: object) -> None:
    """Raise `CaptureError` for targets that are not a tuple or list of what the loss takes."""
    if not isinstance(targets, (tuple, list)):
        raise CaptureError(
            "targets should be a tuple or list of what the loss takes besides the model's output, "
            f"and are a {type(targets).__name__}: for a single one, targets=(y,)"
        )


def split_off_targets(
    loss: Loss, inputs: Sequence[object]
) -> tuple[Sequence[object], Sequence[object]]:
    """Inputs of the model, and targets: as many of the last as the loss needs after the
    model's output.

    Raises `CaptureError` for a loss that does not tell, or that takes more than there are.
    """
    if loss is None:
        return inputs, ()
    advice = "say which inputs the loss takes besides the model's output: targets=(y,)"
    try:
        signature = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss)
    except (TypeError, ValueError) as error:
        raise CaptureError(f"the loss does not tell its parameters; {advice}") from error
    wanted = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = signature.parameters.values()
    count = sum(p.kind in wanted and p.default is inspect.Parameter.empty for p in parameters) - 1
    if count < 0 and not any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        raise CaptureError("the loss should take the model's output")
    if count > len(inputs):
        raise CaptureError(
            f"the loss takes {count} inputs besides the model's output, and {len(inputs)} were "
            f"given; {advice}"
        )
    place = len(inputs) - max(count, 0)
    return inputs[:place], inputs[place:]


def minimised(loss: Loss, outputs: object, targets: Sequence[object]) -> tuple[torch.Tensor, str]:
    """The number to minimise, and what it is.

    Raises `CaptureError` for what is no number, or depends on nothing that is trained.
    """
    found: object
    if loss is not None:
        found, whose = loss(outputs, *targets), "the loss"
    elif isinstance(outputs, Mapping):
        found, whose = outputs.get("loss"), "the model's output 'loss'"
    elif hasattr(outputs, "loss"):
        found, whose = outputs.loss, "the model's output .loss"
    else:
        found, whose = outputs, "the model's output"
    if not isinstance(found, torch.Tensor) or found.numel() != 1:
        shown = f"of shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else found
        raise CaptureError(
            f"{whose} should be a tensor with one element, and is {shown!s:.60}. Give a loss: a "
            "function of the model's output and the targets"
        )
    if not found.requires_grad:
        raise CaptureError(f"{whose} does not depend on a parameter that requires a gradient")
    return found, whose
