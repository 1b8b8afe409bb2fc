"""Do it in place: the result of an elementwise op takes the place of an operand that dies there.

The op is then the last that anyone needs the operand's storage for: no other value of it is
used later, it is not returned, nobody else owns it, and no other operand shares it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from passes.advice.draft import Draft
from passes.advice.facts import Facts
from passes.program import OpKind, Value
from passes.storages import ANY, numbers

if TYPE_CHECKING:
    from passes.frontends.trials import Trials

ROUNDS = 100
"""How many times the peak is lowered at most."""


def in_place(program_draft: Draft, trials: Trials) -> tuple[Draft, list[str]] | None:
    """The draft with ops done in place until the peak goes no lower, and their names.

    Only the op at the peak matters: elsewhere an op in place lowers nothing.
    """
    draft, done = program_draft, list[str]()
    best: tuple[Draft, list[str]] | None = None
    facts = Facts(draft.program)
    if not facts.is_known:
        return None
    for _ in range(ROUNDS):
        changed = done_at(draft, facts, facts.peaks, trials)
        if changed is None:
            break
        draft, names = changed
        done = [*done, *names]
        lower = Facts(draft.program)
        if lower.peak_bytes < facts.peak_bytes:
            best = draft, done
        else:
            break
        facts = lower
    return best


def done_at(
    draft: Draft, facts: Facts, places: list[int], trials: Trials
) -> tuple[Draft, list[str]] | None:
    """The draft with each of these ops in place; None if one of them cannot be."""
    ops, calls = list(draft.ops), dict(draft.calls)
    for place in places:
        op = ops[place]
        found = next(
            (
                found
                for value, now in zip(op.operands, facts.ops[place].operands, strict=True)
                if op.name not in calls
                and is_free(facts, place, now)
                and (found := trials.in_place(op, value))
            ),
            None,
        )
        if found is None:
            return None
        ops[place], calls[op.name] = found
    return evolve(draft, ops=tuple(ops), calls=calls), [ops[place].name for place in places]


def is_free(facts: Facts, place: int, value: Value) -> bool:
    """Whether op number `place` may leave its result in the storage of an operand."""
    op = facts.ops[place]
    storage = facts.storage(value)
    if op.kind is not OpKind.CALL or storage is None or not op.effects.repeatable:
        return False
    if op.effects.writes or (facts.is_entry(storage) and not is_given_away(facts, storage)):
        return False
    shared = any(
        not numbers(facts.aliases.facts[other.index]).isdisjoint((storage, ANY))
        for other in op.operands
        if other is not value
    )
    return not shared and facts.last_use(storage) == op.index


def is_given_away(facts: Facts, storage: int) -> bool:
    """Whether the caller has given away every value of an entry storage."""
    known = facts.aliases.allocations.entry
    entries = [e for e in facts.program.entry.values if known[e.value.index] == storage]
    return all(entry.donated for entry in entries)
