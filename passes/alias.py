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

from collections.abc import Sequence
from functools import cached_property

from attrs import define, evolve, field, frozen

from dataflow import UNREACHED, Copy, CopyKind, Lattice, Powerset, SparseForward, solve
from passes.program import (
    ANYTHING,
    INPUT,
    AliasOf,
    Fresh,
    OneOf,
    Op,
    Program,
    ResultEffect,
    Role,
    SameAs,
    Unknown,
    Value,
)


@define(eq=False, frozen=True, slots=False)  # made by the thousand, and twice as fast so
class Storage:
    """One allocation: by an op, or there at entry.

    `nbytes` is its size (the largest it gets to, None if only a run decides); the shape
    of a view of it does not tell.  `earlier`: it stands for the allocations of the same
    op in all earlier iterations of a loop.
    """

    name: str
    nbytes: int | None
    op: Op | None = None
    role: Role | None = None
    earlier: bool = False

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Storage {self.name}: {self.nbytes} bytes>"


UNKNOWN = Storage("unknown", None)
"""Any storage at all."""

Storages = frozenset[Storage]


@define(eq=False, frozen=True)
class StorageClass:
    """A storage with the values that are it (`members`) and may be it (`may_members`)."""

    storage: Storage
    members: frozenset[Value]
    may_members: frozenset[Value]

    @property
    def id(self) -> str:
        """Its name: of the op and leaf that allocate it, or of the entry value."""
        return self.storage.name

    @property
    def nbytes(self) -> int | None:
        """Bytes of the storage."""
        return self.storage.nbytes

    def __str__(self) -> str:
        return self.storage.name

    def __repr__(self) -> str:
        members = ", ".join(sorted(value.name for value in self.members))
        return f"<StorageClass {self.id}: {self.nbytes} bytes, {members}>"


def loops(program: Program) -> list[range]:
    """The op indices inside each loop."""
    return [
        range(op.first_index, op.index)
        for op in program.all_ops
        if op.region_flow and any(c.kind is CopyKind.BACK for c in op.region_flow.copies)
    ]


def _allocates(effect: ResultEffect) -> Fresh | Unknown | None:
    """The storage a result may have of its own."""
    if isinstance(effect, (Fresh, Unknown)):
        return effect
    if isinstance(effect, OneOf):
        return next((answer for answer in effect.answers if isinstance(answer, Fresh)), None)
    return None


@define(eq=False)
class Allocations:
    """Every storage of a program, made once: at entry, by ops, by earlier iterations."""

    program: Program
    order: list[Storage] = field(factory=list)
    entries: dict[Value, Storages] = field(factory=dict)
    allocated: dict[Value, Storages] = field(factory=dict)
    earlier: dict[Storage, Storage] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        shared: dict[int, Storages] = {}
        for entry in self.program.entry.values:
            if entry.storage not in shared:
                shared[entry.storage] = self.new(entry.name, entry.nbytes, None, entry.role)
            self.entries[entry.value] = shared[entry.storage]
        every_loop = loops(self.program)
        for op in self.program.all_ops:
            if op.kind is not INPUT:
                repeated = every_loop and any(op.index in loop for loop in every_loop)
                for effect, value in zip(op.effects.results, op.defines):  # noqa: B905  # transfer counts
                    fresh = _allocates(effect)
                    if fresh is not None:
                        self.allocated[value] = self.new(value.name, fresh.nbytes, op)
                        if repeated:
                            self.repeat(self.allocated[value])

    def repeat(self, allocated: Storages) -> None:
        """An allocation inside a loop: one more storage stands for all earlier ones."""
        (now,) = allocated
        (past,) = self.new(f"{now.name} (earlier)", now.nbytes, now.op, earlier=True)
        self.earlier[now] = self.earlier[past] = past

    def new(
        self,
        name: str,
        nbytes: int | None,
        op: Op | None = None,
        role: Role | None = None,
        earlier: bool = False,
    ) -> Storages:
        storage = Storage(name, nbytes, op, role, earlier)
        self.order.append(storage)
        return frozenset((storage,))


