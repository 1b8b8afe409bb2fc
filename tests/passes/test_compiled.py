"""`compile_backend`: which graphs it sees, and that the run is as without it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._functorch.aot_autograd import aot_export_joint_with_descriptors

import passes
from passes import Program, Role


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _compiled(
    function: Any, *, backward: bool = False, **options: Any
) -> tuple[Any, list[Program]]:
    programs: list[Program] = []
    backend = passes.compile_backend(programs.append, backward=backward)
    return torch.compile(function, backend=backend, **options), programs


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.linear(x))
        y[0] = 1
        y += 1
        out: Tensor = y.relu_()
        return out


def _entries(program: Program) -> dict[str, Role]:
    return {entry.name: entry.role for entry in program.entry.values}


def test_a_graph_is_analysed_and_runs_unchanged() -> None:
    model, x = _Block(), torch.rand(3, 4)
    compiled, programs = _compiled(model.eval())
    assert torch.equal(compiled(x), model(x))
    [program] = programs
    aliases = passes.aliases(program)
    written = [op.target for op in program.ops if aliases.written_by(op)]
    assert written == ["operator.setitem", "operator.iadd", "Tensor.relu_"]
    assert len({c for op in program.ops for c in aliases.written_by(op)}) == 1
    assert not program.assumed
    assert program.capture == "torch.compile"


def test_inputs_have_the_names_and_roles_of_the_model() -> None:
    compiled, programs = _compiled(_Block())
    compiled(torch.rand(3, 4))
    assert _entries(programs[0]) == {
        "linear.weight": Role.PARAMETER,
        "linear.bias": Role.PARAMETER,
        "norm.weight": Role.PARAMETER,
        "norm.bias": Role.PARAMETER,
        "norm.running_mean": Role.BUFFER,
        "norm.running_var": Role.BUFFER,
        "norm.num_batches_tracked": Role.BUFFER,
        "x": Role.INPUT,
    }


def test_each_piece_between_graph_breaks_is_a_program() -> None:
    def broken(x: Tensor) -> Tensor:
        y = x * 2
        torch._dynamo.graph_break()
        return y + 1

    compiled, programs = _compiled(broken)
    x = torch.rand(3)
    assert torch.equal(compiled(x), broken(x))
    assert [program.name for program in programs] == ["graph 0", "graph 1"]
    targets = [next(op.target for op in p.ops if op.operands) for p in programs]
    assert targets == ["operator.mul", "operator.add"]


def test_a_call_with_other_sizes_is_analysed_at_its_sizes() -> None:
    compiled, programs = _compiled(lambda x: x * 2, dynamic=False)
    for size in (3, 5, 3):
        compiled(torch.rand(size))
    assert [passes.memory(program).peak_bytes for program in programs] == [12, 20]


def test_dynamic_sizes_are_those_of_the_first_call() -> None:
    model = _Block()
    compiled, programs = _compiled(model, dynamic=True)
    compiled(torch.rand(3, 4))
    compiled(torch.rand(5, 4))
    [program] = programs
    assert not program.assumed
    assert passes.memory(program).timeline[-1] == 3 * 4 * 4


def test_training_goes_on_through_the_graph() -> None:
    model, x = _Block(), torch.rand(3, 4)
    compiled, _ = _compiled(model)
    compiled(x).sum().backward()
    grad = model.linear.weight.grad
    assert grad is not None
    model.zero_grad()
    model(x).sum().backward()
    assert model.linear.weight.grad is not None
    assert torch.equal(grad, model.linear.weight.grad)


def test_backward_graphs_are_programs_too() -> None:
    def loss(x: Tensor, w: Tensor) -> Tensor:
        return (x @ w).sigmoid().sum()

    x, w = torch.rand(3, 4), torch.rand(4, 2, requires_grad=True)
    compiled, programs = _compiled(loss, backward=True)
    compiled(x, w).backward()
    assert [program.name for program in programs] == ["graph 0, forward", "graph 0, backward"]
    assert w.grad is not None
    [wanted] = torch.autograd.grad(loss(x, w), w)
    assert torch.allclose(w.grad, wanted)


def test_parts_of_autograds_graphs_have_roles() -> None:
    model = _Block()
    compiled, programs = _compiled(model, backward=True)
    compiled(torch.rand(3, 4)).sum().backward()
    forward, backward = programs
    assert _entries(forward)["linear.weight"] is Role.PARAMETER
    assert _entries(forward)["norm.running_mean"] is Role.BUFFER
    assert [kept.name for kept in forward.kept] == [
        "norm.num_batches_tracked", "norm.running_mean", "norm.running_var",
    ]  # fmt: skip
    assert _entries(backward)["grad.output[0]"] is Role.GRADIENT
    gradients = {kept.name for kept in backward.kept if kept.role is Role.GRADIENT}
    assert gradients == {f"grad.{name}" for name, _ in model.named_parameters()}


def test_a_joint_graph_has_roles_and_phases() -> None:
    model, x = nn.Linear(4, 2), torch.rand(3, 4)
    with contextlib.ExitStack() as stack:
        joint = aot_export_joint_with_descriptors(stack, model, (x,))
        graph = joint.graph_module
        program = passes.load(graph)
    assert _entries(program) == {
        "weight": Role.PARAMETER,
        "bias": Role.PARAMETER,
        "input[0]": Role.INPUT,
        "grad.output[0]": Role.GRADIENT,
    }
    assert [(kept.role, kept.name) for kept in program.kept] == [
        (Role.GRADIENT, "grad.weight"),
        (Role.GRADIENT, "grad.bias"),
    ]
    phases = dict.fromkeys(op.phase for op in program.ops if op.phase)
    assert list(phases) == ["forward", "backward"]


def test_tied_weights_are_one_storage() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(5, 4)
            self.head = nn.Linear(4, 5, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: Tensor) -> Any:
            return self.head(self.embed(ids))

    compiled, programs = _compiled(Tied())
    compiled(torch.tensor([1, 2]))
    assert passes.memory(programs[0]).entry_bytes[Role.PARAMETER] == 5 * 4 * 4


def test_inputs_that_share_storage_are_known_to() -> None:
    def write(x: Tensor, y: Tensor) -> Tensor:
        x.add_(1)
        return y * 2

    base = torch.rand(4)
    compiled, programs = _compiled(write)
    compiled(base, base[:2])
    entries = [entry.value for entry in programs[0].entry.values]
    assert passes.aliases(programs[0]).must_alias(*entries)


def test_report_has_to_be_a_function() -> None:
    with pytest.raises(passes.CaptureError, match=r"programs\.append"):
        passes.compile_backend([])  # type: ignore[arg-type]  # the point
