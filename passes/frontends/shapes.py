"""`shape_prop_pass`: the shape and dtype of every node, found without computing."""

from __future__ import annotations

import torch
from torch import fx
from torch.fx.passes.shape_prop import TensorMetadata

from passes.frontends.load import load
from passes.program import OpKind, TensorType

KEY = "tensor_meta"
"""Where torch's own ShapeProp leaves what it found, and readers look for it."""


def shape_prop_pass(gm: fx.GraphModule, *args: object) -> fx.GraphModule:
    """Fill each node's `meta["tensor_meta"]` for these inputs, and return the module.

    It is a `TensorMetadata` for a node with one tensor leaf, and a tuple of them for one
    with several or none.  `args` may be on the meta device; nothing is computed and the
    module's parameters and buffers stay as they are.
    """
    program = load(gm, args, {}, trust=False)
    for op in program.ops:
        assert isinstance(op.node, fx.Node)
        leaves = op.operands if op.kind is OpKind.OUTPUT else op.results
        found = tuple(_metadata(value.type) for value in leaves if value.type is not None)
        op.node.meta[KEY] = found[0] if len(found) == 1 else found
    return gm


def shapes_known(node: fx.Node) -> bool:
    """Whether `shape_prop_pass` has been over a node."""
    return KEY in node.meta


def _metadata(found: TensorType) -> TensorMetadata:
    return TensorMetadata(
        shape=torch.Size([-1 if size is None else size for size in found.shape]),
        dtype=getattr(torch, found.dtype),
        requires_grad=False,
        stride=tuple([-1 if step is None else step for step in found.stride]),
        memory_format=None,
        is_quantized=False,
        qparams={},
    )
