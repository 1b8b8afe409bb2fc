"""Why is a storage alive at an op?  Who made it, and who still needs it, through which views.

A storage class is alive at an op because of what uses its values: the op itself, a later op, or
the program's exit.  All such uses are given, of later views, too, until it is dead; if
none of them were, the class would not be alive there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from attrs import frozen

from passes.program import AliasOf, Op, OpKind, Program, SameAs, Value
from passes.storages import StorageClass, numbers

if TYPE_CHECKING:
    from passes.liveness import Liveness


@frozen(eq=False)
class Use:
    """A use of a value at or after an op.

    `op` is who uses it, or the last op of a sub-graph that holds it while it runs; the output
    op where it is returned, None where the caller may look at it when the program is over.
    `through` are the values that lead from the allocation to `value`, the last of them.
    """

    value: Value
    op: Op | None
    through: tuple[Value, ...]

    def __str__(self) -> str:
        who = "the caller, afterwards" if self.op is None else self.op.name
        if self.op is not None and self.op.kind is OpKind.OUTPUT:
            who = "the caller, as a result"
        return f"{who}: {' -> '.join(value.name for value in self.through)}"


@frozen(eq=False)
class WhyAlive:
    """Why a storage class is alive at `op`.  `liveness.why(storage_class, op)`.

    `made_by` is None for what exists at entry.  `uses` are in execution order; the last one is
    until when it is held.
    """

    storage_class: StorageClass
    op: Op
    made_by: Op | None
    uses: tuple[Use, ...]

    @property
    def until(self) -> Use:
        """The last of the uses."""
        return self.uses[-1]

    def __str__(self) -> str:
        made = "is there at entry" if self.made_by is None else f"is allocated by {self.made_by}"
        lines = [f"{self.storage_class} {made}, and at {self.op} still needed by"]
        return "\n".join([*lines, *(f"  {use}" for use in self.uses)])


def why_alive(liveness: Liveness, found: StorageClass, op: Op) -> WhyAlive:
    """Why a storage class is alive at an op.  See `Liveness.why`."""
    program = liveness.program
    program.check(op)
    maker = definers(program)
    uses = sorted(
        _uses(liveness, found, op, maker),
        key=lambda use: (len(program.all_ops) if use.op is None else use.op.index, use.value.index),
    )
    if not uses:
        spans = liveness.range(found).intervals
        told = ", ".join(f"{start} to {stop}" for start, stop in spans) or "never"
        raise ValueError(f"{found} is not alive at {op} (op {op.index}): it is at ops {told}")
    return WhyAlive(found, op, found.storage.op, tuple(uses))


def definers(program: Program) -> dict[Value, Op]:
    """The op that defines each value; not of values at entry."""
    return {
        value: op for op in program.all_ops if op.kind is not OpKind.INPUT for value in op.defines
    }


def _uses(liveness: Liveness, found: StorageClass, op: Op, maker: dict[Value, Op]) -> Iterator[Use]:
    ops = liveness.program.all_ops
    now = [
        s for s in liveness.range(found).intervals if s[0] <= op.index and s[1] >= op.first_index
    ]
    for value in found.members | found.may_members:
        span = liveness.span(value)
        if span is None or not any(s[0] <= span[1] and span[0] <= s[1] for s in now):
            continue
        if span[1] < op.first_index:
            continue
        through = tuple(_chain(liveness, value, maker))
        users = [u for u in liveness.users.get(value, ()) if u.index >= op.first_index]
        for user in users:
            yield Use(value, user, through)
        if liveness.is_live_at_exit(value):
            if not any(user.kind is OpKind.OUTPUT and not user.path for user in users):
                yield Use(value, None, through)
        elif (not users or users[-1].index < span[1]) and (span[0] < span[1] or len(through) == 1):
            # Held by a sub-graph that runs, or defined there and never used.
            yield Use(value, ops[span[1]], through)


def _chain(liveness: Liveness, value: Value, maker: dict[Value, Op]) -> list[Value]:
    """The values that lead to one, by views and in-place results, from the allocation on."""
    chain = [value]
    facts = liveness.aliases.facts
    while chain[-1] in maker:
        op = maker[chain[-1]]
        if op.region_flow is not None and op.region_flow.defines(op):
            break
        effect = op.effects.results[op.defines.index(chain[-1])]
        if isinstance(effect, SameAs):
            chain.append(op.defines[effect.result])
        elif isinstance(effect, AliasOf):
            source = op.operands[effect.operands[0]]
            if numbers(facts[source.index]).isdisjoint(numbers(facts[value.index])):
                break
            chain.append(source)
        else:
            break
    return chain[::-1]
