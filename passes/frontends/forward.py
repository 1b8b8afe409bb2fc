"""A model's forward as it runs without gradients, as one Program.

The forward runs on a copy of the model with fake tensors, and every operator that reaches
the device is recorded, as `training.py` records a step: composite operators are what they
are made of.  Any result will do, a cache of keys and values too: what is still held when the
model has returned is what the program returns.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils._pytree import tree_leaves

from passes.errors import CaptureError, ProgramError
from passes.frontends import held
from passes.frontends.capture.module import data_decides, first_line, sealed, user_place
from passes.frontends.capture.recorder import Recorder
from passes.frontends.dynamic.inputs import Asked, recorded
from passes.frontends.fakes.devices import advice_for
from passes.frontends.fakes.reach import module_tensors
from passes.frontends.fakes.unsupported import check_tensors
from passes.frontends.fakes.world import World
from passes.frontends.held import Sources
from passes.frontends.load import FROM_EXAMPLES
from passes.frontends.walk.observing import Walk
from passes.frontends.walk.whole import program_of
from passes.program import Program
from passes.symbolic.dynamic import Dynamic


def load_forward(
    model: nn.Module,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    device: torch.device,
    dynamic: Asked | None = None,
) -> Program:
    """The Program of `model(*args, **kwargs)` under `torch.no_grad()`.

    `device` stands for the meta device of parameters and inputs; `dynamic` are sizes of inputs
    that are not fixed.  Raises `CaptureError` for a forward that data decides, or that calls
    operators with sub-graphs.
    """
    found = held.of_caller(model, args, kwargs, (), held.itself)
    given = {name: real for _, name, real in found}
    check_tensors([*module_tensors(model).items(), *given.items()])
    return recorded(partial(_captured, model, args, kwargs), device, dynamic or {}, given)


def _captured(
    model: nn.Module,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    world: World,
    analysed: World,
    walk: Callable[..., Walk],
    dynamic: Dynamic | None,
) -> Program:
    """The forward recorded in one world and analysed in another."""
    name = type(model).__name__
    sources = Sources(world)
    copied = world.module(model)
    entries = [
        sources.held(*each)
        for each in (
            *held.of_modules({"": model}, sources.fake),
            *held.of_caller(model, args, kwargs, (), sources.fake),
        )
    ]
    entries = list({id(one.fake): one for one in entries}.values())
    recorder = Recorder(world)
    for one in entries:
        recorder.entry(one.name, one.fake)
    recorder.follow(copied)
    # Any: what the model is called with.
    fake_args: Any = world.value(list(args))
    fake_kwargs: Any = world.value(dict(kwargs))
    results: list[object] = []
    with _capturing(name):
        recorder.run(lambda: results.append(copied(*fake_args, **fake_kwargs)))
    gc.collect()
    # The world holds the numbers whose values it knows.
    returned = {id(leaf) for leaf in (*tree_leaves(results), *module_tensors(copied).values())}
    kept = [t for t in recorder.made() if id(t) in returned or not has_value(t)]
    graph = recorder.finished(kept, name)
    # What is recorded stands below autocast, which may be on around the caller.
    with torch._C._DisableAutocast():
        return program_of(
            graph,
            [(one.role, one.name, analysed.tensor(one.source)) for one in entries],
            analysed,
            name=name,
            capture="a forward without gradients on fake tensors",
            sharing=FROM_EXAMPLES,
            held_by_python=recorder.alive.most,
            kind=walk,
            dynamic=dynamic,
        )


def has_value(fake: torch.Tensor) -> bool:
    """Whether a fake is a number of which the value is known."""
    return isinstance(fake, FakeTensor) and fake.constant is not None


@contextmanager
def _capturing(name: str) -> Iterator[None]:
    try:
        with sealed(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            # What calls the compiler runs as it is, and Dynamo does not remember the attempt.
            with torch.compiler.set_stance("force_eager"):
                yield
    except ProgramError:
        raise
    except GuardOnDataDependentSymNode as error:
        raise data_decides(name, error) from error
    except Exception as error:
        raise CaptureError(
            f"{name} fails on fake tensors: {type(error).__name__}: {first_line(error)}\n"
            f"{user_place(error)}" + advice_for(error, _ADVICE)
        ) from error


_ADVICE = "Does it run on real ones with these inputs? Data of tensors cannot decide what it does"
