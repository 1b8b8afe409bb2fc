"""The programs that the analyses are judged on: real architectures, and small tricky ones.

The weights are random and the hidden sizes tiny, the depth and the structure are the real ones.
Every program is deterministic, and its inputs are random so that a write shows in the bytes.

``python -m oracle.models`` (from ``tests``) captures and runs them all and prints the times.
"""

from __future__ import annotations

import copy
import functools
import io
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from .run import observe, placeholders_of

__all__ = ["MODELS", "Case"]


@dataclass(frozen=True)
class Case:
    """A program in both of the forms that a test needs."""

    graph_module: GraphModule
    """The graph to analyse and to run."""

    placeholder_values: Sequence[object]
    """One value for each of its placeholders, in order."""

    source: ExportedProgram | GraphModule
    """What a user has in hand and gives to a loader."""

    args: tuple[Any, ...]
    """The example inputs of ``source``."""

    kwargs: Mapping[str, Any] = field(default_factory=dict)


MODELS: dict[str, Callable[[], Case]] = {}

_t: Any = torch  # where torch's own types are missing or too narrow


def _case(build: Callable[[], Case]) -> Callable[[], Case]:
    """Register the program under its function's name; building it leaves the random state alone."""

    @functools.wraps(build)
    def seeded() -> Case:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return build()

    MODELS[build.__name__] = seeded
    return seeded


# ----------------------------------------------------------------------------- the ways to a graph


def _of_program(program: ExportedProgram, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Case:
    values = placeholders_of(program, args, kwargs)
    return Case(program.graph_module, values, program, args, kwargs)


def _exported(
    module: nn.Module, *args: Any, dynamic_shapes: Any = None, grad: bool = True, **kwargs: Any
) -> Case:
    with torch.set_grad_enabled(grad):
        program = torch.export.export(module, args, kwargs, dynamic_shapes=dynamic_shapes)
    return _of_program(program, args, kwargs)


def _traced(root: nn.Module | Callable[..., Any], *args: Any) -> Case:
    """By symbolic tracing: torch.nn's modules stay calls of modules."""
    graph_module = torch.fx.symbolic_trace(root)
    return Case(graph_module, list(args), graph_module, args)


def _made(function: Callable[..., Any], *args: Any) -> Case:
    """By make_fx: the operators that really ran, those of autograd too."""
    # Tracing executes, so what the function writes is written in copies.
    graph_module = make_fx(function)(*copy.deepcopy(args))
    return Case(graph_module, list(args), graph_module, args)


class _CaughtError(Exception):
    """Ends a compiled call before it runs, and so before it writes anything."""


def _compiled(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Case:
    """By Dynamo: the graph, and the values that the compiled code calls it with."""
    caught: list[tuple[GraphModule, tuple[Any, ...]]] = []

    def backend(graph_module: GraphModule, _: list[Any]) -> Callable[..., Any]:
        def run(*values: Any) -> Any:
            caught.append((graph_module, values))
            raise _CaughtError

        return run

    torch._dynamo.reset()
    try:
        torch.compile(function, backend=backend, fullgraph=True)(*args, **kwargs)
    except _CaughtError:
        pass
    finally:
        torch._dynamo.reset()
    [(graph_module, values)] = caught
    return Case(graph_module, list(values), graph_module, values)


def _aot(function: Callable[..., Any], *args: Any) -> tuple[Case, Case]:
    """By AOTAutograd: the forward graph and the backward graph, each with the values it got."""
    from torch._functorch import aot_autograd

    aot: Any = aot_autograd
    caught: list[tuple[GraphModule, list[Any]]] = []

    def compiler(graph_module: GraphModule, _: Sequence[Any]) -> Any:
        def run(*values: Any) -> Any:
            caught.append((graph_module, [value.detach() for value in values]))
            return graph_module(*values)

        return aot.make_boxed_func(run)

    aot.aot_function(function, fw_compiler=compiler)(*args).sum().backward()
    forward, backward = (
        Case(graph_module, values, graph_module, tuple(values)) for graph_module, values in caught
    )
    return forward, backward


# --------------------------------------------------------------------------------- transformers


def _ids(*shape: int) -> Tensor:
    return torch.randint(3, 50, shape)


_SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "vocab_size": 50,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_layer=12, n_head=2, n_embd=16, n_positions=32, vocab_size=50, use_cache=False,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model: nn.Module = GPT2LMHeadModel(config).eval()
    return model


@_case
def gpt2_exported() -> Case:
    return _exported(_gpt2(), _ids(1, 8))


@_case
def gpt2_decomposed() -> Case:
    args = (_ids(1, 8),)
    return _of_program(torch.export.export(_gpt2(), args).run_decompositions(), args, {})


@_case
def gpt2_compiled() -> Case:
    return _compiled(_gpt2(), _ids(1, 8))


@_case
def llama_exported() -> Case:
    # Its rotary embedding is computed in a wrap_with_set_grad_enabled.
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **_SMALL, num_hidden_layers=12, num_key_value_heads=1, head_dim=8, use_cache=False
    )
    return _exported(LlamaForCausalLM(config).eval(), _ids(1, 8))


@_case
def llama_static_cache_exported() -> Case:
    # One step of decoding, with the keys and values written in place into buffers.
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
    from transformers.integrations.executorch import TorchExportableModuleWithStaticCache

    config = LlamaConfig(**_SMALL, num_hidden_layers=4, num_key_value_heads=1, head_dim=8)
    model = LlamaForCausalLM(config).eval()
    model.generation_config = GenerationConfig(
        use_cache=True,
        cache_implementation="static",
        cache_config={"batch_size": 1, "max_cache_len": 16},
    )
    module = TorchExportableModuleWithStaticCache(
        model, batch_size=1, max_cache_len=16, device=torch.device("cpu")
    )
    return _exported(module, input_ids=_ids(1, 1), cache_position=torch.tensor([3]), grad=False)


@_case
def mixtral_exported() -> Case:
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        **_SMALL, num_hidden_layers=4, num_key_value_heads=1, num_local_experts=4, use_cache=False
    )
    return _exported(MixtralForCausalLM(config).eval(), _ids(1, 6))


