"""Layouts that fake kernels have wrong, and what later operators do about them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, fx, nn

import passes
from passes.program import Origin
from tests.passes.programs import traced

X = torch.arange(1.0, 25.0).view(4, 6) / 7
IMAGE = torch.rand(2, 4, 3, 5)
LAST = IMAGE.contiguous(memory_format=torch.channels_last)
VOLUME = torch.rand(2, 4, 3, 5, 2).contiguous(memory_format=torch.channels_last_3d)
SEQUENCE = torch.rand(1, 20, 8)[:, 1:17]
aten = torch.ops.aten


def as_image(x: Tensor) -> Tensor:
    """A sequence as an image of a batch of one, with the sequence's features as channels."""
    return x.transpose(1, 2).view(1, 8, 4, 4)


CALLS: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "batch_norm of transposed": (lambda x: F.batch_norm(x, None, None, training=True), X.t()),
    "batch_norm of channels_last": (lambda x: F.batch_norm(x, None, None, training=True), LAST),
    "batch_norm of contiguous": (lambda x: F.batch_norm(x, None, None, training=True), IMAGE),
    "instance_norm": (lambda x: F.instance_norm(x), LAST),
    "log_sigmoid": (lambda x: F.logsigmoid(x), X.t()),
    "floor_divide": (lambda x: x // torch.tensor(2.0), X.t()),
    "true divide": (lambda x: x / torch.tensor(2.0), X.t()),
    "normal": (lambda x: torch.normal(x, x), X.t()),
    "channel_shuffle": (lambda x: torch.channel_shuffle(x, 2), LAST),
    "copysign": (lambda x: x.copysign(torch.tensor(-1.0)), X.t()),
    "angle": (lambda x: x.angle(), torch.complex(X, X).t()),
    "collapsed": (
        lambda x: torch.ops.prims.collapse_view.default(x[:, 1:2], 0, 1),
        X.view(4, 2, 3),
    ),
    "gelu": (lambda x: F.gelu(x), X.t()),
    "view of one image": (as_image, SEQUENCE),
    "interpolate one image": (lambda x: F.interpolate(as_image(x), 6, mode="bicubic"), SEQUENCE),
    "pool one image": (lambda x: F.max_pool2d(as_image(x), 2), SEQUENCE),
    "mse_loss_backward": (lambda x: aten.mse_loss_backward(x.sum(), x, x, 1), X.t()),
    "smooth_l1_loss_backward": (
        lambda x: aten.smooth_l1_loss_backward(x.sum(), x, x, 1, 1.0),
        X.t(),
    ),
    "huber_loss_backward": (lambda x: aten.huber_loss_backward(x.sum(), x, x, 1, 1.0), X.t()),
    "reflection_pad3d": (lambda x: F.pad(x, (1,) * 6, "reflect"), VOLUME),
    "replication_pad3d": (lambda x: F.pad(x, (1,) * 6, "replicate"), VOLUME),
    "replication_pad3d_backward": (
        lambda x: aten.replication_pad3d_backward(F.pad(x, (1,) * 6, "replicate"), x, (1,) * 6),
        VOLUME,
    ),
}

# Of two tensors of the same shape, each laid out in several ways.
OF_TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    **{
        name: getattr(aten, name)
        for name in "heaviside logaddexp logical_and complex polar xlogy ldexp isin add".split()
    },
    "special_xlog1py": aten.special_xlog1py.default,
    "threshold_backward": lambda x, y: aten.threshold_backward(x, y, 0),
    "leaky_relu_backward": lambda x, y: aten.leaky_relu_backward(x, y, 0.1, False),
    "rrelu_backward": lambda x, y: aten.rrelu_with_noise_backward(x, y, y, 0.1, 0.3, True, False),
    "elu_backward": lambda x, y: aten.elu_backward(x, 1, 1, 1, False, y),
    "softplus_backward": lambda x, y: aten.softplus_backward(x, y, 1, 20),
    "hardsigmoid_backward": aten.hardsigmoid_backward,
    "hardswish_backward": aten.hardswish_backward,
    "sigmoid_backward": aten.sigmoid_backward,
    "log_sigmoid_backward": lambda x, y: aten.log_sigmoid_backward(x, y, x),
    "binary_cross_entropy_backward": lambda x, y: aten.binary_cross_entropy_backward(x, y, x),
}
WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda t: t,
    "swapped": lambda t: t.transpose(1, 2).contiguous().transpose(1, 2),
    "turned": lambda t: t.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    "expanded": lambda t: t[:, :1].expand(t.shape),
}


@pytest.mark.parametrize("one", WAYS)
@pytest.mark.parametrize("other", WAYS)
@pytest.mark.parametrize("name", OF_TWO)
def test_strides_of_what_is_made_of_two_tensors(name: str, one: str, other: str) -> None:
    function, x = OF_TWO[name], torch.rand(2, 3, 4) + 0.1
    first, second = WAYS[one](x), WAYS[other](x * 0.7)
    program = traced(lambda x, y: function(x, y), first, second)  # a packet cannot be traced
    claim = program.outputs[0].type
    assert claim is not None
    assert claim.stride == function(first, second).stride()


