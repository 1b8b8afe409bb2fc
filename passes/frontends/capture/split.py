"""Bias splitting: affine ops as what they consist of, the product and the sum.

`SPLITS` says how for each functional form.  `nn.Linear` and the convolutions need no rules
of their own: a tracer that splits opens them, and traces their `forward`.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any  # Any: arguments of any op at all

import torch
from torch import fx, nn
from torch.nn.functional import linear

if TYPE_CHECKING:
    from passes.frontends.capture.tracer import Tracer

_FORWARDS = {nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward}
_FORWARDS |= {m.forward for m in (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)}


def is_plain_affine(m: nn.Module) -> bool:
    """Whether a call of `m` is torch's `forward` of an affine module and nothing else."""
    hooks = (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks)
    changed = any(hooks) or "forward" in vars(m) or not {"weight", "bias"} <= m._parameters.keys()
    return type(m).forward in _FORWARDS and not changed


def accepts(rule: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether the rule covers such arguments; none covers writing to a given tensor."""
    try:
        bound = inspect.signature(rule).bind(*args, **kwargs)
    except TypeError:
        return False
    return "out" not in kwargs and bound.arguments.get("bias", ...) is not None


def _split_bias(
    op: Any,
    dims: int,
    tracer: Tracer,
    input: Any,
    weight: Any,
    bias: Any,
    *rest: Any,
    **options: Any,
) -> Any:
    """The op without bias, plus the bias, which goes along the axis before the last `dims`."""
    args = (input, weight, None, *rest) if rest else (input, weight)
    result = tracer.call(op, *args, **options)
    shaped = (
        tracer.create_proxy("call_method", "view", (bias, -1, *[1] * dims), {}) if dims else bias
    )
    return result + shaped


def _split_addmm(
    tracer: Tracer, input: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1
) -> Any:
    return _weighted_sum(tracer, input, beta, tracer.call(torch.mm, mat1, mat2), alpha)


def _split_addbmm(
    tracer: Tracer, input: Any, batch1: Any, batch2: Any, *, beta: Any = 1, alpha: Any = 1
) -> Any:
    return _weighted_sum(tracer, input, beta, tracer.call(torch.bmm, batch1, batch2).sum(0), alpha)


def _weighted_sum(tracer: Tracer, input: Any, beta: Any, product: Any, alpha: Any) -> Any:
    if isinstance(alpha, fx.Proxy) or alpha != 1:
        product = tracer.call(operator.mul, product, alpha)
    if not isinstance(beta, fx.Proxy) and beta == 0:
        return product  # torch ignores the input then, infinities and all
    if isinstance(beta, fx.Proxy) or beta != 1:
        input = tracer.call(operator.mul, input, beta)
    return tracer.call(operator.add, input, product)


_BIASED = {linear: 0, torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}
_BIASED |= {torch.conv_transpose1d: 1, torch.conv_transpose2d: 2, torch.conv_transpose3d: 3}
SPLITS: dict[tuple[str, object], Callable[..., Any]] = {
    ("call_function", torch.addmm): _split_addmm,
    ("call_method", "addmm"): _split_addmm,
    ("call_function", torch.addbmm): _split_addbmm,
    ("call_method", "addbmm"): _split_addbmm,
    **{("call_function", op): partial(_split_bias, op, dims) for op, dims in _BIASED.items()},
}
