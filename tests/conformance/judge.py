"""One captured call: what the passes claim of it against its run on real tensors.

missed     a storage that two values share, or that an op writes, and no claim of it
false      a certain claim of sharing or writing that no run shows
short      fewer bytes claimed alive than there are
uncertain  ops answered with "may" or "unknown"
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

import passes
from passes import UNKNOWN, Aliases, Program, StorageClass, Value
from passes.program import Op, OpKind, Origin
from tests.oracle.run import Run

Classes = frozenset[StorageClass]


@frozen
class Verdict:
    """What was found; each entry names an op and says what."""

    missed: tuple[str, ...] = ()
    false: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    uncertain: tuple[str, ...] = ()


def judge(program: Program, run: Run, *others: Run) -> Verdict:
    """Compare every claim with the run of the same graph.

    `others` are runs on other data, for writes that leave the bytes as they were.
    """
    aliases = passes.aliases(program)
    real = _real_storages(program, run)
    found = [*_sharing(aliases, real), *_writes(program, aliases, real, (run, *others))]
    return Verdict(
        missed=tuple(text for kind, text in found if kind == "missed"),
        false=tuple(text for kind, text in found if kind == "false"),
        short=tuple(_short(program, run)),
        uncertain=tuple(_uncertain(program, aliases, run)),
    )


def _real_storages(program: Program, run: Run) -> dict[Value, int]:
    """The storage that each value had in the run: ops are nodes, leaves are in order.

    Of an op that was not known to return so many tensors no value has any.
    """
    found: dict[Value, int] = {}
    for op in program.ops:
        if op.kind is not OpKind.OUTPUT and len(op.results) == len(run.storages[op.name]):
            for value, number in zip(op.results, run.storages[op.name], strict=True):
                found.setdefault(value, number)
    return found


def exact(classes: Classes) -> bool:
    """Whether this says which storage it is."""
    return len(classes) == 1 and not any(c.storage.earlier or c.storage is UNKNOWN for c in classes)


def _meet(one: Classes, other: Classes) -> bool:
    return bool(one & other) or any(c.storage is UNKNOWN for c in one | other)


def _of(aliases: Aliases, value: Value) -> Classes:
    return frozenset(map(aliases.class_of, aliases.pointees(value)))


def _sharing(aliases: Aliases, real: dict[Value, int]) -> Iterator[tuple[str, str]]:
    claims = {value: _of(aliases, value) for value in real}
    values = list(real)
    for place, value in enumerate(values):
        for other in values[:place]:
            shares = real[value] == real[other]
            if shares and not _meet(claims[value], claims[other]):
                yield "missed", f"{value} shares the storage of {other}"
            if not shares and aliases.must_alias(value, other):
                yield "false", f"{value} does not share the storage of {other}"


def _writes(
    program: Program, aliases: Aliases, real: dict[Value, int], runs: tuple[Run, ...]
) -> Iterator[tuple[str, str]]:
    before: dict[int, list[Value]] = {}
    for op in program.ops:
        if op.kind is OpKind.OUTPUT:
            continue
        claim = aliases.written_by(op)
        certain = _surely_written(aliases, op)
        changed = set[int]().union(*(run.changed[op.name] for run in runs))
        written = set[int]().union(*(run.written[op.name] for run in runs))
        sure = op.effects.origin is Origin.OBSERVED
        # Bytes of a storage of another size differ, and that is no write.
        resized = [_of(aliases, op.operands[place]) for place, _ in op.effects.resizes]
        for number, values in before.items():
            for value in values:
                classes = _of(aliases, value)
                told = any(_meet(classes, known) for known in (claim, *resized))
                if number in changed and not told:
                    yield "missed", f"{op} writes {value}"
                false = number not in written and runs[0].nbytes[number]
                if sure and false and exact(classes) and classes <= certain:
                    yield "false", f"{op} does not write {value}"
        for value in op.results:
            if value in real:
                before.setdefault(real[value], []).append(value)


def _surely_written(aliases: Aliases, op: Op) -> Classes:
    """Of the classes that an op writes, or one inside it, those of operands that are one each."""
    inside = aliases.program.all_ops[op.first_index : op.index + 1]
    operands = [_of(aliases, one.operands[p]) for one in inside for p in one.effects.writes]
    return aliases.written_by(op) & frozenset[StorageClass]().union(*filter(exact, operands))


def _short(program: Program, run: Run) -> Iterator[str]:
    memory = passes.memory(program)
    if memory.unsized:
        return
    for op in program.ops:
        if memory.at(op) < run.alive[op.name]:
            yield f"{op.target}: {memory.at(op)} bytes, and {run.alive[op.name]} are alive"


def _uncertain(program: Program, aliases: Aliases, run: Run) -> Iterator[str]:
    for op in program.ops:
        if op.kind is OpKind.OUTPUT:
            continue
        why = _why(op, aliases, len(run.storages[op.name]))
        if why is not None:
            yield f"{op.target}: {why}"


def _why(op: Op, aliases: Aliases, leaves: int) -> str | None:
    if op.effects.origin is Origin.ANYTHING:
        return "may do anything"
    if len(op.results) != leaves:
        return "how many tensors it returns is not known"
    if not all(map(exact, aliases.storages(op))):
        return "may be one of several storages"
    return None


def disagreements(one: Program, other: Program) -> Iterator[str]:
    """Certain answers of two programs of one graph that differ."""
    first, second = passes.aliases(one), passes.aliases(other)
    for op, same in zip(one.ops, other.ops, strict=True):
        unlike = len(op.results) != len(same.results)
        if unlike or Origin.ANYTHING in (op.effects.origin, same.effects.origin):
            continue
        for value, claim, counter in zip(
            op.results, first.storages(op), second.storages(same), strict=True
        ):
            if exact(claim) and exact(counter) and _ids(claim) != _ids(counter):
                yield f"{value} is {_ids(claim)} and {_ids(counter)}"
        claim, counter = first.written_by(op), second.written_by(same)
        certain = all(
            claim == _surely_written(aliases, one)
            for claim, aliases, one in ((claim, first, op), (counter, second, same))
        )
        if certain and _ids(claim) != _ids(counter):
            if op.effects.origin is same.effects.origin is Origin.OBSERVED:
                yield f"{op} writes {_ids(claim)} and {_ids(counter)}"
            elif not set(_ids(claim)) <= set(_ids(counter)):
                yield f"{op} writes {_ids(claim)} and at most {_ids(counter)}"
    for storage, twin in zip(first.all_storages, second.all_storages, strict=False):
        if storage.name != twin.name:
            return
        if twin.nbytes is not None and (storage.nbytes or 0) > twin.nbytes:
            yield f"{storage.name} has {storage.nbytes} bytes and {twin.nbytes}"


def _ids(classes: Classes) -> list[str]:
    return sorted(c.id for c in classes)
