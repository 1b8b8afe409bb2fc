"""Dataflow analyses of PyTorch programs: who aliases whom, what is alive, how much memory.

    program = passes.load(model, example_input)
    passes.aliases(program)      storage classes: who shares memory, who writes it
    passes.liveness(program)     what is alive before, after and while each op runs
    passes.memory(program)       bytes alive at each op, the peak, and who holds it
    passes.run(MyAnalysis, program)

Results are immutable, computed once per program, and each type has `of(program)`, so that
an analysis of your own can name the results it needs as fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from passes.alias import UNKNOWN, Aliases, Storage, StorageClass
from passes.errors import CaptureError, ProgramError, TrustError
from passes.liveness import LiveAtExit, Liveness, LiveRange
from passes.memory import Memory
from passes.program import Effects, Op, Program, Region, TensorType, Value
from passes.run import run
from passes.stages import GraphAnalyser, LiveStage, LiveVariable, LiveVariableVector

if TYPE_CHECKING:
    from passes.frontends.shapes import shape_prop_pass as shape_prop_pass
    from passes.frontends.tracer import GraphModule as GraphModule
    from passes.frontends.tracer import Tracer as Tracer

__all__ = [
    "UNKNOWN", "Aliases", "CaptureError", "Effects", "EffectsKnown", "GraphAnalyser",
    "LiveAtExit", "LiveRange", "LiveStage", "LiveVariable", "LiveVariableVector", "Liveness",
    "Memory", "Op", "Program", "ProgramError", "Region", "Storage", "StorageClass",
    "TensorType", "TrustError", "Value", "aliases", "liveness", "load", "memory", "run",
]  # fmt: skip

EffectsKnown = Literal["observed", "declared"]
"""How the effects of ops are known."""

_NEED_TORCH = {
    "GraphModule": "passes.frontends.tracer",
    "Tracer": "passes.frontends.tracer",
    "shape_prop_pass": "passes.frontends.shapes",
}


def load(
    source: object,
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
    recorded its own.  Nothing is computed: example tensors may be on the meta device, and
    the model is not changed.

    `effects` is how to know what each op does.  `"observed"`: each is executed once on fake
    tensors.  `"declared"`: from operators' schemas and the types that an exported graph has
    recorded; executes nothing and costs a fraction, what it cannot decide is "may", and an
    op that is no operator may do anything.

    Raises `CaptureError` for what cannot be captured or does not fit, `TrustError` for a
    file without trust.
    """
    try:
        from passes.frontends.load import load as load_source
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ProgramError(
            "loading a model needs torch: pip install 'torch-dataflow-passes[torch]', or the "
            "build of torch you want"
        ) from error

    return load_source(source, example_inputs, example_kwargs, trust=trust, effects=effects)


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


def __getattr__(name: str) -> object:
    # These subclass torch's classes; `import passes` itself stays without torch.
    if name in _NEED_TORCH:
        from importlib import import_module

        return getattr(import_module(_NEED_TORCH[name]), name)
    raise AttributeError(f"module 'passes' has no attribute {name!r}")
