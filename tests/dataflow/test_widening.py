"""Loops that grow: widening, the descent after it, and what is told of those without end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from time import process_time
from typing import Any

import pytest
from attrs import frozen

from dataflow import (
    BOTTOM,
    Bits,
    Copy,
    CopyKind,
    DidNotConverge,
    Flow,
    Forward,
    Interval,
    Lattice,
    Powerset,
    SparseBackward,
    SparseForward,
    TextNode,
    parse,
    solve,
    verify,
)
from tests.dataflow.test_solve import COUNTING, INFINITY, Graph, Numbers, renumbered


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


@pytest.mark.parametrize("seed", range(20))
def test_the_descent_reaches_the_loop_behind_it(seed: int) -> None:
    """That has not gone around yet, so what was too much there must not keep itself alive; nor
    does what the loop said elsewhere before it shrank."""
    graph = parse(
        """
        start:  set 0
        head:   test     -> second, middle
        middle: test     -> second, body
        body:   below 10
        more:   add 1    -> head
        second: nop      -> second, third
        third:  write
        """
    )
    results = solve(Numbers(), renumbered(graph, seed))
    verify(results)
    assert results.before(graph.node("second")) == (0, 10)
    assert results.after(graph.node("third")) == (0, 10)


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
