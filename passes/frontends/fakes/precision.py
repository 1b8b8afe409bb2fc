"""Operators whose real kernels choose another precision for results than fake ones do.

A normalization whose input is of low precision and whose parameters are float32, as under
autocast, has statistics of float32 too.  Fakes say that they are of low precision, so that they
would count half.  Kernels of the CPU; for others the fakes are right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch._ops import OpOverload

_STATISTICS = dict.fromkeys((1, 2), "widest")

PRECISION: Mapping[str, Mapping[int, str]] = {
    **dict.fromkeys(
        "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
        "_batch_norm_with_update _batch_norm_no_update native_batch_norm_backward "
        "batch_norm_backward native_layer_norm native_group_norm".split(),
        _STATISTICS,
    ),
    # Those that return the new running statistics instead of writing them.
    "_native_batch_norm_legit_functional": dict.fromkeys((1, 2, 3, 4), "widest"),
    "_batch_norm_with_update_functional": dict.fromkeys((1, 2, 4, 5), "widest"),
    "native_group_norm_backward": {0: "second"},
}
"""Results by number that have the widest precision of all arguments, or that of the second."""


def dtype_in_truth(
    name: str, number: int, given: Sequence[torch.dtype | None]
) -> torch.dtype | None:
    """The dtype of a result of the operator `name`; None if it is that of the fake.

    `given` are those of the arguments by position, None for what is no tensor.
    """
    rule = PRECISION.get(name, {}).get(number)
    known = {dtype for dtype in given if dtype is not None}
    if rule is None or not known:
        return None
    return given[1] if rule == "second" else reduce(torch.promote_types, known)


# Any: arguments and the result of an operator.
def precise(operator: OpOverload, args: Sequence[Any], result: Any) -> Any:
    """The result of an operator on fakes, in the precision of the real one."""
    if not isinstance(result, tuple):
        return result
    name = operator._schema.name.rpartition("::")[2]
    if name not in PRECISION:
        return result
    given = [arg.dtype if isinstance(arg, torch.Tensor) else None for arg in args]
    return tuple(_of(part, dtype_in_truth(name, n, given)) for n, part in enumerate(result))


def _of(part: Any, dtype: torch.dtype | None) -> Any:
    is_other = isinstance(part, torch.Tensor) and dtype is not None and part.dtype != dtype
    return torch.empty_like(part, dtype=dtype) if is_other and part.device.type == "cpu" else part
