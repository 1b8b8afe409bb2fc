"""Where in memory does each storage go?  One arena per device, as small as possible.

Two storages overlap only if no execution has both alive.  A storage is alive as liveness
says: as long as some value is live that may be it, so what a branch or a loop decides counts
as if it were everything that it may be, with two exceptions:

    branches   storages of different branches of one `cond`, that one result may be, share a slot
    loops      what is carried around is copied, at the end of the body, to a slot of its own,
               and is there after the loop; a second one where outputs change places
    stacks     what is stacked once a loop is done has its place while the loop runs: each part is
               copied there at the end of its iteration, and the next one may have its slot

What exists at entry (inputs, parameters, buffers, constants) stays where it is and has no
slot.  What the program returns is alive to the end.  As in `memory.py`, temporaries inside
one op are not counted; and the plan is for the sizes of the examples, or for all up to given
ones, and for the most bytes that a storage can have whose size the data decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, reduce
from itertools import pairwise

from attrs import define, field, frozen

from dataflow import CopyKind
from passes.alias import Aliases
from passes.errors import PlanError
from passes.liveness import Liveness, Span, merged
from passes.planning.buffers import Buffer
from passes.planning.solve import Layout, Progress, smallest
from passes.program import Op, Program, Value, check_program
from passes.storages import UNKNOWN, Storage, StorageClass
from passes.symbolic.at_most import at_most as program_at_most


@frozen(eq=False)
class Slot:
    """A place in the arena of a device, and when it is taken (op indices, both included)."""

    device: str
    offset: int
    nbytes: int
    spans: tuple[Span, ...]


@define(eq=False, frozen=True, slots=False, repr=False)
class Plan:
    """The answer.  `passes.plan(program)`.

    `slots` has the slot of each storage that the program allocates, `carried` one or two for
    each value that a loop carries, `arenas` the layout of each device.  `at_most` are the largest
    sizes of dynamic dimensions for which the plan is, where such were given; `program` is then
    one of all these.
    """

    program: Program
    alignment: int
    slots: Mapping[Storage, Slot]
    carried: Mapping[Value, tuple[Slot, ...]]
    arenas: Mapping[str, Layout]
    at_most: Mapping[str, int] = field(factory=dict)

    def slot(self, storage_class: StorageClass) -> Slot:
        """Where a storage class is.  Raises `KeyError` for one that is in no arena: it exists at
        entry, has 0 bytes, stands for earlier iterations or is of another program."""
        Aliases.of(self.program).check_class(storage_class)
        storage = storage_class.storage
        if storage not in self.slots:
            if storage.earlier:
                why = "earlier iterations made it, `carried` has the slots of what a loop carries"
            else:
                why = "it has 0 bytes" if storage.role is None else "it exists at entry"
            raise KeyError(f"{storage_class.id} is not in an arena: {why}")
        return self.slots[storage]

    @property
    def nbytes(self) -> int:
        """Bytes of all arenas."""
        return sum(arena.size for arena in self.arenas.values())

    @property
    def bounded(self) -> tuple[Storage, ...]:
        """The storages whose slots are for the most bytes that the data can make them have."""
        return tuple([storage for storage in self.slots if storage.nbytes is None])

    @property
    def is_optimal(self) -> bool:
        """Whether it is proved that no arena can be smaller."""
        return all(arena.is_optimal for arena in self.arenas.values())

    def to_rows(self) -> list[dict[str, object]]:
        """One dict per storage, by device and offset, for a data frame."""
        ordered = sorted(self.slots.items(), key=lambda item: (item[1].device, item[1].offset))
        return [
            {
                "storage": storage.name,
                "device": slot.device,
                "offset": slot.offset,
                "nbytes": slot.nbytes,
                "live": [list(span) for span in slot.spans],
            }
            for storage, slot in ordered
        ]

    def __repr__(self) -> str:
        told = ", ".join(
            f"{arena.size} bytes on {device} (at least {arena.lower_bound})"
            for device, arena in self.arenas.items()
        )
        most = ", ".join(f"{name}={size}" for name, size in self.at_most.items())
        sizes = f" for at most {most}" if most else ""
        return f"<Plan of {self.program.name}{sizes}: {told or 'nothing to place'}>"


def plan(
    program: Program,
    *,
    alignment: int = 64,
    at_most: Mapping[str, int] | None = None,
    exact: bool = False,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> Plan:
    """An offset for every storage the program allocates, in an arena for each device.

    Fast by default: mostly the smallest arena, and `is_optimal` says whether it is proved to
    be.  `exact` searches on where it is not, until it is or for `time_limit` seconds, and
    calls `progress` with each better layout.

    A program with dynamic dimensions is planned at the sizes that it was loaded with.  With
    `at_most`, a size for each of them, the plan does for all sizes from 2 up to these; a size of 0
    or 1 stands for itself.  `PlanError` says why if none is known to.

    A storage whose size the data decides gets the most bytes that it can need, and is in the
    plan's `bounded`.  Raises `PlanError` for one of which no op says what that is.
    """
    check_program(program)
    most: Mapping[Storage, int | None] | None = None
    if at_most is not None:
        program, most = program_at_most(program, at_most)
    asked = _Asked(program, most)
    slots: dict[Storage, Slot] = {}
    carried: dict[Value, tuple[Slot, ...]] = {}
    arenas: dict[str, Layout] = {}
    for device, requests in asked.by_device.items():
        buffers = [
            Buffer(tuple((start, stop + 1) for start, stop in request.spans), request.nbytes)
            for request in requests
        ]
        layout = smallest(buffers, alignment, time_limit, progress, is_quick=not exact)
        arenas[device] = layout
        for request, offset in zip(requests, layout.offsets, strict=True):
            slot = Slot(device, offset, request.nbytes, request.spans)
            slots.update(dict.fromkeys(request.storages, slot))
            if request.carries is not None:
                carried[request.carries] = (*carried.get(request.carries, ()), slot)
    return Plan(program, alignment, slots, carried, arenas, at_most or {})


@frozen(eq=False)
class _Request:
    """A slot that is wanted: for storages of which at most one exists, or for what is carried."""

    device: str
    nbytes: int
    spans: tuple[Span, ...]
    storages: tuple[Storage, ...] = ()
    carries: Value | None = None


@define(eq=False, slots=False)
class _Asked:
    """The slots that a program wants; `most` are bytes of storages instead of their own."""

    program: Program
    most: Mapping[Storage, int | None] | None = None

    @cached_property
    def liveness(self) -> Liveness:
        return Liveness.of(self.program)

    @cached_property
    def aliases(self) -> Aliases:
        return self.liveness.aliases

    @cached_property
    def by_device(self) -> dict[str, list[_Request]]:
        """Every request, by device."""
        found: dict[str, list[_Request]] = {}
        for request in (*self._of_storages(), *self._of_loops()):
            if request.nbytes:
                found.setdefault(request.device, []).append(request)
        return found

    def _of_storages(self) -> Iterable[_Request]:
        spans = self.liveness.storage_spans
        for group in self._groups():
            taken = _union(spans[storage] for storage in group)
            for storage in group:
                if storage.op is not None and storage.op in self._stacking:
                    taken = merged(taken, (storage.op.first_index, storage.op.index))
            yield _Request(
                self._device(group[0]), max(map(self._nbytes, group)), taken, tuple(group)
            )

    def _nbytes(self, storage: Storage) -> int:
        most = storage.most if self.most is None else self.most.get(storage)
        if most is None:
            where = f" ({storage.op.source})" if storage.op and storage.op.source else ""
            raise PlanError(
                f"the size of {storage.name}{where} is decided by the run, and nothing says what "
                "it is at most, so it has no place in a plan: give it a fixed size, padded to the "
                "largest, in the model"
            )
        return most

    @staticmethod
    def _device(storage: Storage) -> str:
        if storage.device is None:
            raise PlanError(f"it is not known on which device {storage.name} is")
        return storage.device

    # -- branches ----------------------------------------------------------------------

    def _groups(self) -> list[list[Storage]]:
        """Storages in groups of which at most one exists in any execution."""
        wanted = [
            storage
            for storage in self.liveness.storage_spans
            if storage.role is None and not storage.earlier and storage is not UNKNOWN
        ]
        group_of = {storage: [storage] for storage in wanted}
        for op in self._branching:
            for value in op.defines:
                inside = [
                    s for s in self.aliases.pointees(value) if s in group_of and self._path(s)
                ]
                for one, other in pairwise(sorted(inside, key=self._index)):
                    first, second = group_of[one], group_of[other]
                    if first is not second and all(
                        self._excludes(a, b) for a in first for b in second
                    ):
                        first += second
                        group_of.update(dict.fromkeys(second, first))
        return list({id(group): group for group in group_of.values()}.values())

    @cached_property
    def _branching(self) -> list[Op]:
        """Ops that run one of several regions."""
        return [
            op
            for op in self.program.all_ops
            if op.region_flow and [source for source, _ in op.region_flow.control].count(None) > 1
        ]

    @cached_property
    def _paths(self) -> dict[Op, dict[Op, int]]:
        return {}

    def _path(self, storage: Storage) -> dict[Op, int]:
        """The branches that a storage is allocated in: op -> number of its region."""
        assert storage.op is not None
        if storage.op not in self._paths:
            self._paths[storage.op] = {
                op: number
                for op in self._branching
                for number, region in enumerate(op.regions)
                if region.ops[0].first_index <= storage.op.index <= region.ops[-1].index
            }
        return self._paths[storage.op]

    @staticmethod
    def _index(storage: Storage) -> int:
        return storage.op.index if storage.op else -1

    def _excludes(self, one: Storage, other: Storage) -> bool:
        first, second = self._path(one), self._path(other)
        return any(second.get(op, number) != number for op, number in first.items())

    # -- loops -------------------------------------------------------------------------

    @cached_property
    def _stacking(self) -> set[Op]:
        """Ops that stack their results in the end."""
        flows = ((op, op.region_flow) for op in self.program.all_ops)
        return {op for op, flow in flows if flow and flow.held_for_stacking}

    def _of_loops(self) -> Iterable[_Request]:
        for op in self.program.all_ops:
            copies = op.region_flow.copies if op.region_flow else ()
            back = [copy for copy in copies if copy.kind is CopyKind.BACK]
            for copy in back:
                yield from self._carried(op, copy.source, copy.target, [c.target for c in back])

    def _carried(
        self, op: Op, source: Value, head: Value, heads: Sequence[Value]
    ) -> Iterable[_Request]:
        """The slots of one carried value, unless nothing that a loop allocates is carried."""
        aliases, spans = self.aliases, self.liveness.storage_spans
        carried = [s for s in aliases.pointees(head) if s.earlier]
        if not carried:
            return
        kept = [s for s in aliases.pointees(source) if s in spans and s.role is None]
        request = _Request(
            self._device(carried[0]),
            max(map(self._nbytes, carried)),
            merged(
                _union(spans[s] for s in (*kept, *carried) if s in spans),
                (op.first_index, op.index),
            ),
            carries=head,
        )
        yield request
        # An output that lies in the slot of another must not be overwritten before it is copied.
        elsewhere = {s for other in heads for s in aliases.pointees(other) if s.earlier}
        if elsewhere & {s for other in self._sources(op) for s in aliases.pointees(other)}:
            yield request

    @staticmethod
    def _sources(op: Op) -> list[Value]:
        assert op.region_flow is not None
        return [copy.source for copy in op.region_flow.copies if copy.kind is CopyKind.BACK]


def _union(many: Iterable[tuple[Span, ...]]) -> tuple[Span, ...]:
    return reduce(lambda spans, more: reduce(merged, more, spans), many, ())
