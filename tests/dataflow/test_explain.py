"""`why`: derivations are right, smallest, and read as explanations."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow import (
    BOTTOM,
    TOP,
    Bottom,
    Dual,
    Flat,
    Forward,
    Interval,
    Lattice,
    Partial,
    Powerset,
    Reason,
    Solved,
    SparseForward,
    TextGraph,
    TextNode,
    Top,
    UnreachedError,
    parse,
    solve,
    verify,
    why,
)
from dataflow.fewest import fewest
from examples.analyses.constants import Constants
from tests.dataflow import test_goldens
from tests.dataflow.test_together import CIRCLE, Doubtful, Live, Numbers, Summary
from tests.dataflow.test_update import Origins, random_program

Names = frozenset[str]
Constant = int | Bottom | Top


@frozen
class Tainted(Forward[TextNode, Names]):
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        tainted = node.word == "read" or not value.isdisjoint(node.operands)
        others = value - frozenset(node.results)
        return others | frozenset(node.results) if tainted else others


def names(*found: str) -> Names:
    return frozenset(found)


LOOP = parse("""
start: n = read
head:  test n          -> body, done
body:  n = decrement n -> head
done:  write n x
""")


def test_live_here_because_used_there() -> None:
    reason = why(solve(Live(), LOOP), LOOP.node("start"), names("x"))
    assert str(reason).splitlines() == [
        "{x} before [n = read]: by [n = read]",
        "{x} before [test n]: by [test n]",
        "{x} before [write n x]: by [write n x], where it begins",
    ]


def test_the_shortest_way_is_told_and_not_the_one_around_the_loop() -> None:
    reason = why(solve(Live(), LOOP), LOOP.node("body"), names("n"))
    assert str(reason) == "{n} before [n = decrement n]: by [n = decrement n], where it begins"


def test_another_fact_carries_it_there() -> None:
    graph = parse("a = read\nb = copy a\nc = copy b\nwrite c")
    reason = why(solve(Tainted(), graph), graph.node("4"), names("c"))
    assert str(reason).splitlines() == [
        "{c} before [write c]: by [c = copy b]",
        "{b} before [c = copy b]: by [b = copy a]",
        "{a} before [b = copy a]: by [a = read], where it begins",
    ]


def test_what_several_equations_give_together_is_told_apart() -> None:
    graph = parse("""
    start: test      -> left, right
    left:  a = read  -> end
    right: b = read  -> end
    end:   write a b
    """)
    reason = why(solve(Tainted(), graph), graph.node("end"))
    assert str(reason).splitlines() == [
        "{a, b} before [write a b]: together",
        "- {a} after [a = read]: by [a = read], where it begins",
        "- {b} after [b = read]: by [b = read], where it begins",
    ]


def test_what_a_node_does_not_need_is_not_told() -> None:
    graph = parse("a = 1\nz = 9\nb = 2\ny = 7\nc = add a b\nwrite c")
    reason = why(solve(test_goldens.Constants(), graph), graph.node("6"), {"c": 3})
    assert str(reason).splitlines() == [
        "{c: 3} before [write c]: by [c = add a b]",
        "{a: 1, b: 2} before [c = add a b]: by [y = 7]",
        "{a: 1, b: 2} before [y = 7]: by [b = 2]",
        "{a: 1} before [b = 2]: by [z = 9]",
        "{a: 1} before [z = 9]: by [a = 1], where it begins",
    ]


@given(st.lists(st.frozensets(st.integers(0, 20)), min_size=1))
def test_of_the_fewest_none_can_be_left_out(sufficient: list[frozenset[int]]) -> None:
    def enough(some: Sequence[int]) -> bool:
        return any(one.issubset(some) for one in sufficient)

    found = fewest(range(21), enough)
    assert enough(found)
    assert not any(enough([each for each in found if each != one]) for one in found)


BRANCH = """
a = {}
test a -> left, right
left:  c = 5       -> end(c)
right: d = add a a -> end(d)
end(e): write e
"""


def test_a_constant_that_pruning_makes() -> None:
    results = solve(Constants(), parse(BRANCH.format(1)))
    assert str(why(results, "e")).splitlines() == [
        "5 of e: edge",
        "5 of c: c = 5, where it begins",
    ]


def test_no_constant_because_two_ways_disagree() -> None:
    results = solve(Constants(), parse(BRANCH.format("read")))
    assert results.of("e") is TOP
    assert str(why(results, "e")).splitlines() == [
        "⊤ of e: edge",
        "⊤ of d: d = add a a",
        "⊤ of a: a = read, where it begins",
    ]


def test_what_does_not_hold_or_is_not_reached_has_no_reason() -> None:
    results = solve(Live(), LOOP)
    with pytest.raises(ValueError, match=r"\{y\} does not hold at n = read: .* \{x\}"):
        why(results, LOOP.node("start"), names("y"))
    with pytest.raises(UnreachedError):
        why(solve(Constants(), parse(BRANCH.format(1))), "d")


def test_every_element_of_every_fact_has_a_reason_as_long_as_its_path() -> None:
    results = solve(Live(), LOOP)
    for node in LOOP.flow.nodes:
        for name in results.before(node):
            reason = why(results, node, names(name))
            while reason.premises:
                (reason,) = reason.premises
            assert name in reason.place  # it begins at a node that reads the name


# Facts that several reads carry, and facts that rest on each other


def test_what_two_operands_carry_does_not_begin_there() -> None:
    """Either is enough, so neither is missed alone."""
    graph = parse("a = read\nb = left a\nc = right a\nd = both b c")
    assert str(why(solve(Origins(), graph), "d", names("read"))).splitlines() == [
        "{read} of d: d = both b c",
        "{read} of b: b = left a",
        "{read} of a: a = read, where it begins",
    ]


def test_an_operand_that_is_read_twice_carries() -> None:
    graph = parse("a = read\nb = both a a")
    assert str(why(solve(Origins(), graph), "b", names("read"))).splitlines() == [
        "{read} of b: b = both a a",
        "{read} of a: a = read, where it begins",
    ]


COUNT = parse("""
    a = 1
    one = 1             -> loop(a)
    loop(i): test i     -> body, done
    body: j = add i one -> loop(j)
    done: write i
