"""What an operator's schema says of writing, and the corrections where it is wrong.

A schema is silent on some writes, claims some that never happen, and does not say which
writes leave nothing of the old bytes.  The tables below do; each was found by comparing
schemas with runs.  What a schema says of aliases is corrected in `views`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch
from attrs import frozen
from torch._ops import OpOverload

OVERWRITERS = frozenset(
    "copy_ fill_ zero_ normal_ uniform_ random_ bernoulli_ exponential_ cauchy_ geometric_ "
    "log_normal_ _foreach_zero_ _foreach_copy_".split()
)
"""Operators that write their first argument without reading it."""

RUNNING_STATISTICS = {
    "batch_norm": "training",
    "_native_batch_norm_legit": "training",
    "batch_norm_gather_stats": "",
    "batch_norm_gather_stats_with_counts": "",
    "native_batch_norm": "training",
    "_batch_norm_impl_index": "training",
    "cudnn_batch_norm": "training",
    "miopen_batch_norm": "training",
    "instance_norm": "use_input_stats",
    "batch_norm_update_stats": "",
}
"""Operators that write `running_mean` and `running_var`, whatever their schema says, just
when the named argument is true (always, where there is none)."""

WRITTEN_ONLY_IF = {
    "_fused_adam_": {"grads": "grad_scale"},
    "_fused_adamw_": {"grads": "grad_scale"},
    "_fused_sgd_": {"grads": "grad_scale"},
    "_fused_adagrad_": {"grads": "grad_scale", "state_steps": ""},
    "rrelu_with_noise": {"noise": "training"},
    "rrelu_with_noise_": {"noise": "training"},
}
"""Operators that write an argument, whatever their schema says, only if another is given
and not false, or never (''): fused optimizers unscale gradients in place and leave the
counting of steps to their caller, noise is drawn in training."""

WRITES_IN_TRUTH = {"_saturate_weight_to_fp16": ("weight",)}
"""Arguments that operators write, though their schema does not say so."""

ONLY_VIEWS = frozenset(("as_strided",))
"""Operators that write nothing, though the schema of the one in `prims` says so."""

COPIES_IN_TRUTH = frozenset(
    "native_dropout channel_shuffle native_channel_shuffle _functional_assert_async "
    "_functional_assert_scalar _functional_sym_constrain_range "
    "_functional_sym_constrain_range_for_size".split()
)
"""Operators whose fake kernel may return its argument where the real one copies."""

RETURNS_IF_EMPTY = frozenset("native_dropout channel_shuffle native_channel_shuffle".split())
"""Operators among these whose real kernel returns its argument after all if that is empty."""

RETURNS_SELF = frozenset(("lift", "lift_fresh"))
"""Operators that return their argument, the object itself, where fakes return another."""

MOVES_STORAGE = frozenset(
    "set_ set_data resize_ resize_as_ _resize_output_ resize_storage_bytes_".split()
)
"""Operators after which a tensor may have another storage, or a storage another size."""


@frozen
class Cloned:
    """Which argument has the storage that a result is as large as; if `batched`, once for each
    time that the result has the argument's elements."""

    argument: int = 0
    batched: bool = False


CLONES_STORAGE = {
    **dict.fromkeys(
        "slice_scatter select_scatter diagonal_scatter as_strided_scatter copy _foreach_copy "
        "resize".split(),
        Cloned(),
    ),
    "_new_zeros_with_same_feature_meta": Cloned(argument=1, batched=True),
}
"""Operators whose result is as large as the whole storage of an argument, unless that shows
elements again and again."""

_ATEN = torch.ops.aten
PARTS_OF_ONE = frozenset(
    (_ATEN.nonzero_numpy.default, _ATEN.where.default, _ATEN._transform_bias_rescale_qkv.default)
)
"""Operators whose results are parts of one new storage."""

REDUCES_IN_PLACE = frozenset(
    "mse_loss smooth_l1_loss soft_margin_loss binary_cross_entropy".split()
)
"""Losses whose reduced result keeps the storage of the unreduced one."""

BEGINS_AS_ARGUMENT = frozenset(("im2col", "col2im"))
"""Operators that allocate their result like their first argument and then resize it."""

ONE_MORE_IN_TRUTH = dict.fromkeys(
    ("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only"), (1, 2, 3)
)
"""Operators of whose results some, by number, may have room for one more element than shown."""


