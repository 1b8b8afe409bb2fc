"""What a call is given, as schemas name it: tensors with what is known of them, plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from attrs import frozen
from torch import fx

from passes.frontends.effects.schema import UNKNOWN_ARGUMENT
from passes.frontends.fakes.reach import PLAIN
from passes.frontends.fakes.world import known_int
from passes.frontends.walk.env import Env
from passes.program import TensorType, Value


@frozen
class Operand:
    """A tensor among the arguments: which operand it is, and what is known of it.

    `nbytes` is the size of its storage.  Operands with equal `storage` share theirs,
    operands with unequal ones do not; None is not known.
    """

    position: int
    type: TensorType | None = None
    nbytes: int | None = None
    storage: object = None

    def at(self, position: int) -> Operand:
        """The same tensor as another operand."""
        return Operand(position, self.type, self.nbytes, self.storage)


Arguments = Mapping[str, object]
"""Arguments by the schema's names: plain values, `Operand`s, lists of them, and
`UNKNOWN_ARGUMENT`."""


def operands_in(argument: object) -> Iterator[Operand]:
    """The operands in an argument, or in all of them."""
    if isinstance(argument, Operand):
        yield argument
    elif isinstance(argument, (list, tuple)):
        for part in argument:
            yield from operands_in(part)
    elif isinstance(argument, dict):
        for part in argument.values():
            yield from operands_in(part)


def argument_of(argument: object, env: Env, operand: Callable[[Value], Operand]) -> object:
    """An argument of a node as `declared` takes it."""
    if isinstance(argument, fx.Node):
        bound = env[argument]
        if not bound.values:
            return _plain(bound.result)
        found = [operand(value) for value in bound.values]
        return found[0] if len(found) == 1 else found
    if isinstance(argument, (list, tuple)):
        return [argument_of(part, env, operand) for part in argument]
    return argument


def _plain(result: object) -> object:
    """A computed argument, where it is known before the run."""
    if isinstance(result, (torch.SymInt, torch.SymFloat, torch.SymBool)):
        hint = known_int(result)
        return UNKNOWN_ARGUMENT if hint is None else hint
    return result if isinstance(result, PLAIN) else UNKNOWN_ARGUMENT


def is_opaque(tensor: TensorType | None) -> bool:
    """Sparse and quantized tensors have storages that no type shows."""
    if tensor is None:
        return False
    return len(tensor.stride) != len(tensor.shape) or tensor.dtype[:1] == "q"
