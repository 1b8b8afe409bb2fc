"""Images of one channel with their channels last, which are contiguous as well.

What is computed of them has its channels last or not, as operators decide, and so has every
convolution after that: whether it is flattened by a view or by a copy shows which.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

import passes
from tests.conformance.captures import Captured, quiet
from tests.conformance.judge import Verdict, judge
from tests.conformance.suite import judged
from tests.oracle.run import observe, placeholders_of

IMAGE = torch.rand(2, 1, 6, 6).to(memory_format=torch.channels_last)
STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "hardswish": F.hardswish,
    "hardtanh": F.hardtanh,  # as its argument
    "sum": lambda x: x + x.sigmoid(),
    "sum_with_a_number": lambda x: x * 2 + 1,  # as its argument
    "sum_with_a_row": lambda x: x + torch.ones(6),  # as its argument
    "log_sigmoid": F.logsigmoid,
    "batch_norm": lambda x: F.batch_norm(x, None, None, training=True),
    "layer_norm": lambda x: F.layer_norm(x, (6,)),
    "group_norm": lambda x: F.group_norm(x, 1),
    "normalize": F.normalize,
    "log_softmax": lambda x: x.log_softmax(1),
    "nearest": lambda x: F.interpolate(x, scale_factor=2.0),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"),
    "clone": lambda x: x.clone(),
    "pool": lambda x: F.max_pool2d(x, 2),
}


class Then(nn.Module):
    """A step, a convolution to more channels, and both orders of what it gives, flat."""

    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.step, self.conv = step, nn.Conv2d(1, 3, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.conv(self.step(x))
        return found.flatten(), found.permute(0, 2, 3, 1).flatten()


@pytest.mark.parametrize("name", STEPS)
def test_claims_hold_of_one_channel(name: str) -> None:
    with quiet():
        program = torch.export.export(Then(STEPS[name]).eval(), (IMAGE,))
        values = placeholders_of(program, (IMAGE,))
        one = Captured(program.graph_module, values, program, (IMAGE,))
        run = observe(one.graph_module, values)
        known: dict[str, passes.Program] = {}
        assert not list(judged(one, run, "observed", known))
        found = [kind for kind, _ in judged(one, run, "declared", known)]
    assert set(found) <= {"uncertain"}


def flat(x: Tensor) -> tuple[Tensor, Tensor]:
    """Both orders; what is recorded of a run has views where the run has them."""
    return x.reshape(-1), x.permute(0, 2, 3, 1).reshape(-1)


LAST = torch.rand(2, 4, 6, 6).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x.roll((1, 2), (2, 3)),
        lambda x: x.roll(1),
        lambda x: F.rrelu(x, training=True),
    ],
)
def test_layouts_of_results(step: Callable[[Tensor], Tensor]) -> None:
    with quiet():
        graph = make_fx(lambda x: flat(step(x)))(LAST)
        assert judge(passes.load(graph, LAST), observe(graph, [LAST])) == Verdict()


@pytest.mark.parametrize(
    "step", [lambda x: F.glu(x, 1), lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect")]
)
def test_layouts_of_gradients(step: Callable[[Tensor], Tensor]) -> None:
    def gradient(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            made = step(x)
            return flat(torch.autograd.grad(made, x, torch.ones_like(made))[0])

    with quiet():
        graph = make_fx(gradient)(LAST)
        assert judge(passes.load(graph, LAST), observe(graph, [LAST])) == Verdict()
