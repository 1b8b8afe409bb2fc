"""`flex_attention`, whose bodies work on batches that only its implementation makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch._higher_order_ops.flex_attention import sdpa_dense

from passes.frontends.bodies import Entered, Regions, enter
from passes.frontends.env import Bound, Env, Made, bound, leaves_of
from passes.frontends.fakes import nbytes_of, storage_of, tensors_in
from passes.program import AliasOf, Fresh, RegionFlow

if TYPE_CHECKING:
    from passes.frontends.fx import Walk


def flex_attention(walk: Walk, node: fx.Node, path: tuple[str, ...], env: Env) -> Regions:
    """`flex_attention(query, key, value, score, mask, scale, options, captured by either)`.

    Its eager implementation is run, with bodies that are walked when it calls them: the mask,
    then the score, on batches.
    """
    inner = (*path, node.name)
    given = [bound(argument, env) for argument in node.args]
    query, key, value, score, mask, *scale_and_options = given[:7]
    captured = given[7:]
    # Any: what an argument evaluates to is whatever the program computes.
    call: Callable[..., Any] = sdpa_dense
    entered: list[Entered] = []

    def walked(name: str, body: object, bounds: Bound) -> Callable[..., object]:
        assert isinstance(body, fx.GraphModule)
        parts = list(bounds.result) if bounds.result else []  # type: ignore[call-overload]  # a tuple
        values = iter(bounds.values)
        known = [Bound(p, tuple(next(values) for _ in leaves_of(p))) for p in parts]

        def run(*arguments: object) -> object:
            own = [given_by_run(walk, a) for a in arguments[: len(arguments) - len(known)]]
            entered.append(enter(walk, name, body, [*own, *known], inner))
            return entered[-1].returned.result

        return run

    nothing = Bound((), ())
    score_captured, mask_captured = (*captured, nothing, nothing)[:2]
    assert isinstance(mask.result, tuple)
    result = call(
        query.result,
        key.result,
        value.result,
        walked("score", score.result, score_captured),
        (*mask.result[:-1], walked("mask", mask.result[-1], mask_captured)),
        *[option.result for option in scale_and_options],
        score_captured.result,
        mask_captured.result,
    )
    values = walk.book.leaves("/".join(inner), leaves_of(result))
    flow = RegionFlow(
        ((None, 0), (0, 1), (1, None)),
        tuple(copy for body in entered for copy in body.copies),
        held=entered[0].returned.values,
    )
    fresh = tuple(Fresh(nbytes_of(leaf)) for leaf in tensors_in(result))
    return Regions(tuple(body.region for body in entered), flow, result, values, fresh)


def given_by_run(walk: Walk, tensor: object) -> Made:
    """An input of a body that the operator's implementation makes, or handed out before."""
    assert isinstance(tensor, torch.Tensor)
    owner = walk.book.owners.get(storage_of(tensor))
    if owner is None:
        return Made(tensor, (Fresh(nbytes_of(tensor)),))
    return Made(tensor, (AliasOf((0,)),), (owner,))
