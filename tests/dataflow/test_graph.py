"""Cutting nodes into blocks: every node once, straight lines only, and none too short."""

from __future__ import annotations

from itertools import chain, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow import Flow
from dataflow.graph import straight_lines


@st.composite
def cuttable(draw: st.DrawFn) -> tuple[list[list[int]], list[int]]:
    """Successors of up to 8 nodes, two ways to the same one included, and some entries."""
    size = draw(st.integers(1, 8))
    node = st.integers(0, size - 1)
    successors = draw(st.lists(st.lists(node, max_size=3), min_size=size, max_size=size))
    return successors, draw(st.lists(node, max_size=2))


@settings(deadline=None, max_examples=150)
@given(cuttable())
def test_blocks_are_the_longest_straight_lines(
    drawn: tuple[list[list[int]], list[int]],
) -> None:
    """In a block one node leads to the next, which has no other way in; between blocks that
    is not so, unless execution may enter there or the two close a circle."""
    successors, entries = drawn
    blocks, edges = straight_lines(successors, entries)
    ways_in = [list(chain(*successors)).count(node) for node in range(len(successors))]
    assert sorted(chain(*blocks)) == list(range(len(successors)))
    for block in blocks:
        for first, second in pairwise(block):
            assert successors[first] == [second]
            assert ways_in[second] == 1
            assert second not in entries
    assert sorted((blocks[a][-1], blocks[b][0]) for a, b in edges) == sorted(
        (block[-1], target) for block in blocks for target in successors[block[-1]]
    )
    for a, b in edges:
        last, first = blocks[a][-1], blocks[b][0]
        only_way = len(successors[last]) == 1 and ways_in[first] == 1
        assert not only_way or first in entries or a == b


@pytest.mark.parametrize(
    ("successors", "blocks", "edges"),
    [
        ([[1], [2], []], [[0, 1, 2]], []),
        ([[1, 2], [3], [3], []], [[0], [1], [2], [3]], [(0, 1), (0, 2), (1, 3), (2, 3)]),
        ([[1], [2], [1]], [[0], [1, 2]], [(0, 1), (1, 1)]),
        ([[2], [], [1]], [[0, 2, 1]], []),
        ([[], [2], [1]], [[0], [1, 2]], [(1, 1)]),
        ([[0]], [[0]], [(0, 0)]),
        ([[1, 1], []], [[0], [1]], [(0, 1), (0, 1)]),
    ],
    ids=["line", "diamond", "loop", "out of order", "circle", "self loop", "two ways"],
)
def test_small_graphs(
    successors: list[list[int]], blocks: list[list[int]], edges: list[tuple[int, int]]
) -> None:
    """Node 0 is the entry."""
    assert straight_lines(successors, [0]) == (blocks, edges)


def test_nodes_and_values_are_found_by_what_they_are() -> None:
    """Numbers are positions; whatever is not in the graph is named in the error."""
    flow = Flow(["a", "b"], [[0], [1]], [(0, 1)], [0], [1], values=["x", "y"])
    assert (flow.number("b"), flow.value("y")) == (1, 1)
    assert flow.places == {0: (0, 0), 1: (1, 0)}
    with pytest.raises(KeyError, match="x is not a node of this graph"):
        flow.number("x")
    with pytest.raises(KeyError, match="a is not a value of this graph"):
        flow.value("a")
