"""Transfers that are data: what is composed says what the transfer says."""

from __future__ import annotations

from attrs import frozen

from dataflow import (
    Backward,
    Dual,
    Forward,
    GenKill,
    Lattice,
    Powerset,
    Shared,
    TextNode,
    parse,
    solve,
    verify,
)

Names = frozenset[str]
BRANCH = parse("a = one -> b\nb: c = two -> b, d\nd: x = r a")


@frozen
class Made(GenKill[TextNode, Names], Forward[TextNode, Names]):
    """Names that are made, on every path."""

    lattice: Lattice[Names] = Dual(Powerset())

    def boundary(self) -> Names:
        return frozenset()

    def effect(self, node: TextNode) -> tuple[Names, Names]:
        return frozenset(node.results), frozenset()


def test_a_must_analysis_by_effects_needs_no_universe() -> None:
    results = solve(Made(), BRANCH)
    verify(results)
    assert results.before(BRANCH.node("d")) == {"a", "c"}


def test_a_transfer_of_ones_own_counts_at_the_ends_of_blocks_too() -> None:
    class Forgets(Made):
        def transfer(self, node: TextNode, value: Names) -> Names:
            return frozenset() if node.word == "two" else super().transfer(node, value)

    results = solve(Forgets(), BRANCH)
    assert results.before(BRANCH.node("d")) == results.after(BRANCH.node("b")) == frozenset()


LINE = parse("s: v = one -> l\nl: x = one\nx = two\ny = one\nx = three -> l, e\ne: w = one")


def _written(node: TextNode) -> tuple[Names, Names]:
    """What a node writes, and what the same name may have been given by any."""
    (name,) = node.results
    return frozenset((f"{name} {node.word}",)), frozenset(
        f"{name} {word}" for word in ("one", "two", "three")
    )


@frozen
class Last(GenKill[TextNode, Names], Forward[TextNode, Names]):
    """Who wrote each name last."""

    lattice: Lattice[Names] = Powerset()

    def boundary(self) -> Names:
        return frozenset(("x two", "y two", "z one"))

    def effect(self, node: TextNode) -> tuple[Names, Names]:
        return _written(node)


@frozen
class Next(GenKill[TextNode, Names], Backward[TextNode, Names]):
    """Who writes each name next."""

    lattice: Lattice[Names] = Powerset()

    def boundary(self) -> Names:
        return frozenset(("x two", "y two", "z one"))

    def effect(self, node: TextNode) -> tuple[Names, Names]:
        return _written(node)


def test_a_line_is_composed_in_the_order_of_its_nodes() -> None:
    """What comes later kills what came before, and what it killed is killed still."""
    last, following = solve(Last(), LINE), solve(Next(), LINE)
    verify(last)
    verify(following)
    assert last.before(LINE.node("e")) == {"v one", "x three", "y one", "z one"}
    assert following.after(LINE.node("s")) == {"w one", "x one", "y one", "z one"}


@frozen
class Gathered(GenKill[TextNode, Names], Forward[TextNode, Names]):
    """What `r` reads anywhere, from `two` on."""

    read: Shared[str, Names] = Shared(Powerset())
    lattice: Lattice[Names] = Powerset()

    def effect(self, node: TextNode) -> tuple[Names, Names]:
        if node.word == "r":
            self.read.add("read", frozenset(node.operands))
        found = self.read.of("read") if node.word == "two" else frozenset[str]()
        return found, frozenset()


def test_effects_grow_with_answers_so_far() -> None:
    """What was composed when less was known is not what they come to."""
    results = solve(Gathered(), BRANCH)
    verify(results)
    assert results.before(BRANCH.node("d")) == {"a"}
