"""Operators with sub-graphs: how values and control go through them.

One function per kind of operator walks its bodies and states its flow once; every
analysis, forward and backward, follows from that.  What the run does:

    wrapper      body(operands) -> results: autocast, set_grad_enabled, checkpoint, ...
    function     the forward body of an autograd function, which returns what it saves too
    cond         one of two bodies, on the same operands; the results are the branch's
                 own, so a branch that returns a view of an operand returns an alias
    loops        see `loops`
    attention    see `flex`

What the run decides, it decides here: which branch, how often.  Where two branches
return other numbers or sizes, later ops get unknown ones (`undecided`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch._ops import HigherOrderOperator
from torch.utils._pytree import tree_map

from passes.errors import CaptureError
from passes.frontends.effects.around import kernel_of
from passes.frontends.fakes.undecided import Join, recorded, stand_in
from passes.frontends.fakes.world import World
from passes.frontends.walk.bodies import (
    Builder,
    Regions,
    body_of,
    enter,
    exits,
    keep_layouts,
    outside_transforms,
)
from passes.frontends.walk.env import MISSING, Env, Made, bound, leaves_of
from passes.frontends.walk.flex import flex_attention, flex_attention_backward
from passes.frontends.walk.loops import map_, scan, while_loop
from passes.program import RegionFlow, Unknown

if TYPE_CHECKING:
    from passes.frontends.walk.observing import Walk


def wrapper(
    before: int = 0,
    between: int = 0,
    surroundings: Callable[..., AbstractContextManager[object]] = nullcontext,
    packed: bool = False,
    saves: bool = False,
) -> Builder:
    """An operator that runs one body once.

    Its arguments are: `before` ones, which go to `surroundings`, whose context the body
    runs in; the body; `between` others; the operands, `packed` in one tuple or not.  A body
    that `saves` returns the result, and what it saves for a backward pass.
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
        result: Any = entered.returned.result
        if saves:
            result = result[0]
        values = walk.book.leaves("/".join((*path, node.name)), leaves_of(result))
        copies = [*entered.copies, *exits(entered.returned.values[: len(values)], values)]
        flow = RegionFlow(((None, 0), (0, None)), tuple(copies))
        return Regions((entered.region,), flow, result, values)

    return build


def cond(walk: Walk, node: fx.Node, path: tuple[str, ...], env: Env) -> Regions:
    """`cond(predicate, true_body, false_body, operands)`."""
    outside_transforms(node)
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


def unlisted(walk: Walk, node: fx.Node, path: tuple[str, ...], env: Env) -> Regions:
    """An operator that nothing is known about: it may do anything, with its bodies too."""
    inner = (*path, node.name)
    world = walk.book.world
    operands = tuple(value for other in node.all_input_nodes for value in env[other].values)
    regions = []
    for number, body in enumerate(bodies_in(node, env)):
        made = []
        for placeholder in body.graph.nodes:
            if placeholder.op == "placeholder":
                result = recorded_by(placeholder, world)
                effects = tuple(Unknown(None) for _ in leaves_of(result))
                made.append(Made(result, effects, operands))
        walk.missing = True
        regions.append(enter(walk, f"body{number}", body, made, inner).region)
    result = recorded_by(node, world)
    values = walk.book.leaves("/".join(inner), leaves_of(result))
    places = [None, *range(len(regions))]
    control = tuple((a, b) for a in places for b in places)
    return Regions(tuple(regions), RegionFlow(control, ()), result, values, known=False)


def recorded_by(node: fx.Node, world: World) -> object:
    """What a capture recorded for a node, on storages nothing is known of."""
    found = node.meta.get("val", node.meta.get("example_value"))
    if found is None:
        return MISSING
    return tree_map(
        lambda leaf: stand_in(leaf, world) if isinstance(leaf, torch.Tensor) else leaf,
        recorded(found, world),
    )


def bodies_in(node: fx.Node, env: Env) -> list[fx.GraphModule]:
    """The graphs among the arguments of a node."""
    found = [env[other].result for other in node.all_input_nodes]
    return [body for body in found if isinstance(body, fx.GraphModule)]


def builder_of(target: HigherOrderOperator, node: fx.Node, env: Env) -> Builder | None:
    """What walks the bodies of a node; None if it has none that run now."""
    if target.__name__ in REGION_OPERATORS:
        return REGION_OPERATORS[target.__name__]
    return unlisted if kernel_of(target) is None and bodies_in(node, env) else None


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
    "invoke_quant_packed": wrapper(),
    "foreach_map": wrapper(),
    "local_map_hop": wrapper(),
    "invoke_subgraph": wrapper(between=1),
    "autograd_function_apply": wrapper(between=1, saves=True),
    "hints_wrapper": wrapper(packed=True),
    "strict_mode": wrapper(packed=True),
    "run_const_graph": wrapper(packed=True),
    "flex_attention": flex_attention,
    "flex_attention_backward": flex_attention_backward,
}
"""Operators whose regions are known.  Any other operator with sub-graphs may do anything,
and is counted."""
