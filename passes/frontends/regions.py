"""Operators with sub-graphs: how values and control go through them.

One function per kind of operator walks its bodies and states its flow once; every
analysis, forward and backward, follows from that.  What the run does:

    wrapper      body(operands) -> results: autocast, set_grad_enabled, checkpoint, ...
    cond         one of two bodies, on the same operands; the results are the branch's
                 own, so a branch that returns a view of an operand returns an alias
    while_loop   cond(carried, extra), then body(carried, extra) -> carried, and again;
                 the results are the last body's own, or clones of the operands where
                 the body never ran

A loop's bodies are walked with new tensors for what is carried: what one iteration shows
must hold for every other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from attrs import frozen
from torch import fx
from torch.utils._pytree import tree_map

from dataflow import CopyKind
from passes.errors import CaptureError
from passes.frontends.env import Bound, Env, bound
from passes.frontends.fakes import nbytes_of, storage_of, tensors_in
from passes.program import Fresh, Region, RegionFlow, ResultEffect, Value, ValueCopy

if TYPE_CHECKING:
    from passes.frontends.fx import Walk


@frozen(eq=False)
class Regions:
    """The bodies of one op, walked.

    `result` is what the op evaluates to, `values` its tensor leaves; `fresh` has an
    effect per leaf where the op itself may allocate it, else is empty.
    """

    regions: tuple[Region, ...]
    flow: RegionFlow
    result: object
    values: tuple[Value, ...]
    fresh: tuple[ResultEffect, ...] = ()


Builder = Callable[["Walk", fx.Node, tuple[str, ...], Env], Regions]


def _enter(
    walk: Walk,
    name: str,
    body: fx.GraphModule,
    arguments: Sequence[Bound],
    path: tuple[str, ...],
) -> tuple[Region, Bound, list[ValueCopy]]:
    """Walk a body: the region, what it returns, and the copies into it."""
    inputs, copies = [], []
    placeholders = [node for node in body.graph.nodes if node.op == "placeholder"]
    if len(placeholders) != len(arguments):
        raise CaptureError(
            f"sub-graph {name} of {'/'.join(path)} takes {len(placeholders)} inputs and is "
            f"given {len(arguments)}"
        )
    for node, argument in zip(placeholders, arguments, strict=True):
        leaves = tensors_in(argument.result)
        values = walk.book.leaves("/".join((*path, name, node.name)), leaves)
        inputs.append(Bound(argument.result, values))
        copies += [
            ValueCopy(source, target, CopyKind.ENTER)
            for source, target in zip(argument.values, values, strict=True)
        ]
    ops, returned = walk.graph(body, inputs, (*path, name))
    region = Region(
        name=name,
        inputs=tuple(value for bound in inputs for value in bound.values),
        ops=ops,
        outputs=returned.values,
    )
    return region, returned, copies


def _body(argument: object, env: Env) -> fx.GraphModule:
    body = env[argument].result if isinstance(argument, fx.Node) else argument
    if not isinstance(body, fx.GraphModule):
        raise CaptureError(f"{argument} should be a sub-graph, and is a {type(body).__name__}")
    return body


def wrapper(
    before: int = 0,
    between: int = 0,
    surroundings: Callable[..., AbstractContextManager[object]] = nullcontext,
) -> Builder:
    """An operator that runs one body once.

    Its arguments are: `before` ones, which go to `surroundings`, whose context the body
    runs in; the body; `between` others; the operands.
    """

    def build(walk: Walk, node: fx.Node, path: tuple[str, ...], env: Env) -> Regions:
        body = _body(node.args[before], env)
        arguments = [bound(a, env) for a in node.args[before + 1 + between :]]
        with surroundings(*node.args[:before]):
            region, returned, copies = _enter(walk, "body", body, arguments, (*path, node.name))
        values = walk.book.leaves("/".join((*path, node.name)), tensors_in(returned.result))
        copies += [
            ValueCopy(source, target, CopyKind.EXIT)
            for source, target in zip(returned.values, values, strict=True)
        ]
        flow = RegionFlow(((None, 0), (0, None)), tuple(copies))
        return Regions((region,), flow, returned.result, values)

    return build


def cond(walk: Walk, node: fx.Node, path: tuple[str, ...], env: Env) -> Regions:
    """`cond(predicate, true_body, false_body, operands)`."""
    operands = node.args[3] if len(node.args) > 3 else ()
    assert isinstance(operands, (tuple, list))
    arguments = [bound(argument, env) for argument in operands]
    inner = (*path, node.name)
    regions, copies, branches = [], [], []
    for name, body in (("true", node.args[1]), ("false", node.args[2])):
        region, returned, entering = _enter(walk, name, _body(body, env), arguments, inner)
        regions.append(region)
        copies += entering
        branches.append(returned)
    sides = [tensors_in(branch.result) for branch in branches]
    if len(sides[0]) != len(sides[1]):
        raise CaptureError(f"the branches of {node.name} return different numbers of tensors")
    # Where the branches return different storages, later ops must not take the result for
    # either of them: a tensor of its own stands for "one of the two".
    leaves = [
        true if storage_of(true) == storage_of(false) else walk.book.world.like(true)
        for true, false in zip(*sides, strict=True)
    ]
    values = walk.book.leaves("/".join((*path, node.name)), leaves)
    for branch in branches:
        copies += [
            ValueCopy(source, target, CopyKind.EXIT)
            for source, target in zip(branch.values, values, strict=True)
        ]
    flow = RegionFlow(((None, 0), (None, 1), (0, None), (1, None)), tuple(copies))
    return Regions(tuple(regions), flow, _replaced(branches[0].result, leaves), values)


def while_loop(walk: Walk, node: fx.Node, path: tuple[str, ...], env: Env) -> Regions:
    """`while_loop(condition, body, carried, extra)`."""
    carried, extra = node.args[2], node.args[3]
    assert isinstance(carried, (tuple, list))
    assert isinstance(extra, (tuple, list))
    inner = (*path, node.name)
    initial = [bound(argument, env) for argument in carried]
    given = [Bound(_apart(walk, start.result), start.values) for start in initial]
    given += [bound(argument, env) for argument in extra]
    check, decided, copies = _enter(walk, "cond", _body(node.args[0], env), given, inner)
    # The body gets what the condition got, in the same iteration.
    inputs = iter(check.inputs)
    held = [Bound(b.result, tuple([next(inputs) for _ in b.values])) for b in given]
    body, returned, entering = _enter(walk, "body", _body(node.args[1], env), held, inner)
    copies += entering

    starts = [value for start in initial for value in start.values]
    heads = check.inputs[: len(starts)]
    leaves = [walk.book.world.like(leaf) for leaf in tensors_in(returned.result)]
    values = walk.book.leaves("/".join((*path, node.name)), leaves)
    for source, head, result, start in zip(returned.values, heads, values, starts, strict=True):
        copies += [
            ValueCopy(source, head, CopyKind.BACK),
            ValueCopy(source, result, CopyKind.EXIT),
            ValueCopy(start, result, CopyKind.SKIP),
        ]
    return Regions(
        regions=(check, body),
        flow=RegionFlow(((None, 0), (0, 1), (1, 0), (0, None)), tuple(copies), held=decided.values),
        result=_replaced(returned.result, leaves),
        values=values,
        fresh=tuple(Fresh(nbytes_of(leaf)) for leaf in leaves),
    )


def _apart(walk: Walk, result: object) -> object:
    return _replaced(result, [walk.book.world.like(leaf) for leaf in tensors_in(result)])


def _replaced(result: object, leaves: Sequence[torch.Tensor]) -> object:
    """A result with its tensor leaves replaced in order."""
    rest = iter(leaves)
    return tree_map(lambda leaf: next(rest) if isinstance(leaf, torch.Tensor) else leaf, result)


REGION_OPERATORS: Mapping[str, Builder] = {
    "cond": cond,
    "while_loop": while_loop,
    "wrap_with_autocast": wrapper(before=4, surroundings=torch.autocast),
    # Gradient mode changes neither storages nor writes.
    "wrap_with_set_grad_enabled": wrapper(before=1, surroundings=lambda _: nullcontext()),
    "tag_activation_checkpoint": wrapper(),
    "invoke_subgraph": wrapper(between=1),
}
"""Operators whose regions are walked.  Any other operator with sub-graphs may do
anything, and is counted."""
