"""Hand-written cases: loops, widening, endless loops, four kinds of answer, errors, size."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from attrs import field, frozen

from dataflow import (
    BOTTOM,
    TOP,
    UNREACHED,
    Backward,
    Dual,
    Flat,
    Flow,
    Forward,
    Interval,
    Lattice,
    LatticeError,
    Powerset,
    SparseForward,
    TextGraph,
    TextNode,
    UnreachedError,
    parse,
    solve,
    verify,
)

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
