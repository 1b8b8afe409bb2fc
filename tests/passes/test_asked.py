"""Answers are asked for with a Program, and of its own ops, values and storage classes: what is
something else is refused, and the message says what to give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import passes
from passes import Program
from tests.passes.programs import traced

X = torch.rand(4, 4)


@pytest.fixture
def program() -> Program:
    return traced(lambda x: torch.relu(x + 1), X)


@pytest.fixture
def other() -> Program:
    return traced(lambda x: (x * 2).exp().neg(), X)


@pytest.mark.parametrize(
    "question",
    [
        passes.aliases,
        passes.liveness,
        passes.memory,
        passes.cuda_memory,
        passes.symbolic_memory,
        passes.plan,
        passes.advise,
    ],
)
def test_a_model_is_to_be_loaded_first(question: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match=r"takes a Program, and was given a Linear: load it first"):
        question(nn.Linear(2, 2))


# Any: a question takes what it is asked of.
OF_A_VALUE: list[Callable[[Program, Any], object]] = [
    lambda program, value: passes.aliases(program).pointees(value),
    lambda program, value: passes.aliases(program).may_alias(value, value),
    lambda program, value: passes.liveness(program).span(value),
    lambda program, value: passes.liveness(program).is_live_at_exit(value),
]
OF_A_CLASS: list[Callable[[Program, Any], object]] = [
    lambda program, found: passes.liveness(program).range(found),
    lambda program, found: passes.liveness(program).why(found, program.ops[-1]),
    lambda program, found: passes.plan(program).slot(found),
    lambda program, found: passes.memory(program).breakdown.category(found),
]


@pytest.mark.parametrize("question", OF_A_VALUE)
def test_values_are_the_programs(
    question: Callable[[Program, Any], object], program: Program, other: Program
) -> None:
    question(program, program.op("relu").results[0])
    for foreign in other.values:
        with pytest.raises(KeyError, match="is not a value of"):
            question(program, foreign)
    with pytest.raises(TypeError, match="'relu' is not a Value"):
        question(program, "relu")


@pytest.mark.parametrize("question", OF_A_CLASS)
def test_classes_are_the_programs(
    question: Callable[[Program, Any], object], program: Program, other: Program
) -> None:
    question(program, passes.aliases(program).classes[-1])
    with pytest.raises(KeyError, match="is not a storage of"):
        question(program, passes.aliases(other).classes[-1])
    with pytest.raises(TypeError, match="'relu' is not a Storage"):
        question(program, "relu")


def test_a_class_is_asked_of_not_its_storage(program: Program) -> None:
    found = passes.aliases(program).classes[-1]
    for question in OF_A_CLASS[:3]:
        with pytest.raises(TypeError, match=r"take one of aliases\.class_of\(storage\)"):
            question(program, found.storage)
    assert OF_A_CLASS[3](program, found.storage) == OF_A_CLASS[3](program, found)


def test_no_op_is_at_a_position_that_is_none(program: Program) -> None:
    assert program.op(-1) is program.op("output")
    with pytest.raises(KeyError, match="has 4 ops, and none at position 4"):
        program.op(4)


def test_what_is_in_no_arena() -> None:
    program = traced(lambda x: x[:0] + 1, X)
    given, empty = passes.aliases(program).classes
    plan = passes.plan(program)
    with pytest.raises(KeyError, match="x is not in an arena: it exists at entry"):
        plan.slot(given)
    with pytest.raises(KeyError, match="add is not in an arena: it has 0 bytes"):
        plan.slot(empty)


def test_a_plan_for_no_largest_sizes_is_none(program: Program) -> None:
    with pytest.raises(passes.ProgramError, match="has no dynamic dimensions"):
        passes.plan(program, at_most={})


def test_inputs_may_have_any_name() -> None:
    class Named(nn.Linear):
        def forward(self, source: torch.Tensor, model: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(source) + model

    assert passes.load(Named(4, 4), source=X, model=X).op("add").results
    step = passes.load_training_step(Named(4, 4), lambda y: y.sum(), None, source=X, model=X + 1)
    assert "source" in [entry.name for entry in step.entry.values]
