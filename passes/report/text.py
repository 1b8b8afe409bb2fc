"""What people read: the program with what lives and dies, and the memory summary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from passes.alias import Aliases
from passes.errors import CaptureError, ProgramError
from passes.fit import Fit
from passes.liveness import Liveness
from passes.memory import Memory
from passes.printing import listed, place, size
from passes.program import Op, OpKind, Program, Role
from passes.storages import UNKNOWN, Storage
from passes.symbolic.memory import SymbolicMemory

BLOCKS = " ▁▂▃▄▅▆▇█"
TOLD_ALIVE = 10


def header(program: Program) -> Iterator[str]:
    """What the program is, and what its facts rest on."""
    yield f"{program.name}: {len(program.all_ops)} ops, captured by {program.capture}"
    for note in (program.entry.sharing, *program.notes):
        yield f"  note: {note}"
    assumed = program.assumed
    if assumed:
        names = listed([f"{op.name} ({op.target})" for op in assumed])
        yield (
            f"  warning: {len(assumed)} ops were not observed; their effects are assumed "
            f"from their schema, or they may do anything: {names}"
        )


def show(program: Program) -> Iterator[str]:
    """The program, one op a line: its storage classes, and which begin (+) and end (-)."""
    aliases, liveness = Aliases.of(program), Liveness.of(program)
    begins: dict[int, list[str]] = {}
    ends: dict[int, list[str]] = {}
    # What is there at entry is shown where the program names it.
    given = {
        aliases.allocations.entry[value.index]: op.index
        for op in reversed(program.ops)
        if op.kind is OpKind.INPUT
        for value in op.results
    }
    for number, spans in liveness.spans.items():
        storage = aliases.allocations.storage(number)
        if storage is UNKNOWN:
            continue
        for start, stop in spans:
            start = given.get(number, start)
            begins.setdefault(start, []).append(f"+{storage}")
            ends.setdefault(stop, []).append(f"-{storage}")
    last = len(program.all_ops) - 1
    yield from header(program)
    yield "  + begins to live, - dies, = storage of the result, ! writes"
    rows = [
        (
            f"{'  ' * len(op.path)}{op.name}",
            op.call,
            ", ".join(str(value.type) for value in op.results),
            " ".join(
                [
                    *_storage_words(op, aliases),
                    *begins.get(op.index, ()),
                    *(ends.get(op.index, ()) if op.index != last else ()),
                ]
            ),
        )
        for op in program.all_ops
    ]
    yield from table(rows, (28, 60, 28))


def _storage_words(op: Op, aliases: Aliases) -> Iterator[str]:
    """`=class` per result that is not a storage of its own, `!class` per write."""
    if op.kind is not OpKind.INPUT:
        for value in op.results:
            found = aliases.pointees(value)
            if len(found) != 1 or next(iter(found)).op is not op:
                yield "=" + "|".join(sorted(map(str, found)))
    for written in sorted(map(str, aliases.written_by(op))):
        yield f"!{written}"


def memory(result: Memory) -> Iterator[str]:
    """Peak, where it is, what is alive there, and the timeline."""
    program = result.program
    yield from header(program)
    op = result.peak_at
    if op is None:
        yield "the program has no ops"
        return
    yield f"peak  {size(result.peak_bytes)} of intermediates, while {op.name} runs"
    yield f"      op {op.index} of {len(program.all_ops)}: {op.call}"
    if op.module:
        yield f"      module {op.module}"
    if op.source:
        yield f"      {place(op)}"
    figures = ", ".join(
        f"{_PLURAL[role]} {size(nbytes)}"
        for role, nbytes in result.entry_bytes.items()
        if nbytes or role not in (Role.GRADIENT, Role.STATE)  # of training steps only
    )
    yield f"apart from it: {figures}"
    yield ""
    alive = result.alive_at(op)
    yield f"alive at the peak ({len(alive)} storage classes):"
    rows = [(f"  {size(c.storage.most):>10}", c.id, _where(c.storage)) for c in alive[:TOLD_ALIVE]]
    yield from table(rows, (12, 40, 60))
    if len(alive) > TOLD_ALIVE:
        rest = sum(c.storage.most or 0 for c in alive[TOLD_ALIVE:])
        yield f"  {size(rest):>10}  in {len(alive) - TOLD_ALIVE} more"
    yield ""
    yield f"timeline of {len(result.timeline)} ops, full height {size(result.peak_bytes)}:"
    yield from plot(result.timeline)
    if program.dynamic is not None:
        yield from symbolic(program)
    yield "temporaries inside one op are not counted"
    if result.bounded:
        names = listed([storage.name for storage in result.bounded])
        yield f"{len(result.bounded)} storages count as the most the data can make them: {names}"
    if result.unsized:
        names = listed([storage.name for storage in result.unsized])
        count = len(result.unsized)
        yield f"warning: {count} storages count as 0 bytes, since their size is not known: {names}"


def fit(result: Fit) -> Iterator[str]:
    """Whether it fits; of a program with dynamic dimensions also how large each can be."""
    yield str(result)
    if result.program.dynamic is not None:
        yield from symbolic(result.program)
        for symbol in SymbolicMemory.of(result.program).symbols:
            yield from _largest_size(result, symbol.name)


def _largest_size(result: Fit, name: str) -> Iterator[str]:
    try:
        found = result.largest_size(name)
    except ProgramError as error:
        yield f"the largest {name} that fits is not known: {error}"
        return
    others = [s for s in SymbolicMemory.of(result.program).symbols if s.name != name]
    where = "".join(f", {other.name} {other.example}" for other in others)
    if found.limit == "nothing":
        yield f"every {name} fits{where}"
    elif found.value is None:
        least = f": the smallest needs {size(found.next_bytes)}" if found.next_bytes else ""
        yield f"no {name} fits{where}{least}"
    else:
        yield f"largest {name} that fits: {found.value}{where}; needs {size(found.total_bytes)}"
        if found.limit == "range":
            yield "  its range ends there"
        elif found.next_bytes is not None:
            missing = size(found.next_bytes - result.budget)
            yield f"  for {found.value + 1}, {missing} would be missing"


def symbolic(program: Program) -> Iterator[str]:
    """The peak as a function of the dynamic dimensions, and what these are."""
    found = SymbolicMemory.of(program)
    yield ""
    try:
        yield from found.lines()
    except CaptureError as error:
        yield f"the peak as a function of dynamic dimensions is not known: {error}"
    yield ""


_PLURAL = {
    Role.INPUT: "inputs",
    Role.PARAMETER: "parameters",
    Role.BUFFER: "buffers",
    Role.CONSTANT: "constants",
    Role.GRADIENT: "gradients",
    Role.STATE: "optimizer state",
}


def _where(storage: Storage) -> str:
    """The module and line that allocate a storage."""
    if storage.op is None:
        return ""
    return storage.op.module or place(storage.op)


def plot(levels: Sequence[int], width: int = 72, height: int = 6) -> Iterator[str]:
    """Levels over time as rows of block characters; each column shows its maximum."""
    count = min(width, len(levels))
    columns = [
        max(
            levels[
                k * len(levels) // count : max(
                    k * len(levels) // count + 1, (k + 1) * len(levels) // count
                )
            ]
        )
        for k in range(count)
    ]
    top = max(columns, default=0) or 1
    filled = [round(level * height * 8 / top) for level in columns]
    for row in range(height - 1, -1, -1):
        yield "  |" + "".join(BLOCKS[max(0, min(8, fill - row * 8))] for fill in filled)
    yield "  +" + "-" * count


def table(rows: Iterable[tuple[str, ...]], limits: Sequence[int]) -> Iterator[str]:
    """Columns aligned, each at most as wide as its limit; the last one is free."""
    rows = list(rows)
    widths = [
        min(limit, max((len(row[column]) for row in rows), default=0))
        for column, limit in enumerate(limits)
    ]
    for row in rows:
        cells = [
            f"{cell if len(cell) <= width else cell[: width - 1] + '…':<{width}}"
            for cell, width in zip(row, widths, strict=False)
        ]
        yield "  ".join([*cells, *row[len(limits) :]]).rstrip()
