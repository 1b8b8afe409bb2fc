"""Which storage may each value be?  Who shares one, who writes one?

Forward over values, may: a value is given the set of storages it may point to.  A fresh
result points to the storage its op allocates, a view and an in-place result to what their
operand points to, the result of a branch to what either side returns.  Two values *may*
alias if their sets meet, and *must* if both are the same single storage.

Storages that a loop allocates are many.  What comes around the loop again is an earlier
iteration's, kept apart from this iteration's as one more storage, `earlier`, which stands
for all of them and which nothing must be.

Sound for everything the program's effects say.  What they do not say (an op that may do
anything) points to `UNKNOWN`, which meets every storage.  Sharing at entry is as
`Program.entry` states.  Blind to offsets: two halves of one storage alias.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from attrs import define, field, frozen

from dataflow import UNREACHED, Copy, CopyKind, Lattice, Reason, SparseForward, solve, why
from passes.census import Census
from passes.program import (
    ANYTHING,
    AliasOf,
    Fresh,
    OneOf,
    Op,
    Program,
    ResultEffect,
    SameAs,
    Value,
    check_program,
)
from passes.storages import (
    ANY,
    UNKNOWN,
    Allocations,
    Points,
    Storage,
    StorageClass,
    StorageSets,
    earlier,
    is_one,
    loops,
    numbers,
    points,
)


@frozen
class PointsTo(SparseForward[Op, Points]):
    """The storages each value may be.

    Forward, may.  Sound for the effects the program states; blind to offsets.
    """

    allocations: Allocations
    lattice: Lattice[Points] = field()

    @lattice.default
    def _named(self) -> Lattice[Points]:
        return StorageSets(self.allocations.storage)

    def entry(self, value: object) -> Points:
        return self.allocations.entry[value.index]  # type: ignore[attr-defined]  # every value here is a Value

    def transfer(self, op: Op, operands: Sequence[Points]) -> Sequence[Points]:
        facts: list[Points] = []
        for effect, value in zip(op.effects.results, op.defines):  # noqa: B905  # the solver counts
            if type(effect) is Fresh:  # most are; of the others, most are views
                facts.append(value.index)
            elif type(effect) is AliasOf and len(effect.operands) == 1:
                facts.append(operands[effect.operands[0]])
            else:
                facts.append(self.pointees(effect, value, operands, facts))
        return facts

    def pointees(
        self, effect: ResultEffect, value: Value, operands: Sequence[Points], facts: list[Points]
    ) -> Points:
        """What one result points to, given what operands and earlier results do."""
        if isinstance(effect, Fresh):
            return value.index
        if isinstance(effect, AliasOf):
            shared = operands[effect.operands[0]]
            for position in effect.operands[1:]:
                shared = _both(shared, operands[position])
            return shared
        if isinstance(effect, SameAs):
            return facts[effect.result]
        if isinstance(effect, OneOf):
            answers = (self.pointees(a, value, operands, facts) for a in effect.answers)
            return points(frozenset[int]().union(*map(numbers, answers)))
        return frozenset((value.index, ANY))

    def copy(self, copy: Copy, value: Points) -> Points:
        if copy.kind in (CopyKind.SKIP, CopyKind.STACK):
            # The loop ran zero times, or stacks what it returns: its results are copies,
            # fresh in its own effects.
            return copy.target
        if copy.kind is CopyKind.BACK:
            loop = self.allocations.program.all_ops[copy.node]
            inside = range(loop.first_index, loop.index)
            made = self.allocations.op
            return points(
                frozenset(
                    earlier(n) if (op := made(n)) and op.index in inside else n
                    for n in numbers(value)
                )
            )
        return value


def _both(a: Points, b: Points) -> Points:
    """What is known of a value that is certainly both."""
    if a == b:
        return a
    first, second = numbers(a), numbers(b)
    if ANY in first:
        return b
    return a if ANY in second else points(first & second)


@define(eq=False, frozen=True, slots=False, repr=False)
class Aliases:
    """The answer: which storages values are, who writes which.  `Aliases.of(program)`.

    `facts[value.index]` has by number what `pointees(value)` checks and returns.
    """

    program: Program
    allocations: Allocations
    facts: Sequence[Points]

    @classmethod
    def of(cls, program: Program) -> Aliases:
        """Solve alias analysis over a program; once."""
        check_program(program)
        return program.once(cls, lambda: cls._solve(program))

    @classmethod
    def _solve(cls, program: Program) -> Aliases:
        made = Allocations(program)
        results = solve(PointsTo(made), program)
        nothing: Points = frozenset()
        facts = [nothing if fact is UNREACHED else fact for fact in results.states]
        for op in Census.of(program).resizers:
            for position, nbytes in op.effects.resizes:
                for number in numbers(facts[op.operands[position].index]):
                    made.resize(number, nbytes)
        return cls(program, made, facts)

    def __repr__(self) -> str:
        return f"<Aliases of {self.program.name}: {len(self.classes)} storage classes>"

    # -- values ------------------------------------------------------------------------

    def pointees(self, value: Value) -> frozenset[Storage]:
        """The storages a value may be; exactly one where that is certain."""
        return self.allocations.storages(self._numbers(value))

    def _numbers(self, value: Value) -> frozenset[int]:
        self.program.check_value(value)
        return numbers(self.facts[value.index])

    def may_alias(self, a: Value, b: Value) -> bool:
        """Whether two values may share storage.  False is a proof that they do not."""
        first, second = self._numbers(a), self._numbers(b)
        return ANY in first or ANY in second or not first.isdisjoint(second)

    def must_alias(self, a: Value, b: Value) -> bool:
        """Whether two values certainly share storage, whenever both exist."""
        first, second = self._numbers(a), self._numbers(b)
        return first == second and len(first) == 1 and all(map(is_one, first))

    def why(self, value: Value) -> Reason[Points]:
        """Why a value may be the storages it may be: views, in-place results, branches.

        Print it; it is the shortest derivation, from the equations of the analysis."""
        self._numbers(value)
        return why(solve(PointsTo(self.allocations), self.program), value)

    @cached_property
    def uncertain(self) -> tuple[Value, ...]:
        """The values that may be more than one storage, or one of many."""
        return tuple(
            [
                value
                for value, fact in zip(self.program.values, self.facts)  # noqa: B905  # one each
                if type(fact) is not int or fact < 0
            ]
        )

    @cached_property
    def all_storages(self) -> tuple[Storage, ...]:
        """Every storage, in the order they come to be."""
        return tuple(map(self.allocations.storage, self.allocations.all_numbers(self.facts)))

    # -- classes -----------------------------------------------------------------------

    @cached_property
    def classes(self) -> tuple[StorageClass, ...]:
        """One class per storage, in the order they come to be."""
        members: dict[int, list[Value]] = {}
        may_members: dict[int, list[Value]] = {}
        for value, fact in zip(self.program.values, self.facts, strict=True):
            if isinstance(fact, int) and is_one(fact):
                members.setdefault(fact, []).append(value)
            else:
                for number in numbers(fact):
                    may_members.setdefault(number, []).append(value)
        anywhere = may_members.get(ANY, ())
        return tuple(
            [
                StorageClass(
                    self.allocations.storage(number),
                    frozenset(members.get(number, ())),
                    frozenset((*may_members.get(number, ()), *anywhere)),
                )
                for number in self.allocations.all_numbers(self.facts)
            ]
        )

    @cached_property
    def _class_of(self) -> dict[Storage, StorageClass]:
        known = {found.storage: found for found in self.classes}
        anywhere = [value for value in self.uncertain if UNKNOWN in self.pointees(value)]
        return {**known, UNKNOWN: StorageClass(UNKNOWN, frozenset(), frozenset(anywhere))}

    def class_of(self, storage: Storage) -> StorageClass:
        """The class of a storage.  Raises `KeyError` for a storage of another program,
        `TypeError` for what is none."""
        if not isinstance(storage, Storage):
            raise TypeError(
                f"{storage!r} is not a Storage, such as those of aliases.pointees(value)"
            )
        if storage not in self._class_of:
            raise KeyError(f"{storage} is not a storage of {self.program.name}")
        return self._class_of[storage]

    def check_class(self, found: object) -> None:
        """Raise `KeyError` unless `found` is a class of this program, `TypeError` if it is no
        class at all."""
        if not isinstance(found, StorageClass):
            how = "aliases.class_of(storage)" if isinstance(found, Storage) else "aliases.classes"
            raise TypeError(f"{found!r} is not a StorageClass: take one of {how}")
        self.class_of(found.storage)

    def storages(self, op: Op) -> tuple[frozenset[StorageClass], ...]:
        """Per tensor leaf of the op's result, in pytree order, the classes it may be in."""
        self.program.check(op)
        return tuple(self._classes(self.pointees(value)) for value in op.results)

    def _classes(self, storages: Iterable[Storage]) -> frozenset[StorageClass]:
        return frozenset(self._class_of[storage] for storage in storages)

    # -- effects on storages -----------------------------------------------------------

    def written_by(self, op: Op) -> frozenset[StorageClass]:
        """The classes that existed before `op` and that it may write, in its regions too."""
        self.program.check(op)
        return self._classes(self.storages_written_by(op))

    def storages_written_by(self, op: Op) -> frozenset[Storage]:
        """The storages behind `written_by`."""
        return self.allocations.storages(self.numbers_written_by(op))

    def numbers_written_by(self, op: Op) -> frozenset[int]:
        """Their numbers."""
        written = self._numbers_at(op, op.effects.writes)
        if op.effects.origin is ANYTHING:
            written |= self._kept_before(op)
        if not op.regions:
            return written
        inside = range(op.first_index, op.index)
        for index in inside:
            written |= self.numbers_written_by(self.program.all_ops[index])
        # What is allocated inside did not exist before, unless a loop around this op did it
        # in an earlier iteration.
        around = [loop for loop in loops(self.program) if op.index in loop]
        return frozenset(
            number
            for number in written
            if not (made := self.allocations.op(number))
            or made.index not in inside
            or (not is_one(number) and any(made.index in loop for loop in around))
        )

    def _numbers_at(self, op: Op, positions: Iterable[int]) -> frozenset[int]:
        """What the operands at some positions may be."""
        facts = (numbers(self.facts[op.operands[position].index]) for position in positions)
        return frozenset[int]().union(*facts)

    def _kept_before(self, op: Op) -> frozenset[int]:
        """What ops that may do anything were handed before: they may have kept it."""
        again = [loop for loop in loops(self.program) if op.index in loop]
        before = [
            other
            for other in self.program.assumed
            if other.effects.origin is ANYTHING
            and (other.index < op.index or any(other.index in loop for loop in again))
        ]
        kept = (self._numbers_at(other, range(len(other.operands))) for other in before)
        return frozenset[int]().union(*kept)

    def overwritten_by(self, op: Op) -> frozenset[Storage]:
        """The storages that `op` certainly writes in full, without reading them before."""
        self.program.check(op)
        found = [self.facts[op.operands[position].index] for position in op.effects.overwrites]
        return self.allocations.storages(f for f in found if isinstance(f, int) and is_one(f))

    def uninitialised_by(self, op: Op) -> frozenset[Storage]:
        """The storages that `op` allocates and leaves unwritten, in part or in full."""
        self.program.check(op)
        return frozenset(
            storage
            for effect, value in zip(op.effects.results, op.defines)  # noqa: B905  # inputs have none
            if isinstance(effect, Fresh) and effect.uninitialised
            for storage in self.pointees(value)
        )
