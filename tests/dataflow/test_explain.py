"""`why`: derivations are right, smallest, and read as explanations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from dataflow import (
    TOP,
    Bottom,
    Flat,
    Forward,
    Interval,
    Lattice,
    Powerset,
    SparseForward,
    TextNode,
    Top,
    UnreachedError,
    parse,
    solve,
    why,
)
from dataflow.fewest import fewest
from examples.analyses.constants import Constants
from tests.dataflow import test_goldens
from tests.dataflow.test_together import Live
from tests.dataflow.test_update import Origins

Names = frozenset[str]
Constant = int | Bottom | Top


@frozen
class Tainted(Forward[TextNode, Names]):
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        tainted = node.word == "read" or not value.isdisjoint(node.operands)
        others = value - frozenset(node.results)
        return others | frozenset(node.results) if tainted else others


def names(*found: str) -> Names:
    return frozenset(found)


LOOP = parse("""
start: n = read
head:  test n          -> body, done
body:  n = decrement n -> head
done:  write n x
""")


def test_live_here_because_used_there() -> None:
    reason = why(solve(Live(), LOOP), LOOP.node("start"), names("x"))
    assert str(reason).splitlines() == [
        "{x} before [n = read]: by [n = read]",
        "{x} before [test n]: by [test n]",
        "{x} before [write n x]: by [write n x], where it begins",
    ]


def test_the_shortest_way_is_told_and_not_the_one_around_the_loop() -> None:
    reason = why(solve(Live(), LOOP), LOOP.node("body"), names("n"))
    assert str(reason) == "{n} before [n = decrement n]: by [n = decrement n], where it begins"


def test_another_fact_carries_it_there() -> None:
    graph = parse("a = read\nb = copy a\nc = copy b\nwrite c")
    reason = why(solve(Tainted(), graph), graph.node("4"), names("c"))
    assert str(reason).splitlines() == [
        "{c} before [write c]: by [c = copy b]",
        "{b} before [c = copy b]: by [b = copy a]",
        "{a} before [b = copy a]: by [a = read], where it begins",
    ]


def test_what_several_equations_give_together_is_told_apart() -> None:
    graph = parse("""
    start: test      -> left, right
    left:  a = read  -> end
    right: b = read  -> end
    end:   write a b
    """)
    reason = why(solve(Tainted(), graph), graph.node("end"))
    assert str(reason).splitlines() == [
        "{a, b} before [write a b]: together",
        "- {a} after [a = read]: by [a = read], where it begins",
        "- {b} after [b = read]: by [b = read], where it begins",
    ]


def test_what_a_node_does_not_need_is_not_told() -> None:
    graph = parse("a = 1\nz = 9\nb = 2\ny = 7\nc = add a b\nwrite c")
    reason = why(solve(test_goldens.Constants(), graph), graph.node("6"), {"c": 3})
    assert str(reason).splitlines() == [
        "{c: 3} before [write c]: by [c = add a b]",
        "{a: 1, b: 2} before [c = add a b]: by [y = 7]",
        "{a: 1, b: 2} before [y = 7]: by [b = 2]",
        "{a: 1} before [b = 2]: by [z = 9]",
        "{a: 1} before [z = 9]: by [a = 1], where it begins",
    ]


@given(st.lists(st.frozensets(st.integers(0, 20)), min_size=1))
def test_of_the_fewest_none_can_be_left_out(sufficient: list[frozenset[int]]) -> None:
    def enough(some: Sequence[int]) -> bool:
        return any(one.issubset(some) for one in sufficient)

    found = fewest(range(21), enough)
    assert enough(found)
    assert not any(enough([each for each in found if each != one]) for one in found)


BRANCH = """
a = {}
test a -> left, right
left:  c = 5       -> end(c)
right: d = add a a -> end(d)
end(e): write e
"""


def test_a_constant_that_pruning_makes() -> None:
    results = solve(Constants(), parse(BRANCH.format(1)))
    assert str(why(results, "e")).splitlines() == [
        "5 of e: edge",
        "5 of c: c = 5, where it begins",
    ]


def test_no_constant_because_two_ways_disagree() -> None:
    results = solve(Constants(), parse(BRANCH.format("read")))
    assert results.of("e") is TOP
    assert str(why(results, "e")).splitlines() == [
        "⊤ of e: edge",
        "⊤ of d: d = add a a",
        "⊤ of a: a = read, where it begins",
    ]


def test_what_does_not_hold_or_is_not_reached_has_no_reason() -> None:
    results = solve(Live(), LOOP)
    with pytest.raises(ValueError, match=r"\{y\} does not hold at n = read: .* \{x\}"):
        why(results, LOOP.node("start"), names("y"))
    with pytest.raises(UnreachedError):
        why(solve(Constants(), parse(BRANCH.format(1))), "d")


def test_every_element_of_every_fact_has_a_reason_as_long_as_its_path() -> None:
    results = solve(Live(), LOOP)
    for node in LOOP.flow.nodes:
        for name in results.before(node):
            reason = why(results, node, names(name))
            while reason.premises:
                (reason,) = reason.premises
            assert name in reason.place  # it begins at a node that reads the name


# Facts that several reads carry, and facts that rest on each other


def test_what_two_operands_carry_does_not_begin_there() -> None:
    """Either is enough, so neither is missed alone."""
    graph = parse("a = read\nb = left a\nc = right a\nd = both b c")
    assert str(why(solve(Origins(), graph), "d", names("read"))).splitlines() == [
        "{read} of d: d = both b c",
        "{read} of b: b = left a",
        "{read} of a: a = read, where it begins",
    ]


def test_an_operand_that_is_read_twice_carries() -> None:
    graph = parse("a = read\nb = both a a")
    assert str(why(solve(Origins(), graph), "b", names("read"))).splitlines() == [
        "{read} of b: b = both a a",
        "{read} of a: a = read, where it begins",
    ]


COUNT = parse("""
    a = 1
    one = 1             -> loop(a)
    loop(i): test i     -> body, done
    body: j = add i one -> loop(j)
    done: write i
