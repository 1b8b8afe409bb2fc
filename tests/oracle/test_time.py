"""Tensors that get another storage, size or shape as time goes on: right, or refused by name.

`set_` and `resize_` bump versions though they write no element, so what they themselves write
is not compared; everything after them is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from passes import CaptureError

from .inside import Inside
from .test_inside import Truth, X, Y, by_hand, check_sound, cond, while_loop, wrapped

aten = torch.ops.aten


def then(first: Any, *more: Callable[[Any], Any]) -> Any:
    """Do things to one tensor, one after the other; what the last of them returns."""
    found = first
    for step in more:
        found = step(first)
    return found


def grown_under(base: Any) -> tuple[Any, Any]:
    """A view of a tensor that grows afterwards, and that tensor."""
    view = base.view(16)
    return view, base.resize_(8, 8)


def lifted_and_set(a: Any, b: Any) -> Any:
    """Another name of a tensor that is given another storage."""
    lifted = aten.lift.default(a)
    a.set_(b)
    return lifted.add_(1), b


PROGRAMS: dict[str, Callable[[Any, Any], Any]] = {
    "set": lambda x, y: then(x + 1, lambda a: a.set_(y * 2), lambda a: a.add_(1)),
    "set_and_use_both": lambda x, y: then(
        y * 2, lambda b: aten.set_.source_Tensor(x + 1, b).add_(1), lambda b: b + 1
    ),
    "set_under_another_name": lambda x, y: lifted_and_set(x + 1, y * 2),
    "grow": lambda x, y: then(x + 1, lambda a: a.resize_(8, 8), lambda a: a.zero_().sum()),
    "shrink": lambda x, y: then(x + 1, lambda a: a.resize_(2, 2), lambda a: a + 1),
    "grow_under_a_view": lambda x, y: grown_under(x + 1)[0].sin_(),
    "overlapping": lambda x, y: (x + 1).as_strided((4, 4), (1, 1)).add(1),
    "overlapping_write": lambda x, y: then(
        x + 1, lambda a: a.as_strided((4, 2), (2, 1), 1).add_(1), lambda a: a + y
    ),
    "part_of_an_input": lambda x, y: x.as_strided((3, 3), (1, 2), 3).mul_(2),
    "transposed": lambda x, y: then(x + 1, lambda a: a.t_(), lambda a: a.contiguous().add_(1)),
    "transposed_in_a_wrapper": lambda x, y: then(
        x + 1,
        lambda a: wrapped("invoke_subgraph", lambda a: (a.t_().sum(),), a),
        lambda a: a.contiguous().add_(1),
    ),
    "grown_in_a_wrapper": lambda x, y: then(
        x + 1,
        lambda a: wrapped("invoke_subgraph", lambda a: (a.resize_(8, 8).zero_().sum(),), a),
        lambda a: a.sum(),
    ),
    "new_and_grown_in_a_branch": lambda x, y: cond(
        x.sum() > 3, lambda a: (a + 1).resize_(8, 8).zero_(), lambda a: a.repeat(2, 2), x
    )[0],
    "new_and_set_in_a_branch": lambda x, y: cond(
        x.sum() > 3, lambda a: (a + 1).set_(a * 2), lambda a: a + 1, x
    )[0],
    "new_and_transposed_in_a_loop": lambda x, y: (
        while_loop(lambda a: ((a + 1).t_(),), x.sum().long() % 3, x + 1)[0].contiguous().add_(1)
    ),
}

REFUSED: dict[str, Callable[[Any, Any], Any]] = {
    "node .*/set_ gives a tensor from outside": lambda x, y: wrapped(
        "invoke_subgraph", lambda a, b: a.set_(b).add_(1), x + 1, y + 1
    ),
    "node resize__default .* only the run knows": lambda x, y: aten.resize_.default(
        x + 1, [aten._local_scalar_dense.default((x > 3).sum())]
    ),
    "/x1 comes from outside of its sub-graph": lambda x, y: while_loop(
        lambda a: (a.t_() + 1,), x.sum().long() % 3, x + 1
    )[0],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_claims_hold_as_time_goes_on(name: str) -> None:
    case = by_hand(PROGRAMS[name], [X, Y])
    assert not case.program.assumed
    check_sound(Truth.of(case.program, without_moves(case.observe(case.runs[0]))))


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_followed_is_refused(reason: str) -> None:
    with pytest.raises(CaptureError, match=reason):
        _ = by_hand(REFUSED[reason], [X, Y]).program


def without_moves(inside: Inside) -> Inside:
    """A run in which nothing is a write of `set_` or `resize_`, or of an op around one."""
    moves = [name for name in inside.instances if name.rpartition("/")[2].startswith(MOVES)]
    around = {name[:end] for name in moves for end in range(len(name)) if name[end] == "/"}
    none = frozenset[int]()
    instances = {
        name: [replace(i, written=none, changed=none) for i in found]
        if name in moves or name in around
        else found
        for name, found in inside.instances.items()
    }
    return replace(inside, instances=instances)


MOVES = ("set_", "resize_")
