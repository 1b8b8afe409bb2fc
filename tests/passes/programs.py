"""Tiny programs for tests, captured as their names say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

import passes
from passes import Program, StorageClass, Value


def traced(function: Callable[..., Any], *inputs: object) -> Program:
    """A Python function through symbolic_trace: methods and functions as they stand."""
    return passes.load(fx.symbolic_trace(function), *inputs)


def exported(function: Callable[..., Any], *inputs: object, grad: bool = False) -> Program:
    """A Python function through torch.export: aten operators."""

    class Wrapped(nn.Module):
        def forward(self, *args: object) -> object:
            return function(*args)

    with torch.set_grad_enabled(grad):
        return passes.load(torch.export.export(Wrapped(), inputs, strict=False))


def value(program: Program, name: str) -> Value:
    """A value by name."""
    return next(v for v in program.values if v.name == name)


def classes(program: Program) -> dict[str, set[str]]:
    """Storage class -> names of its sure members."""
    return {c.id: {v.name for v in c.members} for c in passes.aliases(program).classes}


def ids(found: frozenset[StorageClass]) -> set[str]:
    """The ids of storage classes."""
    return {c.id for c in found}
