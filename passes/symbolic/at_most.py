"""A program and its storages for all sizes up to given ones, if the same facts hold at all of them.

Then the same ops allocate and share the same storages, and each has some most bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

from passes.alias import Aliases
from passes.errors import PlanError
from passes.program import Program
from passes.storages import Storage, earlier
from passes.symbolic.bounds import bounds
from passes.symbolic.cases import point
from passes.symbolic.memory import SymbolicMemory


def at_most(
    program: Program, largest: Mapping[str, int]
) -> tuple[Program, Mapping[Storage, int | None]]:
    """The program for sizes from 2 to the given ones, and the most bytes of its storages, None
    where nothing says; of a size of 0 or 1, for that one alone.

    Raises `ProgramError` for a size that is missing, unknown or out of its range, `PlanError`
    where facts change on the way.
    """
    symbolic = SymbolicMemory.of(program)
    sizes = symbolic.checked(largest)
    lows = {symbol.name: max(2, symbol.low) for symbol in symbolic.symbols}
    box = {name: (min(lows[name], size), size) for name, size in sizes.items()}
    case = symbolic.cases.of(box)
    if case is None:
        there = symbolic.cases.of(point(sizes))
        conditions = there.facts.conditions if there else ()
        told = " and ".join(c.text for c in conditions if not c.holds_in(box))
        spans = ", ".join(f"{name} from {low} to {high}" for name, (low, high) in box.items())
        raise PlanError(
            f"no one plan is known to do for {spans}: what shares memory at the largest is known "
            f"where {told or 'sizes are these'} only. Load the program at each size, and plan that"
        )
    made = Aliases.of(case.facts.program).allocations
    most: dict[Storage, int | None] = {}
    sizes_of = case.facts.sizes  # of entry values that share a storage with another, too
    for number in (*made.owner, *made.allocated):
        if number in sizes_of:
            for which in (number, earlier(number)):
                most[made.storage(which)] = bounds(sizes_of[number], box)[1]
    return case.facts.program, most
