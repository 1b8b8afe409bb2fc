"""Training steps that the analyses are judged on: architectures, optimizers, ways to zero.

The weights are random and the sizes tiny, the depth and the structure are the usual ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn, optim
from torch.utils.checkpoint import checkpoint

from passes.frontends.training import ZeroGrad
from tests.oracle import models

__all__ = ["STEPS", "StepCase"]

Optimizers = Callable[..., optim.Optimizer]


@dataclass(frozen=True)
class StepCase:
    """A model, what it is trained with, and the arguments of `load_training_step`."""

    model: nn.Module
    loss: Callable[..., Any] | None
    inputs: tuple[Any, ...]
    optimizer: Optimizers = optim.AdamW
    zero_grad: ZeroGrad = "set_to_none"
    keywords: Mapping[str, Any] = field(default_factory=dict)
    targets: int = 0
    """How many of the last inputs are for the loss."""

    first: bool = False
    """It is the optimizer's first step."""

    asks: bool = False
    """The model asks whether it is traced, and then does the same in another way."""


STEPS: dict[str, Callable[[], StepCase]] = {}


def _step(build: Callable[[], StepCase]) -> Callable[[], StepCase]:
    @functools.wraps(build)
    def seeded() -> StepCase:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return build()

    STEPS[build.__name__] = seeded
    return seeded


def _ids(*shape: int) -> Tensor:
    return torch.randint(3, 50, shape)


def _mean(out: Any) -> Tensor:
    """A loss on the first floating tensor of whatever a model returns."""
    first = out if isinstance(out, Tensor) else out[0]
    result: Tensor = first.float().square().mean()
    return result


_SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "vocab_size": 50,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _language(
    name: str,
    config: str,
    optimizer: Optimizers = optim.AdamW,
    asks: bool = False,
    **options: Any,
) -> StepCase:
    """A model of transformers that computes its own loss from labels.

    Those for generation look at their mask's data, unless they are traced.
    """
    import transformers

    model: nn.Module = getattr(transformers, name)(getattr(transformers, config)(**options))
    ids = _ids(2, 8)
    keywords = {"input_ids": ids, "labels": ids}
    return StepCase(model.train(), None, (), optimizer, keywords=keywords, asks=asks)


def _vision(name: str, config: str, size: int, **options: Any) -> StepCase:
    import transformers

    made = getattr(transformers, config)(image_size=size, **options)
    model: nn.Module = getattr(transformers, name)(made)
    return StepCase(model.train(), _mean, (torch.randn(2, 3, size, size),))


# ---------------------------------------------------------------------------- transformers


@_step
def gpt2() -> StepCase:  # tied weights
    return _language(
        "GPT2LMHeadModel", "GPT2Config", asks=True, n_layer=2, n_head=2, n_embd=16, n_positions=32,
        vocab_size=50, use_cache=False, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip


@_step
def llama() -> StepCase:
    more: Any = {"num_hidden_layers": 4, "num_key_value_heads": 1, "use_cache": False}
    return _language("LlamaForCausalLM", "LlamaConfig", asks=True, **_SMALL, **more)


@_step
def qwen2() -> StepCase:
    more: Any = {"num_hidden_layers": 3, "num_key_value_heads": 1, "use_cache": False}
    return _language("Qwen2ForCausalLM", "Qwen2Config", optim.SGD, True, **_SMALL, **more)


@_step
def mixtral() -> StepCase:  # experts, in one product of groups
    more: Any = {"num_hidden_layers": 2, "num_key_value_heads": 1, "num_local_experts": 4}
    return _language(
        "MixtralForCausalLM", "MixtralConfig", asks=True, **_SMALL, **more, use_cache=False
    )


@_step
def gpt_neox() -> StepCase:
    more: Any = {"num_hidden_layers": 3, "use_cache": False}
    return _language("GPTNeoXForCausalLM", "GPTNeoXConfig", optim.Adam, True, **_SMALL, **more)


@_step
def opt() -> StepCase:
    return _language(
        "OPTForCausalLM", "OPTConfig", num_hidden_layers=3, hidden_size=16, ffn_dim=32,
        num_attention_heads=2, vocab_size=50, max_position_embeddings=32, word_embed_proj_dim=16,
        use_cache=False,
    )  # fmt: skip


@_step
def bert() -> StepCase:
    return _language(
        "BertForMaskedLM", "BertConfig", optim.Adam, **_SMALL, num_hidden_layers=2,
        max_position_embeddings=32,
    )  # fmt: skip


@_step
def albert() -> StepCase:  # one layer's weights, used four times
    return _language(
        "AlbertForMaskedLM", "AlbertConfig", **_SMALL, embedding_size=8, num_hidden_layers=4,
        max_position_embeddings=32,
    )  # fmt: skip


@_step
def distilbert() -> StepCase:
    return _language(
        "DistilBertForMaskedLM", "DistilBertConfig", optim.RMSprop, dim=16, hidden_dim=32,
        n_heads=2, n_layers=3, vocab_size=50, max_position_embeddings=32,
    )  # fmt: skip


@_step
def t5() -> StepCase:
    return _language(
        "T5ForConditionalGeneration", "T5Config", num_layers=3, num_decoder_layers=3, d_model=16,
        d_kv=8, d_ff=32, num_heads=2, vocab_size=50, use_cache=False, decoder_start_token_id=0,
    )  # fmt: skip


@_step
def mamba() -> StepCase:
    return _language(
        "MambaForCausalLM", "MambaConfig", num_hidden_layers=2, hidden_size=8, state_size=4,
        vocab_size=50, use_cache=False, use_mambapy=False,
    )  # fmt: skip


@_step
def whisper() -> StepCase:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=60, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=8,
        max_source_positions=16, max_target_positions=16, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1, use_cache=False,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config).train()
    keywords = {"input_features": torch.randn(1, 8, 32), "labels": _ids(1, 6)}
    return StepCase(model, None, (), keywords=keywords, asks=True)


