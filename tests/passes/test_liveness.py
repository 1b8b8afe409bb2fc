"""When values and storages live: golden tables next to tiny programs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor, fx, nn

import passes
from passes import Program
from passes.program import Entry
from tests.passes.programs import exported, ids, traced, value

X = torch.rand(4, 4)


def _table(program: Program, live_at_exit: passes.LiveAtExit = "outputs") -> str:
    liveness = passes.liveness(program, live_at_exit)

    def names(values: frozenset[passes.Value]) -> str:
        return "{" + ", ".join(sorted(value.name for value in values)) + "}"

    return "\n".join(
        f"{op.name} {names(liveness.before(op))} {names(liveness.after(op))}"
        for op in program.walk()
    )


def _chain(x: Tensor) -> Tensor:
    a = x * 2
    b = a.view(-1)
    b.add_(1)
    c = a + 1
    return c.sum()


def test_values_die_at_their_last_use() -> None:
    """`a` lives past its view `b`, for the sake of `c`; the result of `add_` is not used."""
    assert _table(traced(_chain, X)) == "\n".join(
        [
            "x {x} {x}",
            "mul {x} {mul}",
            "view {mul} {mul, view}",
            "add_ {mul, view} {mul}",
            "add {mul} {add}",
            "sum_1 {add} {sum_1}",
            "output {sum_1} {sum_1}",
        ]
    )


def test_everything_lives_to_the_end_of_a_training_step() -> None:
    table = _table(traced(_chain, X), "all").splitlines()
    assert table[-1].endswith("{add, add_, mul, sum_1, view, x}")


def test_an_input_that_is_written_is_live_at_exit() -> None:
    """The caller sees it; one that is only read is not."""

    def step(x: Tensor, y: Tensor) -> Tensor:
        x.add_(y)
        return y.sum()

    program = traced(step, X.clone(), X.clone())
    last = program.ops[-1]
    assert {v.name for v in passes.liveness(program).after(last)} == {"x", "sum_1"}


def test_an_input_written_through_a_view_is_live_at_exit() -> None:
    program = traced(lambda x: x[0].zero_().sum(), X.clone())
    assert "x" in {v.name for v in passes.liveness(program).after(program.ops[-1])}


def _mystery(x: Tensor) -> Tensor:
    return torch.tensor(x.tolist())


@pytest.mark.parametrize("writes", [True, False])
def test_every_input_is_live_at_exit_if_it_is_not_known_what_is_written(writes: bool) -> None:
    """What the unknown op returns may be any storage; one that is not written changes none."""
    graph = fx.Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    made = graph.call_function(_mystery, (x,))
    if writes:
        graph.call_method("add_", (made, 1))
    graph.output(graph.call_method("neg", (y,)))
    program = passes.load(fx.GraphModule(nn.Module(), graph), X, X.clone())
    at_exit = {v.name for v in passes.liveness(program).after(program.ops[-1])}
    assert ("y" in at_exit) == writes


def test_a_storage_lives_as_long_as_any_view_of_it() -> None:
    def views(x: Tensor) -> Tensor:
        a = x * 2
        v = a.view(-1)
        b = x + 1
        return b.sum() + v.sum()

    program = traced(views, X)
    liveness = passes.liveness(program)
    (mul,) = [c for c in passes.aliases(program).classes if c.id == "mul"]
    assert liveness.range(mul).intervals == ((program.op("mul").index, program.op("sum_2").index),)
    assert ids(liveness.classes(program.op("sum_1"))) == {"add", "sum_1", "mul"}


def test_a_dead_result_lives_at_its_op_alone() -> None:
    def dead(x: Tensor) -> Tensor:
        x * 3
        return x + 1

    program = traced(dead, X)
    (mul,) = [c for c in passes.aliases(program).classes if c.id == "mul"]
    live = passes.liveness(program).range(mul)
    assert (live.first, live.last) == (1, 1)
    assert 1 in live
    assert 2 not in live


def test_containers_keep_all_their_leaves() -> None:
    """`getitem` uses the whole container, so both halves live until the last of them."""

    def halves(x: Tensor) -> Tensor:
        parts = torch.unbind(x * 2)
        first = parts[0] + 1
        return first + parts[1]

    program = traced(halves, torch.rand(2, 4))
    live = passes.liveness(program).after(program.op("add"))
    assert {"unbind[0]", "unbind[1]"} <= {v.name for v in live}


class TestRegions:
    """Inside sub-graphs and around them."""

    @staticmethod
    def _cond() -> Program:
        def either(x: Tensor, flag: Tensor) -> Any:
            kept = x * 3
            found = torch.cond(flag, lambda v: (v * 2).sin(), lambda v: v.cos(), (x,))
            return found + kept

        return exported(either, X, torch.tensor(True))

    def test_what_is_used_afterwards_lives_through_both_branches(self) -> None:
        program = self._cond()
        liveness = passes.liveness(program)
        for name in ("cond/true/sin", "cond/false/cos"):
            assert "mul" in {v.name for v in liveness.before(program.op(name))}

    def test_one_branchs_values_are_not_live_in_the_other(self) -> None:
        program = self._cond()
        live = passes.liveness(program).classes(program.op("cond/false/cos"))
        assert not {i for i in ids(live) if i.startswith("cond/true")}

    def test_a_branchs_result_lives_on_as_the_conds(self) -> None:
        program = self._cond()
        (sin,) = [c for c in passes.aliases(program).classes if c.id == "cond/true/sin"]
        live = passes.liveness(program).range(sin)
        assert program.op("cond/true/sin").index in live
        assert program.op("cond/false/cos").index not in live
        assert program.op("add").index in live

    def test_before_a_cond_is_before_its_branches(self) -> None:
        program = self._cond()
        before = passes.liveness(program).before(program.op("cond"))
        assert {v.name for v in before} == {"args_0", "args_1", "mul"}

    def test_regions_are_held_while_they_run(self) -> None:
        """A region's input lives to its end though its last use is earlier."""
        program = self._cond()
        live = passes.liveness(program).before(program.op("cond/true/sin"))
        assert "cond/true/args_0" in {v.name.rsplit("_1", 1)[0] for v in live}


