"""What people read of the peak: what it is for, why the largest storages are alive, what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from passes.advice.suggest import Advice
from passes.breakdown import Timelines
from passes.holding import Use
from passes.memory import Memory
from passes.printing import place, size
from passes.program import OpKind
from passes.report.text import header, table
from passes.storages import StorageClass

WAYS = ("category", "module", "source", "device")
"""Ways to say what bytes are for."""

SHOWN = 10
"""Rows of a table."""

EXPLAINED = 5
"""Storages that are explained."""

USES = 3
"""Uses that are told of each, from the last one back."""


def by(result: Memory, way: str) -> Iterator[str]:
    """Everything alive at the peak, entry included, by one of `WAYS`."""
    op = result.peak_at
    if op is None:
        return
    rows = [(levels[op.index], name) for name, levels in _ways(result)[way].items()]
    rows = sorted([(nbytes, name) for nbytes, name in rows if nbytes], key=lambda r: (-r[0], r[1]))
    yield ""
    yield f"everything at the peak, {size(sum(n for n, _ in rows))}, by {way}:"
    shown = [
        (f"  {size(nbytes):>10}", _relative(name) or f"(no {way})") for nbytes, name in rows[:SHOWN]
    ]
    yield from table(shown, (12,))
    if len(rows) > SHOWN:
        yield f"  {size(sum(n for n, _ in rows[SHOWN:])):>10}  in {len(rows) - SHOWN} more"


def _ways(result: Memory) -> Mapping[str, Timelines]:
    found = result.breakdown
    categories = {category.value: levels for category, levels in found.by_category.items()}
    return {
        "category": categories,
        "module": found.by_module,
        "source": found.by_source,
        "device": found.by_device,
    }


def explain(result: Memory) -> Iterator[str]:
    """Why each of the largest storages at the peak is alive."""
    op = result.peak_at
    if op is None:
        return
    yield ""
    yield f"why the largest are alive while {op.name} runs:"
    for found in result.alive_at(op)[:EXPLAINED]:
        yield from _why(result, found)


def _why(result: Memory, found: StorageClass) -> Iterator[str]:
    assert result.peak_at is not None
    why = result.liveness.why(found, result.peak_at)
    category = result.breakdown.category(found).value
    yield f"  {size(found.nbytes)}  {found.id}, {category}"
    if why.made_by is not None:
        source = place(why.made_by)
        yield f"    allocated by op {why.made_by.index}" + (f", {source}" if source else "")
    word = "held until"
    for use in reversed(why.uses[-USES:]):
        yield f"    {word} {_told(use)}"
        word = "used before by"
    if len(why.uses) > USES:
        yield f"    and by {len(why.uses) - USES} more before"


def _told(use: Use) -> str:
    through = "" if len(use.through) == 1 else f", as {' -> '.join(v.name for v in use.through)}"
    if use.op is None:
        return f"the program is over, where its caller sees it{through}"
    if use.op.kind is OpKind.OUTPUT and not use.op.path:
        return f"the program is over: it is returned{through}"
    source = place(use.op)
    return f"{use.op.name}, op {use.op.index}{through}" + (f", {source}" if source else "")


def advice(result: Advice) -> Iterator[str]:
    """The suggestions, best first."""
    yield from header(result.program)
    op = result.peak_at
    if op is None:
        yield "the program has no ops"
        return
    yield f"peak  {size(result.peak_bytes)} of everything, while {op.name} runs"
    if result.budget is not None:
        yield f"budget {size(result.budget)}: {_within(result)}"
    if not result.suggestions:
        yield "nothing was found that lowers it; the searches are bounded"
    for number, found in enumerate(result.suggestions, 1):
        yield ""
        cost = f", for {_count(found.extra_flops)}FLOPs more" if found.extra_flops else ""
        yield f"{number}. {found.kind.value}: {size(found.saved_bytes)} less{cost}"
        yield f"   {_relative(found.text)}"
        yield f"   the peak is then {size(found.peak_bytes)}, while {found.peak_at} runs"
    if result.suggestions:
        yield ""
        yield "each was verified by analysing the changed program; savings do not add up"
        yield "the searches are bounded: there may be better ones"
    for note in result.notes:
        yield f"note: {note}"


def _within(result: Advice) -> str:
    if result.budget is not None and result.peak_bytes <= result.budget:
        return "the peak is within it already"
    found = [str(result.suggestions.index(one) + 1) for one in result.within_budget]
    if found:
        return f"the peak gets within it by {' or '.join(found)}"
    return (
        "no one change was found that gets the peak within it; to see what others do after "
        "one, ask again of the changed program"
    )


def _count(number: int) -> str:
    amount = float(number)
    for unit in ("", "k", "M", "G"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit else f"{number} "
        amount /= 1000
    return f"{amount:.0f} T"


def _relative(text: str) -> str:
    """Files as seen from where the reader stands."""
    return text.replace(os.getcwd() + os.sep, "")
