"""What is asked wrongly, and how errors of an analysis are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import frozen

from dataflow import (
    Bits,
    Forward,
    Lattice,
    Solved,
    SparseForward,
    TextNode,
    TransferError,
    parse,
    solve,
)
from tests.dataflow.test_solve import Live, ValueConstants


def test_a_node_of_another_graph_is_no_answer() -> None:
    """Asking outside the graph raises and names what was asked."""
    graph = parse("a: x = read\nb: write x")
    other = parse("c: y = read").node("c")
    results = solve(Live(), graph)
    for ask in (results.before, results.after, results.reached):
        with pytest.raises(KeyError, match="y = read is not a node of this graph"):
            ask(other)
    values = solve(ValueConstants(), graph)
    for ask_value in (values.of, values.reached):
        with pytest.raises(KeyError, match="y is not a value of this graph"):
            ask_value("y")


def test_points_are_not_asked_of_values_nor_values_of_points() -> None:
    """The error names the analysis and what to ask it instead."""
    graph = parse("a: x = read\nb: write x")
    points, values = solve(Live(), graph), solve(ValueConstants(), graph)
    with pytest.raises(TypeError, match=r"Live has a fact per program point: ask before\(node\)"):
        points.of("x")
    for ask in (values.before, values.after):
        with pytest.raises(
            TypeError, match=r"ValueConstants has a fact per value: ask of\(value\)"
        ):
            ask(graph.node("a"))


@pytest.mark.parametrize("given", [0, 1, 3])
def test_a_wrong_number_of_facts_is_an_error(given: int) -> None:
    """The message has the node, how many facts came and how many were due."""

    @frozen
    class Miscounts(SparseForward[TextNode, int]):
        lattice: Lattice[int] = Bits()

        def transfer(self, node: TextNode, operands: Sequence[int]) -> Sequence[int]:
            return [0] * (given if node.word == "split" else len(node.results))

    graph = parse("x = read\na, b = split x")
    message = rf"gave {given} facts where 2 are needed[\s\S]*a, b = split x"  # perhaps as a note
    with pytest.raises(TransferError, match=message):
        solve(Miscounts(), graph)


@frozen
class FailsAt(Forward[TextNode, int]):
    """Fails at the nodes with one word."""

    word: str
    lattice: Lattice[int] = Bits()

    def transfer(self, node: TextNode, value: int) -> int:
        if node.word == self.word:
            raise ZeroDivisionError("integer division by zero")
        return value


SIX = "one\ntwo\nthree\nfour\nfive -> last, exit\nlast: six"


@pytest.mark.parametrize("word", ["one", "three", "five"])
def test_a_transfer_that_raises_says_at_which_node(word: str) -> None:
    """The author's error comes through unchanged, with a note on where, in long lines too."""
    with pytest.raises(ZeroDivisionError) as caught:
        solve(FailsAt(word), parse(SIX))
    assert any(word in note for note in caught.value.__notes__)


def test_a_transfer_that_raises_when_asked_says_at_which_node() -> None:
    """The last line is not evaluated until somebody asks for a point in it."""
    graph = parse(SIX)
    results = solve(FailsAt("six"), graph)
    with pytest.raises(ZeroDivisionError) as caught:
        results.after(graph.node("last"))
    assert any("six" in note for note in getattr(caught.value, "__notes__", []))


def test_a_sparse_transfer_that_raises_says_at_which_node() -> None:
    """With the op, which has the values' names."""

    @frozen
    class Fails(SparseForward[TextNode, int]):
        lattice: Lattice[int] = Bits()

        def transfer(self, node: TextNode, operands: Sequence[int]) -> Sequence[int]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        solve(Fails(), parse("x = read y"))
    assert caught.value.__notes__ == [
        "while analysing x = read y",
        "in the program:\n  > x = read y",
    ]


def test_an_error_with_notes_of_its_own_says_at_which_node_too() -> None:
    """The author's own note does not stand in for where it happened."""

    @frozen
    class Fails(SparseForward[TextNode, int]):
        lattice: Lattice[int] = Bits()

        def transfer(self, node: TextNode, operands: Sequence[int]) -> Sequence[int]:
            error = ValueError("no rule")
            error.add_note("add one with `rule`")
            raise error

    with pytest.raises(ValueError, match="no rule") as caught:
        solve(Fails(), parse("x = read y"))
    assert caught.value.__notes__[:2] == ["add one with `rule`", "while analysing x = read y"]


