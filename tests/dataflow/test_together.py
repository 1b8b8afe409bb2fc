"""Analyses that need each other: solved before, in one fixpoint, or through shared unknowns."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
from attrs import evolve, field, frozen

from dataflow import (
    BOTTOM,
    TOP,
    Backward,
    Bits,
    Chain,
    Flat,
    Flow,
    Forward,
    Lattice,
    Powerset,
    SparseForward,
    TextNode,
    UnreachedError,
    parse,
    solve,
    verify,
)
from dataflow.draft import Draft
from dataflow.together import Partial, Shared, Solved

Names = frozenset[str]
times_solved: list[object] = []


@frozen
class Live(Backward[TextNode, Names]):
    """Names that may be read later.  Backward, may.  Counts how often it is solved."""

    lattice: Lattice[Names] = Powerset()

    def pose(self, flow: Flow[TextNode]) -> Any:
        times_solved.append(flow)
        return super().pose(flow)

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value - frozenset(node.results) | frozenset(node.operands)


@frozen
class DeadWrites(Forward[TextNode, Names]):
    """Writes that nobody reads, so far.  Forward, may; needs liveness."""

    live: Solved[TextNode, Names] = Solved(Live)
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | (frozenset(node.results) - self.live.after(node))


@frozen
class DeadLines(Forward[TextNode, int]):
    """How many lines so far wrote something that nobody reads."""

    live: Solved[TextNode, Names] = Solved(Live)
    writes: Solved[TextNode, Names] = Solved(DeadWrites)
    lattice: Lattice[int] = Bits()

    def transfer(self, node: TextNode, value: int) -> int:
        dead = self.writes.after(node) - self.writes.before(node) - self.live.after(node)
        return value | bool(dead)


COUNTDOWN = """
    start: n = read
           u = read
    loop:  test n          -> body, done
    body:  n = decrement n -> loop
    done:  write n
"""


# Solved


def test_what_is_needed_is_solved_before_and_once_per_graph() -> None:
    """By whoever needs it, over one graph: once.  Over another graph: again."""
    times_solved.clear()
    graph, other = parse(COUNTDOWN), parse(COUNTDOWN)
    results = solve(DeadWrites(), graph)
    verify(results)
    assert results.after(graph.node("done")) == {"u"}
    solve(DeadWrites(), graph)
    assert solve(DeadLines(), graph).after(graph.node("done")) == 1
    assert times_solved == [graph.flow]
    solve(DeadWrites(), other)
    assert times_solved == [graph.flow, other.flow]


def test_an_analysis_object_may_be_solved_over_several_graphs() -> None:
    """Nothing is bound to it: each result keeps its own needs."""
    analysis = DeadWrites()
    first, second = parse("x = read\nwrite x"), parse("x = read\ny = read\nwrite x")
    results = solve(analysis, first), solve(analysis, second)
    assert results[0].after(first.node("2")) == frozenset()
    assert results[1].after(second.node("3")) == {"y"}
    assert results[0].after(first.node("2")) == frozenset()
    with pytest.raises(RuntimeError, match=r"known of Solved\(Live\) here: solve\(\)"):
        analysis.transfer(first.node("1"), frozenset())


def test_a_graph_that_nobody_holds_is_let_go() -> None:
    """Answers kept for a graph do not keep the graph."""
    graph = parse(COUNTDOWN)
    solve(DeadWrites(), graph)
    flow = weakref.ref(graph.flow)
    del graph
    times_solved.clear()
    gc.collect()
    assert flow() is None


@frozen
class Chicken(Forward[TextNode, Names]):
    """Needs an egg first."""

    egg: Solved[TextNode, Names] = field()
    lattice: Lattice[Names] = Powerset()

    @egg.default
    def _egg(self) -> Solved[TextNode, Names]:
        return Solved(Egg)

    def transfer(self, node: TextNode, value: Names) -> Names:
        return self.egg.after(node)


@frozen
class Egg(Forward[TextNode, Names]):
    """Needs a chicken first."""

    chicken: Solved[TextNode, Names] = Solved(Chicken)
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return self.chicken.after(node)


def test_each_solved_before_the_other_is_refused() -> None:
    """The error names the circle, and says that `Partial` can do it."""
    with pytest.raises(TypeError, match=r"Chicken.*Egg.*Partial"):
        solve(Chicken(), parse("nop"))


# Partial: two that are sharper together


@frozen
class Numbers(SparseForward[TextNode, Any]):
    """Constants.  `when c a b` is `a` where only that is possible, as `Possible` says."""

    possible: Partial[TextNode, Any] = field()
    lattice: Lattice[Any] = Flat()

    @possible.default
    def _possible(self) -> Partial[TextNode, Any]:
        return Partial(Possible)

    def entry(self, value: object) -> Any:
        return TOP

    def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
        if node.word.isdigit():
            return [int(node.word)]
        if node.word == "when":
            return [chosen(self.lattice, self.possible.of(node.operands[0]), operands)]
        if node.word == "copy":
            return [operands[0]]
        return [TOP] * len(node.results)


@frozen
class Possible(SparseForward[TextNode, Any]):
    """Which answers a comparison may give, as a set of bools; it asks for the numbers."""

    numbers: Partial[TextNode, Any] = Partial(Numbers)
    lattice: Lattice[Any] = Powerset()

    def entry(self, value: object) -> Any:
        return frozenset({True, False})

    def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
        if node.word == "positive":
            number = self.numbers.of(node.operands[0])
            if number is BOTTOM:
                return [frozenset()]
            return [frozenset({True, False}) if number is TOP else frozenset({number > 0})]
        return [frozenset({True, False})] * len(node.results)


def chosen(lattice: Lattice[Any], answers: frozenset[bool], operands: Sequence[Any]) -> Any:
    """What `when` gives: its second operand if true, its third if not."""
    fact = lattice.bottom
    for answer in answers:
        fact = lattice.join(fact, operands[1] if answer else operands[2])
    return fact


CIRCLE = """
             one = 1
             zero = 0         -> loop(one)
    loop(x): c = positive x
             y = when c one zero
             test read        -> loop(y), done
    done:    write x
