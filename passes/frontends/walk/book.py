"""What a walk over a graph has met: values, their storages, and what exists at entry.

Storages are told apart by identity.  The book keeps every tensor and storage it has
numbered, so that an identity is never used twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from attrs import define, field
from torch import nn

from passes.frontends.fakes.world import (
    World,
    has_storage,
    known_int,
    storage_bytes,
    storage_of,
    type_of,
    unwrapped,
)
from passes.frontends.walk.env import leaf_names
from passes.program import EntryValue, Role, Value


@define(eq=False)
class Book:
    """Values by number, and per storage identity its first value and its bytes."""

    world: World
    values: list[Value] = field(factory=list)
    entries: list[EntryValue] = field(factory=list)
    storages: dict[int, int] = field(factory=dict)  # value number -> storage identity
    fakes: dict[int, torch.Tensor] = field(factory=dict)  # value number -> fake
    owners: dict[int, Value] = field(factory=dict)  # storage identity -> first value
    begun: dict[int, int | torch.SymInt | None] = field(factory=dict)  # bytes at first, by identity
    sizes: dict[int, int | None] = field(factory=dict)  # bytes now, by identity
    _attributes: dict[int, Value] = field(factory=dict)  # by id of the real tensor
    _kept: list[object] = field(factory=list)

    def value(self, name: str, fake: torch.Tensor | None) -> Value:
        """A new value; None where only its existence is known."""
        value = Value(len(self.values), name, None if fake is None else type_of(fake))
        self.values.append(value)
        if fake is not None:
            self.bind(value, fake)
        return value

    def leaves(self, name: str, fakes: Sequence[torch.Tensor | None]) -> tuple[Value, ...]:
        """New values for the tensor leaves of one result."""
        names = leaf_names(name, len(fakes))
        return tuple([self.value(name, fake) for name, fake in zip(names, fakes, strict=True)])

    def bind(self, value: Value, fake: torch.Tensor) -> None:
        """Remember which storage a value has, and keep it alive so it stays unique."""
        identity = storage_of(fake)
        self.storages[value.index] = identity
        self.fakes[value.index] = fake
        if identity not in self.owners:
            self.owners[identity] = value
            self.begun[identity] = storage_bytes(fake)
            self.sizes[identity] = known_int(self.begun[identity])
            if has_storage(fake):
                self._kept.append(unwrapped(fake).untyped_storage())

    def mark(self) -> tuple[object, ...]:
        """What `forget` goes back to."""
        return tuple(copy(getattr(self, name)) for name in _FORGOTTEN)

    def forget(self, mark: tuple[object, ...]) -> None:
        """Be as at a mark: what was met since then is met again.  Storages are kept."""
        for name, then in zip(_FORGOTTEN, mark, strict=True):
            setattr(self, name, then)

    def entry(self, name: str, role: Role, fake: torch.Tensor) -> Value:
        """A value that exists before the program runs."""
        value = self.value(name, fake)
        identity = self.storages[value.index]
        self.entries.append(EntryValue(value, role, name, identity, self.sizes[identity]))
        return value

    def attribute(self, name: str, real: torch.Tensor, module: nn.Module) -> Value:
        """A value with the storage that a tensor attribute has now: the attribute's entry value,
        one per tensor however often named, unless it was given another storage."""
        if id(real) not in self._attributes:
            owner = module.get_submodule(name.partition("[")[0].rpartition(".")[0])
            is_buffer = name.rpartition(".")[2] in owner._buffers
            role = (
                Role.PARAMETER
                if isinstance(real, nn.Parameter)
                else Role.BUFFER
                if is_buffer
                else Role.CONSTANT
            )
            self._attributes[id(real)] = self.entry(f"self.{name}", role, self.world.tensor(real))
        entry = self._attributes[id(real)]
        now = storage_of(self.fakes[entry.index])
        return entry if self.storages[entry.index] == now else self.owners[now]


_FORGOTTEN = ("values", "entries", "storages", "fakes", "owners", "begun", "sizes", "_attributes")
