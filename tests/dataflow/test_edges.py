"""Which way control goes: `edge` refines facts, `takes` prunes ways, in both directions."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow import (
    BOTTOM,
    UNREACHED,
    Backward,
    Dual,
    Flow,
    Forward,
    Interval,
    Lattice,
    Powerset,
    TextGraph,
    TextNode,
    Unreached,
    UnreachedError,
    parse,
    solve,
    verify,
)

INFINITY = float("inf")
Names = frozenset[str]
Range = Any


def passing(node: TextNode, way: int, value: Range) -> Range:
    """The numbers of a range with which `below 10 -> yes, no` goes a way."""
    limit = int(node.operands[0])
    return Interval().meet(value, (-INFINITY, limit - 1) if way == 0 else (limit, INFINITY))


@frozen
class Bounds(Forward[TextNode, Range]):
    """Between which bounds the one number lies.  Forward, may.  `asked` collects edges."""

    lattice: Lattice[Range] = Interval()
    asked: list[tuple[str, int]] = field(factory=list)

    def boundary(self) -> Range:
        return (-INFINITY, INFINITY)

    def transfer(self, node: TextNode, value: Range) -> Range:
        match node.word:
            case "set":
                return (int(node.operands[0]),) * 2
            case "add":
                return Interval.add(value, (int(node.operands[0]),) * 2)
        return value

    def edge(self, node: TextNode, way: int, value: Range) -> Range | Unreached:
        self.asked.append((node.label, way))
        if node.word != "below":
            return value
        passed = passing(node, way, value)
        return UNREACHED if passed is BOTTOM else passed


@frozen
class Fatal(Backward[TextNode, Range]):
    """The hull of the numbers with which a line `fail` may still be met.  Backward, may."""

    lattice: Lattice[Range] = Interval()

    def transfer(self, node: TextNode, value: Range) -> Range:
        match node.word:
            case "fail":
                return -INFINITY, INFINITY
            case "set":
                holds = value is not BOTTOM and value[0] <= int(node.operands[0]) <= value[1]
                return (-INFINITY, INFINITY) if holds else BOTTOM
            case "add":
                return Interval.sub(value, (int(node.operands[0]),) * 2)
        return value

    def edge(self, node: TextNode, way: int, value: Range) -> Range:
        return passing(node, way, value) if node.word == "below" else value


COUNTING = parse(
    """
    start: set 0
    head:  below 10 -> more, done
    more:  add 3    -> head
    done:  write
    """
)


def test_an_edge_refines_what_a_loop_says_to_its_body_and_to_what_follows() -> None:
    """Each side sees only the numbers that go there; the bound survives widening."""
    results = solve(Bounds(), COUNTING)
    verify(results)
    assert results.before(COUNTING.node("head")) == (0, 12)
    assert results.before(COUNTING.node("more")) == (0, 9)
    assert results.after(COUNTING.node("more")) == (3, 12)
    assert results.before(COUNTING.node("done")) == (10, 12)


def test_only_nodes_that_decide_are_asked() -> None:
    """By the number of the way, from 0, in the order of the arrow."""
    analysis = Bounds()
    solve(analysis, COUNTING)
    assert set(analysis.asked) == {("head", 0), ("head", 1)}


def test_an_edge_that_is_never_taken_leaves_no_fact_behind_it() -> None:
    """Nothing is joined from there, not even bottom."""
    graph = parse(
        """
        start: set 5
               below 3 -> small, large
        small: set 100 -> end
        large: add 1   -> end
        end:   write
        """
    )
    results = solve(Bounds(), graph)
    verify(results)
    small, end = graph.node("small"), graph.node("end")
    assert not results.reached(small)
    with pytest.raises(UnreachedError, match="set 100"):
        results.before(small)
    assert results.before(end) == (6, 6)


def test_an_edge_that_may_be_taken_is_not_cut() -> None:
    """The same program with a number that passes both ways."""
    graph = parse(
        """
        start: below 3 -> small, large
        small: set 100 -> end
        large: set 6   -> end
        end:   write
        """
    )
    results = solve(Bounds(), graph)
    assert results.reached(graph.node("small"))
    assert results.before(graph.node("end")) == (6, 100)


def test_a_loop_that_no_edge_leads_out_of_leaves_the_rest_unreached() -> None:
    """A program that never returns."""
    graph = parse("start: set 0\nhead: below 10 -> head, done\ndone: write")
    results = solve(Bounds(), graph)
    verify(results)
    assert results.reached(graph.node("head"))
    assert not results.reached(graph.node("done"))


def test_all_ways_out_of_a_node_may_be_cut() -> None:
    """A node that never goes on: after it there is its own fact, behind it nothing."""

    @frozen
    class Stops(Forward[TextNode, Names]):
        lattice: Lattice[Names] = Powerset()

        def transfer(self, node: TextNode, value: Names) -> Names:
            return value | {node.label}

        def edge(self, node: TextNode, way: int, value: Names) -> Names | Unreached:
            return UNREACHED if node.word == "stop" else value

    graph = parse("a: stop -> b, c\nb: write\nc: write")
    results = solve(Stops(), graph)
    verify(results)
    assert results.after(graph.node("a")) == {"a"}
    assert not results.reached(graph.node("b"))
    assert not results.reached(graph.node("c"))


def test_an_edge_refines_backwards() -> None:
    """What is needed to get to `fail` passes the condition on its way back."""
    graph = parse(
        """
        start: add 1
        test:  below 10 -> ok, bad
        bad:   fail
        ok:    write    -> exit
        """
    )
    results = solve(Fatal(), graph)
    verify(results)
    assert results.after(graph.node("test")) == (10, INFINITY)
    assert results.before(graph.node("start")) == (9, INFINITY)
    assert results.before(graph.node("ok")) is BOTTOM


def test_an_edge_may_be_cut_backwards() -> None:
    """With every way on cut, the analysis never gets to what is before."""

    @frozen
    class NotThrough(Backward[TextNode, Names]):
        way_cut: int
        lattice: Lattice[Names] = Dual(Powerset())

        def boundary(self) -> Names:
            return frozenset()

        def transfer(self, node: TextNode, value: Names) -> Names:
            return value | {node.label}

        def edge(self, node: TextNode, way: int, value: Names) -> Names | Unreached:
            return UNREACHED if self.way_cut in (way, 2) else value

    graph = parse("a: test -> b, c\nb: write -> d\nc: write\nd: write")
    after = {way: solve(NotThrough(way), graph) for way in (0, 1, 2, 3)}
    for results in after.values():
        verify(results)
    a = graph.node("a")
    assert after[3].after(a) == {"d"}
    assert after[0].after(a) == {"c", "d"}
    assert after[1].after(a) == {"b", "d"}
    assert not after[2].reached(a)
    assert after[2].reached(graph.node("b"))


# Every number through every small program


@st.composite
def programs(draw: st.DrawFn) -> TextGraph:
    """Up to 7 lines of set, add, below, nop and fail; arrows lead anywhere."""
    size = draw(st.integers(2, 7))
    label = st.sampled_from([f"l{number}" for number in range(size)] + ["exit"])
    lines = []
    for number in range(size):
        word = draw(st.sampled_from(["set", "add", "below", "below", "nop", "fail"]))
        amount = "" if word in ("nop", "fail") else str(draw(st.integers(-3, 3)))
        ways = draw(st.lists(label.filter(lambda name: name != "exit"), min_size=2, max_size=2))
        arrow = ", ".join(ways) if word == "below" else draw(label)
        lines.append(f"l{number}: {word} {amount} -> {arrow}")
    return parse("\n".join(lines))


def execution(graph: TextGraph, number: int, steps: int = 60) -> list[tuple[TextNode, int]]:
    """The lines that run with a number, each with the number before it.  Read off the text
    graph's edges, one line at a time."""
    flow = graph.flow
    block = flow.entries[0]
    seen: list[tuple[TextNode, int]] = []
    while len(seen) < steps:
        node = None
        for index in flow.blocks[block]:
            node = flow.nodes[index]
            seen.append((node, number))
            if node.word == "set":
                number = int(node.operands[0])
            elif node.word == "add":
                number += int(node.operands[0])
        targets = [target for source, target in flow.edges if source == block]
        if not targets:
            break
        if len(targets) > 1:
            assert node is not None
            block = targets[0 if number < int(node.operands[0]) else 1]
        else:
            block = targets[0]
    return seen


