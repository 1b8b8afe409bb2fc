"""Optimizers, on fake tensors what they are on real ones."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.optim import Optimizer, _adafactor
from torch.optim import optimizer as optimizers
from torch.utils import _foreach_utils

from passes.errors import CaptureError


@contextmanager
def as_for_real_tensors() -> Iterator[None]:
    """Optimizers, and what clips gradients, choose as for real tensors; of two numbers that the
    data decides, Adafactor takes the larger without looking."""
    for known in _KNOWN_TO_FOREACH:
        known.append(FakeTensor)
    vars(_adafactor)["max"] = torch.sym_max
    try:
        yield
    finally:
        del vars(_adafactor)["max"]
        for known in _KNOWN_TO_FOREACH:
            known.remove(FakeTensor)


# Any: lists of types that are typed in two ways.
_KNOWN_TO_FOREACH: tuple[Any, ...] = (
    optimizers._foreach_supported_types,
    _foreach_utils._foreach_supported_types,
)


def check_update(optimizer: Optimizer) -> None:
    """Raise `CaptureError` for an optimizer whose update needs more than gradients, as LBFGS's."""
    parameters = inspect.signature(optimizer.step).parameters.values()
    needed = [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    if needed:
        name = type(optimizer).__name__
        raise CaptureError(
            f"{name}.step needs {' and '.join(needed)}: it evaluates the model as often as data "
            "decides, so one step is no fixed program. Give optimizer=None for one evaluation; "
            f"what {name} keeps from step to step comes on top"
        )
