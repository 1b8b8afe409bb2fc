"""Hand-written cases: loops, widening, endless loops, four kinds of answer, errors, size."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Any, TypeVar, overload

import pytest
from attrs import define, field, frozen

from dataflow import (
    BOTTOM,
    TOP,
    UNREACHED,
    Backward,
    Bits,
    Copy,
    CopyKind,
    DidNotConverge,
    Dual,
    Flat,
    Flow,
    Forward,
    Interval,
    Lattice,
    LatticeError,
    PointResults,
    Powerset,
    Solved,
    SparseBackward,
    SparseForward,
    TextGraph,
    TextNode,
    TransferError,
    UnreachedError,
    parse,
    solve,
    verify,
)
from dataflow.analysis import System
from dataflow.solve import Sweep

INFINITY = float("inf")
T = TypeVar("T")
Names = frozenset[str]


@frozen
class Graph:
    """What `solve` asks of a graph."""

    flow: Flow[Any]


@frozen
class Live(Backward[TextNode, Names]):
    """Names that may be read later.  Backward, may."""

    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value - frozenset(node.results) | frozenset(node.operands)


@frozen
class Written(Forward[TextNode, Names]):
    """Names that every path has written.  Forward, must."""

    lattice: Lattice[Names] = Dual(Powerset())

    def boundary(self) -> Names:
        return frozenset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | frozenset(node.results)


@frozen
class Numbers(Forward[TextNode, Any]):
    """Between which bounds the one variable lies.  Forward, may.

    `set 3` and `add 1` change it; `below 10` and `from 10` pass only some of its values.
    `seen` collects what transfers were asked, in order.
    """

    lattice: Lattice[Any] = Interval()
    seen: list[tuple[str, Any]] = field(factory=list)

    def boundary(self) -> Any:
        return (0, 0)

    def transfer(self, node: TextNode, value: Any) -> Any:
        self.seen.append((node.label, value))
        if value is BOTTOM or not node.operands:
            return value
        amount = int(node.operands[0])
        match node.word:
            case "set":
                return amount, amount
            case "add":
                return value[0] + amount, value[1] + amount
            case "below":
                return self.lattice.meet(value, (-INFINITY, amount - 1))
            case "from":
                return self.lattice.meet(value, (amount, INFINITY))
        return value


COUNTING = """
    start: set 0
    head:  test    -> body, done
    body:  below 10
    more:  add 1   -> head
    done:  from 10
    end:   write
