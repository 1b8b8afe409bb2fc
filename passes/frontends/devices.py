"""Which device stands for the meta device, on which models and inputs have no data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx
from torch.utils._pytree import tree_leaves

from passes.frontends.nodes import recorded_of


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
