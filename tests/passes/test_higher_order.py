"""Operators around other operators and around sub-graphs, as captures leave them."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
import torch
import torch._prims.rng_prims
from torch import Tensor, nn
from torch.fx import Graph, GraphModule
from torch.library import custom_op

import passes
from passes import UNKNOWN, CaptureError, Program
from passes.program import Origin
from tests.oracle.run import observe

X = torch.arange(16.0).view(4, 4)


class Calls(nn.Module):
    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> object:
        return self.function(*args)


def exported(function: Callable[..., object], *args: Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(Calls(function), args)


@custom_op("higher_order_test::grow", mutates_args={"x"})
def grow(x: Tensor, y: Tensor) -> Tensor:
    x.add_(y)
    return x.sum(0)


@grow.register_fake
def _(x: Tensor, y: Tensor) -> Tensor:
    return x.new_empty(x.shape[1:])


def grows(x: Tensor, y: Tensor) -> Tensor:
    z = x * 2
    found: Tensor = grow(z.view(-1, 4)[1:], y[1:])
    return found + z.sum(0)


def test_a_functionalized_write_is_a_write_to_a_copy() -> None:
    program = passes.load(exported(grows, X, X.clone()).run_decompositions())
    op = program.op("auto_functionalized_v2")
    aliases = passes.aliases(program)
    assert op.effects.origin is Origin.OBSERVED
    assert not aliases.written_by(op)
    one, copy = op.results
    assert [s.name for s in aliases.pointees(one)] == ["auto_functionalized_v2[0]"]
    assert [s.nbytes for s in aliases.pointees(copy)] == [64]
    assert not aliases.may_alias(copy, program.op("mul").results[0])
    assert not program.assumed


def test_the_same_write_before_it_is_functionalized() -> None:
    program = passes.load(exported(grows, X, X.clone()))
    assert [c.id for c in passes.aliases(program).written_by(program.op("grow"))] == ["mul"]


def test_out_dtype_makes_what_its_operator_makes() -> None:
    operator = torch.ops.higher_order.out_dtype

    def function(x: Tensor, y: Tensor) -> object:
        return operator(torch.ops.aten.mm.default, torch.int32, x, y)

    small = torch.ones(4, 4, dtype=torch.int8)
    program = passes.load(exported(function, small, small.clone()))
    assert passes.memory(program).timeline == (0, 0, 64, 64)
    assert not program.assumed


def test_an_effect_has_a_token_and_what_its_operator_returns() -> None:
    def function(x: Tensor) -> Tensor:
        torch.ops.aten._print("here")
        return x + 1

    program = passes.load(exported(function, X).run_decompositions())
    assert [op.target for op in program.ops[2:4]] == ["with_effects", "operator.getitem"]
    assert not program.assumed


@torch.compiler.nested_compile_region
def step(x: Tensor) -> Tensor:
    return (x + 1).sin()


def test_three_calls_of_one_sub_graph_are_three_allocations() -> None:
    graphs: list[GraphModule] = []

    def backend(graph: GraphModule, _: object) -> GraphModule:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    run = torch.compile(Calls(lambda x: step(step(step(x)))), backend=backend, fullgraph=True)
    with torch.no_grad():
        run(X)
    torch._dynamo.reset()
    program = passes.load(graphs[0], X)
    sines = [op for op in program.all_ops if op.name.endswith("/sin")]
    aliases = passes.aliases(program)
    storages = [aliases.pointees(op.results[0]) for op in sines]
    assert len(sines) == len(set(storages)) == 3
    assert max(passes.memory(program).timeline) == 3 * 64


# ------------------------------------------------------------------------- unlisted operators


class Unlisted(torch._ops.HigherOrderOperator):
    def __init__(self) -> None:
        super().__init__("higher_order_test_unlisted")  # type: ignore[no-untyped-call]  # torch's

    def __call__(self, *args: object) -> object:
        raise AssertionError("never run")


unlisted = Unlisted()


def with_unlisted() -> Program:
    body = Graph()
    inner = body.placeholder("a")
    body.output(body.call_method("add_", (body.call_method("view", (inner, 16)), 1)))
    root, graph = nn.Module(), Graph()
    root.body = GraphModule(nn.Module(), body)
    x = graph.placeholder("x")
    y = graph.call_method("add", (x, 1))
    z = graph.call_method("add", (x, 2))
    called = graph.call_function(unlisted, (graph.get_attr("body"), (y,)))
    graph.output((called, z))
    return passes.load(GraphModule(root, graph), X)


def test_an_unlisted_operator_may_do_anything_and_its_body_is_walked() -> None:
    program = with_unlisted()
    op = program.op("higher_order_test_unlisted")
    aliases = passes.aliases(program)
    assert op.effects.origin is Origin.ANYTHING
    assert UNKNOWN in aliases.pointees(op.results[0])
    names = [inside.name.rpartition("/")[2] for inside in op.regions[0].ops]
    assert names == ["a", "view", "add_", "output"]
    inside = program.op("higher_order_test_unlisted/body0/a").results[0]
    assert aliases.may_alias(inside, program.op("add").results[0])
    written = aliases.storages_written_by(program.op("higher_order_test_unlisted/body0/add_"))
    assert UNKNOWN in written


def test_what_an_unlisted_operator_was_not_handed_it_does_not_write() -> None:
    program = with_unlisted()
    (untouched,) = passes.aliases(program).pointees(program.op("add_1").results[0])
    op = program.op("higher_order_test_unlisted")
    assert {op, *program.assumed} == set(program.assumed)
    assert untouched not in {c.storage for c in passes.aliases(program).written_by(op)}


# ----------------------------------------------------------------- what cannot be followed


def branch(function: str, *args: int) -> GraphModule:
    """`cond(p, a.function(*args).sum(), a.sum())` of a new tensor."""
    root, graph = nn.Module(), Graph()
    for name in ("yes", "no"):
        body = Graph()
        a = body.placeholder("a")
        changed = body.call_method(function, (a, *args)) if name == "yes" else a
        body.output((body.call_method("sum", (changed,)),))
        setattr(root, name, GraphModule(nn.Module(), body))
    p, x = graph.placeholder("p"), graph.placeholder("x")
    y = graph.call_method("add", (x, 1))
    bodies = graph.get_attr("yes"), graph.get_attr("no")
    graph.output(graph.call_function(torch.ops.higher_order.cond, (p, *bodies, (y,))))
    return GraphModule(root, graph)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("t_", ()), ("resize_", (8, 8)), ("unsqueeze_", (0,)), ("transpose_", (0, 1))],
)
def test_a_branch_that_gives_a_tensor_another_shape_is_refused(
    method: str, arguments: tuple[int, ...]
) -> None:
    with pytest.raises(CaptureError, match="cond/true/a comes from outside of its sub-graph"):
        passes.load(branch(method, *arguments), torch.tensor(True), X)


def test_a_branch_that_only_writes_is_not() -> None:
    program = passes.load(branch("mul_", 2), torch.tensor(True), X)
    assert [c.id for c in passes.aliases(program).written_by(program.op("cond"))] == ["add"]


def caught(
    function: Callable[..., object], *inputs: Tensor, backward: bool = False
) -> list[Program]:
    """The programs of a compiled run."""
    programs: list[Program] = []
    backend = passes.compile_backend(programs.append, backward=backward)
    torch._dynamo.reset()
    torch.compile(function, backend=backend)(*inputs)
    torch._dynamo.reset()
    return programs


def test_a_hook_does_nothing_until_the_backward_pass() -> None:
    def hooked(x: Tensor, y: Tensor) -> Tensor:
        z = x @ y
        z.register_hook(lambda gradient: gradient * 2)  # type: ignore[no-untyped-call]  # torch's own
        return z.sin()

    (program,) = caught(hooked, X.clone().requires_grad_(), X)
    assert not program.assumed
    (op,) = [op for op in program.ops if op.target == "register_hook"]
    aliases = passes.aliases(program)
    assert not op.regions
    assert not aliases.written_by(op)
    assert aliases.must_alias(op.results[0], program.op("z").results[0])


def test_what_prints_gives_nothing_and_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def prints(x: Tensor) -> Tensor:
        y = x * 2
        torch.ops.higher_order.print("y is {}", y)
        return y.relu_()

    exported_program = exported(prints, X)
    programs = [passes.load(exported_program, effects=how) for how in ("observed", "declared")]
    program = passes.load(exported_program.run_decompositions())
    assert "y is" not in capsys.readouterr().out
    for each in (*programs, program):
        assert not each.assumed
        (op,) = [op for op in each.ops if "print" in str(op.call)]
        assert not op.effects.writes
    assert [op.results for op in programs[0].ops if op.target == "print"] == [()]


def test_random_state_is_a_tensor_of_its_own() -> None:
    graph, operators = Graph(), torch.ops.higher_order
    x = graph.placeholder("x")
    dropped = (torch.ops.aten.native_dropout.default, x, 0.5, True)
    saved = graph.call_function(operators.run_and_save_rng_state, dropped)
    state = graph.call_function(operator.getitem, (saved, 0))
    again = graph.call_function(operators.run_with_rng_state, (state, *dropped))
    graph.output((graph.call_function(operator.getitem, (again, 0)),))
    module = GraphModule({}, graph)
    program = passes.load(module, X)
    assert not program.assumed
    memory, run = passes.memory(program), observe(module, [X])
    assert {op.name: memory.at(op) for op in program.ops} == run.alive


def chosen(row: Tensor) -> Tensor:
    found: Tensor = torch.cond(row.sum() > 10, torch.sin, torch.cos, (row,))
    return found


def mapped(x: Tensor) -> Tensor:
    return torch.vmap(chosen)(x)


@pytest.mark.parametrize("effects", ["observed", "declared"])
def test_a_branch_inside_a_transform_is_refused(effects: passes.EffectsKnown) -> None:
    (graph,) = graphs(mapped, X)
    with pytest.raises(CaptureError, match=r"cond.* is inside a transform such as vmap"):
        passes.load(graph, X, effects=effects)


def test_a_branch_is_not_refused_where_the_transform_is_done_or_before_it() -> None:
    (done,) = caught(mapped, X, backward=True)
    (graph,) = graphs(lambda x: chosen(torch.vmap(torch.sin)(x)), X)
    assert not done.assumed
    assert passes.load(graph, X).op("cond").regions


def graphs(function: Callable[..., object], *inputs: Tensor) -> list[GraphModule]:
    """The graphs that Dynamo hands to a backend."""
    found: list[GraphModule] = []

    def backend(graph: GraphModule, _: object) -> Callable[..., object]:
        found.append(graph)
        return graph.forward

    torch._dynamo.reset()
    torch.compile(function, backend=backend)(*inputs)
    torch._dynamo.reset()
    return found
