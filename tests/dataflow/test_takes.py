"""Which way control goes, between values: `takes` prunes ways, and what is after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow import (
    BOTTOM,
    TOP,
    Copy,
    CopyKind,
    Flat,
    Flow,
    Lattice,
    SparseForward,
    TextGraph,
    TextNode,
    UnreachedError,
    parse,
    solve,
    verify,
)
from tests.dataflow.test_edges import Bounds

Names = frozenset[str]


@frozen
class Constants(SparseForward[TextNode, Any]):
    """Names with the same value in all executions.  Forward, must.

    With `prune`, of the branches that executions take.  `test c -> yes, no` goes to `yes`
    unless c is 0.
    """

    lattice: Lattice[Any] = Flat()

    def entry(self, value: object) -> Any:
        return TOP

    def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
        if node.word in ("add", "copy"):
            if TOP in operands or BOTTOM in operands:
                return [TOP if TOP in operands else BOTTOM]
            return [sum(operands)]
        if node.word.lstrip("-").isdigit():
            return [int(node.word)]
        return [TOP] * len(node.results)


@frozen
class Conditional(Constants):
    def takes(self, node: TextNode, way: int, operands: Sequence[Any]) -> bool:
        if node.word != "test" or operands[0] is TOP:
            return True
        return operands[0] is not BOTTOM and (way == 0) == (operands[0] != 0)


SECOND_BRANCH = """
           one = 1
           c = copy one
           test c             -> left, right
    left:  x = 5              -> end(x)
    right: y = 6              -> end(y)
    end(z): write z
"""


def test_a_way_that_is_never_taken_contributes_nothing() -> None:
    """Its nodes do not run, its values have no fact, what it would copy is not joined."""
    graph = parse(SECOND_BRANCH)
    results = solve(Conditional(), graph)
    verify(results)
    assert results.of("z") == 5
    assert not results.reached("y")
    assert not results.runs(graph.node("right"))
    assert results.runs(graph.node("end"))
    with pytest.raises(UnreachedError, match="y"):
        results.of("y")


@frozen
class Forgets(Conditional):
    def takes(self, node: TextNode, way: int, operands: Sequence[Any]) -> bool:
        return None  # type: ignore[return-value]  # the mistake


@frozen
class ForgetsEntry(Constants):
    def entry(self, value: object) -> Any:
        return None


@pytest.mark.parametrize("analysis", [Constants(), Conditional()])
def test_whether_a_node_runs_is_not_asked_of_another_graph_s(analysis: Constants) -> None:
    results = solve(analysis, parse(SECOND_BRANCH))
    with pytest.raises(KeyError, match="other = 1 is not a node of this graph"):
        results.runs(parse("other = 1").flow.nodes[0])


def test_a_hook_that_forgets_to_return_is_told_so() -> None:
    """Which would read as a way that is not taken, or as an argument nobody knows."""
    with pytest.raises(TypeError, match="takes returned None for way 0 of test c"):
        solve(Forgets(), parse(SECOND_BRANCH))
    with pytest.raises(TypeError, match="entry returned None"):
        solve(ForgetsEntry(), parse("input a\nwrite a"))


def test_a_way_may_be_decided_by_several_operands() -> None:
    @frozen
    class Comparing(Constants):
        def takes(self, node: TextNode, way: int, operands: Sequence[Any]) -> bool:
            return node.word != "equal" or (way == 0) == (operands[0] == operands[1])

    graph = parse(
        """
               one = 1
               uno = 1
               two = 2
               equal one uno  -> yes, no
        yes:   equal one two  -> never, always
        no:    write one      -> exit
        never: write two      -> exit
        always: write uno
        """
    )
    results = solve(Comparing(), graph)
    verify(results)
    ran = {label: results.runs(graph.node(label)) for label in ("yes", "no", "never", "always")}
    assert ran == {"yes": True, "no": False, "never": False, "always": True}


def test_what_is_told_of_blocks_and_values_has_their_names() -> None:
    seen: list[tuple[str, list[str]]] = []
    solve(
        Conditional(),
        parse("one = 1\ntest one -> 3, 4\nwrite one -> exit\nwrite one"),
        observer=lambda step: seen.append((step.constraint, [grown[0] for grown in step.grew])),
    )
    assert seen[:2] == [("one = 1", ["one"]), ("the end of block 0", ["block 1"])]


def test_what_a_way_that_is_never_taken_would_give_is_not_joined() -> None:
    """Though the value it would give is known from elsewhere."""
    graph = parse(
        """
                one = 1
                six = 6
                test one  -> end(one), end(six)
        end(z): write z
        """
    )
    results = solve(Conditional(), graph)
    verify(results)
    assert results.of("z") == 1
    assert results.of("six") == 6


def test_without_takes_every_way_contributes() -> None:
    """The same analysis, not conditional."""
    graph = parse(SECOND_BRANCH)
    results = solve(Constants(), graph)
    assert results.of("z") is TOP
    assert results.runs(graph.node("right"))


def test_a_way_that_opens_late_is_looked_at_then() -> None:
    """Optimism is taken back: in the second round the other branch is taken."""
    graph = parse(
        """
               one = 1           -> loop(one)
        loop(c): test c          -> yes, no
        yes:   zero = 0          -> loop(zero)
        no:    write c
        """
    )
    results = solve(Conditional(), graph)
    verify(results)
    assert results.of("c") is TOP
    assert results.runs(graph.node("no"))


def test_a_constant_around_a_loop_needs_the_pruning() -> None:
    """Wegman and Zadeck's case: assuming the branch is not taken makes it so."""
    graph = parse(
        """
                 one = 1          -> loop(one)
        loop(x): read             -> test, done
        test:    test x           -> same, other
        same:    y = copy x       -> loop(y)
        other:   z = 2            -> loop(z)
        done:    write x
        """
    )
    conditional, plain = solve(Conditional(), graph), solve(Constants(), graph)
    verify(conditional)
    assert conditional.of("x") == 1
    assert not conditional.runs(graph.node("other"))
    assert plain.of("x") is TOP


