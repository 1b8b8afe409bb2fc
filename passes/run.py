"""Run an analysis by its class: fields that are results of other analyses are filled in.

A field is filled in if its type has a classmethod `of(program)`, as `Aliases`,
`Liveness` and `Memory` have, and the results of your own can.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any, TypeVar, get_type_hints, overload

from attrs import NOTHING, Attribute, fields, has

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
from passes.program import Op, Program, check_program

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

    `settings` are fields given by hand, by the names that the class takes them by.  Raises
    `TypeError` for an instance, and for a field without a default that is neither a setting nor a
    result with `of(program)`.
    """
    _check_class(analysis)
    check_program(program)
    for field in fields(analysis) if has(analysis) else ():
        if field.init and field.default is NOTHING and field.alias not in settings:
            settings[field.alias] = _needed(analysis, field, program)
    return solve(analysis(**settings), program)


def _check_class(analysis: object) -> None:
    if not isinstance(analysis, type):
        raise TypeError(
            f"run takes a class, and was given {analysis!r}: give the class and its fields by "
            "name, or call dataflow.solve(analysis, program)"
        )


# Any: a field of any type.
def _needed(analysis: type, field: Attribute[Any], program: Program) -> object:
    """What a field is filled in with."""
    where, advice = f"{analysis.__name__}.{field.name}", f"pass it, run(..., {field.alias}=...)"
    try:
        kind = _type_of(analysis, field)
    except NameError as error:
        raise TypeError(
            f"{where} has the type {field.type!r}, and {error} in its module: {advice}, or make "
            "the class where all names of its types are those of the module"
        ) from error
    of = getattr(kind, "of", None)
    if not callable(of):
        raise TypeError(f"{where} has no default, and its type {kind} no `of(program)`: {advice}")
    return of(program)


# Any: as above.
def _type_of(analysis: type, field: Attribute[Any]) -> object:
    """The type of a field; under `from __future__ import annotations` there is only its text."""
    kind: object = field.type
    if not isinstance(kind, str):
        return kind
    stated = [
        base for base in analysis.__mro__ if field.name in vars(base).get("__annotations__", ())
    ]
    names = vars(sys.modules[(stated or [analysis])[0].__module__])
    only = SimpleNamespace(__annotations__={field.name: kind})
    return get_type_hints(only, names, {analysis.__name__: analysis})[field.name]
