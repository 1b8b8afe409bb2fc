"""Symbolic peaks of real architectures against the same graphs run at several sizes.

Exported once with dynamic batch, and sequence where there is one; at each size every op has
the bytes that the tracker sees when the graph runs, and that the program loaded at that
size has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import passes
from tests.oracle.run import observe, placeholders_of


class Model:
    """A model, its input at given sizes, and which dimensions these are."""

    def __init__(
        self, model: nn.Module, make: Callable[[int, int], Tensor], dynamic: Mapping[int, str]
    ) -> None:
        self.model = model.eval()
        self.make = make
        self.dynamic = dynamic


def ids(batch: int, length: int) -> Tensor:
    return torch.randint(3, 50, (batch, length))


def images(batch: int, side: int) -> Tensor:
    return torch.randn(batch, 3, side, side)


def gpt2() -> Model:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_layer=1, n_head=2, n_embd=16, n_positions=64, vocab_size=50, use_cache=False,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return Model(GPT2LMHeadModel(config), ids, {0: "batch", 1: "length"})


def llama() -> Model:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=16, intermediate_size=32, num_attention_heads=2, num_key_value_heads=1,
        num_hidden_layers=2, vocab_size=50, use_cache=False, pad_token_id=0, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    return Model(LlamaForCausalLM(config), ids, {0: "batch", 1: "length"})


def swin() -> Model:
    from transformers import SwinConfig, SwinModel

    config = SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[1, 2], window_size=4
    )
    return Model(SwinModel(config), lambda batch, _: images(batch, 32), {0: "batch"})


def encoder() -> Model:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return Model(layer, lambda b, n: torch.randn(b, n, 16), {0: "batch", 1: "length"})


def convolutional() -> Model:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 10),
    )  # fmt: skip
    return Model(model, images, {0: "batch", 2: "side", 3: "side"})


def recurrent() -> Model:
    model = nn.LSTM(4, 8, num_layers=2, batch_first=True)
    return Model(model, lambda batch, _: torch.randn(batch, 5, 4), {0: "batch"})


FAST = [gpt2, encoder, convolutional, recurrent]
SLOW = [llama, swin]
SAMPLED = [(2, 16), (3, 33), (5, 17), (1, 16)]


def check(build: Callable[[], Model]) -> None:
    torch.manual_seed(0)
    model = build()
    dims = {name: Dim(name, min=1, max=64) for name in model.dynamic.values()}
    if "side" in dims:
        dims["side"] = Dim("side", min=8, max=64)
    shapes: Any = ({place: dims[name] for place, name in model.dynamic.items()},)
    exported = torch.export.export(model.model, (model.make(3, 16),), dynamic_shapes=shapes)
    symbolic = passes.symbolic_memory(passes.load(exported))
    assert not symbolic.conditions
    for batch, size in SAMPLED:
        x = model.make(batch, size)
        sizes = {name: x.shape[place] for place, name in model.dynamic.items()}
        case = symbolic.cases.of({name: (n, n) for name, n in sizes.items()})
        assert case is not None
        claimed = [level.at(sizes) for level in case.timeline]
        assert tuple(claimed) == passes.memory(passes.load(exported, x)).timeline
        run = observe(exported.graph_module, placeholders_of(exported, (x,)))
        for op in case.facts.program.ops:
            assert claimed[op.index] == run.alive[op.name], f"{op} at {sizes}"
        assert symbolic.at(sizes).nbytes == run.peak_bytes
    rest = {name: 16 for name in dims if name != "batch"}
    budget = symbolic.at({**rest, "batch": 1}).total_bytes * 10
    found = symbolic.largest("batch", rest, budget=budget)
    fitting = [n for n in range(1, 65) if symbolic.at({**rest, "batch": n}).total_bytes <= budget]
    assert found.value == max(fitting)


@pytest.mark.parametrize("build", FAST, ids=lambda build: build.__name__)
def test_every_size_is_as_its_run(build: Callable[[], Model]) -> None:
    check(build)


@pytest.mark.slow
@pytest.mark.parametrize("build", SLOW, ids=lambda build: build.__name__)
def test_every_size_of_large_models_is_as_its_run(build: Callable[[], Model]) -> None:
    check(build)
