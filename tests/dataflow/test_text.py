"""The text notation: what each part of a line means, and which texts are refused."""

from __future__ import annotations

from itertools import pairwise

import pytest

from dataflow import NotationError, TextGraph, TextNode, parse


def edges(graph: TextGraph) -> set[tuple[str, str]]:
    """Who may run right after whom, as labels, without regard to blocks."""
    flow = graph.flow
    inside = {
        (flow.nodes[first].label, flow.nodes[second].label)
        for block in flow.blocks
        for first, second in pairwise(block)
    }
    between = {
        (flow.nodes[flow.blocks[source][-1]].label, flow.nodes[flow.blocks[target][0]].label)
        for source, target in flow.edges
        if flow.blocks[target]
    }
    return inside | between


def exits(graph: TextGraph) -> set[str]:
    """The labels of the lines that may leave the graph."""
    flow = graph.flow
    ends = {target: source for source, target in flow.edges if not flow.blocks[target]}
    return {flow.nodes[flow.blocks[ends.get(block, block)][-1]].label for block in flow.exits}


@pytest.mark.parametrize(
    ("line", "node"),
    [
        ("nop", TextNode("1", "nop", (), ())),
        ("start: nop", TextNode("start", "nop", (), ())),
        ("x = read", TextNode("1", "read", ("x",), ())),
        ("s: x = add y z", TextNode("s", "add", ("x",), ("y", "z"))),
        ("x = add y, z", TextNode("1", "add", ("x",), ("y", "z"))),
        ("a, b = split x", TextNode("1", "split", ("a", "b"), ("x",))),
        ("  x=read   # a comment", TextNode("1", "read", ("x",), ())),
        ("x.1 = aten.add y_0 1.5 -2", TextNode("1", "aten.add", ("x.1",), ("y_0", "1.5", "-2"))),
        ("x = 3", TextNode("1", "3", ("x",), ())),
        ("write x -> exit", TextNode("1", "write", (), ("x",))),
        ("write x->exit", TextNode("1", "write", (), ("x",))),
    ],
)
def test_a_line_is_label_results_word_operands(line: str, node: TextNode) -> None:
    """All parts but the word are optional, and blanks are free."""
    assert parse(line).flow.nodes == [node]


def test_a_node_is_written_as_it_is_read() -> None:
    """Label and arrow belong to the graph; the rest of the line is the node."""
    lines = ["nop", "x = read", "a, b = split x y"]
    assert [str(node) for node in parse("\n".join(lines)).flow.nodes] == lines


def test_lines_run_on_unless_an_arrow_says_otherwise() -> None:
    """Without an arrow the next line follows; the last line leaves the graph."""
    graph = parse("a: nop\nb: nop -> a, d\n\n# between\nc: nop\nd: nop")
    assert edges(graph) == {("a", "b"), ("b", "a"), ("b", "d"), ("c", "d")}
    assert exits(graph) == {"d"}
    assert [graph.flow.nodes[graph.flow.blocks[b][0]].label for b in graph.flow.entries] == ["a"]


def test_a_line_may_leave_the_graph_or_go_on() -> None:
    """`exit` among the targets is one way on; a block ends wherever the graph may be left."""
    graph = parse("a: nop\nb: nop -> exit, c\nc: nop\nd: nop -> exit\ne: nop -> b")
    assert exits(graph) == {"b", "d"}
    assert edges(graph) == {("a", "b"), ("b", "c"), ("c", "d"), ("e", "b")}
    flow = graph.flow
    ways = {
        way: flow.blocks[target] for (_, target), way in zip(flow.edges, flow.ways, strict=True)
    }
    assert ways[graph.node("b"), 0] == []
    assert ways[graph.node("b"), 1] == [2, 3]


def test_the_first_line_is_the_entry_even_in_a_loop() -> None:
    """Execution starts before it, so it starts a block though only one line leads there."""
    graph = parse("a: nop\nb: nop -> a")
    assert graph.flow.blocks[graph.flow.entries[0]][0] == 0
    assert edges(graph) == {("a", "b"), ("b", "a")}
    assert exits(graph) == set()


def test_every_line_is_in_one_block() -> None:
    """Loops that nothing leads into and unreachable lines included."""
    graph = parse("a: nop -> exit\nb: nop -> c\nc: nop -> b\nd: nop -> d\ne: nop -> exit")
    assert sorted(node for block in graph.flow.blocks for node in block) == [0, 1, 2, 3, 4]
    assert edges(graph) == {("b", "c"), ("c", "b"), ("d", "d")}


def test_a_name_that_no_line_defines_is_an_input() -> None:
    """Names are values, numbered as they first appear; defining a name later is enough."""
    flow = parse("x = add y late\nlate = read\nwrite x y").flow
    assert flow.values == ["y", "late", "x"]
    assert [flow.values[number] for number in flow.inputs] == ["y"]
    assert flow.operands == [(0, 1), (), (2, 0)]
    assert flow.results == [(2,), (1,), ()]


def test_lines_are_found_by_label_or_by_number() -> None:
    """Counting from 1, and only the lines that have a node."""
    graph = parse("# title\n\nstart: x = read\nwrite x")
    assert graph.node("start").word == "read"
    assert graph.node("2").word == "write"
    with pytest.raises(KeyError, match="no line is labelled '1'"):
        graph.node("1")


def test_equal_lines_are_different_nodes() -> None:
    """The label is part of a node's identity."""
    flow = parse("nop\nnop").flow
    assert flow.number(flow.nodes[1]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no node"),
        ("  \n# nothing but a comment", "no node"),
        ("a: nop\na: nop", "label 'a'"),
        ("exit: nop", "label 'exit'"),
        ("2: nop\nnop", "label '2'"),
        ("nop -> nowhere", "'1' leads to no line: 'nowhere'"),
        ("a: nop -> b c", "'a' leads to no line"),
        ("nop ->", "cannot read line 1"),
        ("ok\n= read", "cannot read line 2: '= read'"),
        ("nop -> exit -> exit", "cannot read"),
        ("x > y", "cannot read"),
    ],
)
def test_a_wrong_text_is_refused(text: str, message: str) -> None:
    """The message names the line, or what is missing."""
    with pytest.raises(NotationError, match=message):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("-> exit", id="an arrow and no word"),
        pytest.param("l: -> exit", id="a label, an arrow and no word"),
        pytest.param("nop -> ,", id="an arrow to nowhere"),
        pytest.param("x =", id="results and no word"),
        pytest.param("a:", id="a label and no word"),
        pytest.param("a-b: nop", id="a label that is no name"),
        pytest.param("a b: nop", id="two labels"),
        pytest.param("x = y = z", id="two sets of results"),
        pytest.param("x == y", id="a comparison"),
    ],
)
def test_a_text_is_not_read_as_something_else(text: str) -> None:
    """Punctuation in the wrong place is an error, never a word or an operand."""
    with pytest.raises(NotationError):
        parse(text)


def test_a_line_without_a_label_is_called_by_its_number_among_the_nodes() -> None:
    """Blank lines and comments have no part in it, and no other line may have that label."""
    graph = parse("\n# two nodes\na = one\n\nb = two a")
    assert str(graph.node("2")) == "b = two a"
    with pytest.raises(KeyError, match="no line is labelled '5'"):
        graph.node("5")
    for text in ("2: a = one\nb = two", "a = one\n1: b = two"):
        with pytest.raises(NotationError, match="is taken twice, once as the number of a line"):
            parse(text)
    with pytest.raises(NotationError, match=r"label '2' is taken twice$"):
        parse("2: a = one\n2: b = two")
