"""What is asked of no analysis, of no graph, or of a graph without values, is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from attrs import frozen

from dataflow import (
    Analysis,
    Draft,
    Flow,
    Forward,
    GraphError,
    Lattice,
    Powerset,
    SparseBackward,
    SparseForward,
    TextNode,
    check_graph,
    checked,
    parse,
    solve,
    verify,
    why,
)
from dataflow.system import System

Names = frozenset[str]
LINE = parse("x = read\nwrite x")


@frozen
class Words(Forward[TextNode, Names]):
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | {node.word}


@frozen
class Sources(SparseForward[TextNode, Names]):
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, operands: Sequence[Names]) -> Sequence[Names]:
        return [frozenset[str]().union(*operands)] * len(node.results)


@frozen
class Users(SparseBackward[TextNode, Names]):
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, results: Sequence[Names]) -> Sequence[Names]:
        return [frozenset[str]().union(*results)] * len(node.operands)


@frozen
class Own(Analysis[TextNode, Names]):
    """None of the four kinds."""

    lattice: Lattice[Names] = Powerset()

    def pose(self, flow: Flow[TextNode]) -> System[Names]:
        raise NotImplementedError


@frozen
class Broken:
    """A graph whose flow cannot be made."""

    @property
    def flow(self) -> Flow[TextNode]:
        raise AttributeError("no such block")


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda: solve(3, LINE), "solve wants an analysis, and 3 is none"),  # type: ignore[call-overload]  # on purpose
        (lambda: solve(Words, LINE), r"not its class: write Words\(...\)"),  # type: ignore[call-overload]  # on purpose
        (lambda: solve(Words(), 3), "solve wants a graph, and 3 is none: it has no `flow`"),  # type: ignore[call-overload]  # on purpose
        (lambda: solve(Words(), Flow), "solve wants a graph, and <class .*Flow'> is none"),  # type: ignore[call-overload]  # on purpose
        (lambda: solve(Words(), LINE, limit="3"), "whole number as `limit`, and '3' is none"),  # type: ignore[call-overload]  # on purpose
        (lambda: solve(Words(Powerset), LINE), "the field `lattice` of Words"),  # type: ignore[arg-type]  # on purpose
        (lambda: Draft(3), "Draft wants a graph, and 3 is none"),  # type: ignore[arg-type]  # on purpose
        (lambda: check_graph(3), "check_graph wants a graph, and 3 is none"),  # type: ignore[arg-type]  # on purpose
        (lambda: why(solve(Words(), LINE), LINE.flow.nodes[0], "x"), "'x' is no fact of Powerset"),  # type: ignore[misc]  # on purpose
        (lambda: verify(LINE), "verify wants what solve\\(\\) returned"),  # type: ignore[arg-type]  # on purpose
        (lambda: checked(3), "checked wants an analysis, and 3 is none"),  # type: ignore[type-var]  # on purpose
        (lambda: checked(Own()), "checked wants a Forward, Backward, .* and Own is none of them"),
    ],
)
def test_what_is_no_analysis_or_no_graph_is_refused(ask: Callable[[], object], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        ask()


def test_the_error_of_a_graph_is_its_own() -> None:
    with pytest.raises(AttributeError, match="no such block"):
        solve(Words(), Broken())


@pytest.mark.parametrize("analysis", [Sources(), Users()])
def test_facts_of_values_need_a_graph_that_has_values(analysis: Sources | Users) -> None:
    nodes = LINE.flow.nodes
    control = Flow(nodes, [[0, 1]], [], [0], [0])
    assert solve(Words(), control).after(nodes[1]) == {"read", "write"}
    with pytest.raises(GraphError, match=rf"{type(analysis).__name__} has a fact per value"):
        solve(analysis, control)
