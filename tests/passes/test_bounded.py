"""Storages whose size the data decides: never more than is claimed, and that is reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import passes
from passes import Program
from tests.oracle.run import observe, placeholders_of
from tests.passes.programs import traced

X = torch.rand(4, 3) + 0.5
ALL, NONE = torch.ones(4, 3), torch.zeros(4, 3)


class Calls(nn.Module):
    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


def exported(function: Callable[..., object], *, dynamic: bool = False) -> Any:
    sizes = {"x": {0: torch.export.Dim("rows")}} if dynamic else None
    return torch.export.export(Calls(function), (X,), dynamic_shapes=sizes)


def picked_twice(x: Tensor) -> Tensor:
    some = x[x > 0.7] * 2
    return some[some > 0.9].nonzero() + 1


def loss_of_picked(x: Tensor) -> Tensor:
    some = x[x > 0]
    return nn.functional.mse_loss(some, some * 2) + 1


# With the inputs on which as much is picked as can be.
BOUNDED: dict[str, tuple[Callable[..., object], Tensor]] = {
    "nonzero": (lambda x: x.nonzero() * 2, ALL),
    "masked_select": (lambda x: x.masked_select(x > 0) + 1, ALL),
    "a mask as an index": (lambda x: x[x > 0] * 2, ALL),
    "a mask of rows": (lambda x: x[x[:, 0] > 0] * 2, ALL),
    "where": (lambda x: torch.where(x > 0)[1] + 1, ALL),
    "unique": (lambda x: x.unique() * 2, torch.arange(12.0).view(4, 3)),
    "unique rows": (lambda x: x.unique(dim=0) * 2, torch.arange(12.0).view(4, 3)),
    "unique_consecutive": (lambda x: x.unique_consecutive() + 1, torch.arange(12.0).view(4, 3)),
    "what was picked, picked from": (picked_twice, ALL),
    "a loss that keeps what it sums": (loss_of_picked, ALL),
}

# The smaller of a number and what the data decides: bounded at given sizes, by no function of them.
FIRST: dict[str, tuple[Callable[..., object], Tensor]] = {
    "the first of those picked": (lambda x: x[x > 0][:2] * 2, ALL),
    "the first rows": (lambda x: torch.cat([x.nonzero()[:3], x.nonzero()]) * 2, ALL),
}


@pytest.mark.parametrize("name", [*BOUNDED, *FIRST])
def test_no_run_holds_more_and_one_holds_as_much(name: str) -> None:
    function, fullest = (BOUNDED | FIRST)[name]
    source = exported(function)
    memory = passes.memory(passes.load(source))
    assert memory.bounded
    assert not memory.unsized
    values = [placeholders_of(source, (x,)) for x in (X, NONE, fullest)]
    runs = [observe(source.graph_module, given) for given in values]
    for op in memory.program.ops:
        assert max(run.alive[op.name] for run in runs) <= memory.at(op), op
    assert runs[-1].peak_bytes == memory.peak_bytes


@pytest.mark.parametrize("name", BOUNDED)
def test_dynamic_dimensions_make_the_bound_a_function(name: str) -> None:
    function, _ = BOUNDED[name]
    source = exported(function, dynamic=True)
    symbolic = passes.symbolic_memory(passes.load(source))
    for rows in (1, 2, 5):
        memory = passes.memory(passes.load(source, torch.rand(rows, 3)))
        assert symbolic.at(rows=rows).nbytes == memory.peak_bytes
        assert [s.name for s in symbolic.bounded] == [s.name for s in memory.bounded]


class Masked(nn.Module):
    """A loss over the rows that the data picks."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        rows = x[:, 0] > 0
        out, goal = self.inner(x)[rows], x[rows, :2]
        return nn.functional.smooth_l1_loss(out, goal, reduction="sum") / rows.sum().clamp(min=1)


