"""What are the bytes for: how many at each op by category, module, source line and device?

Categories of what exists at entry are its roles.  What the program allocates is, the first
that holds:

    gradient, state, ...   returned as that (`Program.kept`), from its allocation on
    output                 returned
    activation             allocated by the forward pass, last used by the backward pass
    temporary              all else, gradients of activations among it

Bytes of values that may be one of several storages are temporaries of no module, line or device.
What exists at entry counts at every op, since its owner holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cached_property
from itertools import accumulate

from attrs import define, frozen

from passes.liveness import Liveness, Span
from passes.program import Op, Program, Role
from passes.storages import Storage, StorageClass
from passes.uncertain import Uncertain


class Category(Enum):
    """What bytes are for."""

    PARAMETER = "parameter"
    BUFFER = "buffer"
    CONSTANT = "constant"
    INPUT = "input"
    STATE = "state"
    GRADIENT = "gradient"
    ACTIVATION = "activation"
    OUTPUT = "output"
    TEMPORARY = "temporary"


@frozen
class Holding:
    """Something alive: how many bytes, what for, and the module and line it comes from."""

    name: str
    nbytes: int
    category: Category
    module: str
    source: str


Timelines = Mapping[str, tuple[int, ...]]


@define(eq=False, frozen=True, slots=False, repr=False)
class Breakdown:
    """The answer.  `memory.breakdown`; `timeline` is the one of `memory`.

    Each of `by_category`, `by_module`, `by_source` and `by_device` has timelines that add up to
    `total`: that timeline and what exists at entry.
    """

    liveness: Liveness
    timeline: Sequence[int]

    @property
    def program(self) -> Program:
        return self.liveness.program

    @cached_property
    def total(self) -> tuple[int, ...]:
        """Bytes at each op, of everything there is."""
        entry = sum(s.nbytes or 0 for s in self._storages if s.role is not None)
        levels = [level + entry for level in self.timeline]
        for storage in self._donated:
            for index in range(len(levels)):
                if not any(start <= index <= stop for start, stop in self._spans[storage]):
                    levels[index] -= storage.nbytes or 0
        return tuple(levels)

    @cached_property
    def by_category(self) -> Mapping[Category, tuple[int, ...]]:
        """Bytes at each op per category; every category is there."""
        found = self._timelines(lambda storage: self.category(storage).value)
        rest = self._uncertain
        zeros = (0,) * len(self.timeline)
        made = {category: found.get(category.value, zeros) for category in Category}
        temporary = zip(made[Category.TEMPORARY], rest, strict=True)
        made[Category.TEMPORARY] = tuple(known + more for known, more in temporary)
        return made

    @cached_property
    def by_module(self) -> Timelines:
        """Bytes at each op per path of the module that holds or allocates them; '' is the
        model itself, and what no module has."""
        return self._with_uncertain(self._timelines(self._module))

    @cached_property
    def by_source(self) -> Timelines:
        """Bytes at each op per source line that allocates them; '' is no line."""
        return self._with_uncertain(self._timelines(_source))

    @cached_property
    def by_device(self) -> Timelines:
        """Bytes at each op per device that holds them; '' is not known which of several."""
        devices = {storage.device for storage in self._spans}
        if len(devices) == 1:
            return {devices.pop() or "": self.total}
        return self._with_uncertain(self._timelines(lambda storage: storage.device or ""))

    def at(self, op: Op) -> tuple[Holding, ...]:
        """Everything that is certainly alive while `op` runs, largest first."""
        self.program.check(op)
        found = [
            Holding(s.name, s.nbytes, self.category(s), self._module(s), _source(s))
            for s, spans in self._spans.items()
            if s.nbytes and any(start <= op.index <= stop for start, stop in spans)
        ]
        return tuple(sorted(found, key=lambda one: (-one.nbytes, one.name)))

    def category(self, storage: Storage | StorageClass) -> Category:
        """What a storage is for.  Raises `KeyError` for one of another program."""
        if isinstance(storage, StorageClass):
            storage = storage.storage
        self.liveness.aliases.class_of(storage)
        role = storage.role or self._returned.get(storage)
        if role is not None:
            return Category(role.value)
        if storage in self._outputs:
            return Category.OUTPUT
        spans = self._spans.get(storage)
        if spans and storage.op is not None and storage.op.phase == "forward":
            last = self.program.all_ops[spans[-1][1]]
            if last.phase == "backward":
                return Category.ACTIVATION
        return Category.TEMPORARY

    # -- what it is made of ------------------------------------------------------------

    @cached_property
    def _storages(self) -> tuple[Storage, ...]:
        return tuple(found.storage for found in self.liveness.aliases.classes)

    @cached_property
    def _spans(self) -> Mapping[Storage, Sequence[Span]]:
        """When each storage is certainly alive; at entry's, always."""
        liveness = self.liveness
        uncertain = liveness.aliases.uncertain
        found = Uncertain.of(liveness).certain_spans if uncertain else liveness.spans
        storage_of = liveness.aliases.allocations.storage
        spans = {storage_of(number): intervals for number, intervals in found.items()}
        always = ((0, len(self.timeline) - 1),)
        entry = {storage: always for storage in self._storages if storage.role is not None}
        return {**spans, **entry, **{s: spans.get(s, ()) for s in self._donated}}

    @cached_property
    def _donated(self) -> frozenset[Storage]:
        """Storages at entry of which the caller has given all values away."""
        entries = self.program.entry.values
        pointees = self.liveness.aliases.pointees
        kept = frozenset(s for entry in entries if not entry.donated for s in pointees(entry.value))
        given = frozenset(s for entry in entries if entry.donated for s in pointees(entry.value))
        return given - kept

    @cached_property
    def _returned(self) -> Mapping[Storage, Role]:
        pointees = self.liveness.aliases.pointees
        return {s: kept.role for kept in self.program.kept for s in pointees(kept.value)}

    @cached_property
    def _outputs(self) -> frozenset[Storage]:
        pointees = self.liveness.aliases.pointees
        return frozenset(s for value in self.program.outputs for s in pointees(value))

    @cached_property
    def _entry_modules(self) -> Mapping[Storage, str]:
        """The module of what exists at entry; state and gradients have their parameter's."""
        entries = self.program.entry.values
        known = {entry.name for entry in entries if entry.role is Role.PARAMETER}
        found: dict[Storage, str] = {}
        for entry in entries:
            name = entry.name.removeprefix("self.")
            if entry.role in (Role.STATE, Role.GRADIENT):
                while name and name not in known:
                    name = name.partition(".")[2]
            if entry.role is not Role.INPUT:
                for storage in self.liveness.aliases.pointees(entry.value):
                    found.setdefault(storage, name.rpartition(".")[0])
        return found

    def _module(self, storage: Storage) -> str:
        return storage.op.module if storage.op else self._entry_modules.get(storage, "")

    def _timelines(self, key: Callable[[Storage], str]) -> dict[str, tuple[int, ...]]:
        """Bytes at each op, of storages with the same key."""
        steps: dict[str, list[int]] = {}
        for storage, spans in self._spans.items():
            if storage.nbytes:
                levels = steps.setdefault(key(storage), [0] * (len(self.timeline) + 1))
                for start, stop in spans:
                    levels[start] += storage.nbytes
                    levels[stop + 1] -= storage.nbytes
        return {name: tuple(accumulate(levels[:-1])) for name, levels in steps.items()}

    @cached_property
    def _uncertain(self) -> Sequence[int]:
        """Bytes at each op that no one storage is known to hold."""
        certain = [0] * len(self.timeline)
        for timeline in self._timelines(lambda storage: "").values():
            certain = list(timeline)
        return [total - known for total, known in zip(self.total, certain, strict=True)]

    def _with_uncertain(self, found: dict[str, tuple[int, ...]]) -> Timelines:
        if any(self._uncertain):
            known = found.get("", (0,) * len(self.timeline))
            found[""] = tuple(a + b for a, b in zip(known, self._uncertain, strict=True))
        return found


def _source(storage: Storage) -> str:
    return storage.op.source if storage.op else ""
