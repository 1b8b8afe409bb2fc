"""Updated results equal a fresh solve, after any edits; stale ones refuse to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow import (
    UNREACHED,
    Backward,
    Chain,
    Forward,
    Lattice,
    Powerset,
    SparseBackward,
    SparseForward,
    StaleError,
    TextGraph,
    TextNode,
    parse,
    solve,
    verify,
)
from dataflow.graph import Flow
from dataflow.update import Draft

Names = frozenset[str]


@frozen
class Origins(SparseForward[TextNode, Names]):
    """The words that a value is made with."""

    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, operands: Sequence[Names]) -> Sequence[Names]:
        return [frozenset([node.word]).union(*operands)] * len(node.results)

    def entry(self, value: object) -> Names:
        return frozenset([f"entry {value}"])


@frozen
class Uses(SparseBackward[TextNode, Names]):
    """The words that a value gets to."""

    lattice: Lattice[Names] = Powerset()
    count: bool = True

    def transfer(self, node: TextNode, results: Sequence[Names]) -> Sequence[Names]:
        # The arity of an edited node is the graph's to say.
        return Every(frozenset([node.word]).union(*results))


class Every(list[Names]):
    """The same fact for every operand, however many an edit has left."""

    def __init__(self, fact: Names) -> None:
        super().__init__([fact] * 2)


@frozen
class Live(Backward[TextNode, Names]):
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value - frozenset(node.results) | frozenset(node.operands)


@frozen
class Seen(Forward[TextNode, Names]):
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | {node.word}


LOOP = """
a = read
b = read          -> loop(a)
loop(i): test i a -> body, done
body:  j = grow i b
       k = copy j j -> loop(k)
done:  z = end i a
       y = write z b
