"""Run an analysis by its class: fields that are results of other analyses are filled in.

A field is filled in if its type has a classmethod `of(program)`, as `Aliases`,
`Liveness` and `Memory` have, and the results of your own can.
"""

from __future__ import annotations

from typing import TypeVar, get_type_hints, overload

from attrs import NOTHING, fields, has

from dataflow import (
    Backward,
    Forward,
    PointResults,
    Results,
    SparseBackward,
    SparseForward,
    ValueResults,
    solve,
)
from passes.program import Op, Program

V = TypeVar("V")


@overload
def run(
    analysis: type[Forward[Op, V]] | type[Backward[Op, V]], program: Program, **settings: object
) -> PointResults[Op, V]: ...
@overload
def run(
    analysis: type[SparseForward[Op, V]] | type[SparseBackward[Op, V]],
    program: Program,
    **settings: object,
) -> ValueResults[Op, V]: ...
def run(
    analysis: type[Forward[Op, V]]
    | type[Backward[Op, V]]
    | type[SparseForward[Op, V]]
    | type[SparseBackward[Op, V]],
    program: Program,
    **settings: object,
) -> Results[Op, V]:
    """The results of an analysis class over a program.

    `settings` are fields given by hand.  Raises `TypeError` for a field without a default
    that is neither a setting nor a result with `of(program)`.
    """
    if has(analysis):
        hints = get_type_hints(analysis)
        for field in fields(analysis):
            if field.name in settings or not field.init:
                continue
            of = getattr(hints[field.name], "of", None)
            if callable(of) and field.default is NOTHING:
                settings[field.name] = of(program)
            elif field.default is NOTHING:
                raise TypeError(
                    f"{analysis.__name__}.{field.name} has no default, and its type "
                    f"{hints[field.name]} no `of(program)`: pass it, run(..., {field.name}=...)"
                )
    return solve(analysis(**settings), program)