def test_a_program_that_never_returns_has_nothing_after_it() -> None:
    """Code after an endless loop does not run."""
    graph = parse("a: one = 1\nb: test one -> b, c\nc: x = 2")
    results = solve(Conditional(), graph)
    verify(results)
    assert results.runs(graph.node("b"))
    assert not results.runs(graph.node("c"))
    assert not results.reached("x")


def test_several_entries_are_all_gone_from() -> None:
    """Each entry is reached, whatever the others decide."""
    nodes = [TextNode(word, word, (name,), ()) for word, name in [("1", "a"), ("2", "b")]]
    flow = Flow(
        nodes=nodes,
        blocks=[[0], [1], []],
        edges=[(0, 2), (1, 2)],
        entries=[0, 1],
        exits=[2],
        values=["a", "b", "c"],
        operands=[(), ()],
        results=[(0,), (1,)],
        copies=[
            Copy(0, 2, CopyKind.EDGE, node=0, block=0),
            Copy(1, 2, CopyKind.EDGE, node=1, block=1),
        ],
    )

    @frozen
    class Graph:
        flow: Flow[TextNode]

    results = solve(Conditional(), Graph(flow))
    verify(results)
    assert [results.of(name) for name in "abc"] == [1, 2, TOP]
    bounds = solve(Bounds(), Graph(flow))
    assert all(bounds.reached(node) for node in nodes)


# Every execution of every small program in which names are defined once


