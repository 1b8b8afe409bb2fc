"""Reuse: what is computed twice, or copied though nobody writes either copy, exists once.

A duplicate is the same op on the same operands, with no write to these in between and none to
either result.  A copy can go where source and copy have the same layout and size, neither is
written while the copy lives, and the caller sees no sharing that was not there: a copy
that is returned stays if its source is returned, too, or is there at entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve

from passes.advice.draft import Draft, substituted
from passes.advice.facts import Facts
from passes.advice.inplace import ROUNDS
from passes.program import Fresh, Op, OpKind, Value

if TYPE_CHECKING:
    from passes.frontends.trials import Trials


def reuse(start: Draft, trials: Trials) -> tuple[Draft, list[str]] | None:
    """The draft without duplicates and copies that are alive at the peak, and their names."""
    draft, gone = start, list[str]()
    best: tuple[Draft, list[str]] | None = None
    facts = Facts(draft.program)
    if not facts.is_known:
        return None
    for _ in range(ROUNDS):
        found = _superfluous(facts, trials)
        if not found:
            break
        names = [facts.ops[place].name for place in found]
        draft, gone = _without(draft, facts, found), [*gone, *names]
        lower = Facts(draft.program)
        if lower.peak_bytes < facts.peak_bytes:
            best = draft, gone
        elif lower.peak_bytes > facts.peak_bytes:
            break
        facts = lower
    return best


def _superfluous(facts: Facts, trials: Trials) -> dict[int, dict[Value, Value]]:
    """Ops whose results are alive at the peak and exist already, with what these are."""
    peaks = facts.peaks
    numbered = _numbered(facts)
    found: dict[int, dict[Value, Value]] = {}
    replaced: set[Value] = set()
    for place, op in enumerate(facts.ops):
        if not _allocates_and_keeps(facts, op):
            continue
        storages = [facts.storage(value) for value in op.results]
        if not any(s is not None and facts.is_alive(s, p) for s in storages for p in peaks):
            continue
        same = _copy_of(facts, place, trials) or _duplicate_of(facts, place, numbered)
        if not same or not _can_replace(facts, op):
            continue
        # One at a time of those that hang together; the next round finds the others.
        if replaced.isdisjoint((*op.operands, *same.values())):
            found[place] = same
            replaced |= same.keys()
    return found


def _allocates_and_keeps(facts: Facts, op: Op) -> bool:
    """Whether an op does nothing but allocate results that nobody ever writes."""
    if op.kind is not OpKind.CALL or not op.effects.repeatable or op.effects.writes or op.regions:
        return False
    return bool(op.results) and all(
        isinstance(effect, Fresh)
        and not facts.writes.get(value.index)
        and value.index not in facts.uncertain
        for value, effect in zip(op.results, op.effects.results, strict=True)
    )


def _can_replace(facts: Facts, op: Op) -> bool:
    users = [facts.ops[place] for value in op.results for place in facts.users.get(value, ())]
    return not any(user.regions for user in users)


def _copy_of(facts: Facts, place: int, trials: Trials) -> dict[Value, Value] | None:
    op = facts.ops[place]
    if not trials.is_copy(op) or not op.operands:
        return None
    source, result = op.operands[0], op.results[0]
    storage = facts.storage(source)
    if storage is None or source.type != result.type or storage in facts.uncertain:
        return None
    if facts.nbytes(storage) != facts.nbytes(result.index) or not trials.stays_like(op, source):
        return None
    if facts.is_written(storage, place, len(facts.ops)):
        return None
    kept = result.index in facts.returned
    if kept and (facts.is_entry(storage) or storage in facts.returned):
        return None
    return {result: source}


def _numbered(facts: Facts) -> dict[int, list[int]]:
    """For ops, earlier ones that have computed the same from the same."""
    leaders: dict[Value, Value] = {}
    alike: dict[object, list[int]] = {}
    found: dict[int, list[int]] = {}
    numbers = {op.node for op in facts.ops if not op.results}
    for place, op in enumerate(facts.ops):
        plain = op.effects.repeatable and not op.effects.writes and not op.regions
        if op.node is None or op.renames or not (op.kind is OpKind.ATTRIBUTE or plain):
            continue
        operands = tuple([leaders.get(value, value) for value in op.operands])
        earlier = alike.setdefault((_call(op, numbers), operands), [])
        found[place] = [first for first in earlier if _is_same(facts, first, place)]
        if found[place]:
            first = facts.ops[found[place][0]]
            for value, same in zip(op.results, first.results, strict=True):
                leaders[value] = leaders.get(same, same)
        earlier.append(place)
    return found


def _call(op: Op, numbers: set[object]) -> object:
    """What an op calls and how, but for the tensors it is given."""
    # Any: an fx node and its arguments, and torch is not imported here.
    node: Any = op.node
    places = {given: place for place, given in enumerate(node.all_input_nodes)}

    def shape(argument: Any) -> object:
        if isinstance(argument, (tuple, list)):
            return (type(argument).__name__, *map(shape, argument))
        if isinstance(argument, dict):
            return tuple((name, shape(part)) for name, part in sorted(argument.items()))
        if isinstance(argument, slice):
            return ("slice", *map(shape, (argument.start, argument.stop, argument.step)))
        if hasattr(argument, "all_input_nodes"):
            return argument if argument in numbers else places[argument]
        # 1, 1.0 and True are equal, and so are 0.0 and -0.0.
        return type(argument).__name__, repr(argument)

    return node.op, node.target, shape(node.args), shape(node.kwargs)


def _is_same(facts: Facts, first: int, place: int) -> bool:
    """Whether two like ops find and leave the same: nothing that they use is written in
    between, nothing new that they give ever."""
    one, other = facts.ops[first], facts.ops[place]
    if facts.is_divided(first, place):
        return False
    between = {*facts.touched[first], *facts.touched[place]}
    if any(facts.is_written(storage, first, place) for storage in between):
        return False
    given = [facts.storage(value) for value in (*one.results, *other.results)]
    used = {facts.storage(value) for value in (*one.operands, *other.operands)}
    return all(s is not None and (s in used or not facts.writes.get(s)) for s in given)


def _duplicate_of(
    facts: Facts, place: int, numbered: dict[int, list[int]]
) -> dict[Value, Value] | None:
    op = facts.ops[place]
    for first in numbered.get(place, ()):
        leader = facts.ops[first]
        same = [v.type for v in leader.results] == [v.type for v in op.results]
        if same and _allocates_and_keeps(facts, leader) and _may_share(facts, leader, op):
            return dict(zip(op.results, leader.results, strict=True))
    return None


def _may_share(facts: Facts, one: Op, other: Op) -> bool:
    """Whether results of two ops may be one tensor, for all that the caller does with them.

    What it keeps, gradients or state, it may write.
    """
    kept = {facts.storage(known.value) for known in facts.program.kept}
    both = [{facts.storage(value) for value in op.results} for op in (one, other)]
    returned = all(not facts.returned.isdisjoint(storages) for storages in both)
    return not returned or kept.isdisjoint(both[0] | both[1])


def _without(draft: Draft, facts: Facts, found: dict[int, dict[Value, Value]]) -> Draft:
    old = {
        now: was
        for place, op in enumerate(facts.ops)
        for now, was in zip(op.defines, draft.ops[place].defines, strict=True)
    }
    instead = {old[a]: old[b] for same in found.values() for a, b in same.items()}
    ops = []
    for place, op in enumerate(draft.ops):
        if place in found:
            continue
        if op.kind is OpKind.OUTPUT:
            operands = dict.fromkeys(instead.get(value, value) for value in op.operands)
            effects = evolve(op.effects, reads=frozenset(range(len(operands))))
            ops.append(evolve(op, operands=tuple(operands), effects=effects))
        else:
            ops.append(substituted(op, instead))
    returned = {a: instead.get(b, b) for a, b in draft.instead.items()}
    return evolve(draft, ops=tuple(ops), instead={**returned, **instead})
