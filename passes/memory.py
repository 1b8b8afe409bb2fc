"""How many bytes are alive while each op runs, and where is the peak?

A storage is alive from the op that allocates it to the last op that uses any member of
its class; what the program returns is alive to the end, and a container's leaves as long
as the run holds the container.  Inputs, parameters, buffers and constants exist apart
from the program and have their own figures; the timeline and the peak are of what the
program allocates.

Temporaries inside one op are not counted.  Where the run decides which storage a value is
(a branch, a loop), `uncertain.py` counts the most it can be.  So do storages whose size the
data decides, `bounded`, where the op says how large they can get: the result of `nonzero` is
as if no element were zero.  Where nothing says so they count as 0 bytes, and are listed in
`unsized`; so are inputs that are not strided, such as sparse ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import accumulate

from attrs import define

from passes.breakdown import Breakdown
from passes.census import Census
from passes.liveness import Liveness
from passes.program import Op, Program, Role, check_program
from passes.storages import Allocations, Storage, StorageClass
from passes.uncertain import Uncertain


@define(eq=False, frozen=True, slots=False, repr=False)
class Memory:
    """The answer, in bytes.  `Memory.of(program)`.

    `timeline[op.index]` is what is alive while that op runs; `peak_bytes` its maximum and
    `peak_at` the first op that reaches it (None for a program without ops).  With storages in
    `bounded`, these are what no run exceeds.  A gate in CI should also demand that `unsized`
    and `program.assumed` are empty: what they list is not in the figures, or was not observed.
    """

    program: Program
    liveness: Liveness
    timeline: tuple[int, ...]
    entry_bytes: Mapping[Role, int]
    unsized: tuple[Storage, ...]
    bounded: tuple[Storage, ...] = ()

    @classmethod
    def of(cls, program: Program) -> Memory:
        """Add up what liveness says is alive; once."""
        check_program(program)
        return program.once(cls, lambda: cls._add_up(program))

    @classmethod
    def _add_up(cls, program: Program) -> Memory:
        liveness = Liveness.of(program)
        aliases = liveness.aliases
        made = aliases.allocations
        levels = [0] * (len(program.all_ops) + 1)
        nested = Census.of(program).nested
        held_again = any(op.region_flow and op.region_flow.again for op in nested)
        uncertain = Uncertain.of(liveness) if aliases.uncertain or held_again else None
        spans = uncertain.certain_spans if uncertain else liveness.spans
        undecided = []
        for number, intervals in spans.items():
            if number not in made.owner:
                nbytes = made.nbytes(number)
                if nbytes is None:
                    undecided.append(number)
                    nbytes = made.most(number)
                if nbytes:
                    for start, stop in intervals:
                        levels[start] += nbytes
                        levels[stop + 1] -= nbytes
        timeline = list(accumulate(levels[:-1]))
        if uncertain:
            undecided += uncertain.unsized
            timeline = [known + uncertain.at(i) for i, known in enumerate(timeline)]
        undecided += [n for n in made.owner if made.nbytes(n) is None]  # sparse, say
        storages = [made.storage(number) for number in undecided]
        return cls(
            program,
            liveness,
            tuple(timeline),
            _entry_bytes(made),
            unsized=tuple([storage for storage in storages if storage.most is None]),
            bounded=tuple([storage for storage in storages if storage.most is not None]),
        )

    def __repr__(self) -> str:
        return f"<Memory of {self.program.name}: peak {self.peak_bytes} bytes at {self.peak_at}>"

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

    @cached_property
    def breakdown(self) -> Breakdown:
        """The same bytes, and those of entry, by category, module and source line."""
        return Breakdown(self.liveness, self.timeline)

    def at(self, op: Op) -> int:
        """Bytes alive while `op` runs."""
        self.program.check(op)
        return self.timeline[op.index]

    def alive_at(self, op: Op) -> tuple[StorageClass, ...]:
        """The storage classes that the program allocates and that are alive while `op`
        runs, largest first."""
        alive = [c for c in self.liveness.classes(op) if c.storage.role is None]
        return tuple(sorted(alive, key=lambda c: (-(c.storage.most or 0), c.id)))


def _entry_bytes(made: Allocations) -> Mapping[Role, int]:
    """Bytes of entry storages by role, each storage once."""
    found = dict.fromkeys(Role, 0)
    for number, entry in made.owner.items():
        found[entry.role] += made.nbytes(number) or 0
    return found
