"""Operators whose kernels in C++ ask for one size of a tensor and are told all of them.

A tensor with one symbolic size has only such numbers to tell as make a number of the symbol.
torch has the same kernels in Python too, where a size is asked for alone; but it uses them
together with decompositions that do other things to memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._C import DispatchKey

ASKING = (torch.ops.aten.unsafe_chunk.default,)
"""As recurrent layers call it, on their gates."""


@contextmanager
def sizes_asked_alone() -> Iterator[None]:
    """Has these operators' kernels in Python called, in all threads, from C++ too."""
    key = DispatchKey.CompositeImplicitAutograd
    library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]  # torch's
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a kernel is replaced
            for operator in ASKING:
                library.impl(operator._schema.name, operator.py_kernels[key], key.name)
        yield
    finally:
        library._destroy()
