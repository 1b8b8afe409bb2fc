"""Models to look at: `dataflow memory examples.models:gpt2`.

Each function returns a model with random weights and its example inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LinearModel(nn.Module):
    """Two linear layers with an in-place ReLU between them."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(4, 4)
        self.relu = nn.ReLU(inplace=True)
        self.linear2 = nn.Linear(4, 4)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        x1 = x1 * 2
        x1 = self.linear1(x1)
        x1 = self.relu(x1)
        x1 = self.linear2(x1)
        return x1 + x2


def linear_model() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """The model every page here begins with."""
    return LinearModel(), (torch.rand(4, 4), torch.rand(4, 4))


def gpt2() -> tuple[nn.Module, tuple[Tensor]]:
    """GPT-2 with its 12 layers and 124 million parameters, on 64 tokens."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(use_cache=False)).eval()
    return model, (torch.randint(50257, (1, 64)),)


class Bottleneck(nn.Module):
    """ResNet's block: three convolutions and a sum, every ReLU in place."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * 4
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += self.shortcut(x)
        result: Tensor = self.relu(y)
        return result


def resnet50() -> tuple[nn.Module, tuple[Tensor]]:
    """A convolutional network of ResNet-50's size, on one picture of 224 by 224."""
    stages: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels = 64
    for width, depth, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(depth):
            stages.append(Bottleneck(channels, width, stride if block == 0 else 1))
            channels = width * 4
    stages += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000)]
    return nn.Sequential(*stages).eval(), (torch.rand(1, 3, 224, 224),)
