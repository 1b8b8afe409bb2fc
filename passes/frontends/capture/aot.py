"""What AOTAutograd says of its graphs: which inputs are parameters, which outputs gradients.

It describes each input and output on the graph's nodes, in terms of the inputs of the function
that it was given: `told` says what those are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import fx
from torch._functorch._aot_autograd.descriptors import (
    BufferAOTInput,
    GradAOTOutput,
    InputMutationAOTOutput,
    ParamAOTInput,
    PlainAOTInput,
    PlainAOTOutput,
    TangentAOTInput,
)

from passes.program import Role

Told = Sequence[tuple[Role, str]]


def told_by_aot(node: fx.Node, told: Told) -> tuple[Role, str] | None:
    """Role and name of an input; None where nothing is said of it."""
    about = node.meta.get("desc")
    if isinstance(about, TangentAOTInput):
        output = about.output
        which = f"output[{output.idx}]" if isinstance(output, PlainAOTOutput) else node.name
        return Role.GRADIENT, f"grad.{which}"
    return _given(about, told)


def kept_by_aot(output: fx.Node, told: Told) -> Iterator[tuple[int, Role, str]]:
    """Which tensors among the outputs are gradients, or new values of parameters and buffers."""
    number = 0
    for about, node in zip(output.meta.get("desc") or (), _flat(output.args[0]), strict=False):
        if not isinstance(node, fx.Node) or not _is_tensor(node):
            continue
        if isinstance(about, GradAOTOutput):
            found = _given(about.grad_of, told)
            if found is not None:
                yield number, Role.GRADIENT, f"grad.{found[1]}"
        elif isinstance(about, InputMutationAOTOutput):
            found = _given(about.mutated_input, told)
            if found is not None and found[0] is not Role.INPUT:
                yield number, *found
        number += 1


def phases_by_aot(graph: fx.Graph) -> Mapping[fx.Node, str]:
    """Forward and backward, in a graph that has both."""
    tags = {node: str(node.meta.get("partitioner_tag", "")) for node in graph.nodes}
    found = {node: tag.rpartition("is_")[2] for node, tag in tags.items() if tag.startswith("is_")}
    return found if "backward" in found.values() else {}


def _given(about: object, told: Told) -> tuple[Role, str] | None:
    if isinstance(about, ParamAOTInput):
        return Role.PARAMETER, about.target
    if isinstance(about, BufferAOTInput):
        return Role.BUFFER, about.target
    if isinstance(about, PlainAOTInput):
        return told[about.idx] if about.idx < len(told) else (Role.INPUT, f"input[{about.idx}]")
    return None


def _flat(returned: object) -> Sequence[object]:
    return returned if isinstance(returned, (tuple, list)) else [returned]


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)
