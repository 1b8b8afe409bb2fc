"""Sub-graphs of an op: entering one, what comes back, and what must hold of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from torch import fx

from dataflow import CopyKind
from passes.errors import CaptureError
from passes.frontends.fakes.world import type_of
from passes.frontends.walk.env import Bound, Env, Made, leaves_of
from passes.program import OpKind, Region, RegionFlow, ResultEffect, Value, ValueCopy

if TYPE_CHECKING:
    from passes.frontends.walk.observing import Walk


@frozen(eq=False)
class Regions:
    """The bodies of one op, walked.

    `result` is what the op evaluates to, `values` its tensor leaves; `fresh` has an
    effect per leaf where the op itself may allocate it, else is empty.  Where the operator
    is not `known`, its op may do anything.
    """

    regions: tuple[Region, ...]
    flow: RegionFlow
    result: object
    values: tuple[Value, ...]
    fresh: tuple[ResultEffect, ...] = ()
    known: bool = True


Builder = Callable[["Walk", fx.Node, tuple[str, ...], Env], Regions]


@frozen(eq=False)
class Entered:
    """A body, walked: its region, what it returns, and the copies into it."""

    region: Region
    returned: Bound
    copies: tuple[ValueCopy, ...]


def enter(
    walk: Walk,
    name: str,
    body: fx.GraphModule,
    arguments: Sequence[Bound | Made],
    path: tuple[str, ...],
) -> Entered:
    """Walk a body.  Its inputs are new values: the arguments', under other names."""
    inputs: list[Bound | Made] = []
    copies = []
    placeholders = [node for node in body.graph.nodes if node.op == "placeholder"]
    if len(placeholders) != len(arguments):
        raise CaptureError(
            f"sub-graph {name} of {'/'.join(path)} takes {len(placeholders)} inputs and is "
            f"given {len(arguments)}"
        )
    for node, argument in zip(placeholders, arguments, strict=True):
        if isinstance(argument, Made):
            inputs.append(argument)
            continue
        leaves = leaves_of(argument.result)
        values = walk.book.leaves("/".join((*path, name, node.name)), leaves)
        inputs.append(Bound(argument.result, values))
        copies += [
            ValueCopy(source, target, CopyKind.ENTER)
            for source, target in zip(argument.values, values, strict=True)
        ]
    with walk.book.world.inside():
        ops, returned = walk.graph(body, inputs, (*path, name))
    region = Region(
        name=name,
        inputs=tuple(value for op in ops if op.node in placeholders for value in op.results),
        ops=ops,
        outputs=returned.values,
    )
    return Entered(region, returned, tuple(copies))


def body_of(argument: object, env: Env) -> fx.GraphModule:
    """The graph that an argument of an operator is."""
    body = env[argument].result if isinstance(argument, fx.Node) else argument
    if not isinstance(body, fx.GraphModule):
        raise CaptureError(f"{argument} should be a sub-graph, and is a {type(body).__name__}")
    return body


def outside_transforms(node: fx.Node) -> None:
    """Refuse an operator that decides by its operands (`cond`, loops) between the nodes of a graph
    that begin and end a transform such as `vmap`: what it does there is the transform's affair."""
    depth = 0
    for other in node.graph.nodes:
        if other is node:
            break
        name = getattr(other.target, "__name__", "")
        depth += name.endswith("_increment_nesting") - name.endswith("_decrement_nesting")
    if depth:
        raise CaptureError(
            f"node {node.name} ({node.target}) is inside a transform such as vmap, which runs its "
            "sub-graphs in its own way; what they do then cannot be followed. Use torch.where, or "
            "passes.compile_backend(report, backward=True), whose graphs have the transform done"
        )


def keep_layouts(walk: Walk, region: Region) -> None:
    """Refuse a body that gives a tensor from outside another shape or strides (`t_`,
    `resize_`): whether or how often it ran is not known, so neither is what the tensor is
    like afterwards."""
    for op in region.ops:
        if op.kind in (OpKind.INPUT, OpKind.ATTRIBUTE):
            for value in op.results:
                fake = walk.book.fakes.get(value.index)
                if fake is not None and value.type != type_of(fake):
                    raise CaptureError(
                        f"{op.name} comes from outside of its sub-graph, which gives it another "
                        f"shape or other strides ({value.type} and {type_of(fake)}, for one); "
                        "whether that happens is decided by the run. Use a view of it instead"
                    )


def exits(sources: Sequence[Value], targets: Sequence[Value]) -> list[ValueCopy]:
    """What a body returns becomes what its op returns."""
    return [
        ValueCopy(source, target, CopyKind.EXIT)
        for source, target in zip(sources, targets, strict=True)
    ]