"""


# Loops


def nested_loops(depth: int, late: bool = True) -> TextGraph:
    """`while` loops inside one another, with lines before and after each inner loop.

    `late`: each body reads something that the head has not read already, so that only
    the way back around tells the inner loops of it.
    """
    lines = []
    for level in range(depth):
        lines.append(f"head{level}: test c{level} -> body{level}, done{level}")
        lines.append(f"body{level}: use {'a' if late else 'c'}{level}")
    lines.append("innermost: use x")
    for level in reversed(range(depth)):
        lines.append(f"back{level}: use b{level} -> head{level}")
        lines.append(f"done{level}: use d{level}")
    return parse("\n".join(lines))


def renumbered(graph: TextGraph, seed: int) -> Graph:
    """The same graph with its blocks numbered in another order."""
    flow = graph.flow
    order = random.Random(seed).sample(range(len(flow.blocks)), len(flow.blocks))
    new = {block: number for number, block in enumerate(order)}
    return Graph(
        Flow(
            nodes=flow.nodes,
            blocks=[flow.blocks[block] for block in order],
            edges=[(new[source], new[target]) for source, target in flow.edges],
            entries=[new[block] for block in flow.entries],
            exits=[new[block] for block in flow.exits],
        )
    )


def live_innermost(depth: int, kinds: str) -> Names:
    """From the innermost point, everything in all loops may still be read."""
    return frozenset(f"{kind}{level}" for kind in kinds for level in range(depth)) | {"x"}


@pytest.mark.parametrize("depth", range(1, 13))
def test_nested_loops_cost_two_evaluations_per_block(depth: int) -> None:
    """Loops in loops are one system: no level solves the ones inside it from scratch."""
    graph = nested_loops(depth, late=False)
    results = solve(Live(), graph)
    verify(results)
    assert results.after(graph.node("innermost")) == live_innermost(depth, "bcd")
    assert results.visits <= 2 * len(graph.flow.blocks)


@pytest.mark.parametrize("depth", range(1, 13))
def test_news_from_each_level_costs_one_more_round_of_what_is_inside(depth: int) -> None:
    """At worst a block is evaluated once more per level around it, never twice as often."""
    graph = nested_loops(depth)
    results = solve(Live(), graph)
    verify(results)
    assert results.after(graph.node("innermost")) == live_innermost(depth, "abcd")
    assert results.visits <= (depth + 1) * len(graph.flow.blocks)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 12])
def test_nested_counters_are_widened_and_stay_cheap(depth: int) -> None:
    """Widening settles all levels together, in a few evaluations per block."""
    lines = ["start: set 0"]
    for level in range(depth):
        lines.append(f"head{level}: test -> body{level}, done{level}")
        lines.append(f"body{level}: below {10 * (level + 1)}")
    for level in reversed(range(depth)):
        lines.append(f"back{level}: add 1 -> head{level}")
        lines.append(f"done{level}: from 1")
    graph = parse("\n".join(lines))
    results = solve(Numbers(), graph)
    verify(results)
    assert results.visits <= 5 * len(graph.flow.blocks)


def test_a_loop_without_exit_is_solved_backwards() -> None:
    """What an endless loop reads is live in it, though no exit is reachable."""
    graph = parse(
        """
        start: x = read
               y = read  -> loop
        loop:  z = add y -> loop
        """
    )
    results = solve(Live(), graph)
    verify(results)
    assert all(results.reached(node) for node in graph.flow.nodes)
    assert results.before(graph.node("loop")) == {"y"}
    assert results.after(graph.node("start")) == frozenset()


def test_an_endless_loop_is_a_boundary_and_not_an_exit() -> None:
    """Beside an exit it takes part, and without one its must-facts start at the boundary."""

    @frozen
    class MustRead(Backward[TextNode, Names]):
        lattice: Lattice[Names] = Dual(Powerset())

        def boundary(self) -> Names:
            return frozenset()

        def transfer(self, node: TextNode, value: Names) -> Names:
            return value | frozenset(node.operands)

    graph = parse(
        """
        start: test      -> loop, out
        loop:  use a     -> loop
        out:   use a b
        """
    )
    results = solve(MustRead(), graph)
    verify(results)
    assert results.after(graph.node("start")) == {"a"}


def test_a_block_that_nothing_leads_into_is_unreached_forwards_only() -> None:
    """Backwards it is reached from its exit, and says what would happen from there."""
    graph = parse(
        """
        start: x = read -> end
        dead:  write y
        end:   write x
        """
    )
    forward = solve(Written(), graph)
    backward = solve(Live(), graph)
    dead = graph.node("dead")
    assert not forward.reached(dead)
    assert backward.reached(dead)
    assert backward.before(dead) == {"x", "y"}
    assert forward.after(graph.node("end")) == {"x"}


def test_before_a_node_with_a_sub_graph_is_before_its_sub_graph() -> None:
    """The node's own effect comes after its sub-graph, and `begins` says where it starts."""
    nodes = [TextNode(w, w, (w,), (f"for_{w}",)) for w in ("first", "inner", "loop", "last")]
    flow = Flow(
        nodes=nodes,
        blocks=[[0], [1], [2, 3]],
        edges=[(0, 1), (1, 1), (1, 2)],
        entries=[0],
        exits=[2],
        begins={2: 0},
    )
    _, inner, loop, last = nodes
    forward = solve(Written(), Graph(flow))
    assert forward.before(loop) == {"first"}
    assert forward.before(inner) == {"first"}
    assert forward.after(loop) == forward.before(last) == {"first", "inner", "loop"}
    backward = solve(Live(), Graph(flow))
    assert backward.before(loop) == {"for_inner", "for_loop", "for_last"}
    assert backward.after(inner) == {"for_inner", "for_loop", "for_last"}
    assert backward.after(loop) == backward.before(last) == {"for_last"}


def test_blocks_may_be_empty() -> None:
    """A branch that does nothing, or a program that begins with a loop, still passes facts on."""
    first, last = nodes = [TextNode(word, word, (word,), ()) for word in ("first", "last")]
    graph = Graph(Flow(nodes, [[], [0], [], [1]], [(0, 1), (1, 2), (1, 3), (2, 3)], [0], [3]))
    assert solve(Written(), graph).before(last) == {"first"}
    assert solve(Live(), graph).after(first) == frozenset()


