"""The tensors that a module or an object reaches, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn

PLAIN = (int, float, bool, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)
"""Types whose objects have no tensors in them."""


def tensors_inside(
    name: str, leaf: object, seen: set[int] | None = None
) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors that an input of any kind reaches by attributes and containers, by name."""
    seen = set() if seen is None else seen
    if isinstance(leaf, torch.Tensor):
        yield name, leaf
    if id(leaf) in seen or isinstance(leaf, (*PLAIN, torch.Tensor, type, nn.Module)):
        return
    seen.add(id(leaf))
    if isinstance(leaf, Mapping):
        parts = [(f"{name}.{key}", part) for key, part in leaf.items()]
    elif isinstance(leaf, (list, tuple)):
        parts = [(f"{name}[{number}]", part) for number, part in enumerate(leaf)]
    else:
        parts = [(f"{name}.{key}", part) for key, part in getattr(leaf, "__dict__", {}).items()]
    for label, part in parts:
        yield from tensors_inside(label, part, seen)


def module_tensors(module: nn.Module) -> Mapping[str, torch.Tensor]:
    """Every tensor a module can reach by attribute, by dotted name: parameters, buffers,
    and attributes, in lists, tuples and dicts too.  A tensor under several names is listed
    under each."""
    found: dict[str, torch.Tensor] = {}
    for prefix, child in module.named_modules(remove_duplicate=False):
        start = f"{prefix}." if prefix else ""
        for store in (child._parameters, child._buffers, vars(child)):
            for name, attribute in store.items():
                if store is not vars(child) or name not in _STORES:
                    found.update(_reached(start + name, attribute))
    return found


_STORES = frozenset(vars(nn.Module()))
"""Where `nn.Module` itself keeps parameters, buffers, modules and hooks."""


def _reached(name: str, attribute: object) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(attribute, torch.Tensor):
        yield name, attribute
    elif isinstance(attribute, (list, tuple)):
        for number, part in enumerate(attribute):
            yield from _reached(f"{name}[{number}]", part)
    elif isinstance(attribute, dict):
        for key, part in attribute.items():
            yield from _reached(f"{name}[{key!r}]", part)
