"""What programs read: the same answers as plain dicts, lists, strings and numbers.

Fields keep their names and meanings between versions; new ones may be added.
"""

from __future__ import annotations

from attrs import asdict

from passes.advice.suggest import Advice
from passes.alias import Aliases
from passes.errors import CaptureError, ProgramError
from passes.fit import Fit
from passes.liveness import Liveness
from passes.memory import Memory
from passes.program import Op, Program
from passes.symbolic.memory import SymbolicMemory


def about(program: Program) -> dict[str, object]:
    """What the program is, and what its facts rest on."""
    return {
        "name": program.name,
        "capture": program.capture,
        "notes": [program.entry.sharing, *program.notes],
        "assumed": [op.name for op in program.assumed],
    }


def show(program: Program) -> dict[str, object]:
    """The program, its storage classes and their live ranges."""
    aliases, liveness = Aliases.of(program), Liveness.of(program)
    return {
        **about(program),
        "ops": program.to_rows(),
        "storage_classes": [
            {
                "id": found.id,
                "nbytes": found.nbytes,
                "members": sorted(value.name for value in found.members),
                "may_members": sorted(value.name for value in found.may_members),
                "live": [list(interval) for interval in liveness.range(found).intervals],
                "role": found.storage.role.value if found.storage.role else None,
            }
            for found in aliases.classes
        ],
    }


def memory(result: Memory) -> dict[str, object]:
    """Peak, what is alive there, and the timeline, in bytes."""
    op = result.peak_at
    return {
        **about(result.program),
        "peak_bytes": result.peak_bytes,
        "peak_at": None if op is None else _op(op),
        "alive_at_peak": []
        if op is None
        else [
            {"id": c.id, "nbytes": c.nbytes, "most": c.storage.most} for c in result.alive_at(op)
        ],
        "entry_bytes": {role.value: nbytes for role, nbytes in result.entry_bytes.items()},
        "timeline": list(result.timeline),
        "bounded": [storage.name for storage in result.bounded],
        "unsized": [storage.name for storage in result.unsized],
        "temporaries_counted": False,
        "symbolic": None if result.program.dynamic is None else symbolic(result.program),
    }


def fit(result: Fit) -> dict[str, object]:
    """`memory`, whether it fits, and what is needed in all, in bytes."""
    return {
        **memory(result.memory),
        "fits": result.fits,
        "budget": result.budget,
        "needed": result.needed,
        "margin": result.margin,
        "held_by_python": result.held_by_python,
        "by_category": {category.value: n for category, n in result.by_category.items()},
        "by_device": dict(result.by_device),
        "largest_sizes": None if result.program.dynamic is None else _largest_sizes(result),
    }


def _largest_sizes(result: Fit) -> list[dict[str, object]]:
    """How large each dynamic dimension can be while the others are as in the example."""
    found: list[dict[str, object]] = []
    for symbol in SymbolicMemory.of(result.program).symbols:
        row: dict[str, object] = {"symbol": symbol.name, "refused": None}
        try:
            found.append(row | asdict(result.largest_size(symbol.name)))
        except ProgramError as error:
            found.append(row | {"refused": str(error)})
    return found


def symbolic(program: Program) -> dict[str, object]:
    """The peak as a function of the dynamic dimensions; `refused` says why there is none."""
    found = SymbolicMemory.of(program)
    answer: dict[str, object] = {
        "symbols": [
            {
                "name": symbol.name,
                "places": list(symbol.places),
                "low": symbol.low,
                "high": symbol.high,
                "example": symbol.example,
            }
            for symbol in found.symbols
        ],
        "refused": None,
    }
    try:
        return answer | {
            "peak": [
                {"bytes": str(piece.size), "op": _op(piece.op), "where": piece.where}
                for piece in found.peak
            ],
            "entry_bytes": {role.value: str(size) for role, size in found.entry.items()},
            "from": {name: low for name, (low, _) in found.main.facts.box.items()},
            "conditions": list(found.conditions),
            "bounded": [storage.name for storage in found.bounded],
            "unsized": [storage.name for storage in found.unsized],
        }
    except CaptureError as error:
        return answer | {"refused": str(error)}


def advice(result: Advice) -> dict[str, object]:
    """What would lower the peak, in bytes, best first."""
    op = result.peak_at
    return {
        **about(result.program),
        "peak_bytes": result.peak_bytes,
        "peak_at": None if op is None else _op(op),
        "budget": result.budget,
        "can_fit": result.can_fit,
        "suggestions": result.to_rows(),
        "not_searched": list(result.notes),
    }


def _op(op: Op) -> dict[str, object]:
    return {
        "index": op.index,
        "name": op.name,
        "call": op.call,
        "module": op.module,
        "source": op.source,
    }
