"""`check_graph` accepts graphs as builders make them, and names what another one lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import given, settings

from dataflow import (
    Copy,
    CopyKind,
    Draft,
    Flow,
    Forward,
    GraphError,
    Lattice,
    Powerset,
    SparseBackward,
    check_graph,
    checked,
    parse,
    solve,
)
from examples.models import linear_model
from passes import load
from tests.dataflow.test_brute_force import in_lines, shapes
from tests.dataflow.test_brute_force_values import value_graphs
from tests.dataflow.test_solve import Graph

RIGHT: Flow[Any] = Flow(
    nodes=["a", "b", "c"],
    blocks=[[0], [1, 2]],
    edges=[(0, 1), (1, 1)],
    entries=[0],
    exits=[1],
    values=["x", "y"],
    operands=[[], [0], []],
    results=[[0], [1], []],
    inputs=[],
    outputs=[1],
    copies=[Copy(0, 1, CopyKind.EDGE, node=0, block=0)],
    begins={2: 0},
)


def test_a_right_graph_passes() -> None:
    """As a text, as a program, and by hand."""
    check_graph(Graph(RIGHT))
    check_graph(parse("a: n = read -> b(n)\nb(i): test i -> b(i), exit"))
    model, inputs = linear_model()
    check_graph(load(model, *inputs))


def test_values_that_no_node_touches_are_no_fault() -> None:
    check_graph(Flow([], [[]], [], [0], [0], values=["x"], inputs=[0]))


@settings(deadline=None, max_examples=50)
@given(shapes(), value_graphs())
def test_graphs_of_the_other_tests_pass(shape: Any, graph: Any) -> None:
    """Dead code, endless loops, dead ends and self loops are no faults."""
    check_graph(in_lines(shape, list(range(shape.size))))
    check_graph(graph)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"edges": [(0, 2)]}, "the edge from block 0 to block 2: there is no block 2"),
        ({"edges": [(-1, 0)]}, "the edge from block -1 to block 0: there is no block -1"),
        ({"entries": [2]}, "entries: there is no block 2; the graph has blocks 0 to 1"),
        ({"edges": [(0, "1")]}, "there is no block '1'; the graph has blocks 0 to 1"),
        ({"entries": []}, "no block is an entry"),
        ({"exits": [-1]}, "exits: there is no block -1"),
        ({"blocks": [[0], [1, 3]]}, "block 1: there is no node 3"),
        ({"blocks": [[0], [1, 2, 0]]}, "a stands in block 0 and in block 1"),
        ({"blocks": [[0], [1]], "begins": {}}, "c stands in no block"),
        ({"nodes": ["a", "b", "a"]}, "nodes 0 and 2 are equal: a"),
        ({"nodes": ["a", "b", []]}, r"nodes are looked up, and \[\] cannot be hashed"),
        ({"values": ["x", "x"]}, "values 0 and 1 are equal: x"),
        ({"entries": []}, "no block is an entry: name those"),
        ({"operands": [[], [0]]}, "`operands` has 2 entries for 3 nodes"),
        ({"results": ()}, "`results` has 0 entries for 3 nodes"),
        ({"operands": [[], [5], []]}, "the operands of b: there is no value 5"),
        ({"results": [[-1], [], []]}, "the results of a: there is no value -1"),
        ({"inputs": [2]}, "inputs: there is no value 2"),
        ({"outputs": [2]}, "outputs: there is no value 2"),
        ({"copies": [Copy(0, 2, CopyKind.EDGE, 0)]}, "the copy of value 0 to value 2: there is no"),
        ({"copies": [Copy(0, 1, CopyKind.EDGE, 9)]}, "value 0 to value 1: there is no node 9"),
        ({"copies": [Copy(0, 1, CopyKind.EDGE, 0, 9)]}, "value 1: there is no block 9"),
        ({"begins": {3: 0}}, "begins: there is no node 3"),
        ({"begins": {2: 7}}, "begins: there is no block 7"),
    ],
)
def test_what_is_not_there_is_named(wrong: dict[str, Any], message: str) -> None:
    """Negative numbers are not there either, though Python would count from the end."""
    with pytest.raises(GraphError, match=message):
        check_graph(Graph(evolve(RIGHT, **wrong)))


@frozen
class Dense(Forward[Any, frozenset[Any]]):
    lattice: Lattice[frozenset[Any]] = Powerset()

    def transfer(self, node: Any, value: frozenset[Any]) -> frozenset[Any]:
        return value | {node}


@frozen
class Sparse(SparseBackward[Any, frozenset[Any]]):
    lattice: Lattice[frozenset[Any]] = Powerset()

    def transfer(self, node: Any, results: Sequence[frozenset[Any]]) -> list[frozenset[Any]]:
        return [frozenset({node}) for _ in range(2)]


DANGLING: list[dict[str, Any]] = [
    {"edges": [(0, 2)]},
    {"edges": [(-1, 0)]},
    {"entries": [2]},
    {"exits": [-1]},
    {"blocks": [[0], [1, -1]]},
    {"operands": [[], [5], []]},
    {"results": [[-1], [], []]},
    {"inputs": [2]},
    {"outputs": [2]},
    {"copies": [Copy(0, 2, CopyKind.EDGE, 0)]},
    {"copies": [Copy(0, 1, CopyKind.EDGE, 0, 9)]},
    {"copies": [Copy(0, 1, CopyKind.EDGE, 9, 0)]},
    {"copies": [Copy(0, 1, CopyKind.EDGE, -1)]},
    {"begins": {2: 7}},
    {"begins": {7: 1}},
]


@pytest.mark.parametrize("wrong", DANGLING, ids=str)
@pytest.mark.parametrize("analysis", [Dense(), Sparse()])
def test_solving_refuses_a_graph_that_refers_to_what_it_has_not(
    wrong: dict[str, Any], analysis: Any
) -> None:
    """Whether the analysis would have looked there or not."""
    with pytest.raises(GraphError, match="there is no"):
        solve(analysis, Graph(evolve(RIGHT, **wrong)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"blocks": [[0], [1]], "begins": {}}, "c stands in no block"),
        ({"blocks": [[0], [1, 2, 0]]}, "a stands in block 0 and in block 1"),
        ({"entries": []}, "no block is an entry: name those"),
        ({"operands": [[], [0]]}, "`operands` has 2 entries for 3 nodes"),
        ({"results": [[0]]}, "`results` has 1 entries for 3 nodes"),
        ({"results": []}, "`results` has 0 entries for 3 nodes"),
        ({"blocks": [[0], [1, 1]], "begins": {}}, "b stands twice in block 1"),
    ],
)
def test_solving_and_editing_refuse_a_graph_that_is_not_whole(
    wrong: dict[str, Any], message: str
) -> None:
    for use in (lambda flow: solve(Dense(), flow), Draft):
        with pytest.raises(GraphError, match=message):
            use(evolve(RIGHT, **wrong))


@pytest.mark.parametrize(
    ("field", "given"),
    [("entries", 0), ("edges", 3), ("blocks", None), ("nodes", {"a", "b"}), ("values", {"x"})],
)
def test_a_part_of_a_graph_that_is_no_list_is_named(field: str, given: Any) -> None:
    with pytest.raises(GraphError, match=f"`{field}` of a Flow wants several, in a list, not "):
        evolve(RIGHT, **{field: given})


def test_what_can_be_gone_through_once_is_kept() -> None:
    """Edges of a generator are not gone when the second question is asked."""
    flow = Flow(["a", "b"], [[0], [1]], zip([0], [1]), iter([0]), iter([1]))  # type: ignore[arg-type]  # noqa: B905  # on purpose
    assert solve(Dense(), flow).before("b") == {"a"}
    assert flow.edges == ((0, 1),)


def test_facts_of_values_are_not_asked_of_a_graph_of_control_alone() -> None:
    with pytest.raises(GraphError, match="Sparse has a fact per value, and this graph has no val"):
        solve(Sparse(), Flow(["a"], [[0]], [], [0], [0]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"nodes": ["a", "b", "a"]}, "nodes 0 and 2 are equal: a"),
        (
            {"nodes": ["a", ("b", []), "c"]},
            r"nodes are looked up, and \('b', \[\]\) cannot be hashed",
        ),
        ({"values": ["x", "x"]}, "values 0 and 1 are equal: x"),
    ],
)
def test_nobody_is_told_the_facts_of_a_node_for_those_of_another(
    wrong: dict[str, Any], message: str
) -> None:
    """A graph is refused when it is first asked about what it cannot tell apart."""
    flow = evolve(RIGHT, **wrong)
    with pytest.raises(GraphError, match=message):
        _ = flow.number("a"), flow.value("x")


def test_what_cannot_be_hashed_is_no_node() -> None:
    results = solve(Dense(), RIGHT)
    with pytest.raises(KeyError, match=r"\['a'\] is not a node of this graph"):
        results.before(["a"])


def test_an_erased_node_is_not_missed() -> None:
    draft = Draft(parse("a\nb\nc"))
    draft.erase(draft.flow.nodes[1])
    check_graph(draft)
    assert len(str(solve(checked(Dense()), draft)).splitlines()) == 2