def test_an_empty_block_has_a_name_for_messages() -> None:
    node = TextNode("a", "nop", (), ())
    graph = Graph(Flow([node], [range(1), ()], [(0, 1)], [0], [1]))
    system = Written().pose(graph.flow)
    assert [system.constraint_name(block) for block in (0, 1)] == [f"[{node}]", "[no nodes]"]


@pytest.mark.parametrize("analysis", [Live(), Written()])
def test_the_numbering_of_blocks_costs_nothing(analysis: Live | Written) -> None:
    """Loops are found in the graph, not guessed from the order in which blocks are given."""
    graph = nested_loops(6)
    in_order = solve(analysis, graph)
    for seed in range(30):
        results = solve(analysis, renumbered(graph, seed))
        assert str(results) == str(in_order)
        assert results.visits == in_order.visits


# Widening and what comes after it


def test_a_counting_loop_ends_and_the_descent_finds_its_bound() -> None:
    """Widening leaps to infinity; recomputing the loop once takes back what it must not say."""
    graph = parse(COUNTING)
    results = solve(Numbers(), graph)
    verify(results)
    assert results.before(graph.node("head")) == (0, 10)
    assert results.after(graph.node("body")) == (0, 9)
    assert results.after(graph.node("more")) == (1, 10)


def test_the_descent_reaches_the_whole_loop_and_its_exits() -> None:
    """The bound found at the head holds in the body and behind the loop as well."""
    graph = parse(COUNTING)
    results = solve(Numbers(), graph)
    assert results.before(graph.node("body")) == (0, 10)
    assert results.after(graph.node("done")) == (10, 10)
    assert results.after(graph.node("end")) == (10, 10)


def test_two_ways_into_a_loop_are_joined_and_not_widened() -> None:
    """Only what comes around the loop can grow for ever; its entries cannot."""
    graph = parse(
        """
        start: test   -> one, five
        one:   set 1  -> head
        five:  set 5  -> head
        head:  test   -> body, done
        body:  nop    -> head
        done:  write
        """
    )
    results = solve(Numbers(), graph)
    verify(results)
    assert results.before(graph.node("done")) == (1, 5)


def test_branches_inside_a_loop_are_joined_and_not_widened() -> None:
    """However blocks are numbered: a loop feeds back to where it is entered, nowhere else."""
    graph = parse(
        """
        start: set 0
        head:  test     -> body, done
        body:  below 10 -> one, two
        one:   add 1    -> join
        two:   add 2    -> join
        join:  nop      -> head
        done:  write
        """
    )
    for seed in range(200):
        results = solve(Numbers(), renumbered(graph, seed))
        assert results.before(graph.node("head")) == (0, 11)
        assert results.before(graph.node("join")) == (1, 11)


def test_a_loop_that_was_not_widened_is_not_descended_from() -> None:
    """A loop before it that was has nothing to do with it."""
    graph = parse(
        """
        start: set 0
        one:   test    -> more, two
        more:  add 1   -> one
        two:   test    -> still, done
        still: nop     -> two
        done:  write
        """
    )
    analysis = Numbers()
    solve(analysis, graph)
    times = Counter(label for label, _ in analysis.seen)
    assert times["two"] == times["still"] == 1


def test_widening_stops_at_thresholds_on_its_way() -> None:
    """The head is seen with a growing bound at each threshold and never between them."""
    graph = parse("start: set 0\nhead: test -> more, done\nmore: add 1 -> head\ndone: write")
    analysis = Numbers(Interval((8, 100)))
    results = solve(analysis, graph)
    verify(results)
    bounds = [value[1] for label, value in analysis.seen if label == "head"]
    assert list(dict.fromkeys(bounds)) == [0, 8, 100, INFINITY]
    assert results.before(graph.node("head")) == (0, INFINITY)


def test_a_threshold_at_the_bound_is_exact() -> None:
    """With the right threshold nothing overshoots and there is nothing to descend from."""
    graph = parse(COUNTING)
    results = solve(Numbers(Interval((10,))), graph)
    verify(results)
    assert results.before(graph.node("body")) == (0, 10)
    assert results.after(graph.node("end")) == (10, 10)


