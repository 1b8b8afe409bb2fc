"""Who shares storage, who does not, who writes: a tiny program for each claim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor, fx, nn
from torch._higher_order_ops.while_loop import while_loop

import passes
from passes import UNKNOWN
from passes.alias import Aliases
from passes.program import Fresh, Origin
from passes.storages import ANY, Allocations, earlier
from tests.passes.programs import classes, exported, ids, traced, value

X = torch.rand(4, 4)


@pytest.mark.parametrize(
    ("function", "shares"),
    [
        (lambda x: x.view(-1), True),
        (lambda x: x.t(), True),
        (lambda x: x[1:], True),
        (lambda x: x.reshape(16), True),
        (lambda x: x.t().reshape(16), False),
        (lambda x: x.contiguous(), True),
        (lambda x: x.t().contiguous(), False),
        (lambda x: x.to(torch.float32), True),
        (lambda x: x.to(torch.float64), False),
        (lambda x: torch.dropout(x, 0.5, False), True),
        (lambda x: torch.dropout(x, 0.5, True), False),
        (lambda x: torch.atleast_2d(x), True),  # type: ignore[no-untyped-call]  # torch's own
        (lambda x: torch.einsum("ij->ji", x), True),
        (lambda x: x.expand(2, 4, 4), True),
        (lambda x: x.clone(), False),
        (lambda x: x + 0, False),
        (lambda x: x.add_(1), True),
        (lambda x: torch.add(x, 1, out=x), True),
        (lambda x: x.detach(), True),
        (lambda x: x.real, True),
    ],
)
@pytest.mark.parametrize("capture", [traced, exported])
def test_a_result_shares_its_operands_storage_or_not(
    function: Callable[[Tensor], Tensor], shares: bool, capture: Callable[..., passes.Program]
) -> None:
    """The same claim for both captures, and the same truth on real tensors."""
    real = torch.rand(4, 4)
    truth = function(real).untyped_storage()._cdata == real.untyped_storage()._cdata
    assert truth == shares

    program = capture(function, X)
    aliases = passes.aliases(program)
    (x,) = [entry.value for entry in program.entry.values if entry.role.value == "input"]
    (result,) = program.outputs
    assert aliases.may_alias(x, result) == shares
    assert aliases.must_alias(x, result) == shares


def test_views_of_one_base_alias_each_other() -> None:
    program = traced(lambda x: (x[:2].add_(1), x[2:]), X)

    assert classes(program) == {"x": {"x", "getitem", "add_", "getitem_1"}}


def test_separate_results_do_not_alias() -> None:
    program = traced(lambda x: (x + 1, x + 1), X)
    a, b = program.outputs

    assert not passes.aliases(program).may_alias(a, b)


def test_each_leaf_of_a_container_has_its_own_answer() -> None:
    program = traced(lambda x: torch.max(x, dim=0), X)
    (values, indices) = passes.aliases(program).storages(program.op("max_1"))

    assert ids(values) == {"max_1[0]"}
    assert ids(indices) == {"max_1[1]"}


def test_inputs_that_share_storage_are_one_class() -> None:
    base = torch.rand(4, 4)
    program = traced(lambda a, b: (a.add_(1), b * 2), base[:2], base[2:])

    assert classes(program)["a"] == {"a", "b", "add_"}
    assert ids(passes.aliases(program).written_by(program.op("add_"))) == {"a"}


def test_inputs_apart_stay_apart() -> None:
    program = traced(lambda a, b: (a.add_(1), b * 2), X[:2].clone(), X[2:].clone())
    a, b = [entry.value for entry in program.entry.values]

    assert not passes.aliases(program).may_alias(a, b)


def test_tied_parameters_are_one_class() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(8, 4)
            self.head = nn.Linear(4, 8, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: Tensor) -> Tensor:
            result: Tensor = self.head(self.embed(ids))
            return result

    for source in (Tied(), fx.symbolic_trace(Tied())):
        program = passes.load(source, torch.tensor([1, 2]))
        parameters = [
            found
            for found in passes.aliases(program).classes
            if found.storage.role is not None and found.storage.role.value == "parameter"
        ]
        assert [found.nbytes for found in parameters] == [8 * 4 * 4]


def test_a_module_that_returns_two_views_of_one_new_tensor() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = x + 1
            return h[:1], h.view(-1)

    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.two = Two()

        def forward(self, x: Tensor) -> Any:
            return self.two(x)

    class Leaves(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return True

    root = Root()
    program = passes.load(fx.GraphModule(root, Leaves().trace(root)), X)
    first, second = program.outputs

    assert passes.aliases(program).must_alias(first, second)
    assert passes.aliases(program).pointees(first) == passes.aliases(program).pointees(second)


def test_set_renames_what_later_uses_read() -> None:
    """After `a.set_(b)`, `a` is another tensor: writing it writes b's storage."""

    def swap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        before = a.view(-1)
        a.set_(b)  # type: ignore[call-overload]  # a tensor will do
        return before, a.add_(1)

    program = traced(swap, torch.rand(4), torch.rand(4))
    aliases = passes.aliases(program)
    assert ids(aliases.written_by(program.op("add_"))) == {"b"}
    before, after = program.outputs
    assert aliases.must_alias(before, value(program, "a"))
    assert not aliases.may_alias(before, after)


