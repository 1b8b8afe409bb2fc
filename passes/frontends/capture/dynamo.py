"""What Dynamo says of a graph's inputs.

It lifts everything that a frame reaches to inputs of the graph: parameters, buffers, and
Python's numbers, as tensors whose value the graph reads.  Where each comes from is on its
node, such as `L['self']._modules['head']._parameters['weight']`.
"""

from __future__ import annotations

import re

from torch import fx, nn

from passes.program import Role

_ATTRIBUTE = re.compile(r"\._(modules|parameters|buffers)\['([^']+)'\]")
_SOURCE = re.compile(rf"L\['(\w+)'\]((?:{_ATTRIBUTE.pattern})*)")
_MODEL = ("self", "fn")  # modules of torch's own are called by a function of fn
_ROLES = {"parameters": Role.PARAMETER, "buffers": Role.BUFFER}


def told_by_dynamo(node: fx.Node) -> tuple[Role, str]:
    """Role and name of an input; of other graphs' inputs too, about which nothing is told."""
    recorded = node.meta.get("example_value")
    role = Role.PARAMETER if isinstance(recorded, nn.Parameter) else Role.INPUT
    source = getattr(node.meta.get("grapharg"), "source", None)
    found = _SOURCE.fullmatch(str(getattr(source, "name", "")))
    if found is None:
        return role, node.name
    start, parts = found[1], _ATTRIBUTE.findall(found[2])
    if parts:
        role = _ROLES.get(parts[-1][0], role)
    names = [name for _, name in parts]
    return role, ".".join(names if start in _MODEL and names else [start, *names])


def is_python_number(node: fx.Node) -> bool:
    """Whether an input is a number of the Python code, which calls see as it is."""
    return bool(getattr(node.meta.get("grapharg"), "pass_arg_as_tensor", False))
