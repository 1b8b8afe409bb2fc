"""`why`: derivations are right, smallest, and read as explanations."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from attrs import frozen

from dataflow import (
    BOTTOM,
    TOP,
    Backward,
    Bottom,
    Flat,
    Forward,
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

Names = frozenset[str]
Constant = int | Bottom | Top


@frozen
class Live(Backward[TextNode, Names]):
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value - frozenset(node.results) | frozenset(node.operands)


@frozen
class Tainted(Forward[TextNode, Names]):
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        tainted = node.word == "read" or not value.isdisjoint(node.operands)
        others = value - frozenset(node.results)
        return others | frozenset(node.results) if tainted else others


@frozen
class Constants(SparseForward[TextNode, Constant]):
    lattice: Lattice[Constant] = Flat[int]()

    def transfer(self, node: TextNode, operands: Sequence[Constant]) -> Sequence[Constant]:
        if node.word.isdigit():
            return [int(node.word)]
        numbers = [fact for fact in operands if isinstance(fact, int)]
        if node.word == "add" and len(numbers) == len(operands):
            return [sum(numbers)]
        return [BOTTOM if BOTTOM in operands else TOP] * len(node.results)

    def takes(self, node: TextNode, way: int, operands: Sequence[Constant]) -> bool:
        return not isinstance(operands[0], int) or (way == 0) == bool(operands[0])


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
