"""Blocks that lead nowhere: no solution needs them, so they are evaluated for who watches only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import frozen

from dataflow import (
    UNREACHED,
    Copy,
    Forward,
    Lattice,
    Powerset,
    SparseForward,
    Step,
    TextNode,
    Unreached,
    parse,
    solve,
)

Names = frozenset[str]
BRANCH = parse("a: x = read -> b, c\nb: write x -> exit\nc: print x")


@frozen
class Words(Forward[TextNode, Names]):
    """The words of what has run.  Forward, may."""

    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | {node.word}


def test_ends_are_evaluated_for_who_watches() -> None:
    assert solve(Words(), BRANCH).visits == 1
    steps: list[Step[Names]] = []
    watched = solve(Words(), BRANCH, observer=steps.append)
    assert watched.visits == 3
    assert [step.constraint for step in steps[1:]] == ["[write x]", "[print x]"]
    assert all(list(step.read) == [{"read"}] and not step.grew for step in steps[1:])


def test_an_end_that_is_not_reached_is_not_evaluated() -> None:
    class First(Words):
        def edge(self, node: TextNode, way: int, value: Names) -> Names | Unreached:
            return value if way == 0 else UNREACHED

    seen: list[str] = []
    results = solve(First(), BRANCH, observer=lambda step: seen.append(step.constraint))
    assert seen == ["[x = read]", "[write x]"]
    assert results.visits == 2


def test_an_error_at_an_end_is_told_with_its_node() -> None:
    class Refuses(Words):
        def transfer(self, node: TextNode, value: Names) -> Names:
            if node.word == "print":
                raise RuntimeError("no printer")
            return super().transfer(node, value)

    assert solve(Refuses(), BRANCH).visits == 1
    with pytest.raises(RuntimeError, match="no printer") as caught:
        solve(Refuses(), BRANCH, observer=lambda step: None)
    told = "\n".join(caught.value.__notes__)
    assert "while analysing print x" in told
    assert "\n  > print x" in told


def test_the_error_of_an_observer_is_no_block_s() -> None:
    def watch(step: Step[Names]) -> None:
        if step.constraint == "[print x]":
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough") as caught:
        solve(Words(), BRANCH, observer=watch)
    assert not getattr(caught.value, "__notes__", [])


def test_the_error_of_a_copy_is_told_with_advice_and_no_program() -> None:
    """It is no node's, and the first of all constraints."""

    class Copies(SparseForward[TextNode, Any]):
        lattice: Lattice[Any] = Powerset()

        def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
            return [frozenset[str]()] * len(node.results)

        def copy(self, copy: Copy, value: Any) -> Any:
            raise TypeError("no copies")

    graph = parse("a: x = read -> b(x)\nb(y): write y")
    with pytest.raises(TypeError, match="no copies") as caught:
        solve(Copies(), graph)
    assert caught.value.__notes__ == [
        "while analysing edge",
        "solve(checked(analysis), graph) finds facts that are none",
    ]
