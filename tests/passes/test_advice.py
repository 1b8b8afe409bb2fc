"""Advice on tiny programs: what must be suggested, and what must not be.

Every suggestion that is made here is applied and run: results equal bit by bit, bytes held
at every op as claimed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from attrs import evolve
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

import passes
from passes import Program, Suggestion
from passes.advice.draft import Draft
from passes.advice.suggest import Kind
from tests.oracle.advised import assert_same, check
from tests.passes.programs import exported, traced

X = torch.rand(64, 64)
SMALL = torch.rand(64, 4)
KIB = 1024


def advised(program: Program, *inputs: Tensor, kind: Kind | None = None) -> list[Suggestion]:
    """The suggestions (of a kind), each run."""
    found = passes.advise(program).suggestions
    for suggestion in found:
        check(program, suggestion, inputs)
    return [suggestion for suggestion in found if kind in (None, suggestion.kind)]


def of(kind: Kind, function: Callable[..., Any], *inputs: Tensor) -> list[Suggestion]:
    """The suggestions of a kind for a traced function."""
    return advised(traced(function, *inputs), *inputs, kind=kind)


def ops(kind: Kind, function: Callable[..., Any], *inputs: Tensor) -> set[str]:
    """The ops that they change."""
    return {name for suggestion in of(kind, function, *inputs) for name in suggestion.ops}


class TestInPlace:
    def test_an_elementwise_op_whose_operand_dies(self) -> None:
        (found,) = of(Kind.IN_PLACE, lambda x, w: torch.relu(x @ x) @ w, X, SMALL)
        assert found.ops == ("relu",)
        assert found.saved_bytes == 15 * KIB  # then the first product is the peak
        assert found.apply().op("relu").target == "Tensor.relu_"

    @pytest.mark.parametrize(
        "function",
        [
            lambda x, w: F.relu(x @ x) @ w,
            lambda x, w: F.gelu(x @ x, approximate="tanh") @ w,
            lambda x, w: F.silu(x @ x) @ w,
            lambda x, w: (x @ x).sigmoid() @ w,
            lambda x, w: torch.clamp(x @ x, max=0.5) @ w,
            lambda x, w: ((x @ x) + 1) @ w,
            lambda x, w: (1 + (x @ x)) @ w,
            lambda x, w: ((x @ x) / x) @ w,
            lambda x, w: (x * (x @ x)) @ w,
            lambda x, w: (-(x @ x)) @ w,
            lambda x, w: ((x @ x) ** 2) @ w,
            lambda x, w: (x @ x).masked_fill(x > 0.5, 0.0) @ w,
        ],
    )
    def test_as_functions_methods_and_operators(self, function: Callable[..., Any]) -> None:
        assert of(Kind.IN_PLACE, function, X, SMALL)

    @pytest.mark.parametrize(
        "function",
        [
            lambda x, w: F.relu(x @ x) @ w,
            lambda x, w: F.gelu(x @ x, approximate="tanh") @ w,
            lambda x, w: torch.clamp(x @ x, max=0.5) @ w,
            lambda x, w: (x * (x @ x)) @ w,
        ],
    )
    def test_as_operators(self, function: Callable[..., Any]) -> None:
        module = make_fx(function)(X, SMALL)
        assert advised(passes.load(module, X, SMALL), X, SMALL, kind=Kind.IN_PLACE)

    def test_a_module(self) -> None:
        module = fx.symbolic_trace(
            nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4), nn.Softmax(-1))
        )
        (found,) = advised(passes.load(module, X), X, kind=Kind.IN_PLACE)
        assert found.ops == ("_1",)
        assert not module.get_submodule("1").inplace  # the user's own is as it was

    def test_a_chain_on_one_storage(self) -> None:
        def chain(x: Tensor, w: Tensor) -> Tensor:
            return torch.relu(x @ x).mul(2).tanh() @ w

        assert ops(Kind.IN_PLACE, chain, X, SMALL) == {"relu", "mul", "tanh"}

    @pytest.mark.parametrize(
        "function",
        [
            # The first operand is returned, used later, or a view of it is; the second dies.
            lambda x, w: (torch.sub(y := x @ x, x @ x) @ w, y),
            lambda x, w: (torch.sub(y := x @ x, x @ x) @ w, y[0]),
            lambda x, w: (torch.sub(y := x @ x, x @ x) @ w) + y[:, :4],
            lambda x, w: ((v := (y := x @ x)[1:2]), torch.sub(y, x @ x) @ w)[1] + v[:, :4],
            lambda x, w: ((v := (y := x @ x).t()), torch.sub(v, x @ x) @ w)[1] + y[:, :4],
            lambda x, w: torch.sub(x, x @ x) @ w,  # an input
            lambda x, w: torch.sub(x.t(), x @ x) @ w,
            lambda x, w: (x @ x).relu_() @ w,  # is in place
            lambda x, w: torch.relu(torch.relu(w[:, :1].t() + 1).expand(64, 64)) @ w,  # overlaps
            lambda x, w: ((x @ x) > 0.5).float() @ w,  # another type
            lambda x, w: ((x @ x).int() * 0.5) @ w,  # as above
            lambda x, w: (y := x @ x).t().add(y) @ w,  # is read elsewhere while written
            lambda x, w: (y := x @ x).add(y.t()) @ w,
            lambda x, w: (y := x @ x).add(y[:1]) @ w,
            lambda x, w: (x @ x).softmax(-1) @ w,  # not elementwise
            lambda x, w: (x @ x).cumsum(0) @ w,
        ],
    )
    def test_must_not_be(self, function: Callable[..., Any]) -> None:
        assert not ops(Kind.IN_PLACE, function, X, SMALL)

    def test_the_same_tensor_twice(self) -> None:
        def twice(x: Tensor, w: Tensor) -> Tensor:
            y = x @ x
            return torch.mul(y, y) @ w

        assert ops(Kind.IN_PLACE, twice, X, SMALL) == {"mul"}

    def test_not_what_is_saved_for_backward(self) -> None:
        model = nn.Sequential(nn.Linear(64, 64), nn.Sigmoid(), nn.Linear(64, 1))
        program = passes.load_training_step(model, lambda y: y.sum(), None, X)
        used = {value for op in program.ops if op.phase == "backward" for value in op.operands}
        for found in passes.advise(program).suggestions:
            if found.kind is Kind.IN_PLACE:
                changed = [program.op(name) for name in found.ops]
                assert used.isdisjoint(op.operands[0] for op in changed if op.phase == "forward")

    def test_not_a_parameter(self) -> None:
        module = fx.symbolic_trace(_Scaled())
        assert not advised(passes.load(module, X), X, kind=Kind.IN_PLACE)


class _Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sub(self.weight, x @ x).sum()


class TestReorder:
    def test_two_branches(self) -> None:
        def branches(x: Tensor, w: Tensor) -> Tensor:
            a = x @ x
            b = x @ a
            c = x + 1
            d = a + b
            return d @ w + c @ w

        assert of(Kind.REORDER, branches, X, SMALL) or of(Kind.FREE_EARLIER, branches, X, SMALL)

    def test_an_op_sooner(self) -> None:
        def late(x: Tensor, w: Tensor) -> Tensor:
            a = x @ x
            b = (a + 1) @ (x + 2)
            return a @ w + b @ w

        found = of(Kind.FREE_EARLIER, late, X, SMALL)
        assert [suggestion.ops for suggestion in found] == [("matmul_2",)]
        assert found[0].text.startswith("do sooner: matmul_2")

    def test_not_over_a_write_that_it_sees(self) -> None:
        def late(x: Tensor, w: Tensor) -> Tensor:
            a = x @ x
            b = (x + 1) @ (x + 2)
            a.mul_(2)
            return a @ w + b @ w

        program = traced(late, X, SMALL)
        for found in advised(program, X, SMALL):
            order = [op.name for op in found.apply().ops]
            assert order.index("mul_") < order.index("matmul_2")

    def test_not_over_a_write_through_a_view(self) -> None:
        def late(x: Tensor, w: Tensor) -> Tensor:
            a = x @ x
            b = (x + 1) @ (x + 2)
            a.view(-1)[5:].zero_()
            return a @ w + b @ w

        program = traced(late, X, SMALL)
        for found in advised(program, X, SMALL):
            order = [op.name for op in found.apply().ops]
            assert order.index("zero_") < order.index("matmul_2")

    def test_not_random_ops_among_themselves(self) -> None:
        def draws(x: Tensor, w: Tensor) -> Tensor:
            a = torch.rand_like(x)
            b = torch.rand_like(x) @ torch.rand_like(x)
            return a @ w + b @ w

        program = traced(draws, X, SMALL)
        for found in advised(program, X, SMALL):
            random = [op.name for op in found.apply().ops if "rand" in op.name]
            assert random == [op.name for op in program.ops if "rand" in op.name]

    def test_not_over_a_switch(self) -> None:
        graph = fx.Graph()
        x = graph.placeholder("x")
        early = graph.call_function(torch.neg, (x,))
        graph.call_function(torch._C._set_grad_enabled, (True,))
        total = graph.call_function(torch.sum, (graph.call_function(torch.cat, ([x, x],)),))
        graph.output(
            graph.call_function(torch.sum, (graph.call_function(torch.sub, (early, total)),))
        )
        program = passes.load(fx.GraphModule(nn.Module(), graph), X)
        for found in advised(program, X):
            names = [op.name for op in found.apply().ops]
            assert names.index("neg") < names.index("_set_grad_enabled") < names.index("cat")


class TestFreeEarlier:
    def test_a_small_view_that_keeps_a_large_storage(self) -> None:
        def last(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
            y = (x @ x)[-1]
            return y, (torch.cat([x, x]) @ w)

        found = of(Kind.FREE_EARLIER, last, X, SMALL)
        assert ("getitem",) in [suggestion.ops for suggestion in found]
        copied = next(s for s in found if s.ops == ("getitem",))
        assert copied.saved_bytes == 16 * KIB - 256
        assert copied.text.startswith("copy the part")

    def test_not_a_view_that_is_written_through(self) -> None:
        def last(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
            y = x @ x
            part = y[-1]
            z = torch.cat([x, x]) @ w
            y.zero_()
            return part, z

        found = of(Kind.FREE_EARLIER, last, X, SMALL)
        assert not any(s.text.startswith("copy") for s in found)

    def test_not_views_of_which_one_is_written(self) -> None:
        def last(x: Tensor, w: Tensor) -> Tensor:
            y = x @ x
            one, other = y[-1], y[-1:]
            z = torch.cat([x, x]) @ w
            other.zero_()
            return z + one.sum()

        found = of(Kind.FREE_EARLIER, last, X, SMALL)
        assert not any(s.text.startswith("copy") for s in found)

    def test_not_two_results_that_share(self) -> None:
        def last(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            y = x @ x
            return y[-1], y[-2:], torch.cat([x, x]) @ w

        found = of(Kind.FREE_EARLIER, last, X, SMALL)
        assert not any(s.text.startswith("copy") for s in found)

    def test_not_of_an_input(self) -> None:
        found = of(Kind.FREE_EARLIER, lambda x, w: (x[-1], torch.cat([x, x]) @ w), X, SMALL)
        assert not any(s.text.startswith("copy") for s in found)


class TestRecompute:
    def test_what_lives_over_the_peak(self) -> None:
        def across(x: Tensor) -> Tensor:
            a = x.exp()
            b = a @ x
            c = torch.cat([b, b, b]).sum(0)
            return a + c

        (found,) = of(Kind.RECOMPUTE, across, X)
        assert found.ops == ("exp",)
        assert found.saved_bytes == 16 * KIB
        assert found.extra_flops == 64 * 64

    def test_its_matrix_products_are_counted(self) -> None:
        def across(x: Tensor) -> Tensor:
            a = x @ x
            b = a.exp()
            c = torch.cat([b, b, b]).sum(0)
            return a + c

        (found,) = of(Kind.RECOMPUTE, across, X)
        assert found.extra_flops == 2 * 64**3

    @pytest.mark.parametrize(
        "make", [torch.rand_like, lambda x: F.dropout(x, 0.5, True), torch.bernoulli]
    )
    def test_not_random_numbers(self, make: Callable[[Tensor], Tensor]) -> None:
        def across(x: Tensor) -> Tensor:
            a = make(x)
            b = a @ x
            return a + torch.cat([b, b, b]).sum(0)

        assert not of(Kind.RECOMPUTE, across, X)

    def test_not_over_a_write_to_what_it_reads(self) -> None:
        def across(x: Tensor) -> Tensor:
            a = x.exp()
            b = a @ x
            c = torch.cat([b, b, b]).sum(0)
            x.zero_()
            return a + c

        assert not of(Kind.RECOMPUTE, across, X)

    @pytest.mark.parametrize(
        "write",
        [
            lambda a: a.add_(1),
            lambda a: (a.add_(1), a)[1],
            lambda a: (a.view(-1).add_(1), a)[1],
        ],
    )
    def test_not_what_was_written(self, write: Callable[[Tensor], Tensor]) -> None:
        def across(x: Tensor) -> Tensor:
            a = write(x.exp())
            b = a @ x
            return a + torch.cat([b, b, b]).sum(0)

        assert not of(Kind.RECOMPUTE, across, X)

    def test_not_outside_of_its_context(self) -> None:
        """A product is another one where autocast is off."""
        graph = fx.Graph()
        x = graph.placeholder("x")
        enter = torch.amp.autocast_mode._enter_autocast
        leave = torch.amp.autocast_mode._exit_autocast
        mode = graph.call_function(enter, ("cpu", torch.bfloat16, True, None))
        product = graph.call_function(torch.matmul, (x, x))
        graph.call_function(leave, (mode,))
        wide = graph.call_function(torch.cat, ([product] * 4,))
        total = graph.call_function(torch.sum, (graph.call_method("float", (wide,)),))
        graph.output(graph.call_function(torch.mul, (product, total)))
        program = passes.load(fx.GraphModule(nn.Module(), graph), X)
        assert not advised(program, X, kind=Kind.RECOMPUTE)

    def test_a_budget_ends_the_search(self) -> None:
        model = nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(32, 32), nn.Tanh())])
        x = torch.rand(512, 32)
        program = passes.load_training_step(model, lambda y: y.square().mean(), None, x)
        found = passes.advise(program).suggestions
        low = min(s.peak_bytes for s in found if s.kind is Kind.RECOMPUTE)
        peak = passes.advise(program).peak_bytes
        budget = (peak + low) // 2
        some = [
            s for s in passes.advise(program, budget=budget).suggestions if s.kind is Kind.RECOMPUTE
        ]
        assert low <= some[0].peak_bytes <= budget
        assert some[0].extra_flops < max(s.extra_flops for s in found)

    def test_whether_a_budget_is_reached(self) -> None:
        program = traced(lambda x: x.exp().neg(), torch.rand(64, 64))
        found = passes.advise(program)
        low, high = sorted(s.peak_bytes for s in found.suggestions)
        assert high < found.peak_bytes

        def answers(budget: int | None) -> tuple[int, bool]:
            advice = passes.advise(program, budget=budget)
            return len(advice.within_budget), advice.can_fit

        assert answers(None) == answers(found.peak_bytes) == answers(high) == (2, True)
        assert answers(high - 1) == answers(low) == (1, True)
        assert answers(low - 1) == (0, False)

    def test_a_budget_is_positive(self) -> None:
        with pytest.raises(passes.BudgetError, match="the budget is -1"):
            passes.advise(traced(lambda x: x + 1, X), budget=-1)


def test_a_trial_that_fails_is_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[logging.LogRecord] = []
    fakes = logging.getLogger("torch._subclasses.fake_tensor")
    monkeypatch.setattr(fakes, "handle", logged.append)
    # Complex numbers have no absolute value in place.
    program = exported(lambda x: (x + 1j).abs(), X)
    passes.advise(program)
    assert not logged


class TestDonate:
    def test_an_input_that_is_dead_at_the_peak(self) -> None:
        def grows(x: Tensor, w: Tensor) -> Tensor:
            y = x + 1
            return torch.cat([y, y]) @ w

        (found,) = of(Kind.DONATE, grows, X, SMALL)
        assert found.donated == ("x",)
        assert found.saved_bytes == 16 * KIB

    def test_its_place_is_taken(self) -> None:
        (found,) = of(Kind.DONATE, lambda x: torch.relu(x), X)
        assert (found.donated, found.ops, found.saved_bytes) == (("x",), ("relu",), 16 * KIB)

    def test_not_what_is_returned_or_written(self) -> None:
        assert not of(Kind.DONATE, lambda x: (x, torch.relu(x)), X)
        assert not of(Kind.DONATE, lambda x: (x.view(-1), torch.relu(x)), X)
        assert not of(Kind.DONATE, lambda x: (x.add_(1), torch.cat([x, x]))[1], X)

    def test_not_what_the_caller_copies_into(self) -> None:
        class Counts(nn.Module):
            def forward(self, x: Tensor, y: Tensor) -> Tensor:
                x.add_(1)
                z = y + 1
                return torch.cat([z, z]).sum(0)

        exported = torch.export.export(Counts(), (X.clone(), X)).run_decompositions({})
        program = passes.load(exported)
        assert {s.donated for s in advised(program, X, X)} & {("y",), ("x",), ("x", "y")} == {
            ("y",)
        }

    def test_not_parameters(self) -> None:
        program = passes.load(fx.symbolic_trace(_Scaled()), X)
        for found in advised(program, X, kind=Kind.DONATE):
            assert found.donated == ("x",)

    def test_not_a_parameter_that_is_dead(self) -> None:
        class Early(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.rand(64, 64))

            def forward(self, x: Tensor) -> Tensor:
                y = self.weight + 1
                return torch.cat([y, y, y]) @ x

        program = passes.load(fx.symbolic_trace(Early()), SMALL)
        assert not advised(program, SMALL, kind=Kind.DONATE)

    def test_not_what_the_caller_sees_written(self) -> None:
        def writes(x: Tensor, w: Tensor) -> Tensor:
            x.add_(1)
            return torch.sub(x, x @ x) @ w

        assert all("x" not in found.donated for found in of(Kind.DONATE, writes, X, SMALL))

    def test_what_took_its_place_dies_in_turn(self) -> None:
        def shrinks(x: Tensor, w: Tensor) -> Tensor:
            y = torch.relu(x) @ w
            return torch.cat([y] * 20).sum()

        (found,) = of(Kind.DONATE, shrinks, X, SMALL)
        assert (found.donated, found.ops) == (("x", "w"), ("relu",))

    def test_half_of_what_shares_is_not_given(self) -> None:
        base = torch.rand(64, 64)
        program = traced(lambda a, b: torch.cat([a + b] * 3), base, base.view(64, 64))
        one = program.entry.values[0].value
        given = evolve(Draft.of(program), donated=frozenset((one,))).program
        assert passes.memory(given).breakdown.total == passes.memory(program).breakdown.total

    def test_inputs_that_share_go_together(self) -> None:
        base = torch.rand(64, 64)
        program = traced(lambda a, b: torch.cat([a + b, a]).sum(0), base, base.view(64, 64))
        for found in passes.advise(program).suggestions:
            assert set(found.donated) in (set(), {"a", "b"})


class TestReuse:
    def test_a_result_that_duplicates_another(self) -> None:
        (found,) = of(Kind.REUSE, lambda x: (x @ x, x @ x), X)
        assert found.ops == ("matmul_1",)
        assert found.saved_bytes == 16 * KIB
        assert "write into neither" in found.text

    def test_a_chain_of_duplicates(self) -> None:
        def twice(x: Tensor) -> tuple[Tensor, Tensor]:
            return torch.cat([x, x]).relu(), torch.cat([x, x]).relu()

        assert ops(Kind.REUSE, twice, X) == {"cat_1", "relu_1"}

    def test_a_copy_that_nobody_writes(self) -> None:
        def copies(x: Tensor, w: Tensor) -> Tensor:
            y = x @ x
            return (y.clone() * y) @ w

        assert ops(Kind.REUSE, copies, X, SMALL) == {"clone"}

    @pytest.mark.parametrize(
        "function",
        [
            lambda x: (x.clone(), x @ x),  # of an input
            lambda x: ((y := x @ x).clone(), y),  # both returned
            lambda x: ((y := x @ x).clone().add_(1) * y).sum(),  # written
            lambda x: ((y := x @ x).clone(), y.add_(1))[0],  # the source is
            lambda x: (x @ x, x.add_(1), x @ x)[::2],  # another x
            lambda x: (torch.rand_like(x), torch.rand_like(x)),
            lambda x: (x + 1, x + 1.0, x + True),  # other arguments
            lambda x: (x + 0.0, x + -0.0),
            lambda x: ((a := x @ x), (b := x @ x).add_(1)),  # one of them is written
        ],
    )
    def test_must_not_be(self, function: Callable[..., Any]) -> None:
        assert not of(Kind.REUSE, function, X)

    def test_not_what_is_computed_from_another_state(self) -> None:
        def states(x: Tensor) -> tuple[Tensor, Tensor]:
            a = x.exp()
            x.add_(1)
            return a.relu(), x.exp().relu()

        assert not of(Kind.REUSE, states, X)

    def test_gradients_stay_apart(self) -> None:
        class Two(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b = (nn.Parameter(torch.rand(64, 64)) for _ in range(2))

            def forward(self, x: Tensor) -> Tensor:
                return (self.a * x).sum() + (self.b * x).sum()

        program = passes.load_training_step(Two(), lambda y: y, None, X)
        assert len({k.value.name for k in program.kept}) == 2
        for found in passes.advise(program).suggestions:
            changed = found.apply()
            aliases = passes.aliases(changed)
            assert not aliases.may_alias(*(known.value for known in changed.kept))


class TestAdvice:
    def test_is_ordered_by_bytes_saved(self) -> None:
        found = passes.advise(traced(lambda x: (x @ x, x @ x, torch.relu(x @ x)), X)).suggestions
        saved = [suggestion.saved_bytes for suggestion in found]
        assert saved == sorted(saved, reverse=True)
        assert len(saved) > 1

    def test_says_where_the_peak_is(self) -> None:
        advice = passes.advise(traced(lambda x, w: torch.relu(x @ x) @ w, X, SMALL))
        assert advice.peak_at is not None
        assert advice.peak_at.name == "relu"
        assert advice.peak_bytes == (16 + 1 + 16 + 16) * KIB

    def test_can_be_asked_of_what_it_made(self) -> None:
        program = traced(lambda x, w: (x @ x).exp().relu() @ w + (x @ x).exp() @ w, X, SMALL)
        steps = 0
        while found := [s for s in passes.advise(program).suggestions if not s.donated]:
            changed = check(program, found[0], (X, SMALL))
            assert passes.memory(changed).peak_bytes < passes.memory(program).peak_bytes
            program, steps = changed, steps + 1
        assert steps

    def test_there_is_none_where_nothing_is_known(self) -> None:
        sparse = torch.eye(4).to_sparse()
        advice = passes.advise(traced(lambda x: x.coalesce().to_dense().relu(), sparse))
        assert not advice.suggestions
        assert "anything" in advice.notes[0]

    def test_names_what_has_no_known_size(self) -> None:
        advice = passes.advise(traced(lambda x: torch.bincount(x.long().flatten()) + 1, X))
        assert "bincount" in " ".join(advice.notes)

    def test_of_an_empty_program(self) -> None:
        graph = fx.Graph()
        graph.output(())
        advice = passes.advise(passes.load(fx.GraphModule(nn.Module(), graph)))
        assert not advice.suggestions

    def test_leaves_sub_graphs_as_they_are(self) -> None:
        class Branches(nn.Module):
            def forward(self, x: Tensor) -> Any:
                return torch.cond(x.sum() > 0, lambda x: x.exp().relu(), lambda x: x + 1, (x,))

        program = passes.load(torch.export.export(Branches(), (X,)))
        advice = passes.advise(program)
        assert "sub-graphs are left as they are" in " ".join(advice.notes)
        for found in advice.suggestions:
            check(program, found, (X,))

    def test_rows(self) -> None:
        rows = passes.advise(traced(lambda x: (x @ x, x @ x), X)).to_rows()
        assert {row["kind"] for row in rows} >= {"reuse"}


class TestOtherSizes:
    """What holds only at the sizes that a dynamic program was loaded with is not relied on."""

    def test_not_in_place_of_what_is_a_view_at_other_sizes(self) -> None:
        def flat(x: Tensor) -> Tensor:
            z = x.transpose(0, 1).reshape(-1).exp()
            return (z * 2).sum() + x.sum()

        assert "exp" in ops(Kind.IN_PLACE, flat, X)
        assert held(flat, [(64, 64), (1, 64), (64, 1), (3, 2)], ROWS_AND_COLUMNS) == []
        told = passes.advise(dynamic(flat, X, ROWS_AND_COLUMNS)).notes
        assert told == (
            "as the sizes decide, these return an operand or a copy, and no change relies on "
            "either: reshape",
        )

    def test_not_before_a_write_to_what_is_viewed_at_other_sizes(self) -> None:
        def written(x: Tensor) -> Tensor:
            y = x.exp()
            flat = y.transpose(0, 1).reshape(-1)
            big = torch.cat([x, x, x])
            y.add_(1)
            return big.sum() + flat.sum() + y.sum()

        held(written, [(64, 64), (1, 64), (64, 1), (3, 2)], ROWS_AND_COLUMNS)

    def test_not_in_place_of_what_is_broadcast_at_other_sizes(self) -> None:
        def shared(x: Tensor, y: Tensor) -> Tensor:
            e, f = x.exp(), y.exp()
            return torch.add(e, f).mul(2).sum() + e.sum()

        inputs = torch.rand(1, 64), torch.rand(1, 64)
        program = passes.load(exported_dynamic(shared, (X, inputs[1]), ({0: "b"}, {})), *inputs)
        found = passes.advise(program).suggestions
        assert not any("add" in suggestion.ops for suggestion in found)
        assert any("add" in one.ops for one in passes.advise(exported(shared, *inputs)).suggestions)

    def test_no_copy_goes_that_has_another_layout_at_other_sizes(self) -> None:
        def laid_out(x: Tensor) -> Tensor:
            return x.exp().t().clone(memory_format=torch.contiguous_format).view(-1)

        row = torch.rand(1, 1)
        program = passes.load(exported_dynamic(laid_out, (X,), (ROWS_AND_COLUMNS,)), row)
        assert not any(s.kind is Kind.REUSE for s in passes.advise(program).suggestions)
        fixed = passes.advise(exported(laid_out, row)).suggestions
        assert any(s.kind is Kind.REUSE for s in fixed)

    def test_what_holds_at_every_size_is_suggested(self) -> None:
        def products(x: Tensor) -> Tensor:
            return torch.relu(x @ x.t()).sum(0)

        assert Kind.IN_PLACE in held(products, [(64, 64), (1, 64), (2, 3)], ROWS_AND_COLUMNS)

    def test_of_graphs_that_no_exporter_made(self) -> None:
        def flat(x: Tensor) -> Tensor:
            z = x.transpose(0, 1).reshape(-1).exp()
            return (z * 2).sum() + x.sum()

        graph = make_fx(flat, tracing_mode="symbolic", pre_dispatch=True)(X)
        program = passes.load(graph, X)
        assert program.dynamic is None
        for found in passes.advise(program).suggestions:
            changed = found.apply().graph
            assert isinstance(changed, fx.GraphModule)
            for shape in (64, 64), (1, 64), (64, 1):
                x = torch.rand(shape)
                before = x.clone()
                assert_same(changed(x), flat(before.clone()))
                assert torch.equal(x, before) or found.donated

    @pytest.mark.parametrize("hidden", ["function", "module"])
    def test_not_of_what_a_call_hides(self, hidden: str) -> None:
        graph = make_fx(lambda x: x.exp(), tracing_mode="symbolic")(X)
        (x,) = graph.graph.find_nodes(op="placeholder")
        (exp,) = [node for node in graph.graph.nodes if node.op == "call_function"]
        graph.add_submodule("flatten", nn.Flatten(0))
        with graph.graph.inserting_before(exp):
            if hidden == "module":
                made = graph.graph.call_module("flatten", (x,))
            else:
                made = graph.graph.call_function(_columns_first, (x,))
            made.meta["val"] = x.meta["val"].flatten()
            exp.args = (made,)
        with graph.graph.inserting_after(exp):
            total = graph.graph.call_function(torch.sum, (exp,))
        (output,) = graph.graph.find_nodes(op="output")
        output.args = ((total, x),)
        graph.recompile()
        program = passes.load(graph, X)
        assert program.sized == (made.name,)
        for found in passes.advise(program).suggestions:
            assert exp.name not in found.ops

    def test_a_changed_program_has_the_dynamic_dimensions(self) -> None:
        def products(x: Tensor) -> Tensor:
            return torch.relu(x @ x.t()).sum(0)

        program = dynamic(products, X, ROWS_AND_COLUMNS)
        before = passes.symbolic_memory(program)
        (found,) = [s for s in passes.advise(program).suggestions if s.kind is Kind.IN_PLACE]
        changed = found.apply()
        after = passes.symbolic_memory(changed)
        for rows in (2, 5, 100):
            sizes = {"rows": rows, "columns": 3}
            again = passes.load(changed.graph, torch.rand(rows, 3))
            assert after.at(**sizes).nbytes == passes.memory(again).peak_bytes
            assert after.at(**sizes).nbytes < before.at(**sizes).nbytes

    def test_a_changed_training_step_has_none(self) -> None:
        model = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        step = passes.load_training_step(
            model, lambda y: y.square().mean(), None, SMALL, dynamic={"input": {0: "b"}}
        )
        found = passes.advise(step).suggestions[0]
        assert step.dynamic is not None
        with pytest.raises(passes.ProgramError, match="is a training step of fixed sizes"):
            passes.symbolic_memory(found.apply())

    def test_of_fixed_sizes_the_note_says_so(self) -> None:
        note = "the changed programs are for inputs of the sizes that the program was loaded with"
        assert note in passes.advise(exported(lambda x: torch.relu(x @ x), X)).notes
        assert note not in passes.advise(dynamic(lambda x: x.exp() + 1, X, ROWS_AND_COLUMNS)).notes
        assert note not in passes.advise(exported(lambda: torch.ones(2))).notes


def _columns_first(x: Tensor) -> Tensor:
    return x.t().reshape(-1)


ROWS_AND_COLUMNS = {0: "rows", 1: "columns"}


def exported_dynamic(
    function: Callable[..., Any], inputs: tuple[Tensor, ...], sizes: tuple[dict[int, str], ...]
) -> torch.export.ExportedProgram:
    class Wrapped(nn.Module):
        def forward(self, *args: object) -> object:
            return function(*args)

    dims = tuple({place: torch.export.Dim(name) for place, name in one.items()} for one in sizes)
    return torch.export.export(Wrapped(), inputs, dynamic_shapes=(dims,), strict=False)


def dynamic(function: Callable[..., Any], x: Tensor, sizes: dict[int, str]) -> Program:
    """A function of one tensor, exported with dynamic sizes."""
    return passes.load(exported_dynamic(function, (x,), (sizes,)))


def held(
    function: Callable[..., Any], shapes: list[tuple[int, ...]], sizes: dict[int, str]
) -> list[Kind]:
    """The kinds of suggestions that the caller gives nothing away for, each run at some sizes."""
    found = passes.advise(dynamic(function, X, sizes)).suggestions
    kept = [suggestion for suggestion in found if not suggestion.donated]
    for suggestion in kept:
        graph = suggestion.apply().graph
        assert isinstance(graph, fx.GraphModule)
        for shape in shapes:
            x = torch.rand(shape)
            before = x.clone()
            assert_same(graph(x), (function(before.clone()),))
            assert torch.equal(x, before)
    return [suggestion.kind for suggestion in kept]
