"""The effects of a node that cannot run on fake tensors: what its schema declares."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from types import EllipsisType, NoneType

import torch
from attrs import evolve
from torch import fx
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves

from passes.frontends.effects.declared import anything, declared
from passes.frontends.effects.operands import Operand, argument_of
from passes.frontends.effects.resolve import operator_of
from passes.frontends.effects.schema import signature
from passes.frontends.effects.views import fresh_bytes
from passes.frontends.fakes.limits import MASKS
from passes.frontends.walk.book import Book
from passes.frontends.walk.env import MISSING, Env, evaluated, leaf_values
from passes.program import AliasOf, Effects, Fresh, OneOf, Origin, ResultEffect, TensorType, Value


def is_missing(result: object) -> bool:
    """Whether a result, or some tensor of it, is missing."""
    return result is MISSING or any(leaf is MISSING for leaf in tree_leaves(result))


def called_by(node: fx.Node, env: Env) -> OpOverload | None:
    """The operator that a node calls, if it is one and its arguments are there."""
    if any(is_missing(env[n].result) for n in node.all_input_nodes):
        return node.target if isinstance(node.target, OpOverload) else None
    return operator_of(node, evaluated(node.args, env), evaluated(node.kwargs, env))


def effects_of(
    node: fx.Node,
    called: OpOverload | None,
    env: Env,
    book: Book,
    operands: Sequence[Value],
    types: Sequence[TensorType | None],
) -> Effects:
    """Effects from the node's schema; anything where it has none."""
    place: Mapping[Value, int] = {value: number for number, value in enumerate(operands)}
    if node.target is operator.getitem:
        parts = tuple(AliasOf((place[value],)) for value in _projected(node, env))
        if _is_flat(node, env):
            return Effects(parts, origin=Origin.DECLARED)
        found: list[ResultEffect] = [
            parts[0]
            if len(parts) == 1 and _gives_view(evaluated(node.args[1], env))
            else OneOf((Fresh(fresh_bytes(shown)), *parts))
            for shown in types
        ]
        return Effects(tuple(found), frozenset(range(len(operands))), origin=Origin.DECLARED)
    if called is None:
        return anything(len(operands), list(map(fresh_bytes, types)))

    def operand(value: Value) -> Operand:
        storage = book.storages.get(value.index)
        nbytes = None if storage is None else book.sizes[storage]
        return Operand(place[value], value.type, nbytes, storage)

    given = {**dict(zip(signature(called).arguments, node.args)), **node.kwargs}  # noqa: B905  # rest by name
    arguments = {name: argument_of(given[name], env, operand) for name in given}
    found_effects = declared(called, arguments, len(operands), types)
    if found_effects.origin is Origin.SCHEMA:  # types that a run decides are not known to hold
        return evolve(found_effects, origin=Origin.DECLARED)
    return found_effects


def _gives_view(index: object) -> bool:
    """Whether an index gives a view of a tensor, as masks and lists do not."""
    return all(
        isinstance(part, (slice, EllipsisType, NoneType, torch.SymInt))
        or (isinstance(part, int) and not isinstance(part, bool))
        or (isinstance(part, torch.Tensor) and part.dim() == 0 and part.dtype not in MASKS)
        for part in (index if isinstance(index, tuple) else (index,))
    )


def _is_flat(node: fx.Node, env: Env) -> bool:
    """Whether the operand of `getitem` is a tuple of tensors, each perhaps missing."""
    container = node.args[0]
    return isinstance(container, fx.Node) and isinstance(env[container].result, tuple)


def _projected(node: fx.Node, env: Env) -> Sequence[Value]:
    """The values that `getitem` may give: certain if its operand is a tuple of tensors."""
    container, index = node.args
    if not isinstance(container, fx.Node) or not _is_flat(node, env):
        return list(leaf_values(container, env))
    values = env[container].values
    if isinstance(index, slice):
        return values[index]
    assert isinstance(index, int)
    return (values[index],)
