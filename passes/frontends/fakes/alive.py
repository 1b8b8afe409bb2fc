"""How many bytes are alive while Python runs: a storage is as long as some tensor holds it."""

from __future__ import annotations

import weakref

import torch
from attrs import define, field

from passes.frontends.fakes.world import nbytes_of, storage_of


@define(eq=False)
class Alive:
    """Bytes of the storages of tensors seen, now and at most.  Tensors are held weakly.

    `most` is None once a tensor was seen whose size only the run decides.
    """

    now: int = field(default=0, init=False)
    most: int | None = field(default=0, init=False)
    _there: set[int] = field(factory=set, init=False)
    _tensors: dict[int, set[int]] = field(factory=dict, init=False)
    """By storage, the ids of the tensors that hold it."""
    _references: dict[int, weakref.ref[torch.Tensor]] = field(factory=dict, init=False)

    def ignore(self, tensor: torch.Tensor) -> None:
        """Do not count the storage of a tensor, which stays."""
        self._there.add(storage_of(tensor))

    def see(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage until the last tensor seen with it is gone."""
        storage, number = storage_of(tensor), id(tensor)
        if storage in self._there or number in self._references:
            return
        known = nbytes_of(tensor)
        nbytes = known or 0
        holders = self._tensors.setdefault(storage, set())
        if not holders:
            self.now += nbytes
            unknown = self.most is None or known is None
            self.most = None if unknown else max(self.most or 0, self.now)
        holders.add(number)
        gone = lambda _: self._gone(storage, number, nbytes)  # noqa: E731
        self._references[number] = weakref.ref(tensor, gone)

    def _gone(self, storage: int, number: int, nbytes: int) -> None:
        del self._references[number]
        holders = self._tensors[storage]
        holders.remove(number)
        if not holders:
            del self._tensors[storage]
            self.now -= nbytes