"""


def test_two_analyses_in_one_fixpoint_know_more_than_one_after_the_other() -> None:
    """x stays 1 because the comparison is always true, which it is because x stays 1."""
    graph = parse(CIRCLE)
    results = solve(Numbers(), graph)
    verify(results)
    assert results.of("x") == 1
    assert results.of("y") == 1
    possible = solve(Possible(), graph)
    verify(possible)
    assert possible.of("c") == {True}


@frozen
class NumbersAlone(Numbers):
    """The same, knowing nothing of the comparisons."""

    def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
        if node.word == "when":
            return [chosen(self.lattice, frozenset({True, False}), operands)]
        return super().transfer(node, operands)


@frozen
class PossibleAfter(Possible):
    """The same, after numbers that knew nothing of it."""

    numbers: Any = Solved(NumbersAlone)


@frozen
class NumbersAfter(Numbers):
    """The same, after comparisons that were solved after numbers alone: three in a row."""

    possible: Any = Solved(PossibleAfter)


def test_one_after_the_other_knows_less() -> None:
    """However often they take turns: each starts from what the other could not know."""
    graph = parse(CIRCLE)
    results = solve(NumbersAfter(), graph)
    verify(results)
    assert results.of("x") is TOP
    assert solve(PossibleAfter(), graph).of("c") == {True, False}


@pytest.mark.parametrize("start", [0, 1])
def test_together_they_still_say_what_may_be(start: int) -> None:
    """Where the loop does bring the other number, both say so."""
    graph = parse(CIRCLE.replace("loop(one)", f"loop({['zero', 'one'][start]})"))
    together = solve(Numbers(), graph)
    assert together.of("x") == start
    back = parse(CIRCLE.replace("when c one zero", "when c zero one"))
    for analysis in (Numbers(), NumbersAfter()):
        results = solve(analysis, back)
        verify(results)
        assert results.of("x") is TOP


@frozen
class Doubtful(Forward[TextNode, Names]):
    """Names read before now that were not constant where they were read.  Forward, may.
    A fact per point that asks for facts per value."""

    numbers: Partial[TextNode, Any] = Partial(Numbers)
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | {name for name in node.operands if self.numbers.of(name) is TOP}


@frozen
class LaterDoubts(SparseForward[TextNode, Names]):
    """What was doubtful before the line that defines a value: it asks for points."""

    doubtful: Partial[TextNode, Names] = Partial(Doubtful)
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, operands: Sequence[Names]) -> Sequence[Names]:
        assert self.doubtful.before(node) <= self.doubtful.after(node)
        return [self.doubtful.before(node)] * len(node.results)


def test_points_ask_for_values_and_values_for_points() -> None:
    """Three kinds of facts in one system."""
    graph = parse("a = 1\nb = copy a\nc = copy unknown\nd = copy c\ne = copy a")
    results = solve(LaterDoubts(), graph)
    verify(results)
    assert [results.of(name) for name in "bcde"] == [
        frozenset(),
        frozenset(),
        {"unknown"},
        {"unknown", "c"},
    ]


@frozen
class AsksAhead(Forward[TextNode, Names]):
    """What is live somewhere it was not looked at yet: asked backwards, in one system."""

    live: Partial[TextNode, Names] = Partial(Live)
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | (frozenset(node.results) - self.live.after(node))


def test_forward_may_ask_for_backward() -> None:
    """The answer so far only ever grows, so a question that wants less must wait: what is
    asked before liveness is complete says too much and stays.  Sound, not least."""
    graph = parse(COUNTDOWN)
    together = solve(AsksAhead(), graph).after(graph.node("done"))
    assert solve(DeadWrites(), graph).after(graph.node("done")) <= together


def test_an_answer_that_is_never_there_says_nothing() -> None:
    """Who asks for a value that nobody defines is never done, and so unreached after it."""

    @frozen
    class Asks(SparseForward[TextNode, Names]):
        numbers: Partial[TextNode, Any] = Partial(Numbers)
        lattice: Lattice[Names] = Powerset()

        def transfer(self, node: TextNode, operands: Sequence[Names]) -> Sequence[Names]:
            return [frozenset({str(self.numbers.of("never"))})] * len(node.results)

    graph = parse("a = 1 -> exit\nnever = copy circle\ncircle = copy never")
    results = solve(Asks(), graph)
    verify(results)
    assert not results.reached("a")
    with pytest.raises(UnreachedError, match="a"):
        results.of("a")


@frozen
class Offset(SparseForward[TextNode, Any]):
    """A constant of its own for every value."""

    number: int
    lattice: Lattice[Any] = Flat()

    def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
        return [self.number] * len(node.results)


@frozen
class AsksTwo(SparseForward[TextNode, Any]):
    """Asks two analyses of one class that are not the same."""

    one: Partial[TextNode, Any] = Partial(lambda: Offset(1))
    two: Partial[TextNode, Any] = Partial(lambda: Offset(2))
    lattice: Lattice[Any] = Flat()

    def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
        return [(self.one.of(name), self.two.of(name)) for name in node.results]


def test_two_of_one_class_are_two() -> None:
    """What is asked with other fields is another analysis."""
    graph = parse("x = read")
    assert solve(AsksTwo(), graph).of("x") == (1, 2)


@frozen
class Plain(Lattice[Any]):
    """Flat, but no two of these compare equal."""

    inner: Lattice[Any] = Flat()
    mine: object = field(factory=object)

    @property
    def bottom(self) -> Any:
        return self.inner.bottom

    def join(self, a: Any, b: Any) -> Any:
        return self.inner.join(a, b)


@frozen
class Even(SparseForward[TextNode, Any]):
    """Whether a value is a line's that stands at an even place; asks `Odd` of its operand."""

    odd: Partial[TextNode, Any] = field()
    lattice: Lattice[Any] = field(factory=Plain)

    @odd.default
    def _odd(self) -> Partial[TextNode, Any]:
        return Partial(Odd)

    def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
        return [not node.operands or self.odd.of(node.operands[0])]