"""


def node(word: str, *operands: str, result: str) -> TextNode:
    return TextNode(result, word, (result,), operands)


def same(updated: Any, graph: Draft[TextNode], analysis: Any) -> None:
    verify(updated)
    fresh = solve(analysis, graph)
    for value in graph.flow.values:
        state = fresh.states[graph.flow.value(value)]
        assert updated.states[graph.flow.value(value)] == state, value


def test_an_edit_changes_what_it_reaches_and_nothing_else() -> None:
    graph = Draft(parse(LOOP))
    line = {n.word: n for n in graph.flow.nodes}
    results = solve(Origins(), graph)
    assert results.of("z") == {"end", "grow", "copy", "read"}
    before = results.sweep.visits
    results = results.update(graph.replace_operand(line["write"], 1, "a"))
    assert results.of("y") == {"write", "end", "grow", "copy", "read"}
    assert results.sweep.visits - before == 1
    same(results, graph, Origins())


def test_a_dead_loop_fact_does_not_keep_itself_alive() -> None:
    graph = Draft(parse(LOOP))
    line = {n.word: n for n in graph.flow.nodes}
    results = solve(Origins(), graph)
    results = results.update(graph.insert(node("new", result="n"), line["grow"], (), ("n",)))
    results = results.update(graph.replace_operand(line["copy"], 0, "n"))
    results = results.update(graph.replace_operand(line["copy"], 1, "n"))
    assert results.of("i") == {"copy", "new", "read"}
    assert results.of("z") == {"end", "copy", "new", "read"}
    same(results, graph, Origins())


def test_old_results_refuse_to_answer() -> None:
    graph = Draft(parse(LOOP))
    line = {n.word: n for n in graph.flow.nodes}
    values, points = solve(Origins(), graph), solve(Live(), graph)
    edit = graph.replace_operand(line["write"], 1, "a")
    asks: tuple[Callable[[], object], ...] = (
        lambda: values.of("z"),
        lambda: values.reached("z"),
        lambda: points.before(line["test"]),
        lambda: points.after(line["test"]),
        lambda: points.reached(line["test"]),
    )
    for ask in asks:
        with pytest.raises(StaleError, match=r"1 edits since .* was solved"):
            ask()
    assert values.update(edit).of("z")
    graph.replace_operand(line["write"], 1, "b")
    with pytest.raises(StaleError, match="the one edit made since"):
        points.update(edit)


def test_dense_results_follow_their_blocks() -> None:
    graph = Draft(parse(LOOP))
    line = {n.word: n for n in graph.flow.nodes}
    seen, live = solve(Seen(), graph), solve(Live(), graph)
    edit = graph.insert(node("new", "b", result="n"), line["grow"], ("b",), ("n",))
    seen, live = seen.update(edit), live.update(edit)
    assert "new" in seen.before(line["test"])
    edit = graph.erase(graph.flow.nodes[-1])
    seen, live = seen.update(edit), live.update(edit)
    assert "new" not in seen.before(line["end"])
    fresh = solve(Seen(), graph)
    for each in graph.flow.node_number:
        assert seen.before(each) == fresh.before(each)


def test_edits_that_would_break_the_graph_are_refused() -> None:
    graph = Draft(parse(LOOP))
    line = {n.word: n for n in graph.flow.nodes}
    with pytest.raises(ValueError, match="z is used"):
        graph.erase(line["end"])
    with pytest.raises(ValueError, match="has 2 operands"):
        graph.replace_operand(line["grow"], 2, "a")
    with pytest.raises(KeyError, match="nowhere"):
        graph.replace_operand(line["grow"], 0, "nowhere")
    with pytest.raises(ValueError, match="defined already"):
        graph.insert(node("new", result="z"), line["grow"], (), ("z",))
    assert not graph.flow.edits


def random_program(random: Random) -> TextGraph:
    """Lines in loops and branches, two operands each from what is defined before."""
    lines = ["v0 = read", "v1 = read -> head(v0)", "head(i): test i v1 -> body, rest"]
    names = ["v0", "v1", "i"]
    for number in range(random.randint(1, 6)):
        label = "body: " if number == 0 else ""
        lines.append(f"{label}b{number} = w{number} {random.choice(names)} {random.choice(names)}")
        names.append(f"b{number}")
    lines[-1] += f" -> head({random.choice(names)})"
    names = ["v0", "v1", "i"]
    for number in range(random.randint(1, 6)):
        label = "rest: " if number == 0 else ""
        lines.append(f"{label}r{number} = x{number} {random.choice(names)} {random.choice(names)}")
        names.append(f"r{number}")
    return parse("\n".join(lines))


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 2**32))
def test_updates_equal_fresh_solves_over_random_edits(seed: int) -> None:
    random = Random(seed)
    graph = Draft(random_program(random))
    analyses: list[Any] = [Origins(), Uses()]
    results: list[Any] = [solve(analysis, graph) for analysis in analyses]
    for number in range(8):
        edit = random_edit(random, graph, number)
        if edit is None:
            continue
        results = [found.update(edit) for found in results]
        for analysis, found in zip(analyses, results, strict=True):
            same(found, graph, analysis)


def random_edit(random: Random, graph: Draft[TextNode], number: int) -> object | None:
    flow = graph.flow
    nodes = [n for n in flow.node_number if len(flow.operands[flow.number(n)]) == 2]
    chosen = random.choice(nodes)
    block = graph.block_of[flow.number(chosen)]
    position = flow.blocks[block].index(flow.number(chosen))
    visible = ["v0", "v1"] if block == 0 else ["v0", "v1", "i"]
    here = flow.blocks[block][:position]
    visible += [str(flow.values[v]) for n in here for v in flow.results[n]]
    match random.choice(("insert", "replace", "replace", "erase")):
        case "insert":
            after = [*visible, *(str(flow.values[v]) for v in flow.results[flow.number(chosen)])]
            operands = random.choices(after, k=2)
            new = TextNode(f"n{number}", f"n{number}", (f"n{number}",), tuple(operands))
            return graph.insert(new, chosen, operands, new.results)
        case "replace":
            return graph.replace_operand(chosen, random.randrange(2), random.choice(visible))
        case _:
            try:
                return graph.erase(chosen)
            except ValueError:
                return None


@frozen
class Depth(SparseForward[int, int]):
    """How far a value is from where a new count begins: every hundredth node."""

    lattice: Lattice[int] = Chain()

    def transfer(self, node: int, operands: Sequence[int]) -> Sequence[int]:
        return [0 if node % 100 == 0 else min(100, max(operands) + 1)]


@frozen(eq=False)
class Long:
    flow: Flow[int]


def test_an_edit_costs_what_it_changes() -> None:
    size = 20_000
    flow = Flow(
        nodes=range(size),
        blocks=[range(size)],
        edges=[],
        entries=[0],
        exits=[0],
        values=[f"v{n}" for n in range(size)],
        operands=[(), *((n - 1,) for n in range(1, size))],
        results=[(n,) for n in range(size)],
    )

    @frozen
    class Counted(Depth):
        def transfer(self, node: int, operands: Sequence[int]) -> Sequence[int]:
            return [0] if node % 100 == 0 else [max(operands) + 1]

    graph = Draft(Long(flow))
    results = solve(Counted(), graph)
    before = results.sweep.visits
    results = results.update(graph.replace_operand(1050, 0, "v1010"))
    assert results.of("v1050") == 11
    assert results.of("v1099") == 60
    assert results.of("v1100") == 0
    assert results.sweep.visits - before <= 51
    assert all(state is not UNREACHED for state in results.states)
