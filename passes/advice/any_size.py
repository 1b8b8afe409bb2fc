"""A program with effects that hold at every size of its dynamic dimensions.

Some ops return an operand at the sizes that a program was loaded with, and a copy at others,
or the other way around: `program.sized`.  A change is safe only if it is safe in both cases.
So operands that have one storage may have several elsewhere, and a result that was seen to have
the storage of all of them has that of one.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve

from passes.program import (
    AliasOf,
    Fresh,
    OneOf,
    Op,
    Origin,
    Program,
    Region,
    ResultEffect,
    SameAs,
)


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
    either = _either if op.name in sized else _one_of
    results = tuple([either(op, effect) for effect in op.effects.results])
    effects = evolve(op.effects, results=results)
    if len(effects.writes) > 1 and effects.origin is Origin.OBSERVED:
        effects = evolve(effects, origin=Origin.DECLARED)  # where they are apart, one may not be
    return evolve(op, effects=effects)


def _region(region: Region, sized: frozenset[str]) -> Region:
    return evolve(region, ops=tuple([_op(op, sized) for op in region.ops]))


def _either(op: Op, effect: ResultEffect) -> ResultEffect:
    copy = effect if isinstance(effect, Fresh) else Fresh(0)
    return OneOf((copy, *(AliasOf((position,)) for position in range(len(op.operands)))))


def _one_of(op: Op, effect: ResultEffect) -> ResultEffect:
    answers = effect.answers if isinstance(effect, OneOf) else (effect,)
    if not any(isinstance(one, AliasOf) and len(one.operands) > 1 for one in answers):
        return effect
    return OneOf(tuple([each for one in answers for each in _apart(one)]))


def _apart(answer: ResultEffect) -> Iterator[Fresh | AliasOf | SameAs]:
    if isinstance(answer, AliasOf):
        for position in answer.operands:
            yield AliasOf((position,))
    elif isinstance(answer, (Fresh, SameAs)):
        yield answer
