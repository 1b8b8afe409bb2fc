"""Updated results equal a fresh solve, after any edits; stale ones refuse to answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow import (
    BOTTOM,
    UNREACHED,
    Backward,
    Bits,
    Chain,
    Draft,
    Forward,
    GenKill,
    Interval,
    Lattice,
    Powerset,
    SparseBackward,
    SparseForward,
    StaleError,
    TextGraph,
    TextNode,
    TransferError,
    ValueResults,
    parse,
    solve,
    verify,
)
from dataflow.graph import Flow
from tests.dataflow.nested import nested_program, tangled_program

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

    flow: Flow[TextNode]
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, results: Sequence[Names]) -> Sequence[Names]:
        # The arity of an edited node is the graph's to say.
        arity = len(self.flow.operands[self.flow.number(node)])
        return [frozenset([node.word]).union(*results)] * arity


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
    fresh = solve(analysis, Draft(graph))  # nothing that the draft keeps up to date is in it
    count = len(graph.flow.values) if isinstance(updated, ValueResults) else len(fresh.states)
    assert list(updated.states)[:count] == list(fresh.states)[:count], type(analysis)


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


def test_what_a_loop_gives_another_does_not_keep_itself_alive_there() -> None:
    """One leads straight into the other."""
    graph = Draft(
        parse("""
        begin: nop
        first: x, b = old x y
               nop            -> first, again
        again: b = older b z
               nop            -> again, end
        end:   write b
        """)
    )
    old, older = graph.flow.nodes[1], graph.flow.nodes[3]
    analyses: list[Any] = [Seen(), LiveNow(graph.flow), Origins(), Uses(graph.flow)]
    results: list[Any] = [solve(analysis, graph) for analysis in analyses]
    edits: list[Callable[[], object]] = [
        lambda: graph.replace_operand(old, 1, "b"),
        lambda: graph.replace_operand(older, 1, "b"),
        lambda: graph.replace_operand(old, 1, "x"),
        lambda: graph.insert(TextNode("new", "new", ("n",), ()), old, (), ("n",)),
        lambda: graph.erase(graph.flow.nodes[-1]),
    ]
    for make in edits:
        edit = make()
        results = [found.update(edit) for found in results]
        for analysis, found in zip(analyses, results, strict=True):
            same(found, graph, analysis)


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
        lambda: points.at(0, 0),
        lambda: points.known(0, 0),
        lambda: values.runs(line["test"]),
    )
    for ask in asks:
        with pytest.raises(StaleError, match=r"1 edits since .* was solved"):
            ask()
    assert values.update(edit).of("z")
    graph.replace_operand(line["write"], 1, "b")
    with pytest.raises(StaleError, match="the one edit made since"):
        points.update(edit)


def test_a_value_that_another_line_defines_too_stays() -> None:
    graph = Draft(parse("a = one\na = two\nb = three\nwrite b"))
    line = {n.word: n for n in graph.flow.nodes}
    found = solve(Origins(), graph)
    assert found.of("a") == {"one", "two"}
    found = found.update(graph.erase(line["one"]))
    assert found.of("a") == {"two"}
    same(found, graph, Origins())
    found = found.update(graph.erase(line["two"]))
    with pytest.raises(KeyError, match="a is not a value of this graph"):
        found.of("a")
    same(found, graph, Origins())


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


def test_an_error_in_an_update_names_the_node() -> None:
    @frozen
    class Fails(Origins):
        def transfer(self, node: TextNode, operands: Sequence[Names]) -> Sequence[Names]:
            match node.operands:
                case ("z", _) if "read" not in operands[1]:
                    raise ZeroDivisionError
            return super().transfer(node, operands)

    graph = Draft(parse("z = zero\no = one\nr = read\ne = end z r"))
    end = graph.flow.nodes[3]
    results = solve(Fails(), graph)
    with pytest.raises(ZeroDivisionError) as caught:
        results.update(graph.replace_operand(end, 1, "o"))
    assert caught.value.__notes__ == ["while analysing e = end z r"]


def test_a_wrong_number_of_facts_in_an_update_is_told() -> None:
    @frozen
    class Fails(Origins):
        def transfer(self, node: TextNode, operands: Sequence[Names]) -> Sequence[Names]:
            return (
                []
                if len(operands) == 2 and "one" in operands[1]
                else super().transfer(node, operands)
            )

    graph = Draft(parse("z = zero\no = one\ne = end z z"))
    edited = graph.flow.nodes[2]
    results = solve(Fails(), graph)
    with pytest.raises(TransferError, match="transfer gave 0 facts where 1 are needed") as caught:
        results.update(graph.replace_operand(edited, 1, "o"))
    assert caught.value.__notes__ == ["while analysing e = end z z"]


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


@frozen
class Ranges(SparseForward[TextNode, Any]):
    """Between which numbers a value is: a lattice that widens."""

    lattice: Lattice[Any] = Interval(thresholds=(3, 10))

    def entry(self, value: object) -> Any:
        return (0, 1) if value == "in0" else (2, 2)

    def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
        if not node.results or BOTTOM in operands:
            return [BOTTOM] * len(node.results)
        left, right = operands
        match node.word:
            case "w0":
                return [Interval.add(left, right)]
            case "w1":
                return [(1, 1)]
            case "w2":
                return [self.lattice.join(left, right)]
            case "w3":
                return [Interval.add(left, (-1, 2))]
        return [left]


@frozen
class Reads(Forward[TextNode, Names]):
    """What was read, as the graph has it now, since the last `w4` that read the same."""

    flow: Flow[TextNode]
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        reads = read_by(self.flow, node)
        return value - reads if node.word == "w4" else value | reads


@frozen
class LiveNow(Backward[TextNode, Names]):
    """`Live`, as the graph is now."""

    flow: Flow[TextNode]
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value - frozenset(node.results) | read_by(self.flow, node)


def read_by(flow: Flow[TextNode], node: TextNode) -> Names:
    return frozenset(str(flow.values[o]) for o in flow.operands[flow.number(node)])


@frozen
class Counted(Forward[TextNode, Any]):
    """A number that lines add to: a lattice that widens, and edges that refine."""

    flow: Flow[TextNode]
    lattice: Lattice[Any] = Interval(thresholds=(10,))

    def boundary(self) -> Any:
        return 0, 0

    def transfer(self, node: TextNode, value: Any) -> Any:
        if node.word == "w2":
            return 0, 0
        if node.word == "w1":
            return Interval.add(value, (self.flow.operands[self.flow.number(node)][0] % 2, 1))
        return value

    def edge(self, node: TextNode, way: int, value: Any) -> Any:
        if way or node.word != "test" or value[1] <= 10:
            return value
        return (value[0], 10) if value[0] <= 10 else UNREACHED


@frozen
class Ways(Backward[TextNode, Names]):
    """Which ways there are from here, by who decides and what that reads now."""

    flow: Flow[TextNode]
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return frozenset() if node.word == "w3" else value

    def edge(self, node: TextNode, way: int, value: Names) -> Names:
        return value | {f"{node} {way} of {sorted(read_by(self.flow, node))}"}


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 2**32), st.sampled_from([nested_program, tangled_program]))
def test_updates_equal_fresh_solves_over_random_edits(
    seed: int, program: Callable[[Random], TextGraph]
) -> None:
    """In all four directions, in loops and branches up to three deep and in any jumps; what the
    edits close into loops, too."""
    random = Random(seed)
    graph = Draft(program(random))
    flow = graph.flow
    analyses: list[Any] = [
        Origins(),
        Uses(flow),
        Ranges(),
        Reads(flow),
        LiveNow(flow),
        Counted(flow),
        Ways(flow),
    ]
    results: list[Any] = [solve(analysis, graph) for analysis in analyses]
    for number in range(8):
        for edit in random_edits(random, graph, number):
            results = [found.update(edit) for found in results]
            for analysis, found in zip(analyses, results, strict=True):
                same(found, graph, analysis)


@pytest.mark.parametrize("seed", [612, 805, 2227, 2438])
def test_what_is_widened_at_points_is_what_a_fresh_solve_says(seed: int) -> None:
    """Blocks keep their order, and with it what widening gives, in loops and after them."""
    random = Random(seed)
    graph = Draft(tangled_program(random))
    analysis = Counted(graph.flow)
    found = solve(analysis, graph)
    for number in range(8):
        for edit in random_edits(random, graph, number):
            found = found.update(edit)
            same(found, graph, analysis)


def random_edits(random: Random, graph: Draft[TextNode], number: int) -> Iterator[object]:
    """One edit, two to move a node, or none."""
    flow = graph.flow
    nodes = [n for n in flow.node_number if len(flow.operands[flow.number(n)]) == 2 and n.results]
    if not nodes:
        return
    chosen = random.choice(nodes)
    own = flow.value(chosen.results[0])
    anywhere = random.random() < 0.3
    visible = [str(value) for value, n in flow.value_number.items() if anywhere or n < own]
    operands = random.choices(visible or ["in0"], k=2)
    match random.choice(("insert", "insert", "replace", "replace", "erase", "move")):
        case "insert":
            word = f"w{random.randrange(6)}"
            new = TextNode(f"n{number}", word, (f"n{number}",), tuple(operands))
            yield graph.insert(new, random.choice([*flow.node_number]), operands, new.results)
        case "replace":
            yield graph.replace_operand(chosen, random.randrange(2), operands[0])
        case "erase" | "move" as kind:
            try:
                yield graph.erase(chosen)
            except ValueError:
                return
            if kind == "move":
                operands = [name for name in operands if name != chosen.results[0]]
                operands = (operands or [str(value) for value in flow.value_number]) * 2
                after = random.choice([*flow.node_number])
                yield graph.insert(chosen, after, operands[:2], chosen.results)


@frozen
class Depth(SparseForward[int, int]):
    """How far a value is from where a new count begins: every hundredth node."""

    lattice: Lattice[int] = Chain()

    def transfer(self, node: int, operands: Sequence[int]) -> Sequence[int]:
        return [0 if node % 100 == 0 else max(operands) + 1]


@frozen(eq=False)
class Long:
    flow: Flow[int]


SIZE = 100_000


def line(blocks: int, loop: int = 0) -> Flow[int]:
    """Nodes that read the one before, in some blocks, each to the next; each so many of them
    in a loop."""
    length = SIZE // blocks
    edges = [(block, block + 1) for block in range(blocks - 1)]
    if loop:
        edges += [(block + loop - 1, block) for block in range(0, blocks, loop)]
    return Flow(
        nodes=range(SIZE),
        blocks=[range(block * length, (block + 1) * length) for block in range(blocks)],
        edges=edges,
        entries=[0],
        exits=[blocks - 1],
        values=[f"v{n}" for n in range(SIZE)],
        operands=[(), *((n - 1,) for n in range(1, SIZE))],
        results=[(n,) for n in range(SIZE)],
    )


@frozen
class Ahead(SparseBackward[int, int]):
    """How far it is to the end of a hundred."""

    lattice: Lattice[int] = Chain()

    def transfer(self, node: int, results: Sequence[int]) -> Sequence[int]:
        return [0 if node % 100 == 0 else results[0] + 1] * (node > 0)


@frozen
class Kinds(Forward[int, int]):
    """Remainders of what was read since the last hundred."""

    flow: Flow[int]
    lattice: Lattice[int] = Bits()

    def transfer(self, node: int, value: int) -> int:
        read = self.flow.operands[node]
        return value | 1 << read[0] % 7 if node % 100 and read else 0


@frozen
class Written(GenKill[int, int], Backward[int, int]):
    """A node n kills n, and reads what comes four before it."""

    lattice: Lattice[int] = Bits()

    def effect(self, node: int) -> tuple[int, int]:
        return 1 << max(0, node - 4), 1 << node


def test_a_graph_of_control_alone_can_be_edited() -> None:
    """It has no values; node 9 is put into a loop."""
    blocks, edges = [[0, 1], [2, 3], [4, 5]], [(0, 1), (1, 1), (1, 2)]
    draft = Draft(Long(Flow(range(6), blocks, edges, [0], [2])))
    results = solve(Written(), draft)
    results = results.update(draft.insert(9, 2))
    assert list(results.states) == list(solve(Written(), draft).states)
    assert results.before(2) == 0b100011
    results = results.update(draft.erase(9))
    assert list(results.states) == list(solve(Written(), Long(draft.flow)).states)


@pytest.mark.parametrize(
    ("flow", "kind"),
    [
        (line(1), lambda flow: Depth()),
        (line(1), lambda flow: Ahead()),
        (line(SIZE), Kinds),
        (line(SIZE, loop=20), Kinds),
    ],
    ids=["forward values", "backward values", "points", "points in loops"],
)
def test_an_edit_costs_what_it_changes(flow: Flow[int], kind: Callable[[Any], Any]) -> None:
    """The first one, too.  `make bench` has the share of the time of a fresh solve."""
    draft = Draft(Long(flow))
    for attempt in range(2):
        results = solve(kind(draft.flow), draft)
        edit = draft.replace_operand(50_050, 0, f"v{50_010 + attempt}")
        before = results.visits
        results = results.update(edit)
        assert results.visits - before <= 120
        assert list(results.states) == list(solve(kind(draft.flow), draft).states)
