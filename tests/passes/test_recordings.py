"""Sizes that data decided when a program was captured are not those of another run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

import passes
from tests.conformance.judge import judge
from tests.oracle.run import observe

ONE = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
ALL = torch.arange(1.0, 7.0).view(2, 3)

BY_DATA: dict[str, Callable[[Tensor], Any]] = {
    "nonzero": lambda x: x.nonzero() + 1,
    "a mask": lambda x: x[x > 0] * 2,
    "masked_select": lambda x: torch.masked_select(x, x > 0).clone(),
    "unique": lambda x: torch.unique(x, return_counts=True),
    "bincount": lambda x: x.long().flatten().bincount(),
    "repeats": lambda x: torch.repeat_interleave(x.long().flatten()) + 1,
    "views that are copies of more": lambda x: x.nonzero().t().contiguous().add_(1),
    "rows apart": lambda x: [row * 2 for row in x.nonzero().unbind(1)],
    "by an index of such": lambda x: x.flatten()[x.flatten().nonzero()[:, 0]] * 2,
}
BY_TYPES: dict[str, Callable[[Tensor], Any]] = {
    "an index": lambda x: x[torch.tensor([0, 1])] * 2,
    "so many repeats": lambda x: torch.repeat_interleave(
        torch.ones(3, dtype=torch.long), output_size=3
    ),
    "the sum of what was picked": lambda x: x[x > 0].sum() + x,
}


def captured(function: Callable[[Tensor], Any]) -> torch.fx.GraphModule:
    with torch.no_grad():
        made: torch.fx.GraphModule = make_fx(function)(ONE)
    return made


@pytest.mark.parametrize("name", BY_DATA)
def test_of_sizes_by_data_nothing_is_taken_from_a_recording(name: str) -> None:
    graph = captured(BY_DATA[name])
    run = observe(graph, [ALL])
    for effects in ("observed", "declared"):
        verdict = judge(passes.load(graph, ALL, effects=effects), run)
        assert (verdict.missed, verdict.false, verdict.short) == ((), (), ())
    assert passes.memory(passes.load(graph, ALL, effects="declared")).unsized


@pytest.mark.parametrize("name", BY_TYPES)
def test_of_sizes_by_types_all_is(name: str) -> None:
    graph = captured(BY_TYPES[name])
    program = passes.load(graph, ALL, effects="declared")
    verdict = judge(program, observe(graph, [ALL]))
    assert (verdict.missed, verdict.false, verdict.short) == ((), (), ())
    result = program.outputs[0].type
    assert result is not None
    assert None not in result.shape


def test_of_as_many_classes_as_are_given_too() -> None:
    class Classes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.one_hot(x, 7) * 2

    program = passes.load(torch.export.export(Classes(), (ALL.long(),)), effects="declared")
    assert [op.target for op in program.ops][1] == "aten.one_hot.default"
    assert not passes.memory(program).unsized