@settings(deadline=None, max_examples=150)
@given(programs())
def test_refined_bounds_hold_every_number_that_an_execution_sees(graph: TextGraph) -> None:
    """Whatever is cut off is really never run, and no number is lost."""
    results = solve(Bounds(), graph)
    verify(results)
    for start in range(-8, 9):
        for node, number in execution(graph, start):
            low, high = results.before(node)
            assert low <= number <= high


@settings(deadline=None, max_examples=150)
@given(programs())
def test_backwards_every_number_that_gets_to_fail_is_held(graph: TextGraph) -> None:
    """Whoever meets `fail` later had a number that the fact holds."""
    results = solve(Fatal(), graph)
    verify(results)
    for start in range(-8, 9):
        seen = execution(graph, start)
        last = max((at for at, (node, _) in enumerate(seen) if node.word == "fail"), default=-1)
        for node, number in seen[: last + 1]:
            low, high = results.before(node)
            assert low <= number <= high


def test_a_node_with_sub_graphs_decides_at_the_block_it_begins_in() -> None:
    """Its own effect comes later; the way into its sub-graph is its decision all the same."""
    nodes = [TextNode(word, word, (), ("10",)) for word in ("first", "inner", "below", "last")]
    flow = Flow(nodes, [[0], [1], [2, 3]], [(0, 1), (0, 2), (1, 2)], [0], [2], begins={2: 0})

    @frozen
    class Graph:
        flow: Flow[TextNode]

    analysis = Bounds()
    results = solve(analysis, Graph(flow))
    verify(results)
    assert set(analysis.asked) == {("below", 0), ("below", 1)}
    assert results.before(nodes[1]) == (-INFINITY, 9)
    assert results.before(nodes[3]) == (-INFINITY, INFINITY)
