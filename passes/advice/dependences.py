"""Which ops must stay before which, for the program to compute the same.

    data      an op after those that define its operands, numbers as well as tensors
    storage   every op that writes a storage after all that touch it before, and before all
              that touch it later
    order     ops that are not known to be repeatable (they draw random numbers, they run code
              of the user's) among themselves; of those without tensors, such as a switch of the
              grad mode, with all others

Inputs stay first, the output last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from passes.advice.facts import Facts
from passes.program import ANYTHING, Op, OpKind
from passes.storages import ANY


def dependences(facts: Facts) -> list[set[int]]:
    """For each op of the outermost graph, the ops that must stay before it."""
    before: list[set[int]] = [set() for _ in facts.ops]
    for first, second in _pairs(facts):
        if first != second:
            before[second].add(first)
    return before


def _pairs(facts: Facts) -> Iterator[tuple[int, int]]:
    ops = facts.ops
    place = {op.node: number for number, op in enumerate(ops) if op.node is not None}
    for number, op in enumerate(ops):
        for value in op.operands:
            if value in facts.definer:
                yield facts.definer[value], number
        # Any: an fx node, and torch is not imported here.
        node: Any = op.node
        for given in getattr(node, "all_input_nodes", ()):
            yield place[given], number
        if op.kind is OpKind.OUTPUT:
            for other in range(number):
                yield other, number
    yield from _storages(facts)
    yield from _chain(number for number, op in enumerate(ops) if is_ordered(op))
    for number in facts.barriers:
        for other in range(len(ops)):
            yield min(number, other), max(number, other)


def _storages(facts: Facts) -> Iterator[tuple[int, int]]:
    anywhere = facts.touches.get(ANY, [])
    for storage, writes in facts.writes.items():
        if storage == ANY:
            touches: Iterable[int] = range(len(facts.ops))
        else:
            touches = sorted({*facts.touches.get(storage, ()), *writes, *anywhere})
        written = set(writes)
        last: int | None = None
        since: list[int] = []
        for number in touches:
            if number in written:
                for other in since:
                    yield other, number
                if last is not None:
                    yield last, number
                last, since = number, []
            else:
                if last is not None:
                    yield last, number
                since.append(number)


def _chain(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    last: int | None = None
    for number in numbers:
        if last is not None:
            yield last, number
        last = number


def is_ordered(op: Op) -> bool:
    """Whether the order of an op among others of its kind can be seen from outside."""
    if op.kind is not OpKind.CALL:
        return False
    if op.regions and op.effects.origin is not ANYTHING:
        return any(is_ordered(inner) for region in op.regions for inner in region.ops)
    return not op.effects.repeatable
