"""Dataflow analyses of PyTorch programs: who aliases whom, what is alive, how much memory.

    program = passes.load(model, example_input)
    passes.aliases(program)      storage classes: who shares memory, who writes it
    passes.liveness(program)     what is alive before, after and while each op runs
    passes.memory(program)       bytes alive at each op, the peak, and who holds it
    passes.fits(model, inputs, budget="24 GiB")     whether it runs, or trains, in that
    passes.cuda_memory(program)  the same in blocks of torch's allocator for CUDA
    passes.symbolic_memory(program)  the peak as a function of dynamic dimensions
    passes.plan(program)         an offset for every storage, in one arena per device
    passes.advise(program)       what would lower the peak, and by how much
    passes.run(MyAnalysis, program)

Results are immutable, computed once per program, and each type has `of(program)`, so that
an analysis of your own can name the results it needs as fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from passes.advice.suggest import Advice, Kind, Suggestion, advise
from passes.alias import Aliases
from passes.breakdown import Breakdown, Category, Holding
from passes.budget import parse_budget
from passes.cuda import CudaMemory
from passes.errors import BudgetError, CaptureError, PlanError, ProgramError, TrustError
from passes.fit import Fit
from passes.holding import Use, WhyAlive
from passes.liveness import LiveAtExit, Liveness, LiveRange
from passes.memory import Memory
from passes.plan import Plan, Slot, plan
from passes.planning.buffers import Buffer
from passes.planning.solve import Layout, plan_buffers
from passes.program import (
    Effects,
    Op,
    OpKind,
    Origin,
    Program,
    Region,
    Role,
    TensorType,
    Value,
)
from passes.run import run
from passes.stages import GraphAnalyser, LiveStage, LiveVariable, LiveVariableVector
from passes.storages import UNKNOWN, Storage, StorageClass
from passes.symbolic.cases import PeakAt
from passes.symbolic.largest import Largest
from passes.symbolic.memory import SymbolicMemory

if TYPE_CHECKING:
    from passes.frontends.capture.tracer import GraphModule as GraphModule
    from passes.frontends.capture.tracer import Tracer as Tracer
    from passes.frontends.shapes import shape_prop_pass as shape_prop_pass

__all__ = [
    "UNKNOWN", "Advice", "Aliases", "Breakdown", "BudgetError", "Buffer", "CaptureError",
    "Category", "CudaMemory", "Effects", "EffectsKnown", "Fit", "GraphAnalyser", "GraphModule",
    "Holding", "Kind", "Largest", "Layout", "LiveAtExit", "LiveRange", "LiveStage", "LiveVariable",
    "LiveVariableVector", "Liveness", "Memory", "Op", "OpKind", "Origin", "PeakAt", "Plan",
    "PlanError", "Program", "ProgramError", "Region", "Role", "Slot", "Storage", "StorageClass",
    "Suggestion", "SymbolicMemory", "TensorType", "Tracer", "TrustError", "Use", "Value",
    "WhyAlive", "advise", "aliases", "compile_backend", "cuda_memory", "fits", "liveness", "load",
    "load_training_step", "memory", "parse_budget", "plan", "plan_buffers", "run",
    "shape_prop_pass", "symbolic_memory",
]  # fmt: skip

EffectsKnown = Literal["observed", "declared"]
"""How the effects of ops are known."""

_NEED_TORCH = {
    "GraphModule": "passes.frontends.capture.tracer",
    "Tracer": "passes.frontends.capture.tracer",
    "shape_prop_pass": "passes.frontends.shapes",
}


def load(
    source: object,
    /,
    *example_inputs: object,
    trust: bool = False,
    effects: EffectsKnown = "observed",
    **example_kwargs: object,
) -> Program:
    """The Program of a model, a graph or a file, as called with example inputs.

    `source` is an `nn.Module` (exported; traced where export refuses, and the Program
    says which), a `torch.fx.GraphModule`, a `torch.export.ExportedProgram`, or the path
    of a `.pt2` file.  torch's reader of files may unpickle, which can run code from the
    file, so a path needs `trust=True`.  Inputs may be left out where the source has
    recorded its own; an ExportedProgram takes those that it was captured for, as its own
    module does.  Nothing is computed: example tensors may be on the meta device, and
    the model is not changed.  Inputs called `trust` or `effects` are given by position.

    `effects` is how to know what each op does.  `"observed"`: each is executed once on fake
    tensors.  `"declared"`: from operators' schemas and the types that an exported graph has
    recorded; executes nothing and costs a fraction, what it cannot decide is "may", and an
    op that is no operator may do anything.

    Raises `CaptureError` for what cannot be captured or does not fit, `TrustError` for a
    file without trust.
    """
    program: Program = _frontend("load").load(
        source, example_inputs, example_kwargs, trust=trust, effects=effects
    )
    return program


# Any: a module's functions are not known before it is imported.
def _frontend(name: str) -> Any:
    try:
        return import_module(f"passes.frontends.{name}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ProgramError(
            "loading a model needs torch: pip install 'torch-dataflow-passes[torch]', or the "
            "build of torch you want"
        ) from error


def load_training_step(
    model: object,
    loss: object,
    optimizer: object,
    /,
    *inputs: object,
    targets: Sequence[object] | None = None,
    zero_grad: Literal["set_to_none", "to_zero", "never"] = "set_to_none",
    step: Literal["first", "later"] = "later",
    dynamic: Mapping[str, Mapping[int, object]] | None = None,
    **keywords: object,
) -> Program:
    """The Program of one training step: forward, loss, backward, optimizer update.

    `loss` is called with the model's output and the targets: the last inputs, as many as
    it needs, unless `targets` are given, a tuple or list.  Where it is None the model's output
    is the loss, or has it as `.loss`.  `optimizer` is a `torch.optim.Optimizer` over the model's
    parameters, its class, a function of parameters that makes one, or None for no update.
    `zero_grad` is what the loop does with gradients before each step: `"set_to_none"`,
    `"to_zero"`, or `"never"`, so that they accumulate.  `step` is which one: in the
    `"first"`, gradients and the optimizer's state do not exist before.  `keywords` go to
    the model; what it calls as one of the options above is given by position.

    `dynamic` names sizes of inputs that are not fixed, for `symbolic_memory`, by the model's
    arguments and "target": `{"x": {0: "batch"}, "target": {0: "batch"}}`.  A name is a word, or a
    `torch.export.Dim`, which has a range; sizes of one name are equal.  The program itself is at
    the sizes given.

    Nothing is computed, and neither the model nor the optimizer is changed.  The graph
    takes and returns what `entry` and `kept` say, the loss first, and runs on real tensors.

    Raises `CaptureError` for a step that cannot be captured.
    """
    program: Program = _frontend("training").load_training_step(
        model, loss, optimizer, inputs, keywords, targets, zero_grad, step, dynamic or {}
    )
    return program


def compile_backend(
    report: Callable[[Program], object], *, backward: bool = False
) -> Callable[..., Callable[..., Any]]:
    """A backend for `torch.compile` that analyses every graph of a run, and runs it unchanged.

        programs: list[passes.Program] = []
        compiled = torch.compile(model, backend=passes.compile_backend(programs.append))
        compiled(x)

    `report` is called with the Program of each graph before the graph first runs: one per
    piece between graph breaks, and again for each recompilation.  With `backward`, the
    graphs are AOTAutograd's, a forward and a backward one for each, and these run.

    What cannot be analysed raises `CaptureError`, inside the error of `torch.compile`.
    """
    backend: Callable[..., Callable[..., Any]]
    backend = _frontend("compiled").compile_backend(report, backward)
    return backend


def fits(
    model: object,
    inputs: object = None,
    *,
    budget: str | int,
    optimizer: object = None,
    loss: Callable[..., Any] | None = None,
    targets: Sequence[object] | None = None,
    zero_grad: Literal["set_to_none", "to_zero", "never"] = "set_to_none",
    dtype: object = None,
    dynamic: Mapping[str, Mapping[int, object]] | None = None,
) -> Fit:
    """Whether a model runs, or trains, within a budget of memory.

    `model` is an `nn.Module`, on the meta device if it should not be allocated; a function
    that makes it, and maybe its inputs, as `(model, inputs)`, and is called under the meta
    device; a `torch.export.ExportedProgram`; or a Program.  `inputs` are a mapping by name, a
    tuple or list by position, or one input.  Their values are not read.

    `budget` is a text such as `"24 GiB"` or `"24GB"`, or an int of bytes.  With an `optimizer`
    or a `loss` it is of one training step, after the optimizer has made its state: the
    optimizer is one, its class, a function of parameters, or its name in `torch.optim`, such
    as `"adamw"`; `loss`, `targets` and `zero_grad` are as for `load_training_step`.  Without,
    it is of the forward under `torch.no_grad()`.  `dtype`, or its name, is what `model.to`
    casts the model to first, and its inputs.  `dynamic` names sizes of inputs, as for
    `load_training_step`, of which `Fit.largest_size` then finds the largest that fits.

    Nothing is computed or allocated, and nothing of yours is changed.  The meta device stands
    for the CPU.  Raises `BudgetError` for a budget that is none and for sizes that only a run
    decides, `CaptureError` for what cannot be captured.
    """
    nbytes = parse_budget(budget)
    program: Program = _frontend("fitting").program_to_fit(
        model,
        inputs,
        loss=loss,
        optimizer=optimizer,
        targets=targets,
        zero_grad=zero_grad,
        dtype=dtype,
        dynamic=dynamic,
    )
    return Fit.of(Memory.of(program), nbytes)


def aliases(program: Program) -> Aliases:
    """Which storages values are, and who writes them."""
    return Aliases.of(program)


def liveness(program: Program, live_at_exit: LiveAtExit = "outputs") -> Liveness:
    """Which values and storage classes are alive at each op.

    `live_at_exit` is what the exit needs: `"outputs"`, the returned values and every
    entry storage the program writes; `"all"`, everything, as a training step that keeps
    values for its backward.
    """
    return Liveness.of(program, live_at_exit)


def memory(program: Program) -> Memory:
    """How many bytes are alive at each op, and where the peak is."""
    return Memory.of(program)


def cuda_memory(program: Program, device: str | None = None) -> CudaMemory:
    """How many bytes torch's allocator for CUDA would hand out, and take from the device.

    `device` is which, of a program with tensors on several: by default the only one besides the
    CPU.  A program that was captured on one device only, such as the CPU, is taken to be on a GPU.

    Raises `ProgramError` where it is not clear which device is meant, `BudgetError` for a size
    that nothing bounds.
    """
    return CudaMemory.of(program, device)


def symbolic_memory(program: Program, names: Mapping[str, str] | None = None) -> SymbolicMemory:
    """The bytes of a program with dynamic dimensions, as functions of these.

    Dimensions have the names of their `torch.export.Dim`s where these are still known, which
    they are not once a program was saved; else the name is the place, such as `x.shape[0]`.
    `names` gives others: `{"batch": "x.shape[0]"}`.

    Raises `ProgramError` for a program without dynamic dimensions.
    """
    return SymbolicMemory.of(program, names)


def __getattr__(name: str) -> object:
    # These subclass torch's classes; `import passes` itself stays without torch.
    if name in _NEED_TORCH:
        return getattr(import_module(_NEED_TORCH[name]), name)
    raise AttributeError(f"module 'passes' has no attribute {name!r}")