@st.composite
def single_assignments(draw: st.DrawFn) -> str:
    """Up to 5 blocks, each with the value x it is given, a sum, and one or two ways on."""
    size = draw(st.integers(2, 5))
    lines = ["use unknown", f"k = {draw(st.integers(0, 1))} -> b0(k)"]
    for number in range(size):
        lines.append(f"b{number}(x{number}): c{number} = {draw(st.sampled_from(['0', '1', '2']))}")
        lines.append(f"       s{number} = add x{number} c{number}")
        give = [f"{kind}{number}" for kind in "xcs"]
        target = st.integers(0, size - 1).map(lambda to: f"b{to}")
        ways = [f"{draw(target)}({draw(st.sampled_from(give))})" for _ in range(2)]
        asked = draw(st.sampled_from([*give, "unknown"]))
        if draw(st.booleans()):
            ways = [draw(st.sampled_from([ways[0], "exit"]))]
        lines.append(f"       test {asked} -> {', '.join(ways)}")
    return "\n".join(lines)


def values_seen(graph: TextGraph, unknown: int, steps: int = 60) -> Mapping[str, set[int]]:
    """What each name is in an execution."""
    flow = graph.flow
    known: dict[str, int] = {"unknown": unknown}
    seen: dict[str, set[int]] = {"unknown": {unknown}}
    block = flow.entries[0]
    for _ in range(steps):
        node = None
        for index in flow.blocks[block]:
            node = flow.nodes[index]
            for name in node.results:
                operands = [known[operand] for operand in node.operands]
                known[name] = sum(operands) if operands else int(node.word)
                seen.setdefault(name, set()).add(known[name])
        given = [(c.source, c.target) for c in flow.copies if c.block == block]
        became = {
            str(flow.values[target]): known[str(flow.values[source])] for source, target in given
        }
        known.update(became)
        for name, number in became.items():
            seen.setdefault(name, set()).add(number)
        targets = [target for source, target in flow.edges if source == block]
        if not targets:
            break
        if len(targets) > 1:
            assert node is not None
            block = targets[0 if known[node.operands[0]] else 1]
        else:
            block = targets[0]
    return seen


@settings(deadline=None, max_examples=200)
@given(single_assignments())
def test_conditional_constants_are_what_executions_see(text: str) -> None:
    """No value is missed, nothing that runs is cut, and pruning never says less."""
    graph = parse(text)
    pruned, plain = solve(Conditional(), graph), solve(Constants(), graph)
    verify(pruned)
    for unknown in (0, 1, 5):
        for name, numbers in values_seen(graph, unknown).items():
            fact = pruned.of(name)
            assert fact is TOP or {fact} == numbers
    for value in graph.flow.values:
        if pruned.reached(value):
            assert Flat().leq(pruned.of(value), plain.of(value))


def test_a_block_is_told_by_its_number_and_a_failing_node_by_its_program() -> None:
    """Of the first block, which here is entered from the second, as of any other."""

    class Failing(Conditional):
        def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
            if node.word == "fail":
                raise RuntimeError("no way")
            return super().transfer(node, operands)

    def entered_late(text: str) -> Flow[TextNode]:
        flow = parse(text).flow
        return evolve(flow, entries=(1,), edges=((1, 0),), exits=(0,))

    grown: list[str] = []
    flow = entered_late("one = 1 -> exit\ntwo = 2")
    solve(Failing(), flow, observer=lambda step: grown.extend(name for name, _, _ in step.grew))
    assert grown == ["block 0", "one", "two"]
    with pytest.raises(RuntimeError, match="no way") as caught:
        solve(Failing(), parse("one = 1\ntwo = fail one\nwrite two"))
    told = "\n".join(caught.value.__notes__)
    assert "fail one" in told
    assert "write two" in told  # what is around it


@pytest.mark.parametrize("word", ["1", "copy", "5"])
def test_a_failing_node_is_told_whatever_copies_there_are(word: str) -> None:
    class Failing(Conditional):
        def transfer(self, here: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
            if here.word == word:
                raise RuntimeError("no way")
            return super().transfer(here, operands)

    with pytest.raises(RuntimeError, match="no way") as caught:
        solve(Failing(), parse(SECOND_BRANCH))
    (node,) = (node for node in parse(SECOND_BRANCH).flow.nodes if node.word == word)
    assert f"\n  > {node}" in "\n".join(caught.value.__notes__)
