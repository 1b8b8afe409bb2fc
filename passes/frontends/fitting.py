"""The program whose bytes are asked for: a model as it would run or train, never allocated.

A model may be real, on the meta device or made of fakes; a function that makes one is called
under the meta device.  What is on the meta device is taken to be on the CPU, as operators
choose by device.  Casting happens on a copy of fakes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from attrs import evolve, frozen
from torch import nn
from torch.export import ExportedProgram
from torch.jit import ScriptModule
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from passes.errors import CaptureError
from passes.frontends.capture.module import first_line, user_place
from passes.frontends.dynamic.inputs import Asked
from passes.frontends.fakes.casting import CastWorld, dtype_named
from passes.frontends.forward import load_forward
from passes.frontends.load import load
from passes.frontends.losses import Loss, check_targets
from passes.frontends.training import ZeroGrad, load_training_step
from passes.program import Program

CPU = torch.device("cpu")

MODELS = (nn.Module, ExportedProgram, Program)
"""What has a program, or is one."""


@frozen
class Call:
    """A model and what it is called with."""

    model: object
    args: Sequence[object] = ()
    kwargs: Mapping[str, object] = {}


@frozen
class Training:
    """How a model is trained."""

    loss: Loss
    optimizer: Optimizer | Callable[..., Optimizer] | None
    targets: Sequence[object] | None = None
    zero_grad: ZeroGrad = "set_to_none"


def program_to_fit(
    source: object,
    inputs: object,
    *,
    train: bool = False,
    loss: Loss = None,
    optimizer: object = None,
    targets: Sequence[object] | None = None,
    zero_grad: Literal["set_to_none", "to_zero", "never"] = "set_to_none",
    dtype: object = None,
    dynamic: Asked | None = None,
) -> Program:
    """The Program of a forward or, to `train` or with an optimizer or a loss, of a training
    step.  See `passes.fits`."""
    training = None
    if train or loss is not None or optimizer is not None:
        if targets is not None:
            check_targets(targets)
        training = Training(loss, optimizer_named(optimizer), targets, zero_grad)
    call = call_of(source, inputs)
    if not isinstance(call.model, nn.Module):
        return _captured(call, training, dtype, dynamic)
    _refuse_compiled(call.model)
    if dtype is not None:
        call, training = cast_to(call, dtype_named(dtype), training)
    if training is None:
        return _forward(call, dynamic, can_export=dtype is None)
    return _step(call, training, dynamic)


def _step(call: Call, training: Training, dynamic: Asked | None) -> Program:
    program = load_training_step(
        cast(nn.Module, call.model),
        training.loss,
        training.optimizer,
        call.args,
        call.kwargs,
        training.targets,
        training.zero_grad,
        dynamic=dynamic,
        device=CPU,
    )
    update = [op.target for op in program.ops if op.phase == "update"]
    if not update or any("_foreach_" in target or "_fused_" in target for target in update):
        return program
    note = (
        "the optimizer updates one parameter after the other, as on the CPU; on a GPU, torch's "
        "take all at once unless told otherwise (foreach=True), with temporaries for all"
    )
    return evolve(program, notes=(*program.notes, note))


def as_call(made: object, inputs: object = None) -> Call:
    """A model with inputs: a mapping is by name, a tuple or list by position, anything else
    is the only one.  `made` may have them itself, as `(model, inputs)` or `(model, args,
    kwargs)`, if none are given."""
    if isinstance(made, tuple):
        if len(made) not in (2, 3) or inputs is not None:
            told = "has its own inputs already" if inputs is not None else f"has {len(made)} parts"
            raise CaptureError(
                "what makes the model should return it, (model, inputs) or (model, args, "
                f"kwargs), and {told}"
            )
        made, inputs, *rest = made
        call = as_call(made, inputs)
        for kwargs in rest:
            if not isinstance(kwargs, Mapping):
                raise CaptureError(
                    "in (model, args, kwargs), kwargs should be a mapping by name, and is a "
                    f"{type(kwargs).__name__}"
                )
            call = evolve(call, kwargs={**call.kwargs, **kwargs})
        return call
    if not isinstance(made, MODELS):
        raise CaptureError(
            "what makes the model should return it, (model, inputs) or (model, args, kwargs), and "
            f"returned a {type(made).__name__} as the model"
        )
    if inputs is None:
        return Call(made)
    if isinstance(inputs, Mapping):
        return Call(made, kwargs={str(name): value for name, value in inputs.items()})
    return Call(made, inputs if isinstance(inputs, (tuple, list)) else (inputs,))


def call_of(source: object, inputs: object) -> Call:
    """The call that is meant; a function that makes the model is called."""
    if isinstance(source, MODELS):
        return as_call(source, inputs)
    if not callable(source):
        raise CaptureError(
            f"cannot ask whether a {type(source).__qualname__} fits: give an nn.Module, a "
            "function that makes one, a torch.export.ExportedProgram, or a Program"
        )
    try:
        with torch.device("meta"):
            made = source()
    except Exception as error:
        raise CaptureError(
            f"the function that makes the model fails on the meta device, where tensors have no "
            f"data: {type(error).__name__}: {first_line(error)}\n{user_place(error)}"
            "  Make what reads data with device='cpu', or give the model itself (on the command "
            "line: --real)"
        ) from error
    return as_call(made, inputs)


def optimizer_named(optimizer: object) -> Any:
    """The optimizer that is meant: by its name in `torch.optim`, in any case, or as it is."""
    if not isinstance(optimizer, str):
        return optimizer
    known = {
        name.lower(): found
        for name, found in vars(torch.optim).items()
        if isinstance(found, type) and issubclass(found, Optimizer) and found is not Optimizer
        if inspect.signature(found.step).parameters["closure"].default is None
    }
    if optimizer.lower() not in known:
        raise CaptureError(
            f"there is no optimizer {optimizer!r}; known by name are {', '.join(sorted(known))}. "
            "Any other can be given as its class, or as a function of parameters"
        )
    return known[optimizer.lower()]


def cast_to(
    call: Call, dtype: torch.dtype, training: Training | None
) -> tuple[Call, Training | None]:
    """A copy of fakes, cast as `model.to(dtype)` does, with inputs and targets likewise."""
    if training and isinstance(training.optimizer, Optimizer):
        raise CaptureError(
            f"a {type(training.optimizer).__name__} over the parameters cannot go with dtype=, "
            "which replaces them: give its class or a function of parameters, or cast the model "
            "yourself before you make the optimizer"
        )
    model = cast(nn.Module, call.model)
    loss = training.loss if training else None
    modules = [model, loss] if isinstance(loss, nn.Module) else [model]
    held = (tensor for m in modules for tensor in (*m.parameters(), *m.buffers()))
    world = CastWorld(CPU, dtype, held)
    if training:
        targets = training.targets and world.inputs(list(training.targets))
        copied = world.module(loss) if isinstance(loss, nn.Module) else loss
        training = evolve(training, loss=copied, targets=targets)
    args, kwargs = world.inputs(list(call.args)), world.inputs(dict(call.kwargs))
    return Call(world.module(model), args, kwargs), training


def _refuse_compiled(model: nn.Module) -> None:
    """Raise for what holds tensors that Python does not see."""
    for name, module in model.named_modules():
        kinds = [type(module), *map(type, vars(module).values())]
        found = [kind for kind in kinds if issubclass(kind, (ScriptModule, torch.ScriptObject))]
        if found:
            where = f"module {name} of the model" if name else "the model"
            raise CaptureError(
                f"{where} is compiled or quantized ({found[0].__qualname__}), and its tensors "
                "cannot be counted: give the nn.Module that it was made from"
            )


def _forward(call: Call, dynamic: Asked | None, can_export: bool) -> Program:
    """Recorded as it runs; exported where that is refused, and then a note says so."""
    model = cast(nn.Module, call.model)
    try:
        return load_forward(model, call.args, call.kwargs, CPU, dynamic)
    except CaptureError as refused:
        if not can_export or dynamic:
            raise
        args, kwargs = call.args, call.kwargs
        if any(parameter.is_meta for parameter in model.parameters()):
            args, kwargs = tree_map(_to_meta, (list(args), dict(kwargs)))
        try:
            program = load(model, args, kwargs, trust=False)
        except CaptureError:
            raise refused from None
        note = f"not recorded as it runs, since {first_line(refused).rstrip(':')}"
        return evolve(program, notes=(note, *program.notes))


def _to_meta(leaf: object) -> object:
    return leaf.to("meta") if isinstance(leaf, torch.Tensor) else leaf


def _captured(
    call: Call, training: Training | None, dtype: object, dynamic: Asked | None
) -> Program:
    """Of what is a graph already."""
    if training is not None or dtype is not None or dynamic:
        what = "trained" if training is not None else "cast"
        if dynamic:
            what = "given dynamic sizes, for it has those that it was exported with"
        raise CaptureError(
            f"a {type(call.model).__qualname__} cannot be {what}: give the nn.Module that it was "
            "made from"
        )
    if not isinstance(call.model, Program):
        return load(call.model, call.args, call.kwargs, trust=False)
    if call.args or call.kwargs:
        raise CaptureError("a Program has its inputs already: give none")
    return call.model
