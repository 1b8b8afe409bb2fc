"""Between which bounds each integer lies: sizes, indices, loop counters.

           n = 0
    loop:  less n limit   -> body, done
    body:  n = add n step -> loop
    done:  write n

What a comparison lets through refines the fact on each of its two ways, which is what keeps
a counter bounded in its loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

from dataflow import (
    BOTTOM,
    UNREACHED,
    Bottom,
    Forward,
    Interval,
    MapOf,
    TextNode,
    Unreached,
)

Range = tuple[float, float] | Bottom
Ranges = Mapping[str, Range]
INFINITY: Final = float("inf")
ANY: Final[Range] = (-INFINITY, INFINITY)


@frozen
class Intervals(Forward[TextNode, Ranges]):
    """The range of each name; of a name that has no value yet, none.  Forward, may.

    `less a b -> yes, no` goes to `yes` if a < b.  Blind to relations: after `less a b` it knows
    the bounds of a and of b, and not that a < b.  `inputs` has the ranges of names that have
    a value from the start.
    """

    inputs: Ranges = field(factory=dict)
    lattice: MapOf[str, Range] = MapOf(Interval())

    def boundary(self) -> Ranges:
        return self.lattice.of(self.inputs)

    def transfer(self, node: TextNode, value: Ranges) -> Ranges:
        if not node.results:
            return value
        return self.lattice.of({**value, **dict.fromkeys(node.results, computed(node, value))})

    def edge(self, node: TextNode, way: int, value: Ranges) -> Ranges | Unreached:
        if node.word != "less":
            return value
        left, right = node.operands
        a, b = value.get(left, BOTTOM), value.get(right, BOTTOM)
        if a is BOTTOM or b is BOTTOM or (way == 0 and left == right):
            return UNREACHED
        if way == 0:  # a < b
            a, b = (a[0], min(a[1], b[1] - 1)), (max(b[0], a[0] + 1), b[1])
        else:  # a >= b
            a, b = (max(a[0], b[0]), a[1]), (b[0], min(b[1], a[1]))
        a, b = Interval.of(*a), Interval.of(*b)
        if BOTTOM in (a, b):
            return UNREACHED
        return {**value, right: b, left: a}


def computed(node: TextNode, value: Ranges) -> Range:
    """The range of what a line computes."""
    if node.word.removeprefix("-").isdigit():
        return int(node.word), int(node.word)
    operands = [value.get(name, BOTTOM) for name in node.operands]
    match node.word:
        case "copy":
            return operands[0]
        case "add":
            return Interval.add(operands[0], operands[1])
        case "sub":
            return Interval.sub(operands[0], operands[1])
        case "mul":
            return Interval.mul(operands[0], operands[1])
    return ANY