@frozen
class NeverWidens(Interval):
    """Intervals whose author forgot that they have chains without end."""

    def widen(self, old: Any, new: Any, visits: int) -> Any:
        return new


def test_a_loop_that_grows_for_ever_is_reported() -> None:
    """The message has the loop, how often it grew, its last facts and what to do."""
    graph = parse("start: set 0\nhead: test -> more, done\nmore: add 1 -> head\ndone: write")
    with pytest.raises(DidNotConverge) as caught:
        solve(Numbers(NeverWidens()), graph)
    message = str(caught.value)
    assert "[test]" in message
    assert "grew 541 times" in message
    assert "\n  [0, 538]\n  [0, 539]\n  [0, 540]\n  [0, 541]\n" in message
    assert "NeverWidens" in message
    assert "give it a `widen`; or, if they do end, solve with a `limit` above 540" in message


def test_large_facts_that_grow_for_ever_are_reported_in_a_second() -> None:
    """Each node of a round makes a larger set, and the message does not have all of it."""

    @frozen
    class Larger(Forward[TextNode, frozenset[Any]]):
        lattice: Lattice[frozenset[Any]] = Powerset()

        def transfer(self, node: TextNode, value: frozenset[Any]) -> frozenset[Any]:
            return value | {(node.label, len(value))}

    lines = ["head: test -> body, done", "body: add", *["nop"] * 6, "nop -> head", "done: nop"]
    start = process_time()
    with pytest.raises(DidNotConverge) as caught:
        solve(Larger(), parse("\n".join(lines)))
    assert process_time() - start < 1
    assert len(str(caught.value)) < 1_500


@frozen
class Handed(Forward[int, int]):
    """Node n hands what n - 1 has to n + 1."""

    lattice: Lattice[int] = Bits()

    def boundary(self) -> int:
        return 1

    def transfer(self, node: int, value: int) -> int:
        return value | (value >> node & 1) << node + 1


def test_the_default_limit_grows_with_the_graph() -> None:
    """Lines in a loop that hand a fact to the one before make a set grow as often as there are
    lines: that is no loop without end."""
    size = 1_100
    backwards = Flow(range(size), [range(size)[::-1]], [(0, 0)], [0], [0])
    assert solve(Handed(), backwards).before(size - 1) == (1 << size + 1) - 1


def test_the_loop_that_does_not_end_is_named() -> None:
    """Not another one before it, which does."""
    graph = parse(
        """
        once:  set 0  -> calm
        calm:  nop    -> calm, head
        head:  test   -> body, done
        body:  add 1  -> head
        done:  write
        """
    )
    with pytest.raises(DidNotConverge) as caught:
        solve(Numbers(NeverWidens()), graph, limit=20)
    assert "around its loop ([test], [add 1])" in str(caught.value)


def test_the_limit_bounds_the_work() -> None:
    """A limit of n ends after about n rounds; a loop that needs fewer is not disturbed."""
    graph = parse(COUNTING)
    analysis = Numbers(NeverWidens())
    assert solve(analysis, graph, limit=10).before(graph.node("head")) == (0, 10)
    analysis.seen.clear()
    with pytest.raises(DidNotConverge, match="grew 10 times"):
        solve(analysis, graph, limit=9)
    assert len(analysis.seen) < 10 * len(graph.flow.nodes)


def carried(values: Sequence[str], *copies: tuple[str, str, CopyKind]) -> Graph:
    """`start` begins as an input, `next = add start'`; copies say what becomes what."""
    number = {name: index for index, name in enumerate(values)}
    return Graph(
        Flow(
            nodes=[TextNode("add", "add", ("next",), ("carry",))],
            blocks=[[0]],
            edges=[],
            entries=[0],
            exits=[0],
            values=values,
            operands=[[number["carry"]]],
            results=[[number["next"]]],
            inputs=[number["start"]],
            outputs=[number[name] for name in values if name == "result"],
            copies=[Copy(number[s], number[t], kind, 0) for s, t, kind in copies],
        )
    )


LOOP = carried(
    ["start", "carry", "next", "result", "nobody"],
    ("start", "carry", CopyKind.ENTER),
    ("next", "carry", CopyKind.BACK),
    ("next", "result", CopyKind.EXIT),
    ("start", "result", CopyKind.SKIP),
)


