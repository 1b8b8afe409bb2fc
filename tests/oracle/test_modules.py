"""Modules as people write them, and torch's own that do more than they show, against their runs.

Each is captured by `torch.export`, by `symbolic_trace` and by Dynamo, where these can, and judged
as in the conformance suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, fx, nn
from torch.nn.utils import parametrizations, parametrize

from passes import Program
from tests.conformance.captures import Captured, quiet
from tests.conformance.suite import judged
from tests.oracle.run import observe, placeholders_of

X = torch.arange(1.0, 25.0).view(4, 6) / 7
IMAGE = torch.arange(96.0).view(2, 3, 4, 4) / 50
IDS = torch.tensor([[1, 2, 3, 0], [4, 0, 1, 1]])
SEQUENCE = torch.arange(48.0).view(2, 4, 6) / 40

Made = tuple[nn.Module, tuple[Any, ...]]
CASES: dict[str, Callable[[], Made]] = {}


def case(build: Callable[[], Made]) -> Callable[[], Made]:
    CASES[build.__name__] = build
    return build


class Calls(nn.Module):
    """A function with some state, as a module."""

    def __init__(self, function: Callable[..., Any], **state: Any) -> None:
        super().__init__()
        self.function = function
        for name, value in state.items():
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, *args: Any) -> Any:
        return self.function(self, *args)


def calls(function: Callable[..., Any], *inputs: Any, **state: Any) -> Made:
    return Calls(function, **state), inputs


# ---------------------------------------------------------------- writes of inputs and state


@case
def writes_an_input_through_views() -> Made:
    return calls(lambda m, x: (x[1:].t().add_(1), x.view(-1)[::2].mul_(2), x)[2], X)


@case
def counts_calls_in_a_buffer() -> Made:
    def forward(m: Any, x: Tensor) -> Tensor:
        m.count.add_(1)
        m.mean.lerp_(x.mean(0), 0.1)
        shifted: Tensor = x - m.mean
        return shifted

    return calls(forward, X, count=torch.zeros(()), mean=torch.zeros(6))


@case
def writes_one_view_of_a_flat_buffer() -> Made:
    flat = torch.zeros(12)

    def forward(m: Any, x: Tensor) -> Any:
        m.first.copy_(x[0])
        return m.second + 1, m.flat.sum()

    return calls(forward, X, flat=flat, first=flat[:6], second=flat[6:])


@case
def caches_keys() -> Made:
    def forward(m: Any, x: Tensor, at: Tensor) -> Tensor:
        m.cache.index_copy_(1, at, x[:, :1])
        found: Tensor = F.scaled_dot_product_attention(x, m.cache, m.cache)
        return found

    return calls(forward, SEQUENCE, torch.tensor([2]), cache=torch.zeros(2, 4, 6))


@case
def batch_norm_in_training() -> Made:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)), (IMAGE,)


@case
def batch_norm_of_channels_last() -> Made:
    made = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2))
    return made, (IMAGE.contiguous(memory_format=torch.channels_last),)


@case
def batch_norm_of_transposed() -> Made:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Any:
            return self.head(self.norm(x.transpose(1, 2)).transpose(1, 2).reshape(-1, 6))

    return Tokens(), (SEQUENCE,)


@case
def instance_norm_with_statistics() -> Made:
    return nn.InstanceNorm2d(3, affine=True, track_running_stats=True), (IMAGE,)


@case
def embedding_that_renorms() -> Made:
    return nn.Embedding(6, 4, max_norm=0.5), (IDS,)


@case
def embedding_bag() -> Made:
    return nn.EmbeddingBag(6, 4, mode="mean"), (IDS,)


@case
def spectral_norm_in_training() -> Made:
    return parametrizations.spectral_norm(nn.Linear(6, 3)), (X,)


@case
def weight_norm() -> Made:
    return parametrizations.weight_norm(nn.Linear(6, 3)), (X,)


@case
def old_spectral_norm() -> Made:
    return torch.nn.utils.spectral_norm(nn.Linear(6, 3)), (X,)


@case
def parametrized_by_a_module() -> Made:
    class Symmetric(nn.Module):
        def forward(self, w: Tensor) -> Tensor:
            return w.triu() + w.triu(1).mT

    layer = nn.Linear(6, 6)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return layer, (X,)


# ---------------------------------------------------------------- what returns what it got


@case
def identities_and_dropout_in_eval() -> Made:
    layers = (nn.Identity(), nn.Dropout(), nn.Flatten(), nn.Dropout2d(), nn.AlphaDropout())
    return nn.Sequential(*layers).eval(), (X,)


@case
def shared_modules() -> Made:
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, nn.ReLU(inplace=True), nn.Sequential(layer, nn.Identity())), (X,)


@case
def forward_hooks() -> Made:
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    model[0].register_forward_hook(lambda module, inputs, out: out.mul_(2))
    model[1].register_forward_pre_hook(lambda module, inputs: (inputs[0].t(),))
    return model, (X,)


@case
def to_what_it_is_already() -> Made:
    return calls(lambda m, x: x.to("cpu").float().contiguous().reshape(4, 6).add_(1), X)


@case
def conjugated_or_negated_when_read() -> Made:
    x = torch.complex(X, X).conj()

    def forward(m: Any, x: Tensor, y: Tensor, z: Tensor) -> Any:
        found = [t.resolve_conj().resolve_neg().contiguous().reshape(-1) for t in (x, y, z)]
        return found, x.conj().resolve_conj(), z.detach(), y.add_(1), x.mT.mul_(2), x.real

    return calls(forward, x, x.imag, torch._neg_view(X))


@case
def returns_inputs_and_views_of_them() -> Made:
    return calls(lambda m, x, y: {"x": x, "both": (x[0], [y.t(), y])}, X, X + 1)


# ---------------------------------------------------------------- torch's larger modules


@case
def lstm() -> Made:
    return nn.LSTM(6, 4, num_layers=2, batch_first=True), (SEQUENCE,)


@case
def lstm_both_ways_in_eval() -> Made:
    return nn.LSTM(6, 4, bidirectional=True, batch_first=True).eval(), (SEQUENCE,)


@case
def gru() -> Made:
    return nn.GRU(6, 4), (SEQUENCE,)


@case
def attention() -> Made:
    attend = nn.MultiheadAttention(6, 2, batch_first=True)
    return calls(lambda m, x: m.attend(x, x, x), SEQUENCE, attend=attend)


@case
def attention_on_the_fast_path() -> Made:
    attend = nn.MultiheadAttention(6, 2, batch_first=True).eval()
    return calls(lambda m, x: m.attend(x, x, x, need_weights=False)[0], SEQUENCE, attend=attend)


@case
def encoder_layer_in_eval() -> Made:
    return nn.TransformerEncoderLayer(6, 2, 8, batch_first=True).eval(), (SEQUENCE,)


@case
def transformer() -> Made:
    model = nn.Transformer(6, 2, 1, 1, 8, batch_first=True)
    return calls(lambda m, x: m.model(x, x), SEQUENCE, model=model)


@case
def attention_with_masks() -> Made:
    mask = torch.ones(4, 4, dtype=torch.bool).tril()

    def forward(m: Any, x: Tensor) -> Any:
        q = x.view(2, 4, 2, 3).transpose(1, 2)
        causal = F.scaled_dot_product_attention(q, q, q, is_causal=True)
        masked = F.scaled_dot_product_attention(q, q, q, attn_mask=m.mask)
        return causal.transpose(1, 2).reshape(2, 4, 6), masked.transpose(1, 2).flatten(2)

    return calls(forward, SEQUENCE, mask=mask)


@case
def pools_and_upsampling() -> Made:
    layers = (nn.MaxPool2d(2), nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers), (IMAGE,)


@case
def depthwise_and_shuffled() -> Made:
    layers = (nn.Conv2d(3, 12, 1), nn.PixelShuffle(2), nn.Conv2d(3, 4, 1), nn.ChannelShuffle(2))
    return nn.Sequential(*layers, nn.GroupNorm(2, 4), nn.Hardswish(inplace=True)), (IMAGE,)


@case
def unfold_and_fold() -> Made:
    return nn.Sequential(nn.Unfold(2), nn.Fold((4, 4), 2)), (IMAGE,)


@case
def losses() -> Made:
    def forward(m: Any, x: Tensor, ids: Tensor) -> Any:
        return F.cross_entropy(x, ids), F.mse_loss(x, x * 2), F.l1_loss(x, x + 1, reduction="sum")

    return calls(forward, X, torch.tensor([0, 1, 2, 3]))


# ---------------------------------------------------------------- Python that decides nothing


@case
def loops_of_slices() -> Made:
    def forward(m: Any, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for row in range(4):
            out[row] = x[: row + 1].sum(0)
        out += x
        return out

    return calls(forward, X)


@case
def functional_calls() -> Made:
    layer = nn.Linear(6, 6)

    def forward(m: Any, x: Tensor) -> Any:
        weight = m.layer.weight * 2
        return torch.func.functional_call(m.layer, {"weight": weight}, (x,))

    return calls(forward, X, layer=layer)


@case
def mapped() -> Made:
    return calls(lambda m, x: torch.vmap(lambda row: row.view(-1).mul_(2).sum())(x), X)


@case
def of_complex_numbers() -> Made:
    def forward(m: Any, x: Tensor) -> Any:
        pairs = torch.view_as_complex(x.view(4, 3, 2))
        return torch.view_as_real(pairs.mul(m.turn)).flatten(1), pairs.conj().real

    return calls(forward, X, turn=torch.polar(torch.ones(3), torch.arange(3.0)))


@torch.library.custom_op("modules::norm_", mutates_args={"x"})
def norm_(x: Tensor, scale: Tensor) -> Tensor:
    """Writes one argument and returns something new."""
    x.mul_(scale)
    return x.sum()


@norm_.register_fake
def _(x: Tensor, scale: Tensor) -> Tensor:
    return x.new_empty(())


@case
def custom_operator_that_writes() -> Made:
    return calls(lambda m, x: (norm_((y := x + 1)[:, :3], m.scale), y), X, scale=torch.ones(()))


# ----------------------------------------------------------------------------- the captures


def captured(model: nn.Module, inputs: tuple[Any, ...]) -> Iterator[tuple[str, Captured]]:
    """The graphs of a module, by the capture they come from."""
    program = torch.export.export(model, inputs, strict=False)
    yield (
        "export",
        Captured(program.graph_module, placeholders_of(program, inputs), program, inputs),
    )
    try:
        graph = fx.symbolic_trace(model)
    except Exception:  # Python that a proxy does not go through
        pass
    else:
        placeholders = graph.graph.find_nodes(op="placeholder")
        values = [*inputs, *(node.args[0] for node in placeholders[len(inputs) :])]
        yield "symbolic_trace", Captured(graph, values, graph, inputs)
    yield from (("Dynamo", one) for one in by_dynamo(model, inputs))


def by_dynamo(model: nn.Module, inputs: tuple[Any, ...]) -> list[Captured]:
    """The graphs that Dynamo hands to a backend."""
    found: list[Captured] = []

    def backend(graph: fx.GraphModule, given: list[Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            found.append(Captured(graph, args, graph, args))
            return graph(*args)

        return call

    torch._dynamo.reset()
    torch.compile(model, backend=backend)(*[x.clone() for x in inputs])
    torch._dynamo.reset()
    return found


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n == "transformer" else ()) for n in CASES],
)
def test_claims_hold_of_modules(name: str) -> None:
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(0)
        model, inputs = CASES[name]()
        for capture, one in captured(model, inputs):
            programs: dict[str, Program] = {}
            run = observe(one.graph_module, one.values)
            found = list(judged(one, run, "observed", programs))
            assert not found, capture
            if capture == "export":
                unsure = ("uncertain", "refused")
                declared = list(judged(one, run, "declared", programs))
                assert not [text for kind, text in declared if kind not in unsure]