@frozen
class Odd(SparseForward[TextNode, Any]):
    """Whether it stands at an odd place; asks `Even`."""

    even: Partial[TextNode, Any] = Partial(Even)
    lattice: Lattice[Any] = field(factory=Plain)

    def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
        return [bool(node.operands) and self.even.of(node.operands[0])]


def test_what_one_factory_makes_is_one_though_it_compares_unequal() -> None:
    """Else two that ask each other would be made without end."""
    graph = parse("a = first\nb = next a\nc = next b\nd = next c")
    results = solve(Even(), graph)
    assert [results.of(name) for name in "abcd"] == [True, False, True, False]


def test_what_two_factories_make_is_one_if_it_is_equal() -> None:
    """No analysis is solved twice in one system."""

    @frozen
    class Three(AsksTwo):
        one: Partial[TextNode, Any] = Partial(lambda: Offset(1))
        two: Partial[TextNode, Any] = Partial(lambda: Offset(1))

    results = solve(Three(), parse("x = read"))
    assert results.of("x") == (1, 1)
    assert len(results.sweep.state) == 2


def test_what_an_analysis_keeps_for_itself_makes_it_another() -> None:
    """One that has computed something is not taken for one that has not; nor is that an error."""

    class Kept(Offset):
        pass

    used = Kept(1)
    object.__setattr__(used, "kept", 1)

    @frozen
    class Asks(AsksTwo):
        one: Partial[TextNode, Any] = Partial(lambda: used)
        two: Partial[TextNode, Any] = Partial(lambda: Kept(1))

    results = solve(Asks(), parse("x = read"))
    assert results.of("x") == (1, 1)
    assert len(results.sweep.state) == 3


