"""Ops for nodes that fake execution does not show in full, or cannot run at all.

opaque       the storages are not to be seen: the op may do anything
either       sizes that only the run knows decide between an operand and a copy
part         one part of a result of which some tensors are missing
unobserved   fakes cannot run it: what its schema declares
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from attrs import evolve
from torch import fx
from torch.utils._pytree import tree_map

from passes.errors import CaptureError
from passes.frontends.effects.choices import choice_of, is_alike
from passes.frontends.effects.declared import anything, result_count
from passes.frontends.effects.schema import MOVES_STORAGE
from passes.frontends.effects.unobserved import called_by, effects_of
from passes.frontends.fakes.undecided import is_unlaid, stand_in, unlaid
from passes.frontends.fakes.undecided import recorded as as_recorded
from passes.frontends.fakes.world import has_storage, known_int, nbytes_of, storage_of, tensors_in
from passes.frontends.walk.env import (
    MISSING,
    Bound,
    comes_from_outside,
    holders,
    leaf_names,
    leaves_of,
    rename,
)
from passes.frontends.walk.nodes import operator_of, target_name
from passes.frontends.walk.recordings import holding_of
from passes.program import (
    AliasOf,
    Effects,
    Fresh,
    OneOf,
    Op,
    OpKind,
    ResultEffect,
    Unknown,
    Value,
)

if TYPE_CHECKING:
    from passes.frontends.walk.observing import Walk


def opaque(
    walk: Walk, node: fx.Node, path: tuple[str, ...], operands: list[Value], result: object
) -> tuple[Op, Bound]:
    """The op for a node whose storages fake tensors do not show: sparse, quantized."""
    leaves = tensors_in(result)
    names = leaf_names("/".join((*path, node.name)) if path else node.name, len(leaves))
    values = tuple([walk.book.value(name, leaf) for name, leaf in zip(names, leaves, strict=True)])
    effects = anything(len(operands), [nbytes_of(leaf) for leaf in leaves])
    op = walk.make(node, path, OpKind.CALL, tuple(operands), values, effects)
    return op, Bound(result, values)


def either(
    walk: Walk, node: fx.Node, path: tuple[str, ...], operands: list[Value], result: object
) -> tuple[Op, Bound]:
    """The op for a node that returns an operand, a view of one, or a copy, as sizes decide
    that only the run knows."""
    world = walk.book.world
    sources = [walk.book.fakes.get(operand.index) for operand in operands]
    effects: list[ResultEffect] = []
    fakes = []
    for leaf in tensors_in(result):
        copy = Fresh(known_int(leaf.numel() * leaf.element_size()))
        alike = [n for n, source in enumerate(sources) if is_alike(source, leaf)]
        effects.append(OneOf((copy, *(AliasOf((n,)) for n in alike))))
        own = stand_in(leaf, world)
        fakes.append(own if choice_of(node) == "contiguous" else unlaid(own, world))
    rest = iter(fakes)
    result = tree_map(lambda x: next(rest) if isinstance(x, torch.Tensor) else x, result)
    values = walk.book.leaves("/".join((*path, node.name)), fakes)
    reads = frozenset(range(len(operands)))
    op = walk.make(node, path, OpKind.CALL, tuple(operands), values, Effects(tuple(effects), reads))
    return op, Bound(result, values)


def as_laid_out(walk: Walk, operands: Iterable[Value], result: object) -> object:
    """A result, with unknown strides where it is new and those of an operand are unknown."""
    world, book = walk.book.world, walk.book
    fakes = [book.fakes[value.index] for value in operands if value.index in book.fakes]
    if not any(is_unlaid(fake, world) for fake in fakes):
        return result
    return tree_map(
        lambda leaf: (
            unlaid(leaf, world)
            if isinstance(leaf, torch.Tensor)
            and has_storage(leaf)
            and storage_of(leaf) not in book.owners
            else leaf
        ),
        result,
    )


def part(
    walk: Walk, node: fx.Node, path: tuple[str, ...], whole: Bound, args: Sequence[Any]
) -> tuple[Op, Bound]:
    """The op for a part, or several, of a result of which some tensors are missing."""
    container: Sequence[object] = whole.result  # type: ignore[assignment]  # it is one
    result = container[args[1]]
    counts = [len(leaves_of(each)) for each in container]
    chosen = range(len(counts))[args[1]]
    places = [chosen] if isinstance(chosen, int) else chosen
    operands = [
        value
        for place in places
        for value in whole.values[sum(counts[:place]) : sum(counts[: place + 1])]
    ]
    values = walk.book.leaves("/".join((*path, node.name)), leaves_of(result))
    effects = Effects(tuple(AliasOf((number,)) for number in range(len(values))))
    op = walk.make(node, path, OpKind.CALL, tuple(operands), values, effects)
    return op, Bound(result, values)


def unobserved(
    walk: Walk,
    node: fx.Node,
    path: tuple[str, ...],
    env: dict[fx.Node, Bound],
    operands: list[Value],
) -> tuple[Op, Bound]:
    """The op for a node that cannot run on fakes: what its schema declares."""
    if operator_of(node) in MOVES_STORAGE:
        raise CaptureError(
            f"node {node.name} ({target_name(node)}) gives a tensor a storage or a size that only "
            "the run knows, so its later uses cannot be followed. Make a new tensor instead"
        )
    result: object = MISSING
    recorded = holding_of(node, env, walk.book.world)
    if recorded is not MISSING and recorded is not None:
        with contextlib.suppress(CaptureError):
            result = as_recorded(recorded, walk.book.world)
    called = called_by(node, env)
    if result is MISSING:
        walk.missing = True
        count = result_count(called)
        leaves: list[torch.Tensor | None] = [None] * (1 if count is None else count)
        if len(leaves) > 1:
            result = (MISSING,) * len(leaves)
    else:
        leaves = leaves_of(result)
    values = walk.book.leaves("/".join((*path, node.name)), leaves)
    types = [value.type for value in values]
    effects = effects_of(node, called, env, walk.book, operands, types)
    if result is MISSING and result_count(called) is None:
        # One value stands for however many there are, and new ones are not the same.
        many = [Unknown(None) if isinstance(one, Fresh) else one for one in effects.results]
        effects = evolve(effects, results=tuple(many))
    renames = tuple(_resized(walk, node, path, env, operands, effects))
    after = tuple(AliasOf((position,)) for position, _ in renames)
    effects = evolve(effects, results=(*effects.results, *after))
    op = walk.make(node, path, OpKind.CALL, tuple(operands), values, effects, renames)
    return op, Bound(result, values)


def _resized(
    walk: Walk,
    node: fx.Node,
    path: tuple[str, ...],
    env: dict[fx.Node, Bound],
    operands: Sequence[Value],
    effects: Effects,
) -> Iterator[tuple[int, Value]]:
    """New values for tensors that were given as `out=`, and now have a size that only the run
    knows: `(operand position, value)`."""
    for position, _ in effects.resizes:
        old = operands[position]
        tensor = walk.book.fakes.get(old.index)
        if tensor is None:
            continue
        if any(n.op == "get_attr" for n in holders(env, tensor)) or (
            path and comes_from_outside(tensor, env)
        ):
            raise CaptureError(
                f"node {node.name} ({target_name(node)}) gives {old.name}, which is there before "
                "this graph, a size that only the run knows, so its later uses cannot be followed. "
                "Give a new tensor as `out=`, or none"
            )
        walk.missing = True
        new = walk.book.value(f"{old.name}@{node.name}", None)
        rename(env, tensor, new, MISSING)
        yield position, new