@frozen
class PointsTo(SparseForward[Op, Storages]):
    """The storages each value may be.

    Forward, may.  Sound for the effects the program states; blind to offsets.
    """

    allocations: Allocations
    lattice: Lattice[Storages] = Powerset()

    def entry(self, value: object) -> Storages:
        return self.allocations.entries[value]  # type: ignore[index]  # every value here is a Value

    def transfer(self, op: Op, operands: Sequence[Storages]) -> Sequence[Storages]:
        facts: list[Storages] = []
        for effect, value in zip(op.effects.results, op.defines):  # noqa: B905  # the solver counts
            if type(effect) is Fresh:  # most are
                facts.append(self.allocations.allocated[value])
            else:
                facts.append(self.pointees(effect, value, operands, facts))
        return facts

    def pointees(
        self,
        effect: ResultEffect,
        value: Value,
        operands: Sequence[Storages],
        results: Sequence[Storages],
    ) -> Storages:
        """What one result points to."""
        if isinstance(effect, Fresh):
            return self.allocations.allocated[value]
        if isinstance(effect, AliasOf):
            shared = operands[effect.operands[0]]
            for position in effect.operands[1:]:
                other = operands[position]
                if other is not shared and UNKNOWN not in other:
                    shared = other if UNKNOWN in shared else shared & other
            return shared
        if isinstance(effect, SameAs):
            return results[effect.result]
        if isinstance(effect, OneOf):
            return frozenset().union(
                *(self.pointees(answer, value, operands, results) for answer in effect.answers)
            )
        return self.allocations.allocated[value] | {UNKNOWN}

    def copy(self, copy: Copy, value: Storages) -> Storages:
        if copy.kind in (CopyKind.SKIP, CopyKind.STACK):
            # The loop ran zero times, or stacks what it returns: its results are copies,
            # fresh in its own effects.
            target = self.allocations.program.values[copy.target]
            return self.allocations.allocated[target]
        if copy.kind is CopyKind.BACK:
            loop = self.allocations.program.all_ops[copy.node]
            inside = range(loop.first_index, loop.index)
            earlier = self.allocations.earlier
            return frozenset(earlier[s] if s.op and s.op.index in inside else s for s in value)
        return value


