"""Which way control goes: `edge` refines facts, `takes` prunes ways, in both directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from attrs import field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow import (
    BOTTOM,
    TOP,
    UNREACHED,
    Backward,
    Copy,
    CopyKind,
    Dual,
    Flat,
    Flow,
    Forward,
    Interval,
    Lattice,
    Powerset,
    SparseForward,
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


# takes: conditional propagation


@frozen
class Constants(SparseForward[TextNode, Any]):
    """Names with the same value in all executions.  Forward, must.

    With `prune`, of the branches that executions take.  `test c -> yes, no` goes to `yes`
    unless c is 0.
    """

    lattice: Lattice[Any] = Flat()

    def entry(self, value: object) -> Any:
        return TOP

    def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
        if node.word in ("add", "copy"):
            if TOP in operands or BOTTOM in operands:
                return [TOP if TOP in operands else BOTTOM]
            return [sum(operands)]
        if node.word.lstrip("-").isdigit():
            return [int(node.word)]
        return [TOP] * len(node.results)


@frozen
class Conditional(Constants):
    def takes(self, node: TextNode, way: int, operands: Sequence[Any]) -> bool:
        if node.word != "test" or operands[0] is TOP:
            return True
        return operands[0] is not BOTTOM and (way == 0) == (operands[0] != 0)


SECOND_BRANCH = """
           one = 1
           c = copy one
           test c             -> left, right
    left:  x = 5              -> end(x)
    right: y = 6              -> end(y)
    end(z): write z
"""


def test_a_way_that_is_never_taken_contributes_nothing() -> None:
    """Its nodes do not run, its values have no fact, what it would copy is not joined."""
    graph = parse(SECOND_BRANCH)
    results = solve(Conditional(), graph)
    verify(results)
    assert results.of("z") == 5
    assert not results.reached("y")
    assert not results.runs(graph.node("right"))
    assert results.runs(graph.node("end"))
    with pytest.raises(UnreachedError, match="y"):
        results.of("y")


def test_a_way_may_be_decided_by_several_operands() -> None:
    @frozen
    class Comparing(Constants):
        def takes(self, node: TextNode, way: int, operands: Sequence[Any]) -> bool:
            return node.word != "equal" or (way == 0) == (operands[0] == operands[1])

    graph = parse(
        """
               one = 1
               uno = 1
               two = 2
               equal one uno  -> yes, no
        yes:   equal one two  -> never, always
        no:    write one      -> exit
        never: write two      -> exit
        always: write uno
        """
    )
    results = solve(Comparing(), graph)
    verify(results)
    ran = {label: results.runs(graph.node(label)) for label in ("yes", "no", "never", "always")}
    assert ran == {"yes": True, "no": False, "never": False, "always": True}


def test_what_is_told_of_blocks_and_values_has_their_names() -> None:
    seen: list[tuple[str, list[str]]] = []
    solve(
        Conditional(),
        parse("one = 1\ntest one -> 3, 4\nwrite one -> exit\nwrite one"),
        observer=lambda step: seen.append((step.constraint, [grown[0] for grown in step.grew])),
    )
    assert seen[:2] == [("one = 1", ["one"]), ("the end of block 0", ["block 1"])]


def test_what_a_way_that_is_never_taken_would_give_is_not_joined() -> None:
    """Though the value it would give is known from elsewhere."""
    graph = parse(
        """
                one = 1
                six = 6
                test one  -> end(one), end(six)
        end(z): write z
        """
    )
    results = solve(Conditional(), graph)
    verify(results)
    assert results.of("z") == 1
    assert results.of("six") == 6


def test_without_takes_every_way_contributes() -> None:
    """The same analysis, not conditional."""
    graph = parse(SECOND_BRANCH)
    results = solve(Constants(), graph)
    assert results.of("z") is TOP
    assert results.runs(graph.node("right"))


def test_a_way_that_opens_late_is_looked_at_then() -> None:
    """Optimism is taken back: in the second round the other branch is taken."""
    graph = parse(
        """
               one = 1           -> loop(one)
        loop(c): test c          -> yes, no
        yes:   zero = 0          -> loop(zero)
        no:    write c
        """
    )
    results = solve(Conditional(), graph)
    verify(results)
    assert results.of("c") is TOP
    assert results.runs(graph.node("no"))


def test_a_constant_around_a_loop_needs_the_pruning() -> None:
    """Wegman and Zadeck's case: assuming the branch is not taken makes it so."""
    graph = parse(
        """
                 one = 1          -> loop(one)
        loop(x): read             -> test, done
        test:    test x           -> same, other
        same:    y = copy x       -> loop(y)
        other:   z = 2            -> loop(z)
        done:    write x
        """
    )
    conditional, plain = solve(Conditional(), graph), solve(Constants(), graph)
    verify(conditional)
    assert conditional.of("x") == 1
    assert not conditional.runs(graph.node("other"))
    assert plain.of("x") is TOP


