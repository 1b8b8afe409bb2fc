"""Diffs, pictures and traces: what they show, and that it is the solution."""

from __future__ import annotations

import re
from typing import Any

from attrs import frozen
from hypothesis import given, settings

from dataflow import (
    Dual,
    Flow,
    Forward,
    Lattice,
    Powerset,
    TextNode,
    diffs,
    dot,
    parse,
    solve,
    trace,
    why,
)
from examples.analyses.constants import Constants
from examples.analyses.intervals import Intervals
from examples.analyses.reaching_writes import ReachingWrites
from tests.dataflow.test_brute_force import GenKill, in_lines, shapes_with_nodes
from tests.dataflow.test_edges import COUNTING, Bounds
from tests.dataflow.test_goldens import Liveness
from tests.dataflow.test_solve import Graph, Written
from tests.dataflow.test_together import CIRCLE, Numbers

LOOP = parse(
    """
    start: n = read
    loop:  test n     -> body, done
    body:  n = less n -> loop
    done:  write n
    """
)


def changes(results: Any) -> dict[str, str]:
    return {diff.node: str(diff) for diff in diffs(results)}


def test_a_diff_is_what_a_node_changes_in_execution_order() -> None:
    """Backward analyses too: liveness loses a name where it is read last."""
    assert changes(solve(Liveness(), LOOP)) == {
        "n = read": "+n",
        "test n": "",
        "n = less n": "",
        "write n": "-n",
    }
    assert changes(solve(ReachingWrites(), LOOP)) == {
        "n = read": "+n@start",
        "test n": "",
        "n = less n": "-n@start",
        "write n": "",
    }


def test_a_set_that_must_hold_is_taken_apart_like_others() -> None:
    """Upside down or not, its elements are its parts."""
    graph = parse("a = read\nb, c = read\ndead: nop -> exit\nx = read")
    assert changes(solve(Written(), graph)) == {"a = read": "+a", "b, c = read": "+b +c", "nop": ""}
    twice = solve(Written(Dual(Dual(Dual(Powerset())))), graph)
    assert changes(twice)["b, c = read"] == "+b +c"


def test_facts_that_have_no_parts_are_shown_as_they_were_and_are() -> None:
    """Ranges; and in a map, the keys that changed."""
    assert changes(solve(Bounds(), COUNTING))["add 3"] == "+[3, 12] -[0, 9]"
    graph = parse("one = 1\nn = 5\nn = sub n one\nn = add m m")
    assert changes(solve(Intervals(), graph)) == {
        "one = 1": "+one: [1, 1]",
        "n = 5": "+n: [5, 5]",
        "n = sub n one": "+n: [4, 4] -n: [5, 5]",
        "n = add m m": "-n: [4, 4]",
    }


@settings(deadline=None, max_examples=60)
@given(shapes_with_nodes)
def test_diffs_lead_from_the_fact_before_to_the_one_after(drawn: Any) -> None:
    """Adding what is gained and leaving out what is lost gives the fact after, everywhere."""
    shape, nodes = drawn
    results = solve(GenKill(Powerset(), frozenset({0})), in_lines(shape, nodes))
    found = iter(diffs(results))
    for node in filter(results.reached, nodes):
        diff = next(found)
        before, after = (set(map(str, f)) for f in (results.before(node), results.after(node)))
        assert (before | set(diff.gained)) - set(diff.lost) == after
        assert not before & set(diff.gained)
        assert set(diff.lost) <= before
    assert next(found, None) is None


# Pictures


def test_a_picture_of_points() -> None:
    """Blocks with facts at both ends and what nodes change; edges by the number of the way."""
    assert dot(solve(Liveness(), LOOP)) == "\n".join(
        [
            "digraph {",
            '  node [shape=box, fontname="monospace"]',
            r'  b0 [label="{}\ln = read    +n\l{n}\l"]',
            r'  b1 [label="{n}\ltest n\l{n}\l"]',
            r'  b2 [label="{n}\ln = less n\l{n}\l"]',
            r'  b3 [label="{n}\lwrite n    -n\l{}\l"]',
            "  start0 [shape=point]",
            "  start0 -> b0",
            "  end0 [shape=point]",
            "  b3 -> end0",
            "  b0 -> b1",
            '  b1 -> b2 [label="0"]',
            '  b1 -> b3 [label="1"]',
            "  b2 -> b1",
            "}",
        ]
    )


def test_a_picture_of_values() -> None:
    """Nodes, values with their facts, copies dotted; what does not run is dashed."""
    text = "one = 1\ntest one -> l, r\nl: x = 5 -> e(x)\nr: y = 6 -> e(y)\ne(z): write z"
    picture = dot(solve(Constants(), parse(text)))
    assert r'v3 [label="z  5\l"]' in picture
    assert r'v2 [label="y  unreached\l", style=dashed]' in picture
    assert r'n3 [label="y = 6\l", shape=ellipse, style=dashed]' in picture
    assert "  n3 -> v2\n" in picture
    assert "  v3 -> n4\n" in picture
    assert '  v1 -> v3 [style=dotted, label="edge"]' in picture


