"""Flex attention, whose bodies work on batches that only its implementation makes.

    forward    flex_attention(query, key, value, score, mask, scale, options, captured by either)
    backward   flex_attention_backward(query, key, value, result, its logarithm of sums, their
               gradients, score, the joint graph of score, and from the mask on as above)

The eager implementation is run, with bodies that are walked when it calls them: the mask, then
the score, and of a backward the joint graph, then the mask again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch._higher_order_ops.flex_attention import sdpa_dense, sdpa_dense_backward

from passes.frontends.fakes.world import nbytes_of, storage_of, tensors_in
from passes.frontends.walk.bodies import Builder, Entered, Regions, enter
from passes.frontends.walk.env import Bound, Env, Made, bound, leaves_of
from passes.program import AliasOf, Fresh, RegionFlow

if TYPE_CHECKING:
    from passes.frontends.walk.observing import Walk


def attention(kernel: Callable[..., Any], *names: str) -> Builder:
    """An operator that this implementation runs.  `names` are of the graphs before the mask."""

    def build(walk: Walk, node: fx.Node, path: tuple[str, ...], env: Env) -> Regions:
        inner = (*path, node.name)
        given = [bound(argument, env) for argument in node.args]
        first = next(n for n, one in enumerate(given) if isinstance(one.result, fx.GraphModule))
        place = first + len(names)
        mask = given[place].result
        assert isinstance(mask, tuple)
        captured = (*given[place + 3 :], *[Bound((), ())] * 2)[:2]
        entered: list[Entered] = []

        def walked(name: str, body: object, bounds: Bound) -> Callable[..., object]:
            assert isinstance(body, fx.GraphModule)
            parts = list(bounds.result) if bounds.result else []  # type: ignore[call-overload]  # a tuple
            values = iter(bounds.values)
            known = [Bound(p, tuple(next(values) for _ in leaves_of(p))) for p in parts]

            def run(*arguments: object) -> object:
                own = [given_by_run(walk, a) for a in arguments[: len(arguments) - len(known)]]
                again = any(one.region.name == name for one in entered)
                label = f"{name}_again" if again else name
                entered.append(enter(walk, label, body, [*own, *known], inner))
                result = entered[-1].returned.result
                return list(result) if isinstance(result, list) else result  # not fx's own list

            return run

        bodies = [
            walked(name, given[first + number].result, captured[0])
            for number, name in enumerate(names)
        ]
        result = kernel(
            *[one.result for one in given[:first]],
            *bodies,
            (*mask[:-1], walked("mask", mask[-1], captured[1])),
            *[one.result for one in given[place + 1 : place + 3]],
            *[one.result for one in captured],
        )
        values = walk.book.leaves("/".join(inner), leaves_of(result))
        return Regions(
            tuple(one.region for one in entered),
            _one_after_the_other(entered),
            result,
            values,
            tuple(Fresh(nbytes_of(leaf)) for leaf in tensors_in(result)),
        )

    return build


flex_attention = attention(sdpa_dense, "score")
flex_attention_backward = attention(sdpa_dense_backward, "score", "joint")


def given_by_run(walk: Walk, tensor: object) -> Made:
    """An input of a body that the operator's implementation makes, or handed out before."""
    assert isinstance(tensor, torch.Tensor)
    owner = walk.book.owners.get(storage_of(tensor))
    if owner is None:
        return Made(tensor, (Fresh(nbytes_of(tensor)),))
    return Made(tensor, (AliasOf((0,)),), (owner,))


def _one_after_the_other(entered: Sequence[Entered]) -> RegionFlow:
    """Bodies of which each works beside what the ones before returned."""
    order = [None, *range(len(entered)), None]
    return RegionFlow(
        tuple(pairwise(order)),
        tuple(copy for body in entered for copy in body.copies),
        held=tuple(value for body in entered[:-1] for value in body.returned.values),
    )
