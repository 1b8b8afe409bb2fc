"""ExecuTorch's greedy planner, called as its memory planning pass calls it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from executorch.exir import memory_planning
from executorch.exir.tensor import TensorSpec
from torch import fx

ALIGNMENT = 64


def greedy(given: Sequence[tuple[int, int, int]]) -> int:
    """Bytes that it needs for buffers `(start, end, size)`, the end not included."""
    specs: list[Any] = []  # Any: it has no types
    for start, end, size in given:
        spec = TensorSpec(torch.uint8, torch.Size((size,)))
        spec.lifetime = [start, end - 1]
        specs.append(spec)
    module = fx.GraphModule(torch.nn.Module(), fx.Graph())
    found = memory_planning.greedy(ALIGNMENT, specs, module, None)
    return sum(found.bufsizes)
