"""Graphs of real architectures for the benchmark of plans: inference, and training steps.

Made on the meta device, at sizes that are used: nothing is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import transformers
from torch import Tensor, optim

import passes
from examples.models import gpt2, resnet50
from passes import Program


def _ids(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.long)


def _text(batch: int, length: int) -> dict[str, Tensor]:
    return {"input_ids": _ids(batch, length), "labels": _ids(batch, length)}


def _pictures(batch: int, size: int) -> dict[str, Tensor]:
    return {"pixel_values": torch.zeros(batch, 3, size, size)}


def _made() -> dict[str, tuple[Any, dict[str, Any]]]:
    """A model and its inputs, by name.  Those with labels compute their own loss."""
    t: Any = transformers  # its types are not asked for
    llama = t.LlamaConfig(
        use_cache=False, hidden_size=1024, intermediate_size=2816, num_hidden_layers=12,
        num_attention_heads=16, num_key_value_heads=4,
    )  # fmt: skip
    mixtral = t.MixtralConfig(
        use_cache=False, hidden_size=512, intermediate_size=1024, num_hidden_layers=6,
        num_attention_heads=8, num_key_value_heads=2,
    )  # fmt: skip
    mamba = t.MambaConfig(
        use_cache=False, use_mambapy=False, hidden_size=256, num_hidden_layers=4, vocab_size=5000
    )
    return {
        "BERT": (t.BertForMaskedLM(t.BertConfig()), _text(8, 128)),
        "LLaMA": (t.LlamaForCausalLM(llama), _text(1, 512)),
        "Mixtral": (t.MixtralForCausalLM(mixtral), _text(1, 128)),
        "Mamba": (t.MambaForCausalLM(mamba), _text(1, 32)),
        "ViT": (t.ViTModel(t.ViTConfig()), _pictures(8, 224)),
        "Swin": (t.SwinModel(t.SwinConfig()), _pictures(4, 224)),
        "DINOv2": (t.Dinov2Model(t.Dinov2Config()), _pictures(2, 224)),
        "ConvNeXt": (t.ConvNextModel(t.ConvNextConfig()), _pictures(4, 224)),
        "EfficientNet": (
            t.EfficientNetModel(t.EfficientNetConfig(image_size=224)),
            _pictures(4, 224),
        ),
    }


def _mean(out: Any) -> Tensor:
    """A loss on the first result."""
    result: Tensor = (out if isinstance(out, Tensor) else out[0]).float().square().mean()
    return result


def graphs() -> Iterator[tuple[str, Program]]:
    """Each with its name."""
    transformers.logging.set_verbosity_error()
    with torch.device("meta"):
        models: Mapping[str, tuple[Any, dict[str, Any]]] = {
            **{
                name: (model, {"input" if name == "ResNet-50" else "input_ids": inputs[0]})
                for name, (model, inputs) in (("GPT-2", gpt2()), ("ResNet-50", resnet50()))
            },
            **_made(),
        }
    for name, (model, inputs) in models.items():
        asked = {key: value for key, value in inputs.items() if key != "labels"}
        yield f"{name}, inference", passes.load(model.eval(), **asked)
        loss = None if "labels" in inputs else _mean
        step = passes.load_training_step(model.train(), loss, optim.AdamW, **inputs)
        yield f"{name}, training step", step
