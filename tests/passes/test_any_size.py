"""Effects that hold at every size: what is returned or copied, and what follows from either."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import passes
from passes import Aliases, Program
from passes.advice.any_size import at_any_size
from passes.program import Origin


class Calls(nn.Module):
    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x.t().reshape(-1), x.view(-1))


def of_one_row(function: Callable[[Tensor, Tensor], Tensor]) -> tuple[Program, Aliases]:
    """At one row both tensors are views of the input, and at more the first is a copy."""
    exported = torch.export.export(
        Calls(function), (torch.ones(3, 4),), dynamic_shapes=({0: Dim("rows", min=1)},)
    )
    loaded = passes.load(exported, torch.ones(1, 4))
    assert loaded.sized == ("reshape",)
    program = at_any_size(loaded)
    return program, passes.aliases(program)


AMONG_TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "type_as": lambda one, other: one.type_as(other),
    "view_as": lambda one, other: one.view_as(other),
    "add_": lambda one, other: one.add_(other),
    "copy_": lambda one, other: one.copy_(other),
}


@pytest.mark.parametrize("name", AMONG_TWO)
def test_a_result_of_operands_that_share_here_may_be_of_the_one_that_is_a_copy(name: str) -> None:
    program, aliases = of_one_row(AMONG_TWO[name])
    result, copied, kept = (program.op(each).results[0] for each in (name, "reshape", "view"))
    assert aliases.pointees(result) >= aliases.pointees(copied)
    assert not aliases.must_alias(result, kept)


def test_what_is_written_together_here_is_not_certainly_written_elsewhere() -> None:
    program, aliases = of_one_row(AMONG_TWO["add_"])
    add = program.op("add_")
    assert aliases.written_by(add) >= set(map(aliases.class_of, aliases.pointees(add.results[0])))
    assert add.effects.origin is Origin.DECLARED
