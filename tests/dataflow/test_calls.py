"""Calls are sub-graphs: one instance per call path, recursion merged, both directions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from attrs import evolve, frozen

from dataflow import (
    BOTTOM,
    TOP,
    Backward,
    Bottom,
    Flat,
    Forward,
    GraphError,
    Instance,
    Lattice,
    Linked,
    Powerset,
    Shared,
    SparseForward,
    TextGraph,
    TextNode,
    Top,
    link,
    parse,
    solve,
    verify,
)
from dataflow import calls as calls_module

Constant = int | Bottom | Top
Node = Instance[TextNode]


@frozen
class Constants(SparseForward[Node, Constant]):
    lattice: Lattice[Constant] = Flat[int]()

    def transfer(self, node: Node, operands: Sequence[Constant]) -> Sequence[Constant]:
        word = node.of.word
        if word.isdigit():
            return [int(word)]
        numbers = [fact for fact in operands if isinstance(fact, int)]
        if word == "add" and len(numbers) == len(operands):
            return [sum(numbers)]
        return [BOTTOM if BOTTOM in operands else TOP] * len(node.of.results)

    def takes(self, node: Node, way: int, operands: Sequence[Constant]) -> bool:
        return True  # control counts, and goes anywhere it may


@frozen
class Words(Backward[Node, frozenset[str]]):
    """The words that may still come."""

    lattice: Lattice[frozenset[str]] = Powerset()

    def transfer(self, node: Node, value: frozenset[str]) -> frozenset[str]:
        return value | {node.of.word}


def callee(node: TextNode) -> str | None:
    return node.word.removeprefix("call.") if node.word.startswith("call.") else None


def linked(**functions: str) -> Linked[TextNode]:
    return link({name: parse(text) for name, text in functions.items()}, callee, "main")


def facts(graph: Linked[TextNode]) -> dict[str, Constant]:
    results = solve(Constants(), graph)
    verify(results)
    return {str(value): results.of(value) for value in graph.flow.values if results.reached(value)}


DOUBLE = "y = add x x\nreturn y"


def test_each_call_path_has_its_own_answer() -> None:
    graph = linked(main="a = 1\nb = call.double a\nc = call.double b\nreturn c", double=DOUBLE)
    found = facts(graph)
    assert (found["b"], found["c"]) == (2, 4)
    assert sum(str(value).endswith("/ y") for value in graph.flow.values) == 2


def test_calls_in_calls() -> None:
    graph = linked(
        main="a = 1\nb = call.four a\nreturn b",
        four="p = call.double q\nr = call.double p\nreturn r",
        double=DOUBLE,
    )
    assert facts(graph)["b"] == 4
    assert "b = call.four a / r = call.double p / y" in facts(graph)


def test_recursion_converges_and_merges() -> None:
    down = """
    test n -> deep, flat
    deep:  m = decrement n
           r = call.down m -> out(r)
    flat:  z = 7 -> out(z)
    out(w): return w
    """
    found = facts(linked(main="a = read\nb = call.down a\nreturn b", down=down))
    assert found["b"] == 7
    assert found["b = call.down a / n"] is TOP


def test_functions_that_call_each_other() -> None:
    even = (
        "test n -> on, off\non: m = decrement n\nr = call.odd m -> out(r)\noff: z = 1 -> out(z)\n"
    )
    odd = (
        "test n -> on, off\non: m = decrement n\nr = call.even m -> out(r)\noff: z = 0 -> out(z)\n"
    )
    end = "out(w): return w"
    found = facts(
        linked(main="a = read\nb = call.even a\nreturn b", even=even + end, odd=odd + end)
    )
    assert found["b"] is TOP


def test_a_callee_that_never_returns_leaves_the_rest_unreached() -> None:
    found = facts(
        linked(main="a = 1\nb = call.spin a\nreturn b", spin="top: x = add y y -> top\nreturn x")
    )
    assert "b" not in found


def test_backwards_through_calls() -> None:
    graph = linked(main="a = 1\nb = call.double a\nwrite b", double=DOUBLE)
    results = solve(Words(), graph)
    first, inside = graph.flow.nodes[0], graph.flow.nodes[3]
    assert str(inside) == "b = call.double a / y = add x x"
    assert results.before(first) == {"1", "call.double", "add", "return", "write"}
    assert results.after(inside) == {"return", "call.double", "write"}


def test_nested_calls_cost_one_evaluation_each() -> None:
    names = [f"f{number}" for number in range(12)]
    functions = {
        name: f"p = call.{following} q\nreturn p" for name, following in pairwise([*names, "leaf"])
    }
    graph = linked(main="a = 1\nb = call.f0 a\nreturn b", leaf=DOUBLE, **functions)
    results = solve(Constants(), graph)
    assert results.of(Instance((), "b")) == 2
    assert results.visits <= len(graph.flow.nodes) + len(graph.flow.copies) + len(graph.flow.blocks)


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(KeyError, match="calls 'nobody', which is not given"):
        linked(main="a = 1\nb = call.nobody a")
    with pytest.raises(ValueError, match="has 2 operands, its callee 1"):
        linked(main="a = 1\nb = call.double a a\nreturn b", double=DOUBLE)


def chain(length: int, calls: int) -> dict[str, TextGraph]:
    """Functions that each call the next one so many times."""
    found = {}
    for number in range(length):
        lines = ["a = copy x"]
        if number + 1 < length:
            lines = [f"a{n} = f{number + 1} x" for n in range(calls - 1)]
            lines.append(f"a = f{number + 1} x")
        found[f"f{number}"] = parse("\n".join([*lines, "return a"]))
    return found


def called_function(node: TextNode) -> str | None:
    return node.word if node.word.startswith("f") else None


def test_paths_may_be_long() -> None:
    graph = link(chain(2_000, 1), called_function, "f0")
    assert len(graph.flow.nodes) == 4_000


def test_too_many_call_paths_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty functions have a million paths if each calls the next one twice."""
    assert len(link(chain(8, 2), called_function, "f0").flow.nodes) == 127 * 3 + 128 * 2
    monkeypatch.setattr(calls_module, "MOST", 1_000)
    with pytest.raises(ValueError, match=r"more than 1,000 call paths, the last to 'f\d+'"):
        link(chain(20, 2), called_function, "f0")