@frozen
class ValueNumbers(SparseForward[TextNode, Any]):
    """Between which bounds each value lies; `add` adds one."""

    lattice: Lattice[Any] = Interval()

    def entry(self, value: object) -> Any:
        return (0, 0)

    def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
        low, high = operands[0]
        return [(low + 1, high + 1)]


def test_values_carried_around_a_loop_are_widened() -> None:
    """Copies back make a loop like any other."""
    results = solve(ValueNumbers(), LOOP)
    verify(results)
    assert results.of("carry") == (0, INFINITY)
    assert results.of("next") == (1, INFINITY)
    assert results.of("result") == (0, INFINITY)
    assert results.of("start") == (0, 0)


def test_a_value_that_grows_for_ever_is_named() -> None:
    """The message names the value and its last facts."""
    with pytest.raises(DidNotConverge, match=r"fact at (carry|next) grew 51 times.*\n.*, 4\d\]\n"):
        solve(ValueNumbers(NeverWidens()), LOOP, limit=50)


def test_uses_are_carried_backwards_around_a_loop() -> None:
    """What a later round reads is used by the round before; what nobody reads has bottom."""

    @frozen
    class Distance(SparseBackward[TextNode, Any]):
        """How many adds may lie between a value and the program's end."""

        lattice: Lattice[Any] = Interval()

        def exit(self, value: object) -> Any:
            return (0, 0)

        def transfer(self, node: TextNode, results: Sequence[Any]) -> Sequence[Any]:
            fact = results[0]
            return [fact if fact is BOTTOM else (fact[0] + 1, fact[1] + 1)]

    results = solve(Distance(), LOOP)
    verify(results)
    assert results.of("result") == (0, 0)
    assert results.of("next") == (0, INFINITY)
    assert results.of("start") == (0, INFINITY)
    assert results.of("nobody") is BOTTOM


# Must-analysis


def test_a_must_analysis_needs_no_universe() -> None:
    """Unreached paths are never joined, so nobody asks for "all names there are"."""
    graph = parse(
        """
        start: a = read
               test     -> left, right
        left:  b = read
               c = read -> end
        right: b = read -> end
        dead:  d = read
        end:   write
        """
    )
    results = solve(Written(), graph)
    verify(results)
    assert results.before(graph.node("end")) == {"a", "b"}


def test_a_must_analysis_in_a_loop_keeps_what_every_round_has() -> None:
    """The way back around is a path like the others, and is not taken as "nothing"."""
    graph = parse("start: a = read\nhead: test -> body, end\nbody: b = read -> head\nend: write")
    results = solve(Written(), graph)
    verify(results)
    assert results.before(graph.node("head")) == {"a"}
    assert results.before(graph.node("end")) == {"a"}
    assert results.after(graph.node("body")) == {"a", "b"}


def test_a_boundary_nobody_gave_asks_for_one() -> None:
    """The upside-down powerset has no bottom without a universe; the error says what to do."""

    @frozen
    class Forgotten(Forward[TextNode, Names]):
        lattice: Lattice[Names] = Dual(Powerset())

        def transfer(self, node: TextNode, value: Names) -> Names:
            return value

    with pytest.raises(LatticeError, match=r"Powerset\(universe=\.\.\.\)"):
        solve(Forgotten(), parse("nop"))


# Four kinds of answer


@frozen
class Constant(Forward[TextNode, Any]):
    """The one variable's value, if every path agrees.  `forget` makes it "no value yet"."""

    lattice: Lattice[Any] = Flat()

    def transfer(self, node: TextNode, value: Any) -> Any:
        match node.word:
            case "set":
                return node.operands[0]
            case "forget":
                return BOTTOM
        return value


def test_unreached_bottom_value_and_top_are_four_answers() -> None:
    """A place no execution gets to is none of the lattice's facts."""
    graph = parse(
        """
        start:  test   -> one, two, never
        one:    set a  -> both
        two:    set b  -> both
        both:   nop
        reset:  forget
        none:   nop    -> exit
        dead:   nop    -> exit
        never:  nop    -> exit
        """
    )
    results = solve(Constant(), graph)
    assert results.after(graph.node("one")) == "a"
    assert results.before(graph.node("both")) is TOP
    assert results.before(graph.node("none")) is BOTTOM
    assert results.before(graph.node("never")) is BOTTOM
    assert results.reached(graph.node("never"))
    assert not results.reached(graph.node("dead"))
    for ask in (results.before, results.after):
        with pytest.raises(UnreachedError, match="no execution reaches nop"):
            ask(graph.node("dead"))
    table = str(results).splitlines()
    assert table[6].split() == ["nop", "unreached", "unreached"]
    assert table[5].split() == ["nop", "⊥", "⊥"]
    assert results.states[graph.flow.places[6][0]] is UNREACHED


