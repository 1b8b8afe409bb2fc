"""Explanations of random programs, and of long ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow import (
    BOTTOM,
    TOP,
    Dual,
    Flat,
    Forward,
    Lattice,
    Powerset,
    Reason,
    SparseForward,
    TextGraph,
    TextNode,
    parse,
    solve,
    why,
)
from tests.dataflow import test_goldens
from tests.dataflow.test_explain import Constant, Names, names
from tests.dataflow.test_together import Live
from tests.dataflow.test_update import Origins, random_program


def all_of(reason: Reason[Any]) -> Iterator[Reason[Any]]:
    """A reason and all that it rests on, once each."""
    found = {reason: None}
    pending = [reason]
    while pending:
        fresh = [premise for premise in pending.pop().premises if premise not in found]
        found.update(dict.fromkeys(fresh))
        pending += fresh
    return iter(found)


def distance(graph: TextGraph, value: str, word: str) -> int:
    """How many values lie on the shortest way from where a word comes in to a value."""
    flow = graph.flow
    sources: dict[int, list[int]] = {}
    begins = {number for number in flow.inputs if word == f"entry {flow.values[number]}"}
    for node, read, made in zip(flow.nodes, flow.operands, flow.results, strict=True):
        for result in made:
            sources.setdefault(result, []).extend(read)
            if node.word == word:
                begins.add(result)
    for copy in flow.copies:
        sources.setdefault(copy.target, []).append(copy.source)
    pending = deque([(flow.value(value), 1)])
    seen = set()
    while pending:
        current, length = pending.popleft()
        if current in begins:
            return length
        if current not in seen:
            seen.add(current)
            pending += [(source, length + 1) for source in sources.get(current, ())]
    raise AssertionError(f"{word} does not get to {value}")


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 2**32))
def test_explanations_of_sets_are_the_shortest_ways(seed: int) -> None:
    graph = random_program(Random(seed))
    results = solve(Origins(), graph)
    for value in graph.flow.values:
        for word in results.of(value):
            reason = why(results, value, names(word))
            assert reason.steps == distance(graph, str(value), word)
            assert all(len(each.premises) < 2 for each in all_of(reason))


@frozen
class Sums(SparseForward[TextNode, Constant]):
    """What sums always are; an input is 1."""

    lattice: Lattice[Constant] = Flat[int]()

    def entry(self, value: object) -> Constant:
        return 1

    def transfer(self, node: TextNode, operands: Sequence[Constant]) -> Sequence[Constant]:
        return [summed(operands)] * len(node.results)


def summed(facts: Sequence[Constant]) -> Constant:
    if BOTTOM in facts or TOP in facts:
        return BOTTOM if BOTTOM in facts else TOP
    return sum(fact for fact in facts if isinstance(fact, int)) if facts else 1


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 2**32))
def test_explanations_of_constants_add_up(seed: int) -> None:
    """At each step what is told of the operands gives what is told of the result, or merges to
    it; and nothing is left without a beginning."""
    graph = random_program(Random(seed))
    operands = {str(node): node.operands for node in graph.flow.nodes}
    results = solve(Sums(), graph)
    for value in graph.flow.values:
        for reason in all_of(why(results, value)):
            told = {p.place.removeprefix("of "): number(p.fact) for p in reason.premises}
            if reason.by in operands:
                # A ⊤ among the operands is enough.
                reads = [told[name] for name in operands[reason.by] if name in told]
                assert summed(reads) == number(reason.fact)
                assert TOP in reads or len(reads) == len(operands[reason.by])
            elif reason.by == "edge":
                assert list(told.values()) == [number(reason.fact)]
            else:
                assert reason.by.startswith("merged: ")
                assert reason.fact == "⊤"
                assert len(set(told.values())) > 1


def number(text: str) -> Constant:
    return TOP if text == "⊤" else int(text)


def test_long_explanations_are_told_in_full() -> None:
    """Values that go back to two each: told once each, and never nested without end."""
    lines = ["a0 = 1", "b0 = 1"]
    for step in range(1_500):
        lines.append(f"a{step + 1} = add a{step} b{step}")
        lines.append(f"b{step + 1} = add b{step} a{step}")
    reason = why(solve(Sums(), parse("\n".join(lines))), "a1500")
    assert reason.steps == 3_001
    assert len(str(reason).splitlines()) < 4 * reason.steps


def loop_of(count: int) -> TextGraph:
    """A loop in which each of many names is counted up."""
    names_ = [f"x{number}" for number in range(count)]
    return parse("\n".join([
        *(f"{name} = read" for name in names_),
        "head: test q -> body, done",
        "body: nop", *(f"{name} = inc {name}" for name in names_), "go -> head",
        "done: nop", *(f"write {name}" for name in names_),
    ]))  # fmt: skip


class Counting(Live):
    """`Live`, which notes the nodes whose transfers are evaluated."""

    def transfer(self, node: TextNode, value: Names) -> Names:
        evaluated.append(node)
        return super().transfer(node, value)


evaluated: list[TextNode] = []


def test_all_of_a_large_fact_is_explained_for_a_few_evaluations_a_node() -> None:
    graph = loop_of(300)
    results = solve(Counting(), graph)
    assert len(results.before(graph.node("head"))) == 301
    evaluated.clear()
    assert why(results, graph.node("head")).steps < 310
    assert len(evaluated) < 4 * len(graph.flow.nodes)


class CountingConstants(test_goldens.Constants):
    def transfer(self, node: TextNode, value: Any) -> Any:
        evaluated.append(node)
        return super().transfer(node, value)


def test_where_many_selections_of_facts_are_possible_not_all_are_tried() -> None:
    """Sums of sums on every way around: each place could be asked for any of them together."""
    random = Random(1)

    def name() -> str:
        return f"x{random.randrange(30)}"

    lines = []
    for block in range(30):
        lines += [f"b{block}: {name()} = add {name()} {name()}", f"{name()} = read"]
        ways = sorted({min(block + 1, 29), random.randrange(30)})
        lines.append("test -> " + ", ".join(f"b{way}" for way in ways))
    graph = parse("\n".join(["x0 = 1", "x1 = 2", "x2 = 3", *lines]))
    results = solve(CountingConstants(), graph)
    evaluated.clear()
    for node in graph.flow.nodes[20:70:10]:
        assert why(results, node).steps > 10
    assert len(evaluated) < 400 * len(graph.flow.nodes)


def test_one_of_many_facts_is_explained_without_looking_far() -> None:
    """A derivation of three steps needs no look at what is hundreds of nodes away."""
    graph = loop_of(300)
    results = solve(Counting(), graph)
    evaluated.clear()
    assert why(results, graph.node("head"), names("x0")).steps < 5
    # Where a block is entered half-way, what holds there is found by going through it again.
    assert len(evaluated) < len(graph.flow.nodes)


def test_facts_of_must_analyses_have_reasons() -> None:
    """Upside down there may be no bottom: then every read counts."""

    @frozen
    class Assigned(Forward[TextNode, Names]):
        lattice: Lattice[Names] = Dual(Powerset())

        def boundary(self) -> Names:
            return frozenset()

        def transfer(self, node: TextNode, value: Names) -> Names:
            return value | frozenset(node.results)

    graph = parse("a = read -> left, right\nleft: b = read -> end\nright: nop -> end\nend: nop")
    reason = why(solve(Assigned(), graph), graph.node("end"))
    assert [each.by for each in all_of(reason)] != []
    assert all("rest on each other" not in each.by for each in all_of(reason))
