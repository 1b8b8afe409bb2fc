"""Where schemas, fake kernels or captures mislead: each case was once answered wrongly."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

import passes
from passes import CaptureError
from passes.program import Origin
from tests.passes.programs import ids, traced

X = torch.rand(4, 6)


def _written(program: passes.Program) -> set[str]:
    aliases = passes.aliases(program)
    return set().union(*(ids(aliases.written_by(op)) for op in program.walk()))


def _calls(module: nn.Module) -> fx.GraphModule:
    """A graph that calls a module as a leaf."""
    root = nn.Module()
    root.inner = module
    graph = fx.Graph()
    graph.output(graph.call_module("inner", (graph.placeholder("x"),)))
    return fx.GraphModule(root, graph)


class TestInputs:
    def test_keywords_are_bound_by_name_not_by_order(self) -> None:
        class Model(nn.Module):
            def forward(self, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
                b.add_(1)
                return x + a

        exported = torch.export.export(Model(), (X,), {"a": X[:, :1], "b": X[0]})
        program = passes.load(exported, X, b=X[0].clone(), a=X[:, :1].clone())
        assert {e.name: e.nbytes for e in program.entry.values} == {"x": 96, "a": 16, "b": 24}
        with pytest.raises(CaptureError, match="do not fit the program"):
            passes.load(exported, X, c=X, a=X)

    def test_a_constant_of_the_capture_cannot_be_another(self) -> None:
        class Model(nn.Module):
            def forward(self, x: Tensor, flag: bool = True) -> Tensor:
                return x.view(-1).add_(1) if flag else x.clone()

        exported = torch.export.export(Model(), (X, True))
        passes.load(exported, X, True)
        with pytest.raises(CaptureError, match=r"flag is False; .* captured for True"):
            passes.load(exported, X, False)

    def test_meta_views_of_different_dtypes_share_storage(self) -> None:
        base = torch.empty(40, device="meta")
        program = traced(lambda a, b: (a.add_(1), b * 1), base[:4], base.view(torch.int32)[2:6])
        assert len({entry.storage for entry in program.entry.values}) == 1

    def test_storages_over_the_same_memory_are_refused(self) -> None:
        array = X.numpy()
        with pytest.raises(CaptureError, match="same memory"):
            traced(
                lambda a, b: a.add_(1) + b,
                torch.from_numpy(array),
                torch.from_numpy(array),
            )


class TestWrites:
    def test_a_tensor_in_a_modules_list_is_written(self) -> None:
        class Holder(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.held = [torch.zeros(6)]

            def forward(self, x: Tensor) -> Tensor:
                self.held[0].add_(1)
                return x + self.held[0]

        assert _written(passes.load(_calls(Holder()), X)) == {"self.inner.held[0]"}

    def test_a_tensor_in_an_object_of_a_module_is_written(self) -> None:
        class Box:
            def __init__(self) -> None:
                self.inside = torch.zeros(6)

        class Holder(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.box = Box()

            def forward(self, x: Tensor) -> Tensor:
                return self.box.inside.add_(x[0])

        program = passes.load(_calls(Holder()), X)
        assert _written(program) == {"inner state 0"}
        assert ids(passes.aliases(program).storages(program.op("inner"))[0]) == {"inner state 0"}

    @pytest.mark.parametrize("train", [True, False])
    def test_batch_norm_with_out_writes_statistics_too(self, train: bool) -> None:
        def norm(x: Tensor, m: Tensor, v: Tensor, o: Tensor, a: Tensor, b: Tensor) -> Any:
            return torch.native_batch_norm(x, None, None, m, v, train, 0.1, 1e-5, out=(o, a, b))

        inputs = [torch.rand(2, 3, 4), torch.rand(3), torch.rand(3), torch.empty(2, 3, 4)]
        inputs += [torch.empty(3 if train else 0), torch.empty(3 if train else 0)]
        assert _written(traced(norm, *inputs)) == {"o", "a", "b", *("mv" if train else "")}

    def test_out_is_written_and_returned_whatever_the_fake_kernel_does(self) -> None:
        out = torch.empty((), dtype=torch.int64)
        program = traced(lambda a, o: torch.linalg.matrix_rank(a, out=o), X, out)
        assert _written(program) == {"o"}
        (result,) = program.outputs
        assert ids(passes.aliases(program).storages(program.ops[-2])[0]) == {"o"}
        assert result.name == "linalg_matrix_rank"

    def test_moving_a_storage_writes_nothing(self) -> None:
        assert _written(traced(lambda a, b: a.set_(b), X[0].clone(), X[1].clone())) == set()
        assert _written(traced(lambda a: a.resize_(2, 2), X.clone())) == set()

    def test_fused_optimizers_write_gradients_only_to_unscale_them(self) -> None:
        def step(p: Tensor, g: Tensor, m: Tensor, v: Tensor, n: Tensor) -> Any:
            torch._fused_adam_(
                [p], [g], [m], [v], [], [n],
                lr=0.1, beta1=0.9, beta2=0.99, weight_decay=0.0, eps=1e-8,
                amsgrad=False, maximize=False,
            )  # fmt: skip

        assert _written(traced(step, *(torch.rand(3) for _ in range(4)), torch.ones(()))) == {
            "p",
            "m",
            "v",
        }

    def test_sparse_tensors_may_do_anything(self) -> None:
        """Their parts are storages no fake shows."""
        program = traced(lambda s: s.values().add_(1), X.to_sparse().coalesce())
        assert {op.effects.origin for op in program.assumed} == {Origin.ANYTHING}
        assert "s" in _written(program)

    def test_a_custom_operator_is_taken_at_its_word_and_counted(self) -> None:
        with torch.library._scoped_library("corners", "DEF") as library:
            library.define("lies(Tensor a) -> Tensor")
            library.impl("lies", lambda a: a.add(1), "CompositeExplicitAutograd")
            program = traced(lambda a: torch.ops.corners.lies(a), X)
            assert [op.name for op in program.assumed] == ["lies"]


class TestBytes:
    @pytest.mark.parametrize(
        ("function", "nbytes"),
        [
            (lambda x, s: torch.slice_scatter(x[:4], s, 0, 0, 2), 400),
            (lambda x, s: nn.functional.mse_loss(x, x), 400),
            (lambda x, s: nn.functional.mse_loss(x, x, reduction="none"), 400),
            (lambda x, s: x[:4].clone(), 160),
        ],
    )
    def test_results_are_as_large_as_the_real_kernel_makes_them(
        self, function: Any, nbytes: int
    ) -> None:
        real = torch.rand(10, 10)
        result = function(real, torch.rand(2, 10))
        assert result.untyped_storage().nbytes() == nbytes
        assert passes.memory(traced(function, real, torch.rand(2, 10))).timeline[-1] == nbytes

    def test_the_answer_does_not_depend_on_what_was_loaded_before(self) -> None:
        def scatter(x: Tensor, s: Tensor) -> Tensor:
            return torch.as_strided_scatter(x, s, (2, 10), (10, 1))

        inputs = torch.rand(10, 10)[:4], torch.rand(2, 10)
        peaks = [passes.memory(traced(scatter, *inputs)).peak_bytes for _ in range(3)]
        assert peaks == [400, 400, 400]


def test_an_assignment_that_the_capture_lost_is_refused() -> None:
    class Assigns(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            x.data = y
            return x.add_(1)

    with pytest.raises(CaptureError, match=r"assignment to `\.data`"):
        passes.load(Assigns(), torch.rand(3), torch.rand(3))


def test_flex_attention_has_bodies_that_are_walked() -> None:
    from torch.nn.attention.flex_attention import flex_attention

    class Flex(nn.Module):
        def forward(self, q: Tensor) -> Any:
            return flex_attention(q, q, q)

    program = passes.load(Flex(), torch.rand(1, 2, 128, 16))
    assert not program.assumed
    assert [region.name for region in program.op("flex_attention").regions] == ["mask", "score"]


class TestTheUsersProcess:
    def test_a_transform_left_open_is_closed(self) -> None:
        class Mapped(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                mapped: Tensor = torch.vmap(lambda row: row.view(-1).mul_(2))(x)
                return mapped

        program = passes.load(torch.export.export(Mapped(), (X,)))
        assert _written(program) == {"x"}
        assert torch.rand(1).shape == (1,)

    def test_tracing_leaves_no_constant_on_the_module(self) -> None:
        class Model(nn.Module):
            def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
                return x + torch.arange(6), torch.zeros(x.shape[0])

        model = Model()
        before = set(vars(model))
        passes.load(model, torch.empty(4, 6, device="meta"))
        assert set(vars(model)) == before

    def test_a_module_that_cannot_be_copied_says_so(self) -> None:
        class Locked(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.lock = threading.Lock()

            def forward(self, x: Tensor) -> Tensor:
                return x * 2

        with pytest.raises(CaptureError, match="Locked cannot be copied"):
            passes.load(_calls(Locked()), X)

    def test_lazy_parameters_are_asked_to_become_real(self) -> None:
        with pytest.raises(CaptureError, match="call the model once"):
            passes.load(_calls(nn.LazyLinear(3)), X)

    def test_a_tensor_from_outside_the_graph_is_named(self) -> None:
        outside = torch.ones(6)

        def uses(x: Tensor) -> Tensor:
            return x + outside

        graph = fx.Graph()
        graph.output(graph.call_function(uses, (graph.placeholder("x"),)))
        with pytest.raises(CaptureError, match="a tensor from outside the graph"):
            passes.load(fx.GraphModule(nn.Module(), graph), X)


@pytest.mark.parametrize("mean", [(4,), (2, 4)], ids=str)
@pytest.mark.parametrize("out", [(2, 4), (4,)], ids=str)
def test_normal_broadcasts_its_mean_with_what_it_is_given(
    mean: tuple[int, ...], out: tuple[int, ...]
) -> None:
    program = traced(lambda x, y: torch.normal(x, 1.0, out=y), torch.zeros(mean), torch.empty(out))
    found = program.op("normal").results[0].type
    assert found is not None
    assert found.shape == torch.normal(torch.zeros(mean), 1.0, out=torch.empty(out)).shape


def test_nan_to_num_of_complex_numbers_which_its_fake_kernel_refuses() -> None:
    program = traced(lambda x: x.nan_to_num().nan_to_num_().real, torch.complex(X, X))
    kinds = [str(op.results[0].type) for op in program.ops if op.results and op.node]
    assert kinds[1:3] == ["complex64[4, 6]", "complex64[4, 6]"], kinds
    assert _written(program) == {"nan_to_num"}
    assert traced(lambda x: x.nan_to_num_(0.0), X.clone()).ops[1].effects.writes == {0}


def test_what_data_fills_has_an_unknown_size_under_all_its_names() -> None:
    def fills(x: Tensor, out: Tensor) -> Any:
        other = out.view(-1)
        found = torch.masked_select(x, x > 0.5, out=out)
        return out * 2, found + 1, other, out

    program = traced(fills, X, torch.empty(0))
    filled = program.op("masked_select")
    found, again = filled.defines
    assert found.type is again.type is None
    assert [program.op(name).results[0].type for name in ("mul", "add")] == [None, None]
    assert str(program.op("view").results[0].type) == "float32[0]"
    aliases = passes.aliases(program)
    assert {ids(aliases.storages(program.op(name))[0]).pop() for name in ("out", "view")} == {"out"}
    assert [ids(found) for found in aliases.storages(filled)] == [{"out"}]
    assert program.outputs[3] is again
    assert {storage.name for storage in passes.memory(program).unsized} >= {"out", "mul", "add"}


def test_state_that_data_fills_is_refused() -> None:
    class Fills(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.found = nn.Buffer(torch.empty(0))

        def forward(self, x: Tensor) -> Any:
            torch.masked_select(x, x > 0.5, out=self.found)
            return self.found * 2

    tracer = fx.Tracer()
    tracer.proxy_buffer_attributes = True
    model = Fills()
    graph = fx.GraphModule(model, tracer.trace(model))
    with pytest.raises(CaptureError, match=r"gives found, .* size that only the run knows"):
        passes.load(graph, X)


def test_a_module_that_compares_tensors() -> None:
    class Compares(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where((x == 0) | (x > 1) | (x != x), x, -x).view(-1)

    program = passes.load(_calls(Compares()), X)
    assert not program.assumed
    assert str(program.op("inner").effects.results[0]) == "fresh"


@pytest.mark.parametrize("shape", [(0, 4), (3, 4), (2, 3, 4)], ids=str)
def test_a_mean_of_what_it_is_written_into(shape: tuple[int, ...]) -> None:
    program = traced(lambda x: torch.mean(x, 0, out=x), torch.zeros(shape))
    found = program.op("mean").results[0].type
    x = torch.zeros(shape)
    assert found is not None
    assert found.shape == torch.mean(x, 0, out=x).shape == shape[2:]


def test_dropout_in_place_of_a_tensor_with_unknown_strides_writes_it() -> None:
    def drops(x: Tensor, y: Tensor) -> Tensor:
        torch.add(x, x, out=y)
        return nn.functional.dropout(y, 0.5, True, inplace=True)

    program = traced(drops, torch.ones(4, 1).expand(4, 4), torch.zeros(16))
    aliases = passes.aliases(program)
    dropout = program.op("dropout")
    assert ids(aliases.written_by(dropout)) == {"y"}
    assert ids(aliases.storages(dropout)[0]) == {"y"}


def test_new_tensors_in_a_list_of_unknown_length_are_not_one() -> None:
    def takes(x: Tensor) -> Any:
        rows = torch.nonzero(x)
        copy: Any = torch.unbind_copy  # its stub returns None
        copies, views = copy(rows, 1), torch.unbind(rows, 1)
        return copies[0], copies[1], views[0], views[1], rows

    program = traced(takes, X)
    aliases = passes.aliases(program)
    one, other, view, again, rows = program.outputs
    assert not aliases.must_alias(one, other)
    assert aliases.must_alias(view, again)
    assert aliases.must_alias(view, rows)


def test_one_tensor_for_two_results_is_refused() -> None:
    """`max` squeezes its results one after the other, so that this one loses two dimensions."""

    def function(x: Tensor) -> Tensor:
        y = torch.zeros(1, dtype=torch.int64)
        torch.max(x, 0, out=(y, y))
        return y.view(-1)

    x = torch.ones(1, 1, 4, dtype=torch.int64)
    with pytest.raises(CaptureError, match="one tensor as `out=` for two results"):
        traced(function, x)
    made = make_fx(function)(x)
    for way in ("observed", "declared"):
        with pytest.raises(CaptureError, match="one tensor as `out=` for two results"):
            passes.load(made, x, effects=way)


@pytest.mark.parametrize("rows", [4, 2])
def test_an_operand_that_is_resized_as_one_of_several_results_is_refused(rows: int) -> None:
    """`qr` makes `x` smaller, and then reads what is left of it.  What fits stays as it is."""

    def function(x: Tensor, out: Tensor) -> Tensor:
        torch.linalg.qr(x, out=(x, out))
        return out

    def inputs() -> tuple[Tensor, Tensor]:  # new ones: recording changes them
        return torch.ones(rows, 4), torch.empty(0)

    made = make_fx(function)(*inputs())
    for way in ("observed", "declared"):
        if rows == 4:
            assert len(passes.load(made, *inputs(), effects=way).ops) > 3
        else:
            with pytest.raises(CaptureError, match="operand as one of several `out=`"):
                passes.load(made, *inputs(), effects=way)


@pytest.mark.parametrize("grad", [False, True])
def test_a_complex_view_of_what_enters(grad: bool) -> None:
    """One of no tensor with a last dimension of 2, and a real view of a complex one."""
    whole = torch.arange(12.0, requires_grad=grad)
    number = torch.ones(3, dtype=torch.complex64)
    views = torch.view_as_complex(whole[2:10].view(2, 2, 2)), torch.view_as_real(number)
    program = traced(lambda a, b, c, d: (a + 1, b.sum(), c * d.sum()), *views, whole, number)
    aliases = passes.aliases(program)
    made, parts, base, entry = (op.results[0] for op in program.ops[:4])
    assert aliases.must_alias(made, base)
    assert aliases.must_alias(parts, entry)
    assert not aliases.may_alias(made, entry)
    assert [str(v.type) for v in (made, parts)] == ["complex64[2, 2]", "float32[3, 2]"]
    assert made.type is not None
    assert made.type.offset == 1


@pytest.mark.parametrize("scatters", [torch.diagonal_scatter, torch.select_scatter])
def test_a_copy_of_a_part_is_the_same_part_of_its_storage(scatters: Callable[..., Tensor]) -> None:
    def function(x: Tensor) -> Tensor:
        part = x.diagonal(1)
        more = (0, 1) if scatters is torch.select_scatter else ()
        return scatters(part, part[0], *more).resize_(5, 5)

    x = torch.zeros(2, 4, 2)
    held = function(x).untyped_storage().nbytes()
    assert held == 4 * (2 + 25)
    for _ in range(2):  # torch remembers the first time, but not all of it
        program = passes.load(make_fx(function)(torch.zeros(2, 4, 2)), x)
        (copy,) = passes.aliases(program).storages(program.op("resize_"))[0]
        assert copy.storage.nbytes == held


@pytest.mark.parametrize("combine", [torch.add, torch.sub, torch.rsub])
def test_a_sum_with_a_factor_is_laid_out_like_one_without(combine: Callable[..., Tensor]) -> None:
    one, other = X.as_strided((2, 1), (2, 3)), X.as_strided((2, 1, 1), (4, 6, 6))
    program = traced(lambda a, b: combine(a, b, alpha=2), one, other)
    (found,) = program.op(combine.__name__).results
    assert found.type is not None
    assert found.type.stride == combine(one, other, alpha=2).stride() == (2, 1, 4)


def test_an_operator_of_others_that_reads_data_and_has_no_fake_is_not_run() -> None:
    library: Any = torch.library.Library("corners", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch's
    library.define("total(Tensor x) -> float")
    library.impl("total", lambda x: float(x.sum()), "CompositeExplicitAutograd")
    program = traced(lambda x: x * torch.ops.corners.total(x), X)
    assert program.op("total").effects.origin is Origin.ANYTHING