@define(eq=False, frozen=True, slots=False, repr=False)
class Aliases:
    """The answer: which storages values are, who writes which.  `Aliases.of(program)`.

    `points_to[value.index]` is what `pointees(value)` checks and returns.
    """

    program: Program
    points_to: Sequence[Storages]
    _storages: tuple[Storage, ...]

    @classmethod
    def of(cls, program: Program) -> Aliases:
        """Solve alias analysis over a program; once."""
        return program.once(cls, lambda: cls._solve(program))

    @classmethod
    def _solve(cls, program: Program) -> Aliases:
        made = Allocations(program)
        results = solve(PointsTo(made), program)
        nothing: Storages = frozenset()
        facts: Sequence[Storages] = [
            nothing if fact is UNREACHED else fact for fact in results.states
        ]
        facts, storages = _resized(program, facts, made.order)
        if made.earlier:
            carried = frozenset[Storage]().union(*facts)
            storages = [s for s in storages if not s.earlier or s in carried]
        return cls(program, facts, tuple(storages))

    def __repr__(self) -> str:
        return f"<Aliases of {self.program.name}: {len(self.classes)} storage classes>"

    # -- values ------------------------------------------------------------------------

    def pointees(self, value: Value) -> Storages:
        """The storages a value may be; exactly one where that is certain."""
        values = self.program.values
        if not value.index < len(values) or values[value.index] is not value:
            raise KeyError(f"{value} is not a value of {self.program.name}")
        return self.points_to[value.index]

    def may_alias(self, a: Value, b: Value) -> bool:
        """Whether two values may share storage.  False is a proof that they do not."""
        first, second = self.pointees(a), self.pointees(b)
        return UNKNOWN in first or UNKNOWN in second or not first.isdisjoint(second)

    def must_alias(self, a: Value, b: Value) -> bool:
        """Whether two values certainly share storage, whenever both exist."""
        first, second = self.pointees(a), self.pointees(b)
        return first == second and len(first) == 1 and all(map(is_one, first))

    @cached_property
    def uncertain(self) -> tuple[Value, ...]:
        """The values that may be more than one storage, or one of many."""
        certain = not any(storage.earlier for storage in self._storages)
        return tuple(
            [
                value
                for value, found in zip(self.program.values, self.points_to, strict=True)
                if len(found) != 1 or not (certain or all(map(is_one, found)))
            ]
        )

    @property
    def all_storages(self) -> tuple[Storage, ...]:
        """Every storage, in the order they come to be."""
        return self._storages

    # -- classes -----------------------------------------------------------------------

    @cached_property
    def classes(self) -> tuple[StorageClass, ...]:
        """One class per storage, in the order they come to be."""
        members: dict[Storage, list[Value]] = {s: [] for s in self._storages}
        may_members: dict[Storage, list[Value]] = {}
        anywhere: list[Value] = []
        for value in self.program.values:
            storages = self.points_to[value.index]
            if len(storages) == 1:
                (only,) = storages
                if is_one(only):
                    members[only].append(value)
                    continue
            for storage in storages:
                may_members.setdefault(storage, []).append(value)
            if UNKNOWN in storages:
                anywhere.append(value)
        none: frozenset[Value] = frozenset()
        return tuple(
            [
                StorageClass(
                    storage,
                    frozenset(values),
                    frozenset([*may_members.get(storage, ()), *anywhere])
                    if anywhere or storage in may_members
                    else none,
                )
                for storage, values in members.items()
            ]
        )

    @cached_property
    def _class_of(self) -> dict[Storage, StorageClass]:
        known = {found.storage: found for found in self.classes}
        anywhere = [value for value in self.program.values if UNKNOWN in self.pointees(value)]
        return {**known, UNKNOWN: StorageClass(UNKNOWN, frozenset(), frozenset(anywhere))}

    def class_of(self, storage: Storage) -> StorageClass:
        """The class of a storage."""
        return self._class_of[storage]

    def storages(self, op: Op) -> tuple[frozenset[StorageClass], ...]:
        """Per tensor leaf of the op's result, in pytree order, the classes it may be in."""
        self.program.check(op)
        return tuple(self._classes(self.pointees(value)) for value in op.results)

    def _classes(self, storages: Storages) -> frozenset[StorageClass]:
        return frozenset(self._class_of[storage] for storage in storages)

    # -- effects on storages -----------------------------------------------------------

    def written_by(self, op: Op) -> frozenset[StorageClass]:
        """The classes that existed before `op` and that it may write, in its regions too."""
        self.program.check(op)
        return self._classes(self.storages_written_by(op))

    def storages_written_by(self, op: Op) -> Storages:
        """The storages behind `written_by`."""
        facts = self.points_to
        written = frozenset[Storage]().union(
            *(facts[op.operands[position].index] for position in op.effects.writes)
        )
        if op.effects.origin is ANYTHING:
            written |= self._kept_before(op)
        if not op.regions:
            return written
        inside = range(op.first_index, op.index)
        for index in inside:
            written |= self.storages_written_by(self.program.all_ops[index])
        # What is allocated inside did not exist before, unless a loop around this op did it
        # in an earlier iteration.
        around = [loop for loop in loops(self.program) if op.index in loop]
        return frozenset(
            s
            for s in written
            if s.op is None
            or s.op.index not in inside
            or (s.earlier and any(s.op.index in loop for loop in around))
        )

    def _kept_before(self, op: Op) -> Storages:
        """What ops that may do anything were handed before: they may have kept it."""
        return frozenset[Storage]().union(
            *(
                self.points_to[value.index]
                for other in self.program.assumed
                if other.effects.origin is ANYTHING and other.index < op.index
                for value in other.operands
            )
        )

    def overwritten_by(self, op: Op) -> Storages:
        """The storages that `op` certainly writes in full, without reading them before."""
        self.program.check(op)
        found = [self.points_to[op.operands[position].index] for position in op.effects.overwrites]
        return frozenset(s for fact in found if len(fact) == 1 for s in fact if is_one(s))

    def uninitialised_by(self, op: Op) -> Storages:
        """The storages that `op` allocates and leaves unwritten, in part or in full."""
        self.program.check(op)
        return frozenset(
            storage
            for effect, value in zip(op.effects.results, op.defines)  # noqa: B905  # inputs have none
            if isinstance(effect, Fresh) and effect.uninitialised
            for storage in self.pointees(value)
        )


def is_one(storage: Storage) -> bool:
    """Whether a storage stands for a single allocation at a time."""
    return storage is not UNKNOWN and not storage.earlier


def _resized(
    program: Program, facts: Sequence[Storages], storages: Sequence[Storage]
) -> tuple[Sequence[Storages], Sequence[Storage]]:
    """Facts and storages with each size the largest that any op gives the storage."""
    largest: dict[Storage, int | None] = {}
    for op in program.all_ops:
        for position, nbytes in op.effects.resizes:
            for storage in facts[op.operands[position].index]:
                before = largest.get(storage, storage.nbytes)
                known = None not in (before, nbytes)
                largest[storage] = max(before or 0, nbytes or 0) if known else None
    if not largest:
        return facts, storages
    new = {storage: evolve(storage, nbytes=nbytes) for storage, nbytes in largest.items()}
    return (
        [frozenset(new.get(storage, storage) for storage in fact) for fact in facts],
        [new.get(storage, storage) for storage in storages],
    )
