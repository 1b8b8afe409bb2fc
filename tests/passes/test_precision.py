"""Results that fake kernels give another size than real ones do: low precision, bags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

import passes
from passes.frontends.effects.observe import Observer
from passes.frontends.fakes.world import World
from tests.oracle.run import observe

aten = torch.ops.aten
LOW = [torch.bfloat16, torch.float16]


def sizes(call: Callable[..., Any], *args: object) -> tuple[list[Any], list[Any]]:
    """Dtype, shape and bytes of storage of each result, in truth and on fakes."""

    def told(results: Any) -> list[Any]:
        return [(t.dtype, tuple(t.shape), t.untyped_storage().nbytes()) for t in results]

    world = World(torch.device("cpu"))
    fakes = tree_map(lambda a: world.tensor(a) if isinstance(a, Tensor) else a, args)
    with world.mode, Observer():
        found = told(call(*fakes))
    return told(call(*args)), found


def norms(low: torch.dtype, wide: torch.dtype) -> dict[str, tuple[Any, ...]]:
    x, weight, stats = torch.rand(2, 4, 5, 5).to(low), torch.rand(4, dtype=wide), torch.rand(4)
    stats = stats.to(wide)
    batch = aten.native_batch_norm.default
    layer = (aten.native_layer_norm.default, x, [4, 5, 5])
    shape = torch.rand(4, 5, 5).to(wide)
    group = aten.native_group_norm.default
    _, mean, deviation = group(x, weight, weight, 2, 4, 25, 2, 1e-5)
    _, saved, inverse = batch(x, weight, weight, stats, stats, True, 0.1, 1e-5)
    flags = [True, True, True]
    return {
        "batch": (batch, x, weight, weight, stats, stats, True, 0.1, 1e-5),
        "batch, evaluated": (batch, x, weight, weight, stats, stats, False, 0.1, 1e-5),
        "batch without weight": (batch, x, None, None, stats, stats, True, 0.1, 1e-5),
        "batch without statistics": (batch, x, weight, weight, None, None, True, 0.1, 1e-5),
        "batch, functional": (
            aten._native_batch_norm_legit_functional.default,
            x, weight, weight, stats, stats, True, 0.1, 1e-5,
        ),
        "batch, updating": (
            aten._batch_norm_with_update_functional.default,
            x, weight, weight, stats, stats, 0.1, 1e-5,
        ),
        "batch, alone": (batch, x, None, None, None, None, True, 0.1, 1e-5),
        "batch backward": (
            aten.native_batch_norm_backward.default,
            x, x, None, stats, stats, saved, inverse, True, 1e-5, flags,
        ),
        "layer": (*layer, shape, shape, 1e-5),
        "layer without weight": (*layer, None, None, 1e-5),
        "group": (group, x, weight, weight, 2, 4, 25, 2, 1e-5),
        "group backward": (
            aten.native_group_norm_backward.default,
            x, x, mean, deviation, weight, 2, 4, 25, 2, flags,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("low", LOW, ids=str)
@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("name", norms(torch.bfloat16, torch.float32))
def test_statistics_have_the_precision_of_the_parameters(
    name: str, mixed: bool, low: torch.dtype
) -> None:
    call, *args = norms(low, torch.float32 if mixed else low)[name]
    real, found = sizes(call, *args)
    assert found == real


@pytest.mark.parametrize("padding", [-1, 2])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("call", [aten._embedding_bag, aten._embedding_bag_forward_only], ids=str)
def test_bags_have_tables_of_the_size_they_have(
    call: Any, dtype: torch.dtype, mode: int, last: bool, padding: int
) -> None:
    weight, indices = torch.rand(10, 4).to(dtype), torch.arange(7)
    offsets = torch.tensor([0, 3, 5, 7] if last else [0, 3, 5])
    weights = [None] if mode else [None, torch.rand(7).to(dtype)]
    for each in weights:
        args = (weight, indices, offsets, False, mode, False, each, last, padding)
        real, found = sizes(call.default, *args)
        assert found == real


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.GroupNorm(2, 4), nn.Flatten()
        )

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found: Tensor = self.layers(x)
        return found.float().square().mean()


def test_a_training_step_under_autocast_has_the_bytes_of_its_run() -> None:
    model, x = Mixed(), torch.rand(2, 3, 8, 8)
    program = passes.load_training_step(model, None, torch.optim.SGD, x)
    graph = program.graph
    assert isinstance(graph, fx.GraphModule)
    named = {**dict(model.named_parameters()), **dict(model.named_buffers()), "x": x}
    run = observe(graph, [named[entry.name] for entry in program.entry.values])
    memory = passes.memory(program)
    assert {op.name: memory.at(op) for op in program.ops} == dict(run.alive)


def test_declared_effects_count_the_same() -> None:
    exported = torch.export.export(Mixed().train(), (torch.rand(2, 3, 8, 8),))
    exported = exported.run_decompositions()
    declared = passes.memory(passes.load(exported, effects="declared"))
    observed = passes.memory(passes.load(exported))
    assert declared.timeline == observed.timeline