@_step
def clip() -> StepCase:  # two towers and a contrastive loss
    from transformers import CLIPConfig, CLIPModel

    text = {**_SMALL, "num_hidden_layers": 2, "max_position_embeddings": 16}
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 16, "patch_size": 8,
    }  # fmt: skip
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).train()
    ids = torch.cat([_ids(2, 7), torch.full((2, 1), 2)], 1)
    pixels = torch.randn(2, 3, 16, 16)
    keywords = {"input_ids": ids, "pixel_values": pixels, "return_loss": True}
    return StepCase(model, None, (), keywords=keywords)


@_step
def vit() -> StepCase:
    return _vision(
        "ViTModel", "ViTConfig", 32, num_hidden_layers=4, num_attention_heads=2, hidden_size=16,
        intermediate_size=32, patch_size=8,
    )  # fmt: skip


@_step
def swin() -> StepCase:
    return _vision(
        "SwinModel", "SwinConfig", 32, patch_size=2, embed_dim=8, depths=[2, 2],
        num_heads=[1, 2], window_size=4,
    )  # fmt: skip


@_step
def convnext() -> StepCase:
    return _vision(
        "ConvNextModel", "ConvNextConfig", 32, hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 2, 1]
    )


@_step
def dinov2() -> StepCase:
    return _vision(
        "Dinov2Model", "Dinov2Config", 32, num_hidden_layers=2, num_attention_heads=2,
        hidden_size=16, patch_size=8,
    )  # fmt: skip


@_step
def wav2vec2() -> StepCase:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        conv_dim=[8, 8], conv_stride=[4, 2], conv_kernel=[8, 3], num_feat_extract_layers=2,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, apply_spec_augment=False,
        layerdrop=0.0,
    )  # fmt: skip
    return StepCase(Wav2Vec2Model(config).train(), _mean, (torch.randn(1, 200),))


@_step
def yolos() -> StepCase:  # positions as an image of a batch of one
    from transformers import YolosConfig, YolosModel

    config = YolosConfig(
        image_size=[32, 32], patch_size=8, hidden_size=16, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=32, num_detection_tokens=5,
    )  # fmt: skip
    return StepCase(YolosModel(config).train(), _mean, (torch.randn(2, 3, 32, 32),))


# ------------------------------------------------------------------------- other structures


@_step
def resnet50() -> StepCase:
    images, classes = torch.randn(2, 3, 64, 64), torch.tensor([1, 7])
    sgd = functools.partial(optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-4)
    model = models._resnet50().train()
    return StepCase(model, F.cross_entropy, (images, classes), sgd, targets=1)


@_step
def cnn_accumulating() -> StepCase:
    images, classes = torch.randn(2, 3, 8, 8), torch.tensor([1, 7])
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    adam = functools.partial(optim.Adam, foreach=True)
    return StepCase(models._cnn(), loss, (images, classes), adam, "never", targets=1)


