"""Programs with tensors on several devices, of which this machine may have only one.

The meta device is a second device that every machine has; fake tensors are on any.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.node import Argument

import passes
from passes.errors import CaptureError, ProgramError

CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without the device")


def _linear(device: str) -> nn.Linear:
    """One that is not initialised, which fake tensors of an absent device cannot be."""
    made = nn.Linear(8, 8, device="meta")
    made.weight = nn.Parameter(torch.empty(8, 8, device=device))
    made.bias = nn.Parameter(torch.empty(8, device=device))
    return made


class Split(nn.Module):
    """The first layer on one device, the second on another."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__()
        self.first, self.second, self.to_device = _linear(first), _linear(second), second

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(torch.relu(self.first(x)).to(self.to_device))
        return y


class Moves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.to("cuda").relu()


PARAMETERS = (8 * 8 + 8) * 4
BATCH = 4 * 8 * 4


def test_each_device_has_its_own_bytes() -> None:
    program = passes.load(Split("cpu", "meta"), torch.empty(4, 8))
    assert any("tensors are on cpu and meta" in note for note in program.notes)
    memory = passes.memory(program)
    by_device = memory.breakdown.by_device
    assert set(by_device) == {"cpu", "meta"}
    total = memory.breakdown.total
    assert [a + b for a, b in zip(by_device["cpu"], by_device["meta"], strict=True)] == list(total)
    # The input and the results of linear and relu; what is moved and the result.
    fit = passes.Fit.of(memory, "1 MiB")
    assert fit.by_device == {"cpu": PARAMETERS + 3 * BATCH, "meta": PARAMETERS + 2 * BATCH}
    assert "on each device" in str(fit)
    plan = passes.plan(program)
    assert {device: arena.size for device, arena in plan.arenas.items()} == {
        "cpu": 2 * BATCH,
        "meta": 2 * BATCH,
    }


def test_one_device_needs_no_words() -> None:
    program = passes.load(Split("cpu", "cpu"), torch.empty(4, 8))
    assert not program.notes
    fit = passes.Fit.of(passes.memory(program), "1 MiB")
    assert fit.by_device == {"cpu": fit.needed}
    assert "on each device" not in str(fit)


class Picks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0]


def test_what_the_data_decides_is_on_the_only_device() -> None:
    fit = passes.fits(Picks(), torch.empty(4, 8), budget="1 MiB")
    assert fit.memory.bounded
    assert fit.by_device == {"cpu": fit.needed}


def test_an_allocator_is_of_one_device() -> None:
    program = passes.load(Split("cpu", "meta"), torch.empty(4, 8))
    found = passes.cuda_memory(program)
    assert found.device == "meta"
    assert max(found.rounded) == 1024 + 512 + 512
    assert max(passes.cuda_memory(program, "cpu").rounded) == 1024 + 3 * 512
    with pytest.raises(ProgramError, match=r"cpu, meta: say which .*device='meta'"):
        passes.cuda_memory(program, "cuda")


def test_of_two_accelerators_one_has_to_be_named() -> None:
    with FakeTensorMode():
        x = torch.empty(4, 8, device="cuda:0")
    graph = fx.Graph()
    y = graph.call_function(torch.ops.aten.relu.default, (graph.placeholder("x"),))
    to: dict[str, Argument] = {"device": torch.device("cuda:1")}
    graph.output(graph.call_function(torch.ops.aten._to_copy.default, (y,), to))
    program = passes.load(fx.GraphModule(nn.Module(), graph), x)
    with pytest.raises(ProgramError, match="say which"):
        passes.cuda_memory(program)
    assert max(passes.cuda_memory(program, "cuda:0").rounded) == 1024
    assert max(passes.cuda_memory(program, "cuda:1").rounded) == 512


@CUDA
def test_gradients_on_an_absent_device_do_not_end_the_process() -> None:
    with FakeTensorMode():
        model, x = Split("cuda", "cpu"), torch.empty(4, 8, device="cuda")
    program = passes.load(model, x)
    assert program.capture == "torch.export under no_grad"
    assert set(passes.plan(program).arenas) == {"cuda:0", "cpu"}
    assert passes.cuda_memory(program).device == "cuda:0"
    assert passes.fits(model, x, budget="1 MiB").by_device["cpu"] == PARAMETERS + 2 * BATCH
    with pytest.raises(CaptureError, match=r"gradients of fake tensors on cuda:0.*meta device"):
        passes.load_training_step(model, lambda y: y.sum(), None, x)


@CUDA
def test_what_moves_to_an_absent_device_is_told_what_to_do() -> None:
    x = torch.empty(4, 8)
    with pytest.raises(CaptureError, match=r"(?s)test_devices.py.*has no such device"):
        passes.load(Moves(), x)
    with pytest.raises(CaptureError, match=r"(?s)test_devices.py.*has no such device"):
        passes.fits(Moves(), x, budget="1 MiB")


def test_half_on_the_meta_device_is_told_what_to_do() -> None:
    model = nn.Sequential(_linear("meta"), _linear("cpu"))
    with pytest.raises(CaptureError, match="on one device; on the meta device all of them"):
        passes.load(model, torch.empty(4, 8))
    # The meta device stands for the CPU here.
    assert passes.fits(model, torch.empty(4, 8), budget="1 MiB").by_device.keys() == {"cpu"}
