"""What nodes came to while a graph is walked, and how arguments are looked up in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from attrs import define
from torch import fx
from torch.utils._pytree import tree_leaves, tree_map

from passes.program import ResultEffect, Value


class Missing:
    """Stands for a tensor, or for all that a node came to, which fake execution could not
    produce."""

    def __repr__(self) -> str:
        return "<not computed>"


MISSING = Missing()


@define(eq=False)
class Bound:
    """What a node came to: the object it evaluates to, and its tensor leaves as values."""

    result: object
    values: tuple[Value, ...]


@define(eq=False)
class Made:
    """An input of a sub-graph that the operator makes: the effects it has on the operands."""

    result: object
    effects: tuple[ResultEffect, ...]
    operands: tuple[Value, ...] = ()


Env = Mapping[fx.Node, Bound]


# Any: what an argument evaluates to is whatever the program computes.
def evaluated(argument: Any, env: Env) -> Any:
    """An argument with each node in it replaced by what it evaluates to."""
    return fx.map_arg(argument, lambda node: env[node].result)  # type: ignore[arg-type, return-value]  # as above


def leaf_values(argument: object, env: Env) -> Iterator[Value]:
    """The values in an argument, in pytree order, each as often as it stands there."""
    if isinstance(argument, fx.Node):
        yield from env[argument].values
    elif isinstance(argument, (tuple, list)):
        for part in argument:
            yield from leaf_values(part, env)
    elif isinstance(argument, dict):
        for part in argument.values():
            yield from leaf_values(part, env)
    elif isinstance(argument, slice):
        yield from leaf_values((argument.start, argument.stop, argument.step), env)


def bound(argument: object, env: Env) -> Bound:
    """An argument of a call as a node's worth of result and values."""
    if isinstance(argument, fx.Node):
        return env[argument]
    return Bound(evaluated(argument, env), tuple(leaf_values(argument, env)))


def leaves_of(result: object) -> list[torch.Tensor | None]:
    """The tensor leaves of a result in pytree order; None for one that is missing."""
    if isinstance(result, torch.Tensor):  # as most are
        return [result]
    return [
        leaf if isinstance(leaf, torch.Tensor) else None
        for leaf in tree_leaves(result)
        if leaf is MISSING or isinstance(leaf, torch.Tensor)
    ]


def leaf_names(name: str, count: int) -> Sequence[str]:
    """Names for the tensor leaves of one result: its own, or numbered if there are many."""
    return [name] if count == 1 else [f"{name}[{number}]" for number in range(count)]


def holders(env: Env, tensor: torch.Tensor) -> list[fx.Node]:
    """The nodes that came to this tensor object, alone or among others."""
    return [
        node
        for node, known in env.items()
        if any(leaf is tensor for leaf in leaves_of(known.result))
    ]


def rename(env: dict[fx.Node, Bound], tensor: torch.Tensor, new: Value, now: object = None) -> None:
    """From here on, whoever uses this tensor object reads the new value, and `now` instead of the
    tensor if that is given."""
    for node in holders(env, tensor):
        known = env[node]
        values = [
            new if leaf is tensor else value
            for leaf, value in zip(leaves_of(known.result), known.values, strict=True)
        ]
        result = known.result
        if now is not None:
            result = tree_map(lambda leaf: now if leaf is tensor else leaf, result)
        env[node] = Bound(result, tuple(values))


def comes_from_outside(tensor: torch.Tensor, env: Env) -> bool:
    """Whether a sub-graph was handed this tensor object, or has it as an attribute."""
    return any(node.op in ("placeholder", "get_attr") for node in holders(env, tensor))