class Routed(nn.Module):
    """Experts, each of which has the rows that it is chosen for."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(3, 2)
        self.experts = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        weight, chosen = self.gate(x).softmax(-1).max(-1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = torch.where(chosen == number)[0]
            out[rows] += expert(x[rows]) * weight[rows, None]
        return out.square().sum()


def real_tensors(program: Program, model: nn.Module, x: Tensor) -> list[Tensor]:
    named = {**dict(model.named_parameters()), "x": x}
    return [named[entry.name] for entry in program.entry.values]


@pytest.mark.parametrize("make", [Masked, Routed])
def test_no_training_step_holds_more(make: Callable[[], nn.Module]) -> None:
    model = make()
    program = passes.load_training_step(model, None, torch.optim.SGD, X)
    memory = passes.memory(program)
    assert memory.bounded
    assert not memory.unsized
    assert program.held_by_python is None
    graph = program.graph
    assert isinstance(graph, torch.fx.GraphModule)
    for x in (X, -X, torch.randn(4, 3), torch.randn(4, 3)):
        values = real_tensors(program, model, x)
        run = observe(graph, values)
        assert all(run.alive[op.name] <= memory.at(op) for op in program.ops)
        model.zero_grad()
        loss = model(x)
        loss.backward()
        expected = [parameter.grad for parameter in model.parameters()]
        with torch.no_grad():
            found, *gradients = graph(*[value.clone() for value in values])
        assert torch.equal(found, loss)
        for gradient, grown in zip(gradients, expected, strict=True):
            assert grown is not None
            assert torch.allclose(gradient, grown)


def test_a_training_step_that_picks_everything_holds_as_much() -> None:
    model = Masked()
    program = passes.load_training_step(model, None, None, X)
    run = observe(program.graph, real_tensors(program, model, X))  # type: ignore[arg-type]
    assert run.peak_bytes == passes.memory(program).peak_bytes


def test_a_forward_with_sizes_of_the_data_is_recorded() -> None:
    fit = passes.fits(Routed(), X, budget="1 MiB")
    assert fit.program.capture == "a forward without gradients on fake tensors"
    assert fit.memory.bounded
    assert fit.held_by_python is None


def test_dynamic_dimensions_bound_a_training_step() -> None:
    def step(rows: int) -> Program:
        x, sizes = torch.rand(rows, 3), {"x": {0: "rows"}}
        return passes.load_training_step(Masked(), None, torch.optim.SGD, x, dynamic=sizes)

    symbolic = passes.symbolic_memory(step(4))
    for rows in (2, 7):
        memory = passes.memory(step(rows))
        assert symbolic.at(rows=rows).nbytes == memory.peak_bytes
        assert [s.name for s in symbolic.bounded] == [s.name for s in memory.bounded]


def test_a_mask_may_pick_more_elements_than_there_are() -> None:
    """Operand and mask are broadcast; torch's own range of the size knows the operand only."""
    program = traced(lambda x: x[:, :1].masked_select(x > 0) + 1, X)
    assert isinstance(program.graph, torch.fx.GraphModule)
    run = observe(program.graph, [ALL])
    assert passes.memory(program).peak_bytes == run.peak_bytes == 2 * 48


def test_what_is_stretched_by_a_mask_of_unknown_length_has_no_bound() -> None:
    def picked(x: Tensor) -> Tensor:
        return x[:1].masked_select(x.repeat_interleave(x[:, 0].long(), 0) > 0) + 1

    memory = passes.memory(passes.load(exported(picked)))
    assert "masked_select" in [storage.name for storage in memory.unsized]


UNBOUNDED: dict[str, Callable[[Tensor], object]] = {
    "repeat_interleave": lambda x: x.repeat_interleave(x[:, 0].long(), 0),
    "bincount": lambda x: x.long().view(-1).bincount(),
    "a number of the data": lambda x: torch.zeros(x.long()[0, 0].item()) + 1,  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", UNBOUNDED)
def test_what_nothing_bounds_is_listed(name: str) -> None:
    memory = passes.memory(passes.load(exported(UNBOUNDED[name])))
    assert memory.unsized
    assert not memory.bounded


def test_known_sizes_have_no_bound_of_their_own() -> None:
    program: Program = traced(lambda x: x * 2, X)
    memory = passes.memory(program)
    assert not memory.bounded
    (held,) = [c.storage for c in memory.alive_at(program.op("mul"))]
    assert held.most == held.nbytes == 48


def test_the_report_names_them() -> None:
    from passes.report import data, text

    memory = passes.memory(passes.load(exported(lambda x: x.nonzero() * 2)))
    told = "\n".join(text.memory(memory))
    assert "count as the most the data can make them: nonzero, mul" in told
    answer = data.memory(memory)
    assert answer["bounded"] == ["nonzero", "mul"]
    assert answer["alive_at_peak"] == [
        {"id": "mul", "nbytes": None, "most": 192},
        {"id": "nonzero", "nbytes": None, "most": 192},
    ]
