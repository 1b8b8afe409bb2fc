"""Programs exported with dynamic dimensions: facts of the sizes taken, and what depends on them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sympy
import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._sympy.functions import FloorDiv

import passes
from passes import Program
from passes.frontends.dynamic.symbols import Reader

X = torch.arange(16.0).view(4, 4)


class Calls(nn.Module):
    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


def exported(function: Callable[..., object]) -> ExportedProgram:
    dynamic = {"x": {0: Dim("rows", min=2)}}
    return torch.export.export(Calls(function), (X,), dynamic_shapes=dynamic)


def sized(program: Program) -> list[str]:
    """The nodes that a note says depend on sizes."""
    notes = [note for note in program.notes if note.startswith("at other sizes")]
    return notes[0].rpartition(": ")[2].split(", ") if notes else []


DEPENDS = {
    "contiguous": lambda x: (x[:, :1]).contiguous() + 1,
    "reshape": lambda x: x.t().reshape(-1) + 1,
    "flatten": lambda x: x.t().flatten() + 1,
}
HOLDS = {
    "contiguous": lambda x: (x + 1).contiguous() + 1,
    "reshape": lambda x: (x * 2).reshape(-1) + 1,
    "flatten": lambda x: x.flatten() + 1,
    "view": lambda x: (x * 2).view(-1) + 1,
    "transpose": lambda x: x.t() + 1,
    "other dtype": lambda x: x.t().to(torch.float64) + 1,
    "fixed sizes": lambda x: (x.sum(0).view(2, 2).t().reshape(-1) + 1) * x,
}


def through_export(function: Callable[..., object]) -> Program:
    return passes.load(exported(function))


def declared(function: Callable[..., object]) -> Program:
    return passes.load(exported(function), effects="declared")


def through_make_fx(function: Callable[..., object]) -> Program:
    return passes.load(make_fx(function, tracing_mode="symbolic")(X), X)


def through_dynamo(function: Callable[..., object]) -> Program:
    torch._dynamo.reset()
    programs: list[Program] = []
    x = X.clone()
    torch._dynamo.mark_dynamic(x, 0)
    torch.compile(function, backend=passes.compile_backend(programs.append))(x)
    (program,) = programs
    return program


CAPTURES = (through_export, declared, through_dynamo)


@pytest.mark.parametrize("capture", CAPTURES)
@pytest.mark.parametrize("name", DEPENDS)
def test_a_choice_that_depends_on_sizes_is_named(
    name: str, capture: Callable[[Callable[..., object]], Program]
) -> None:
    assert sized(capture(DEPENDS[name])) == [name]


@pytest.mark.parametrize("capture", CAPTURES)
@pytest.mark.parametrize("name", HOLDS)
def test_what_holds_at_every_size_is_not(
    name: str, capture: Callable[[Callable[..., object]], Program]
) -> None:
    assert not sized(capture(HOLDS[name]))


@pytest.mark.parametrize("capture", [*CAPTURES, through_make_fx])
def test_the_sizes_taken_are_noted_by_every_capture(
    capture: Callable[[Callable[..., object]], Program],
) -> None:
    (note,) = capture(HOLDS["view"]).notes[:1]
    assert note.startswith("dynamic dimensions are taken at")
    assert ".shape[0] = 4" in note


def test_a_bare_graph_may_be_given_other_dimensions() -> None:
    graph = make_fx(lambda x: x * 2, tracing_mode="symbolic")(X)
    program = passes.load(graph, torch.ones(3))
    assert passes.memory(program).peak_bytes == 3 * 4
    assert not program.notes


def test_the_sizes_of_a_training_step_are_noted() -> None:
    """Where some are dynamic, and not where none is."""
    model = nn.Linear(4, 1)
    dynamic = {"input": {0: "rows"}, "target": {0: "rows"}}
    inputs = (X, torch.ones(4, 1))
    step = passes.load_training_step(
        model, nn.functional.mse_loss, torch.optim.SGD, *inputs, dynamic=dynamic
    )
    (note,) = step.notes
    assert "are taken at the sizes given: input.shape[0] = 4, target.shape[0] = 4" in note
    assert not passes.load_training_step(
        model, nn.functional.mse_loss, torch.optim.SGD, *inputs
    ).notes


def test_the_sizes_taken_are_noted() -> None:
    program = passes.load(exported(HOLDS["view"]), torch.ones(7, 4))
    assert "dynamic dimensions are taken at the example inputs: x.shape[0] = 7" in program.notes
    assert passes.memory(program).peak_bytes == 2 * 7 * 4 * 4


def test_a_program_without_dynamic_dimensions_says_nothing() -> None:
    program = passes.load(torch.export.export(Calls(DEPENDS["reshape"]), (X,)))
    assert not program.notes


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_facts_are_those_of_a_run_at_these_sizes(rows: int) -> None:
    x = torch.ones(rows, 4)
    program = passes.load(exported(DEPENDS["reshape"]), x)
    aliases = passes.aliases(program)
    view, source = (program.op(name).results[0] for name in ("reshape", "t"))
    real = x.t().reshape(-1).untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    assert aliases.must_alias(view, source) == real
    assert aliases.may_alias(view, source) == real


def test_what_a_capture_recorded_for_other_sizes_is_not_taken() -> None:
    """What follows `masked_select` is as large as the run makes it, at most as `x` is."""
    program = passes.load(
        exported(lambda x: x.masked_select(x > 1) * 2 + x.sum()), torch.ones(64, 4)
    )
    assert {s.name: s.most for s in passes.memory(program).bounded}["mul"] == 64 * 4 * 4


class Chunks(nn.Module):
    def forward(self, x: Tensor) -> object:
        return x.narrow(0, 0, x.shape[0] // x.shape[1]).chunk(3, 0)


def test_a_guard_that_divides_by_a_size_of_0_does_not_hold() -> None:
    """It was asked at other sizes: here the captured branch is not taken."""
    sizes = ({0: Dim.AUTO, 1: Dim.AUTO},)
    chunks = torch.export.export(Chunks(), (torch.ones(6, 3),), dynamic_shapes=sizes)
    program = passes.load(chunks, torch.ones(2, 5))
    assert "the exported module refuses these inputs" in program.notes[1]
    assert passes.memory(program).peak_bytes == 0
    symbolic = passes.symbolic_memory(passes.load(chunks))
    assert symbolic.conditions
    assert symbolic.cases.of({"x.shape[0]": (2, 2), "x.shape[1]": (5, 5)})


def test_nor_does_one_that_was_asked_on_symbols() -> None:
    rows, columns = sympy.symbols("s0 s1", integer=True, positive=True)
    reader = Reader({rows: "rows", columns: "columns"}, {"rows": (2, None), "columns": (2, None)})
    (condition,) = reader.conditions(sympy.Eq(FloorDiv(rows, FloorDiv(rows, columns)), 3))
    assert condition.holds({"rows": 6, "columns": 3})
    assert not condition.holds({"rows": 2, "columns": 5})


def test_a_batch_of_one_is_normalised_in_training_as_the_run_does() -> None:
    """Torch's fakes of batch norm divide by the number of values less one."""
    norm = torch.export.export(
        nn.BatchNorm1d(4), (torch.ones(3, 4),), dynamic_shapes=({0: Dim("rows", min=1)},)
    )
    assert passes.symbolic_memory(passes.load(norm)).at(rows=1).nbytes == 4 * 4
    program = passes.load(norm, torch.ones(1, 4))
    written = passes.aliases(program).written_by(program.op("batch_norm"))
    assert {found.id for found in written} == {"running_mean", "running_var"}


SINGLE = (torch.ones(1, 4, 1), torch.ones(4), torch.ones(4), torch.ones(4), torch.ones(4))


@pytest.mark.parametrize(
    ("name", "training"),
    [
        ("native_batch_norm", (True,)),
        ("_native_batch_norm_legit", (True,)),
        ("_native_batch_norm_legit_functional", (True,)),
        ("_batch_norm_with_update", ()),
        ("_batch_norm_with_update_functional", ()),
    ],
)
def test_single_values_have_the_results_of_the_run(name: str, training: tuple[bool, ...]) -> None:
    operator = getattr(torch.ops.aten, name).default
    graph = fx.Graph()
    given = [graph.placeholder(f"x{number}") for number in range(len(SINGLE))]
    called = graph.call_function(operator, (*given, *training, 0.1, 1e-5))
    graph.output(called)
    module = fx.GraphModule(nn.Module(), graph)
    program = passes.load(module, *SINGLE)
    real = module(*[x.clone() for x in SINGLE])
    claims = [value.type for value in program.op(called.name).results]
    assert [claim and claim.shape for claim in claims] == [x.shape for x in real]