def test_factories_made_anew_each_time_are_refused() -> None:
    """The error says what a factory should be."""

    @frozen
    class Deeper(Odd):
        depth: int = 0
        even: Any = field()

        @even.default
        def _even(self) -> Partial[TextNode, Any]:
            return Partial(lambda: Deeper(depth=self.depth + 1))

    with pytest.raises(TypeError, match=r"Deeper asks for more than.*anew"):
        solve(Deeper(), parse("x = read"))


def test_an_edit_solves_what_is_needed_anew() -> None:
    """What was solved before is of the graph before."""
    draft = Draft(parse("x = read\ny = read\nwrite x"))
    results = solve(DeadWrites(), draft)
    write = draft.flow.nodes[2]
    assert results.after(write) == {"y"}
    edit = draft.replace_operand(write, 0, "y")
    results = results.update(edit)
    verify(results)
    fresh = solve(DeadWrites(), draft)
    assert str(results) == str(fresh)


@frozen
class AsksInTheMiddle(Forward[TextNode, Names]):
    """Asks for each operand that is read."""

    numbers: Partial[TextNode, Any] = Partial(Numbers)
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | {f"{name}={self.numbers.of(name)}" for name in node.operands}


def test_a_point_behind_an_answer_that_is_never_there_is_unreached() -> None:
    """In the middle of a straight line too."""
    graph = parse(
        "a = 1\nuse a\nuse never\nb = 2 -> exit\nnever = copy circle\ncircle = copy never"
    )
    results = solve(AsksInTheMiddle(), graph)
    assert results.before(graph.node("3")) == {"a=1"}
    with pytest.raises(UnreachedError, match="b = 2"):
        results.before(graph.node("4"))


@frozen
class AsksAtEdges(AsksInTheMiddle):
    """Asks where control goes one of several ways."""

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value

    def edge(self, node: TextNode, way: int, value: Names) -> Names:
        return value | {f"{name}={self.numbers.of(name)}" for name in node.operands}


@pytest.mark.parametrize("analysis", [AsksInTheMiddle(), AsksAtEdges()])
def test_a_block_behind_an_answer_that_is_never_there_is_unreached(
    analysis: Forward[TextNode, Names],
) -> None:
    graph = parse(
        "a = 1\ng: use a -> here, there\nhere: use never -> l, m\nl: b = 2 -> exit\n"
        "m: c = 2 -> exit\nthere: d = 2 -> exit\nnever = copy circle\ncircle = copy never"
    )
    results = solve(analysis, graph)
    verify(results)
    assert results.before(graph.node("there")) == {"a=1"}
    assert not any(results.reached(graph.node(label)) for label in "lm")


# Mistakes


class NoFields(Forward[TextNode, Names]):
    """No attrs class, so nobody sees what it needs."""

    lattice: Lattice[Names] = Powerset()
    live = Solved(Live)

    def transfer(self, node: TextNode, value: Names) -> Names:
        return self.live.after(node)


