"""The op for a node that ran on fakes, from what was watched.

Its result leaves are compared, by storage identity, with its operands (alias), with each other
(same), with every value known so far (an operand it reached on its own), and otherwise are fresh.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import fx

from passes.errors import CaptureError
from passes.frontends.effects import assumed
from passes.frontends.effects.observe import QUIET, Observation, hidden_state
from passes.frontends.fakes.world import has_storage, nbytes_of, storage_of, tensors_in
from passes.frontends.walk.env import Bound, comes_from_outside, leaf_names, leaf_values, rename
from passes.frontends.walk.nodes import is_empty, is_known_code, unclear_out
from passes.program import (
    AliasOf,
    Effects,
    Fresh,
    Op,
    OpKind,
    Origin,
    ResultEffect,
    Role,
    SameAs,
    Value,
)

if TYPE_CHECKING:
    from passes.frontends.walk.observing import Walk


def enter_hidden(walk: Walk, node: fx.Node) -> None:
    """Tensors that a node used though nobody gave them to it exist at entry."""
    if node.op != "call_method":
        found = [
            t for t in hidden_state(walk.observer.calls) if storage_of(t) not in walk.book.owners
        ]
        for number, tensor in enumerate(found):
            walk.book.entry(f"{node.name} state {number}", Role.CONSTANT, tensor)


def watched(
    walk: Walk,
    node: fx.Node,
    path: tuple[str, ...],
    env: dict[fx.Node, Bound],
    operands: list[Value],
    result: object,
    seen: Observation,
) -> tuple[Op, Bound]:
    """The op for a node that ran: compare storages, name what is new."""
    book = walk.book
    positions: dict[int, list[int]] = {}
    for number, operand in enumerate(operands):
        if operand.index in book.storages:
            positions.setdefault(book.storages[operand.index], []).append(number)

    def among_operands(identity: int) -> list[int]:
        """Where a known storage stands among the operands; it joins them if it must."""
        if identity not in positions:
            positions[identity] = [len(operands)]
            operands.append(book.owners[identity])
        return positions[identity]

    writes = overwrites = frozenset[int]()
    resizes: tuple[tuple[int, int | None], ...] = ()
    leaves = tensors_in(result)
    strided = all(
        fake is None or has_storage(fake)
        for fake in (*leaves, *(book.fakes.get(operand.index) for operand in operands))
    )
    if seen.opaque or not strided:
        return assumed.opaque(walk, node, path, operands, result)
    if seen.unclear:
        raise unclear_out(node)
    if seen is not QUIET or "out" in node.kwargs:
        out = (book.storages.get(v.index) for v in leaf_values(node.kwargs.get("out"), env))
        moved = {storage_of(tensor) for tensor in seen.moved}
        touched = {*seen.written, *(out if not is_empty(node) else ())}
        owners = book.owners
        written = sorted(touched & owners.keys(), key=lambda s: owners[s].index)
        writes = frozenset(p for s in written for p in among_operands(s))
        overwrites = frozenset(p for s in written if s in seen.overwritten for p in positions[s])
        resizes = tuple(_resized(walk, {*written, *moved} & positions.keys(), positions))

    effects: list[ResultEffect] = []
    own: dict[int, int] = {}

    def begin(name: str, leaf: torch.Tensor) -> Value:
        """A value that this op defines, and its effect."""
        identity = storage_of(leaf)
        if identity in own:
            effects.append(SameAs(own[identity]))
        elif identity in positions or identity in book.owners:
            effects.append(AliasOf(tuple(among_operands(identity))))
        else:
            own[identity] = len(effects)
            most = book.world.most_bytes(leaf)
            effects.append(Fresh(nbytes_of(leaf), identity in seen.unwritten, most))
        return book.value(name, leaf)

    name = "/".join((*path, node.name)) if path else node.name
    names = leaf_names(name, len(leaves))
    values = tuple([begin(name, leaf) for name, leaf in zip(names, leaves, strict=True)])
    renames: list[tuple[int, Value]] = []
    for tensor in {id(t): t for t in seen.moved}.values():
        stale = [n for n, v in enumerate(operands) if book.fakes.get(v.index) is tensor]
        if stale and book.storages[operands[stale[0]].index] != storage_of(tensor):
            if path and comes_from_outside(tensor, env):
                raise CaptureError(
                    f"node {name} gives a tensor from outside of its sub-graph another "
                    "storage; which one the outer graph sees afterwards cannot be followed"
                )
            old = operands[stale[0]]
            new = begin(f"{old.name}@{node.name}", tensor)
            renames.append((stale[0], new))
            rename(env, tensor, new)
    op = walk.make(
        node,
        path,
        OpKind.CALL,
        tuple(operands),
        values,
        Effects(
            results=tuple(effects),
            reads=frozenset(range(len(operands))) - overwrites,
            writes=writes,
            overwrites=overwrites,
            origin=Origin.OBSERVED if seen.trusted else Origin.DECLARED,
            resizes=resizes,
            repeatable=seen.trusted and not seen.draws and is_known_code(node),
        ),
        tuple(renames),
    )
    return op, Bound(result, values)


def _resized(
    walk: Walk, written: Iterable[int], positions: Mapping[int, list[int]]
) -> Iterator[tuple[int, int | None]]:
    """`(operand position, bytes now)` for written storages that changed their size."""
    for identity in written:
        position = positions[identity][0]
        now = nbytes_of(walk.book.fakes[walk.book.owners[identity].index])
        if now != walk.book.sizes[identity]:
            walk.book.sizes[identity] = now
            yield position, now
