"""What can be done to lower the peak?  Each suggestion is a changed program, analysed.

    free earlier   copy the small part that keeps a large storage; do an op sooner
    reorder        do ops in another order
    recompute      drop values over the peak, compute them again
    in place       let a result take the place of an operand that dies
    donate         let the caller give inputs away
    reuse          drop duplicates, and copies that nobody writes

For each, the changed program is analysed as any other is, and the suggestion is made only if
its peak is lower, by the bytes it says.  Bytes are of everything: what the program allocates,
and what exists at entry.  The searches are bounded; what they leave out `notes` says.  What a
suggestion relies on holds at every size of the dimensions that are on record as dynamic.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from enum import Enum
from math import inf
from typing import TYPE_CHECKING

from attrs import define, evolve, field, frozen

from passes.advice.donate import donate
from passes.advice.draft import Draft
from passes.advice.facts import Facts
from passes.advice.inplace import in_place
from passes.advice.order import LARGEST, moved_ops, orders
from passes.advice.parts import keep_parts
from passes.advice.recompute import Effort, recompute
from passes.advice.reuse import reuse
from passes.advice.words import told
from passes.budget import parse_budget
from passes.memory import Memory
from passes.printing import listed
from passes.program import Op, Origin, Program, check_program

if TYPE_CHECKING:
    from passes.frontends.trials import Trials

EFFORTS = (
    Effort(dearest=4.0, often=False, seconds=10.0),  # elementwise ops, and no matrix products
    Effort(dearest=inf, often=False, seconds=10.0),
    Effort(dearest=inf, often=True, seconds=10.0),  # for a budget only
)
"""For recomputing: what is tried, one after the other."""


class Kind(Enum):
    """What a suggestion changes."""

    FREE_EARLIER = "free earlier"
    REORDER = "reorder"
    RECOMPUTE = "recompute"
    IN_PLACE = "in place"
    DONATE = "donate"
    REUSE = "reuse"


@frozen(eq=False)
class Suggestion:
    """A change to a program that lowers its peak, in bytes of everything alive.

    `peak_bytes` is the peak after the change and `peak_at` the op of the changed program that
    has it, `saved_bytes` what it is lower by.  `text` says what to do, `ops` names the ops
    that change.  `donated` are inputs that the caller gives
    away.  `extra_flops` counts what is computed again: as torch's counter for matrix products,
    convolutions and attention, one per element of a result for all else.
    """

    kind: Kind
    text: str
    ops: tuple[str, ...]
    peak_bytes: int
    peak_at: str
    saved_bytes: int
    donated: tuple[str, ...] = ()
    extra_flops: int = 0
    _draft: Draft = field(kw_only=True, repr=False)

    def apply(self) -> Program:
        """The changed program.  Its `graph` is a new GraphModule that runs; it shares
        parameters and buffers with the old one, takes the same inputs and gives the same
        results, bit by bit: at every size of the dynamic dimensions that the source has on
        record, and otherwise at the sizes that the program was loaded with, as a note of the
        advice says.  It has the dynamic dimensions of an exported program, and none of a
        training step."""
        return self._draft.rewritten

    def __str__(self) -> str:
        return self.text


@define(eq=False, frozen=True, repr=False)
class Advice:
    """The answer.  `passes.advise(program)`.

    `suggestions` are ordered by bytes saved.  They are alternatives: savings do not add up.
    To see what is left to do after one, ask for advice on what its `apply()` returns.
    `peak_bytes` is what there is at `peak_at`, entry included; `notes` say what was not searched,
    and what the suggestions hold for.
    `budget` is what was asked for, if anything.
    """

    program: Program
    suggestions: tuple[Suggestion, ...]
    peak_bytes: int
    peak_at: Op | None
    notes: tuple[str, ...]
    budget: int | None = None

    @property
    def within_budget(self) -> tuple[Suggestion, ...]:
        """The suggestions each of which alone gets the peak within the budget; all without one."""
        budget = inf if self.budget is None else self.budget
        return tuple([found for found in self.suggestions if found.peak_bytes <= budget])

    @property
    def can_fit(self) -> bool:
        """Whether the program is within the budget, as it is or by one of the suggestions."""
        return self.budget is None or self.peak_bytes <= self.budget or bool(self.within_budget)

    def to_rows(self) -> list[dict[str, object]]:
        """One dict per suggestion, for a data frame."""
        return [
            {
                "kind": found.kind.value,
                "saved_bytes": found.saved_bytes,
                "peak_bytes": found.peak_bytes,
                "peak_at": found.peak_at,
                "extra_flops": found.extra_flops,
                "ops": list(found.ops),
                "donated": list(found.donated),
                "text": found.text,
            }
            for found in self.suggestions
        ]

    def __repr__(self) -> str:
        return f"<Advice on {self.program.name}: {len(self.suggestions)} suggestions>"


def advise(program: Program, *, budget: int | str | None = None) -> Advice:
    """What lowers the peak of a program, each suggestion verified by analysis.

    `budget` (of everything alive: a number of bytes, or `"24 GiB"`) makes the search for
    values to recompute stop as soon as the peak is within it; without one it goes as low as
    it finds.
    """
    check_program(program)
    return _Search(program, None if budget is None else parse_budget(budget)).advice()


@define(eq=False)
class _Search:
    program: Program
    budget: int | None
    facts: Facts = field(init=False)
    notes: list[str] = field(factory=list, init=False)

    @facts.default
    def _facts(self) -> Facts:
        return Facts(self.program)

    def advice(self) -> Advice:
        facts = self.facts
        found: list[Suggestion] = []
        if not facts.peaks:
            pass
        elif not facts.is_known:
            self.notes.append(
                "no advice: some op may do anything to any tensor, so no change is known to be "
                "safe; see program.assumed"
            )
        else:
            for search in (
                self.orders, self.parts, self.in_place, self.donations, self.reuse, self.recompute,
            ):  # fmt: skip
                found += search()
            declared = [op for op in self.program.ops if op.effects.origin is Origin.DECLARED]
            if declared:
                self.notes.append(
                    f"{len(declared)} ops whose effects were not observed are not changed, "
                    "and keep their order"
                )
            unsized = Memory.of(self.program).unsized
            if unsized:
                names = listed([storage.name for storage in unsized])
                self.notes.append(f"storages whose size only a run decides count as 0: {names}")
            if any(op.regions for op in self.program.ops):
                self.notes.append("ops inside sub-graphs are left as they are")
            if self.program.sized:
                self.notes.append(
                    "as the sizes decide, these return an operand or a copy, and no change relies "
                    f"on either: {listed(self.program.sized)}"
                )
            if found and not self.trials.at_any_size:
                self.notes.append(
                    "the changed programs are for inputs of the sizes that the program was "
                    "loaded with"
                )
        best = sorted(found, key=lambda s: (-s.saved_bytes, s.extra_flops, len(s.ops)))
        at = self.program.ops[facts.peaks[0]] if facts.peaks else None
        notes = tuple(self.notes)
        return Advice(self.program, tuple(best), facts.peak_bytes, at, notes, self.budget)

    def suggestion(
        self, kind: Kind, draft: Draft, names: Iterable[str], text: str, flops: int = 0
    ) -> Iterator[Suggestion]:
        """The suggestion of a draft, if analysis finds its peak to be lower."""
        facts = Facts(draft.program)
        peak = facts.peak_bytes
        saved = self.facts.peak_bytes - peak
        if saved > 0:
            at = facts.ops[facts.peaks[0]].name
            given = [e.name for e in self.program.entry.values if e.value in draft.donated]
            yield Suggestion(
                kind, text, tuple(names), peak, at, saved, tuple(given), flops, draft=draft
            )

    @property
    def start(self) -> Draft:
        return Draft.of(self.program)

    @property
    def trials(self) -> Trials:
        from passes.frontends.trials import Trials

        return self.program.once("passes.advice.trials", lambda: Trials(self.program))

    def ops(self, names: Iterable[str]) -> list[Op]:
        return [self.program.op(name) for name in names]

    # -- the searches ------------------------------------------------------------------

    def orders(self) -> Iterator[Suggestion]:
        if len(self.program.ops) > LARGEST:
            self.notes.append(
                f"of {len(self.program.ops)} ops (more than {LARGEST}), orders were tried by "
                "moves at the peak only"
            )
        lowest = self.facts.peak_bytes
        found = [(moved_ops(order), order) for order in orders(self.facts)]
        for moved, order in sorted(found, key=lambda one: len(one[0])):
            ops = [self.program.ops[place] for place in moved]
            draft = evolve(self.start, ops=tuple(self.program.ops[place] for place in order))
            kind, what = Kind.REORDER, "do in another order"
            if all(order.index(place) < place for place in moved):
                kind, what = Kind.FREE_EARLIER, "do sooner"
            elif all(order.index(place) > place for place in moved):
                what = "do later"
            text = f"{what}: {told(ops)}"
            for suggestion in self.suggestion(kind, draft, [op.name for op in ops], text):
                if suggestion.peak_bytes < lowest:
                    lowest = suggestion.peak_bytes
                    yield suggestion

    def parts(self) -> Iterator[Suggestion]:
        found = keep_parts(self.start, self.trials)
        if found:
            draft, names = found
            text = (
                "copy the part, so that the storage it is a view of can go: "
                f"{told(self.ops(names))}"
            )
            yield from self.suggestion(Kind.FREE_EARLIER, draft, names, text)

    def in_place(self) -> Iterator[Suggestion]:
        found = in_place(self.start, self.trials)
        if found:
            draft, names = found
            text = f"do in place: {told(self.ops(names))}"
            yield from self.suggestion(Kind.IN_PLACE, draft, names, text)

    def donations(self) -> Iterator[Suggestion]:
        found = donate(self.start, self.trials)
        if found:
            draft, names = found
            given = [e.name for e in self.program.entry.values if e.value in draft.donated]
            text = f"let the caller give away {', '.join(given)}, keeping no reference to it"
            if names:
                text += f", and do in its place: {told(self.ops(names))}"
            yield from self.suggestion(Kind.DONATE, draft, names, text)

    def reuse(self) -> Iterator[Suggestion]:
        found = reuse(self.start, self.trials)
        if found:
            draft, names = found
            text = f"use what is there already, instead of: {told(self.ops(names))}"
            if len(Facts(draft.program).returned) < len(self.facts.returned):
                text += "; results that are equal are then one tensor, so write into neither"
            yield from self.suggestion(Kind.REUSE, draft, names, text)

    def recompute(self) -> Iterator[Suggestion]:
        lowest = self.facts.peak_bytes
        for effort in EFFORTS:
            if (self.budget is None and effort.often) or lowest <= (self.budget or 0):
                break
            started = time.monotonic()
            found = recompute(self.start, self.trials, effort, self.budget)
            if time.monotonic() - started > effort.seconds:
                self.notes.append(
                    f"a search for values to recompute was ended after {effort.seconds:.0f} s"
                )
            if not found:
                continue
            names = [name for name in found.dropped if name in self._allocating]
            ops = list(dict.fromkeys(self._allocating[name] for name in names))
            until = "until the backward pass, and compute again"
            if not any(op.phase for op in ops):
                until = "and compute again before its next use"
            text = f"drop {until}: {told(ops)}"
            for suggestion in self.suggestion(
                Kind.RECOMPUTE, found.draft, [op.name for op in ops], text, found.flops
            ):
                if suggestion.peak_bytes < lowest:
                    lowest = suggestion.peak_bytes
                    yield suggestion

    @property
    def _allocating(self) -> dict[str, Op]:
        found = self.facts.aliases.all_storages
        return {storage.name: storage.op for storage in found if storage.op}
