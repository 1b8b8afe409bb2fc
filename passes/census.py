"""What can be read off a program without analysing it.

Loading takes the census, so that analyses go through the ops only to solve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from passes.program import (
    INPUT,
    EntryValue,
    Fresh,
    OneOf,
    Op,
    Program,
    ResultEffect,
    Unknown,
)

NEVER = -1
"""Before the first op."""


@frozen(eq=False)
class Census:
    """Where values and storages come from, and the few ops that do more than make new ones.

    `defined[value.index]` is the index of the op at which a value comes to be, `NEVER` for one
    that is there at entry.  Storages are numbered as in `storages.py`: `entry` maps the index of
    an entry value to its storage, `owner` such a storage to the value it is named after,
    `allocated` are those of ops, in order.  `sizes` are the bytes of each as it is made, None
    where a run decides, and `most` what that cannot exceed.
    """

    defined: Sequence[int]
    nested: Sequence[Op]
    """With regions."""
    writers: Sequence[Op]
    """That may write what they are given.  One that may do anything may also write what such an op
    was given before it, which that may have written already."""
    resizers: Sequence[Op]
    entry: Mapping[int, int]
    owner: Mapping[int, EntryValue]
    allocated: Sequence[int]
    sizes: Mapping[int, int | None]
    most: Mapping[int, int]

    @classmethod
    def of(cls, program: Program) -> Census:
        """The census of a program; taken once."""
        return program.once(cls, lambda: cls._take(program))

    @classmethod
    def _take(cls, program: Program) -> Census:
        defined = [NEVER] * len(program.values)
        nested, writers, resizers = [], [], []
        entry: dict[int, int] = {}
        owner: dict[int, EntryValue] = {}
        allocated: list[int] = []
        sizes: dict[int, int | None] = {}
        most: dict[int, int] = {}
        shared: dict[int, int] = {}
        for found in program.entry.values:
            number = entry[found.value.index] = shared.setdefault(found.storage, found.value.index)
            if number not in owner:
                owner[number] = found
                sizes[number] = found.nbytes
        for op in program.all_ops:
            effects = op.effects
            if op.regions:
                nested.append(op)
            if effects.writes:
                writers.append(op)
            if effects.resizes:
                resizers.append(op)
            if op.kind is not INPUT:
                for effect, value in zip(effects.results, op.defines):  # noqa: B905  # transfer counts
                    fresh = allocates(effect)
                    if fresh is not None:
                        number = value.index
                        allocated.append(number)
                        sizes[number] = fresh.nbytes
                        if isinstance(fresh, Fresh) and fresh.most is not None:
                            most[number] = fresh.most
                for value in op.defines:
                    defined[value.index] = op.index
        for op in nested:
            for region in op.regions:
                for value in region.inputs:
                    defined[value.index] = region.ops[0].index
            if op.region_flow:
                for value in op.region_flow.early:
                    defined[value.index] = op.first_index
        return cls(defined, nested, writers, resizers, entry, owner, allocated, sizes, most)


def allocates(effect: ResultEffect) -> Fresh | Unknown | None:
    """The storage a result may have of its own."""
    if isinstance(effect, (Fresh, Unknown)):
        return effect
    if isinstance(effect, OneOf):
        return next((answer for answer in effect.answers if isinstance(answer, Fresh)), None)
    return None
