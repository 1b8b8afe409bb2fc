"""How many bytes are alive while each op runs, and where is the peak?

A storage is alive from the op that allocates it to the last op that uses any member of
its class; what the program returns is alive to the end, and a container's leaves as long
as the run holds the container.  Inputs, parameters, buffers and constants exist apart
from the program and have their own figures; the timeline and the peak are of what the
program allocates.

Temporaries inside one op are not counted.  Of a branch, the side with more counts; of a
loop, the earlier iteration's carried storages with this one's.  Storages whose size only
a run decides count as 0 bytes and are listed in `unsized`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate

from attrs import define

from dataflow import CopyKind
from passes.alias import UNKNOWN, Aliases, Storage, StorageClass
from passes.liveness import Liveness, Span
from passes.program import Op, Program, Role

Changes = dict[int, int]
"""Bytes that begin (or, negative, end) at an op index."""


@define(eq=False, frozen=True, slots=False)
class Memory:
    """The answer, in bytes.  `Memory.of(program)`.

    `timeline[op.index]` is what is alive while that op runs; `peak_bytes` its maximum and
    `peak_at` the first op that reaches it (None for a program without ops).
    """

    program: Program
    liveness: Liveness
    timeline: tuple[int, ...]
    entry_bytes: Mapping[Role, int]
    unsized: tuple[Storage, ...]

    @classmethod
    def of(cls, program: Program) -> Memory:
        """Add up what liveness says is alive; once."""
        return program.once(cls, lambda: cls._add_up(program))

    @classmethod
    def _add_up(cls, program: Program) -> Memory:
        liveness = Liveness.of(program)
        aliases = liveness.aliases
        levels = [0] * (len(program.all_ops) + 1)
        changes: Changes = {}
        branches = _Branches(program)
        unsized = []
        for storage, spans in liveness.spans.items():
            if storage.role is not None or storage is UNKNOWN or storage.earlier:
                continue
            if storage.nbytes is None:
                unsized.append(storage)
            elif not branches.regions:
                for start, stop in spans:
                    levels[start] += storage.nbytes
                    levels[stop + 1] -= storage.nbytes
            else:
                branches.add(storage, spans, changes)
        for side in branches.larger_sides():
            _merge(changes, side)
        for span, nbytes in _earlier_iterations(program, aliases, liveness):
            _add(changes, (span,), nbytes)
        for index, change in changes.items():
            levels[index] += change
        timeline = list(accumulate(levels[:-1]))
        return cls(program, liveness, tuple(timeline), _entry_bytes(aliases), tuple(unsized))

    @cached_property
    def peak_bytes(self) -> int:
        """The most bytes alive at once."""
        return max(self.timeline, default=0)

    @cached_property
    def peak_at(self) -> Op | None:
        """The first op at which the peak is reached."""
        if not self.timeline:
            return None
        return self.program.all_ops[self.timeline.index(self.peak_bytes)]

    def at(self, op: Op) -> int:
        """Bytes alive while `op` runs."""
        return self.timeline[op.index]

    def alive_at(self, op: Op) -> tuple[StorageClass, ...]:
        """The storage classes that the program allocates and that are alive while `op`
        runs, largest first."""
        alive = [c for c in self.liveness.classes(op) if c.storage.role is None]
        return tuple(sorted(alive, key=lambda c: (-(c.nbytes or 0), c.id)))


def _add(changes: Changes, spans: Iterable[Span], nbytes: int) -> None:
    for start, stop in spans:
        changes[start] = changes.get(start, 0) + nbytes
        changes[stop + 1] = changes.get(stop + 1, 0) - nbytes


def _merge(changes: Changes, more: Changes) -> None:
    for index, change in more.items():
        changes[index] = changes.get(index, 0) + change


def _entry_bytes(aliases: Aliases) -> Mapping[Role, int]:
    """Bytes of entry storages by role, each storage once."""
    found = dict.fromkeys(Role, 0)
    for storage in aliases.all_storages:
        if storage.role is not None:
            found[storage.role] += storage.nbytes or 0
    return found


class _Branches:
    """Storages allocated in regions and alive outside them.

    Of a `cond`'s two sides only one has run, so outside of it the larger side counts, op
    by op.  A loop's results are its body's or, if it never ran, its own: two sides too.
    """

    def __init__(self, program: Program) -> None:
        self.regions = [
            (op, number, range(region.ops[0].first_index, region.ops[-1].index + 1))
            for op in program.all_ops
            for number, region in enumerate(op.regions)
        ]
        # Ops come innermost first: what leaves two regions counts with the outermost.
        self.outside: dict[int, dict[int, Changes]] = {}

    def add(self, storage: Storage, spans: Sequence[Span], changes: Changes) -> None:
        """Count spans: where the op that allocates it is a neighbour, plainly; outside
        the region it was allocated in, with that region's side."""
        assert storage.op is not None
        assert storage.nbytes is not None
        home = [found for found in self.regions if storage.op.index in found[2]]
        for span in spans:
            left = [found for found in home if not found[2][0] <= span[0] <= found[2][-1]]
            if left:
                op, number, _ = left[-1]
                self._side(op, number, span, storage.nbytes)
            elif storage.op.region_flow:
                self._side(storage.op, -1, span, storage.nbytes)
            else:
                _add(changes, (span,), storage.nbytes)

    def _side(self, op: Op, number: int, span: Span, nbytes: int) -> None:
        sides = self.outside.setdefault(op.index, {})
        _add(sides.setdefault(number, {}), (span,), nbytes)

    def larger_sides(self) -> Iterable[Changes]:
        """Per op with regions, the changes of the pointwise larger side."""
        for sides in self.outside.values():
            points = sorted({index for changes in sides.values() for index in changes})
            level = dict.fromkeys(sides, 0)
            before = 0
            larger: Changes = {}
            for point in points:
                for side, changes in sides.items():
                    level[side] += changes.get(point, 0)
                now = max(level.values())
                larger[point] = now - before
                before = now
            yield larger


def _earlier_iterations(
    program: Program, aliases: Aliases, liveness: Liveness
) -> Iterable[tuple[Span, int]]:
    """Spans and bytes of what a loop carries: per carried value, the largest storage of
    an earlier iteration it may be."""
    carried = {
        copy.target
        for op in program.all_ops
        if op.region_flow
        for copy in op.region_flow.copies
        if copy.kind is CopyKind.BACK
    }
    for head in carried:
        sizes = [s.nbytes or 0 for s in aliases.pointees(head) if s.earlier]
        if not sizes:
            continue
        loop = next(
            op
            for op in program.all_ops
            if op.region_flow and any(c.target is head for c in op.region_flow.copies)
        )
        yield (loop.first_index, loop.index - 1), max(sizes)
