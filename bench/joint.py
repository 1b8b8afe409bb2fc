"""Forward and backward of a model in one graph, for the benchmarks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx


def training(model: nn.Module, *inputs: Tensor) -> tuple[GraphModule, list[Tensor]]:
    """The graph, and its arguments: weights, buffers, inputs."""
    names = [name for name, _ in model.named_parameters()]
    weights = [weight.detach() for weight in model.parameters()]
    state = dict(model.named_buffers())

    def step(weights: list[Tensor], buffers: list[Tensor], *inputs: Tensor) -> object:
        leaves = [weight.detach().requires_grad_() for weight in weights]
        known = {**dict(zip(names, leaves, strict=True)), **dict(zip(state, buffers, strict=True))}
        out = torch.func.functional_call(model, known, inputs)
        found = getattr(out, "logits", out)
        loss = found.float().square().mean()
        return loss, torch.autograd.grad(loss, leaves, allow_unused=True)

    graph = make_fx(step, tracing_mode="fake")(weights, list(state.values()), *inputs)
    return graph, [*weights, *state.values(), *inputs]
