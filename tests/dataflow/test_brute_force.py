"""Solutions against a reference that follows every path, on random graphs.

The problems are distributive, so the least solution is the merge over all paths.  The
reference follows single facts, never merged ones, from node to node until no new pair of
node and fact turns up, and merges at the very end.  It knows no blocks, no order and no
lattices, and shares no code with the engine.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import pytest
from attrs import evolve, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow import (
    BOTTOM,
    TOP,
    Backward,
    Dual,
    Flat,
    Flow,
    Forward,
    Interval,
    Lattice,
    MapOf,
    PointResults,
    Powerset,
    UnreachedError,
    parse,
    solve,
    verify,
)
from dataflow.graph import straight_lines

Set = frozenset[int]
ELEMENTS: Set = frozenset(range(3))
sets = st.sampled_from([frozenset(i for i in ELEMENTS if n >> i & 1) for n in range(8)])
thorough = settings(deadline=None, max_examples=120)
brisk = settings(deadline=None, max_examples=40)


# Random control flow


@frozen
class Node:
    """A node that turns a set into `(set - kill) | gen`."""

    number: int
    kill: Set = frozenset()
    gen: Set = frozenset()

    def step(self, fact: Set) -> Set:
        return fact - self.kill | self.gen

    def __str__(self) -> str:
        return f"n{self.number}"


@frozen
class Shape:
    """Who may run after whom, where execution starts and where it may stop."""

    successors: tuple[tuple[int, ...], ...]
    entries: frozenset[int]
    exits: frozenset[int]

    @property
    def size(self) -> int:
        return len(self.successors)

    @property
    def predecessors(self) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in range(self.size)]
        for source, targets in enumerate(self.successors):
            for target in targets:
                found[target].append(source)
        return found

    def leading_to(self, goals: Iterable[int]) -> set[int]:
        """The nodes from which some goal can be reached."""
        predecessors = self.predecessors
        found: set[int] = set()
        pending = list(goals)
        while pending:
            node = pending.pop()
            if node not in found:
                found.add(node)
                pending += predecessors[node]
        return found

    @property
    def in_loops(self) -> set[int]:
        """The nodes that can be reached from themselves."""
        return {
            node
            for node in range(self.size)
            if any(target in self.leading_to([node]) for target in self.successors[node])
        }


@st.composite
def shapes(draw: st.DrawFn, loops: bool = True) -> Shape:
    """Graphs of 2 to 8 nodes: self loops, dead ends, unreachable nodes, loops without exit."""
    size = draw(st.integers(2, 8))
    # Each node draws up to three others at once; a number beyond the last node is none.
    drawn = st.tuples(*[st.integers(0, 2 * size - 1)] * 3)
    some = draw(st.lists(drawn, min_size=size + 2, max_size=size + 2))
    *successors, entries, exits = [[n for n in dict.fromkeys(three) if n < size] for three in some]
    return Shape(
        tuple(
            tuple(target for target in targets if loops or target > node)
            for node, targets in enumerate(successors)
        ),
        frozenset(entries[:2]) | {0},
        frozenset(exits),
    )


@frozen
class Graph:
    """What `solve` asks of a graph."""

    flow: Flow[Any]


def in_lines(shape: Shape, nodes: Sequence[Any]) -> Graph:
    """The shape in straight lines: execution may enter a block at its start only, and stop
    at its end only."""
    cuts = {target for node in shape.exits for target in shape.successors[node]}
    blocks, edges = straight_lines(shape.successors, sorted(shape.entries | cuts))
    starts = {block[0]: number for number, block in enumerate(blocks)}
    ends = {block[-1]: number for number, block in enumerate(blocks)}
    entries = [starts[node] for node in sorted(shape.entries)]
    return Graph(Flow(nodes, blocks, edges, entries, [ends[node] for node in sorted(shape.exits)]))


def one_by_one(shape: Shape, nodes: Sequence[Any]) -> Graph:
    """The shape with every node a block of its own."""
    edges = [(node, target) for node in range(shape.size) for target in shape.successors[node]]
    blocks = [[node] for node in range(shape.size)]
    return Graph(Flow(nodes, blocks, edges, sorted(shape.entries), sorted(shape.exits)))


def shuffled(graph: Graph, seed: random.Random) -> Graph:
    """The same graph with blocks numbered, and edges listed, in another order."""
    flow = graph.flow
    order = seed.sample(range(len(flow.blocks)), len(flow.blocks))
    new = {block: number for number, block in enumerate(order)}
    edges = [(new[source], new[target]) for source, target in flow.edges]
    return Graph(
        Flow(
            flow.nodes,
            [flow.blocks[block] for block in order],
            seed.sample(edges, len(edges)),
            [new[block] for block in flow.entries],
            [new[block] for block in flow.exits],
        )
    )


def node_lists(shape: Shape) -> st.SearchStrategy[list[Node]]:
    effects = st.lists(st.tuples(sets, sets), min_size=shape.size, max_size=shape.size)
    return effects.map(lambda some: [Node(n, kill, gen) for n, (kill, gen) in enumerate(some)])


shapes_with_nodes = shapes().flatmap(lambda shape: st.tuples(st.just(shape), node_lists(shape)))
acyclic_with_nodes = shapes(loops=False).flatmap(
    lambda shape: st.tuples(st.just(shape), node_lists(shape))
)


# The reference


def union(facts: Iterable[Set]) -> Set:
    return frozenset().union(*facts)


def intersection(facts: Iterable[Set]) -> Set:
    return frozenset.intersection(*facts)


def along_paths(
    onward: Sequence[Sequence[int]],
    starts: Iterable[int],
    boundary: Any,
    step: Callable[[int, Any], Any],
) -> list[set[Any]]:
    """For each node, the facts with which single paths from the starts get to it."""
    found: list[set[Any]] = [set() for _ in onward]
    pending = [(node, boundary) for node in starts]
    while pending:
        node, fact = pending.pop()
        if fact not in found[node]:
            found[node].add(fact)
            pending += [(following, step(node, fact)) for following in onward[node]]
    return found


def backward_starts(shape: Shape, flow: Flow[Any]) -> set[int]:
    """Where backward analysis starts: the exits, and, where none can be reached, what goes
    back or leads nowhere."""
    endless = set(range(len(shape.successors))) - shape.leading_to(shape.exits)
    ends = [next(iter(block[-1:]), None) for block in flow.blocks]
    back = {ends[source] for source, target in flow.edges if target <= source}
    return set(shape.exits) | {
        node for node in endless if node in back or not shape.successors[node]
    }


def agree(
    results: PointResults[Any, Any],
    arriving: Sequence[set[Any]],
    forward: bool,
    step: Callable[[int, Any], Any],
    merge: Callable[[Iterable[Any]], Any],
) -> None:
    """Every answer is the merge of what the reference found; unreached where it found none."""
    verify(results)
    for number, node in enumerate(results.flow.nodes):
        assert results.reached(node) == bool(arriving[number])
        if not arriving[number]:
            for ask in (results.before, results.after):
                with pytest.raises(UnreachedError, match="no execution reaches"):
                    ask(node)
            continue
        near = merge(arriving[number])
        far = merge([step(number, fact) for fact in arriving[number]])
        assert results.before(node) == (near if forward else far)
        assert results.after(node) == (far if forward else near)


# Sets, forwards and backwards, may and must


@frozen
class GenKill(Forward[Node, Set]):
    lattice: Lattice[Set]
    start: Set
    calls: Counter[Node] = field(factory=Counter)

    def boundary(self) -> Set:
        return self.start

    def transfer(self, node: Node, value: Set) -> Set:
        self.calls[node] += 1
        return node.step(value)


@frozen
class GenKillBackward(Backward[Node, Set]):
    lattice: Lattice[Set]
    start: Set
    calls: Counter[Node] = field(factory=Counter)

    def boundary(self) -> Set:
        return self.start

    def transfer(self, node: Node, value: Set) -> Set:
        self.calls[node] += 1
        return node.step(value)


Direction = Literal["forward", "backward"]
MODALITIES: Mapping[str, tuple[Lattice[Set], Callable[[Iterable[Set]], Set]]] = {
    "may": (Powerset(), union),
    "must": (Dual(Powerset()), intersection),
}
four_problems = pytest.mark.parametrize(
    ("direction", "modality"),
    [
        pytest.param("forward", "may", id="reaching_definitions"),
        pytest.param("backward", "may", id="liveness"),
        pytest.param("forward", "must", id="available_expressions"),
        pytest.param("backward", "must", id="very_busy_expressions"),
    ],
)


def posed(direction: Direction, modality: str, start: Set) -> GenKill | GenKillBackward:
    lattice = MODALITIES[modality][0]
    return GenKill(lattice, start) if direction == "forward" else GenKillBackward(lattice, start)


@four_problems
@thorough
@given(shapes_with_nodes, sets, st.randoms(use_true_random=False))
def test_sets_are_the_merge_over_all_paths(
    direction: Direction,
    modality: str,
    drawn: tuple[Shape, list[Node]],
    start: Set,
    seed: random.Random,
) -> None:
    """Before and after every node, however the graph is cut into blocks and numbered."""
    shape, nodes = drawn
    lines = in_lines(shape, nodes)
    singles = one_by_one(shape, nodes)
    for graph in (lines, singles, shuffled(lines, seed), shuffled(singles, seed)):
        if direction == "forward":
            onward: Sequence[Sequence[int]] = shape.successors
            starts = set(shape.entries)
        else:
            onward, starts = shape.predecessors, backward_starts(shape, graph.flow)
        arriving = along_paths(onward, starts, start, lambda n, fact: nodes[n].step(fact))
        agree(
            solve(posed(direction, modality, start), graph),
            arriving,
            direction == "forward",
            lambda n, fact: nodes[n].step(fact),
            MODALITIES[modality][1],
        )


@four_problems
@brisk
@given(shapes_with_nodes, sets)
def test_what_feeds_no_loop_is_evaluated_once(
    direction: Direction, modality: str, drawn: tuple[Shape, list[Node]], start: Set
) -> None:
    """A node outside all loops gets one transfer, if facts get to it and have somewhere to
    go on to, and none otherwise."""
    shape, nodes = drawn
    graph = in_lines(shape, nodes)
    analysis = posed(direction, modality, start)
    results = solve(analysis, graph)
    calls = Counter(analysis.calls)
    sources, targets = zip(*graph.flow.edges, strict=True) if graph.flow.edges else ((), ())
    goes_on = set(sources if direction == "forward" else targets)
    for number, node in enumerate(nodes):
        if number not in shape.in_loops:
            block = graph.flow.places[number][0]
            assert calls[node] == (block in goes_on and results.reached(node))


@four_problems
@brisk
@given(acyclic_with_nodes, sets, st.randoms(use_true_random=False))
def test_without_loops_there_is_one_evaluation_per_block(
    direction: Direction,
    modality: str,
    drawn: tuple[Shape, list[Node]],
    start: Set,
    seed: random.Random,
) -> None:
    """In whatever order the blocks are given."""
    graph = shuffled(in_lines(*drawn), seed)
    results = solve(posed(direction, modality, start), graph)
    ends = 0 if direction == "forward" else 1
    goes_on = {edge[ends] for edge in graph.flow.edges}
    assert results.visits == sum(
        results.reached(graph.flow.nodes[graph.flow.blocks[block][0]]) for block in goes_on
    )


@four_problems
@brisk
@given(shapes_with_nodes, sets)
def test_solving_twice_is_the_same_work_with_the_same_answer(
    direction: Direction, modality: str, drawn: tuple[Shape, list[Node]], start: Set
) -> None:
    """Nothing is left to the order of a set or the address of an object."""
    first, second = (
        solve(posed(direction, modality, start), in_lines(drawn[0], list(map(evolve, drawn[1]))))
        for _ in range(2)
    )
    assert str(first) == str(second)
    assert first.visits == second.visits
    assert list(first.states) == list(second.states)


@thorough
@given(shapes_with_nodes, sets)
def test_graphs_written_as_text_have_the_same_answers(
    drawn: tuple[Shape, list[Node]], start: Set
) -> None:
    """Arrows, falling through and leaving mean what the notation says they mean."""
    shape, nodes = drawn
    dead_ends = {node for node in range(shape.size) if not shape.successors[node]}
    shape = evolve(shape, entries=frozenset({0}), exits=shape.exits | dead_ends)
    lines = []
    for node, targets in enumerate(shape.successors):
        onto = [f"L{target}" for target in targets] + ["exit"] * (node in shape.exits)
        implied = [f"L{node + 1}"] if node + 1 < shape.size else ["exit"]
        arrow = "" if onto == implied else f" -> {', '.join(onto)}"
        lines.append(f"L{node}: n{node}{arrow}")
    flow = parse("\n".join(lines)).flow
    own: list[Any] = [nodes[int(text.word[1:])] for text in flow.nodes]
    graph = Graph(evolve(flow, nodes=own))

    def step(number: int, fact: Set) -> Set:
        return nodes[number].step(fact)

    forward = along_paths(shape.successors, [0], start, step)
    agree(solve(GenKill(Powerset(), start), graph), forward, True, step, union)
    ends = backward_starts(shape, graph.flow)
    backward = along_paths(shape.predecessors, ends, start, step)
    agree(solve(GenKillBackward(Powerset(), start), graph), backward, False, step, union)


# Constants: maps of flat values


CONSTANTS = [0, 1, 1.0, True]
Env = tuple[Any, ...]


@frozen
class Assign:
    """`x[target] = x[source]`, or a constant."""

    number: int
    target: int
    source: int | None
    constant: Any

    def step(self, env: Env) -> Env:
        value = self.constant if self.source is None else env[self.source]
        return (*env[: self.target], value, *env[self.target + 1 :])


@frozen
class Constants(Forward[Assign, Mapping[int, Any]]):
    lattice: MapOf[int, Any] = MapOf(Flat())

    def boundary(self) -> Mapping[int, Any]:
        return {0: TOP, 1: TOP}

    def transfer(self, node: Assign, value: Mapping[int, Any]) -> Mapping[int, Any]:
        known = node.constant if node.source is None else value[node.source]
        return {**value, node.target: known}


def assigns(shape: Shape) -> st.SearchStrategy[tuple[Shape, list[Assign]]]:
    some = [
        st.builds(
            Assign,
            st.just(number),
            st.integers(0, 1),
            st.one_of(st.none(), st.integers(0, 1)),
            st.sampled_from(CONSTANTS),
        )
        for number in range(shape.size)
    ]
    return st.tuples(st.just(shape), st.tuples(*some).map(list))


def written(value: Any) -> str:
    """A constant with its type, since 1 == 1.0 == True."""
    return repr(value)


@thorough
@given(shapes().flatmap(assigns))
def test_constants_are_those_on_which_all_paths_agree(drawn: tuple[Shape, list[Assign]]) -> None:
    """A variable is a constant where every path leaves the same one in it, of one type."""
    shape, nodes = drawn
    # Repr keeps 1, 1.0 and True apart in the reference's sets.
    texts = [evolve(node, constant=written(node.constant)) for node in nodes]
    unknown = (written(TOP), written(TOP))
    arriving = along_paths(
        shape.successors, shape.entries, unknown, lambda n, env: texts[n].step(env)
    )

    def merge(envs: Iterable[Env]) -> dict[int, str]:
        columns = [set(column) for column in zip(*envs, strict=True)]
        return {
            variable: column.pop() if len(column) == 1 else written(TOP)
            for variable, column in enumerate(columns)
        }

    results = solve(Constants(), in_lines(shape, nodes))
    verify(results)
    for number, node in enumerate(nodes):
        assert results.reached(node) == bool(arriving[number])
        if arriving[number]:
            before = {v: written(known) for v, known in results.before(node).items()}
            after = {v: written(known) for v, known in results.after(node).items()}
            assert before == merge(arriving[number])
            assert after == merge([texts[number].step(env) for env in arriving[number]])


# Numbers: not distributive and of infinite height, so the claim is soundness


@frozen
class Count:
    """`x += by`, `x = to`, or go on only while `x < below`."""

    number: int
    word: Literal["add", "set", "below", "from"]
    amount: int

    def step(self, x: int) -> int | None:
        match self.word:
            case "add":
                return x + self.amount
            case "set":
                return self.amount
            case "below":
                return x if x < self.amount else None
            case "from":
                return x if x >= self.amount else None


@frozen
class Bounds(Forward[Count, Any]):
    lattice: Interval = Interval()

    def boundary(self) -> Any:
        return (0, 0)

    def transfer(self, node: Count, value: Any) -> Any:
        if value is BOTTOM:
            return BOTTOM
        match node.word:
            case "add":
                return value[0] + node.amount, value[1] + node.amount
            case "set":
                return node.amount, node.amount
            case "below":
                return self.lattice.meet(value, (-float("inf"), node.amount - 1))
            case "from":
                return self.lattice.meet(value, (node.amount, float("inf")))


def counts(shape: Shape) -> st.SearchStrategy[tuple[Shape, list[Count]]]:
    words = st.sampled_from(["add", "set", "below", "from"])
    some = [
        st.builds(Count, st.just(number), words, st.integers(-4, 6)) for number in range(shape.size)
    ]
    return st.tuples(st.just(shape), st.tuples(*some).map(list))


@thorough
@given(
    shapes().flatmap(counts),
    st.sampled_from([(), (0,), (-5, 3, 20)]),
    st.randoms(use_true_random=False),
)
def test_intervals_hold_every_number_that_an_execution_sees(
    drawn: tuple[Shape, list[Count]], thresholds: tuple[int, ...], seed: random.Random
) -> None:
    """Widening and the descent afterwards lose no execution, and satisfy the equations."""
    shape, nodes = drawn

    def run(number: int, x: int | None) -> int | None:
        after = None if x is None else nodes[number].step(x)
        return after if after is not None and abs(after) < 60 else None

    seen = along_paths(shape.successors, shape.entries, 0, run)
    for graph in (in_lines(shape, nodes), shuffled(one_by_one(shape, nodes), seed)):
        results = solve(Bounds(Interval(thresholds)), graph)
        verify(results)
        for number, node in enumerate(nodes):
            numbers = seen[number] - {None}
            if numbers:
                low, high = results.before(node)
                assert low <= min(numbers)
                assert max(numbers) <= high
