"""Capture an `nn.Module` as a graph: export it, or trace it where export refuses."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves

from passes.errors import CaptureError
from passes.frontends.capture.memos import forget_fakes
from passes.frontends.capture.tracer import GraphModule, Tracer
from passes.frontends.fakes.devices import advice_for, without_gradients
from passes.frontends.fakes.reach import module_tensors


def export(
    module: nn.Module, args: Sequence[object], kwargs: Mapping[str, object]
) -> tuple[ExportedProgram, str]:
    """`(exported program, how)`.  Raises what torch.export refuses with.

    Export refuses some in-place writes for the sake of their gradients alone, so there is a
    second try under no_grad.
    """
    tries = {"torch.export": torch.is_grad_enabled(), "torch.export under no_grad": False}
    leaves = tree_leaves([args, kwargs])
    if without_gradients([*module_tensors(module).values(), *leaves]) is not None:
        del tries["torch.export"]
    refused: Exception | None = None
    for how, gradients in tries.items():
        try:
            with torch.set_grad_enabled(gradients), sealed():
                return torch.export.export(module, tuple(args), dict(kwargs), strict=False), how
        except Exception as error:
            refused = refused or error
    assert refused is not None
    raise refused


def trace(
    module: nn.Module, args: Sequence[object], kwargs: Mapping[str, object]
) -> tuple[fx.GraphModule, Mapping[str, object]]:
    """`(traced graph, its inputs by name)`.  Raises what symbolic tracing fails with.

    Traced at the shapes of the inputs where each input is a tensor or a plain value, so that
    Python which asks for shapes works and `x += y` is recorded as the write it is.
    """
    own = set(vars(module))
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    inputs = dict(bound.arguments)
    tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    rest = {name: value for name, value in inputs.items() if name not in tensors}
    plain = all(
        value is None or isinstance(value, (bool, int, float, str)) for value in rest.values()
    )
    try:
        if plain:
            graph = Tracer().trace(module, meta_args=tensors, concrete_args=rest)
            return GraphModule(module, graph, type(module).__name__), tensors
        tracer = fx.Tracer()
        tracer.record_stack_traces = True
        return fx.GraphModule(module, tracer.trace(module), type(module).__name__), inputs
    finally:
        # Tracing hangs constants it meets on the module, which is the user's.
        for added in vars(module).keys() - own:
            delattr(module, added)


def needs_inputs(module: nn.Module) -> bool:
    """Whether a module's forward has a parameter without a default."""
    wanted = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(
        p.default is inspect.Parameter.empty and p.kind in wanted
        for p in inspect.signature(module.forward).parameters.values()
    )


def cannot_capture(name: str, refused: Exception, untraceable: Exception) -> CaptureError:
    """The error for a module that can be neither exported nor traced."""
    if isinstance(untraceable, CaptureError) and isinstance(untraceable.__cause__, Exception):
        untraceable = untraceable.__cause__  # of a node that fails: the program around it is long
    return CaptureError(
        f"{name} cannot be captured.\n"
        f"  torch.export: {type(refused).__name__}: {first_line(refused)}\n"
        f"{user_place(refused)}"
        f"  symbolic_trace: {type(untraceable).__name__}: {first_line(untraceable)}\n"
        f"{user_place(untraceable)}" + advice_for(refused, _ADVICE)
    )


_ADVICE = (
    "Does it run with these inputs? If it does, Python that branches on tensor data, or state of "
    "its own, has to go: see torch.cond and torch.export's errors; or load a part of the model "
    "that can be"
)


@contextlib.contextmanager
def sealed() -> Iterator[None]:
    """Let nothing out of a capture: no fake tensor that a memoized function keeps, and nothing
    that torch logs and prints on the way to a refusal; the error says it all.

    What is printed in a capture that works may be the user's own, and goes to stderr.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield
        sys.stderr.write(printed.getvalue())
    finally:
        logging.disable(before)
        forget_fakes()


@contextlib.contextmanager
def unlogged() -> Iterator[None]:
    """Let torch not log what cannot run on fakes; a report says it, or another way is tried."""
    before = _FAKES.disabled
    _FAKES.disabled = True
    try:
        yield
    finally:
        _FAKES.disabled = before


_FAKES = logging.getLogger("torch._subclasses.fake_tensor")


def first_line(error: BaseException) -> str:
    """The first line of an error that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


def user_place(error: BaseException) -> str:
    """The last line of the user's own code in a traceback."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.line and not frame.filename.startswith(_NOT_THE_USERS)
    ]
    return f"    at {own[-1].filename}:{own[-1].lineno}: {own[-1].line}\n" if own else ""


def data_decides(what: str, error: BaseException) -> CaptureError:
    """What to raise where code goes by a number that only a run knows."""
    return CaptureError(
        f"{what} reads a number from a tensor and goes by it, so what it does depends on the data "
        f"of a tensor:\n{user_place(error)}"
        "Decide by what is known before the run, or with tensor operations such as torch.where"
    )


_NOT_THE_USERS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[2]))
