"""Three ways to make a graph of a call, each with the graph to run and the source to load."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from attrs import frozen
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from tests.conformance.calls import Call
from tests.oracle.run import placeholders_of


@frozen(eq=False)
class Captured:
    """A graph with a value per placeholder, and what `passes.load` is given."""

    graph_module: fx.GraphModule
    values: Sequence[object]
    source: object
    inputs: Sequence[object]


def traced(call: Call) -> Captured:
    """`symbolic_trace` of a module that makes the call."""

    class Calls(nn.Module):
        forward = _of_arity(call)

    module = fx.symbolic_trace(Calls())
    return Captured(module, call.tensors, module, call.tensors)


def exported(call: Call) -> Captured:
    """`torch.export` of a module that makes the call."""

    class Calls(nn.Module):
        forward = _of_arity(call)

    program = torch.export.export(Calls(), call.tensors, strict=False)
    values = placeholders_of(program, call.tensors)
    return Captured(program.graph_module, values, program, call.tensors)


def made(call: Call) -> Captured:
    """`make_fx` of the call: operators as autograd's backends see them."""
    arguments = [t.clone() if _plain(t) else t for t in call.tensors]
    module = make_fx(_function_of_arity(call))(*arguments)
    return Captured(module, call.tensors, module, call.tensors)


CAPTURES: Mapping[str, Callable[[Call], Captured]] = {
    "symbolic_trace": traced,
    "torch.export": exported,
    "make_fx": made,
}


def _plain(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided


def _of_arity(call: Call) -> Any:
    names = [f"x{number}" for number in range(len(call.tensors))]
    arguments = ", ".join(names)
    return eval(f"lambda self, {arguments}: run({arguments})", {"run": call.function})


def _function_of_arity(call: Call) -> Any:
    arguments = ", ".join(f"x{number}" for number in range(len(call.tensors)))
    return eval(f"lambda {arguments}: run({arguments})", {"run": call.function})


@contextmanager
def quiet() -> Iterator[None]:
    """Captures log and warn; what they refuse is counted."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