@_step
def unet() -> StepCase:  # a diffusion model's step
    noisy, noise = torch.randn(1, 3, 16, 16), torch.randn(1, 3, 16, 16)
    fused = functools.partial(optim.AdamW, fused=True)
    model = models._UNet().train()
    return StepCase(model, F.mse_loss, (noisy, torch.rand(1), noise), fused, targets=1)


@_step
def encoder() -> StepCase:
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True)
    model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).train()
    return StepCase(model, _mean, (torch.randn(2, 5, 8),), optim.Adagrad, "to_zero")


@_step
def recurrent() -> StepCase:
    def loss(out: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return out[0].sum() + out[1].square().mean() + out[2].sum()

    adam = functools.partial(optim.Adam, amsgrad=True, maximize=True)
    return StepCase(models._Recurrent().train(), loss, (torch.randn(2, 5, 4),), adam, "to_zero")


class _Variational(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 6))
        self.decode = nn.Sequential(nn.Linear(3, 8), nn.ELU(inplace=True), nn.Linear(8, 12))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, spread = self.encode(x).chunk(2, dim=-1)
        z = mean + torch.randn_like(mean) * (0.5 * spread).exp()
        return self.decode(z).sigmoid_(), mean, spread


@_step
def variational() -> StepCase:
    def loss(out: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        seen, mean, spread = out
        divergence = -0.5 * (1 + spread - mean.square() - spread.exp()).sum()
        return F.binary_cross_entropy(seen, x, reduction="sum") + divergence

    x = torch.rand(4, 12)
    rms = functools.partial(optim.RMSprop, momentum=0.9, centered=True)
    return StepCase(_Variational(), loss, (x, x), rms, targets=1)


class _Messages(nn.Module):
    """Two rounds of message passing on a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        for layer in (self.first, self.second):
            h = layer(x)
            x = torch.zeros_like(h).index_add_(0, target, h[source]).relu_()
        return x


@_step
def messages() -> StepCase:
    edges = torch.tensor([[0, 1, 2, 3, 3], [1, 2, 0, 0, 1]])
    nadam = functools.partial(optim.NAdam, decoupled_weight_decay=True)
    classes = torch.tensor([0, 1, 2, 0])
    inputs = (torch.randn(4, 4), edges, classes)
    return StepCase(_Messages(), F.cross_entropy, inputs, nadam, targets=1)


class _GraphAttention(nn.Module):
    """Weights by edge, normalized by the node that they lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.weigh = nn.Linear(4, 8), nn.Linear(16, 1)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        h, count = self.inner(x), x.shape[0]
        weights = F.leaky_relu(self.weigh(torch.cat([h[source], h[target]], -1))).squeeze(-1)
        most = torch.full((count,), -1e9).scatter_reduce(0, target, weights, "amax")
        weights = (weights - most[target]).exp()
        weights = weights / torch.zeros(count).scatter_add(0, target, weights)[target]
        out = torch.zeros_like(h)
        return out.index_put_((target,), h[source] * weights[:, None], accumulate=True)


@_step
def graph_attention() -> StepCase:
    edges = torch.tensor([[0, 1, 2, 3, 3], [1, 2, 0, 0, 1]])
    return StepCase(_GraphAttention(), _mean, (torch.randn(4, 4), edges), optim.Adamax)


class _Mixed(nn.Module):
    """Layers in low precision with statistics of float32."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.GroupNorm(2, 4), nn.Flatten(),
            nn.Linear(144, 5),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found: Tensor = self.layers(x)
        return found


@_step
def mixed() -> StepCase:
    inputs = (torch.randn(2, 3, 8, 8), torch.tensor([0, 1]))
    return StepCase(_Mixed().train(), F.cross_entropy, inputs, targets=1)


class _Bags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.pairs = nn.EmbeddingBag(20, 4, mode="mean"), nn.Bilinear(4, 4, 3)

    def forward(self, words: Tensor, begins: Tensor) -> Tensor:
        h = self.table(words, begins)
        found: Tensor = self.pairs(h, h.flip(0))
        return found


@_step
def bags() -> StepCase:
    words, begins = torch.randint(0, 20, (7,)), torch.tensor([0, 3, 5])
    return StepCase(_Bags(), _mean, (words, begins), optim.Adagrad)


class _Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))
            for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            made: Tensor = checkpoint(block, x, use_reentrant=False)
            x = x + made
        return x


@_step
def checkpointed() -> StepCase:
    return StepCase(_Checkpointed(), _mean, (torch.randn(2, 8),), optim.Adamax)


class _Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows, self.columns = nn.Linear(6, 6), nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.scale = nn.Parameter(torch.ones(8))
        self.calls = nn.Buffer(torch.zeros(()))
        self.frozen = nn.Linear(8, 8).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        for _ in range(3):
            x = torch.add(x, self.rows(self.norm(x).transpose(1, 2)).transpose(1, 2))
            x = torch.add(x, F.gelu(self.columns(self.norm(x))) * self.scale)
        out: Tensor = self.frozen(x)
        return out


@_step
def mixer() -> StepCase:
    lion = functools.partial(optim.Rprop, foreach=True)
    return StepCase(_Mixer(), _mean, (torch.randn(2, 6, 8),), lion, "never")


@_step
def adadelta() -> StepCase:
    model = nn.Sequential(nn.Linear(4, 4), nn.PReLU(), nn.Linear(4, 2))
    return StepCase(model, nn.MSELoss(), (torch.randn(3, 4), torch.randn(3, 2)), optim.Adadelta,
                    targets=1)  # fmt: skip


class Routed(nn.Module):
    """Says in rows of zeros and a one which expert takes a row."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(4, 3), nn.Parameter(torch.randn(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        weight, chosen = self.gate(x).softmax(-1).max(-1)
        taken = F.one_hot(chosen, 3)
        load = taken.float().mean(0).square().sum()
        out: Tensor = taken.to(x.dtype) @ self.experts * weight[:, None]
        return out.square().mean() + load


@_step
def routed() -> StepCase:
    return StepCase(Routed(), _mean, (torch.randn(5, 4),))


@_step
def radam() -> StepCase:
    model = nn.Sequential(nn.Linear(4, 4), nn.Softplus(), nn.Linear(4, 2))
    return StepCase(model, nn.L1Loss(), (torch.randn(3, 4), torch.randn(3, 2)), optim.RAdam,
                    targets=1)  # fmt: skip


@_step
def first_adam() -> StepCase:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    inputs = (torch.randn(3, 4), torch.randn(3, 2))
    return StepCase(model, nn.MSELoss(), inputs, optim.Adam, "never", targets=1, first=True)


@_step
def first_momentum() -> StepCase:
    momentum = functools.partial(optim.SGD, lr=0.1, momentum=0.9)
    images, classes = torch.randn(2, 3, 8, 8), torch.tensor([1, 7])
    model = models._cnn()
    return StepCase(model, F.cross_entropy, (images, classes), momentum, targets=1, first=True)


@_step
def first_adagrad() -> StepCase:  # begins with state
    inputs = (torch.randn(3, 4), torch.randn(3, 2))
    return StepCase(
        nn.Linear(4, 2), nn.MSELoss(), inputs, optim.Adagrad, "to_zero", targets=1, first=True
    )


class _Clipping(optim.SGD):
    def step(self, closure: Any = None) -> Any:
        nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], 0.1)
        return super().step(closure)


