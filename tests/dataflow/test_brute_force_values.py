"""Facts of values against brute force, on random programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, Literal

import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from dataflow import (
    Copy,
    CopyKind,
    Dual,
    Flow,
    Lattice,
    Lifted,
    Powerset,
    SparseBackward,
    SparseForward,
    UnreachedError,
    solve,
    verify,
)
from tests.dataflow.test_brute_force import (
    MODALITIES,
    Graph,
    Node,
    Set,
    intersection,
    sets,
    thorough,
    union,
)


@frozen
class Op:
    """Each fact it gives is the merge of those it gets, changed by an effect of its own.

    Forwards it gets one per operand and gives one per result; backwards the reverse.
    """

    number: int
    reads: int
    writes: int
    mix: Literal["union", "intersection"]
    effects: tuple[Node, Node]

    def given(self, facts: Sequence[Set], count: int) -> list[Set]:
        mixed = (union if self.mix == "union" else intersection)(facts) if facts else frozenset()
        return [effect.step(mixed) for effect in self.effects[:count]]


def crossing(copy: Copy, fact: Any) -> Any:
    """What a boundary does to a fact in these tests: the way back drops an element."""
    return fact - {0} if copy.kind is CopyKind.BACK and isinstance(fact, frozenset) else fact


@st.composite
def value_graphs(draw: st.DrawFn, loops: bool = True) -> Graph:
    """Values, ops that read and define some of them, and copies in any direction.

    Without loops, everything leads from lower values to higher ones.
    """
    size = draw(st.integers(2, 7))
    value = st.integers(0, size - 1)
    operands, results = [], []
    for _ in range(draw(st.integers(1, 6))):
        operands.append(draw(st.lists(value, max_size=2)))
        above = 0 if loops else max(operands[-1], default=-1) + 1
        results.append([v for v in draw(st.lists(value, max_size=2)) if v >= above])
    node = st.builds(Node, st.just(0), sets, sets)
    ops = [
        Op(
            number,
            len(operands[number]),
            len(results[number]),
            draw(st.sampled_from(["union", "intersection"])),
            draw(st.tuples(node, node)),
        )
        for number in range(len(operands))
    ]
    copy = st.builds(Copy, value, value, st.sampled_from(CopyKind), st.just(0))
    copies = [c for c in draw(st.lists(copy, max_size=5)) if loops or c.source < c.target]
    some_values = st.frozensets(value).map(sorted)
    return Graph(
        Flow(
            nodes=ops,
            blocks=[range(len(ops))],
            edges=[],
            entries=[0],
            exits=[0],
            values=[f"v{number}" for number in range(size)],
            operands=operands,
            results=results,
            inputs=draw(some_values),
            outputs=draw(some_values),
            copies=copies,
        )
    )


Step = tuple[Sequence[int], Sequence[int], Callable[[Sequence[Any]], Sequence[Any]]]


def derived(facts: list[set[Any]], steps: Sequence[Step]) -> list[set[Any]]:
    """For each value, the facts that follow from single facts of what the steps read."""
    size = -1
    while size != (size := sum(map(len, facts))):
        for reads, writes, give in steps:
            for some in list(product(*[facts[value] for value in reads])):
                for value, fact in zip(writes, give(some), strict=True):
                    facts[value].add(fact)
    return facts


def entry_fact(value: object) -> Set:
    """The boundary in these tests: `v1` starts as {1}, and so on."""
    return frozenset({int(str(value)[1:]) % 3})


@frozen
class PerValue(SparseForward[Op, Set]):
    lattice: Lattice[Set]

    def entry(self, value: object) -> Set:
        return entry_fact(value)

    def transfer(self, node: Op, operands: Sequence[Set]) -> Sequence[Set]:
        return node.given(operands, node.writes)

    def copy(self, copy: Copy, value: Set) -> Set:
        crossed: Set = crossing(copy, value)
        return crossed


@pytest.mark.parametrize("modality", ["may", "must"])
@thorough
@given(value_graphs())
def test_facts_of_values_follow_from_what_defines_them(modality: str, graph: Graph) -> None:
    """A value is the merge of all its derivations, around loops too, and unreached without."""
    flow = graph.flow
    lattice, merge = MODALITIES[modality]
    starts: list[set[Set]] = [set() for _ in flow.values]
    for value in flow.inputs:
        starts[value] = {entry_fact(flow.values[value])}
    steps: list[Step] = [
        (reads, writes, lambda facts, op=op: op.given(facts, op.writes))  # type: ignore[misc]
        for op, reads, writes in zip(flow.nodes, flow.operands, flow.results, strict=True)
    ]
    steps += [
        ([copy.source], [copy.target], lambda facts, copy=copy: [crossing(copy, facts[0])])  # type: ignore[misc]
        for copy in flow.copies
    ]
    expected = derived(starts, steps)

    results = solve(PerValue(lattice), graph)
    verify(results)
    for name, facts in zip(flow.values, expected, strict=True):
        assert results.reached(name) == bool(facts)
        if facts:
            assert results.of(name) == merge(facts)
        else:
            with pytest.raises(UnreachedError, match=f"no execution defines {name}"):
                results.of(name)


@frozen
class PerUse(SparseBackward[Op, Set]):
    lattice: Lattice[Set] = Powerset()

    def exit(self, value: object) -> Set:
        return entry_fact(value)

    def transfer(self, node: Op, results: Sequence[Set]) -> Sequence[Set]:
        return node.given(results, node.reads)

    def copy(self, copy: Copy, value: Set) -> Set:
        crossed: Set = crossing(copy, value)
        return crossed


MUST: Lattice[Any] = Lifted(Dual(Powerset()))
UNUSED: Any = MUST.bottom


def used_alike(op: Op, facts: Sequence[Any]) -> Sequence[Any]:
    """What all uses agree on; of results that nobody uses, nothing is known."""
    known = [fact for fact in facts if fact is not UNUSED]
    if facts and not known:
        return [UNUSED] * op.reads
    return evolve(op, mix="intersection").given(known, op.reads)


@frozen
class PerUseMust(SparseBackward[Op, Any]):
    lattice: Lattice[Any] = MUST

    def exit(self, value: object) -> Any:
        return entry_fact(value)

    def transfer(self, node: Op, results: Sequence[Any]) -> Sequence[Any]:
        return used_alike(node, results)

    def copy(self, copy: Copy, value: Any) -> Any:
        return crossing(copy, value)


def backward_steps(
    flow: Flow[Op], give: Callable[[Op, Sequence[Any]], Sequence[Any]]
) -> list[Step]:
    """Ops and copies as seen from the uses."""
    steps: list[Step] = [
        (writes, reads, lambda facts, op=op: give(op, facts))  # type: ignore[misc]
        for op, reads, writes in zip(flow.nodes, flow.operands, flow.results, strict=True)
    ]
    steps += [
        ([copy.target], [copy.source], lambda facts, copy=copy: [crossing(copy, facts[0])])  # type: ignore[misc]
        for copy in flow.copies
    ]
    return steps


@thorough
@given(value_graphs())
def test_facts_of_values_follow_from_what_uses_them(graph: Graph) -> None:
    """Uses are united, around loops too; what nobody uses is bottom and not unreached."""
    flow = graph.flow
    starts: list[set[Set]] = [{frozenset()} for _ in flow.values]
    for value in flow.outputs:
        starts[value] = {entry_fact(flow.values[value])}
    expected = derived(starts, backward_steps(flow, lambda op, facts: op.given(facts, op.reads)))
    results = solve(PerUse(), graph)
    verify(results)
    assert [results.of(value) for value in flow.values] == [union(facts) for facts in expected]


@thorough
@given(value_graphs())
def test_facts_on_which_all_uses_agree(graph: Graph) -> None:
    """The must-analysis of uses needs no universe: "no use yet" is a fact of its own."""
    flow = graph.flow
    starts: list[set[Any]] = [{UNUSED} for _ in flow.values]
    for value in flow.outputs:
        starts[value] = {entry_fact(flow.values[value])}
    expected = []
    for facts in derived(starts, backward_steps(flow, used_alike)):
        known = facts - {UNUSED}
        expected.append(intersection(known) if known else UNUSED)
    results = solve(PerUseMust(), graph)
    verify(results)
    assert [results.of(value) for value in flow.values] == expected


@thorough
@given(value_graphs(loops=False))
def test_without_loops_there_is_one_evaluation_per_op_and_copy(graph: Graph) -> None:
    """In whatever order the ops are given, with copies and without."""
    flow = graph.flow
    forward = solve(PerValue(Powerset()), graph)
    ways: list[tuple[Sequence[int], Sequence[int]]] = [
        *zip(flow.operands, flow.results, strict=True),
        *[([copy.source], [copy.target]) for copy in flow.copies],
    ]
    ready = [all(forward.reached(flow.values[value]) for value in reads) for reads, _ in ways]
    assert forward.visits == sum(
        go and bool(writes) for go, (_, writes) in zip(ready, ways, strict=True)
    )
    backward = solve(PerUse(), graph)
    assert backward.visits == sum(bool(reads) for reads, _ in ways)
