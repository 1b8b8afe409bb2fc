"""What bytes are for, counted by hand on tiny steps and added up on others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn, optim

import passes
from passes import Breakdown, Category, Program
from tests.oracle.steps import STEPS
from tests.passes.programs import exported, traced

X = torch.rand(4, 4)


class _Square(nn.Module):
    """64 bytes of everything: parameter, input, product, square."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight).square().sum()


class _Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = _Square()

    def forward(self, x: Tensor) -> Any:
        return self.inner(x + 1)


def _step(model: nn.Module | None = None, **options: Any) -> Program:
    return passes.load_training_step(model or _Square(), None, optim.Adam, X, **options)


def _by_op(program: Program, category: Category) -> dict[str, int]:
    levels = passes.memory(program).breakdown.by_category[category]
    return {op.name: levels[op.index] for op in program.all_ops if op.operands}


def _adds_up(found: Breakdown) -> bool:
    return all(
        tuple(map(sum, zip(*timelines.values(), strict=True))) == found.total
        for timelines in (found.by_category, found.by_module, found.by_source)
    )


def test_what_exists_at_entry_counts_always() -> None:
    found = passes.memory(_step()).breakdown.by_category
    assert set(found[Category.PARAMETER]) == {64}
    assert set(found[Category.INPUT]) == {64}
    assert set(found[Category.STATE]) == {64 + 64 + 4}
    assert set(found[Category.BUFFER]) == {0}


def test_an_activation_lives_until_its_backward() -> None:
    held = _by_op(_step(), Category.ACTIVATION)
    assert held["mul"] == held["pow_1"] == held["sum_1"] == 64
    assert held["add_"] == 0
    assert max(held.values()) == 64


def test_what_only_the_forward_uses_is_temporary() -> None:
    held = _by_op(_step(), Category.TEMPORARY)
    assert held["mul"] == 0
    assert held["pow_1"] == held["sum_1"] == 64  # the square, which sum reads


def test_gradients_count_from_their_allocation_to_the_end() -> None:
    program = _step()
    held = passes.memory(program).breakdown.by_category[Category.GRADIENT]
    first = next(index for index, nbytes in enumerate(held) if nbytes)
    assert program.all_ops[first].phase == "backward"
    assert set(held[first:]) == {64}


def test_gradients_that_stay_count_always() -> None:
    held = passes.memory(_step(zero_grad="never")).breakdown.by_category[Category.GRADIENT]
    assert set(held) == {64}


def test_the_loss_is_an_output() -> None:
    program = _step()
    assert _by_op(program, Category.OUTPUT)["output"] == 4
    assert max(_by_op(program, Category.OUTPUT).values()) == 4


def test_inference_has_outputs_and_temporaries_only() -> None:
    def double(x: Tensor) -> Tensor:
        return (x * 2).sin() * 2

    program = exported(double, X)
    found = passes.memory(program).breakdown.by_category
    held = {category for category, levels in found.items() if any(levels)}
    assert held == {Category.INPUT, Category.TEMPORARY, Category.OUTPUT}


def test_an_output_that_is_an_input_is_an_input() -> None:
    found = passes.memory(traced(lambda x: x.view(-1), X)).breakdown.by_category
    assert not any(found[Category.OUTPUT])
    assert set(found[Category.INPUT]) == {64}


def test_modules_hold_what_they_allocate_and_own() -> None:
    program = _step(_Outer())
    found = passes.memory(program).breakdown
    assert set(found.by_module) == {"", "inner"}
    # parameter, state, and at most an activation and a square
    assert found.by_module["inner"][0] == 64 + (64 + 64 + 4)
    assert found.by_module["inner"][program.op("sum_1").index] == 64 + 132 + 64 + 64 + 4


def test_lines_hold_what_they_allocate() -> None:
    found = passes.memory(_step(_Outer())).breakdown.by_source
    [line] = [line for line in found if "self.inner(x + 1)" in line]
    assert max(found[line]) == 64
    [line] = [line for line in found if "(x * self.weight)" in line]
    assert max(found[line]) >= 128


def test_everything_alive_at_the_peak_is_named() -> None:
    program = _step()
    memory = passes.memory(program)
    assert memory.peak_at is not None
    alive = memory.breakdown.at(memory.peak_at)
    assert sum(one.nbytes for one in alive) == memory.breakdown.total[memory.peak_at.index]
    assert {one.name for one in alive} >= {"weight", "x", "optimizer.exp_avg.weight"}
    assert [one.nbytes for one in alive] == sorted((one.nbytes for one in alive), reverse=True)


def test_a_branch_adds_up_too() -> None:
    def branch(x: Tensor) -> Any:
        made = torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,))
        return made * 2

    assert _adds_up(passes.memory(exported(branch, X)).breakdown)


def _steps() -> Iterator[Program]:
    for name in ("messages", "variational", "cnn_accumulating", "checkpointed"):
        case = STEPS[name]()
        yield passes.load_training_step(
            case.model, case.loss, case.optimizer, *case.inputs, zero_grad=case.zero_grad
        )


def test_timelines_add_up() -> None:
    for program in _steps():
        memory = passes.memory(program)
        found = memory.breakdown
        assert _adds_up(found)
        entry = sum(memory.entry_bytes.values())
        assert found.total == tuple(level + entry for level in memory.timeline)


def test_a_joint_graph_has_phases_and_gradients() -> None:
    from torch.export.experimental import _export_forward_backward

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.square = _Square()

        def forward(self, x: Tensor) -> Any:
            return (self.square(x),)

    joint = _export_forward_backward(torch.export.export(Loss(), (X,)), joint_loss_index=0)
    program = passes.load(joint)
    assert [(kept.role.value, kept.name) for kept in program.kept] == [
        ("gradient", "grad.square.weight")
    ]
    found = passes.memory(program).breakdown.by_category
    assert found[Category.GRADIENT][-1] == 64
    assert max(found[Category.ACTIVATION]) == 64