def test_points_can_be_asked_in_any_order() -> None:
    class Deep(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(20):
                x = x.relu() + x
            return x

    program = passes.load(Deep(), X)
    liveness = passes.liveness(program)
    ops = list(program.walk())
    forward = [(liveness.before(op), liveness.after(op)) for op in ops]
    backward = [(liveness.before(op), liveness.after(op)) for op in reversed(ops)]
    jumps = [(liveness.before(op), liveness.after(op)) for op in ops[::7] + ops[::3]]
    assert forward == backward[::-1]
    assert jumps == [*forward[::7], *forward[::3]]


def test_an_unknown_exit_is_refused() -> None:
    with pytest.raises(ValueError, match="'outputs' or 'all'"):
        passes.liveness(traced(_chain, X), "some")  # type: ignore[arg-type]  # on purpose


def test_who_uses_a_value_and_what_is_live_at_exit() -> None:
    program = traced(lambda x: (x + 1, (x * 2).sum())[0], torch.rand(4))
    liveness = passes.liveness(program)
    x, add, mul = (value(program, name) for name in ("x", "add", "mul"))
    assert [op.name for op in liveness.users[x]] == ["add", "mul"]
    assert [op.name for op in liveness.users[mul]] == ["sum_1"]
    assert [liveness.is_live_at_exit(found) for found in (x, add, mul)] == [False, True, False]
    assert all(map(passes.liveness(program, "all").is_live_at_exit, (x, add, mul)))


def test_what_a_loop_stacks_is_there_while_it_runs_used_or_not() -> None:
    body, graph, root = fx.Graph(), fx.Graph(), nn.Module()
    carry, row = body.placeholder("carry"), body.placeholder("row")
    onward = body.call_function(torch.ops.aten.add.Tensor, (carry, row))
    body.output([onward, body.call_function(torch.ops.aten.neg.default, (carry,))])
    root.body = fx.GraphModule({}, body)
    x, start = graph.placeholder("x"), graph.placeholder("start")
    parts = (graph.get_attr("body"), [start], [x], ())
    graph.call_function(torch.ops.higher_order.scan, parts)
    graph.output(x)
    program = passes.load(fx.GraphModule(root, graph), X, X[0])
    op = next(op for op in program.ops if op.regions)
    _, stacked = op.results
    assert passes.liveness(program).span(stacked) == (op.first_index, op.index)


def test_an_input_that_is_given_away_is_not_live_at_exit() -> None:
    """The caller does not look at what is written into it."""
    program = traced(lambda x: x.add_(1).sum(), X)
    (entry,) = program.entry.values
    given = evolve(program, entry=Entry((evolve(entry, donated=True),), program.entry.sharing))
    found = [passes.liveness(p).is_live_at_exit(entry.value) for p in (program, given)]
    assert found == [True, False]


@pytest.mark.parametrize("ask", ["before", "after", "around", "classes"])
def test_an_op_of_another_program_is_refused(ask: str) -> None:
    one, other = traced(lambda x: x + 1, X), traced(lambda x: x + 1, X)
    with pytest.raises(KeyError, match="not an op of"):
        getattr(passes.liveness(one), ask)(other.op("add"))


def test_a_value_or_class_of_another_program_is_refused() -> None:
    one, other = traced(lambda x: x + 1, X), traced(lambda x: x + 1, X)
    found = passes.liveness(one)
    with pytest.raises(KeyError, match="not a value of"):
        found.span(value(other, "add"))
    with pytest.raises(KeyError, match="not a value of"):
        found.is_live_at_exit(value(other, "add"))
    with pytest.raises(KeyError):
        found.range(passes.aliases(other).classes[0])
    with pytest.raises(TypeError, match="takes a Program, and was given a int"):
        passes.Liveness.of(3)  # type: ignore[arg-type]  # on purpose


def test_liveness_says_what_it_is_of() -> None:
    program = traced(_chain, X)
    assert repr(passes.liveness(program, "all")) == "<Liveness of _chain, live at exit: all>"