""")


def test_a_loop_is_no_constant_because_it_comes_back_with_another() -> None:
    """⊤ goes in because ⊤ comes out: where that began is told, and not the circle."""
    assert str(why(solve(Constants(), COUNT), "i")).splitlines() == [
        "⊤ of i: merged: edge and edge",
        "- 1 of a: a = 1, where it begins",
        "2 of j: j = add i one",
        "- 1 of one: one = 1, where it begins",
        "1 of i: edge",
        "1 of a: a = 1, where it begins",
    ]


@frozen
class Counted(Forward[TextNode, Constant]):
    lattice: Lattice[Constant] = Flat[int]()

    def boundary(self) -> Constant:
        return 0

    def transfer(self, node: TextNode, value: Constant) -> Constant:
        return value + 1 if node.word == "inc" and isinstance(value, int) else value


def test_the_same_at_points() -> None:
    graph = parse("start: nop\nhead: test -> body, done\nbody: inc -> head\ndone: write")
    assert str(why(solve(Counted(), graph), graph.node("done"))).splitlines() == [
        "⊤ after [test]: by [test]",
        "⊤ before [test]: merged: along an edge and along an edge",
        "- 0 after [nop]: by [nop]",
        "  0 before [nop]: the boundary, where it begins",
        "- 1 after [inc]: by [inc]",
        "  0 after [test]: by [test]",
        "  0 after [nop]: as above",
    ]


@frozen
class Ranges(SparseForward[TextNode, Any]):
    lattice: Lattice[Any] = Interval(thresholds=(10,))

    def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
        if node.word.isdigit():
            return [(int(node.word), int(node.word))]
        if node.word == "add":
            return [Interval.add(*operands)]
        return [(0, 0)] * len(node.results)


def test_widening_is_told_with_what_it_leapt_from() -> None:
    results = solve(Ranges(), COUNT)
    assert str(why(results, "i", (1, 2))).splitlines()[0] == "[1, 2] of i: merged: edge and edge"
    assert str(why(results, "i")).splitlines() == [
        "[1, inf] of i: widened after edge",
        "- [2, 11] of j: j = add i one",
        "  - [1, 1] of one: one = 1, where it begins",
        "  [1, 10] of i: widened after edge",
        "  - [2, 2] of j: j = add i one",
        "    - [1, 1] of one: one = 1, where it begins",
        "    [1, 1] of i: edge",
        "    [1, 1] of a: a = 1, where it begins",
        "  - [1, 1] of i: as above",
        "- [1, 10] of i: as above",
    ]
