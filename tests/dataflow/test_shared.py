"""Facts that are gathered from everywhere: cells that analyses share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow import (
    Chain,
    DidNotConverge,
    Forward,
    Lattice,
    Powerset,
    TextNode,
    parse,
    solve,
    verify,
)
from dataflow.together import Partial, Shared
from tests.dataflow.test_brute_force import Shape, in_lines, shapes
from tests.dataflow.test_together import DeadWrites, Names


@frozen
class Summary(Forward[TextNode, Names]):
    """`store c` puts what was read so far under c; `load c` reads what any line stores there,
    whenever.  Forward, may, flow-insensitive in c."""

    cells: Shared[str, Names] = Shared(Powerset())
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        match node.word:
            case "read":
                return value | frozenset(node.operands)
            case "store":
                self.cells.add(node.operands[0], value)
            case "load":
                return value | self.cells.of(node.operands[0])
            case "forget":
                return frozenset()
        return value


def test_what_grows_without_end_is_named_with_its_analysis() -> None:
    """Where several are solved at once, a fact at a point is of one of them."""

    @frozen
    class Length(Forward[TextNode, int]):
        lattice: Lattice[int] = Chain()

        def transfer(self, node: TextNode, value: int) -> int:
            return value + 1

    @frozen
    class Reads(Forward[TextNode, Names]):
        lattice: Lattice[Names] = Powerset()
        length: Partial[TextNode, Any] = Partial(Length)

        def transfer(self, node: TextNode, value: Names) -> Names:
            return value if self.length.before(node) < 0 else value | {str(node)}

    with pytest.raises(DidNotConverge, match=r"fact at \[.*\] of Length grew .* times"):
        solve(Reads(), parse("a: x = read -> a, b\nb: write x"), limit=20)


def test_what_is_stored_later_is_seen_earlier() -> None:
    """Read before it is complete, in a straight line: who read is asked again."""
    graph = parse("1: load c\n2: forget\n3: read x\n4: store c\n5: forget\n6: read y\n7: store c")
    analysis = Summary()
    results = solve(analysis, graph)
    verify(results)
    assert results.after(graph.node("1")) == {"x", "y"}
    assert dict(results.filled(analysis.cells).items()) == {"c": {"x", "y"}}


def test_asking_for_points_tells_nothing_new() -> None:
    """What a transfer adds while a point inside a block is found again is not piled up."""
    graph = parse("1: read x\n2: store c\n3: read y\n4: store c -> exit, 1\n5: load c")
    results = solve(Summary(), graph)
    for label in "1234" * 3:
        results.before(graph.node(label))
    assert not results.sweep.told
    verify(results)


def test_a_field_that_is_not_filled_in_is_refused() -> None:
    """Of another analysis, say."""
    results = solve(Summary(), parse("nop"))
    with pytest.raises(KeyError, match="no field of Summary"):
        results.filled(DeadWrites().live)
    needed = solve(DeadWrites(), parse("x = read\nwrite x"))
    assert needed.filled(DeadWrites().live).before(needed.flow.nodes[1]) == {"x"}


def test_facts_go_round_through_cells_and_loops_until_nothing_grows() -> None:
    """c feeds d, d feeds c, one of them in a loop; e is nobody's."""
    graph = parse(
        """
        first: read x
               store c
               forget
        loop:  load d  -> body, last
        body:  read y
               store c
               forget  -> left, right
        left:  load c
               store d -> loop
        right: load e
               nop     -> loop
        last:  load d
        """
    )
    results = solve(Summary(), graph)
    verify(results)
    assert dict(results.filled(Summary().cells).items()) == {
        "c": {"x", "y"},
        "d": {"x", "y"},
        "e": frozenset(),
    }
    assert results.after(graph.node("last")) == {"x", "y"}
    assert results.before(graph.node("right")) == frozenset()


def test_each_solution_has_cells_of_its_own() -> None:
    """One analysis object, two graphs: nothing is left over."""
    analysis = Summary()
    first, second = parse("read x\nstore c"), parse("read y\nstore c")
    one, two = solve(analysis, first), solve(analysis, second)
    assert one.filled(analysis.cells).of("c") == {"x"}
    assert two.filled(analysis.cells).of("c") == {"y"}
    with pytest.raises(RuntimeError, match="nothing is known of Shared"):
        analysis.cells.of("c")


# Random programs: the least solution by going round until nothing changes


@st.composite
def cell_programs(draw: st.DrawFn) -> tuple[Shape, list[TextNode]]:
    """Small graphs in which lines read, store, load and forget, in two cells."""
    shape = draw(shapes())
    words = st.sampled_from(["read x", "read y", "read z", "store c", "store d", "load c",
                             "load d", "forget", "nop"])  # fmt: skip
    lines = [draw(words).split() for _ in range(shape.size)]
    return shape, [
        TextNode(str(number), line[0], (), tuple(line[1:])) for number, line in enumerate(lines)
    ]


def naive(
    shape: Shape, nodes: Sequence[TextNode]
) -> tuple[list[Names | None], Mapping[str, Names]]:
    """What holds before each line and in each cell, by rounds over everything."""
    before: list[Names | None] = [
        frozenset() if number in shape.entries else None for number in range(shape.size)
    ]
    cells: dict[str, Names] = {"c": frozenset(), "d": frozenset()}
    while True:
        old = list(before), dict(cells)
        for number, node in enumerate(nodes):
            fact = before[number]
            if fact is None:
                continue
            if node.word == "store":
                cells[node.operands[0]] |= fact
            elif node.word == "load":
                fact |= cells[node.operands[0]]
            elif node.word == "read":
                fact |= {node.operands[0]}
            elif node.word == "forget":
                fact = frozenset()
            for target in shape.successors[number]:
                before[target] = (before[target] or frozenset()) | fact
        if old == (before, cells):
            return before, cells


@settings(deadline=None, max_examples=150)
@given(cell_programs())
def test_shared_unknowns_are_the_least_solution(drawn: tuple[Shape, list[TextNode]]) -> None:
    """Whatever order lines are looked at in: nothing is missed, nothing is made up."""
    shape, nodes = drawn
    graph = in_lines(shape, nodes)
    results = solve(Summary(), graph)
    verify(results)
    before, expected = naive(shape, nodes)
    for node, fact in zip(nodes, before, strict=True):
        assert results.reached(node) == (fact is not None)
        if fact is not None:
            assert results.before(node) == fact
    for cell, fact in results.filled(Summary().cells).items():
        assert fact == expected[cell]


@frozen
class Everything(Forward[TextNode, Names]):
    """`put c` puts itself under c; `all` reads what is under any key, whenever.  Forward, may."""

    cells: Shared[str, Names] = Shared(Powerset())
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        if node.word == "put":
            self.cells.add(node.operands[0], frozenset({node.label}))
        if node.word == "all":
            return value.union(*(fact for _, fact in self.cells.items()))
        return value


def test_who_asks_for_all_keys_is_asked_again_for_new_ones() -> None:
    """The keys are a fact too: one that comes later is seen by who has asked before."""
    graph = parse("start: all -> use, more\nuse: read -> end\nmore: put c -> end\nend: read")
    results = solve(Everything(), graph)
    assert results.before(graph.node("use")) == {"more"}
    verify(results)
    nothing = parse("start: all\nuse: read")
    assert solve(Everything(), nothing).before(nothing.node("use")) == frozenset()
