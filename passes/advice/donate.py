"""Donate: the caller gives inputs away, so they live until their last use and no longer.

Where that is an elementwise op at the peak, its result takes the input's place.  An input that
the program writes or returns, or that shares storage with what is not given, stays the caller's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from passes.advice.draft import Draft
from passes.advice.facts import Facts
from passes.advice.inplace import ROUNDS, done_at, is_given_away
from passes.program import Role, Value

if TYPE_CHECKING:
    from passes.frontends.trials import Trials


def donate(start: Draft, trials: Trials) -> tuple[Draft, list[str]] | None:
    """The draft with inputs given away until the peak goes no lower, and the names of ops that
    are done in place of one."""
    draft, done = start, list[str]()
    facts = Facts(draft.program)
    best: tuple[Draft, list[str]] | None = None
    if not facts.is_known:
        return None
    for _ in range(ROUNDS):
        for place in facts.peaks:
            now = Facts(draft.program)
            if now.levels[place] < facts.peak_bytes:
                continue  # by what was given for another op
            changed = _lower_at(draft, now, place, trials)
            if changed is None:
                return best
            draft, names = changed
            done = [*done, *names]
        lower = Facts(draft.program)
        if lower.peak_bytes >= facts.peak_bytes:
            return best
        facts, best = lower, (draft, done)
    return best


def _lower_at(
    draft: Draft, facts: Facts, place: int, trials: Trials
) -> tuple[Draft, list[str]] | None:
    """The draft with less alive at one op; None if no donation brings that about."""
    free = donatable(facts)
    dead = {s for s in free if facts.nbytes(s) and not facts.is_alive(s, place)}
    if dead:
        return _given(draft, facts, free, dead), []
    used = {s for s in free if s in facts.touched[place]}
    given_before = any(
        facts.is_entry(s) and is_given_away(facts, s) for s in facts.touched[place] if s >= 0
    )
    given = _given(draft, facts, free, used)
    if not used and not given_before:
        return None
    return done_at(given, Facts(given.program), [place], trials)


def _given(draft: Draft, facts: Facts, free: dict[int, list[Value]], storages: set[int]) -> Draft:
    old = dict(zip(facts.program.entry.values, draft.source.entry.values, strict=True))
    names = {value for storage in storages for value in free[storage]}
    given = [old[entry].value for entry in facts.program.entry.values if entry.value in names]
    return evolve(draft, donated=draft.donated | frozenset(given))


def donatable(facts: Facts) -> dict[int, list[Value]]:
    """The values of each entry storage that may be given away and is not yet."""
    found: dict[int, list[Value]] = {}
    kept: set[int] = set()
    for entry in facts.program.entry.values:
        storage = facts.aliases.allocations.entry[entry.value.index]
        found.setdefault(storage, []).append(entry.value)
        if entry.role is not Role.INPUT or entry.donated:
            kept.add(storage)
        copied_into = any(k.role is Role.INPUT and k.name == entry.name for k in facts.program.kept)
        if copied_into:  # by the caller, afterwards
            kept.add(storage)
    kept |= {*facts.returned, *facts.writes, *facts.uncertain}
    return {storage: values for storage, values in found.items() if storage not in kept}
