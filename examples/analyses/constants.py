"""Sparse conditional constant propagation (Wegman and Zadeck, 1991).

Constants and unreachable branches, found together: a branch on a constant takes one way, and
what the other way would bring does not count.  Each finds more because of the other.

Names are defined once each; labels take values:

           n = 0          -> loop(n)
    loop(i): test i       -> body, done
    body:  j = add i i    -> loop(j)
    done:  write i
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from dataflow import BOTTOM, TOP, Bottom, Flat, Lattice, SparseForward, TextNode, Top

Constant = int | Bottom | Top


@frozen
class Constants(SparseForward[TextNode, Constant]):
    """Names that are the same number whenever they are defined.  Forward, must.

    `test c -> yes, no` goes to `yes` unless c is 0.  Blind to what two branches compute
    differently with the same result: 1 + 2 or 2 + 1, of names that are no constants.
    """

    lattice: Lattice[Constant] = Flat()

    def entry(self, value: object) -> Constant:
        return TOP

    def transfer(self, node: TextNode, operands: Sequence[Constant]) -> Sequence[Constant]:
        return [evaluated(node.word, operands)] * len(node.results)

    def takes(self, node: TextNode, way: int, operands: Sequence[Constant]) -> bool:
        if node.word != "test" or operands[0] is TOP:
            return True
        return operands[0] is not BOTTOM and (way == 0) == (operands[0] != 0)


def evaluated(word: str, operands: Sequence[Constant]) -> Constant:
    """What a line computes of constants."""
    if word.removeprefix("-").isdigit():
        return int(word)
    if BOTTOM in operands:
        return BOTTOM
    numbers = [fact for fact in operands if isinstance(fact, int)]
    if word == "mul" and 0 in numbers:
        return 0  # whatever the other is
    if len(numbers) < len(operands):
        return TOP
    match word:
        case "copy":
            return numbers[0]
        case "add":
            return numbers[0] + numbers[1]
        case "sub":
            return numbers[0] - numbers[1]
        case "mul":
            return numbers[0] * numbers[1]
    return TOP
