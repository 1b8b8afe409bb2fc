"""Does a program fit a budget: how many bytes does it need in all, where, and for what?

What is needed is everything at once, at the op where that is most: what exists at entry
(parameters, buffers, constants, inputs, the optimizer's state) and what the program has
allocated by then and still uses.  Bytes are those of storages, each counted once and freed
after its last use; `passes.cuda_memory` adds what an allocator of a GPU adds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from attrs import define

from passes.breakdown import Category, Holding
from passes.budget import parse_budget
from passes.errors import BudgetError
from passes.memory import Memory
from passes.printing import listed, place, size
from passes.program import Op, Program
from passes.symbolic.largest import Largest
from passes.symbolic.memory import SymbolicMemory

TOLD = 5


@define(eq=False, frozen=True, slots=False, repr=False)
class Fit:
    """The answer.  `passes.fits(model, inputs, budget="24 GiB")`, or `Fit.of(memory, budget)`.

    All figures are bytes.  True where it fits: `if passes.fits(...)`.
    """

    memory: Memory
    budget: int

    @classmethod
    def of(cls, memory: Memory, budget: str | int) -> Fit:
        """Compare what a program needs with a budget, as `parse_budget` reads it.

        Raises `BudgetError` for a budget that is none, and where the size of something is
        not known, since then no budget is known to do.
        """
        nbytes = parse_budget(budget)
        unknown = [storage.name for storage in memory.unsized]
        if unknown:
            raise BudgetError(
                f"{memory.program.name} has tensors whose size is not known before the run: "
                f"{listed(unknown)}. Data decides it, or the tensor is not "
                "strided (sparse, nested). Give such a part a fixed size, or ask of the model "
                "without it"
            )
        return cls(memory, nbytes)

    @property
    def program(self) -> Program:
        return self.memory.program

    @property
    def fits(self) -> bool:
        """Whether what is needed is at most the budget."""
        return self.needed <= self.budget

    def __bool__(self) -> bool:
        return self.fits

    @cached_property
    def needed(self) -> int:
        """The most bytes there are at once, of everything."""
        return self.memory.peak_bytes + sum(self.memory.entry_bytes.values())

    @property
    def held_by_python(self) -> int | None:
        """The most bytes there are at once where Python holds what variables name, instead of
        freeing each value after its last use.  None where Python was not watched."""
        held = self.program.held_by_python
        return None if held is None else held + sum(self.memory.entry_bytes.values())

    @property
    def margin(self) -> int:
        """What is left of the budget; negative where it is not enough."""
        return self.budget - self.needed

    @property
    def peak_at(self) -> Op | None:
        """The first op at which all that is needed is there; None without ops."""
        return self.memory.peak_at

    @cached_property
    def by_category(self) -> Mapping[Category, int]:
        """Bytes there at the peak, by what they are for.  They add up to `needed`."""
        op = self.peak_at
        if op is None:
            entry = {Category(role.value): n for role, n in self.memory.entry_bytes.items()}
            return {category: entry.get(category, 0) for category in Category}
        levels = self.memory.breakdown.by_category
        return {category: levels[category][op.index] for category in Category}

    @cached_property
    def by_device(self) -> Mapping[str, int]:
        """The most bytes there are at once on each device, each at an op of its own."""
        levels = self.memory.breakdown.by_device
        return {device: max(found, default=0) for device, found in levels.items()}

    def largest_size(self, symbol: str, sizes: Mapping[str, int] | None = None) -> Largest:
        """The largest size of a dynamic dimension at which all fits.

        `sizes` are those of other dynamic dimensions; one that is left out has the size of the
        inputs given.  See `SymbolicMemory.largest`.  Raises `ProgramError` for a program
        without dynamic dimensions.
        """
        symbolic = SymbolicMemory.of(self.program)
        given = {symbolic.dynamic.symbol(name).name: n for name, n in (sizes or {}).items()}
        examples = {one.name: one.example for one in symbolic.symbols}
        del examples[symbolic.dynamic.symbol(symbol).name]
        return symbolic.largest(symbol, {**examples, **given}, budget=self.budget)

    @cached_property
    def largest(self) -> tuple[Holding, ...]:
        """Everything certainly there at the peak, largest first."""
        return () if self.peak_at is None else self.memory.breakdown.at(self.peak_at)

    def __repr__(self) -> str:
        return f"<Fit of {self.program.name}: {self.needed} of {self.budget} bytes>"

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        told = "fits" if self.fits else "does not fit"
        rest = "are left" if self.fits else "are missing"
        yield (
            f"{self.program.name} {told}: needs {size(self.needed)} of {size(self.budget)}, "
            f"{size(abs(self.margin))} {rest}"
        )
        op = self.peak_at
        if op is not None:
            phase = f", {op.phase}" if op.phase else ""
            yield f"  at op {op.index} of {len(self.program.all_ops)}{phase}: {op.call}"
            if op.module:
                yield f"    module {op.module}"
            if op.source:
                yield f"    {place(op)}"
        for category, nbytes in self.by_category.items():
            if nbytes:
                yield f"  {size(nbytes):>10}  {category.value}"
        held = self.held_by_python or 0
        if held > self.needed:
            told = "fits" if held <= self.budget else "does not fit"
            yield f"  {size(held):>10}  in all, where Python holds what variables name: {told}"
        if len(self.by_device) > 1:
            yield "  at most on each device, while the budget is for all together:"
            for device, nbytes in self.by_device.items():
                yield f"  {size(nbytes):>10}  {device or '(not known which)'}"
        if self.largest:
            yield "  largest:"
        for one in self.largest[:TOLD]:
            told = f"{one.name}  {one.category.value}  {one.module}"
            yield f"  {size(one.nbytes):>10}  {told}".rstrip()
        yield from (f"  note: {note}" for note in self.program.notes)
        bounded = self.memory.bounded
        if bounded:
            names = listed([storage.name for storage in bounded])
            yield (
                f"  note: {len(bounded)} storages count as the most the data can make them: {names}"
            )
        assumed = self.program.assumed
        if assumed:
            names = listed([f"{op.name} ({op.target})" for op in assumed])
            yield f"  warning: {len(assumed)} ops were not observed, effects assumed: {names}"