def test_resize_keeps_the_storage_and_its_largest_size() -> None:
    def grow(x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        torch.add(torch.cat([x, x]), 1, out=out.resize_(8, 4))
        return out

    program = traced(grow, X)
    (out,) = [c for c in passes.aliases(program).classes if c.id == "empty_like"]
    assert out.nbytes == 8 * 4 * 4
    assert repr(out) == "<StorageClass empty_like: 128 bytes, add, empty_like, resize_>"


def test_a_size_that_data_decides_has_no_bound_once_it_is_resized() -> None:
    def grow(x: Tensor) -> Tensor:
        return torch.cat([x, x], out=x[x > 0])

    found = {s.name: s for s in passes.aliases(traced(grow, X)).all_storages}
    assert (found["getitem"].nbytes, found["getitem"].most) == (None, None)
    bound = {s.name: s for s in passes.aliases(traced(lambda x: x[x > 0], X)).all_storages}
    assert (bound["getitem"].nbytes, bound["getitem"].most) == (None, X.numel() * 4)


class TestWrites:
    """Which storages an op writes, and what it only reads."""

    def test_in_place_writes_its_storage(self) -> None:
        program = traced(lambda x: x.view(-1).mul_(2), X)
        assert ids(passes.aliases(program).written_by(program.op("mul_"))) == {"x"}

    def test_reading_writes_nothing(self) -> None:
        program = traced(lambda x: (x * 2).sum(), X)
        assert not any(passes.aliases(program).written_by(op) for op in program.walk())

    def test_out_writes_the_out_tensor_alone(self) -> None:
        def into(x: Tensor) -> Tensor:
            out = torch.zeros_like(x)
            torch.mul(x, 2, out=out)
            return out

        program = traced(into, X)
        assert ids(passes.aliases(program).written_by(program.op("mul"))) == {"zeros_like"}

    @pytest.mark.parametrize("train", [True, False])
    def test_batch_norm_writes_its_statistics_in_training_only(self, train: bool) -> None:
        """Its schema is silent about them."""
        module = fx.symbolic_trace(nn.Sequential(nn.BatchNorm1d(4)).train(train))
        program = passes.load(module, X)
        written = ids(passes.aliases(program).written_by(program.op("_0")))
        statistics = {"self.0.running_mean", "self.0.running_var", "self.0.num_batches_tracked"}
        assert written == (statistics if train else set())

    def test_foreach_writes_every_tensor_of_its_list(self) -> None:
        program = traced(lambda a, b: torch._foreach_add_([a, b], 1), X.clone(), X.clone())
        assert ids(passes.aliases(program).written_by(program.op("_foreach_add_"))) == {"a", "b"}


class TestOverwrites:
    """Written in full and not read before: what holds the old content is gone."""

    @pytest.mark.parametrize(
        ("function", "overwrites"),
        [
            (lambda e, x: e.zero_(), True),
            (lambda e, x: e.view(-1).fill_(1), True),
            (lambda e, x: e.t().copy_(x), True),
            (lambda e, x: e[0].zero_(), False),
            (lambda e, x: e.add_(1), False),
            (lambda e, x: e.copy_(e.t()), False),
            (lambda e, x: e.masked_fill_(x > 0, 1), False),
            (lambda e, x: torch.mul(x, 2, out=e), True),
            (lambda e, x: torch.mul(e, 2, out=e), False),
        ],
    )
    def test_in_full_or_not(
        self, function: Callable[[Tensor, Tensor], Tensor], overwrites: bool
    ) -> None:
        def program_of(x: Tensor) -> Tensor:
            return function(torch.empty_like(x), x)

        program = traced(program_of, X)
        aliases = passes.aliases(program)
        found = {s.name for op in program.walk() for s in aliases.overwritten_by(op)}
        assert found == ({"empty_like"} if overwrites else set())

    def test_one_of_two_is_not_overwritten_for_certain(self) -> None:
        """What a loop gives back is one of two storages: `fill_` writes one of them."""

        class Twice(nn.Module):
            def forward(self, n: Tensor, x: Tensor) -> Tensor:
                body = lambda n, x: (n + 1, x * 2)  # noqa: E731
                y: Tensor
                _, y = while_loop(lambda n, x: n < 3, body, (n, x))  # type: ignore[no-untyped-call]  # torch's own
                return torch.zeros_like(x).fill_(1.0) + y.fill_(0.0)

        program = exported(Twice(), torch.tensor(0), X)
        aliases = passes.aliases(program)
        certain, uncertain = (op for op in program.ops if op.target.startswith("aten.fill_"))
        assert {storage.name for storage in aliases.overwritten_by(certain)} == {"zeros_like"}
        assert len(aliases.written_by(uncertain)) == 2
        assert aliases.overwritten_by(uncertain) == frozenset()

    def test_empty_is_uninitialised_and_zeros_is_not(self) -> None:
        program = traced(lambda x: (torch.empty_like(x), torch.zeros_like(x)), X)
        aliases = passes.aliases(program)
        found = {s.name for op in program.walk() for s in aliases.uninitialised_by(op)}
        assert found == {"empty_like"}


class TestRegions:
    """Sub-graphs: what branches return, what loops carry."""

    def test_a_branch_may_return_an_alias_or_not(self) -> None:
        def either(x: Tensor, flag: Tensor) -> Any:
            return torch.cond(flag, lambda v: v.view(-1), lambda v: (v * 2).view(-1), (x,))

        program = exported(either, X, torch.tensor(True))
        aliases = passes.aliases(program)
        (result,) = program.outputs
        x = value(program, "args_0")
        assert aliases.may_alias(result, x)
        assert not aliases.must_alias(result, x)
        (storages,) = aliases.storages(program.op("cond"))
        assert ids(storages) == {"args_0", "cond/false/mul"}

    def test_one_of_two_and_one_of_the_same_two_need_not_be_the_same(self) -> None:
        def either(x: Tensor, y: Tensor, flag: Tensor) -> Any:
            first, second = lambda v, w: v.view(-1), lambda v, w: w.view(-1)
            a = torch.cond(flag, first, second, (x, y))
            return a, torch.cond(flag, second, first, (x, y))

        aliases = passes.aliases(program := exported(either, X, X.clone(), torch.tensor(True)))
        a, b = program.outputs
        assert {s.name for s in aliases.pointees(a)} == {"args_0", "args_1"}
        assert aliases.pointees(a) == aliases.pointees(b)
        assert not aliases.class_of(UNKNOWN).may_members
        assert aliases.may_alias(a, b)
        assert not aliases.must_alias(a, b)

    def test_only_the_branchs_own_operands_alias(self) -> None:
        """Not every operand of a `cond` is in its result's class."""

        def either(x: Tensor, y: Tensor, flag: Tensor) -> Any:
            return torch.cond(flag, lambda v, w: v + w, lambda v, w: w.view(4, 4), (x, y))

        program = exported(either, X, X.clone(), torch.tensor(True))
        aliases = passes.aliases(program)
        (result,) = program.outputs
        assert not aliases.may_alias(result, value(program, "args_0"))
        assert aliases.may_alias(result, value(program, "args_1"))

    def test_what_a_branch_writes_the_cond_writes(self) -> None:
        def writes(x: Tensor, flag: Tensor) -> Any:
            return torch.cond(flag, lambda v: v.add_(1).sum(), lambda v: v.sum(), (x,))

        program = exported(writes, X, torch.tensor(True))
        assert ids(passes.aliases(program).written_by(program.op("cond"))) == {"args_0"}

    def test_iterations_of_a_loop_are_told_apart(self) -> None:
        """The storage carried around is an earlier iteration's, not this one's."""
        from torch._higher_order_ops import while_loop

        def loop(x: Tensor) -> Any:
            return while_loop(  # type: ignore[no-untyped-call]  # torch's own
                lambda i, v: i < 3, lambda i, v: (i + 1, v * 2), (torch.tensor(0), x)
            )

        program = exported(loop, X)
        aliases = passes.aliases(program)
        mul = program.op("while_loop/body/mul")
        carried = next(v for v in program.values if v.name == "while_loop/cond/arg1_1")
        (new,) = mul.results
        assert not aliases.may_alias(new, carried)
        assert {s.name for s in aliases.pointees(carried)} == {
            "args_0",
            "while_loop/body/mul (earlier)",
        }
        assert not aliases.must_alias(carried, carried)


def test_an_op_nothing_is_known_of_may_do_anything() -> None:
    """No schema and no fake run: its result may be any storage, and it may write what it got."""

    def mystery(x: Tensor) -> Tensor:
        return torch.tensor(x.tolist())

    graph = fx.Graph()
    x = graph.placeholder("x")
    y = graph.call_function(mystery, (x,))
    graph.output(graph.call_method("add_", (y, 1)))
    program = passes.load(fx.GraphModule(nn.Module(), graph), X)
    aliases = passes.aliases(program)

    (op,) = [o for o in program.assumed if o.effects.origin is Origin.ANYTHING][:1]
    assert op.name == "mystery"
    assert ids(aliases.written_by(op)) == {"x"}
    (result,) = op.results
    assert UNKNOWN in aliases.pointees(result)
    assert aliases.may_alias(result, value(program, "x"))


def test_what_the_data_decides_has_no_size() -> None:
    program = traced(lambda x: torch.nonzero(x), X)
    (effect,) = program.op("nonzero").effects.results

    assert effect == Fresh(None, most=X.numel() * X.dim() * 8)
    assert [s.name for s in passes.memory(program).bounded] == ["nonzero"]


def test_values_and_ops_of_another_program_are_refused() -> None:
    one, other = traced(lambda x: x + 1, X), traced(lambda x: x + 1, X)

    with pytest.raises(KeyError, match="not an op of"):
        passes.aliases(one).storages(other.op("add"))
    with pytest.raises(KeyError, match="not a value of"):
        passes.aliases(one).pointees(value(other, "add"))


def test_why_a_value_is_a_storage() -> None:
    program = exported(lambda x: (x * 2).view(-1).add_(1).t(), torch.rand(2, 3))
    aliases = passes.aliases(program)
    lines = str(aliases.why(program.outputs[0])).splitlines()
    assert lines == [
        "{mul} of t: t = aten.t.default(add_)",
        "{mul} of add_: add_ = aten.add_.Tensor(view, 1)",
        "{mul} of view: view = aten.view.default(mul, [-1])",
        "{mul} of mul: mul = aten.mul.Tensor(args_0, 2), where it begins",
    ]


def test_why_what_comes_around_a_loop_is_a_storage() -> None:
    from torch._higher_order_ops import while_loop

    def step(i: Tensor, v: Tensor) -> Any:
        return i + 1, (v * 2).view(-1).add_(1).view(2, 3)

    def loop(x: Tensor) -> Any:
        return while_loop(lambda i, v: i < 3, step, (torch.tensor(0), x.cos()))[1]  # type: ignore[no-untyped-call]  # torch's own

    program = exported(loop, torch.rand(2, 3))
    lines = str(passes.aliases(program).why(value(program, "while_loop/body/arg1_1"))).splitlines()
    body = "while_loop/body"
    assert lines[1:] == [
        "{cos, while_loop/body/mul (earlier)} of while_loop/cond/arg1_1: together",
        f"- {{{body}/mul (earlier)}} of while_loop/cond/arg1_1: back",
        f"  {{{body}/mul}} of {body}/view_1: {body}/view_1 = aten.view.default(add_, [2, 3])",
        f"  {{{body}/mul}} of {body}/add_: {body}/add_ = aten.add_.Tensor(view, 1)",
        f"  {{{body}/mul}} of {body}/view: {body}/view = aten.view.default(mul, [-1])",
        f"  {{{body}/mul}} of {body}/mul: {body}/mul = aten.mul.Tensor(arg1_1, 2), where it begins",
        "- {cos} of while_loop/cond/arg1_1: enter",
        "  {cos} of cos: cos = aten.cos.default(args_0), where it begins",
    ]


class TestWritesInLoops:
    """What a region writes existed before its op, unless the op allocates it itself."""

    @staticmethod
    def _written(function: Callable[..., Any]) -> dict[str, set[str]]:
        program = exported(function, X)
        aliases = passes.aliases(program)
        written = {op.name: ids(aliases.written_by(op)) for op in program.walk()}
        return {name: found for name, found in written.items() if found}

    def test_a_cond_in_a_loop_writes_what_it_allocated_in_an_earlier_iteration(self) -> None:
        from torch._higher_order_ops import while_loop

        def step(i: Tensor, v: Tensor) -> Any:
            new = torch.cond(i > 1, lambda a: a.add_(1).sin(), lambda a: a.cos(), (v,))
            return i + 1, new

        def loop(x: Tensor) -> Any:
            return while_loop(lambda i, v: i < 3, step, (torch.tensor(0), x * 2))  # type: ignore[no-untyped-call]  # torch's own

        cond = "while_loop/body/cond"
        before = {"mul", f"{cond}/true/sin (earlier)", f"{cond}/false/cos (earlier)"}
        assert self._written(loop) == {
            f"{cond}/true/add_": before,
            cond: before,
            "while_loop": {"mul"},
        }

    def test_what_is_allocated_and_written_in_one_iteration_did_not_exist_before(self) -> None:
        from torch._higher_order_ops import while_loop

        def step(i: Tensor, v: Tensor) -> Any:
            new = torch.cond(i > 1, lambda a: a.sin().add_(1), lambda a: a.cos(), (v,))
            return i + 1, new

        def loop(x: Tensor) -> Any:
            return while_loop(lambda i, v: i < 3, step, (torch.tensor(0), x * 2))  # type: ignore[no-untyped-call]  # torch's own

        cond = "while_loop/body/cond"
        assert self._written(loop) == {f"{cond}/true/add_": {f"{cond}/true/sin"}}

    def test_a_loop_in_a_loop_writes_what_it_allocated_for_the_outer_one(self) -> None:
        from torch._higher_order_ops import while_loop

        def inner(i: Tensor, v: Tensor) -> Any:
            return i + 1, v.add_(1).sin()

        def outer(i: Tensor, v: Tensor) -> Any:
            _, new = while_loop(lambda i, v: i < 3, inner, (i * 1, v))  # type: ignore[no-untyped-call]  # torch's own
            return i + 1, new

        def loops(x: Tensor) -> Any:
            return while_loop(lambda i, v: i < 3, outer, (torch.tensor(0), x * 2))  # type: ignore[no-untyped-call]  # torch's own

        written = self._written(loops)
        inside = "while_loop/body/while_loop"
        assert written[inside] >= {"mul", f"{inside}/body/sin (earlier)"}
        assert written["while_loop"] == {"mul"}

    def test_a_loop_in_a_branch_runs_once_and_what_it_allocates_did_not_exist_before(self) -> None:
        from torch._higher_order_ops import while_loop

        def step(i: Tensor, v: Tensor) -> Any:
            return i + 1, v.add_(1).sin()

        def branch(x: Tensor) -> Any:
            start = torch.tensor(0)
            return while_loop(lambda i, v: i < 3, step, (start, x.cos()))[1]  # type: ignore[no-untyped-call]  # torch's own

        written = self._written(lambda x: torch.cond(x.sum() > 0, branch, torch.sin, (x,)))
        inside = "cond/true/while_loop"
        assert written == {
            f"{inside}/body/add_": {"cond/true/cos", f"{inside}/body/sin (earlier)"},
            inside: {"cond/true/cos"},
        }


def _mystery(x: Tensor) -> Tensor:
    return torch.tensor(x.tolist())


def test_what_an_unknown_op_was_handed_before_a_later_one_may_write() -> None:
    """The first may have kept `x`, and the second may know it; no other op does."""
    graph = fx.Graph()
    x, y, z = (graph.placeholder(name) for name in "xyz")
    graph.call_function(_mystery, (x,))
    graph.call_method("add_", (z, 1))
    graph.call_function(_mystery, (y,))
    graph.output(graph.call_method("neg", (z,)))
    program = passes.load(fx.GraphModule(nn.Module(), graph), X, X.clone(), X.clone())
    aliases = passes.aliases(program)
    first, second = [op for op in program.assumed if op.effects.origin is Origin.ANYTHING]
    assert ids(aliases.written_by(first)) == {"x"}
    assert ids(aliases.written_by(second)) == {"x", "y"}
    assert ids(aliases.written_by(program.op("add_"))) == {"z"}


def test_what_an_unknown_op_was_handed_in_an_earlier_iteration_may_be_written() -> None:
    """Of two in a loop the second comes before the first, the next time around."""
    aten, graph, root = torch.ops.aten, fx.Graph(), nn.Module()
    for name in ("cond", "body"):
        inner = fx.Graph()
        i, v, w = (inner.placeholder(letter) for letter in "ivw")
        if name == "cond":
            inner.output(inner.call_function(aten.lt.Scalar, (i, 3)))
        else:
            inner.call_function(_mystery, (v,))
            inner.call_function(_mystery, (w,))
            onward = inner.call_function(aten.add.Scalar, (i, 1))
            inner.output((onward, inner.call_function(aten.clone.default, (v,))))
        setattr(root, name, fx.GraphModule({}, inner))
    names = ("x", "y", "z", "other", "first")
    x, y, z, other, first = (graph.placeholder(name) for name in names)
    graph.call_function(_mystery, (first,))
    parts = (graph.get_attr("cond"), graph.get_attr("body"))
    graph.call_function(torch.ops.higher_order.while_loop, (*parts, (x, y), (z,)))
    graph.call_function(_mystery, (other,))
    graph.output(())
    inputs = torch.tensor(0), *(X.clone() for _ in "yzof")
    program = passes.load(fx.GraphModule(root, graph), *inputs)
    aliases = passes.aliases(program)
    inside = [op for op in program.all_ops if op.name.startswith("while_loop/body/_mystery")]
    carried = "while_loop/body/clone_default (earlier)"
    assert [ids(aliases.written_by(op)) for op in inside] == [{"first", "y", "z", carried}] * 2
    before = next(op for op in program.ops if op.name == "_mystery")
    assert ids(aliases.written_by(before)) == {"first"}
    assert "other" not in ids(aliases.written_by(program.op("while_loop")))


@pytest.mark.parametrize(
    ("target", "origin"),
    [
        (torch.ops.aten.neg.default, Origin.SCHEMA),
        (torch.ops.aten.flatten.using_ints, Origin.DECLARED),  # its operand or a copy
    ],
)
def test_an_unknown_op_knows_nothing_of_what_ops_with_a_schema_were_handed(
    target: Callable[..., object], origin: Origin
) -> None:
    graph = fx.Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    graph.call_function(target, (x,))
    graph.output(graph.call_function(_mystery, (y,)))
    module = fx.GraphModule(nn.Module(), graph)
    program = passes.load(module, X, X.clone(), effects="declared")
    assert [op.effects.origin for op in program.ops[2:4]] == [origin, Origin.ANYTHING]
    assert ids(passes.aliases(program).written_by(program.ops[3])) == {"y"}


def test_what_earlier_iterations_made_is_not_overwritten_as_a_whole() -> None:
    """`fill_` gets to one of them."""
    program = traced(lambda x: x.fill_(1.0), X)
    (fill,) = (op for op in program.ops if op.effects.overwrites)
    x, filled = program.values
    for fact, overwritten in ((x.index, {"x"}), (earlier(filled.index), set())):
        aliases = Aliases(program, Allocations(program), [fact, fact])
        assert {storage.name for storage in aliases.overwritten_by(fill)} == overwritten


def test_nothing_must_be_what_stands_for_many_allocations() -> None:
    program = traced(lambda x: x + 1, X)
    x, add = program.values
    aliases = Aliases(program, Allocations(program), [earlier(add.index), earlier(add.index)])
    assert aliases.may_alias(x, add)
    assert not aliases.must_alias(x, add)
    assert aliases.uncertain == (x, add)
    assert [s.name for s in aliases.all_storages] == ["x", "add", "add (earlier)"]
    assert not any(found.members for found in aliases.classes)
    assert Aliases(program, Allocations(program), [ANY, add.index]).uncertain == (x,)
    assert passes.aliases(program).uncertain == ()


def test_what_may_be_any_storage_may_alias_all_and_must_alias_none() -> None:
    graph = fx.Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    made = graph.call_function(_mystery, (x,))
    graph.output((made, graph.call_method("neg", (y,))))
    program = passes.load(fx.GraphModule(nn.Module(), graph), X, X.clone())
    aliases = passes.aliases(program)
    result, known = value(program, made.name), value(program, "y")
    for one, other in ((result, known), (known, result)):
        assert aliases.may_alias(one, other)
        assert not aliases.must_alias(one, other)
    assert not aliases.must_alias(result, result)
    assert aliases.must_alias(known, known)
    assert result in aliases.uncertain
    assert known not in aliases.uncertain
    assert result in aliases.class_of(UNKNOWN).may_members
    (owner,) = [c for c in aliases.classes if c.id == "y"]
    assert (owner.members, result in owner.may_members) == (frozenset((known,)), True)


def test_values_that_are_not_the_programs_are_refused_whatever_their_number() -> None:
    long, short = traced(lambda x: x + 1 + 2 + 3, X), traced(lambda x: x + 1, X)
    strangers = [(short, other) for other in long.values] + [(long, short.outputs[0])]
    for program, other in strangers:
        for ask in (passes.aliases(program).pointees, passes.aliases(program).why):
            with pytest.raises(KeyError, match="not a value of"):
                ask(other)


@pytest.mark.parametrize("ask", ["written_by", "overwritten_by", "uninitialised_by"])
def test_an_op_of_another_program_is_refused(ask: str) -> None:
    one, other = traced(lambda x: x + 1, X), traced(lambda x: x + 1, X)
    with pytest.raises(KeyError, match="not an op of"):
        getattr(passes.aliases(one), ask)(other.op("add"))


def test_aliases_say_what_they_are_of() -> None:
    assert repr(passes.aliases(traced(lambda x: x + 1, X))).endswith(": 2 storage classes>")


class TestNames:
    """Storages have names of their own, as short as they were where no two are alike."""

    @staticmethod
    def names(program: passes.Program) -> list[str]:
        return [found.id for found in passes.aliases(program).classes]

    def test_attributes_that_are_called_as_ops_or_inputs_are(self) -> None:
        class Named(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.add = nn.Parameter(torch.ones(3))
                self.register_buffer("mul", torch.zeros(3))
                self.register_buffer("x", torch.ones(3))
                self.register_buffer("rest", torch.ones(3))

            def forward(self, x: Tensor) -> Tensor:
                y = x * self.add
                self.get_buffer("mul").add_(1)
                return (y + self.get_buffer("mul")) * self.get_buffer("x") + self.get_buffer("rest")

        program = passes.load(torch.export.export(Named(), (torch.rand(3),)))
        assert self.names(program) == [
            "self.add", "self.mul", "self.x", "rest", "x", "mul", "add", "mul_1", "add_1",
        ]  # fmt: skip
        assert ids(passes.aliases(program).written_by(program.op("add_"))) == {"self.mul"}
        step = passes.load_training_step(Named(), lambda y: y.sum(), torch.optim.SGD, torch.rand(3))
        assert len(set(self.names(step))) == len(self.names(step))
        assert "self.x" in self.names(step)

    def test_short_where_nothing_is_alike(self) -> None:
        program = passes.load(torch.export.export(nn.Linear(4, 4), (X,)))
        assert self.names(program) == ["weight", "bias", "input", "linear"]

    def test_inputs_that_are_called_as_an_op_is(self) -> None:
        made = Allocations(traced(lambda x, y: x + y, X, X.clone()))
        first, second = made.owner.values()
        alike = evolve(first, name="add"), evolve(second, name="add")
        made.owner = dict(zip(made.owner, alike, strict=True))
        assert list(made.names.values()) == ["add", "add (input)", "add (input) 2"]
