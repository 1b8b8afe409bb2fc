"""Types and devices of tensors, inferred from the inputs by rules.

A program has the types that were observed for the example sizes.  These rules say which of them
follow from the inputs' types alone; where they disagree, one of the two is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen

from dataflow import BOTTOM, TOP, Bottom, Flat, Lattice, Product, SparseForward, Top
from passes import Op, Value
from passes.program import OpKind

Name = str | Bottom | Top
Fact = tuple[Name, Name]

KEEPS: Final = frozenset(
    """
    adaptive_avg_pool2d add addmm alias avg_pool2d batch_norm bmm cat clone contiguous conv1d conv2d
    detach div dropout embedding expand flatten gelu hardtanh index layer_norm linear masked_fill
    matmul max_pool2d mean mm mul neg permute relu reshape rsub select sigmoid silu slice softmax
    split squeeze stack sub sum tanh transpose unsqueeze view where
    """.split()
)
"""Operators whose results have the floating type that all their operands have."""

COMPARES: Final = frozenset("eq ge gt isnan le logical_and logical_not logical_or lt ne".split())
"""Operators whose results are bools."""


@frozen
class Types(SparseForward[Op, Fact]):
    """The dtype and the device of each value, as far as rules know.  Forward, must.

    Blind to promotion: where operands differ it says nothing.  In a program that uses autocast
    an operator may choose another type than its operands', so `autocast` silences `KEEPS`.
    """

    autocast: bool = False
    lattice: Lattice[Fact] = Product(Flat(), Flat())

    def entry(self, value: object) -> Fact:
        assert isinstance(value, Value)
        return (value.type.dtype, value.type.device) if value.type else (TOP, TOP)

    def transfer(self, op: Op, operands: Sequence[Fact]) -> Sequence[Fact]:
        if op.kind is not OpKind.CALL:
            return [self.entry(value) for value in op.defines]
        namespace, _, rest = op.target.partition(".")
        name = rest.partition(".")[0]
        if namespace not in ("aten", "operator"):
            return [(TOP, TOP)] * len(op.defines)
        if name.endswith("_") and not name.startswith("_"):  # in place: it stays what it is
            return [operands[0]] * len(op.defines)
        return [(self.dtype(op, name, operands), self.device(op, operands))] * len(op.defines)

    def dtype(self, op: Op, name: str, operands: Sequence[Fact]) -> Name:
        """The dtype of what an operator computes."""
        asked = named(op, "dtype")
        if asked or name in COMPARES:
            return asked[0].removeprefix("torch.") if len(asked) == 1 else TOP if asked else "bool"
        common = agreed([dtype for dtype, _ in operands])
        if name == "getitem" or common is BOTTOM:
            return common
        known = name in KEEPS and not self.autocast and "float" in str(common)
        return common if known and not named(op, "complex") else TOP

    def device(self, op: Op, operands: Sequence[Fact]) -> Name:
        """The device on which an operator's results are."""
        asked = [*named(op, "device"), *(str(op.keywords[k]) for k in {"device"} & {*op.keywords})]
        return agreed(asked or [device for _, device in operands])


def named(op: Op, kind: str) -> list[str]:
    """The arguments of a Python type with this name."""
    given = [*op.arguments, *op.keywords.values()]
    return [str(argument) for argument in given if type(argument).__name__ == kind]


def agreed(names: Sequence[Name]) -> Name:
    """What all say; nothing where there are none or two differ."""
    if BOTTOM in names:
        return BOTTOM
    return names[0] if names and all(name == names[0] for name in names) else TOP
