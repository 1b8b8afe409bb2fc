"""Tensors picked from by an index that fakes cannot evaluate: views or copies, as the index is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch.library import custom_op

import passes
from tests.conformance.judge import judge
from tests.oracle.run import observe

X = torch.ones(3, 4)


@custom_op("picked_test::doubled", mutates_args=())
def doubled(x: Tensor) -> Tensor:
    """Of which no fake kernel is known."""
    return x * 2


COPIES: dict[str, Callable[..., Any]] = {
    "a number by a mask": lambda x: (s := x.sum())[s > 0],
    "a number by a mask that is off": lambda x: (s := x.sum())[s < 0],
    "all by one flag": lambda x: x[x.sum() > 0],
    "a row by one flag": lambda x: x[0, x.sum() > 0],
    "by a list": lambda x: doubled(x)[[0, 1]],
    "by a mask": lambda x: doubled(x)[doubled(x) > 0],
}
VIEWS: dict[str, Callable[..., Any]] = {
    "by a number": lambda x: x[x.sum().long() * 0],
    "up to a number": lambda x: x[: x.sum().long(), None],
    "rows": lambda x: doubled(x)[1:, ..., 0],
}


@pytest.mark.parametrize("name", [*COPIES, *VIEWS])
def test_what_is_picked(name: str) -> None:
    graph = fx.symbolic_trace({**COPIES, **VIEWS}[name])
    program = passes.load(graph, X)
    run = observe(graph, [X])
    verdict = judge(program, run)
    assert (verdict.missed, verdict.false, verdict.short) == ((), (), ())
    (picked,) = program.outputs
    assert len(passes.aliases(program).pointees(picked)) == (2 if name in COPIES else 1)
    assert (name in COPIES) == any(
        storage.name == picked.name for storage in passes.memory(program).unsized
    )
