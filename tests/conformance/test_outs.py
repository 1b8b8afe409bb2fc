"""What operators make of an `out=` of any shape and layout, against their runs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._pytree import tree_map

import passes
from passes.program import ANYTHING, TensorType

SOME = """
    add arange linspace logspace matmul cat sort geqrf qr linalg.qr linalg.eigh cholesky normal
    histogram fft.fft triangular_solve _native_batch_norm_legit cumsum max
""".split()


NOT_KNOWN = {"linalg.lstsq", "nonzero"}
"""Operators that may do anything when they are given an `out=`: the first has no fake kernel, the
second is called with `as_tuple`, which its schema does not have."""


def given(like: Tensor) -> Iterator[Tensor]:
    """Tensors that may be given for a result like this one."""
    empty = torch.empty(like.shape, dtype=like.dtype)
    yield empty.flatten() if like.dim() != 1 else empty[None]
    if like.dim() > 1:
        backwards = tuple(range(like.dim()))[::-1]
        yield torch.empty(like.shape[::-1], dtype=like.dtype).permute(backwards)
    yield torch.empty(like.numel() + 3, dtype=like.dtype)
    yield torch.empty((1,) * (like.dim() + 1), dtype=like.dtype)
    yield torch.empty(0, dtype=like.dtype)


# Any: torch's OpInfo, and what its operator returns.
def wrong(op: Any) -> Iterator[str]:
    """Results of an operator that are not as claimed."""
    dtype = torch.float32 if torch.float32 in op.supported_dtypes("cpu") else torch.int64
    for sample in islice(op.sample_inputs("cpu", dtype), 3):
        inputs = (sample.input, *sample.args)
        try:
            found = op(*inputs, **sample.kwargs)
        except Exception:
            continue
        leaves = [found] if isinstance(found, Tensor) else found
        if not isinstance(leaves, (list, tuple)) or not all(isinstance(x, Tensor) for x in leaves):
            continue
        for outs in zip(*map(given, leaves), strict=False):
            out = outs[0] if isinstance(found, Tensor) else outs
            yield from _unlike(op, inputs, {**sample.kwargs, "out": out})


def _unlike(op: Any, inputs: Any, keywords: Any) -> Iterator[str]:
    graph, values = fx.Graph(), []

    def placeholder(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        values.append(leaf.detach())
        return graph.placeholder(f"x{len(values)}")

    arguments, keywords = tree_map(placeholder, (inputs, keywords))
    node = graph.call_function(op.op, arguments, keywords)
    graph.output(node)
    try:
        module = fx.GraphModule({}, graph)
        program = passes.load(module, *values)
        ran = module(*[value.clone() for value in values])
    except Exception:  # not every operator takes every `out=`
        return
    called = program.op(node.name)
    if called.effects.origin is ANYTHING:
        if op.name not in NOT_KNOWN:
            yield f"{op.name} may do anything"
        return
    returned = [ran] if isinstance(ran, Tensor) else ran or []
    for value, real in zip(called.results, returned, strict=True):
        known = value.type is not None and _fits(value.type, real)
        if not known and (value.type is not None or not _data_decides(op)):
            yield f"{op.name}: {value.type} for {tuple(real.shape)} {real.stride()}"


def _data_decides(op: Any) -> bool:
    """Whether the shape of the result is known only to a run, as torch says of its operators."""
    packet = getattr(torch.ops.aten, op.aten_name)
    overloads = [getattr(packet, name) for name in packet.overloads()]
    return any(torch.Tag.dynamic_output_shape in overload.tags for overload in overloads)


def _fits(claim: TensorType, real: Tensor) -> bool:
    steps = zip(real.shape, claim.stride, real.stride(), strict=False)
    same = real.numel() == 0 or all(n == 1 or a is None or a == b for n, a, b in steps)
    return claim.shape == tuple(real.shape) and same


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(op.name, marks=() if op.name in SOME else pytest.mark.slow)
        for op in {op.name: op for op in op_db if op.supports_out}.values()
    ],
)
def test_what_is_given_as_out_is_as_the_run_leaves_it(name: str) -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        for op in op_db:
            if op.name == name and op.supports_out:
                assert not list(wrong(op))