@_step
def clipped() -> StepCase:
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))
    return StepCase(model, _mean, (torch.randn(8, 8),), _Clipping)


@_step
def number_read() -> StepCase:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        error = (out - y).square()
        return error.mean() * (2 / (error.max().item() + 1))

    inputs = (torch.randn(3, 4), torch.randn(3, 2))
    return StepCase(nn.Linear(4, 2), loss, inputs, targets=1)


@_step
def adafactor() -> StepCase:  # goes by the larger of two numbers that the data decides
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    return StepCase(model, nn.MSELoss(), (torch.randn(3, 4), torch.randn(3, 2)), optim.Adafactor,
                    targets=1)  # fmt: skip


@_step
def number_of_both() -> StepCase:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        scale, same = torch.full((), 3.0), torch.full((), 2.0)
        error = (out - y).square()
        scale.mul_(error.detach().max().item())  # what was known of it no longer holds
        return error.mean() * scale.item() * same.item()

    inputs = (torch.randn(3, 4), torch.randn(3, 2))
    return StepCase(nn.Linear(4, 2), loss, inputs, targets=1)


class _Speech(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv1d(4, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, sound: Tensor) -> Tensor:
        found: Tensor = self.out(F.gelu(self.conv(sound)).permute(2, 0, 1)).log_softmax(-1)
        return found


@_step
def speech() -> StepCase:  # data decides a size in the loss; fakes get another overload
    lengths = torch.full((2,), 7), torch.tensor([3, 2])
    inputs = (torch.randn(2, 4, 7), torch.randint(1, 5, (2, 3)), *lengths)
    return StepCase(_Speech(), nn.CTCLoss(), inputs, targets=3, asks=True)
