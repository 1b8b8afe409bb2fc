"""Suggestions for random programs with views, writes through them and random numbers: each is
run, and gives what the program gives, in the bytes it says."""

from __future__ import annotations

import operator
import random
from typing import Any

import pytest
import torch
from torch import fx, nn

import passes
from tests.oracle.advised import check

SIDE = 8
FEW, MANY = range(30), range(30, 1000)

FRESH: list[tuple[Any, int]] = [
    (torch.matmul, 2), (torch.add, 2), (torch.mul, 2), (torch.relu, 1), (torch.exp, 1),
    (torch.neg, 1), (torch.clone, 1), (torch.rand_like, 1), (torch.softmax, 1),
]  # fmt: skip
VIEWS = ["t", "detach", "view_as"]
WRITES = ["mul_", "add_", "relu_", "zero_"]


def program_of(seed: int) -> tuple[fx.GraphModule, list[torch.Tensor]]:
    """A random graph over square matrices and rows of them, and its inputs."""
    rng = random.Random(seed)
    graph = fx.Graph()
    squares = [graph.placeholder("x"), graph.placeholder("y")]
    rows: list[fx.Node] = []

    def square() -> fx.Node:
        """One there is already; late ones more often, so that there are chains."""
        return squares[-1 - int(rng.random() ** 2 * len(squares))]

    for _ in range(rng.randrange(4, 16)):
        kind = rng.choice(["fresh", "fresh", "fresh", "view", "write", "row", "sum"])
        if kind == "fresh":
            target, count = rng.choice(FRESH)
            arguments: list[Any] = [square() for _ in range(count)]
            if target is torch.softmax:
                arguments.append(-1)
            squares.append(graph.call_function(target, tuple(arguments)))
        elif kind == "view":
            name, source = rng.choice(VIEWS), square()
            more: tuple[Any, ...] = (source,) if name == "view_as" else ()
            squares.append(graph.call_method(name, (source, *more)))
        elif kind == "write":
            name = rng.choice(WRITES)
            written = rng.choice([square(), *rows[-1:]])
            factor = (2.0,) if name in ("mul_", "add_") else ()
            graph.call_method(name, (written, *factor))
        elif kind == "row":
            rows.append(graph.call_function(operator.getitem, (square(), rng.randrange(SIDE))))
        else:
            stacked = graph.call_function(torch.cat, ([square(), square()],))
            rows.append(graph.call_function(torch.sum, (stacked, 0)))
    graph.output((*rng.sample(squares, 2), *rows[-1:]))
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.rand(SIDE, SIDE, generator=generator) for _ in range(2)]
    return fx.GraphModule(nn.Module(), graph), inputs


def _check(seed: int) -> None:
    module, inputs = program_of(seed)
    program = passes.load(module, *inputs)
    for suggestion in passes.advise(program).suggestions:
        check(program, suggestion, inputs)


@pytest.mark.parametrize("seed", FEW)
def test_suggestions_hold(seed: int) -> None:
    _check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", MANY)
def test_many_suggestions_hold(seed: int) -> None:
    _check(seed)


def test_there_are_suggestions_of_every_kind() -> None:
    kinds = set()
    for seed in FEW:
        module, inputs = program_of(seed)
        kinds |= {s.kind for s in passes.advise(passes.load(module, *inputs)).suggestions}
    assert {kind.value for kind in kinds} >= {"reorder", "recompute", "in place", "donate", "reuse"}
