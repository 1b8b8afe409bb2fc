"""The declared way: what schemas, types and tables say, against what torch does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import passes
from passes import CaptureError, Program
from passes.frontends.effects.observe import covers_storage
from passes.frontends.effects.views import can_view, covers, is_contiguous
from passes.frontends.fakes.world import storage_of, type_of
from passes.program import AliasOf, Fresh, OneOf, Origin
from tests.passes.programs import classes

X = torch.rand(4, 6)


class _Calls(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def _declared(function: Any, *inputs: Tensor, **options: Any) -> Program:
    with torch.no_grad():
        exported = torch.export.export(_Calls(function), inputs, strict=False, **options)
    return passes.load(exported, effects="declared")


def fake_on(device: str) -> Tensor:
    with FakeTensorMode():
        return torch.empty(4, 6, device=device)


def _result(program: Program) -> Any:
    """What the op before the output says of its first result."""
    return program.ops[-2].effects.results[0]


@st.composite
def _strided(draw: st.DrawFn) -> Tensor:
    """A tensor of few dimensions with strides of all sorts: permuted, cut, expanded."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    tensor = torch.zeros(shape).permute(draw(st.permutations(range(len(shape)))))
    for dimension in range(tensor.dim()):
        change = draw(st.sampled_from(["", "step", "cut", "expand"]))
        if change == "step":
            tensor = tensor.narrow(dimension, 0, tensor.shape[dimension])[
                (slice(None),) * dimension + (slice(None, None, 2),)
            ]
        elif change == "cut" and tensor.shape[dimension] > 1:
            tensor = tensor.narrow(dimension, 1, tensor.shape[dimension] - 1)
        elif change == "expand" and tensor.shape[dimension] == 1:
            tensor = tensor.expand([2 if d == dimension else -1 for d in range(tensor.dim())])
    return tensor


