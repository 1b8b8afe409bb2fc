"""What the searches for advice ask of a program: who touches which storage, and what is
alive, op by op of the outermost graph.

Bytes are of everything there is: what the program allocates, and what exists at entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from attrs import define

from passes.advice.any_size import at_any_size
from passes.alias import Aliases
from passes.liveness import Liveness
from passes.memory import Memory
from passes.program import ANYTHING, Op, OpKind, Program, Value
from passes.storages import ANY, numbers


@define(eq=False, frozen=True, slots=False)
class Facts:
    """Facts of one program.  Ops are known by their position in `program.ops`.

    Bytes are those at the sizes that it was loaded with; who shares a storage, who touches it
    and until when holds at every size.
    """

    program: Program

    @property
    def ops(self) -> tuple[Op, ...]:
        return self.program.ops

    @cached_property
    def aliases(self) -> Aliases:
        return Aliases.of(self._at_any_size)

    @cached_property
    def liveness(self) -> Liveness:
        return Liveness.of(self._at_any_size)

    @cached_property
    def _at_any_size(self) -> Program:
        return self.program.once(at_any_size, lambda: at_any_size(self.program))

    @cached_property
    def levels(self) -> Sequence[int]:
        """Bytes at each op; the most inside its sub-graphs, where it has some."""
        total = Memory.of(self.program).breakdown.total
        return [max(total[op.first_index : op.index + 1]) for op in self.ops]

    @cached_property
    def peak_bytes(self) -> int:
        """The most bytes at any op."""
        return max(self.levels, default=0)

    @property
    def peaks(self) -> list[int]:
        """The ops at which the peak is reached."""
        return [place for place, level in enumerate(self.levels) if level == self.peak_bytes]

    @cached_property
    def barriers(self) -> list[int]:
        """The ops with which no other may change sides."""
        return [place for place, op in enumerate(self.ops) if _is_barrier(op)]

    def is_divided(self, first: int, second: int) -> bool:
        """Whether there is a barrier between two ops."""
        return any(first < place < second for place in self.barriers)

    # -- values ------------------------------------------------------------------------

    @cached_property
    def definer(self) -> dict[Value, int]:
        """The op that defines each value; not of values at entry or in sub-graphs."""
        return {
            value: place
            for place, op in enumerate(self.ops)
            if op.kind is not OpKind.INPUT
            for value in op.defines
        }

    @cached_property
    def users(self) -> dict[Value, list[int]]:
        """The ops that each value is an operand of."""
        found: dict[Value, list[int]] = {}
        for place, op in enumerate(self.ops):
            for value in dict.fromkeys(op.operands):
                found.setdefault(value, []).append(place)
        return found

    @cached_property
    def members(self) -> dict[int, list[Value]]:
        """The values that ops define and that are certainly a storage, by its number."""
        found: dict[int, list[Value]] = {}
        for value in self.definer:
            storage = self.storage(value)
            if storage is not None:
                found.setdefault(storage, []).append(value)
        return found

    def across(self, storage: int, place: int) -> list[Value]:
        """The members of a storage that are defined before an op and used after it."""
        return [
            value
            for value in self.members.get(storage, ())
            if self.definer[value] < place and self.users.get(value, (-1,))[-1] > place
        ]

    def storage(self, value: Value) -> int | None:
        """The number of the one storage that a value certainly is; None if it may be several."""
        fact = self.aliases.facts[value.index]
        return fact if isinstance(fact, int) and fact >= 0 else None

    # -- storages ----------------------------------------------------------------------

    @cached_property
    def touched(self) -> Sequence[frozenset[int]]:
        """The storages of each op's operands and results."""
        facts = self.aliases.facts
        return [
            frozenset[int]().union(
                *(numbers(facts[value.index]) for value in (*op.operands, *op.defines))
            )
            for op in self.ops
        ]

    @cached_property
    def written(self) -> Sequence[frozenset[int]]:
        """The storages that each op may write, or give another size."""
        facts = self.aliases.facts
        found = []
        for op in self.ops:
            moved = [p for p, _ in op.effects.resizes] + [p for p, _ in op.renames]
            resized = (numbers(facts[op.operands[position].index]) for position in moved)
            found.append(self.aliases.numbers_written_by(op).union(*resized))
        return found

    @cached_property
    def touches(self) -> dict[int, list[int]]:
        """The ops that touch each storage, in order."""
        found: dict[int, list[int]] = {}
        for place, storages in enumerate(self.touched):
            for storage in storages:
                found.setdefault(storage, []).append(place)
        return found

    @cached_property
    def writes(self) -> dict[int, list[int]]:
        """The ops that write each storage, in order."""
        found: dict[int, list[int]] = {}
        for place, storages in enumerate(self.written):
            for storage in storages:
                found.setdefault(storage, []).append(place)
        return found

    def is_written(self, storage: int, after: int, before: int) -> bool:
        """Whether an op between two others may write a storage."""
        unknown = self.writes.get(ANY, ())
        return any(after < p < before for p in (*self.writes.get(storage, ()), *unknown))

    def last_use(self, storage: int) -> int:
        """The index of the last op at which a storage is alive; -1 if it never is."""
        spans = self.liveness.spans.get(storage, ())
        return spans[-1][1] if spans else -1

    def is_alive(self, storage: int, place: int) -> bool:
        """Whether a storage is alive at an op."""
        index = self.ops[place].index
        return any(start <= index <= stop for start, stop in self.liveness.spans.get(storage, ()))

    def nbytes(self, storage: int) -> int:
        return self.aliases.allocations.nbytes(storage) or 0

    def is_entry(self, storage: int) -> bool:
        return storage in self.aliases.allocations.owner

    @cached_property
    def returned(self) -> frozenset[int]:
        """The storages of returned values."""
        facts = self.aliases.facts
        return frozenset[int]().union(*(numbers(facts[v.index]) for v in self.program.outputs))

    @cached_property
    def uncertain(self) -> frozenset[int]:
        """The storages that some value may be, or may not."""
        facts = self.aliases.facts
        return frozenset[int]().union(*(numbers(facts[v.index]) for v in self.aliases.uncertain))

    @cached_property
    def is_known(self) -> bool:
        """Whether no op may do anything, and no value may be any storage."""
        anything = any(op.effects.origin is ANYTHING for op in self.program.all_ops)
        return not anything and ANY not in self.uncertain


def _is_barrier(op: Op) -> bool:
    """Whether an op switches something for all that follow, or may do anything."""
    if op.kind is not OpKind.CALL:
        return False
    switches = not op.results and not op.operands and not _gives_number(op)
    return switches or op.effects.origin is ANYTHING


def _gives_number(op: Op) -> bool:
    """Whether what an op without tensors returns is used, and comes from arithmetic."""
    # Any: an fx node, and torch is not imported here.
    node: Any = op.node
    module = getattr(getattr(node, "target", None), "__module__", "")
    return bool(getattr(node, "users", ())) and module in ("_operator", "math", "builtins", "torch")
