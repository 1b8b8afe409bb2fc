"""What a value is now, in a form that later changes of it do not reach."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from typing import Any

import attrs


def snapshot(value: object) -> object:
    """What a value is now, in a form that later changes of it do not reach.

    It goes through containers, through records, whose fields may hold such, and through objects
    that cannot be hashed, which are those that may change.
    """
    if isinstance(value, Mapping):
        return [(key, snapshot(item)) for key, item in value.items()]
    if isinstance(value, Set):
        return frozenset(value)
    if isinstance(value, (list, tuple)):
        return [snapshot(item) for item in value]
    kind: Any = type(value)  # Any: asked for what only some classes have
    if kind.__eq__ is object.__eq__:  # it is not a plain value but itself
        return value
    if attrs.has(kind):
        return [snapshot(getattr(value, field.name)) for field in attrs.fields(kind)]
    if is_dataclass(kind):
        return [snapshot(getattr(value, field.name)) for field in fields(kind)]
    return copy.deepcopy(value) if kind.__hash__ is None else value
