"""Operators with sub-graphs: how values and control go through them.

One function per kind of operator walks its bodies and states its flow once; every
analysis, forward and backward, follows from that.  What the run does:

    wrapper      body(operands) -> results: autocast, set_grad_enabled, checkpoint, ...
    cond         one of two bodies, on the same operands; the results are the branch's
                 own, so a branch that returns a view of an operand returns an alias
    loops        see `loops`

What the run decides, it decides here: which branch, how often.  Where two branches
return other numbers or sizes, later ops get unknown ones (`undecided`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import fx

from passes.errors import CaptureError
from passes.frontends.bodies import Builder, Regions, body_of, enter, exits, keep_layouts
from passes.frontends.env import Env, bound, leaves_of
from passes.frontends.loops import map_, scan, while_loop
from passes.frontends.undecided import Join
from passes.program import RegionFlow

if TYPE_CHECKING:
    from passes.frontends.fx import Walk


def wrapper(
    before: int = 0,
    between: int = 0,
    surroundings: Callable[..., AbstractContextManager[object]] = nullcontext,
    packed: bool = False,
) -> Builder:
    """An operator that runs one body once.

    Its arguments are: `before` ones, which go to `surroundings`, whose context the body
    runs in; the body; `between` others; the operands, `packed` in one tuple or not.
    """

    def build(walk: Walk, node: fx.Node, path: tuple[str, ...], env: Env) -> Regions:
        body = body_of(node.args[before], env)
        operands = node.args[before + 1 + between :]
        if packed:
            operands = operands[0] if operands else node.kwargs.get("args", ())  # type: ignore[assignment]
        assert isinstance(operands, (tuple, list))
        arguments = [bound(operand, env) for operand in operands]
        with surroundings(*node.args[:before]):
            entered = enter(walk, "body", body, arguments, (*path, node.name))
        result = entered.returned.result
        values = walk.book.leaves("/".join((*path, node.name)), leaves_of(result))
        copies = [*entered.copies, *exits(entered.returned.values, values)]
        flow = RegionFlow(((None, 0), (0, None)), tuple(copies))
        return Regions((entered.region,), flow, result, values)

    return build


def cond(walk: Walk, node: fx.Node, path: tuple[str, ...], env: Env) -> Regions:
    """`cond(predicate, true_body, false_body, operands)`."""
    operands = node.args[3] if len(node.args) > 3 else ()
    assert isinstance(operands, (tuple, list))
    arguments = [bound(argument, env) for argument in operands]
    inner = (*path, node.name)
    sides = []
    for name, body in (("true", node.args[1]), ("false", node.args[2])):
        sides.append(enter(walk, name, body_of(body, env), arguments, inner))
        keep_layouts(walk, sides[-1].region)
    true, false = (side.returned for side in sides)
    if len(true.values) != len(false.values):
        raise CaptureError(f"the branches of {node.name} return different numbers of tensors")
    # Later ops must not take the result for either side's: a tensor of its own stands for
    # "one of the two".
    result = Join(walk.book.world, f"a branch of {'/'.join(inner)}").results(
        true.result, false.result
    )
    values = walk.book.leaves("/".join(inner), leaves_of(result))
    copies = [copy for side in sides for copy in side.copies]
    for side in sides:
        copies += exits(side.returned.values, values)
    flow = RegionFlow(((None, 0), (None, 1), (0, None), (1, None)), tuple(copies))
    return Regions(tuple(side.region for side in sides), flow, result, values)


REGION_OPERATORS: Mapping[str, Builder] = {
    "cond": cond,
    "while_loop": while_loop(),
    "while_loop_stack_output": while_loop(stacked=True),
    "scan": scan,
    "map_impl": map_,
    "wrap_with_autocast": wrapper(before=4, surroundings=torch.autocast),
    # Gradient mode changes neither storages nor writes.
    "wrap_with_set_grad_enabled": wrapper(before=1, surroundings=lambda _: nullcontext()),
    "tag_activation_checkpoint": wrapper(),
    "wrap_activation_checkpoint": wrapper(),
    "wrap": wrapper(),
    "invoke_quant": wrapper(),
    "invoke_subgraph": wrapper(between=1),
    "hints_wrapper": wrapper(packed=True),
    "strict_mode": wrapper(packed=True),
    "run_const_graph": wrapper(packed=True),
}
"""Operators whose regions are walked.  Any other operator with sub-graphs may do
anything, and is counted."""