class Conditional(Constants):
    """`test c` goes the first way unless c is 0."""

    def takes(self, node: Node, way: int, operands: Sequence[Constant]) -> bool:
        if node.of.word != "test" or not isinstance(operands[0], int):
            return True
        return way == (0 if operands[0] else 1)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("arrow", ["exit, more", "more, exit"])
def test_a_function_that_is_left_by_one_of_several_ways(number: int, arrow: str) -> None:
    """Each way has the number that it has in the text, whoever calls."""
    functions = {
        "main": parse(f"c = {number}\nr = f c"),
        "f": parse(f"y = 7\ntest x -> {arrow}\nmore: z = 2\nspin: nop -> spin\ndead: return y"),
    }
    graph = link(functions, lambda node: "f" if node.word == "f" else None, "main")
    results = solve(Conditional(), graph)
    (z,) = [v for v in graph.flow.values if str(v).endswith("/ z")]
    leaves = arrow.split(", ")[0 if number else 1] == "exit"
    assert results.reached(Instance((), "r")) == leaves
    assert results.reached(z) != leaves


@frozen
class Gathering(Constants):
    """The same, which also gathers the words that are evaluated."""

    words: Shared[str, frozenset[str]] = Shared(Powerset())

    def transfer(self, node: Node, operands: Sequence[Constant]) -> Sequence[Constant]:
        self.words.add("all", frozenset({node.of.word}))
        return super().transfer(node, operands)


def test_what_is_said_of_results_that_a_callee_gives_does_not_count() -> None:
    """Also where calls are evaluated for what they tell."""
    functions = {"main": parse("a = 1\nb = twice a"), "twice": parse("y = add x x\nreturn y")}
    graph = link(functions, lambda node: "twice" if node.word == "twice" else None, "main")
    analysis = Gathering()
    results = solve(analysis, graph)
    verify(results)
    assert results.of(Instance((), "b")) == 2
    assert results.filled(analysis.words).of("all") == {"1", "twice", "add", "return"}


@frozen
class Before(Forward[Node, frozenset[str]]):
    """The words that may have come.  Forward, may."""

    lattice: Lattice[frozenset[str]] = Powerset()

    def transfer(self, node: Node, value: frozenset[str]) -> frozenset[str]:
        return value | {node.of.word}


def called(node: TextNode) -> str | None:
    return node.word if node.word.startswith("f") else None


def test_functions_in_a_circle_have_one_instance_for_every_call_into_it() -> None:
    """Nine that all call each other have 81 calls, and no more paths than functions."""
    names = [f"f{number}" for number in range(9)]
    graph = link({name: parse("\n".join(names)) for name in names}, called, "f0")
    assert len(graph.flow.nodes) == 81
    outside = parse("f0\nf0")
    graph = link(
        {name: parse("\n".join(names)) for name in names} | {"main": outside}, called, "main"
    )
    assert len(graph.flow.nodes) == 2 + 2 * 81


def test_a_function_that_may_start_in_several_places_does_so_when_called() -> None:
    flow = parse("a: one -> end\nb: two -> end\nend: three").flow
    several = evolve(flow, entries=[0, 1])
    graph = link({"f": several, "main": parse("f\nlast: end")}, called, "main")
    (last,) = (node for node in graph.flow.nodes if node.of.label == "last")
    assert solve(Before(), graph).before(last) == {"one", "two", "three", "f"}
    graph = link({"main": several}, called, "main")
    assert all(map(solve(Before(), graph).reached, graph.flow.nodes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entries": []}, "in function 'f': no block is an entry"),
        ({"edges": [(0, 7)]}, "in function 'f': the edge from block 0 to block 7"),
        ({"exits": [0]}, "function 'f' may return at the end of block 0 or go on from there"),
    ],
)
def test_functions_that_cannot_be_linked_are_refused(change: dict[str, Any], message: str) -> None:
    flow = parse("a: one -> end, b\nb: two\nend: three").flow
    with pytest.raises(GraphError, match=message):
        link({"f": evolve(flow, **change), "main": parse("f")}, called, "main")


def test_what_is_no_function_is_refused_by_name() -> None:
    with pytest.raises(KeyError, match="'mian' is not given: the functions are main"):
        link({"main": parse("f")}, called, "mian")
    with pytest.raises(TypeError, match="link, as 'f', wants a graph, and 'one' is none"):
        link({"main": parse("f"), "f": "one"}, called, "main")  # type: ignore[dict-item]
