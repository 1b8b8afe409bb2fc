"""Memoized functions, which outlive a capture and must not keep its fake tensors.

`functools.lru_cache` keeps what a function returned, by arguments: for the next capture and for
the user's next call alike.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator
from typing import Any

from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_leaves

_NEVER = ("torch.", "sympy.")
"""Modules whose own functions keep no tensors, and much else."""


def forget_fakes() -> None:
    """Empty each memo in this process that keeps a fake tensor."""
    for memo in [
        found for found in gc.get_objects() if type(found) is functools._lru_cache_wrapper
    ]:
        inside = str(getattr(memo, "__module__", "")).startswith(_NEVER)
        if not inside and memo.cache_info().currsize and any(map(_is_fake, _kept(memo))):
            memo.cache_clear()


# Any: a memo is of any function.
def _kept(memo: Any) -> Iterator[object]:
    """What a memo may return: what it refers to, its table's values among it."""
    for found in gc.get_referents(memo):
        yield found
        if type(found) is dict:
            yield from found.values()


def _is_fake(kept: object) -> bool:
    return any(isinstance(leaf, FakeTensor) for leaf in tree_leaves(kept))