@_case
def bert_exported() -> Case:
    from transformers import BertConfig, BertModel

    config = BertConfig(**_SMALL, num_hidden_layers=12, max_position_embeddings=32)
    mask = torch.tensor([[1] * 8, [1] * 5 + [0] * 3])
    return _exported(BertModel(config).eval(), _ids(2, 8), attention_mask=mask)


@_case
def t5_exported() -> Case:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        num_layers=6, num_decoder_layers=6, d_model=16, d_kv=8, d_ff=32, num_heads=2, vocab_size=50,
        use_cache=False,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config).eval()
    return _exported(model, input_ids=_ids(1, 8), decoder_input_ids=_ids(1, 6))


@_case
def whisper_exported() -> Case:
    from transformers import WhisperConfig, WhisperModel

    config = WhisperConfig(
        vocab_size=60, d_model=16, encoder_layers=4, decoder_layers=4, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=8,
        max_source_positions=16, max_target_positions=16, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1, use_cache=False,
    )  # fmt: skip
    model = WhisperModel(config).eval()
    sound = torch.randn(1, 8, 32)
    return _exported(model, input_features=sound, decoder_input_ids=_ids(1, 6))


@_case
def clip_text_exported() -> Case:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(**_SMALL, num_hidden_layers=12, max_position_embeddings=16)
    return _exported(CLIPTextModel(config).eval(), _ids(1, 8))


@_case
def vit_exported() -> Case:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        num_hidden_layers=12, num_attention_heads=2, hidden_size=16, intermediate_size=32,
        image_size=32, patch_size=8,
    )  # fmt: skip
    return _exported(ViTModel(config).eval(), torch.randn(1, 3, 32, 32))


@_case
def swin_exported() -> Case:
    from transformers import SwinConfig, SwinModel

    config = SwinConfig(
        image_size=64, patch_size=2, embed_dim=8, depths=[2, 2, 6, 2], num_heads=[1, 2, 4, 8],
        window_size=4,
    )  # fmt: skip
    return _exported(SwinModel(config).eval(), torch.randn(1, 3, 64, 64))


@_case
def convnext_exported() -> Case:
    from transformers import ConvNextConfig, ConvNextModel

    config = ConvNextConfig(hidden_sizes=[8, 16, 32, 64], depths=[3, 3, 9, 3], image_size=32)
    return _exported(ConvNextModel(config).eval(), torch.randn(1, 3, 32, 32))


@_case
def mamba_exported() -> Case:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(
        num_hidden_layers=4, hidden_size=8, state_size=4, vocab_size=50, use_cache=False,
        use_mambapy=False,
    )  # fmt: skip
    return _exported(MambaForCausalLM(config).eval(), _ids(1, 6))


# ----------------------------------------------------------------------------------- convolutions


