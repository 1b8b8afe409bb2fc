"""Operators that call another operator, or nothing: what stands for their run on fakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._C import DispatchKey
from torch._ops import HigherOrderOperator

from passes.frontends.effects.observe import Observer
from passes.frontends.fakes.world import tensors_in

Kernel = Callable[..., object]

_EAGER = frozenset(
    "auto_functionalized auto_functionalized_v2 with_effects out_dtype flat_apply "
    "associative_scan".split()
)
"""Operators whose eager implementation can be run and watched."""


def kernel_of(operator: HigherOrderOperator) -> Kernel | None:
    """What to run on fakes for an operator without sub-graphs that run now; None if nothing is
    known of it."""
    if operator.__name__ in _EAGER:
        found: Kernel = operator.py_kernels.get(DispatchKey.CompositeExplicitAutograd, operator)
        return found
    return _KERNELS.get(operator.__name__)


# Any: an operator that takes and returns anything.
def _saving_state(operator: Callable[..., Any], *args: Any, **kwargs: Any) -> object:
    on_cpu = all(t.device.type == "cpu" for t in tensors_in([*args, *kwargs.values()]))
    count = torch.get_rng_state().numel() if on_cpu else _BYTES_OF_A_DEVICE
    return torch.zeros(count, dtype=torch.uint8, device="cpu"), operator(*args, **kwargs)


def _with_state(_: Any, operator: Callable[..., Any], *args: Any, **kwargs: Any) -> object:
    return operator(*args, **kwargs)


def _with_state_of_a_graph(operator: Callable[..., Any], *args: Any, **kwargs: Any) -> object:
    kwargs.pop("rng_state", None)
    return operator(*args, **kwargs)


def _hooked(tensor: Any, *_: object) -> object:
    """The hook runs in the backward pass only."""
    return tensor


_BYTES_OF_A_DEVICE = 16
"""Of the state of random numbers on a GPU, a seed and an offset."""

_KERNELS: dict[str, Kernel] = {
    "run_and_save_rng_state": _saving_state,
    "run_with_rng_state": _with_state,
    "graphsafe_run_with_rng_state": _with_state_of_a_graph,
    "register_hook": _hooked,
}

PRINT = torch.ops.higher_order.print
"""Reads its arguments and returns nothing.  `with_effects` calls it too."""

PRINT.py_impl(Observer)(lambda _, *args, **kwargs: None)