""")


def test_a_loop_is_no_constant_because_it_comes_back_with_another() -> None:
    """⊤ goes in because ⊤ comes out: where that began is told, and not the circle."""
    assert str(why(solve(Constants(), COUNT), "i")).splitlines() == [
        "⊤ of i: merged: edge and edge",
        "- 1 of a: a = 1, where it begins",
        "2 of j: j = add i one",
        "- 1 of one: one = 1, where it begins",
        "1 of i: edge",
        "1 of a: a = 1, where it begins",
    ]


@frozen
class Counted(Forward[TextNode, Constant]):
    lattice: Lattice[Constant] = Flat[int]()

    def boundary(self) -> Constant:
        return 0

    def transfer(self, node: TextNode, value: Constant) -> Constant:
        return value + 1 if node.word == "inc" and isinstance(value, int) else value


def test_the_same_at_points() -> None:
    graph = parse("start: nop\nhead: test -> body, done\nbody: inc -> head\ndone: write")
    assert str(why(solve(Counted(), graph), graph.node("done"))).splitlines() == [
        "⊤ after [test]: by [test]",
        "⊤ before [test]: merged: along an edge and along an edge",
        "- 0 after [nop]: by [nop]",
        "  0 before [nop]: the boundary, where it begins",
        "- 1 after [inc]: by [inc]",
        "  0 after [test]: by [test]",
        "  0 after [nop]: as above",
    ]


@frozen
class Ranges(SparseForward[TextNode, Any]):
    lattice: Lattice[Any] = Interval(thresholds=(10,))

    def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
        if node.word.isdigit():
            return [(int(node.word), int(node.word))]
        if node.word == "add":
            return [Interval.add(*operands)]
        return [(0, 0)] * len(node.results)


def test_widening_is_told_with_what_it_leapt_from() -> None:
    results = solve(Ranges(), COUNT)
    assert str(why(results, "i", (1, 2))).splitlines()[0] == "[1, 2] of i: merged: edge and edge"
    assert str(why(results, "i")).splitlines() == [
        "[1, inf] of i: widened after edge",
        "- [2, 11] of j: j = add i one",
        "  - [1, 1] of one: one = 1, where it begins",
        "  [1, 10] of i: widened after edge",
        "  - [2, 2] of j: j = add i one",
        "    - [1, 1] of one: one = 1, where it begins",
        "    [1, 1] of i: edge",
        "    [1, 1] of a: a = 1, where it begins",
        "  - [1, 1] of i: as above",
        "- [1, 10] of i: as above",
    ]


# Facts of other analyses


@frozen
class Pressure(Forward[TextNode, Names]):
    """Names that were live somewhere before."""

    live: Solved[TextNode, Names] = Solved(Live)
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | self.live.after(node)


def test_a_final_answer_is_explained_by_its_own_equations() -> None:
    graph = parse("n = read\nm = copy n\nnop\nwrite m")
    assert str(why(solve(Pressure(), graph), graph.node("4"), names("n"))).splitlines() == [
        "{n} before [write m]: by [nop]",
        "{n} before [nop]: by [m = copy n]",
        "{n} before [m = copy n]: by [n = read]",
        "{n} after [n = read] in Live: by [m = copy n], where it begins",
    ]


def test_an_answer_so_far_is_explained_by_its_own_equations() -> None:
    """Points that asked for values."""
    graph = parse("a = 1\nuse a\nb = copy c\nuse b")
    reason = why(solve(Doubtful(), graph), graph.node("4"), names("c"))
    assert str(reason).splitlines() == [
        "{c} before [use b]: by [b = copy c]",
        "⊤ of c in Numbers: the boundary, where it begins",
    ]


@frozen
class Doubts(SparseForward[TextNode, Names]):
    """What was doubtful before the line that defines a value."""

    doubtful: Partial[TextNode, Names] = Partial(Doubtful)
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, operands: Sequence[Names]) -> Sequence[Names]:
        return [self.doubtful.before(node)] * len(node.results)


def test_three_analyses_one_explanation() -> None:
    """A value's fact rests on a point's, and that on another value's."""
    graph = parse("a = copy b\nc = 1\nd = copy a")
    assert str(why(solve(Doubts(), graph), "d")).splitlines() == [
        "{b} of d: d = copy a",
        "{b} before [d = copy a] in Doubtful: by [c = 1]",
        "{b} before [c = 1] in Doubtful: by [a = copy b]",
        "⊤ of b in Numbers: the boundary, where it begins",
    ]


