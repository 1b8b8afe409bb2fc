"""torch's optimizers on fake tensors: they choose and compute as on real ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.optim import _adafactor
from torch.optim import optimizer as optimizers
from torch.utils import _foreach_utils


@contextmanager
def updating() -> Iterator[None]:
    """Optimizers, and what clips gradients, take fakes for the tensors they stand for; numbers
    that they read are compared without asking which is larger, where both ways are the same."""
    for known in _KNOWN_TO_FOREACH:
        known.append(FakeTensor)
    try:
        with mock.patch.dict(vars(_adafactor), max=torch.sym_max, min=torch.sym_min):
            yield
    finally:
        for known in _KNOWN_TO_FOREACH:
            known.remove(FakeTensor)


# Any: lists of types that are typed in two ways.
_KNOWN_TO_FOREACH: tuple[Any, ...] = (
    optimizers._foreach_supported_types,
    _foreach_utils._foreach_supported_types,
)
