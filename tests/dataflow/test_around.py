"""An error names the node that it happened at, also where others read alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from attrs import frozen

from dataflow import (
    Backward,
    Flow,
    Forward,
    GenKill,
    Lattice,
    Partial,
    Powerset,
    SparseBackward,
    SparseForward,
    TextNode,
    parse,
    solve,
    verify,
)
from tests.dataflow.test_takes import Constants

Names = frozenset[str]
ALIKE = parse("""
    first:  a = read x
    second: b = copy a
    third:  a = read x
    fourth: a = read x -> first, fifth
    fifth:  c = use a
""")
HERE = "in the program:\n    b = copy a\n    a = read x\n  > a = read x\n    c = use a"


def fails(node: TextNode) -> None:
    if node.label == "fourth":
        raise ZeroDivisionError


@frozen
class Points(Forward[TextNode, Names]):
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        fails(node)
        return value


@frozen
class Uses(SparseBackward[TextNode, Names]):
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, results: Sequence[Names]) -> Sequence[Names]:
        fails(node)
        return results


@frozen
class Values(SparseForward[TextNode, Names]):
    lattice: Lattice[Names] = Powerset()

    def entry(self, value: object) -> Names:
        return frozenset()

    def transfer(self, node: TextNode, operands: Sequence[Names]) -> Sequence[Names]:
        fails(node)
        return operands


@frozen
class WithControl(Constants):
    def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
        fails(node)
        return super().transfer(node, operands)


@frozen
class Together(Values):
    others: Partial[TextNode, Names] = Partial(Uses)


@frozen
class Effects(GenKill[TextNode, Names], Backward[TextNode, Names]):
    lattice: Lattice[Names] = Powerset()

    def effect(self, node: TextNode) -> tuple[Names, Names]:
        fails(node)
        return frozenset(), frozenset()


@pytest.mark.parametrize("kind", [Points, Uses, Values, WithControl, Together, Effects])
def test_the_node_is_shown_and_not_one_that_reads_alike(kind: Callable[[], Any]) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        solve(kind(), ALIKE)
    assert caught.value.__notes__ == ["while analysing a = read x", HERE]


@frozen
class Op:
    """A node as programs have them: with a name, and more to say of itself."""

    name: str
    line: Any
    source: Any

    def __str__(self) -> str:
        return self.name


def solve_failing(*ops: Op) -> str:
    """Fail at the last of them; what is told."""

    @frozen
    class Fails(Forward[Op, Names]):
        lattice: Lattice[Names] = Powerset()

        def transfer(self, node: Op, value: Names) -> Names:
            if node is ops[-1]:
                raise ZeroDivisionError
            return value

    with pytest.raises(ZeroDivisionError) as caught:
        solve(Fails(), Flow([*ops], [[*range(len(ops))], []], [(0, 1)], [0], [1]))
    return "\n".join(caught.value.__notes__)


def test_a_node_is_shown_in_full_and_with_where_it_was_written() -> None:
    """The one the error is about; of the others only what they are."""
    ops = (
        Op("a", "a = read(x)", "model.py:1: a = read(x)"),
        Op("b", "b = copy(a)", "model.py:2: b = a"),
    )
    assert solve_failing(*ops) == (
        "while analysing b = copy(a)\n"
        "in the program:\n    a = read(x)\n  > b = copy(a)\n        model.py:2: b = a"
    )


def test_a_line_and_a_source_that_are_something_else_are_left_alone() -> None:
    """Such as the number of the line."""
    assert solve_failing(Op("a", 7, None)) == "while analysing a\nin the program:\n  > a"


def test_so_it_is_in_an_answer_and_in_a_check() -> None:
    line = parse("\n".join(f"{node.label}: {node}" for node in ALIKE.flow.nodes))
    results = solve(Points(), line)
    for ask in (lambda: results.after(line.node("fifth")), lambda: verify(results)):
        with pytest.raises(ZeroDivisionError) as caught:
            ask()
        assert caught.value.__notes__ == ["while analysing a = read x", HERE]