def test_dead_blocks_are_dashed_and_blocks_may_be_empty() -> None:
    """There is no fact to show."""
    dead = dot(solve(Written(), parse("a = read -> exit\nb = read")))
    assert r'b1 [label="b = read\l", style=dashed]' in dead
    node = TextNode("a", "a", (), ())
    empty: Flow[TextNode] = Flow([node], [[0], []], [(0, 1)], [0], [1])
    assert 'b1 [label=""]' in dot(solve(Written(), Graph(empty)))


STATEMENT = re.compile(
    r"""\ \ (node|[a-z]+\d+(\ ->\ [a-z]+\d+)?)
        (\ \[[a-z]+=(\w+|"([^"\\]|\\.)*")(,\ [a-z]+=(\w+|"([^"\\]|\\.)*"))*\])?$""",
    re.VERBOSE,
)


@frozen
class Odd(Forward[str, frozenset[str]]):
    """Nodes and facts with characters that mean something to a reader of DOT."""

    lattice: Lattice[frozenset[str]] = Powerset()

    def transfer(self, node: str, value: frozenset[str]) -> frozenset[str]:
        return value | {node}


def test_nothing_in_a_picture_is_taken_for_markup() -> None:
    """Quotes, backslashes, line ends and angle brackets are text."""
    nodes = ['say "hi"', "back\\slash\\", "two\nlines", "<b>bold</b>", '"] -> evil ["']
    picture = dot(solve(Odd(), Graph(Flow(nodes, [range(5)], [], [0], [0]))))
    for line in picture.splitlines()[1:-1]:
        assert STATEMENT.match(line), line
    assert len(picture.splitlines()) == 3 + 1 + 4
    (label,) = (line for line in picture.splitlines() if line.startswith("  b0 ["))
    assert r"\lsay \"hi\"    +say \"hi\"\lback\\slash\\    +back\\slash\\\ltwo\nlines " in label
    for drawn in (dot(solve(Liveness(), LOOP)), dot(solve(Constants(), parse(CIRCLE)))):
        assert all(STATEMENT.match(line) for line in drawn.splitlines()[1:-1])


# Traces


def test_a_trace_tells_each_evaluation() -> None:
    """What was evaluated, what it read, what grew; widening is seen where it leaps."""
    assert trace(Bounds(), COUNTING).splitlines() == [
        "1  [set 0]     reads [-inf, inf]  [below 10]: unreached to [0, 0]",
        "2  [below 10]  reads [0, 0]       [add 3]: unreached to [0, 0]",
        "3  [add 3]     reads [0, 0]       [below 10]: [0, 0] to [0, inf]",
        "4  [below 10]  reads [0, inf]     "
        "[add 3]: [0, 0] to [0, 9]; [write]: unreached to [10, inf]",
        "5  [add 3]     reads [0, 9]       nothing grows",
        "6  [write]     reads [10, 12]     nothing grows",
    ]


def test_a_trace_has_as_many_lines_as_the_solution_has_evaluations() -> None:
    """Of any kind of analysis, joint ones too; without a widened loop they are all told."""
    for analysis, graph in (
        (Liveness(), LOOP),
        (ReachingWrites(), LOOP),
        (Constants(), parse(CIRCLE)),
        (Numbers(), parse(CIRCLE)),
    ):
        steps: list[object] = []
        results = solve(analysis, graph, observer=steps.append)
        lines = trace(analysis, graph).splitlines()
        assert len(lines) == len(steps) == results.visits
        assert [int(line.split()[0]) for line in lines] == list(range(1, len(lines) + 1))


def test_a_trace_ends_with_the_blocks_that_no_fact_goes_on_from() -> None:
    """Solving without somebody who watches does not need them."""
    assert trace(Liveness(), parse("nop")) == "1  [nop]  reads {}  nothing grows"
    assert solve(Liveness(), parse("nop")).visits == 0
    sparse = parse("x = read\nwrite x")
    assert len(trace(Constants(), sparse).splitlines()) == 1


def test_parts_that_print_alike_are_told_apart() -> None:
    """Two lines `a = read` are two nodes."""

    class Ran(Forward[TextNode, frozenset[TextNode]]):
        lattice: Lattice[frozenset[TextNode]] = Powerset()

        def transfer(self, node: TextNode, value: frozenset[TextNode]) -> frozenset[TextNode]:
            return value | {node} if node.word == "read" else frozenset()

    results = solve(Ran(), parse("a = read\na = read\nforget"))
    told = [str(diff) for diff in diffs(results)]
    assert told == ["+a = read", "+a = read", "-a = read -a = read"]
    assert dot(results).count("+a = read") == 2


def test_what_holds_a_graph_is_shown_on_one_line() -> None:
    points, values = solve(Liveness(), LOOP), solve(Constants(), parse(CIRCLE))
    assert repr(points) == f"<PointResults of Liveness over {len(LOOP.flow.nodes)} nodes>"
    assert repr(values).startswith("<ValueResults of Constants over ")
    assert repr(LOOP.flow).startswith(f"<Flow of {len(LOOP.flow.nodes)} nodes in ")
    assert repr(points.sweep.system).startswith("<System of ")
    assert repr(why(points, LOOP.flow.nodes[-1])).startswith("<Reason for {")
