"""The storages of a program, by number.

Analyses tell storages apart by numbers, which cost nothing to make or compare; a
`Storage`, with its name and size, is made where somebody asks for it.

    n >= 0    the storage that value n has at entry, or that the op defining value n allocates
    -1        any storage at all
    -2 - n    the allocations of storage n in all earlier iterations of the loops around it
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import cached_property

from attrs import define, evolve, field, frozen

from dataflow import CopyKind, Lattice
from passes.census import Census
from passes.program import (
    EntryValue,
    Op,
    Program,
    Role,
    Value,
)


@define(eq=False, frozen=True)
class Storage:
    """One allocation: by an op, or there at entry.

    `nbytes` is its size (the largest it gets to, None if only a run decides); the shape
    of a view of it does not tell.  `most` is the same, or else a number that no run exceeds,
    None if there is none either.  `earlier`: it stands for the allocations of the same
    op in all earlier iterations of a loop.  `device` is the one it is on, None if not known.
    """

    name: str
    nbytes: int | None
    op: Op | None = None
    role: Role | None = None
    earlier: bool = False
    most: int | None = None
    device: str | None = None

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Storage {self.name}: {self.nbytes} bytes>"


UNKNOWN = Storage("unknown", None)
"""Any storage at all."""

ANY = -1
"""Its number."""


@define(eq=False, frozen=True)
class StorageClass:
    """A storage with the values that are it (`members`) and may be it (`may_members`)."""

    storage: Storage
    members: frozenset[Value]
    may_members: frozenset[Value]

    @property
    def id(self) -> str:
        """Its name, unique in the program: of the op and leaf that allocate it, or of the entry
        value, `self.NAME` for an attribute that is called as something else is."""
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


Points = int | frozenset[int]
"""The number of the one storage a value is, or the numbers of those it may be."""


def numbers(points: Points) -> frozenset[int]:
    """As a set, however many."""
    return frozenset((points,)) if isinstance(points, int) else points


def points(found: frozenset[int]) -> Points:
    """As a fact: a single number where there is one."""
    if len(found) == 1:
        (only,) = found
        return only
    return found


@frozen
class StorageSets(Lattice[Points]):
    """Sets of storage numbers ordered by inclusion; a set of one is the number itself."""

    name: Callable[[int], object] = str

    @property
    def bottom(self) -> Points:
        return frozenset()

    def leq(self, a: Points, b: Points) -> bool:
        return a == b or numbers(a) <= numbers(b)

    def join(self, a: Points, b: Points) -> Points:
        return points(numbers(a) | numbers(b))

    def parts(self, value: Points) -> Iterable[Points]:
        return sorted(numbers(value))

    def show(self, value: Points) -> str:
        return "{" + ", ".join(sorted(str(self.name(number)) for number in numbers(value))) + "}"


def earlier(number: int) -> int:
    """What a storage allocated inside a loop is to the next iteration."""
    return number if number < 0 else -2 - number


def latest(number: int) -> int:
    """What an iteration allocates, given that or what an earlier one did; `ANY` stays itself."""
    return number if number >= 0 else -2 - number


def is_one(number: int) -> bool:
    """Whether a storage stands for a single allocation at a time."""
    return number >= 0


def loops(program: Program) -> list[range]:
    """The op indices inside each loop."""
    return [
        range(op.first_index, op.index)
        for op in Census.of(program).nested
        if op.region_flow and any(c.kind is CopyKind.BACK for c in op.region_flow.copies)
    ]


ATTRIBUTES = (Role.PARAMETER, Role.BUFFER, Role.CONSTANT)
"""What a module has."""


def _unlike(taken: Container[str], *names: str) -> str:
    """The first of some names that is not taken; else the last with a number."""
    numbered = (f"{names[-1]} {count}" for count in itertools.count(2))
    return next(name for name in itertools.chain(names, numbered) if name not in taken)


@define(eq=False, slots=False)
class Allocations:
    """Every storage of a program: who allocates it and how large it is.

    `allocated` are the numbers of what ops allocate, in order.  `entry` maps the index of
    an entry value to its storage, `owner` such a storage to the value it is named after.
    """

    program: Program
    entry: Mapping[int, int] = field(init=False)
    owner: Mapping[int, EntryValue] = field(init=False)
    allocated: Sequence[int] = field(init=False)
    _sizes: dict[int, int | None] = field(init=False)
    _most: dict[int, int] = field(init=False)
    _made: dict[int, Storage] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        census = Census.of(self.program)
        self.entry, self.owner, self.allocated = census.entry, census.owner, census.allocated
        self._sizes, self._most = dict(census.sizes), dict(census.most)

    def nbytes(self, number: int) -> int | None:
        """The size of a storage; None if only a run decides."""
        return self._sizes.get(number if number >= 0 else latest(number))  # asked of all of them

    def most(self, number: int) -> int | None:
        """The size of a storage, or what it cannot exceed; None if neither is known."""
        number = latest(number)
        known = self._sizes.get(number)
        return self._most.get(number) if known is None else known

    def resize(self, number: int, nbytes: int | None) -> None:
        """A storage gets to a size; the largest counts, and one unknown is the unknown."""
        if number != ANY:
            number = latest(number)
            before = self._sizes[number]
            if before is None or nbytes is None:
                self._sizes[number] = None
            else:
                self._sizes[number] = max(before, nbytes)
            self._most.pop(number, None)

    @cached_property
    def definer(self) -> dict[int, Op]:
        """The index of a value -> the op that defines it."""
        return {value.index: op for op in self.program.all_ops for value in op.defines}

    def op(self, number: int) -> Op | None:
        """The op that allocates a storage; None for one that is there at entry."""
        if number == ANY:
            return None
        number = latest(number)
        return None if number in self.owner else self.definer[number]

    def role(self, number: int) -> Role | None:
        """What a storage that is there at entry is to the program; None for all others."""
        return self.owner[number].role if number in self.owner else None

    def storage(self, number: int) -> Storage:
        """The storage with a number; the same object each time."""
        if number not in self._made:
            self._made[number] = UNKNOWN if number == ANY else self._make(number)
        return self._made[number]

    def _make(self, number: int) -> Storage:
        if number < 0:
            now = self.storage(latest(number))
            return evolve(now, name=f"{now.name} (earlier)", earlier=True)
        value, nbytes = self.program.values[number], self.nbytes(number)
        device = value.type.device if value.type else None
        entry = self.owner.get(number)
        if entry:
            return Storage(self.names[number], nbytes, None, entry.role, most=nbytes, device=device)
        op, most = self.definer[number], self.most(number)
        return Storage(self.names[number], nbytes, op, most=most, device=device)

    @cached_property
    def names(self) -> Mapping[int, str]:
        """The name of each storage, by number: of the value that an op allocates, of the input
        or attribute that is there at entry.  No two are alike: where they were, an attribute is
        called `self.NAME`, anything else `NAME (ROLE)`."""
        names: dict[int, str] = {}
        taken: set[str] = set()
        for number in self.allocated:
            names[number] = _unlike(taken, self.program.values[number].name)
            taken.add(names[number])
        # Inputs before attributes, which are the ones to be called otherwise.
        for number, entry in sorted(
            self.owner.items(), key=lambda item: item[1].role in ATTRIBUTES
        ):
            name = entry.name
            longer = f"self.{name}" if entry.role in ATTRIBUTES else f"{name} ({entry.role.value})"
            names[number] = _unlike(taken, name, longer)
            taken.add(names[number])
        return names

    def storages(self, found: Iterable[int]) -> frozenset[Storage]:
        """The storages with the given numbers."""
        return frozenset(map(self.storage, found))

    def all_numbers(self, facts: Sequence[Points]) -> list[int]:
        """Every storage in the order they come to be, earlier iterations' where a fact has
        one."""
        carried = {
            n for fact in facts if type(fact) is not int or fact < ANY for n in numbers(fact)
        }
        found = [*self.owner, *self.allocated]
        if not carried:
            return found
        return [which for n in found for which in (n, earlier(n)) if which >= 0 or which in carried]
