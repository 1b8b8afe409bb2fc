"""Bytes, counted by hand on tiny programs.  Every tensor here is 4x4 floats: 64 bytes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import passes
from passes.program import Role
from tests.passes.programs import exported, ids, traced

X = torch.rand(4, 4)


def _timeline(program: passes.Program) -> dict[str, int]:
    memory = passes.memory(program)
    return {op.name: memory.at(op) for op in program.walk()}


def test_a_chain_holds_operand_and_result() -> None:
    program = traced(lambda x: ((x * 2) * 3) * 4, X)
    assert _timeline(program) == {"x": 0, "mul": 64, "mul_1": 128, "mul_2": 128, "output": 64}
    memory = passes.memory(program)
    assert memory.peak_bytes == 128
    assert memory.peak_at is program.op("mul_1")


def test_in_place_and_views_cost_nothing() -> None:
    program = traced(lambda x: (x * 2).view(-1).relu_().add_(1), X)
    assert set(_timeline(program).values()) == {0, 64}


def test_a_view_keeps_its_whole_base() -> None:
    """One row is returned; 64 bytes stay."""
    assert _timeline(traced(lambda x: (x * 2)[0], X))["output"] == 64


def test_a_dead_result_counts_at_its_op_and_not_after() -> None:
    def dead(x: Tensor) -> Tensor:
        x * 3
        return x + 1

    assert _timeline(traced(dead, X)) == {"x": 0, "mul": 64, "add": 64, "output": 64}


def test_entry_storages_have_their_own_figures() -> None:
    memory = passes.memory(passes.load(nn.Linear(4, 4), X))
    assert memory.entry_bytes == {
        Role.INPUT: 64,
        Role.PARAMETER: 64 + 16,
        Role.BUFFER: 0,
        Role.CONSTANT: 0,
        Role.GRADIENT: 0,
        Role.STATE: 0,
    }
    assert memory.peak_bytes == 64


def test_inputs_that_share_storage_count_once() -> None:
    base = torch.rand(8, 4)
    memory = passes.memory(traced(lambda a, b: a + b, base[:4], base[4:]))
    assert memory.entry_bytes[Role.INPUT] == 128


def test_who_is_alive_at_the_peak_is_sorted_by_size() -> None:
    def grow(x: Tensor) -> Tensor:
        small = x.sum()
        big = torch.cat([x, x])
        return big * small

    memory = passes.memory(traced(grow, X))
    op = memory.peak_at
    assert op is not None
    assert [(c.id, c.nbytes) for c in memory.alive_at(op)] == [
        ("cat", 128),
        ("mul", 128),
        ("sum_1", 4),
    ]


class TestRegions:
    """Branches count their larger side; loops count two iterations of what they carry."""

    def test_a_cond_counts_the_larger_branch(self) -> None:
        def either(x: Tensor, flag: Tensor) -> Any:
            return torch.cond(
                flag, lambda v: torch.cat([v, v, v])[:4].clone(), lambda v: v + 1, (x,)
            ) * torch.tensor(2.0)

        timeline = _timeline(exported(either, X, torch.tensor(True)))
        assert timeline["cond/true/cat"] == 192
        assert timeline["cond/false/add"] == 64
        assert timeline["cond"] == 64

    def test_only_one_of_two_branches_results_is_held(self) -> None:
        def either(x: Tensor, flag: Tensor) -> Any:
            return torch.cond(flag, lambda v: torch.cat([v, v]), lambda v: torch.cat([v, -v]), (x,))

        assert _timeline(exported(either, X, torch.tensor(True)))["output"] == 128

    def test_a_loop_holds_the_old_carry_with_the_new(self) -> None:
        from torch._higher_order_ops import while_loop

        def loop(x: Tensor, i: Tensor) -> Any:
            result: Any = while_loop(  # type: ignore[no-untyped-call]  # torch's own
                lambda i, v: i < 3, lambda i, v: (i + 1, v * 2), (i, x)
            )
            return result[1]

        program = exported(loop, X, torch.tensor(0))
        timeline = _timeline(program)
        # The earlier iteration's i (8 bytes) and v (64), this one's, and the predicate.
        assert timeline["while_loop/body/add"] == 8 + 64 + 8 + 1
        assert timeline["while_loop/body/mul"] == 8 + 64 + 8 + 64 + 1
        assert timeline["output"] == 64


def test_results_are_computed_once_per_program() -> None:
    program = traced(lambda x: x + 1, X)
    assert passes.memory(program) is passes.memory(program)
    assert passes.aliases(program) is passes.memory(program).liveness.aliases


def test_an_unobserved_op_keeps_what_it_got() -> None:
    """It may hold on to its operands, so they count to the end."""

    def mystery(x: Tensor) -> Tensor:
        return torch.tensor(x.tolist())

    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    doubled = graph.call_function(torch.mul, (x, 2))
    graph.call_function(mystery, (doubled,))
    graph.output(graph.call_function(torch.add, (x, 1)))
    program = passes.load(torch.fx.GraphModule(nn.Module(), graph), X)
    assert "mul" in ids(passes.liveness(program).classes(program.ops[-1]))
    assert _timeline(program)["output"] == 128
