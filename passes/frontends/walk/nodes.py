"""Questions about one node of an fx graph: what it is called, what its failure means."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import fx, nn
from torch._ops import HigherOrderOperator, OpOverload
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from passes.errors import CaptureError
from passes.frontends.fakes.reach import module_tensors
from passes.frontends.walk.env import Bound, evaluated

CANNOT_RUN = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    GuardOnDataDependentSymNode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
    NotImplementedError,
)
"""What fake execution raises when an op needs data, or has no fake kernel."""


LOST_ASSIGNMENT = torch.ops.aten._has_compatible_shallow_copy_type.default
"""All that `x.data = y` leaves in an exported graph: a check, and not the assignment."""


def explain(node: fx.Node, error: Exception) -> str:
    """The message for a node that fails: the program around it, the user's line."""
    before: list[fx.Node] = []
    current = node
    while len(before) < 3 and current.prev.op != "root":
        current = current.prev
        before.append(current)
    lines = [f"    {n.format_node()}" for n in reversed(before)]
    text = str(error).strip().splitlines() or [type(error).__name__]
    advice = "Are these the inputs the model is called with?"
    if "convert all Tensors to FakeTensors" in str(error):
        text = ["it uses a tensor from outside the graph"]
        advice = "Make that tensor an input, a parameter or a buffer of the model"
    stack = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines()]
    return "\n".join(
        [
            f"node {node.name} fails when run with inputs of these types:",
            *lines,
            f"    {node.format_node()}",
            f"    ^^^ {type(error).__name__}: {text[0]}",
            *(f"    {line}" for line in stack[-2:]),
            advice,
        ]
    )


def unclear_out(node: fx.Node) -> CaptureError:
    """What to raise for a node with several `out=`, which are one tensor, or one of which is an
    operand too and of another shape than its result."""
    return CaptureError(
        f"node {node.name} ({target_name(node)}) gives one tensor as `out=` for two results, or an "
        "operand as one of several `out=`, which is resized before or after it is read. What is "
        "left in them, and in what shape, only its kernel knows: give tensors of their own"
    )


# Any: of whatever kind the node's result is.
def recorded_of(node: fx.Node, otherwise: Any = None) -> Any:
    """What a capture recorded that a node gave, as torch.export, make_fx and Dynamo do."""
    for key in ("val", "example_value"):
        if key in node.meta:
            return node.meta[key]
    return otherwise


def is_torchs_module(module: nn.Module) -> bool:
    """Whether a module and all in it are torch's own."""
    return all(type(child).__module__.startswith("torch.nn.") for child in module.modules())


def attributes_of(module: nn.Module) -> dict[str, int]:
    """Which tensor object each attribute of a module is.  Empty for torch's own modules,
    which keep theirs."""
    if is_torchs_module(module):
        return {}
    return {name: id(tensor) for name, tensor in module_tensors(module).items()}


def is_about_fakes(error: Exception) -> bool:
    """Whether an op failed for want of data rather than because the program is wrong."""
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "FakeTensor" in text
        or "data pointer" in text
        or "called on meta tensors" in text  # an operator of others that has no fake kernel
        or "fake impl" in text
        or "data is not allocated yet" in text
        or "concrete integers" in text  # a kernel in C++ that cannot have what only a run decides
        or "customized tensor" in text  # a resize of what has strides that only a run decides
    )


def is_torchs(target: object) -> bool:
    """Whether a function is torch's or Python's own, and so has no tensors of its own."""
    module = getattr(target, "__module__", None) or "torch"
    return module.partition(".")[0] in ("torch", "_operator", "builtins", "math")


def is_known_code(node: fx.Node) -> bool:
    """Whether a node runs torch's or Python's own code.  What other code does besides calling
    operators, nobody sees."""
    if isinstance(node.target, OpOverload):
        return True
    if node.op == "call_module":
        owner = node.graph.owning_module
        return owner is not None and all(
            type(child).__module__.startswith("torch.nn.")
            for child in owner.get_submodule(str(node.target)).modules()
        )
    return node.op == "call_method" or is_torchs(node.target)


def is_empty(node: fx.Node) -> bool:
    """Whether a node is `empty(out=...)`, which writes nothing."""
    return getattr(node.target, "__name__", "").startswith("empty")


def given_out(node: fx.Node, env: Mapping[fx.Node, Bound], result: object) -> object:
    """A node's result; the tensor itself where it was given as `out=`.

    Some composite operators leave `out` aside when they run on fake tensors.
    """
    out = evaluated(node.kwargs.get("out"), env)
    return out if isinstance(out, torch.Tensor) and isinstance(result, torch.Tensor) else result


@cache
def _shown(target: object) -> str:
    if isinstance(target, (OpOverload, HigherOrderOperator)):
        return str(target)
    module = (getattr(target, "__module__", "") or "torch").lstrip("_")
    name = getattr(target, "__name__", None) or str(target)
    return f"{'torch' if module.startswith('torch') else module}.{name}"


def target_name(node: fx.Node) -> str:
    """A node's target as a person writes it."""
    if node.op == "call_method":
        return f"Tensor.{node.target}"
    if node.op == "call_module":
        return f"self.{node.target}"
    if node.op == "call_function":
        return _shown(node.target)
    return str(node.target)


def operator_of(node: fx.Node) -> str:
    """The bare name of the operator or function that a node calls; '' for a module."""
    if isinstance(node.target, OpOverload):
        return node.target._schema.name.rpartition("::")[2]
    if node.op == "call_module":
        return ""
    return node.target if isinstance(node.target, str) else node.target.__name__