DRAWS_UNLESS_OFF = frozenset("dropout_p dropout train training".split())
"""Arguments without which, or at 0, operators that may draw random numbers draw none."""


@frozen
class Signature:
    """What an operator's schema says of writing, worked out once per operator."""

    name: str
    arguments: tuple[str, ...]
    defaults: Mapping[str, object]
    written: tuple[str, ...]
    outputs: tuple[str, ...]
    statistics: str | None
    allocates_unwritten: bool
    reads_data: bool
    moves: bool
    trusted: bool
    opaque: bool
    random: bool

    def draws(self, given: Callable[[str], object]) -> bool:
        """Whether a call may draw random numbers; `given` tells the value of each argument."""
        if not self.random:
            return False
        switches = DRAWS_UNLESS_OFF.intersection(self.arguments)
        told = [self.defaults.get(n) if (v := given(n)) is None else v for n in switches]
        return not any(isinstance(value, (bool, int, float)) and not value for value in told)

    @property
    def quiet(self) -> bool:
        """Nothing here to look at after a call."""
        return not (
            self.written
            or self.statistics is not None
            or self.allocates_unwritten
            or self.moves
            or self.opaque
            or self.random
            or not self.trusted
        )

    def writes(self, given: Callable[[str], object]) -> tuple[str, ...]:
        """The arguments written in a call; `given` tells the value of each argument.

        An `UNKNOWN_ARGUMENT` may be anything, so what hangs on it may be written.
        """
        names = self.written
        if self.statistics is not None and (not self.statistics or given(self.statistics)):
            names = (*names, *_STATISTICS)
        conditions = WRITTEN_ONLY_IF.get(self.name)
        if conditions is None:
            return names
        return tuple(n for n in names if n not in conditions or not _is_off(given(conditions[n])))


def _is_off(argument: object) -> bool:
    return argument is None or argument is False


_STATISTICS = ("running_mean", "running_var")


class _UnknownArgument:
    """The value of an argument that only a run decides.  True, like anything there is."""

    def __repr__(self) -> str:
        return "<decided by the run>"


UNKNOWN_ARGUMENT = _UnknownArgument()


@cache
def signature(operator: OpOverload) -> Signature:
    """The signature of an operator, from its schema and the corrections above."""
    schema = operator._schema
    name = schema.name.rpartition("::")[2]
    moves = name in MOVES_STORAGE
    # Giving a tensor another storage, or a storage another size, writes no element.
    silent = moves or name in ONLY_VIEWS or name.startswith("empty")
    written = [
        argument
        for argument in schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write and not silent
    ]
    statistics = RUNNING_STATISTICS.get(name)
    annotated = [a.name for a in written if statistics is None or a.name[:8] != "running_"]
    return Signature(
        name=name,
        arguments=tuple(argument.name for argument in schema.arguments),
        defaults={a.name: a.default_value for a in schema.arguments if a.has_default_value()},
        written=(*annotated, *WRITES_IN_TRUTH.get(name, ())),
        outputs=tuple(argument.name for argument in written if argument.is_out),
        statistics=statistics,
        allocates_unwritten=name.startswith(("empty", "new_empty")),
        # Views, and questions such as `x.device`, look at no element.
        reads_data=not (operator.is_view or operator.namespace == "prim" or name[:4] == "sym_"),
        moves=moves,
        trusted=is_trusted(operator),
        # Fake tensors are never quantized.
        opaque=operator.namespace == "aten" and name.startswith(_QUANTIZED),
        # What an operator of others does besides what its schema says, nobody says.
        random=torch.Tag.nondeterministic_seeded in operator.tags or not _is_own(operator),
    )


def is_trusted(operator: OpOverload) -> bool:
    """Whether torch holds an operator to its schema.  A custom operator without the tag is
    its author's promise alone."""
    return _is_own(operator) or torch.Tag.pt2_compliant_tag in operator.tags


_QUANTIZED = ("quantize_per", "dequantize", "_empty_affine_quantized")

_OWN = frozenset("aten prims prim higher_order rngprims quantized_decomposed".split())
"""torch's own libraries of operators with true schemas."""


def _is_own(operator: OpOverload) -> bool:
    return operator.namespace in _OWN
