"""What a training step is called with: names of sizes, targets, inputs called as targets are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

import passes
from passes import CaptureError, Program, Role

X, Y = torch.rand(8, 4), torch.rand(8, 4)
LABELS = torch.randint(4, (8,))


def step(dynamic: Any = None, model: nn.Module | None = None, *inputs: Tensor) -> Program:
    return passes.load_training_step(
        model or nn.Linear(4, 4),
        functional.mse_loss,
        torch.optim.SGD,
        *inputs or (X, Y),
        dynamic=dynamic,
    )


def symbols(dynamic: object) -> list[tuple[str, int, int | None]]:
    found = step(dynamic).dynamic
    assert found is not None
    return [(symbol.name, symbol.low, symbol.high) for symbol in found.symbols]


NAMED: Mapping[str, tuple[Any, tuple[str, int, int | None]]] = {
    "a name": ({"input": {0: "b"}}, ("b", 1, None)),
    "from the end": ({"input": {-2: "b"}}, ("b", 1, None)),
    "a range": ({"input": {0: Dim("b", min=2, max=64)}}, ("b", 2, 64)),
    "a range and a name": (
        {"target": {0: "b"}, "input": {0: Dim("b", max=64)}},
        ("b", 1, 64),
    ),
    "two ranges": (
        {"input": {0: Dim("b", max=64)}, "target": {0: Dim("b", min=3, max=9)}},
        ("b", 3, 9),
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_sizes_have_names_and_ranges(name: str) -> None:
    dynamic, expected = NAMED[name]
    assert symbols(dynamic) == [expected]


NOT_NAMED: Mapping[str, tuple[Any, str]] = {
    "a number": ({"input": {0: 8}}, "a size has a name"),
    "a hint": ({"input": {0: Dim.AUTO}}, "a size has a name"),
    "nothing": ({"input": {0: None}}, "a size has a name"),
    "an empty name": ({"input": {0: ""}}, "'' is no name"),
    "two words": ({"input": {0: "b c"}}, "'b c' is no name"),
    "a derived size": ({"input": {0: 2 * Dim("b")}}, "is no name"),
    "a text for a number": ({"input": {"0": "b"}}, "is an int"),
    "a tuple of dimensions": ({"input": ("b",)}, "'x': {0: 'batch'}"),
    "a tuple of inputs": (({0: "b"},), "'x': {0: 'batch'}"),
    "two names": ({"input": {0: "b", -2: "c"}}, r"input\.shape\[0\] is named twice: b, c"),
    "out of a range": ({"input": {0: Dim("b", max=7)}}, "'b' is from 1 to 7"),
    "out of the second range": (
        {"input": {0: "b"}, "target": {0: Dim("b", min=9)}},
        r"target\.shape\[0\] is 8, and 'b' is from 9 to any size",
    ),
    "no such input": ({"y": {0: "b"}}, "no such input; there are input, target"),
    "no such dimension": ({"input": {2: "b"}}, "has no dim 2"),
}


@pytest.mark.parametrize("name", NOT_NAMED)
def test_other_requests_for_sizes_are_told_what_to_do(name: str) -> None:
    dynamic, message = NOT_NAMED[name]
    with pytest.raises(CaptureError, match=message):
        step(dynamic)


@pytest.mark.parametrize("targets", [LABELS, {"target": LABELS}, "labels"])
def test_targets_are_a_tuple_or_list(targets: Any) -> None:
    loss, model = functional.cross_entropy, nn.Linear(4, 4)
    calls: list[Callable[[Any], object]] = [
        lambda given: passes.load_training_step(model, loss, None, X, targets=given),
        lambda given: passes.fits(model, X, loss=loss, targets=given, budget=9),
        lambda given: passes.fits(model, X, loss=loss, targets=given, budget=9, dtype="float64"),
    ]
    for call in calls:
        call((LABELS,))
        call([LABELS])
        with pytest.raises(CaptureError, match=r"targets should be a tuple .* targets=\(y,\)"):
            call(targets)


def test_a_loss_that_took_the_models_input_is_named() -> None:
    with pytest.raises(CaptureError, match=r"'input'\. .* the loss took the last 1 as its targets"):
        passes.fits(nn.Linear(4, 4), X, loss=functional.mse_loss, budget=9)
    with pytest.raises(CaptureError, match=r"too many positional arguments\Z"):
        passes.fits(nn.Linear(4, 4), (X, X), budget=9, optimizer="sgd")


class Goals(nn.Module):
    """Called with targets of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor, target: Tensor, targets: Tensor | None = None) -> Tensor:
        found: Tensor = self.layer(x) * target
        return found if targets is None else found * targets


def test_inputs_may_be_called_as_targets_are() -> None:
    """All are inputs, with their bytes, and dynamic where that is asked for."""
    one = step(None, Goals(), X, X + 1, Y)
    inputs = [e.name for e in one.entry.values if e.role is Role.INPUT]
    assert inputs == ["x", "target", "loss.target"]
    assert not any(entry.role is Role.CONSTANT for entry in one.entry.values)

    sizes = {"x": {0: "b"}, "target": {0: "b"}, "targets": {0: "b"}}
    alone = passes.load_training_step(
        Goals(), lambda out: out.sum(), None, X, X + 1, X + 2, dynamic=sizes
    )
    inputs = [e.name for e in alone.entry.values if e.role is Role.INPUT]
    assert inputs == ["x", "target", "targets"]
    found = passes.symbolic_memory(alone)
    assert found.at(b=8).nbytes == passes.memory(alone).peak_bytes
