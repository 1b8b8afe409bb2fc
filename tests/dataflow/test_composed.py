"""What is composed to one step a block is what its transfers give, on random programs."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow import (
    Backward,
    Bits,
    Dual,
    Flow,
    Forward,
    Lattice,
    solve,
    verify,
)
from dataflow.genkill import GenKill
from tests.dataflow.test_brute_force import Graph, Node, shapes


@frozen
class ForwardData(GenKill[Node, int], Forward[Node, int]):
    """Bits by number: the effect is data."""

    lattice: Lattice[int] = Bits()

    def effect(self, node: Node) -> tuple[int, int]:
        return number_of(node.gen), number_of(node.kill)


@frozen
class BackwardData(GenKill[Node, int], Backward[Node, int]):
    lattice: Lattice[int] = Bits()

    def effect(self, node: Node) -> tuple[int, int]:
        return number_of(node.gen), number_of(node.kill)


@frozen
class ForwardCode(Forward[Node, int]):
    """The same as a transfer."""

    lattice: Lattice[int] = Bits()

    def transfer(self, node: Node, value: int) -> int:
        return value & ~number_of(node.kill) | number_of(node.gen)


@frozen
class BackwardCode(Backward[Node, int]):
    lattice: Lattice[int] = Bits()

    def transfer(self, node: Node, value: int) -> int:
        return value & ~number_of(node.kill) | number_of(node.gen)


def number_of(elements: frozenset[Any]) -> int:
    """A set of small numbers or letters as bits."""
    return sum(1 << (ord(e) % 8 if isinstance(e, str) else e) for e in elements)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (ForwardData(), ForwardCode()),
        (BackwardData(), BackwardCode()),
        (ForwardData(Dual(Bits(8))), ForwardCode(Dual(Bits(8)))),
        (BackwardData(Dual(Bits(8))), BackwardCode(Dual(Bits(8)))),
    ],
)
@settings(deadline=None, max_examples=120)
@given(st.data())
def test_gen_and_kill_agree_with_the_transfer(data: Any, code: Any, draw: st.DataObject) -> None:
    """At every point, in blocks of any length."""
    shape = draw.draw(shapes())
    subset = st.frozensets(st.integers(0, 4), max_size=3)
    nodes: list[Node] = []
    blocks = []
    for _ in range(shape.size):
        length = draw.draw(st.integers(0, 3))
        blocks.append(range(len(nodes), len(nodes) + length))
        nodes += [Node(n, draw.draw(subset), draw.draw(subset)) for n in blocks[-1]]
    edges = [(source, to) for source in range(shape.size) for to in shape.successors[source]]
    graph = Graph(Flow(nodes, blocks, edges, sorted(shape.entries), sorted(shape.exits)))
    composed, stepped = solve(data, graph), solve(code, graph)
    verify(composed)
    assert composed.states == stepped.states
    for node in nodes:
        assert composed.reached(node) == stepped.reached(node)
        if composed.reached(node):
            assert composed.before(node) == stepped.before(node)
            assert composed.after(node) == stepped.after(node)