class _Bottleneck(nn.Module):
    """The block of a ResNet-50, with the in-place ReLUs and the in-place sum of the usual code."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        outside = 4 * width
        self.conv1 = nn.Conv2d(inside, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outside, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential()
        if stride != 1 or inside != outside:
            self.downsample.append(nn.Conv2d(inside, outside, 1, stride, bias=False))
            self.downsample.append(nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += self.downsample(x)
        out: Tensor = self.relu(y)
        return out


def _resnet50() -> nn.Module:
    layers: list[nn.Module] = [
        nn.Conv2d(3, 4, 7, 2, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    inside = 4
    for depth, width, stride in ((3, 4, 1), (4, 8, 2), (6, 16, 2), (3, 32, 2)):
        for block in range(depth):
            layers.append(_Bottleneck(inside, width, stride if block == 0 else 1))
            inside = 4 * width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 10)]
    return nn.Sequential(*layers).eval()


@_case
def resnet50_exported() -> Case:
    return _exported(_resnet50(), torch.randn(1, 3, 64, 64))


@_case
def resnet50_traced() -> Case:
    return _traced(_resnet50(), torch.randn(1, 3, 64, 64))


@_case
def resnet50_reloaded() -> Case:
    # Through a .pt2 file.
    args = (torch.randn(1, 3, 64, 64),)
    file = io.BytesIO()
    torch.export.save(torch.export.export(_resnet50(), args), file)
    file.seek(0)
    return _of_program(torch.export.load(file), args, {})


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Dropout2d(0.5),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.LeakyReLU(0.1, inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
        nn.BatchNorm1d(10, track_running_stats=False),
    ).train()


@_case
def cnn_train_traced() -> Case:
    return _traced(_cnn(), torch.randn(2, 3, 8, 8))


@_case
def cnn_train_exported() -> Case:
    return _exported(_cnn(), torch.randn(2, 3, 8, 8))


@_case
def cnn_train_decomposed() -> Case:
    # The running statistics are outputs now, copied back by whoever calls the program.
    args = (torch.randn(2, 3, 8, 8),)
    return _of_program(torch.export.export(_cnn(), args).run_decompositions(), args, {})


class _Residual(nn.Module):
    def __init__(self, inside: int, outside: int, time: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(4, inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.time = nn.Linear(time, outside)
        self.norm2 = nn.GroupNorm(4, outside)
        self.dropout = nn.Dropout(0.1)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1)
        self.skip = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time(F.silu(time))[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        out: Tensor = self.skip(x) + h
        return out


class _SelfAttention2d(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(4, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(y).chunk(3, dim=-1)
        q, k, v = self.split(q), self.split(k), self.split(v)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = x + self.out(y).transpose(1, 2).reshape(x.shape)
        return out

    def split(self, x: Any) -> Any:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class _UNet(nn.Module):
    """A diffusion model's: time embedding, two levels down and up, attention at the bottom."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        c, t = channels, 4 * channels
        self.frequencies = nn.Buffer(torch.exp(-torch.arange(c // 2) / (c // 2)), persistent=False)
        self.time = nn.Sequential(nn.Linear(c, t), nn.SiLU(inplace=True), nn.Linear(t, t))
        self.first = nn.Conv2d(3, c, 3, padding=1)
        self.down1 = _Residual(c, c, t)
        self.shrink1 = nn.Conv2d(c, c, 3, stride=2, padding=1)
        self.down2 = _Residual(c, 2 * c, t)
        self.shrink2 = nn.Conv2d(2 * c, 2 * c, 3, stride=2, padding=1)
        self.middle1 = _Residual(2 * c, 2 * c, t)
        self.attention = _SelfAttention2d(2 * c, heads=2)
        self.middle2 = _Residual(2 * c, 2 * c, t)
        self.grow2 = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.up2 = _Residual(4 * c, c, t)
        self.grow1 = nn.Upsample(scale_factor=2.0, mode="bilinear")
        self.up1 = _Residual(2 * c, c, t)
        self.norm = nn.GroupNorm(4, c)
        self.last = nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        angles = steps[:, None] * self.frequencies
        time = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        skip1 = self.down1(self.first(x), time)
        skip2 = self.down2(self.shrink1(skip1), time)
        h = self.middle1(self.shrink2(skip2), time)
        h = self.middle2(self.attention(h), time)
        h = self.up2(torch.cat([self.grow2(h), skip2], dim=1), time)
        h = self.up1(torch.cat([self.grow1(h), skip1], dim=1), time)
        out: Tensor = self.last(F.silu(self.norm(h), inplace=True))
        return out


@_case
def unet_exported() -> Case:
    return _exported(_UNet().eval(), torch.randn(1, 3, 16, 16), torch.rand(1))


@_case
def unet_traced() -> Case:
    return _traced(_UNet().eval(), torch.randn(1, 3, 16, 16), torch.rand(1))


# ----------------------------------------------------------------- own blocks: tied, routed, cached


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        scores = q @ k.transpose(-1, -2)
        scores.mul_(1 / math.sqrt(k.shape[-1]))
        y = (scores.softmax(-1) @ v).transpose(1, 2)
        x = x + self.out(y.flatten(-2))
        y = self.down(F.gelu(self.up(self.norm2(x))))
        out: Tensor = x + y
        return out


class _Decoder(nn.Module):
    """Tied: the embedding's weight is the head's."""

    def __init__(self, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, width)
        self.blocks = nn.Sequential(*(_Block(width, heads=2) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 50, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.blocks(self.embedding(ids))))
        return out


@_case
def tied_traced() -> Case:
    return _traced(_Decoder(), _ids(2, 6))


@_case
def tied_exported() -> Case:
    return _exported(_Decoder(), _ids(2, 6))


@_case
def dynamic_exported() -> Case:
    # The sizes are nodes of the graph.
    sizes = {"ids": {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}}
    return _exported(_Decoder(), _ids(2, 6), dynamic_shapes=sizes)


@_case
def checkpointed_compiled() -> Case:
    # Each block is a tag_activation_checkpoint with a graph of its own.
    model = _Decoder()

    def run(ids: Tensor) -> Any:
        x = model.embedding(ids)
        for block in model.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        return model.head(x)

    return _compiled(run, _ids(2, 6))


class _Experts(nn.Module):
    """Every expert runs on every token; the gates of the others are zero."""

    def __init__(self, width: int = 8, experts: int = 4, chosen: int = 2) -> None:
        super().__init__()
        self.chosen = chosen
        self.router = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 16), nn.SiLU(inplace=True), nn.Linear(16, width))
            for _ in range(experts)
        )
        self.load = nn.Buffer(torch.rand(experts))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = x.view(-1, x.shape[-1])
        scores = self.router(tokens).softmax(-1)
        weights, index = scores.topk(self.chosen, dim=-1)
        weights /= weights.sum(-1, keepdim=True)
        gates = torch.zeros_like(scores).scatter_(1, index, weights)
        self.load.mul_(0.9).add_(gates.sum(0), alpha=0.1)
        out = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            out.addcmul_(expert(tokens), gates[:, number : number + 1])
        return out.view_as(x), index


