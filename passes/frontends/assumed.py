"""Ops for nodes that fake execution does not show in full, or cannot run at all.

opaque       the storages are not to be seen: the op may do anything
either       sizes that only the run knows decide between an operand and a copy
part         one part of a result of which some tensors are missing
unobserved   fakes cannot run it: what its schema declares
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch._ops import OpOverload
from torch.utils._pytree import tree_map

from passes.errors import CaptureError
from passes.frontends.choices import choice_of, is_alike
from passes.frontends.declared import anything, declared, result_count
from passes.frontends.env import MISSING, Bound, leaf_names, leaf_values, leaves_of
from passes.frontends.fakes import known_int, nbytes_of, storage_of, tensors_in
from passes.frontends.nodes import operator_of, target_name
from passes.frontends.observe import MOVES_STORAGE
from passes.frontends.undecided import is_unlaid, stand_in, unlaid
from passes.frontends.undecided import recorded as as_recorded
from passes.program import (
    AliasOf,
    Effects,
    Fresh,
    OneOf,
    Op,
    OpKind,
    Origin,
    ResultEffect,
    Value,
)

if TYPE_CHECKING:
    from passes.frontends.fx import Walk


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
            and leaf.layout is torch.strided
            and storage_of(leaf) not in book.owners
            else leaf
        ),
        result,
    )


def part(
    walk: Walk, node: fx.Node, path: tuple[str, ...], whole: Bound, args: Sequence[Any]
) -> tuple[Op, Bound]:
    """The op for a part of a result of which some tensors are missing."""
    result = whole.result[args[1]]  # type: ignore[index]  # it is a container
    before = len(leaves_of(tuple(whole.result[: args[1]])))  # type: ignore[index]  # as above
    leaves = leaves_of(result)
    values = walk.book.leaves("/".join((*path, node.name)), leaves)
    operands = whole.values[before : before + len(leaves)]
    effects = Effects(tuple(AliasOf((number,)) for number in range(len(leaves))))
    op = walk.make(node, path, OpKind.CALL, operands, values, effects)
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
    recorded = node.meta.get("val", node.meta.get("example_value"))
    if recorded is not None:
        with contextlib.suppress(CaptureError):
            result = as_recorded(recorded, walk.book.world)
    if result is MISSING:
        walk.missing = True
        count = result_count(node.target)
        leaves: list[torch.Tensor | None] = [None] * (1 if count is None else count)
    else:
        leaves = list(tensors_in(result))
    name = "/".join((*path, node.name)) if path else node.name
    names = leaf_names(name, len(leaves))
    values = tuple([walk.book.value(name, leaf) for name, leaf in zip(names, leaves, strict=True)])
    sizes = [None if leaf is None else nbytes_of(leaf) for leaf in leaves]
    effects = _declared(node, env, operands, sizes)
    op = walk.make(node, path, OpKind.CALL, tuple(operands), values, effects)
    return op, Bound(result, values)


def _declared(
    node: fx.Node,
    env: Mapping[fx.Node, Bound],
    operands: Sequence[Value],
    sizes: Sequence[int | None],
) -> Effects:
    """Effects from the node's schema; anything where it has none."""
    place = {value: number for number, value in enumerate(operands)}
    if node.target is operator.getitem:
        parts = tuple(AliasOf((number,)) for number in place.values())
        answers: ResultEffect = parts[0] if len(parts) == 1 else OneOf(parts)
        return Effects((answers,) * len(sizes), origin=Origin.DECLARED)
    if not isinstance(node.target, OpOverload):
        return anything(len(operands), sizes)
    names = [argument.name for argument in node.target._schema.arguments]
    given = {**dict(zip(names, node.args)), **node.kwargs}  # noqa: B905  # rest by name
    positions = {
        name: [place[value] for value in leaf_values(argument, env)]
        for name, argument in given.items()
    }
    return declared(node.target, positions, len(operands), sizes, given)
