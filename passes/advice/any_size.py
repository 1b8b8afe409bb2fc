"""A program with effects that hold at every size of its dynamic dimensions.

Some ops return an operand at the sizes that a program was loaded with, and a copy at others,
or the other way around: `program.sized`.  A change is safe only if it is safe in both cases.
"""

from __future__ import annotations

from attrs import evolve

from passes.program import AliasOf, Fresh, OneOf, Op, Program, Region, ResultEffect


def at_any_size(program: Program) -> Program:
    """The same ops and values, where each op of `program.sized` may return an operand or a
    copy; the program itself if there are none.  Bytes of such a copy are 0 where none is made
    at the sizes that the program was loaded with."""
    sized = frozenset(program.sized)
    if not sized:
        return program
    ops = tuple([_op(op, sized) for op in program.ops])
    return evolve(program, ops=ops)


def _op(op: Op, sized: frozenset[str]) -> Op:
    if op.regions:
        return evolve(op, regions=tuple([_region(region, sized) for region in op.regions]))
    if op.name not in sized:
        return op
    results = tuple([_either(op, effect) for effect in op.effects.results])
    return evolve(op, effects=evolve(op.effects, results=results))


def _region(region: Region, sized: frozenset[str]) -> Region:
    return evolve(region, ops=tuple([_op(op, sized) for op in region.ops]))


def _either(op: Op, effect: ResultEffect) -> ResultEffect:
    copy = effect if isinstance(effect, Fresh) else Fresh(0)
    return OneOf((copy, *(AliasOf((position,)) for position in range(len(op.operands)))))
