"""Suggestions for programs with dynamic dimensions hold at sizes other than those loaded with.

At sizes of 1 a reshape of a transposed tensor is a view, and layouts are alike that differ
elsewhere: changes that rely on either give other results there, or write an input.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

import passes
from tests.oracle.advised import assert_same
from tests.oracle.run import placeholders_of
from tests.oracle.test_symbolic import SAMPLED, Model, gpt2, recurrent

LOADED = [(40, 50), (1, 50), (40, 1)]
RUN = [(40, 50), (1, 50), (40, 1), (1, 1), (3, 2)]

CHANGES: Sequence[Callable[[Tensor], Tensor]] = [
    lambda t: t.exp(),
    lambda t: t.neg(),
    lambda t: t * 2,
    lambda t: t.transpose(0, 1),
    lambda t: t.t().contiguous(),
    lambda t: t.contiguous(),
    lambda t: t.clone(),
    lambda t: t.clone(memory_format=torch.contiguous_format),
    lambda t: t.t().clone().t(),
    lambda t: t.t().reshape(-1).reshape(t.shape),
    lambda t: t.flatten().view(t.shape),
    lambda t: t.unsqueeze(0).expand(2, t.shape[0], t.shape[1])[1].reshape(t.shape),
    lambda t: torch.dropout(t, 0.5, False),
]


class Steps(nn.Module):
    """Views, copies, sums and writes at random, of an input with two dimensions."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = random.Random(seed)
        self.steps = [
            (rng.random(), rng.randrange(1000), rng.choice(CHANGES))
            for _ in range(rng.randint(4, 9))
        ]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        made = [x, x.exp()]
        for kind, which, change in self.steps:
            source = made[which % len(made)]
            if kind < 0.6:
                made.append(change(source))
            elif kind < 0.75:
                made.append(torch.cat([source, source]).sum(0, keepdim=True) + source)
            elif kind < 0.9 and source is not x:
                source.add_(1)
            else:
                made.append(source + source.mul(3))
        return made[-1].sum(0), torch.stack([one.sum() for one in made]), made[len(made) // 2]


def check(exported: ExportedProgram, loaded: Sequence[Tensor], run: Sequence[Tensor]) -> None:
    """Each suggestion, for the program loaded with each input, gives what the graph gives."""
    for given in loaded:
        for found in passes.advise(passes.load(exported, given)).suggestions:
            graph = found.apply().graph
            assert isinstance(graph, fx.GraphModule)
            for x in run:
                wanted, changed = x.clone(), x.clone()
                with torch.no_grad():
                    one = exported.graph_module(*placeholders_of(exported, (wanted,)))
                    other = graph(*placeholders_of(exported, (changed,)))
                assert_same(one, other)
                assert found.donated or torch.equal(wanted, changed), found


def check_steps(seed: int) -> None:
    shapes = ({0: Dim("rows"), 1: Dim("columns")},)
    exported = torch.export.export(Steps(seed), (torch.rand(LOADED[0]),), dynamic_shapes=shapes)
    check(exported, [torch.rand(at) for at in LOADED], [torch.rand(at) for at in RUN])


@pytest.mark.parametrize("seed", [11, 27, 35])
def test_suggestions_hold_at_other_sizes(seed: int) -> None:
    check_steps(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100))
def test_many_suggestions_hold_at_other_sizes(seed: int) -> None:
    check_steps(seed)


@pytest.mark.parametrize("build", [gpt2, recurrent], ids=lambda build: build.__name__)
def test_suggestions_for_architectures_do(build: Callable[[], Model]) -> None:
    torch.manual_seed(0)
    model = build()
    dims = {name: Dim(name, min=1, max=64) for name in model.dynamic.values()}
    shapes = ({place: dims[name] for place, name in model.dynamic.items()},)
    exported = torch.export.export(model.model, (model.make(3, 16),), dynamic_shapes=shapes)
    loaded = [model.make(3, 16), model.make(1, 16)]
    check(exported, loaded, [model.make(*sizes) for sizes in SAMPLED])
