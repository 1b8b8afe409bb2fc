"""Keep a part: a small view that is all that keeps a large storage alive is copied out of it.

The copy is made where the view is; nothing writes the storage from there on.  A view whose
layout a copy would change is copied only if it is returned and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from passes.advice.draft import Draft, Names, substituted
from passes.advice.facts import Facts
from passes.advice.inplace import ROUNDS
from passes.program import Effects, Fresh, Op, OpKind, Value

if TYPE_CHECKING:
    from passes.frontends.trials import Trials

SMALLER = 2
"""How many times smaller than the storage the parts are, together, at least."""


def keep_parts(start: Draft, trials: Trials) -> tuple[Draft, list[str]] | None:
    """The draft with parts copied where that lowers the peak, and the ops that make the parts."""
    draft, cut = start, list[str]()
    best: tuple[Draft, list[str]] | None = None
    facts = Facts(draft.program)
    if not facts.is_known:
        return None
    for _ in range(ROUNDS):
        parts = {value for place in facts.peaks for value in _parts(facts, place, trials)}
        if not parts:
            break
        draft, names = _copied(draft, facts, parts, trials)
        cut = [*cut, *names]
        lower = Facts(draft.program)
        if lower.peak_bytes >= facts.peak_bytes:
            break
        best, facts = (draft, cut), lower
    return best


def _parts(facts: Facts, peak: int, trials: Trials) -> list[Value]:
    """The values to copy so that the storages they are views of die before the peak."""
    found: list[Value] = []
    for storage, touches in facts.touches.items():
        if storage < 0 or facts.is_entry(storage) or storage in facts.uncertain:
            continue
        if touches[0] >= peak or touches[-1] <= peak or peak in touches:
            continue
        views = facts.across(storage, peak)
        sizes = [trials.copy(value.type) for value in views]
        nbytes = sum(size[1] for size in sizes if size)
        if (
            None not in sizes
            and nbytes * SMALLER <= facts.nbytes(storage)
            and all(_is_copyable(facts, value, len(views), trials) for value in views)
        ):
            found += views
    return found


def _is_copyable(facts: Facts, value: Value, together: int, trials: Trials) -> bool:
    storage = facts.storage(value)
    assert storage is not None
    made = facts.definer[value]
    op = facts.ops[made]
    users = [facts.ops[place] for place in facts.users[value] if place > made]
    if op.renames or facts.is_written(storage, made, len(facts.ops)):
        return False
    if any(user.regions for user in users):
        return False
    returned = any(user.kind is OpKind.OUTPUT for user in users)
    if returned and (
        together > 1 or sum(facts.storage(v) == storage for v in facts.program.outputs) > 1
    ):
        return False
    copy = trials.copy(value.type)
    same = copy is not None and value.type is not None and copy[0].stride == value.type.stride
    same = same and trials.stays_dense(op, value)
    return same or all(user.kind is OpKind.OUTPUT for user in users)


def _copied(
    draft: Draft, facts: Facts, parts: set[Value], trials: Trials
) -> tuple[Draft, list[str]]:
    names = Names({op.name for op in draft.source.all_ops} | {op.name for op in draft.ops})
    instead: dict[Value, Value] = {}
    made_at: dict[int, list[Op]] = {}
    calls = dict(draft.calls)
    for now in sorted(parts, key=lambda value: value.index):
        place = facts.definer[now]
        maker = draft.ops[place]
        old = maker.defines[facts.ops[place].defines.index(now)]
        name = names.fresh(f"{maker.name}_copy")
        copy = trials.copy(old.type)
        assert copy is not None, "asked before"
        instead[old] = Value(-1, name, copy[0])
        made_at.setdefault(place, []).append(
            _clone(maker, name, old, instead[old], copy[1], trials)
        )
        calls[name] = trials.clone
    ops: list[Op] = []
    for place, op in enumerate(draft.ops):
        if op.kind is OpKind.OUTPUT:
            operands = tuple([instead.get(value, value) for value in op.operands])
            ops.append(evolve(op, operands=operands))
        else:
            ops.append(substituted(op, instead))
        ops += made_at.get(place, ())
    returned = {a: instead.get(b, b) for a, b in draft.instead.items()}
    cut = [draft.ops[place].name for place in made_at]
    return evolve(draft, ops=tuple(ops), calls=calls, instead={**returned, **instead}), cut


def _clone(maker: Op, name: str, source: Value, result: Value, nbytes: int, trials: Trials) -> Op:
    effects = Effects((Fresh(nbytes),), frozenset((0,)), repeatable=True)
    return Op(
        index=0,
        name=name,
        kind=OpKind.CALL,
        target=trials.clone_name,
        operands=(source,),
        results=(result,),
        effects=effects,
        module=maker.module,
        phase=maker.phase,
        stack=maker.stack,
        arguments=(maker.name,),
    )