@frozen
class FailsAtC(Forward[TextNode, int]):
    lattice: Lattice[int] = Bits()

    def transfer(self, node: TextNode, value: int) -> int:
        return value + "x" if node.word == "c" else value  # type: ignore[operator]  # on purpose


@frozen
class NeedsOneThatFails(FailsAtC):
    other: Solved[TextNode, int] = Solved(FailsAtC)


def test_an_error_shows_the_program_around_the_node() -> None:
    """Once, in whatever analysis it happens, and with advice where a fact may be none."""
    for analysis in (FailsAtC(), NeedsOneThatFails()):
        with pytest.raises(TypeError) as caught:
            solve(analysis, parse("a\nb\nc\nd\ne -> exit, 1\nf"))
        assert caught.value.__notes__ == [
            "while analysing c",
            "in the program:\n    a\n    b\n  > c\n    d\n    e",
            "solve(checked(analysis), graph) finds facts that are none",
        ]


@frozen
class EdgeFails(Forward[TextNode, int]):
    crossed: Any
    lattice: Lattice[int] = Bits()

    def transfer(self, node: TextNode, value: int) -> int:
        return value

    def edge(self, node: TextNode, way: int, value: int) -> int:
        return self.crossed(value)  # type: ignore[no-any-return]


@frozen
class WayFails(SparseForward[TextNode, int]):
    lattice: Lattice[int] = Bits()

    def transfer(self, node: TextNode, operands: Sequence[int]) -> Sequence[int]:
        return [1] * len(node.results)

    def takes(self, node: TextNode, way: int, operands: Sequence[int]) -> bool:
        raise ValueError


TWO_WAYS = "a\nb -> c, d\nc: c\nd: d"


def test_an_error_at_an_edge_shows_who_decides() -> None:
    """A fact that is missing, too; not the block that would have got it."""
    failing: list[Any] = [EdgeFails(lambda fact: fact // 0), EdgeFails(lambda fact: None)]
    for analysis in (*failing, WayFails()):
        with pytest.raises((ZeroDivisionError, TypeError, ValueError)) as caught:
            solve(analysis, parse(TWO_WAYS))
        assert "in the program:\n    a\n  > b\n    c\n    d" in caught.value.__notes__


def test_advice_is_given_where_an_error_is_of_no_single_node() -> None:
    """Here of the join of two facts."""
    with pytest.raises(TypeError, match="unsupported operand") as caught:
        solve(EdgeFails(lambda fact: [fact]), parse("a\nb -> c, d\nc: c -> d\nd: d"))
    assert "solve(checked(analysis), graph) finds facts that are none" in caught.value.__notes__


def test_a_boundary_that_is_nothing_is_named() -> None:
    class Nothing(EdgeFails):
        def boundary(self) -> int:
            return None  # type: ignore[return-value]  # the mistake

    with pytest.raises(TypeError, match=r"Nothing\.boundary returned None"):
        solve(Nothing(lambda fact: fact), parse("a"))


def test_so_does_one_that_comes_with_the_question() -> None:
    """In a straight line nothing is computed until somebody asks."""
    graph = parse("a\nb\nc\nd")
    results = solve(FailsAtC(), graph)
    with pytest.raises(TypeError) as caught:
        results.before(graph.node("4"))
    assert "in the program:\n    a\n    b\n  > c\n    d" in caught.value.__notes__


def test_by_default_control_may_go_every_way() -> None:
    """Where an analysis asks the class it is made of, too."""

    @frozen
    class Asks(SparseForward[TextNode, int]):
        lattice: Lattice[int] = Bits()

        def transfer(self, node: TextNode, operands: Sequence[int]) -> Sequence[int]:
            return [1] * len(node.results)

        def takes(self, node: TextNode, way: int, operands: Sequence[int]) -> bool:
            return super().takes(node, way, operands)

    graph = parse("a = read\ntest a -> left, right\nleft: b = 1 -> exit\nright: c = 2")
    results = solve(Asks(), graph)
    assert all(map(results.reached, "abc"))


def test_a_class_is_no_analysis() -> None:
    with pytest.raises(TypeError, match=r"not its class: write FailsAtC\(\.\.\.\)"):
        solve(FailsAtC, parse("a"))  # type: ignore[call-overload]  # on purpose


def test_a_flow_can_be_solved_over_as_it_is() -> None:
    graph = parse("a = read\nwrite a")
    assert str(solve(FailsAtC(), graph.flow)) == str(solve(FailsAtC(), graph))
