"""Recompute: drop a value that lives across the peak, and compute it again before its next use.

What is computed again depends on what is still there: entry values, and storages that live
until then anyway.  Never recomputed is what draws random numbers, writes, runs code that is not
torch's, has sub-graphs, or reads what has been overwritten since.  Chosen are, at each peak,
the storages that cost the fewest FLOPs per byte.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from passes.advice.draft import Draft, Names, copied, substituted
from passes.advice.facts import Facts
from passes.program import Op, OpKind, Value

if TYPE_CHECKING:
    from passes.frontends.trials import Trials

LONGEST = 40
"""Ops that are done again for one storage, at most."""
STEP = 0.02
"""Of the peak: what a round tries to take off it."""
PATIENCE = 8
"""Rounds that may bring nothing before the search ends."""


@frozen(eq=False)
class Recomputed:
    """A draft that computes some storages twice, and what that costs."""

    draft: Draft
    dropped: tuple[str, ...]
    flops: int


@frozen(eq=False)
class _Cone:
    """Ops to do again, in order, before op number `use`, so that `storage` may be dropped."""

    storage: int
    use: int
    places: tuple[int, ...]
    flops: int


@frozen
class Effort:
    """How far to go: FLOPs per byte dropped, at most; whether an op may be done more than once
    again; seconds to search."""

    dearest: float
    often: bool
    seconds: float


def recompute(
    start: Draft, trials: Trials, effort: Effort, budget: int | None
) -> Recomputed | None:
    """The draft with the lowest peak that was found, or the first within `budget` bytes."""
    deadline = time.monotonic() + effort.seconds
    draft, facts = start, Facts(start.program)
    if not facts.is_known:
        return None
    lowest, best = facts.peak_bytes, None
    dropped: list[str] = []
    flops, idle = 0, 0
    refused: set[str] = set()
    share = STEP
    while idle < PATIENCE and time.monotonic() < deadline:
        if budget is not None and lowest <= budget:
            break
        wanted = max(int(facts.peak_bytes * share), facts.peak_bytes - (budget or lowest))
        cones = _chosen(draft, facts, trials, effort, wanted, refused)
        if not cones:
            break
        tried = _with(draft, facts, cones)
        names = [facts.aliases.allocations.storage(cone.storage).name for cone in cones]
        found = Facts(tried.program)
        if found.peak_bytes > facts.peak_bytes:
            # One of them does harm where it is used again; singly, it will be known which.
            if len(cones) == 1:
                refused.update(names)
            share = 0.0
            idle += len(cones) > 1
            continue
        share = STEP
        draft, facts = tried, found
        dropped += names
        flops += sum(cone.flops for cone in cones)
        idle += 1
        if facts.peak_bytes < lowest:
            lowest, best, idle = facts.peak_bytes, Recomputed(draft, tuple(dropped), flops), 0
    return best


def _chosen(
    draft: Draft, facts: Facts, trials: Trials, effort: Effort, wanted: int, refused: set[str]
) -> list[_Cone]:
    """The cheapest cones at the first peak, until they free what is wanted."""
    peak = facts.peaks[0]
    known = {op.name for op in draft.source.ops}
    done = set[object]() if effort.often else {o.node for o in draft.ops if o.name not in known}
    found = []
    for storage in facts.touches:
        name = facts.aliases.allocations.storage(storage).name if storage >= 0 else ""
        if storage >= 0 and name not in refused and facts.nbytes(storage):
            cone = _cone(draft, facts, trials, storage, peak)
            if cone is not None and cone.flops <= effort.dearest * facts.nbytes(storage):
                found.append((cone.flops / facts.nbytes(storage), storage, cone))
    chosen: list[_Cone] = []
    needed, gone = set[int](), set[int]()
    freed = 0
    for _, storage, cone in sorted(found, key=lambda one: one[:2]):
        used = {s for place in cone.places for s in facts.touched[place]}
        again = {draft.ops[place].node for place in cone.places}
        if storage in needed or not used.isdisjoint(gone) or not again.isdisjoint(done):
            continue
        chosen.append(cone)
        gone.add(storage)
        needed |= used
        if not effort.often:
            done |= again
        freed += facts.nbytes(storage)
        if freed >= wanted:
            break
    return chosen


def _cone(draft: Draft, facts: Facts, trials: Trials, storage: int, peak: int) -> _Cone | None:
    """What is needed to drop a storage that lives across the peak untouched."""
    touches = facts.touches[storage]
    late = [place for place in touches if place > peak]
    if not late or touches[0] >= peak or peak in touches:
        return None
    if facts.is_entry(storage) or storage in facts.returned or not _is_recomputable(facts, storage):
        return None
    use = late[0]
    users = [facts.ops[place] for place in late]
    if any(op.regions or op.kind is OpKind.OUTPUT for op in users):
        return None
    wanted = facts.across(storage, peak)
    places: set[int] = set()
    waiting = [facts.definer[value] for value in wanted]
    while waiting:
        place = waiting.pop()
        if place in places:
            continue
        op = facts.ops[place]
        plain = op.kind is OpKind.CALL and op.effects.repeatable and not op.effects.writes
        if not plain or op.regions or op.renames or len(places) == LONGEST:
            return None
        places.add(place)
        for value in op.operands:
            there = facts.storage(value)
            if there is None:
                return None
            is_kept = there != storage and (
                facts.is_entry(there) or facts.last_use(there) >= facts.ops[use].index
            )
            if is_kept and not facts.is_written(there, place, use):
                continue
            if value not in facts.definer or not _is_recomputable(facts, there):
                return None
            waiting.append(facts.definer[value])
    if facts.is_divided(min(places), use):
        return None
    costs = [trials.flops(draft.ops[place]) for place in sorted(places)]
    if None in costs:
        return None
    return _Cone(storage, use, tuple(sorted(places)), sum(cost or 0 for cost in costs))


def _is_recomputable(facts: Facts, storage: int) -> bool:
    """Whether a storage holds what one op has put there, and values are known to be it."""
    return not facts.writes.get(storage) and storage not in facts.uncertain


def _with(draft: Draft, facts: Facts, cones: list[_Cone]) -> Draft:
    """The draft that drops the storages of some cones."""
    names = Names({op.name for op in draft.source.all_ops} | {op.name for op in draft.ops})
    peak = facts.peaks[0]
    inserted: dict[int, list[Op]] = {}
    instead: dict[int, dict[Value, Value]] = {}
    for cone in cones:
        again: dict[Value, Value] = {}
        for place in cone.places:
            op = draft.ops[place]
            made = copied(op, names.fresh(f"{op.name}_again"), again, draft.ops[cone.use].phase)
            again.update(zip(op.results, made.results, strict=True))
            inserted.setdefault(cone.use, []).append(made)
        for now in facts.across(cone.storage, peak):
            definer = facts.definer[now]
            old = draft.ops[definer].defines[facts.ops[definer].defines.index(now)]
            for place in facts.users[now]:
                if place > peak:
                    instead.setdefault(place, {})[old] = again[old]
    ops: list[Op] = []
    for place, op in enumerate(draft.ops):
        ops += inserted.get(place, ())
        ops.append(substituted(op, instead.get(place, {})))
    return evolve(draft, ops=tuple(ops))
