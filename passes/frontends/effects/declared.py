"""What an operator's schema says it does, corrected, without executing anything.

A schema is weaker than an observation.  Annotated writes hold; whether a result is a view
follows from the types of the tensors and the plain arguments (`views`).  Where something
needed is not known the answer is `OneOf`, and where there is no schema to be trusted the
op may do anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from functools import cache
from math import prod

import torch
from attrs import evolve, frozen
from torch._ops import OpOverload

from passes.frontends.effects.operands import Arguments, Operand, is_opaque, operands_in
from passes.frontends.effects.resized import resized
from passes.frontends.effects.schema import (
    BEGINS_AS_ARGUMENT,
    CLONES_STORAGE,
    ONE_MORE_IN_TRUTH,
    OVERWRITERS,
    PARTS_OF_ONE,
    REDUCES_IN_PLACE,
    signature,
)
from passes.frontends.effects.views import (
    ALWAYS_VIEWS,
    CONDITIONAL_VIEWS,
    UNANNOTATED,
    Condition,
    Question,
    always,
    covers,
    fresh_bytes,
    itemsize,
    perhaps,
    repeats,
)
from passes.frontends.fakes.precision import PRECISION, dtype_in_truth
from passes.program import (
    AliasOf,
    Effects,
    Fresh,
    OneOf,
    Origin,
    ResultEffect,
    SameAs,
    TensorType,
    Unknown,
)


def anything(operands: int, sizes: Sequence[int | None]) -> Effects:
    """The effects of an op nothing is known about, with results of these bytes if fresh."""
    everything = frozenset(range(operands))
    return Effects(
        results=tuple(map(Unknown, sizes)),
        reads=everything,
        writes=everything,
        origin=Origin.ANYTHING,
    )


def result_count(target: object) -> int | None:
    """How many tensors an operator returns; None if its schema does not fix it."""
    if not isinstance(target, OpOverload):
        return None
    kinds = [str(result.type) for result in target._schema.returns]
    return None if any("List" in kind for kind in kinds) else kinds.count("Tensor")


def declared(
    operator: OpOverload,
    arguments: Arguments,
    operands: int,
    results: Sequence[TensorType | None],
) -> Effects:
    """The effects of a call by its schema, with the tensor leaves of its result."""
    about = signature(operator)
    everything = {**about.defaults, **arguments}
    if not about.trusted or about.opaque or any(is_opaque(o.type) for o in operands_in(everything)):
        return anything(operands, [fresh_bytes(found) for found in results])
    names = about.writes(everything.get)
    written = [operand for name in names for operand in operands_in(everything.get(name))]
    overwrites = frozenset(_overwritten(operator, everything))
    effects = tuple(
        _result(operator, number, results, everything) for number, found in enumerate(results)
    )
    undecided = any(isinstance(effect, OneOf) for effect in effects)
    return Effects(
        results=effects,
        reads=frozenset(range(operands)) - overwrites,
        writes=frozenset(operand.position for operand in written),
        overwrites=overwrites,
        origin=Origin.DECLARED if undecided else Origin.SCHEMA,
        resizes=tuple(resized(operator, everything, results)),
    )


# -- results ---------------------------------------------------------------------------


@frozen
class _Sources:
    """Where one result may come from: the arguments it may alias, and when it does."""

    arguments: tuple[str, ...]
    condition: Condition


@cache
def _sources(operator: OpOverload, number: int) -> _Sources | None:
    """None where the result is always fresh.  List results share one annotation."""
    schema, name = operator._schema, signature(operator).name
    alias = schema.returns[min(number, len(schema.returns) - 1)].alias_info
    if alias is None:
        if name not in UNANNOTATED:
            return None
        tensors = [a.name for a in schema.arguments if "Tensor" in str(a.type)]
        only_first = UNANNOTATED[name] is not perhaps
        return _Sources(tuple(tensors[:1] if only_first else tensors), UNANNOTATED[name])
    if "*" in alias.before_set:  # whatever there is
        return _Sources(tuple(a.name for a in schema.arguments if "Tensor" in str(a.type)), perhaps)
    sources = tuple(
        argument.name
        for argument in schema.arguments
        if argument.alias_info is not None
        and (alias.before_set & argument.alias_info.before_set or not alias.before_set)
    )
    if alias.is_write or name in ALWAYS_VIEWS:
        return _Sources(sources, always)
    return _Sources(sources, CONDITIONAL_VIEWS.get(name, perhaps))


class Plain(Enum):
    """What most operators do, whatever their arguments: they only read, and all results are
    fresh, or are views of the first argument."""

    FRESH = "fresh"
    VIEW = "view"


_SIZES_IN_TRUTH = (
    CLONES_STORAGE.keys() | REDUCES_IN_PLACE | BEGINS_AS_ARGUMENT | ONE_MORE_IN_TRUTH.keys()
    | PRECISION.keys()
)  # fmt: skip


@cache
def plain(operator: OpOverload) -> Plain | None:
    """Whether an operator is one of the plain kinds."""
    about, schema = signature(operator), operator._schema
    sources = {_sources(operator, number) for number in range(len(schema.returns))}
    special = about.name in _SIZES_IN_TRUTH or operator in PARTS_OF_ONE
    noisy = about.written or about.statistics is not None or about.moves or about.opaque
    if noisy or special or not about.trusted:
        return None
    if sources <= {None}:
        return Plain.FRESH
    first = _Sources(about.arguments[:1], always)
    single = str(schema.arguments[0].type) == "Tensor" if schema.arguments else False
    return Plain.VIEW if sources == {first} and single else None


def declared_plain(
    operator: OpOverload, kind: Plain, operands: int, results: Sequence[TensorType | None]
) -> Effects:
    """As `declared`, for an operator of this kind whose tensors are all strided.

    The first operand is the first argument.
    """
    found: tuple[ResultEffect, ...]
    if kind is Plain.VIEW:
        found = (AliasOf((0,)),) * len(results)
    else:
        unwritten = signature(operator).allocates_unwritten
        found = tuple([Fresh(fresh_bytes(result), unwritten) for result in results])
    return Effects(found, _first(operands), origin=Origin.SCHEMA)


@cache
def _first(count: int) -> frozenset[int]:
    return frozenset(range(count))


def _result(
    operator: OpOverload,
    number: int,
    results: Sequence[TensorType | None],
    arguments: Arguments,
) -> ResultEffect:
    found = results[number]
    if not operator._schema.returns:
        return Fresh(fresh_bytes(found))
    sources = _sources(operator, number)
    if operator in PARTS_OF_ONE:
        sizes = [None if part is None else _dense_bytes(part) for part in results]
        whole = [size for size in sizes if size is not None]
        return SameAs(0) if number else Fresh(sum(whole) if len(whole) == len(sizes) else None)
    if sources is None:
        return _fresh(operator, number, found, arguments)
    operands = [o for name in sources.arguments for o in operands_in(arguments.get(name))]
    if len(sources.arguments) == 1 and len(operands) == len(results):
        operands = [operands[number]]  # a list of tensors, each for one result
    if not operands:
        return _fresh(operator, number, found, arguments)
    aliases = tuple(AliasOf((operand.position,)) for operand in operands)
    question = Question(operands[0].type, found, number, len(operands), arguments)
    answer = sources.condition(question)
    if answer is False:
        return _fresh(operator, number, found, arguments)
    if answer and len(aliases) == 1:
        return aliases[0]
    return OneOf(aliases if answer else (_fresh(operator, number, found, arguments), *aliases))


def _fresh(
    operator: OpOverload, number: int, found: TensorType | None, arguments: Arguments
) -> Fresh:
    about = signature(operator)
    nbytes = fresh_bytes(found)
    first = next(operands_in(arguments), None)
    if about.name in CLONES_STORAGE:
        cloned = CLONES_STORAGE[about.name]
        sources = list(operands_in(arguments[about.arguments[cloned.argument]]))
        source = sources[number if len(sources) > 1 else 0]
        if not (source.type and repeats(source.type)):
            nbytes = _bytes_behind(source, found, cloned.batched)
    elif about.name in REDUCES_IN_PLACE and found is not None and not found.shape:
        unreduced = _unreduced(found, list(operands_in(arguments))[:2])
        nbytes = None if unreduced is None else max(unreduced, itemsize(found.dtype))
    elif about.name in BEGINS_AS_ARGUMENT and first is not None:
        size = None if first.type is None else _dense_bytes(first.type)
        nbytes = None if size is None or nbytes is None else max(size, nbytes)
    elif number in ONE_MORE_IN_TRUTH.get(about.name, ()) and nbytes and found is not None:
        nbytes += itemsize(found.dtype)
    elif about.name in PRECISION and found is not None:
        nbytes = fresh_bytes(_precise(operator, number, found, arguments))
    return Fresh(nbytes, about.allocates_unwritten)


def _precise(
    operator: OpOverload, number: int, found: TensorType, arguments: Arguments
) -> TensorType:
    """The type of a result, in the precision of the real kernel."""
    about = signature(operator)
    firsts = [next(operands_in(arguments.get(name)), None) for name in about.arguments]
    types = [first.type if first else None for first in firsts]
    given = [getattr(torch, one.dtype) if one else None for one in types]
    dtype = dtype_in_truth(about.name, number, given)
    if dtype is None or found.device != "cpu":
        return found
    return evolve(found, dtype=str(dtype).removeprefix("torch."))


def _bytes_behind(source: Operand, found: TensorType | None, batched: bool) -> int | None:
    """Bytes of a copy of a storage; where batched, for each time that the result has the elements
    of the source."""
    if source.type is None or found is None or source.nbytes is None:
        return None
    size, own = _dense_bytes(source.type), _dense_bytes(found)
    if size is None or own is None:
        return None
    return max(own, source.nbytes * own // size if batched and size else source.nbytes)


def _dense_bytes(tensor: TensorType) -> int | None:
    sizes = [size for size in tensor.shape if size is not None]
    return None if len(sizes) < len(tensor.shape) else prod(sizes) * itemsize(tensor.dtype)


def _unreduced(found: TensorType, operands: Sequence[Operand]) -> int | None:
    shapes = [operand.type.shape for operand in operands if operand.type is not None]
    known = [tuple(s for s in shape if s is not None) for shape in shapes]
    if len(shapes) != len(operands) or list(map(len, known)) != list(map(len, shapes)):
        return None
    shape: tuple[int, ...] = torch.broadcast_shapes(*known)  # type: ignore[no-untyped-call]  # torch's own
    return prod(shape) * itemsize(found.dtype)


# -- operands --------------------------------------------------------------------------


def _overwritten(operator: OpOverload, arguments: Arguments) -> Iterator[int]:
    """Operands that are written in full and that nothing else in the call may read."""
    about = signature(operator)
    names = about.outputs or (about.written[:1] if about.name in OVERWRITERS else ())
    if not names:
        return
    whole = [operand for name in names for operand in operands_in(arguments.get(name))]
    others = [
        operand
        for name, argument in arguments.items()
        if name not in names
        for operand in operands_in(argument)
    ]
    for operand in whole:
        apart = operand.storage is not None and all(
            other.storage is not None and other.storage != operand.storage for other in others
        )
        size = itemsize(operand.type.dtype) if operand.type else 0
        if (apart or not others) and covers(operand.type, operand.nbytes, size):
            yield operand.position