@frozen
class Waits(Forward[TextNode, Names]):
    """The words so far, with those of the values that `wait` reads."""

    words: Partial[TextNode, Names] = Partial(lambda: Asking())
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        if node.word == "wait":
            return value.union(*map(self.words.of, node.operands))
        return value | {node.word}


@frozen
class Asking(SparseForward[TextNode, Names]):
    """The words that a value is made of; `ask` makes one of those that came before."""

    before: Partial[TextNode, Names] = Partial(Waits)
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, operands: Sequence[Names]) -> Sequence[Names]:
        if node.word == "ask":
            return [self.before.before(node)]
        return [frozenset([node.word]).union(*operands)] * len(node.results)


def test_what_asks_for_an_answer_that_never_comes_gives_nothing() -> None:
    """`never` is defined by itself alone, so nothing is known in the middle of the block."""
    graph = parse("never = copy never\nwait never\nx = ask\nx = one")
    results = solve(Asking(), graph)
    verify(results)
    assert results.of("x") == {"one"}
    assert str(why(results, "x")) == "{one} of x: x = one, where it begins"


def test_two_that_ask_each_other() -> None:
    assert str(why(solve(Numbers(), parse(CIRCLE)), "y")).splitlines() == [
        "1 of y: y = when c one zero",
        "- 1 of one: one = 1, where it begins",
        "{True} of c in Possible: c = positive x",
        "1 of x: edge",
        "1 of one: one = 1, where it begins",
    ]


def test_two_that_rest_on_each_other_began_somewhere() -> None:
    """x is no constant because c is not certain, and c is not because x is none."""
    swapped = CIRCLE.replace("loop(one)", "loop(zero)").replace("c one zero", "c zero one")
    assert str(why(solve(Numbers(), parse(swapped)), "x")).splitlines() == [
        "⊤ of x: merged: edge and edge",
        "- 0 of zero: zero = 0, where it begins",
        "1 of y: y = when c zero one",
        "- 1 of one: one = 1, where it begins",
        "{False} of c in Possible: c = positive x",
        "0 of x: edge",
        "0 of zero: zero = 0, where it begins",
    ]


def test_what_is_shared_around_a_loop_began_somewhere() -> None:
    """Told from what was asked for: each cell has the other's."""
    graph = parse("""
        start: read x
        head:  load d  -> body, done
        body:  store c
               forget
               load c
               store d -> head
        done:  forget
    """)
    reason = why(solve(Summary(), graph), graph.node("done"), names("x"))
    assert [each.by for each in all_of(reason)].count("by [read x]") == 1
    assert str(reason).splitlines()[-1] == "{x} after [read x]: by [read x], where it begins"


def test_what_is_shared_is_explained_by_who_told_it() -> None:
    graph = parse("1: load c\n2: forget\n3: read x\n4: store c\n5: forget")
    assert str(why(solve(Summary(), graph), graph.node("2"), names("x"))).splitlines() == [
        "{x} before [forget]: by [load c]",
        "{x} under c: by [store c]",
        "{x} before [store c]: by [read x], where it begins",
    ]


def test_explaining_changes_no_answer() -> None:
    """Questions that were asked for the explanation alone are not kept."""
    graph = parse("1: read x\n2: store c\n3: load c\n4: nop")
    analysis = Summary()
    results = solve(analysis, graph)
    before = str(results), dict(results.filled(analysis.cells).items())
    why(results, graph.node("4"))
    assert (str(results), dict(results.filled(analysis.cells).items())) == before


# Every explanation there is


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