def test_a_program_that_never_returns_has_nothing_after_it() -> None:
    """Code after an endless loop does not run."""
    graph = parse("a: one = 1\nb: test one -> b, c\nc: x = 2")
    results = solve(Conditional(), graph)
    verify(results)
    assert results.runs(graph.node("b"))
    assert not results.runs(graph.node("c"))
    assert not results.reached("x")


def test_several_entries_are_all_gone_from() -> None:
    """Each entry is reached, whatever the others decide."""
    nodes = [TextNode(word, word, (name,), ()) for word, name in [("1", "a"), ("2", "b")]]
    flow = Flow(
        nodes=nodes,
        blocks=[[0], [1], []],
        edges=[(0, 2), (1, 2)],
        entries=[0, 1],
        exits=[2],
        values=["a", "b", "c"],
        operands=[(), ()],
        results=[(0,), (1,)],
        copies=[
            Copy(0, 2, CopyKind.EDGE, node=0, block=0),
            Copy(1, 2, CopyKind.EDGE, node=1, block=1),
        ],
    )

    @frozen
    class Graph:
        flow: Flow[TextNode]

    results = solve(Conditional(), Graph(flow))
    verify(results)
    assert [results.of(name) for name in "abc"] == [1, 2, TOP]
    bounds = solve(Bounds(), Graph(flow))
    assert all(bounds.reached(node) for node in nodes)


# Every execution of every small program in which names are defined once


@st.composite
def single_assignments(draw: st.DrawFn) -> str:
    """Up to 5 blocks, each with the value x it is given, a sum, and one or two ways on."""
    size = draw(st.integers(2, 5))
    lines = ["use unknown", f"k = {draw(st.integers(0, 1))} -> b0(k)"]
    for number in range(size):
        lines.append(f"b{number}(x{number}): c{number} = {draw(st.sampled_from(['0', '1', '2']))}")
        lines.append(f"       s{number} = add x{number} c{number}")
        give = [f"{kind}{number}" for kind in "xcs"]
        target = st.integers(0, size - 1).map(lambda to: f"b{to}")
        ways = [f"{draw(target)}({draw(st.sampled_from(give))})" for _ in range(2)]
        asked = draw(st.sampled_from([*give, "unknown"]))
        if draw(st.booleans()):
            ways = [draw(st.sampled_from([ways[0], "exit"]))]
        lines.append(f"       test {asked} -> {', '.join(ways)}")
    return "\n".join(lines)


def values_seen(graph: TextGraph, unknown: int, steps: int = 60) -> Mapping[str, set[int]]:
    """What each name is in an execution."""
    flow = graph.flow
    known: dict[str, int] = {"unknown": unknown}
    seen: dict[str, set[int]] = {"unknown": {unknown}}
    block = flow.entries[0]
    for _ in range(steps):
        node = None
        for index in flow.blocks[block]:
            node = flow.nodes[index]
            for name in node.results:
                operands = [known[operand] for operand in node.operands]
                known[name] = sum(operands) if operands else int(node.word)
                seen.setdefault(name, set()).add(known[name])
        given = [(c.source, c.target) for c in flow.copies if c.block == block]
        became = {
            str(flow.values[target]): known[str(flow.values[source])] for source, target in given
        }
        known.update(became)
        for name, number in became.items():
            seen.setdefault(name, set()).add(number)
        targets = [target for source, target in flow.edges if source == block]
        if not targets:
            break
        if len(targets) > 1:
            assert node is not None
            block = targets[0 if known[node.operands[0]] else 1]
        else:
            block = targets[0]
    return seen


@settings(deadline=None, max_examples=200)
@given(single_assignments())
def test_conditional_constants_are_what_executions_see(text: str) -> None:
    """No value is missed, nothing that runs is cut, and pruning never says less."""
    graph = parse(text)
    pruned, plain = solve(Conditional(), graph), solve(Constants(), graph)
    verify(pruned)
    for unknown in (0, 1, 5):
        for name, numbers in values_seen(graph, unknown).items():
            fact = pruned.of(name)
            assert fact is TOP or {fact} == numbers
    for value in graph.flow.values:
        if pruned.reached(value):
            assert Flat().leq(pruned.of(value), plain.of(value))
