"""Why a fact holds that rests on facts of other analyses."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from dataflow import (
    Forward,
    Lattice,
    Partial,
    Powerset,
    Solved,
    SparseForward,
    TextNode,
    parse,
    solve,
    verify,
    why,
)
from tests.dataflow.test_explain import Names, names
from tests.dataflow.test_explanations import all_of
from tests.dataflow.test_shared import Summary
from tests.dataflow.test_together import CIRCLE, Doubtful, Live, Numbers


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