@_case
def experts_exported() -> Case:
    return _exported(_Experts(), torch.randn(2, 5, 8))


@_case
def experts_traced() -> Case:
    return _traced(_Experts(), torch.randn(2, 5, 8))


class _CachedAttention(nn.Module):
    """One step of decoding with a static cache, which index_copy_ writes."""

    def __init__(self, width: int = 16, heads: int = 2, length: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.keys = nn.Buffer(torch.randn(1, heads, length, width // heads))
        self.values = nn.Buffer(torch.randn(1, heads, length, width // heads))

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(x).split(x.shape[-1], dim=-1)
        )
        self.keys.index_copy_(2, position, k)
        self.values.index_copy_(2, position, v)
        mask = torch.arange(self.keys.shape[2]) <= position
        y = F.scaled_dot_product_attention(q, self.keys, self.values, attn_mask=mask[None])
        out: Tensor = x + self.out(y.transpose(1, 2).flatten(2))
        return out


class _CachedDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_CachedAttention() for _ in range(3))

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, position)
        return x


@_case
def kv_cache_exported() -> Case:
    return _exported(_CachedDecoder(), torch.randn(1, 1, 16), torch.tensor([3]), grad=False)


@_case
def encoder_layer_traced() -> Case:
    # The modules of torch.nn, which are one node each; the second takes its fast path.
    slow = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True).train()
    fast = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    return _traced(nn.Sequential(slow, fast), torch.randn(2, 5, 8))


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, num_layers=2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(12, 5)
        self.cell = nn.LSTMCell(5, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.lstm(x)
        z, last = self.gru(y)
        return self.cell(z[0])[0], h[0] + c[1], last


@_case
def recurrent_traced() -> Case:
    return _traced(_Recurrent(), torch.randn(2, 5, 4))


@_case
def recurrent_exported() -> Case:
    return _exported(_Recurrent(), torch.randn(2, 5, 4))


# ---------------------------------------------------------------------------------------- training


def _flat_decoder() -> tuple[nn.Module, list[str], list[Tensor]]:
    model = _Decoder()
    named = dict(model.named_parameters())
    return model, list(named), [value.detach().clone() for value in named.values()]


def _gradients(
    model: nn.Module, names: Sequence[str], weights: Sequence[Tensor], ids: Tensor
) -> tuple[Tensor, Sequence[Tensor]]:
    leaves = [weight.detach().requires_grad_() for weight in weights]
    logits = torch.func.functional_call(
        model, dict(zip(names, leaves, strict=True)), (ids,), tie_weights=True
    )
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    return loss, torch.autograd.grad(loss, leaves)


@_case
def train_sgd_made() -> Case:
    # Forward, backward and the step of the optimizer in one graph.
    model, names, weights = _flat_decoder()

    def step(ids: Tensor, *weights: Tensor) -> Tensor:
        loss, gradients = _gradients(model, names, weights, ids)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.sub_(0.1 * gradient)
        return loss

    return _made(step, _ids(2, 6), *weights)


@_case
def train_momentum_foreach_made() -> Case:
    model, names, weights = _flat_decoder()
    momenta = [torch.randn_like(weight) for weight in weights]

    def step(ids: Tensor, *state: Tensor) -> Tensor:
        weights, momenta = state[: len(names)], state[len(names) :]
        loss, gradients = _gradients(model, names, weights, ids)
        torch._foreach_mul_(momenta, 0.9)
        _t._foreach_add_(momenta, gradients)
        torch._foreach_add_(weights, momenta, alpha=-0.1)
        return loss

    return _made(step, _ids(2, 6), *weights, *momenta)


@_case
def train_adam_fused_made() -> Case:
    model, names, weights = _flat_decoder()
    first = [torch.randn_like(weight) for weight in weights]
    second = [torch.rand_like(weight) for weight in weights]
    steps = [torch.tensor(3.0) for _ in weights]

    def step(ids: Tensor, *state: Tensor) -> Tensor:
        count = len(names)
        weights, first, second, steps = (
            list(state[count * part : count * (part + 1)]) for part in range(4)
        )
        loss, gradients = _gradients(model, names, weights, ids)
        torch._foreach_add_(steps, 1)
        _t._fused_adam_(
            weights, gradients, first, second, [], steps, lr=0.1, beta1=0.9, beta2=0.99,
            weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip
        return loss

    return _made(step, _ids(2, 6), *weights, *first, *second, *steps)


def _head(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    h = F.linear(x, w, b).relu()
    return (h.softmax(-1) * h.tanh()).sum(-1)


def _head_values() -> list[Tensor]:
    shapes = ((4, 8), (6, 8), (6,))
    return [torch.randn(shape).requires_grad_() for shape in shapes]


@_case
def aot_forward() -> Case:
    return _aot(_head, *_head_values())[0]


@_case
def aot_backward() -> Case:
    return _aot(_head, *_head_values())[1]


# ----------------------------------------------------------------------------------- control flow


class _Cond(nn.Module):
    """Branches over a parameter and a buffer, each with a value of its own that dies inside."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.scale = nn.Buffer(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        def yes(x: Tensor) -> Tensor:
            out: Tensor = self.linear(x).relu() * self.scale
            return out

        def no(x: Tensor) -> Tensor:
            return (x + self.scale).sin()

        h: Tensor = torch.cond(x.sum() > 0, yes, no, (x * 2,))
        return h + x


@_case
def cond_taken_exported() -> Case:
    return _exported(_Cond(), torch.rand(3, 4))


@_case
def cond_not_taken_exported() -> Case:
    return _exported(_Cond(), -torch.rand(3, 4))


class _Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, count: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        def again(count: Tensor, x: Tensor) -> Tensor:
            return count > 0

        def body(count: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            return count - 1, self.linear(x).tanh()

        left, last = _t._higher_order_ops.while_loop(again, body, (count, x))
        return left, last + x


@_case
def while_loop_exported() -> Case:
    return _exported(_Loop(), torch.tensor(3), torch.randn(2, 4))


class _Scan(nn.Module):
    def forward(self, start: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        def step(carry: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            after = carry * 0.5 + x
            return after, after.sin()

        last, outs = _t._higher_order_ops.scan(step, start, steps, dim=0)
        return last, outs


@_case
def scan_exported() -> Case:
    return _exported(_Scan(), torch.randn(4), torch.randn(3, 4))


class _Contexts(nn.Module):
    """Regions under autocast and under another grad mode, which become sub-graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.mean = nn.Buffer(torch.randn(4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            self.mean.mul_(0.9)
            self.mean.add_(x.mean(0), alpha=0.1)
            flat = x.view(-1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.linear(x)
            y.relu_()
        return y.float() + self.mean, flat * 2


@_case
def contexts_exported() -> Case:
    return _exported(_Contexts(), torch.randn(3, 4))


@_case
def contexts_compiled() -> Case:
    # Dynamo's graph has a node that enters a region and one that leaves it.
    return _compiled(_Contexts(), torch.randn(3, 4))


# ---------------------------------------------------------------------- small programs with a trick


class _Function(nn.Module):
    """A function to be exported."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


def _aliases_out(x: Tensor, y: Tensor) -> Any:
    z = x * y
    return x, x.view(-1), y.t(), z, {"again": z, "row": z[0], "number": 3, "none": None}


@_case
def outputs_alias_inputs_traced() -> Case:
    return _traced(_aliases_out, torch.randn(3, 4), torch.randn(3, 4))


@_case
def outputs_alias_inputs_exported() -> Case:
    return _exported(_Function(_aliases_out), torch.randn(3, 4), torch.randn(3, 4))


def _chunks(x: Tensor) -> Any:
    y = x + 1
    parts = y.chunk(3, dim=1)
    parts[0].mul_(2)
    left, right = torch.split(y, [2, 4], dim=1)
    right[:, 1:3].add_(parts[1])
    rows = y.unbind(0)
    rows[1].zero_()
    more = torch.tensor_split(x, 2)
    pair = torch.aminmax(y, dim=0)
    pair[0].add_(1)
    return left.sum() + rows[0].sum() + more[1].sum(), pair


@_case
def chunks_traced() -> Case:
    return _traced(_chunks, torch.randn(4, 6))


@_case
def chunks_exported() -> Case:
    return _exported(_Function(_chunks), torch.randn(4, 6), grad=False)


def _out_variants(a: Tensor, b: Tensor, c: Tensor) -> Any:
    d = torch.add(a, b, out=c)
    e = torch.empty_like(a)
    torch.mul(a, d, out=e)
    values, indices = torch.empty(3), torch.empty(3, dtype=torch.int64)
    best = torch.max(e, dim=1, out=(values, indices))
    torch.cumsum(e, 0, out=e)
    torch.mm(a, b.t(), out=torch.empty(3, 3))
    return best[0], indices, e


@_case
def out_variants_traced() -> Case:
    return _traced(_out_variants, torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 4))


def _out_overloads(a: Tensor, b: Tensor, c: Tensor) -> Any:
    d = torch.ops.aten.add.out(a, b, out=c)
    values, indices = torch.empty(3), torch.empty(3, dtype=torch.int64)
    torch.ops.aten.max.dim_max(d, 1, False, max=values, max_values=indices)
    return d, values, indices


@_case
def out_overloads_traced() -> Case:
    return _traced(_out_overloads, torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 4))


def _methods(x: Tensor, y: Tensor) -> Any:
    x.view(-1).add_(1)
    z = x.t().mul_(2).transpose(0, 1)
    z[1:].fill_(0.5).clamp_(max=0.25)
    x += y
    x[0].copy_(y[1])
    w = y.clone().squeeze_().unsqueeze_(0)
    w.masked_fill_(w > 0, -1.0)
    w[0].t_().copy_(x.t())
    return y.sigmoid().sub_(1), w, z.data, y.requires_grad_(False)


@_case
def methods_traced() -> Case:
    return _traced(_methods, torch.randn(3, 4), torch.randn(3, 4))


def _strided(x: Tensor) -> Any:
    row = x[0].expand(3, 4)
    total = row + x
    window = torch.as_strided(total, (2, 2), (4, 1), 1)
    window.mul_(3)
    total.diagonal().zero_()
    slid = total.unfold(1, 2, 1).movedim(0, -1)
    one = total.select(0, 1).narrow(0, 1, 2)
    one.copy_(torch.ones(2))
    back = total[::2].swapaxes(0, 1)
    return slid.sum() + back.mean(), one.squeeze(), row, total.view(torch.int32)


@_case
def strided_traced() -> Case:
    return _traced(_strided, torch.randn(3, 4))


@_case
def strided_exported() -> Case:
    return _exported(_Function(_strided), torch.randn(3, 4), grad=False)


def _maybe_views(x: Tensor, y: Tensor) -> Any:
    # Each returns its operand or a view of it here, and need not elsewhere.
    return (
        torch.einsum("ij->ji", x),
        torch.einsum("ij,kj->ik", x, y),
        _t.broadcast_tensors(x, y[0]),
        torch.meshgrid(x[0], y[0], indexing="ij"),
        _t.atleast_2d(x, y[0]),
        torch.reshape(x, (2, 6)),
        x.t().reshape(12),
        x.contiguous(),
        x.t().contiguous(),
        F.dropout(x, 0.5, training=False),
        x.flatten(1),
        x.to(torch.float32),
        x.to(torch.float64),
        x.type_as(y),
        x.float(),
        x.expand_as(y),
        x.resolve_conj(),
        x.real,
        torch.squeeze(x),
        torch.ravel(x),
        torch.hsplit(x, 2),
        _t.block_diag(x),
        torch.cartesian_prod(x[0]),
        torch.tensor_split(y, 3),
        torch.movedim(x, 0, 1),
        torch.unsqueeze(y, 0).squeeze(0),
        torch.positive(x),
        F.pad(x, (0, 0)),
    )


@_case
def maybe_views_traced() -> Case:
    return _traced(_maybe_views, torch.randn(3, 4), torch.randn(3, 4))


@_case
def maybe_views_exported() -> Case:
    return _exported(_Function(_maybe_views), torch.randn(3, 4), torch.randn(3, 4))


@_case
def maybe_views_decomposed() -> Case:
    args = (torch.randn(3, 4), torch.randn(3, 4))
    program = torch.export.export(_Function(_maybe_views), args)
    return _of_program(program.run_decompositions(), args, {})


def _foreach(*state: Tensor) -> Any:
    weights, gradients = list(state[:3]), list(state[3:])
    scaled = torch._foreach_mul(gradients, -0.1)
    torch._foreach_add_(weights, scaled)
    torch._foreach_copy_(gradients, weights)
    norms = torch._foreach_norm(gradients)
    torch._foreach_zero_(scaled[1:])
    return norms[0], scaled


@_case
def foreach_traced() -> Case:
    tensors = [torch.randn(3) for _ in range(6)]

    def six(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Any:
        return _foreach(a, b, c, d, e, f)

    return _traced(six, *tensors)


@_case
def foreach_made() -> Case:
    return _made(_foreach, *(torch.randn(3) for _ in range(6)))


def _detached(x: Tensor) -> Any:
    y = x * 2
    z = y.detach()
    z.add_(1)
    w = y.detach().clone()
    w.neg_()
    return y, torch.detach(w), torch.ops.aten.alias.default(x), torch.ops.aten.lift_fresh_copy(x)


@_case
def detached_traced() -> Case:
    return _traced(_detached, torch.randn(3))


def _slices(x: Tensor, y: Tensor) -> Any:
    out = torch.empty(4, 6)
    out[:2].copy_(x)
    out[2:, :3].copy_(y)
    out[2:, 3:] = 1
    out.index_put_((torch.tensor([1]), torch.tensor([2])), torch.tensor(5.0))
    out.index_add_(0, torch.tensor([3]), x[:1])
    same = out.select_scatter(x[0], 0, 1)
    return out[1:], same


def _slices_of_input(x: Tensor, y: Tensor) -> Any:
    # Tracing makes a constant of a tensor that depends on no input, and does not know x[i] = y.
    out = torch.cat([x, x])
    out[:2].copy_(x)
    out[2:, :3].copy_(y)
    out.index_add_(0, y.argmax(1)[:1], x[:1])
    return out[1:], out.select_scatter(x[0], 0, 1)


@_case
def slices_traced() -> Case:
    return _traced(_slices_of_input, torch.randn(2, 6), torch.randn(2, 3))


@_case
def slices_compiled() -> Case:
    # With operator.setitem, which returns nothing.
    return _compiled(_slices, torch.randn(2, 6), torch.randn(2, 3))


@_case
def slices_exported() -> Case:
    return _exported(_Function(_slices), torch.randn(2, 6), torch.randn(2, 3), grad=False)


@_case
def slices_decomposed() -> Case:
    args = (torch.randn(2, 6), torch.randn(2, 3))
    with torch.no_grad():
        program = torch.export.export(_Function(_slices), args)
    return _of_program(program.run_decompositions(), args, {})


def _functional(x: Tensor, mean: Tensor, var: Tensor, table: Tensor, rows: Tensor) -> Any:
    # Functions that write where neither the name nor the schema says so, and some that do not.
    a = F.batch_norm(x, mean, var, training=True)
    b = F.batch_norm(x, mean, var, training=False)
    c = F.relu(a, inplace=True)
    d = F.dropout(b, 0.5, training=False, inplace=True)
    e = F.dropout(b + 1, 0.5, training=True, inplace=True)
    f = F.embedding(rows, table, max_norm=1.0)
    g = torch.ops.aten.add_.Tensor(e, 1)
    h = torch.ops.aten.mul_(g, 2)
    i = torch.sigmoid_(F.hardtanh_(F.silu(h, inplace=True)))
    i *= 2
    i += 1
    j = F.instance_norm(x[None].transpose(1, 2), mean, var, use_input_stats=True)
    return c, d, f, i, j


@_case
def functional_traced() -> Case:
    x, mean, var, table = torch.randn(4, 3), torch.randn(3), torch.rand(3), torch.randn(5, 8)
    return _traced(_functional, x, mean, var, table, torch.tensor([4, 1]))


@_case
def functional_exported() -> Case:
    x, mean, var, table = torch.randn(4, 3), torch.randn(3), torch.rand(3), torch.randn(5, 8)
    values = (x, mean, var, table, torch.tensor([4, 1]))
    return _exported(_Function(_functional), *values, grad=False)


@functools.cache
def _custom() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Operators of our own: one writes an argument, one does not."""

    def scale_into(x: Tensor, out: Tensor) -> None:
        out.copy_(x * 2)

    def norm(x: Tensor) -> Tensor:
        return x.square().sum(-1).sqrt()

    write: Any = torch.library.custom_op("oracle::scale_into", scale_into, mutates_args=("out",))
    read: Any = torch.library.custom_op("oracle::norm", norm, mutates_args=())
    read.register_fake(lambda x: x.new_empty(x.shape[:-1]))
    return write, read


def _custom_calls(x: Tensor, y: Tensor) -> Any:
    write, read = _custom()
    write(x, y)
    z = torch.zeros_like(y)
    write(read(y)[:, None].expand(3, 4), z)
    return z + y


@_case
def custom_exported() -> Case:
    return _exported(_Function(_custom_calls), torch.randn(3, 4), torch.randn(3, 4), grad=False)


@_case
def custom_decomposed() -> Case:
    # The writer is an auto_functionalized_v2.
    args = (torch.randn(3, 4), torch.randn(3, 4))
    with torch.no_grad():
        program = torch.export.export(_Function(_custom_calls), args)
    return _of_program(program.run_decompositions(), args, {})


class _Nested(nn.Module):
    def forward(self, pair: tuple[Tensor, dict[str, Tensor]], *, b: Tensor, a: Tensor) -> Any:
        first, rest = pair
        rest["x"].add_(a)
        return {"sum": first + rest["y"], "pair": (first, [b.t(), rest["x"]])}


@_case
def nested_exported() -> Case:
    # Arguments in containers and by keyword, and not in the order of the signature.
    x, y, z, a, b = (torch.randn(2, 2) for _ in range(5))
    return _exported(_Nested(), (x, {"y": y, "x": z}), a=a, b=b, grad=False)


@_case
def regions_compiled() -> Case:
    # Three calls of one sub-graph, invoke_subgraph.
    region: Any = torch.compiler.nested_compile_region(_head)
    x, w, b = (value.detach() for value in _head_values())

    def run(x: Tensor, w: Tensor, b: Tensor) -> Any:
        return region(x, w, b) + region(x * 2, w, b) + region(x + 1, w, b)

    return _compiled(run, x, w, b)


def _complex(x: Tensor) -> Any:
    z = torch.view_as_complex(x)
    spectrum = torch.fft.fft(z)
    spectrum.real.mul_(2)
    pairs = torch.view_as_real(spectrum)
    pairs[..., 1].add_(1)
    return z.conj(), spectrum.conj().imag, pairs, spectrum.abs()


@_case
def complex_traced() -> Case:
    return _traced(_complex, torch.randn(3, 4, 2))


@_case
def complex_exported() -> Case:
    return _exported(_Function(_complex), torch.randn(3, 4, 2), grad=False)


def _empties(x: Tensor) -> Any:
    nothing = x[:0]
    made = nothing.clone()
    view = made.view(-1)
    view.add_(1)
    return torch.cat([nothing, x]), made, view


@_case
def empties_traced() -> Case:
    return _traced(_empties, torch.randn(3, 4))


class _Normalizer(nn.Module):
    """Dynamo's other habits: constants, a loop unrolled, writes through a view of an input."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(6))
        self.total = nn.Buffer(torch.randn(6))

    def forward(self, x: Tensor, cache: dict[str, Tensor]) -> Any:
        for _ in range(3):
            x = x * self.scale + torch.tensor([1.0, 2.0]).repeat(3)
        with torch.no_grad():
            self.total.add_(x.sum(0))
            cache["rows"][1:].copy_(x[:2])
        return x.relu_(), cache["rows"].view(-1), x.shape[0]


@_case
def normalizer_compiled() -> Case:
    return _compiled(_Normalizer(), torch.randn(4, 6), {"rows": torch.randn(3, 6)})


def main(names: Sequence[str]) -> None:
    """Capture and run the named programs, or all, and print what each takes."""
    for name in names or MODELS:
        start = time.perf_counter()
        case = MODELS[name]()
        captured = time.perf_counter()
        run = observe(case.graph_module, case.placeholder_values)
        done = time.perf_counter()
        writers = sum(map(bool, run.written.values()))
        print(
            f"{name:30} {len(run.storages):5} nodes  {writers:3} write  "
            f"peak {run.peak_bytes:7} at {run.peak_at:25} "
            f"elsewhere {max(run.held_elsewhere.values()):4}  "
            f"captured in {captured - start:5.2f} s, run in {done - captured:5.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
