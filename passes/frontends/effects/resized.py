"""Storages that a call makes larger, by its schema: of what is given as `out=` or moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from attrs import evolve
from torch._ops import OpOverload
from torch.utils._pytree import tree_map

from passes.frontends.effects.operands import Arguments, Operand, operands_in
from passes.frontends.effects.schema import signature
from passes.frontends.effects.views import covers, fresh_bytes, itemsize
from passes.frontends.fakes.outs import without_out
from passes.frontends.fakes.world import tensors_in, type_of
from passes.program import TensorType


def resized(
    operator: OpOverload, arguments: Arguments, results: Sequence[TensorType | None]
) -> Iterator[tuple[int, int | None]]:
    """`(position, bytes afterwards)` of storages that the call makes larger."""
    about = signature(operator)
    # Of `empty(out=...)` too, which writes nothing and resizes.
    outputs = tuple(argument.name for argument in operator._schema.arguments if argument.is_out)
    names = outputs or (about.arguments[:1] if about.moves else ())
    targets = [operand for name in names for operand in operands_in(arguments.get(name))]
    if about.name == "resize_storage_bytes_":
        wanted = arguments["new_size"]
        yield targets[0].position, wanted if isinstance(wanted, int) else None
    left: Sequence[TensorType | None] = results
    if outputs and not results:  # as of what copies into a list
        left = _left_in(operator, arguments)
    if len(targets) != len(left):
        yield from ((operand.position, None) for operand in targets if outputs)
        return
    if outputs and any(map(_stays_empty, targets, left)):  # some fakes leave it so
        made: Sequence[TensorType | None] = _left_in(operator, arguments)
        if len(made) != len(left):
            made = [None] * len(left)
        left = [
            new if _stays_empty(operand, found) else found
            for operand, found, new in zip(targets, left, made, strict=True)
        ]
    for operand, found in zip(targets, left, strict=True):
        unknown = found is None or operand.type is None or None in found.shape
        if unknown or found.shape != operand.type.shape:  # type: ignore[union-attr]  # both known
            nbytes = _bytes_after(operand, found)
            if nbytes is None or operand.nbytes is None:
                yield operand.position, None
            elif nbytes > operand.nbytes or not results:
                yield operand.position, max(nbytes, operand.nbytes)


def _stays_empty(operand: Operand, found: TensorType | None) -> bool:
    shape = operand.type.shape if operand.type else ()
    return 0 in shape and found is not None and found.shape == shape


def _left_in(operator: OpOverload, arguments: Arguments) -> Sequence[TensorType]:
    """The types of what an operator leaves in its `out=`, by its shape function; none if these
    are not known."""
    plain = without_out(operator)
    given = {name: arguments[name] for name in arguments if name not in signature(operator).outputs}
    try:
        made = tensors_in(plain(**tree_map(_on_meta, given))) if plain else []
    except Exception:  # it has none, or an argument is what only a run decides
        return ()
    return [type_of(tensor.contiguous()) for tensor in made]


# Any: an argument of an operator.
def _on_meta(argument: Any) -> Any:
    """A tensor without data for an operand of known type."""
    if not isinstance(argument, Operand):
        return argument
    found = argument.type
    if found is None or None in found.shape:
        raise TypeError
    return torch.empty(found.shape, dtype=getattr(torch, found.dtype), device="meta")  # type: ignore[arg-type]  # no None


def _bytes_after(operand: Operand, found: TensorType | None) -> int | None:
    """Bytes that an operand's storage must have once the operand is of another type.

    The operand keeps its offset, which not every capture records: where it stands as 0 though
    the operand is a part of its storage, it may be any.
    """
    if found is None or operand.type is None:
        return None
    size = itemsize(found.dtype)
    offset = operand.type.offset
    if offset == 0 and not covers(operand.type, operand.nbytes, size):
        least, before = _reach(found), _reach(operand.type)
        fits = least is not None and before is not None and least <= before
        return operand.nbytes if fits else None
    return fresh_bytes(evolve(found, offset=offset))


def _reach(tensor: TensorType) -> int | None:
    """Elements from a tensor's first to its last."""
    reach = 1
    for length, step in zip(tensor.shape, tensor.stride, strict=True):
        if length is None or step is None:
            return None
        if length == 0:
            return 0
        reach += (length - 1) * step
    return reach
