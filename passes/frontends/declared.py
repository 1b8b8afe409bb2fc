"""What an operator's schema says it does, for nodes that cannot run on fake tensors.

A schema is weaker than an observation: an annotated alias of a view operator holds
always, other operators may return an argument or a copy, and what they return has no
known size.  Where that leaves a choice the answer is `OneOf`, and where there is no
schema at all the op may do anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch._ops import OpOverload

from passes.frontends.observe import OVERWRITERS, signature
from passes.program import (
    AliasOf,
    Effects,
    Fresh,
    OneOf,
    Origin,
    ResultEffect,
    Unknown,
)

MAY_ALIAS_UNANNOTATED = frozenset(
    """
    _unsafe_view unsafe_split unsafe_split_with_sizes unsafe_chunk dropout alpha_dropout
    feature_dropout feature_alpha_dropout atleast_1d atleast_2d atleast_3d broadcast_tensors
    meshgrid cartesian_prod einsum sum_to_size type_as to_dense conj_physical _to_cpu lift
    dequantize data flatten_dense_tensors unflatten_dense_tensors _remove_batch_dim
    cumprod_backward to_dense_backward to_mkldnn_backward _cast_Byte _cast_Char
    _cast_Double _cast_Float _cast_Int _cast_Long _cast_Short _cast_Half
    """.split()
)
"""Operators that may return an argument or a view of one though their schema is silent."""


ALWAYS_VIEWS = frozenset(
    """
    view transpose permute t numpy_T slice select narrow split split_with_sizes chunk unbind
    tensor_split hsplit vsplit dsplit unsqueeze squeeze expand expand_as diagonal as_strided
    detach unfold alias movedim swapaxes swapdims view_as view_as_real view_as_complex
    """.split()
)
"""View operators that never copy."""


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
    positions: Mapping[str, Sequence[int]],
    operands: int,
    sizes: Sequence[int | None],
    given: Mapping[str, object],
) -> Effects:
    """The effects an operator's schema declares.

    `positions` maps argument names to the operand positions inside them, `sizes` has the
    bytes of each result if fresh, `given` the arguments whose values are known.
    """
    about = signature(operator)
    if not about.trusted:
        return anything(operands, sizes)
    written = set(about.written)
    if about.statistics is not None and (not about.statistics or given.get(about.statistics, True)):
        written |= {"running_mean", "running_var"}
    writes = frozenset(p for name in written for p in positions.get(name, ()))
    return Effects(
        results=tuple(
            _result(operator, number, nbytes, positions) for number, nbytes in enumerate(sizes)
        ),
        reads=frozenset(
            p
            for name, inside in positions.items()
            for p in inside
            if name not in written or (name not in about.outputs and about.name not in OVERWRITERS)
        ),
        writes=writes,
        origin=Origin.DECLARED,
    )


def _result(
    operator: OpOverload, number: int, nbytes: int | None, positions: Mapping[str, Sequence[int]]
) -> ResultEffect:
    schema, about = operator._schema, signature(operator)
    fresh = Fresh(nbytes)
    if about.name in MAY_ALIAS_UNANNOTATED:
        everything = [p for inside in positions.values() for p in inside]
        return OneOf((fresh, *(AliasOf((p,)) for p in everything)))
    # The results of list views (`split`) share the first argument's annotation.
    alias = schema.returns[min(number, len(schema.returns) - 1)].alias_info
    if alias is None:
        return fresh
    sources = [
        position
        for argument in schema.arguments
        if argument.alias_info is not None
        and (alias.before_set & argument.alias_info.before_set or not alias.before_set)
        for position in positions.get(argument.name, ())
    ]
    if not sources:
        return fresh
    if len(sources) == 1 and (alias.is_write or about.name in ALWAYS_VIEWS):
        return AliasOf((sources[0],))
    return OneOf((fresh, *(AliasOf((p,)) for p in sources)))
