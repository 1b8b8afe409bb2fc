"""What an edit does to who decides, to where a node stands, and to who is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import frozen

from dataflow import (
    Backward,
    Draft,
    Forward,
    Instance,
    Lattice,
    Partial,
    Powerset,
    Shared,
    TextNode,
    TransferError,
    check_graph,
    check_monotone,
    checked,
    diffs,
    dot,
    link,
    parse,
    solve,
    verify,
    why,
)
from dataflow.graph import Flow
from tests.dataflow.test_takes import Constants
from tests.dataflow.test_update import (
    Names,
    Origins,
    Reads,
    Seen,
    node,
    read_by,
    same,
)

BRANCHES = """
       n = read
       test n -> left, right
left:  a = one -> end
right: b = two -> end
end:   write n
"""


@frozen
class Decided(Forward[TextNode, Names]):
    """Who decided on the way here, and how."""

    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value

    def edge(self, node: TextNode, way: int, value: Names) -> Names:
        return value | {f"{node.word} {way}"}


@frozen
class Taken(Constants):
    """Goes right after a `test`, and either way after anything else."""

    def takes(self, node: TextNode, way: int, operands: Sequence[Any]) -> bool:
        return node.word != "test" or way == 1


@pytest.mark.parametrize("first", [True, False], ids=["solved before", "not solved before"])
def test_who_decides_is_the_last_node_of_a_block_as_it_is_now(first: bool) -> None:
    graph = Draft(parse(BRANCHES))
    line = {n.word: n for n in graph.flow.nodes}
    if first:
        points, values = solve(Decided(), graph), solve(Taken(), graph)
        assert points.before(line["write"]) == {"test 0", "test 1"}
        assert not values.reached("a")
    graph.insert(new := node("new", result="x"), line["test"], (), ("x",))
    points, values = solve(Decided(), graph), solve(Taken(), graph)
    assert points.before(line["write"]) == {"new 0", "new 1"}
    assert values.reached("a")
    check_graph(graph)
    same(points.update(graph.erase(new)), graph, Decided())
    graph.erase(line["test"])
    points, values = solve(Decided(), graph), solve(Taken(), graph)
    assert points.before(line["write"]) == {"read 0", "read 1"}
    assert values.reached("a")


def test_a_node_is_moved_by_erasing_and_inserting_it() -> None:
    graph = Draft(parse("a = read\nb = copy a\nc = grow a\nd = write c c"))
    b, c = graph.flow.nodes[1], graph.flow.nodes[2]
    results = solve(Origins(), graph)
    results = results.update(graph.erase(b))
    assert [line.split()[0] for line in str(results).splitlines()] == ["a", "c", "d"]
    with pytest.raises(KeyError, match="b is not a value of this graph"):
        results.of("b")
    with pytest.raises(KeyError, match="b is not a value"):
        graph.replace_operand(c, 0, "b")
    results = results.update(graph.insert(b, c, ("c",), ("b",)))
    results = results.update(graph.replace_operand(graph.flow.nodes[3], 1, "b"))
    assert results.of("b") == results.of("d") - {"write"} == {"read", "grow", "copy"}
    check_graph(graph)
    copies: list[Any] = [Draft(graph), link({"main": graph}, lambda _: None, "main")]
    for copied in copies:
        check_graph(copied)
        assert len(copied.flow.node_number) == 4
    same(results, graph, Origins())
    assert solve(checked(Origins()), graph).states == solve(Origins(), graph).states
    check_monotone(Origins(), graph, [frozenset({"x"}), frozenset()])
    points = solve(Seen(), graph)
    assert [diff.node for diff in diffs(points)] == [str(n) for n in graph.flow.node_number]
    assert dot(points).count("b = copy a") == 1
    assert dot(results).count("b = copy a") == 1


def test_what_is_handed_into_a_sub_graph_is_not_replaced() -> None:
    """The copy into the callee would still be of the old one."""
    functions = {
        "main": parse("a = one\nb = two\nc = double a\nd = copy c"),
        "double": parse("y = add x x\nreturn y"),
    }
    graph = Draft(link(functions, lambda n: "double" if n.word == "double" else None, "main"))
    line = {str(n): n for n in graph.flow.nodes}
    with pytest.raises(ValueError, match="c = double a hands a on into a sub-graph"):
        graph.replace_operand(line["c = double a"], 0, Instance((), "b"))
    graph.replace_operand(line["d = copy c"], 0, Instance((), "b"))
    arrow = Draft(parse("a = one\nb = two\nx = grow a -> end(a)\nend(i): write i"))
    arrow.replace_operand(arrow.flow.nodes[2], 0, "b")  # what an arrow gives is another matter


def test_a_result_is_defined_once() -> None:
    graph = Draft(parse("a = read"))
    with pytest.raises(ValueError, match="x is given twice"):
        graph.insert(node("new", result="x"), graph.flow.nodes[0], (), ("x", "x"))
    assert not graph.flow.edits


@frozen
class Told(Origins):
    """What is told from anywhere."""

    words: Shared[str, Names] = Shared(Powerset())

    def transfer(self, node: TextNode, operands: Sequence[Names]) -> Sequence[Names]:
        self.words.add("all", frozenset([node.word]))
        return super().transfer(node, operands)


def test_an_erased_node_tells_nothing() -> None:
    graph = Draft(parse("a = read\nb = copy a\nwrite a"))
    analysis = Told()
    results = solve(analysis, graph)
    results = results.update(graph.erase(graph.flow.nodes[1]))
    verify(results)
    words = results.filled(analysis.words)
    assert words.of("all") == {"read", "write"}
    assert "copy" not in str(why(results, "a"))


def test_an_update_that_failed_may_be_tried_again() -> None:
    """Half of it was done: then all is solved afresh."""
    fails = [True]

    class Fails(Origins):
        def transfer(self, node: TextNode, operands: Sequence[Names]) -> Sequence[Names]:
            if node.word == "new" and fails:
                raise ZeroDivisionError
            return super().transfer(node, operands)

    graph = Draft(parse("a = read\nb = copy a"))
    results = solve(Fails(), graph)
    edit = graph.insert(node("new", result="n"), graph.flow.nodes[0], (), ("n",))
    with pytest.raises(ZeroDivisionError):
        results.update(edit)
    fails.clear()
    results = results.update(edit)
    assert results.of("n") == {"new"}
    same(results, graph, Origins())


def test_an_update_made_twice_gives_the_same_twice() -> None:
    """The first has changed the state that old and new results share."""
    graph = Draft(parse("a = read\nb = copy a"))
    old = solve(Origins(), graph)
    edit = graph.insert(node("one", result="n"), graph.flow.nodes[0], (), ("n",))
    both = [old.update(edit), old.update(edit)]
    edit = graph.insert(node("two", result="m"), graph.flow.nodes[1], ("b", "n"), ("m",))
    for results in both:
        updated = results.update(edit)
        assert updated.of("m") == {"two", "copy", "read", "one"}
        same(updated, graph, Origins())


def test_a_checked_analysis_is_checked_after_an_edit() -> None:
    """An edit may change what a transfer gives: that is no breach."""
    graph = Draft(parse("a = read\nb = read\nc = copy a"))
    results = solve(checked(Reads(graph.flow)), graph)
    results = results.update(graph.replace_operand(graph.flow.nodes[2], 0, "b"))
    assert results.after(graph.flow.nodes[2]) == {"b"}

    class Fails(Reads):
        def transfer(self, node: TextNode, value: Names) -> Names:
            return set() if "a" in read_by(self.flow, node) else value  # type: ignore[return-value]

    failing = solve(checked(Fails(graph.flow)), graph)
    with pytest.raises(TransferError, match="which is no fact"):
        failing.update(graph.replace_operand(graph.flow.nodes[2], 0, "a"))


def test_the_ways_of_a_node_with_sub_graphs_follow_what_it_reads() -> None:
    """It decides at the end of another block than the one it stands in."""
    nodes = [node(word, result=word) for word in ("read", "other", "left", "right", "cond")]
    flow = Flow(
        nodes=nodes,
        blocks=[[0, 1], [2], [3], [4]],
        edges=[(0, 1), (0, 2), (1, 3), (2, 3)],
        entries=[0],
        exits=[3],
        values=[n.word for n in nodes],
        operands=[(), (), (), (), (0,)],
        results=[(n,) for n in range(5)],
        begins={4: 0},
    )
    for direction in (Forward, Backward):
        draft = Draft(flow)
        sides = sides_of(direction, draft.flow)
        results = solve(sides, draft)
        results = results.update(draft.replace_operand(nodes[4], 0, "other"))
        place = nodes[0] if direction is Backward else nodes[4]
        assert results.after(place) == {"0 of ['other']", "1 of ['other']"}
        same(results, draft, sides)


def sides_of(direction: Any, flow: Flow[TextNode]) -> Any:
    """An analysis of which ways were taken, by what the node that decides reads."""

    class Sides(direction):  # type: ignore[misc]  # either way
        lattice: Lattice[Names] = Powerset()

        def transfer(self, node: TextNode, value: Names) -> Names:
            return value

        def edge(self, node: TextNode, way: int, value: Names) -> Names:
            return value | {f"{way} of {sorted(read_by(flow, node))}"}

    return Sides()


def test_what_solving_filled_in_before_is_not_asked_again() -> None:
    """An analysis as it was solved, over another graph: the field is still the author's."""
    analysis = Before()
    solved: Any = solve(analysis, parse("a = one\nb = two\nc = three")).analysis
    other = parse("a = x\nb = y\nc = z")
    again = solve(solved, other)
    assert list(again.rows()) == list(solve(Before(), other).rows())
    assert again.filled(analysis.seen).before(other.flow.nodes[1]) == {"x"}


@frozen
class Before(Forward[TextNode, Names]):
    """What `Seen` says before the nodes on the way here."""

    lattice: Lattice[Names] = Powerset()
    seen: Partial[TextNode, Names] = Partial(Seen)

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | {"+".join(sorted(self.seen.before(node)))}
