"""Operators that hand their sub-graphs batches, and wrappers that only some captures make."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch._higher_order_ops.associative_scan import associative_scan_op
from torch._higher_order_ops.foreach_map import foreach_map
from torch._higher_order_ops.local_map import local_map_hop
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention.flex_attention import _create_empty_block_mask

import passes
from passes import CaptureError, Program
from tests.conformance.judge import Verdict, judge
from tests.oracle.run import observe

flex_attention_op: Any = torch.ops.higher_order.flex_attention


def judged(graph: fx.GraphModule, *inputs: Tensor) -> Program:
    """The program of a graph, of which nothing is wrong, uncertain or assumed."""
    program = passes.load(graph, *inputs)
    assert not program.assumed
    assert judge(program, observe(graph, inputs)) == Verdict()
    return program


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """The gradients of an attention whose scores are changed by what it captures."""

    def score(found: Tensor, batch: Tensor, head: Tensor, q: Tensor, k: Tensor, b: Tensor) -> Any:
        return found * 2 + b[q]

    q, k, v, bias = (t.detach().requires_grad_() for t in (q, k, v, bias))
    mask = _create_empty_block_mask(q, k).as_tuple()
    found, *_ = flex_attention_op(q, k, v, score, mask, 0.5, {}, (bias,), ())
    return torch.autograd.grad(found.sum(), (q, k, v, bias))


@pytest.mark.parametrize("heads", [1, 2])
def test_the_backward_of_attention(heads: int) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(1, n, 16, 8) for n in (2, heads, heads)]
    graph = make_fx(attend)(*inputs, torch.randn(16))
    program = judged(graph, *inputs, torch.randn(16).requires_grad_())
    op = program.op("flex_attention_backward")
    assert [region.name for region in op.regions] == ["mask", "score", "joint", "mask_again"]
    _, score, joint, _ = op.regions
    assert passes.aliases(program).must_alias(score.inputs[0], joint.inputs[0])


def summed(x: Tensor, y: Tensor) -> Any:
    return associative_scan_op(lambda a, b, c, d: (a * c, b * c + d), (x, y), ())


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_an_associative_scan(count: int) -> None:
    inputs = torch.rand(count, 3), torch.rand(count, 3)
    graph = make_fx(summed)(*inputs)
    program = judged(graph, *inputs)
    aliases = passes.aliases(program)
    # Of one element it returns what it is given.
    first, last = program.entry.values[0].value, program.op("getitem").results[0]
    assert aliases.must_alias(first, last) == (count == 1)
    with pytest.raises(CaptureError, match="on batches"):
        passes.load(graph, *inputs, effects="declared")


def test_the_same_on_each_of_many() -> None:
    class Maps(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Any:
            return foreach_map(lambda a, b: a.sin() + b, [x, y], [y, x])

    inputs = torch.rand(3), torch.rand(3)
    graph = torch.export.export(Maps(), inputs, strict=True).graph_module
    program = judged(graph, *inputs)
    assert [region.name for region in program.op("foreach_map").regions] == ["body"]


def test_what_runs_on_the_local_part_of_a_tensor() -> None:
    inner = fx.symbolic_trace(lambda x: (x.view(-1).add_(1), x * 2))
    inner.meta["local_map_kwargs"] = {}
    root, graph = nn.Module(), fx.Graph()
    root.body = inner
    x = graph.placeholder("x")
    graph.output(graph.call_function(local_map_hop, (graph.get_attr("body"), x)))
    program = judged(fx.GraphModule(root, graph), torch.rand(2, 3))
    view, _ = program.op("local_map_hop").results
    assert passes.aliases(program).must_alias(program.entry.values[0].value, view)
