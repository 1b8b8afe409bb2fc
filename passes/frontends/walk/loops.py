"""Operators that run a body again and again.  What the run does:

    while_loop   cond(carried, extra), then body(carried, extra) -> carried, and again;
                 the results are the last body's own, or clones of the operands where
                 the body never ran.  `stack_output`: the results of all iterations,
                 stacked once the last is done
    scan         body(carried, slices, extra) -> carried, parts, for each slice along the
                 first dimension of the operands; what is carried last, and all parts in
                 tensors that are there from the first iteration on
    map          body(slices, extra) -> parts, for each slice; all parts, stacked once the
                 last iteration is done

Bodies are walked with new tensors for what is carried.  What one iteration shows must hold
for every other, so a body that returns other numbers or sizes than it was given is walked
again with unknown ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import fx
from torch.utils._pytree import tree_map

from dataflow import CopyKind
from passes.errors import CaptureError
from passes.frontends.fakes.undecided import Join
from passes.frontends.fakes.world import known_int, nbytes_of
from passes.frontends.walk.bodies import (
    Builder,
    Entered,
    Regions,
    body_of,
    enter,
    exits,
    keep_layouts,
    outside_transforms,
)
from passes.frontends.walk.env import MISSING, Bound, Env, bound, leaves_of
from passes.program import Fresh, OneOf, RegionFlow, ResultEffect, Value, ValueCopy

if TYPE_CHECKING:
    from passes.frontends.walk.observing import Walk

T = TypeVar("T")


def while_loop(stacked: bool = False) -> Builder:
    """`while_loop(condition, body, carried, extra)`."""

    def build(walk: Walk, node: fx.Node, path: tuple[str, ...], env: Env) -> Regions:
        outside_transforms(node)
        condition, body = body_of(node.args[0], env), body_of(node.args[1], env)
        starts, extra = _bounds(node.args[2], env), _bounds(node.args[3], env)
        inner = (*path, node.name)

        def iteration(carried: Sequence[Bound]) -> tuple[Entered, Entered]:
            given = [*carried, *extra]
            check = enter(walk, "cond", condition, given, inner)
            keep_layouts(walk, check.region)
            # The body gets what the condition got, in the same iteration.
            inputs = iter(check.region.inputs)
            held = [Bound(one.result, tuple([next(inputs) for _ in one.values])) for one in given]
            step = enter(walk, "body", body, held, inner)
            keep_layouts(walk, step.region)
            return check, step

        check, step = _settled(walk, inner, starts, iteration, lambda found: found[1].returned)
        returned = step.returned
        begun = [value for start in starts for value in start.values]
        heads = check.region.inputs[: len(begun)]
        copies = [*check.copies, *step.copies, *_back(returned.values, heads)]
        flow = ((None, 0), (0, 1), (1, 0), (0, None))
        clones = tree_map(
            lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf,
            _whole(starts),
        )
        if stacked:
            count = walk.book.world.unknown_size()
            result = _stacked(returned.result, count)
            values = walk.book.leaves("/".join(inner), leaves_of(result))
            for sources in (begun, returned.values):
                copies += _stack(sources, values)
            held, again = (*check.returned.values, *returned.values), None
        else:
            result = Join(walk.book.world, f"the loop {'/'.join(inner)}").results(
                clones, returned.result
            )
            values = walk.book.leaves("/".join(inner), leaves_of(result))
            copies += exits(returned.values, values)
            copies += [
                ValueCopy(start, value, CopyKind.SKIP)
                for start, value in zip(begun, values, strict=True)
            ]
            held, again = check.returned.values, 1
        return Regions(
            regions=(check.region, step.region),
            flow=RegionFlow(flow, tuple(copies), held=held, again=again),
            result=result,
            values=values,
            fresh=_fresh(result if stacked else clones),
        )

    return build


def scan(walk: Walk, node: fx.Node, path: tuple[str, ...], env: Env) -> Regions:
    """`scan(body, carried, operands, extra)`."""
    outside_transforms(node)
    inner = (*path, node.name)
    starts, extra = _bounds(node.args[1], env), _bounds(node.args[3], env)
    slices, count = _slices(walk, _bounds(node.args[2], env), inner)

    def iteration(carried: Sequence[Bound]) -> Entered:
        given = [*carried, *slices, *extra]
        found = enter(walk, "body", body_of(node.args[0], env), given, inner)
        keep_layouts(walk, found.region)
        return found

    def returned(found: Entered) -> tuple[Bound, Bound]:
        whole = found.returned.result
        assert isinstance(whole, (tuple, list))
        last, parts = tuple(whole[: len(starts)]), tuple(whole[len(starts) :])
        cut = len(leaves_of(last))
        values = found.returned.values
        return Bound(last, values[:cut]), Bound(parts, values[cut:])

    step = _settled(walk, inner, starts, iteration, lambda found: returned(found)[0])
    last, parts = returned(step)
    stacks = _stacked(parts.result, count)
    # Later ops must not take the result for the body's own tensor.
    ended = _apart(walk, inner, last.result)
    assert isinstance(ended, tuple)
    assert isinstance(stacks, tuple)
    result = (*ended, *stacks)
    values = walk.book.leaves("/".join(inner), leaves_of(result))
    ends, stacked = values[: len(last.values)], values[len(last.values) :]
    heads = step.region.inputs[: len(last.values)]
    copies = [*step.copies, *exits(last.values, ends), *_stack(parts.values, stacked)]
    number = known_int(count)
    if number != 1:
        copies += _back(last.values, heads)
    # A count that is a symbol is asked, so that the answer is noted.
    many = number is None or bool(count >= 3)
    flow = RegionFlow(
        _control(number),
        tuple(copies),
        # The run keeps the parts of the first iteration, and those of the last one.
        held=parts.values,
        again=2 if many else known_int(count - 1),
        early=stacked if number != 1 else (),
    )
    fresh: tuple[ResultEffect, ...] = (*[OneOf(()) for _ in ends], *_fresh(stacks))
    return Regions((step.region,), flow, result, values, fresh)


def map_(walk: Walk, node: fx.Node, path: tuple[str, ...], env: Env) -> Regions:
    """`map_impl(body, operands, extra)`."""
    outside_transforms(node)
    inner = (*path, node.name)
    slices, count = _slices(walk, _bounds(node.args[1], env), inner)
    given = [*slices, *_bounds(node.args[2], env)]
    step = enter(walk, "body", body_of(node.args[0], env), given, inner)
    keep_layouts(walk, step.region)
    result = _stacked(step.returned.result, count)
    values = walk.book.leaves("/".join(inner), leaves_of(result))
    number = known_int(count)
    walk.counts["/".join(inner)] = count
    flow = RegionFlow(
        _control(number),
        (*step.copies, *_stack(step.returned.values, values)),
        held=step.returned.values,
        again=None if number is None else number - 1,
    )
    return Regions((step.region,), flow, result, values, _fresh(result))


def _settled(
    walk: Walk,
    inner: tuple[str, ...],
    starts: Sequence[Bound],
    iteration: Callable[[Sequence[Bound]], T],
    returned: Callable[[T], Bound],
) -> T:
    """An iteration that is like any: it may begin with what it returns."""
    join = Join(walk.book.world, f"the loop {'/'.join(inner)}")
    heads = tree_map(join.head, _whole(starts))
    while True:
        mark = walk.mark()
        found = iteration(
            [Bound(head, start.values) for head, start in zip(heads, starts, strict=True)]
        )
        back = returned(found).result
        if not isinstance(back, tuple):
            back = tuple(back) if isinstance(back, list) else (back,)
        joined = join.results(heads, back)
        if join.covers(heads, joined):
            return found
        walk.forget(mark)
        heads = joined


def _bounds(arguments: object, env: Env) -> list[Bound]:
    assert isinstance(arguments, (tuple, list))
    return [bound(argument, env) for argument in arguments]


def _whole(parts: Sequence[Bound]) -> tuple[object, ...]:
    return tuple(part.result for part in parts)


def _slices(
    walk: Walk, operands: Sequence[Bound], inner: tuple[str, ...]
) -> tuple[list[Bound], int | torch.SymInt]:
    """What one iteration gets of operands that a loop goes through, and how many there are."""
    fakes = [operand.result for operand in operands]
    known = [fake for fake in fakes if isinstance(fake, torch.Tensor)]
    if not operands or len(known) != len(fakes) or not all(fake.dim() for fake in known):
        raise CaptureError(
            f"{'/'.join(inner)} goes through the first dimension of its operands, and what they "
            "are is not known. Give it tensors whose shapes do not depend on data"
        )
    count = known[0].shape[0]
    place = 0 if count == 1 else walk.book.world.unknown_size()
    return [
        Bound(
            fake.as_strided(
                fake.shape[1:], fake.stride()[1:], fake.storage_offset() + place * fake.stride(0)
            ),
            operand.values,
        )
        for fake, operand in zip(known, operands, strict=True)
    ], count


def _stacked(parts: object, count: int | torch.SymInt) -> object:
    """New tensors with a part of each iteration; what is no tensor is None."""

    def stack(part: object) -> object:
        if part is MISSING:
            return MISSING
        if not isinstance(part, torch.Tensor):
            return None
        return torch.empty((count, *part.shape), dtype=part.dtype, device=part.device)

    return tree_map(stack, parts)


def _fresh(result: object) -> tuple[Fresh, ...]:
    """The effects of an op that allocates all its results itself."""
    return tuple(Fresh(None if leaf is None else nbytes_of(leaf)) for leaf in leaves_of(result))


def _apart(walk: Walk, inner: tuple[str, ...], result: object) -> object:
    """A result with tensors of their own in place of its tensors."""
    return Join(walk.book.world, "/".join(inner)).results(result, result)


def _control(count: int | None) -> tuple[tuple[int | None, int | None], ...]:
    """Once, or again and again."""
    once = ((None, 0), (0, None))
    return once if count == 1 else (*once, (0, 0))


def _back(sources: Sequence[Value], heads: Sequence[Value]) -> list[ValueCopy]:
    return [
        ValueCopy(source, head, CopyKind.BACK) for source, head in zip(sources, heads, strict=True)
    ]


def _stack(sources: Sequence[Value], targets: Sequence[Value]) -> list[ValueCopy]:
    return [
        ValueCopy(source, target, CopyKind.STACK)
        for source, target in zip(sources, targets, strict=True)
    ]
