"""What is the peak as a function of the dynamic dimensions, and what is the largest that fits?

The storages of a program with dynamic dimensions have sizes that are polynomials in their
symbols, so the bytes alive at an op are one, and the peak is the maximum of finitely many.
Every number equals that of the program loaded at these sizes; `cases.py` says how facts that
depend on sizes are kept apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from attrs import define

from passes.budget import parse_budget
from passes.errors import ProgramError
from passes.printing import listed
from passes.program import Program, Role, check_program
from passes.storages import Storage
from passes.symbolic.bounds import Box
from passes.symbolic.cases import Case, Cases, PeakAt, Piece, point
from passes.symbolic.dynamic import Dynamic, Symbol
from passes.symbolic.largest import Largest, Search
from passes.symbolic.sizes import Size


@define(eq=False, frozen=True, slots=False, repr=False)
class SymbolicMemory:
    """The answer, in bytes.  `SymbolicMemory.of(program)`.

    `symbols` are the dynamic dimensions.  `timeline`, `peak`, `entry`, `bounded` and `unsized`
    are of the main case: of sizes from 2 on, as far as `conditions` hold.  `at` and `largest`
    answer for all sizes in the symbols' ranges.
    """

    dynamic: Dynamic
    cases: Cases

    @classmethod
    def of(cls, program: Program, names: Mapping[str, str] | None = None) -> SymbolicMemory:
        """The symbolic memory of a program with dynamic dimensions, once.

        `names` are for symbols, each with a place where the symbol stands, such as
        `{"batch": "x.shape[0]"}`.  Raises `ProgramError` for a program without dynamic
        dimensions, and for a place that is none.
        """
        check_program(program)
        dynamic = program.dynamic
        if dynamic is None and any(op.phase == "backward" for op in program.all_ops):
            raise ProgramError(
                f"{program.name} is a training step of fixed sizes. Load it with dynamic ones: "
                "passes.load_training_step(..., "
                'dynamic={"x": {0: "batch"}, "target": {0: "batch"}})'
            )
        if dynamic is None:
            raise ProgramError(
                f"{program.name} has no dynamic dimensions. Export the model with "
                "dynamic_shapes, as in torch.export.export(model, inputs, "
                'dynamic_shapes={"x": {0: torch.export.Dim("batch")}}), and load that'
            )
        new = {dynamic.symbol(place).name: name for name, place in (names or {}).items()}
        if len({new.get(symbol.name, symbol.name) for symbol in dynamic.symbols}) < len(
            dynamic.symbols
        ):
            raise ProgramError(f"names={names}: two dimensions would have one name")
        named = dynamic.named(new) if new else dynamic
        return program.once((cls, *sorted(new.items())), lambda: cls(named, Cases(named, program)))

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """The dynamic dimensions: names, where they stand in the inputs, ranges."""
        return self.dynamic.symbols

    @cached_property
    def main(self) -> Case:
        """The case of the sizes that the program was loaded with, made 2 if they are less.

        Raises `CaptureError` where sizes cannot be followed as symbols.
        """
        sizes = {s.name: max(2, s.low, s.example) for s in self.symbols}
        ends = {s.name: s.high for s in self.symbols if s.high is not None}
        return self._case({name: min(size, ends.get(name, size)) for name, size in sizes.items()})

    @property
    def program(self) -> Program:
        """The program of the main case, whose ops `timeline` and `peak` are about."""
        return self.main.facts.program

    @property
    def timeline(self) -> tuple[Size, ...]:
        """Bytes alive while each op runs, by `op.index`, without what exists at entry."""
        return self.main.timeline

    @property
    def peak(self) -> tuple[Piece, ...]:
        """The polynomials whose maximum is the peak, each the greatest somewhere."""
        return self.main.peak

    @property
    def entry(self) -> Mapping[Role, Size]:
        """Bytes of what exists at entry, by role.  An input with dynamic dimensions counts
        what its own elements span."""
        return self.main.entry

    @property
    def conditions(self) -> tuple[str, ...]:
        """What must be true of the sizes, besides their ranges, for the main case."""
        return tuple(condition.text for condition in self.main.facts.conditions)

    @property
    def unsized(self) -> tuple[Storage, ...]:
        """Storages whose size only a run decides; they count as 0 bytes."""
        return self.main.unsized

    @property
    def bounded(self) -> tuple[Storage, ...]:
        """Storages whose size the data decides; they count as the most they can be."""
        return self.main.bounded

    def at(self, sizes: Mapping[str, int] | None = None, /, **more: int) -> PeakAt:
        """The peak where each symbol has the given size.

        Symbols go by their names, and in a mapping also by their places (`x.shape[0]`).
        Raises `ProgramError` for one that is missing, unknown or out of its range.
        """
        values = self.checked({**(sizes or {}), **more})
        return self._case(values).at(values)

    def largest(
        self,
        symbol: str,
        sizes: Mapping[str, int] | None = None,
        /,
        *,
        budget: int | str,
        **more: int,
    ) -> Largest:
        """The largest size of a symbol, within its range, at which all bytes together
        (`PeakAt.total_bytes`) are within a budget, such as `"24 GiB"` or a number of bytes; the
        others have the given sizes.

        Exact, whether or not bytes grow with the symbol.  Sizes below the one that the program was
        loaded with may be too small for the model: then none from there down fits.  Raises
        `ProgramError` as `at` does, and where facts change with the sizes too often to tell.
        """
        found = self.dynamic.symbol(symbol)
        values = self._values({**(sizes or {}), **more})
        if found.name in values:
            raise ProgramError(f"{found.name} is what is looked for: leave its size out")
        self._demand(values, [s.name for s in self.symbols if s is not found])
        search = Search(self, found.name, found.example, values, parse_budget(budget))
        return search.run(found.low, found.high)

    def totals(self, box: Box) -> tuple[Size, ...] | None:
        """Sizes whose maximum is all bytes together everywhere in a box; None if the box is
        in no one case."""
        case = self.cases.of(box)
        return None if case is None else tuple(p.size + case.resident for p in case.peak)

    def total_at(self, sizes: Mapping[str, int]) -> int:
        """All bytes together where the symbols, by name, have these sizes."""
        return self._case(sizes).at(sizes).total_bytes

    def checked(self, given: Mapping[str, int]) -> dict[str, int]:
        """A size for each symbol by its name.  Raises `ProgramError` as `at` does."""
        values = self._values(given)
        self._demand(values, [symbol.name for symbol in self.symbols])
        return values

    def _case(self, sizes: Mapping[str, int]) -> Case:
        found = self.cases.of(point(sizes))
        assert found is not None, "a point is in one case"
        return found

    def _values(self, given: Mapping[str, int]) -> dict[str, int]:
        """Sizes by the names of symbols, checked."""
        found: dict[str, int] = {}
        for name, size in given.items():
            symbol = self.dynamic.symbol(name)
            if type(size) is not int:
                raise ProgramError(f"{name}={size!r}: a size is an int")
            if size < symbol.low or (symbol.high is not None and size > symbol.high):
                raise ProgramError(f"{name}={size} is outside of its range, {symbol.range}")
            found[symbol.name] = size
        return found

    def _demand(self, values: Mapping[str, int], names: list[str]) -> None:
        missing = [name for name in names if name not in values]
        if missing:
            raise ProgramError(
                f"no size for {', '.join(missing)}: give one for each dynamic dimension, as in "
                f"{', '.join(f'{symbol.name}={symbol.example}' for symbol in self.symbols)}"
            )

    def __repr__(self) -> str:
        return f"<SymbolicMemory of {self.program.name}: {', '.join(map(str, self.peak))}>"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The answer as text, a line each."""
        pieces, box = self.peak, self.main.facts.box
        found = [f"peak in bytes, {'the greatest of' if len(pieces) > 1 else 'for all sizes'}:"]
        found += [f"  {piece}" for piece in pieces]
        found += [f"apart from it: {self.main.resident}", "where:"]
        for symbol in self.symbols:
            low, high = box[symbol.name]
            span = f"= {low}" if low == high else f">= {low}"
            span += f", <= {high}" if high is not None and high != low else ""
            origin = "" if symbol.places == (symbol.name,) else f"  is {', '.join(symbol.places)}"
            found.append(f"  {symbol.name} {span}{origin}")
        found += [f"  {condition}" for condition in self.conditions]
        for storages, much in ((self.bounded, "the most they can be"), (self.unsized, "0 bytes")):
            if storages:
                names = listed([storage.name for storage in storages])
                found.append(f"{len(storages)} storages count as {much}, the data decides: {names}")
        return found
