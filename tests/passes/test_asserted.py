"""What a program asserts of sizes that the data decides, and what follows from it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, fx, nn, optim

import passes
from passes import Program
from passes.program import Fresh, Origin
from tests.conformance.judge import judge
from tests.oracle.run import observe, placeholders_of

X, COUNT = torch.rand(4, 16, 16), torch.tensor([3, 8])
ATEN = torch.ops.aten


class Sized(nn.Module):
    """Calls a function with a number that the data decides: from 2 to 16."""

    def __init__(self, function: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.scale = nn.Parameter(torch.ones(16))

    def forward(self, x: Tensor, count: Tensor) -> Tensor:
        number: Any = count.max().item()
        torch._check(number >= 2)  # type: ignore[no-untyped-call]  # torch's own
        torch._check(number <= 16)  # type: ignore[no-untyped-call]  # torch's own
        return self.function(x * self.scale, number)


def _resized(mode: str, antialias: bool = False) -> Callable[[Tensor, int], Tensor]:
    def resized(x: Tensor, n: int) -> Tensor:
        return F.interpolate(x[None], size=(n, n), mode=mode, antialias=antialias)

    return resized


SIZED: dict[str, Callable[[Tensor, int], Tensor]] = {
    "a part": lambda x, n: x[:, :n] * 2,
    "the last part": lambda x, n: x[:, -n:] * 2,
    "new": lambda x, n: x.sum() + torch.zeros(n, 3),
    "numbers": lambda x, n: x.sum() * torch.arange(n),
    "padded": lambda x, n: F.pad(x, (0, n)),
    "padded and cut": lambda x, n: F.pad(x[:, :n], (1, n - 2)),
    "mirrored": lambda x, n: F.pad(x, (n - 2, 0), mode="reflect"),
    "rows": lambda x, n: x[:, :n].cumsum(1),
    "normalised": lambda x, n: F.layer_norm(x[:, :n], (16,)),
    "normalised over the batch": lambda x, n: F.batch_norm(x[:, :, :n], None, None, training=True),
    "gated": lambda x, n: F.glu(x[:, :n]),
    "attention": lambda x, n: F.scaled_dot_product_attention(x[:, :n], x[:, :n], x[:, :n]),
    "a masked triangle": lambda x, n: x.sum() * torch.ones(n, n).tril(),
    "scaled": lambda x, n: F.interpolate(x[None, :, :n], scale_factor=2.0, mode="bilinear"),
    "an image of one channel": lambda x, n: x[:, None, :n] * x[:, None, :n],
    "as nearest": _resized("nearest"),
    "as nearest exactly": _resized("nearest-exact"),
    "bilinear": _resized("bilinear"),
    "bilinear and smooth": _resized("bilinear", antialias=True),
    "bicubic": _resized("bicubic"),
    "bicubic and smooth": _resized("bicubic", antialias=True),
    "averaged": _resized("area"),
    "linear": lambda x, n: F.interpolate(x, size=n, mode="linear"),
}


@pytest.mark.parametrize("name", SIZED)
def test_what_has_a_size_of_the_data_is_observed_and_bounded(name: str) -> None:
    with torch.no_grad():
        exported = torch.export.export(Sized(SIZED[name]), (X, COUNT))
    program = passes.load(exported, X, COUNT)
    memory = passes.memory(program)
    assert not program.assumed
    assert not memory.unsized
    for number in (3, 16):
        values = placeholders_of(exported, (X, torch.tensor([number])), {})
        run = observe(exported.graph_module, values)
        verdict = judge(program, run)
        assert not [*verdict.missed, *verdict.false, *verdict.short]
        over = [memory.at(program.op(op)) - nbytes for op, nbytes in run.alive.items()]
        assert min(over) >= 0
        assert number < 16 or not any(over)  # 16 is what is asserted to be the most


@pytest.mark.parametrize("name", SIZED)
def test_it_can_be_trained(name: str) -> None:
    program = passes.load_training_step(
        Sized(SIZED[name]), lambda out: out.square().sum(), optim.SGD, X, COUNT, targets=()
    )
    assert not program.assumed


def test_layouts_that_the_data_decides_are_unknown() -> None:
    """A product of images of one channel has its channels last or not, as their strides say."""

    def product(x: Tensor, n: int) -> Tensor:
        image = (x[:, 1:n] + 1)[:, None].transpose(2, 3)
        return (image * image).contiguous()

    with torch.no_grad():
        program = passes.load(torch.export.export(Sized(product), (X, COUNT)), X, COUNT)
    (made,) = program.op("mul_1").results
    assert program.op("mul_1").effects.origin is Origin.OBSERVED
    assert made.type is not None
    assert set(made.type.stride) == {None}


def test_a_part_written_into_a_tensor_of_unknown_strides_has_its_bytes() -> None:
    root = nn.Module()
    root.rows = fx.symbolic_trace(_Function(lambda x: (x.clone(),)))
    root.columns = fx.symbolic_trace(_Function(lambda x: (x.t().clone(),)))
    graph = fx.Graph()
    x = graph.placeholder("x")
    positive = graph.call_function(ATEN.gt.Scalar, (graph.call_function(ATEN.sum, (x,)), 0))
    branches = graph.get_attr("rows"), graph.get_attr("columns")
    both = graph.call_function(torch.ops.higher_order.cond, (positive, *branches, (x,)))
    either = graph.call_function(operator.getitem, (both, 0))
    row = graph.call_function(ATEN.select.int, (either, 0, 1))
    made = graph.call_function(ATEN.slice_scatter.default, (row, row, 0, 0, 4), name="made")
    graph.output(made)
    program = passes.load(fx.GraphModule(root, graph), torch.rand(4, 4))
    assert not program.assumed
    assert program.op("made").effects.results == (Fresh(64),)


def test_a_kernel_that_cannot_have_such_a_size_is_declared() -> None:
    """Whether what is padded is only made smaller, and keeps its strides, the data decides."""
    with torch.no_grad():
        padded = Sized(lambda x, n: F.pad(x.transpose(1, 2), (n - 8, 0)))
        program = passes.load(torch.export.export(padded, (X, COUNT)), X, COUNT)
    assert [op.target for op in program.assumed] == ["aten.pad.default"]


class _Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


# What a branch asserts of a number from outside it.
ASSERTIONS: dict[str, Callable[[fx.Graph, fx.Node], object]] = {
    "a comparison": lambda graph, number: graph.call_function(
        ATEN._assert_scalar.default, (graph.call_function(operator.le, (number, 4)), "")
    ),
    "a range": lambda graph, number: graph.call_function(
        ATEN.sym_constrain_range.default, (number,), {"min": 0, "max": 4}
    ),
    "a range of sizes": lambda graph, number: graph.call_function(
        ATEN.sym_constrain_range_for_size.default, (number,), {"min": 0, "max": 4}
    ),
}


def _branch(asserts: Callable[[fx.Graph, fx.Node], object] | None) -> fx.GraphModule:
    graph = fx.Graph()
    x, number = graph.placeholder("x"), graph.placeholder("number")
    if asserts is not None:
        asserts(graph, number)
    made = graph.call_function(ATEN.sum.default, (graph.call_function(ATEN.zeros, ([number],)),))
    graph.output((graph.call_function(ATEN.add.Tensor, (x, made)),))
    return fx.GraphModule({}, graph)


def _branching(asserts: Callable[[fx.Graph, fx.Node], object], outside: bool) -> Program:
    root = nn.Module()
    root.asserting, root.other = _branch(None if outside else asserts), _branch(None)
    graph = fx.Graph()
    x, count = graph.placeholder("x"), graph.placeholder("count")
    number = graph.call_function(ATEN.item.default, (count,))
    if outside:
        asserts(graph, number)
    positive = graph.call_function(ATEN.gt.Scalar, (graph.call_function(ATEN.sum, (x,)), 0))
    branches = graph.get_attr("asserting"), graph.get_attr("other")
    both = graph.call_function(torch.ops.higher_order.cond, (positive, *branches, (x, number)))
    made = graph.call_function(ATEN.zeros.default, ([number],))
    graph.output((graph.call_function(operator.getitem, (both, 0)), made))
    return passes.load(fx.GraphModule(root, graph), torch.rand(4), torch.tensor(9))


@pytest.mark.parametrize("name", ASSERTIONS)
def test_what_a_branch_asserts_says_nothing_outside(name: str) -> None:
    memory = passes.memory(_branching(ASSERTIONS[name], outside=False))
    assert len([s for s in memory.unsized if "zeros" in s.name]) == 3
    assert not memory.bounded


def test_what_is_asserted_outside_holds_in_branches() -> None:
    memory = passes.memory(_branching(ASSERTIONS["a range of sizes"], outside=True))
    assert not memory.unsized
    assert {storage.most for storage in memory.bounded} == {16}
