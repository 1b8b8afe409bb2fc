"""What Python holds while it runs a model: the storages that operators make and that still live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# A weak reference keeps the address of a StorageImpl from being given out again.
_weak: Callable[[torch.UntypedStorage], Any] = StorageWeakRef


class Held(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Counts, after each operator, the bytes of results that live; `most` is the maximum.

    `there` are tensors that were there before, and do not count.
    """

    def __init__(self, there: object) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.most = 0
        self._there = {tensor.untyped_storage()._cdata for tensor in _tensors(there)}
        self._made: dict[int, tuple[Any, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            address = storage._cdata
            if address not in self._there and address not in self._made:
                self._made[address] = _weak(storage), storage.nbytes()
        self._made = {a: made for a, made in self._made.items() if not made[0].expired()}
        self.most = max(self.most, sum(nbytes for _, nbytes in self._made.values()))
        return result


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