@frozen
class ValueConstants(SparseForward[TextNode, Any]):
    lattice: Lattice[Any] = Flat()

    def entry(self, value: object) -> Any:
        return TOP if value == "any" else BOTTOM

    def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
        return [operands[0] if operands else node.word] * len(node.results)


def test_values_have_the_four_answers_too() -> None:
    """A value that only itself defines is unreached; an input is what `entry` says."""
    graph = parse("a = 3\nb = copy any\nc = copy none\nd = copy d\ne, f = copy a")
    results = solve(ValueConstants(), graph)
    verify(results)
    assert [results.of(name) for name in "abcef"] == ["3", TOP, BOTTOM, "3", "3"]
    assert not results.reached("d")
    with pytest.raises(UnreachedError, match="no execution defines d"):
        results.of("d")
    assert "d  unreached" in str(results).splitlines()


# Asking wrongly


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


# Size

LENGTH = 100_000


@define(eq=False)
class Counted(Sequence[T]):
    """A sequence that counts the items it hands out."""

    items: Sequence[T]
    handed_out: int = 0

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, int):
            self.handed_out += 1
            return self.items[index]
        self.handed_out += len(range(len(self.items))[index])
        return self.items[index]


def long_line() -> tuple[Graph, Counted[int]]:
    """A hundred thousand nodes in a straight line, between an entry and an exit."""
    line = Counted(range(1, LENGTH + 1))
    nodes = range(LENGTH + 2)
    return Graph(Flow(nodes, [[0], line, [LENGTH + 1]], [(0, 1), (1, 2)], [0], [2])), line


@frozen
class LastFew(Forward[int, Any]):
    """The last two digits of node numbers behind a point, as bits or as a small set."""

    lattice: Lattice[Any]
    start: Any
    calls: Counter[str] = field(factory=Counter)

    def boundary(self) -> Any:
        return self.start

    def transfer(self, node: int, value: Any) -> Any:
        self.calls["transfer"] += 1
        return 1 << node % 100 if self.start == 0 else frozenset({node % 100})


@frozen
class NextFew(Backward[int, Any]):
    """The same ahead of a point."""

    lattice: Lattice[Any]
    start: Any
    calls: Counter[str] = field(factory=Counter)

    def boundary(self) -> Any:
        return self.start

    def transfer(self, node: int, value: Any) -> Any:
        self.calls["transfer"] += 1
        return 1 << node % 100 if self.start == 0 else frozenset({node % 100})


@pytest.mark.parametrize(
    "analysis",
    [
        LastFew(Bits(), 0),
        LastFew(Powerset(), frozenset()),
        NextFew(Bits(), 0),
        NextFew(Powerset(), frozenset()),
    ],
    ids=["forward-bits", "forward-sets", "backward-bits", "backward-sets"],
)
@pytest.mark.parametrize("reverse", [False, True], ids=["onward", "in-reverse"])
def test_a_long_line_costs_a_few_transfers_per_node(
    analysis: LastFew | NextFew, reverse: bool
) -> None:
    """Solving takes one per node; asking twice for every point, in either direction, four."""
    graph, _ = long_line()
    analysis.calls.clear()
    results = solve(analysis, graph)
    assert analysis.calls["transfer"] <= LENGTH + 2
    nodes = range(1, LENGTH + 1)
    wrong = 0
    for node in reversed(nodes) if reverse else nodes:
        before, after = results.before(node), results.after(node)
        near, far = (node - 1, node) if isinstance(analysis, LastFew) else (node + 1, node)
        expected = [1 << n % 100 if analysis.start == 0 else {n % 100} for n in (near, far)]
        got = [before, after] if isinstance(analysis, LastFew) else [after, before]
        wrong += got != expected
    assert wrong == 0
    assert analysis.calls["transfer"] <= 5.1 * LENGTH


