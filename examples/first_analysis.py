"""The analyses of docs/tutorial/first-analysis.md, as a script."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from attrs import frozen
from torch import Tensor, nn

import passes
from dataflow import (
    Backward,
    Dual,
    Forward,
    Lattice,
    LawBroken,
    Powerset,
    SparseForward,
    TextNode,
    UnreachedError,
    check_lattice,
    parse,
    solve,
    verify,
)
from passes import Aliases, Op, Storage, Value

# -- twelve lines, on a graph written as text ---------------------------------------------------

Names = frozenset[str]


@frozen
class Live(Backward[TextNode, Names]):
    """Names that may be read before they are written again.  Backward, may."""

    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value - frozenset(node.results) | frozenset(node.operands)


countdown = parse("""
start: n = read
loop:  test n          -> body, done
body:  n = decrement n -> loop
done:  write n
""")
live = solve(Live(), countdown)
print(live)

print(live.before(countdown.node("body")))

# -- must instead of may ------------------------------------------------------------------------


@frozen
class Assigned(Forward[TextNode, Names]):
    """Names that every path has assigned.  Forward, must."""

    lattice: Lattice[Names] = Dual(Powerset())

    def boundary(self) -> Names:
        return frozenset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | frozenset(node.results)


fork = parse("""
start: c = read  -> left, right
left:  x = 1     -> end
right: y = 2     -> end
never: z = 3     -> end
end:   write c
""")
assigned = solve(Assigned(), fork)
print(assigned)

print(assigned.reached(fork.node("never")))
try:
    assigned.before(fork.node("never"))
except UnreachedError as error:
    print(error)

# -- on a torch program -------------------------------------------------------------------------

Storages = frozenset[Storage]


@frozen
class MaybeGarbage(Forward[Op, Storages]):
    """Storages that may hold what nobody wrote.  Forward, may.

    Sound for the effects the program states.  Only a write of the whole storage clears it.
    """

    aliases: Aliases
    lattice: Lattice[Storages] = Powerset()

    def transfer(self, op: Op, value: Storages) -> Storages:
        return (value - self.aliases.overwritten_by(op)) | self.aliases.uninitialised_by(op)


class OneRowShort(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        out = torch.empty(len(x) + 1, 4)
        out[1:].copy_(x)
        return out * 2


short = passes.load(OneRowShort(), torch.rand(3, 4))
print(short)
print(passes.run(MaybeGarbage, short))


class Padded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        out = torch.empty(len(x) + 1, 4)
        out.zero_()
        out[1:].copy_(x)
        return out * 2


padded = passes.load(Padded(), torch.rand(3, 4))
garbage = passes.run(MaybeGarbage, padded)
print(garbage.after(padded.op("empty")))
print(garbage.before(padded.op("mul")))

by_hand = solve(MaybeGarbage(aliases=passes.aliases(padded)), padded)
print(all(by_hand.before(op) == garbage.before(op) for op in padded.walk()))

# -- a fact per value, and a lattice of your own ------------------------------------------------

FLOATS = ("exact", "float64", "float32", "float16")


@frozen
class Coarsest(Lattice[str]):
    """Float types by precision; of two the coarser.  Integers are exact."""

    @property
    def bottom(self) -> str:
        return FLOATS[0]

    def join(self, a: str, b: str) -> str:
        return max(a, b, key=FLOATS.index)


check_lattice(Coarsest(), FLOATS)


@frozen
class Latest(Coarsest):
    """Not a lattice: what is joined last wins."""

    def join(self, a: str, b: str) -> str:
        return b


try:
    check_lattice(Latest(), FLOATS)
except LawBroken as error:
    print(error)


def own_type(value: Value) -> str:
    dtype = value.type.dtype if value.type else "float16"
    return dtype if dtype in FLOATS else "exact"


@frozen
class Precision(SparseForward[Op, str]):
    """The coarsest float type on each value's way.  Forward, may.

    Blind to what comes in by an in-place write through another name.
    """

    lattice: Lattice[str] = Coarsest()

    def entry(self, value: object) -> str:
        assert isinstance(value, Value)
        return own_type(value)

    def transfer(self, op: Op, operands: Sequence[str]) -> Sequence[str]:
        coarsest = reduce(self.lattice.join, operands, self.lattice.bottom)
        return [self.lattice.join(coarsest, own_type(value)) for value in op.defines]


class Detour(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x.half().float() + 1, y + 1


detour = passes.load(Detour(), torch.rand(4), torch.rand(4))
precision = passes.run(Precision, detour)
for value in detour.outputs:
    print(value, value.type, precision.of(value))

# -- is the answer right? -----------------------------------------------------------------------

verify(live)
verify(garbage)
verify(precision)