class TestStrides:
    @settings(max_examples=300, deadline=None)
    @given(_strided(), st.data())
    def test_can_view_is_what_reshape_does(self, tensor: Tensor, data: st.DataObject) -> None:
        shapes = [list(tensor.shape), [tensor.numel()], [1, *tensor.shape]]
        if tensor.dim() > 1:
            shapes.append([tensor.shape[0] * tensor.shape[1], *tensor.shape[2:]])
            shapes.append([*tensor.shape[:-2], tensor.shape[-2] * tensor.shape[-1]])
        shapes += [[2, tensor.numel() // 2], [tensor.numel() // 3, 3]]
        shape = data.draw(st.sampled_from(shapes))
        if torch.Size(shape).numel() != tensor.numel():
            return
        views = storage_of(tensor.reshape(shape)) == storage_of(tensor)
        assert can_view(type_of(tensor), shape) is views

    @settings(max_examples=200, deadline=None)
    @given(_strided())
    def test_contiguous_and_covering_are_torchs(self, tensor: Tensor) -> None:
        found = type_of(tensor)
        assert is_contiguous(found) is tensor.is_contiguous()
        if tensor.numel():
            nbytes = tensor.untyped_storage().nbytes()
            assert covers(found, nbytes, 4) is covers_storage(tensor)

    @pytest.mark.parametrize("last", [False, True])
    def test_channels_last(self, last: bool) -> None:
        image = torch.rand(2, 3, 4, 5)
        if last:
            image = image.to(memory_format=torch.channels_last)
        assert is_contiguous(type_of(image), torch.channels_last) is last
        assert is_contiguous(type_of(image)) is not last

    def test_what_is_not_known_is_not_guessed(self) -> None:
        unknown = passes.TensorType((None, 3), (3, 1), 0, "float32", "cpu")
        assert can_view(unknown, (6,)) is None
        assert is_contiguous(unknown) is None
        assert not covers(unknown, 24, 4)


class TestViews:
    @pytest.mark.parametrize(
        ("function", "aliases"),
        [
            (lambda x: x.reshape(24), True),
            (lambda x: x.t().reshape(24), False),
            (lambda x: x.contiguous(), True),
            (lambda x: x.t().contiguous(), False),
            (lambda x: x.to(torch.float32), True),
            (lambda x: x.to(torch.float64), False),
            (lambda x: x.to(torch.float32, copy=True), False),
            (lambda x: torch.dropout(x, 0.5, False), True),
            (lambda x: torch.dropout(x, 0.5, True), False),
            (lambda x: torch.dropout(x, 0.0, True), True),
            (lambda x: x.sum_to_size(4, 6), True),
            (lambda x: x.sum_to_size(1, 6), False),
            (lambda x: x[:2], True),
            (lambda x: x + 1, False),
        ],
    )
    def test_types_and_modes_decide(self, function: Any, aliases: bool) -> None:
        program = _declared(function, X)
        found = passes.aliases(program)
        (result,), (x,) = program.outputs, [entry.value for entry in program.entry.values]
        assert found.must_alias(result, x) is aliases
        assert found.may_alias(result, x) is aliases
        assert (storage_of(function(X)) == storage_of(X)) is aliases

    @pytest.mark.parametrize(
        "shape", [(2, 3, 4, 5), (2, 1, 4, 4), (1, 3, 1, 1), (0, 2, 3, 4), (2, 3, 4, 5, 6)]
    )
    @pytest.mark.parametrize("change", ["as it is", "swapped", "strided", "last"])
    @pytest.mark.parametrize("wanted", ["contiguous_format", "channels_last", "channels_last_3d"])
    def test_to_a_memory_format(self, shape: Sequence[int], change: str, wanted: str) -> None:
        last = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
        if wanted.startswith("channels_last") and wanted != str(last).partition(".")[2]:
            return  # of another number of dimensions
        x = torch.rand(*shape)
        if change == "swapped":
            x = x.transpose(1, 2)
        if change == "strided":
            x = x[..., ::2]
        if change == "last":
            x = x.contiguous(memory_format=last)

        def function(x: Tensor) -> Any:
            return torch.ops.aten.to.dtype(x, torch.float32, memory_format=getattr(torch, wanted))

        program = _declared(function, x)
        aliases = storage_of(function(x)) == storage_of(x)
        found = passes.aliases(program)
        (result,), (given,) = program.outputs, [entry.value for entry in program.entry.values]
        assert found.must_alias(result, given) is found.may_alias(result, given) is aliases

    def test_what_no_type_shows_is_may(self) -> None:
        program = _declared(lambda x: x.resolve_conj(), X.to(torch.complex64))
        assert isinstance(_result(program), OneOf)
        assert passes.aliases(program).may_alias(program.outputs[0], program.values[0])
        assert not passes.aliases(program).must_alias(program.outputs[0], program.values[0])

    def test_a_size_of_the_run_makes_a_may(self) -> None:
        program = _declared(lambda x: torch.nonzero(x).t().reshape(-1), X)
        assert isinstance(_result(program), OneOf)
        assert passes.memory(program).unsized

    def test_each_result_of_a_list_is_a_view(self) -> None:
        program = _declared(lambda x: x.t().split(2), X)
        x = program.entry.values[0].value
        assert len(program.outputs) == 3
        assert all(passes.aliases(program).must_alias(part, x) for part in program.outputs)

    def test_an_object_reshaped_in_place_has_no_known_type_any_more(self) -> None:
        graph = fx.Graph()
        x = graph.placeholder("x")
        x.meta["val"] = X
        t = graph.call_function(torch.ops.aten.t_.default, (x,))
        t.meta["val"] = X.t()
        flat = graph.call_function(torch.ops.aten.reshape.default, (x, [-1]))
        flat.meta["val"] = X.t().reshape(-1)
        graph.output(flat)
        program = passes.load(fx.GraphModule(nn.Module(), graph), X, effects="declared")
        assert isinstance(program.op(flat).effects.results[0], OneOf)


class TestWrites:
    @pytest.mark.parametrize(("train", "written"), [(True, 2), (False, 0)])
    def test_running_statistics(self, train: bool, written: int) -> None:
        program = _declared(
            lambda x, m, v: torch.batch_norm(x, None, None, m, v, train, 0.1, 1e-5, False),
            torch.rand(3, 6),
            torch.rand(6),
            torch.rand(6),
        )
        assert len(program.ops[-2].effects.writes) == written

    def test_overwritten_in_full_or_in_part(self) -> None:
        whole = _declared(lambda x: (x + 1).zero_(), X)
        part = _declared(lambda x: (x + 1)[1:].zero_(), X)
        read = _declared(lambda x: (x + 1).mul_(2), X)
        found = [p.ops[-2].effects.overwrites for p in (whole, part, read)]
        assert found == [frozenset({0}), frozenset(), frozenset()]

    def test_a_copy_from_a_tensor_that_may_be_the_same_reads_it(self) -> None:
        apart = _declared(lambda x, y: (x + 1).copy_(y), X, X + 1)
        same = _declared(lambda x: (y := x + 1).copy_(y.flip(0).view(4, 6)), X)
        itself = _declared(lambda x: (y := x.mul(2)).copy_(y.view(4, 6)), X)
        found = [bool(p.ops[-2].effects.overwrites) for p in (apart, same, itself)]
        assert found == [True, True, False]


class TestPrograms:
    def test_a_reloaded_file_has_its_aliases(self, tmp_path: Path) -> None:
        class Model(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return (x + 1).view(-1).add_(1)

        path = tmp_path / "model.pt2"
        torch.export.save(torch.export.export(Model(), (X,)), path)
        program = passes.load(str(path), trust=True, effects="declared")
        assert classes(program)["add"] == {"add", "view", "add_"}

    def test_nodes_that_share_one_recorded_tensor_are_not_one(self) -> None:
        graph = fx.Graph()
        x = graph.placeholder("x")
        one = graph.call_function(torch.ops.aten.add.Tensor, (x, 1))
        two = graph.call_function(torch.ops.aten.add.Tensor, (x, 2))
        x.meta["val"], one.meta["val"] = X, X + 1
        two.meta["val"] = one.meta["val"]
        graph.output((one, two))
        program = passes.load(fx.GraphModule(nn.Module(), graph), X, effects="declared")
        assert len(classes(program)) == 3

    def test_dynamic_sizes_are_taken_at_their_examples(self) -> None:
        rows = torch.export.Dim("rows")
        program = _declared(lambda x: x.t().reshape(-1), X, dynamic_shapes={"inputs": ({0: rows},)})
        assert isinstance(_result(program), Fresh)
        assert _result(program).nbytes == 96

    def test_peaks_are_those_that_are_observed(self) -> None:
        from tests.oracle.models import MODELS

        case = MODELS["cnn_train_exported"]() if "cnn_train_exported" in MODELS else None
        case = case or MODELS["tied_exported"]()
        observed = passes.load(case.source, *case.args, **case.kwargs)
        declared = passes.load(case.source, *case.args, effects="declared", **case.kwargs)
        assert passes.memory(declared).timeline == passes.memory(observed).timeline

    def test_what_the_types_decide_is_not_assumed(self) -> None:
        def function(x: Tensor) -> tuple[Tensor, Tensor]:
            return x.t().reshape(-1).add_(1), x.to(torch.complex64).resolve_conj()

        program = _declared(function, X)
        assert [op.target for op in program.assumed] == ["aten.resolve_conj.default"]
        assert passes.load(program.graph, X).assumed == ()

    def test_what_is_no_operator_may_do_anything(self) -> None:
        program = passes.load(fx.symbolic_trace(lambda x: torch.relu(x)), X, effects="declared")
        assert program.ops[1].effects.origin is Origin.ANYTHING

    def test_another_storage_is_refused_by_name(self) -> None:
        with pytest.raises(CaptureError, match=r"set_.*effects='observed'"):
            _declared(lambda x, y: x.set_(y), X.clone(), X + 1)

    @pytest.mark.parametrize(
        "other", [X.double(), X.t().contiguous().t(), X[:2], X[0], fake_on("cuda"), None]
    )
    def test_inputs_of_another_type_than_recorded_are_refused(self, other: Any) -> None:
        """What was recorded of later values would be too small, or on another device."""
        graph = make_fx(lambda x: x.exp() * 2)(X)
        for fits in (X, X + 1, X.to("meta"), nn.Parameter(X)):
            assert passes.memory(passes.load(graph, fits, effects="declared")).peak_bytes == 192
        with pytest.raises(CaptureError, match=r"x_1 is .* recorded .*4, 6"):
            passes.load(graph, other, effects="declared")

    def test_there_are_two_ways(self) -> None:
        with pytest.raises(CaptureError, match="'guessed': it is one of 'observed', 'declared'"):
            passes.load(nn.Linear(6, 2), X, effects="guessed")  # type: ignore[arg-type]


def test_an_operator_that_no_fake_can_run_writes_what_its_schema_hides() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    node = graph.call_function(torch.ops.aten._saturate_weight_to_fp16.default, (x,))
    graph.output(node)
    module = fx.GraphModule({}, graph)
    given = X * 1e6
    op = passes.load(module, given).op(node.name)
    assert op.effects.writes == {0}
    assert op.effects.results == (AliasOf((0,)),)
    ran = given.clone()
    assert module(ran).untyped_storage()._cdata == ran.untyped_storage()._cdata
    assert not torch.equal(ran, given)


@pytest.mark.parametrize(
    ("given", "stride"),
    [(torch.empty(4, 12)[:, ::2], (12, 2)), (torch.empty(0), (None, None))],
    ids=["it fits", "it is resized"],
)
def test_strides_of_what_is_given_as_out(given: Tensor, stride: tuple[int | None, ...]) -> None:
    """Some fakes lay out anew what fits, as those of `sort`, or do not as their real kernels
    where it is resized, as those of linear algebra."""

    def function(x: Tensor, out: Tensor, places: Tensor) -> Tensor:
        torch.sort(x, out=(out, places))
        return out.reshape(-1)

    inputs = X, given, torch.empty(4, 6, dtype=torch.int64)
    graph = make_fx(function, tracing_mode="fake")(*inputs)
    program = passes.load(graph, *inputs, effects="declared")
    written = next(op for op in program.ops if "sort" in op.target).results[0]
    assert written.type is not None
    assert written.type.stride == stride


def test_what_data_has_sized_may_be_resized() -> None:
    """That both shapes are unknown does not make them one."""

    def function(x: Tensor) -> Tensor:
        return x[x > 2][:2].resize_(20)

    program = passes.load(make_fx(function)(X), X, effects="declared")
    assert next(op for op in program.ops if "resize_" in op.target).effects.resizes == ((0, None),)


def test_what_is_recorded_to_stay_empty_does_so_only_where_its_operator_says_that() -> None:
    """torch's fakes of some operators do not resize an empty `out=`, and captures record that."""

    def factor(x: torch.Tensor) -> torch.Tensor:
        a, tau = x.new_empty(0), x.new_empty(0)
        torch.geqrf(x, out=(a, tau))
        return a

    def magnitude(x: torch.Tensor) -> torch.Tensor:
        return torch.abs(x, out=x.new_empty(0, 3))

    def unsized(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> int:
        graph = make_fx(function, tracing_mode="fake")(x)
        return len(passes.memory(passes.load(graph, x, effects="declared")).unsized)

    assert unsized(factor, torch.rand(3, 3)) == 2
    assert unsized(magnitude, torch.rand(0, 3)) == 0