@pytest.mark.parametrize("direction", [LastFew, NextFew])
def test_asking_does_not_walk_the_whole_line(direction: type[LastFew] | type[NextFew]) -> None:
    """A query touches about the square root of its block, not all of it."""
    graph, line = long_line()
    results = solve(direction(Bits(), 0), graph)
    line.handed_out = 0
    for node in range(1, LENGTH + 1):
        results.before(node)
    assert line.handed_out <= 5 * LENGTH


@pytest.mark.parametrize("base", [Forward, Backward])
def test_asking_for_every_point_keeps_few_facts(base: type[Any]) -> None:
    """About twice the square root of the line's length, never a table of all points."""
    made: list[weakref.ref[Any]] = []

    class Fresh(base):  # type: ignore[misc]  # either direction
        lattice: Lattice[Any] = Powerset()

        def transfer(self, node: int, value: Any) -> Any:
            fact = frozenset({node})
            made.append(weakref.ref(fact))
            return fact

    length = 10_000
    edges = [(0, 1), (1, 2)]
    flow = Flow(range(length + 2), [[0], range(1, length + 1), [length + 1]], edges, [0], [2])
    results: PointResults[int, Any] = solve(Fresh(), Graph(flow))
    for node in range(1, length + 1):
        results.before(node)
    gc.collect()
    assert len(made) > length
    assert sum(fact() is not None for fact in made) <= 300


def test_a_long_chain_of_values_is_one_evaluation_per_node() -> None:
    """Facts per value need no recomputing at all."""
    flow = Flow(
        nodes=range(LENGTH),
        blocks=[range(LENGTH)],
        edges=[],
        entries=[0],
        exits=[0],
        values=range(LENGTH + 1),
        operands=[(n,) for n in range(LENGTH)],
        results=[(n + 1,) for n in range(LENGTH)],
        inputs=[0],
        outputs=[LENGTH],
    )

    @frozen
    class Depth(SparseForward[int, int]):
        lattice: Lattice[int] = Bits()

        def transfer(self, node: int, operands: Sequence[int]) -> Sequence[int]:
            return [operands[0] + 1]

    @frozen
    class Height(SparseBackward[int, int]):
        lattice: Lattice[int] = Bits()

        def transfer(self, node: int, results: Sequence[int]) -> Sequence[int]:
            return [results[0] + 1]

    forward, backward = solve(Depth(), Graph(flow)), solve(Height(), Graph(flow))
    assert forward.visits == backward.visits == LENGTH
    assert forward.of(LENGTH) == backward.of(0) == LENGTH


def test_a_widened_loop_costs_the_same_however_long_the_program_is() -> None:
    """Counters one after the other: each loop looks at its own constraints only."""
    loops = 500
    # Constraint 2i counts unknown i up for ever; constraint 2i + 1 starts the next one.
    writes = Counted([(n // 2 + n % 2,) for n in range(2 * loops)])
    system: System[Any] = System(
        initial=[(0, 0), *[UNREACHED] * loops],
        reads=[(n // 2,) for n in range(2 * loops)],
        writes=writes,
        subjects=range(2 * loops),
        evaluate=lambda n, values: [(0, 0) if n % 2 else (0, values[0][1] + 1)],
        constraint_name=str,
        unknown_name=str,
    )
    sweep = Sweep(system, Interval(), limit=1_000)
    state, visits = sweep.run(), sweep.visits
    assert state == [(0, INFINITY)] * loops + [(0, 0)]
    assert visits <= 10 * loops
    assert writes.handed_out <= 40 * loops


# Determinism

PRINT_A_TABLE = """
import sys
sys.path[:0] = sys.argv[1:]
from test_solve import Live, Written, nested_loops
from dataflow import solve
for analysis in (Live(), Written()):
    results = solve(analysis, nested_loops(3))
    print(results.visits)
    print(results)
"""


def test_tables_do_not_depend_on_the_hash_seed() -> None:
    """Sets of names iterate differently in every process; the answers read the same."""
    here = Path(__file__).resolve()
    command = [sys.executable, "-c", PRINT_A_TABLE, str(here.parent), str(here.parents[2])]
    environment: Mapping[str, str] = os.environ
    tables = {
        subprocess.run(
            command,
            env={**environment, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(tables) == 1
    assert "unreached" not in tables.pop()
