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


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q = self.inner(x)
        result: Tensor = (q @ q.transpose(1, 2)).softmax(-1) @ q
        return result


class Last(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x)[0][:, -1]
        return result


def encoder_step() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1)


def classifier() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 5),
    )  # fmt: skip


def upsampling() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Upsample(scale_factor=2), nn.ReLU(),
        nn.Upsample(scale_factor=1.5, mode="bilinear"), nn.Upsample(scale_factor=2, mode="bicubic"),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


Inputs = Callable[[int, int], tuple[Tensor, Tensor]]

STEPS: dict[str, tuple[Callable[[], nn.Module], nn.Module, Any, Inputs, dict[str, Any]]] = {
    "a classifier by SGD": (
        classifier,
        nn.CrossEntropyLoss(),
        torch.optim.SGD,
        lambda batch, _: (torch.rand(batch, 3, 8, 8), torch.zeros(batch, dtype=torch.int64)),
        {"input": {0: "batch"}, "target": {0: "batch"}},
    ),
    "a recurrent layer by Adam": (
        lambda: Last(nn.LSTM(4, 8, num_layers=2, batch_first=True, dropout=0.5)),
        nn.MSELoss(),
        torch.optim.Adam,
        lambda batch, _: (torch.rand(batch, 4, 4), torch.rand(batch, 8)),
        {"x": {0: "batch"}, "target": {0: "batch"}},
    ),
    "gated units in both directions by SGD": (
        lambda: Last(nn.GRU(4, 4, batch_first=True, bidirectional=True)),
        nn.MSELoss(),
        torch.optim.SGD,
        lambda batch, _: (torch.rand(batch, 3, 4), torch.rand(batch, 8)),
        {"x": {0: "batch"}, "target": {0: "batch"}},
    ),
    "attention by AdamW": (
        Attention,
        nn.MSELoss(),
        torch.optim.AdamW,
        lambda batch, length: (torch.rand(batch, length, 8), torch.rand(batch, length, 8)),
        {"x": {0: "batch", 1: "length"}, "target": {0: "batch", 1: "length"}},
    ),
    "an upsampling decoder by SGD": (
        upsampling,
        nn.MSELoss(),
        torch.optim.SGD,
        lambda batch, length: (torch.rand(batch, 3, length, length), torch.rand(batch, 4)),
        {"input": {0: "batch", 2: "length", 3: "length"}, "target": {0: "batch"}},
    ),
    "an encoder by Adam": (
        encoder_step,
        nn.MSELoss(),
        torch.optim.Adam,
        lambda batch, length: (torch.rand(batch, length, 8), torch.rand(batch, length, 8)),
        {"src": {0: "batch", 1: "length"}, "target": {0: "batch", 1: "length"}},
    ),
}


@pytest.mark.parametrize(
    ("name", "zero_grad"),
    [
        ("a classifier by SGD", "set_to_none"),
        ("attention by AdamW", "never"),
        ("a recurrent layer by Adam", "set_to_none"),
        ("gated units in both directions by SGD", "never"),
        ("an upsampling decoder by SGD", "set_to_none"),
        pytest.param("an encoder by Adam", "set_to_none", marks=pytest.mark.slow),
        pytest.param("an encoder by Adam", "never", marks=pytest.mark.slow),
    ],
)
def test_a_training_step_of_every_size(name: str, zero_grad: Any) -> None:
    """Loaded once with dynamic sizes, it is at each size the step loaded at that size."""
    make, loss, optimizer, inputs, dynamic = STEPS[name]
    model = make()
    step = passes.load_training_step(
        model, loss, optimizer, *inputs(3, 5), zero_grad=zero_grad, dynamic=dynamic
    )
    symbolic = passes.symbolic_memory(step)
    assert not symbolic.conditions
    for batch, length in ((3, 5), (9, 4), (1, 6)):
        sizes = {"batch": batch, "length": length}
        sizes = {symbol.name: sizes[symbol.name] for symbol in symbolic.symbols}
        concrete = passes.memory(
            passes.load_training_step(
                model, loss, optimizer, *inputs(batch, length), zero_grad=zero_grad
            )
        )
        case = symbolic.cases.of({name: (n, n) for name, n in sizes.items()})
        assert case is not None
        assert tuple(level.at(sizes) for level in case.timeline) == concrete.timeline
        assert {role: n.at(sizes) for role, n in case.entry.items()} == concrete.entry_bytes
    rest = {symbol.name: 4 for symbol in symbolic.symbols if symbol.name != "batch"}
    found = symbolic.largest("batch", rest, budget=1_000_000)
    assert found.value is not None
    assert found.total_bytes is not None
    assert found.next_bytes is not None
    assert found.total_bytes <= 1_000_000 < found.next_bytes
    at_most = passes.load_training_step(
        model, loss, optimizer, *inputs(found.value, 4), zero_grad=zero_grad
    )
    memory = passes.memory(at_most)
    assert memory.peak_bytes + sum(memory.entry_bytes.values()) == found.total_bytes