@pytest.mark.parametrize("name", CALLS)
def test_strides_are_those_of_the_run(name: str) -> None:
    function, x = CALLS[name]
    program = traced(function, x)
    claim = program.outputs[0].type
    assert claim is not None
    assert claim.stride == function(x).stride()


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_what_follows_copies_where_the_run_does(name: str, turn: bool) -> None:
    function, x = CALLS[name]

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        made = function(x)
        return made, (made.transpose(0, 1) if turn else made).reshape(-1)

    made, flat = both(x)
    program = traced(both, x)
    shares = flat.data_ptr() == made.data_ptr()
    assert passes.aliases(program).must_alias(*program.outputs) is shares
    assert passes.aliases(program).may_alias(*program.outputs) is shares


def test_a_training_step_runs_where_a_fake_kernel_lays_out_otherwise() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.head(self.norm(x.transpose(1, 2)).reshape(-1, 6))
            return found

    model, x = Model(), torch.rand(2, 4, 6)
    program = passes.load_training_step(model, lambda out: out.sum(), torch.optim.SGD, x)
    graph = program.graph
    assert isinstance(graph, fx.GraphModule)
    named = {**dict(model.named_parameters()), **dict(model.named_buffers()), "x": x}
    with torch.no_grad():
        found = graph(*[named[entry.name] for entry in program.entry.values])
    assert torch.isfinite(found[0])


def test_a_resized_out_may_have_other_strides() -> None:
    def sine(x: Tensor, out: Tensor) -> Tensor:
        return torch.sin(x, out=out).reshape(-1)

    nothing = torch.empty(0)
    sure, unsure = traced(sine, X, nothing), traced(sine, X.t(), nothing)
    shares = []
    for program in (sure, unsure):
        flat, out = program.outputs[0], program.entry.values[1].value
        aliases = passes.aliases(program)
        shares.append((aliases.must_alias(flat, out), aliases.may_alias(flat, out)))
    assert shares == [(True, True), (False, True)]


def test_an_alias_of_another_layout_has_the_strides_it_was_given() -> None:
    program = traced(lambda x: aten._reshape_alias.default(x, [6, 4], [1, 6]).reshape(-1), X)
    assert not passes.aliases(program).may_alias(program.outputs[0], program.entry.values[0].value)


def test_an_attribute_is_read_again_after_it_was_given_another_storage() -> None:
    graph, root = fx.Graph(), nn.Module()
    root.register_buffer("state", torch.zeros(3))
    x = graph.placeholder("x")
    graph.call_method("set_", (graph.get_attr("state"), x))
    again = graph.get_attr("state")
    graph.output(graph.call_method("add_", (again, 1)))
    program = passes.load(fx.GraphModule(root, graph), torch.ones(3))
    aliases = passes.aliases(program)
    assert aliases.must_alias(program.outputs[0], program.entry.values[0].value)
    assert [found.id for found in aliases.written_by(program.op("add_"))] == ["x"]


def test_a_module_writes_the_storage_that_its_buffer_was_given() -> None:
    graph, root = fx.Graph(), nn.Module()
    root.norm = nn.BatchNorm1d(3)
    x, mean = graph.placeholder("x"), graph.placeholder("mean")
    graph.call_method("set_", (graph.get_attr("norm.running_mean"), mean))
    graph.output(graph.call_module("norm", (x,)))
    program = passes.load(fx.GraphModule(root, graph), torch.rand(2, 3), torch.zeros(3))
    written = {found.id for found in passes.aliases(program).written_by(program.op("norm"))}
    assert "mean" in written
    assert "self.norm.running_mean" not in written


def test_views_of_nothing_are_views_however_often_they_are_asked_for() -> None:
    def views(x: Tensor) -> list[Tensor]:
        nothing = x[:0].t()
        shown = [nothing.view(0), nothing.reshape(-1), nothing.flatten(), nothing.view(-1)]
        return [*shown, nothing.reshape(-1).view(0), nothing[:, :0].t()]

    for _ in range(3):
        program = traced(views, X)
        entry = program.entry.values[0].value
        aliases = passes.aliases(program)
        assert all(aliases.must_alias(output, entry) for output in program.outputs)


def test_a_view_of_what_data_decides_is_observed() -> None:
    def views(x: Tensor) -> list[Tensor]:
        picked = x[x > 0]
        return [picked.view(-1, 1), (picked * 2).view(-1)]

    program = traced(views, X)
    origins = {op.name: op.effects.origin for op in program.ops if "view" in op.name}
    assert len(origins) == 2
    assert set(origins.values()) == {Origin.OBSERVED}


def test_what_may_be_stretched_has_unknown_strides() -> None:
    """A part of unknown length that is expanded has that many elements, or one."""

    def stretched(x: Tensor) -> Tensor:
        return torch.nonzero(x)[3:7, 0].expand(4).contiguous()

    def as_it_is(x: Tensor) -> Tensor:
        found = torch.nonzero(x)[:, 0]
        return found.expand(2, -1)[0].contiguous()

    sure = []
    for function in (stretched, as_it_is):
        program = traced(function, X)
        output, made = program.outputs[0], program.op("nonzero").results[0]
        aliases = passes.aliases(program)
        sure.append((aliases.may_alias(output, made), aliases.must_alias(output, made)))
    assert sure == [(True, False), (True, True)]