class NoSharedFields(NoFields):
    cells: Shared[str, Names] = Shared(Powerset())

    def transfer(self, node: TextNode, value: Names) -> Names:
        return self.cells.of("x")


@frozen
class AsksValues(Forward[TextNode, Names]):
    """Asks an analysis of points for a value."""

    live: Partial[TextNode, Names] = Partial(Live)
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return self.live.of("x")


@frozen
class AsksPoints(Forward[TextNode, Names]):
    """Asks an analysis of values for a point."""

    numbers: Partial[TextNode, Any] = Partial(lambda: Numbers())
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | {str(self.numbers.before(node))}


@pytest.mark.parametrize(
    ("analysis", "message"),
    [
        (NoFields(), r"known of Solved\(Live\) here.* @frozen and has `name: Solved"),
        (NoSharedFields(), r"known of Shared\(Powerset.*ask results.filled\(analysis.name"),
        (AsksValues(), r"Live has a fact per program point: ask before\(node\)"),
        (AsksPoints(), r"Numbers has a fact per value: ask of\(value\)"),
    ],
)
def test_what_cannot_be_asked_is_refused(analysis: Any, message: str) -> None:
    with pytest.raises((RuntimeError, TypeError), match=message):
        solve(analysis, parse("x: nop -> x"))


def test_an_analysis_in_place_of_its_class_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"wants what makes an analysis, not one: write Solved\(Live"
    ):
        Solved(Live())  # type: ignore[arg-type]


@frozen
class Pressed(Forward[TextNode, int]):
    """The most names live at once, so far."""

    live: Partial[TextNode, Names] = Partial(lambda: Counted())
    lattice: Lattice[int] = Chain()

    def transfer(self, node: TextNode, value: int) -> int:
        return max(value, len(self.live.after(node)))


class Counted(Live):
    def transfer(self, node: TextNode, value: Names) -> Names:
        times_asked.append(node)
        return super().transfer(node, value)


times_asked: list[TextNode] = []


def test_points_of_an_answer_so_far_cost_a_few_transfers_each() -> None:
    """And not all the way from where their block begins."""
    graph = parse("\n".join(["a = read", *["a = op a b"] * 500, "write a"]))
    times_asked.clear()
    results = solve(Pressed(), graph)
    assert results.after(graph.flow.nodes[-1]) == 2
    assert len(times_asked) < 5 * len(graph.flow.nodes)


@frozen
class Here(Forward[TextNode, Names]):
    """Asks `There` what is before each node, and adds nothing."""

    other: Partial[TextNode, Names] = Partial(lambda: There())
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        CALLS.append(node)
        return value | self.other.before(node)


@frozen
class There(Forward[TextNode, Names]):
    """Asks `Here`, and adds the node."""

    other: Partial[TextNode, Names] = Partial(Here)
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        CALLS.append(node)
        return value | self.other.before(node) | {node.label}


CALLS: list[TextNode] = []


def test_two_that_ask_each_other_in_a_block_are_replayed_once_an_evaluation() -> None:
    """Each of 40 points rests on all before it, of both: without a memory, 2 to the 40th calls."""
    graph = parse("\n".join(f"l{number}: step" for number in range(40)))
    CALLS.clear()
    results = solve(Here(), graph)
    assert len(CALLS) <= 8 * 40
    assert results.after(graph.node("l39")) == {f"l{number}" for number in range(39)}
    verify(results)


@frozen
class Ahead(Forward[TextNode, Names]):
    other: Partial[TextNode, Names] = Partial(lambda: Behind())
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | self.other.before(node)


@frozen
class Behind(Backward[TextNode, Names]):
    other: Partial[TextNode, Names] = Partial(Ahead)
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | self.other.before(node) | {node.label}


def test_what_asks_for_itself_inside_a_block_is_refused() -> None:
    """Forward and backward, each is asked at every node what the other is asked for there."""
    with pytest.raises(TypeError, match=r"a graph in which each node has a block of its own"):
        solve(Ahead(), parse("a: one\nb: two"))
    flow = parse("a: one\nb: two").flow
    apart = evolve(flow, blocks=[[0], [1]], edges=[(0, 1)], exits=[1])
    solve(Ahead(), apart)
