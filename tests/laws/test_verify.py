"""`verify` accepts every state that covers its equations and no other."""

from __future__ import annotations

import pytest
from attrs import evolve, frozen

from dataflow import (
    UNREACHED,
    Backward,
    Draft,
    Forward,
    Lattice,
    LawBroken,
    PointResults,
    Powerset,
    StaleError,
    TextNode,
    Unreached,
    parse,
    solve,
    verify,
)

LOOP = parse(
    """
    start: n = read
    loop:  test n     -> body, done
    body:  n = less n -> loop
    done:  write n
    """
)


@frozen
class ReachingWrites(Forward[TextNode, frozenset[str]]):
    """Which writes may have given each name its value."""

    lattice: Lattice[frozenset[str]] = Powerset()

    def transfer(self, node: TextNode, value: frozenset[str]) -> frozenset[str]:
        kept = {write for write in value if write.split("@")[0] not in node.results}
        return frozenset(kept | {f"{name}@{node.label}" for name in node.results})


@frozen
class Live(Backward[TextNode, frozenset[str]]):
    """Which names may still be read."""

    lattice: Lattice[frozenset[str]] = Powerset()

    def boundary(self) -> frozenset[str]:
        return frozenset({"out"})

    def transfer(self, node: TextNode, value: frozenset[str]) -> frozenset[str]:
        return value - frozenset(node.results) | frozenset(node.operands)


Solution = PointResults[TextNode, frozenset[str]]


def with_state(results: Solution, block: int, fact: frozenset[str] | Unreached) -> Solution:
    """The same results with another fact for one block."""
    states = list(results.states)
    states[block] = fact
    return evolve(results, states=states)


@pytest.mark.parametrize("analysis", [ReachingWrites(), Live()])
def test_a_solution_passes_and_so_does_a_larger_one(
    analysis: ReachingWrites | Live,
) -> None:
    """Larger facts than the least are sound; that they are least is for other tests."""
    results = solve(analysis, LOOP)
    verify(results)
    everything = frozenset({"n", "out", "n@start", "n@body"})
    for block in range(len(LOOP.flow.blocks)):
        results = with_state(results, block, everything)
    verify(results)


def test_a_fact_that_is_missing_is_reported_with_its_equation() -> None:
    """The message has who says it, what it says, of whom, and what the state has."""
    head = LOOP.flow.places[LOOP.flow.number(LOOP.node("loop"))][0]
    results = solve(ReachingWrites(), LOOP)
    with pytest.raises(LawBroken) as caught:
        verify(with_state(results, head, frozenset({"n@start"})))
    message = str(caught.value)
    assert "[n = less n] says {n@body} of [test n]" in message
    assert "whose state is {n@start}" in message


def test_a_place_wrongly_called_unreached_is_reported() -> None:
    """A reached block whose successor is not reached breaks an equation."""
    last = LOOP.flow.exits[0]
    results = solve(ReachingWrites(), LOOP)
    with pytest.raises(LawBroken, match=r"of \[write n\], whose state is unreached"):
        verify(with_state(results, last, UNREACHED))


@pytest.mark.parametrize("fact", [frozenset(), UNREACHED])
def test_a_state_below_the_boundary_is_reported(fact: frozenset[str] | Unreached) -> None:
    """The boundary is an equation like the others."""
    results = solve(Live(), LOOP)
    with pytest.raises(LawBroken, match=r"\[write n\] does not cover its boundary"):
        verify(with_state(results, LOOP.flow.exits[0], fact))


def test_a_straight_line_is_verified_node_by_node() -> None:
    """No fact goes on from it, so its points are all that there is to ask for."""
    line = parse("a = read\nb = copy a\nwrite b")
    calls: list[str] = []

    class Remembers(Live):
        def transfer(self, node: TextNode, value: frozenset[str]) -> frozenset[str]:
            calls.append(node.label)
            return super().transfer(node, value) | {str(len(calls))}

    verify(solve(Live(), line))
    with pytest.raises(LawBroken, match=r"\[a = read\] says \{.*\} of the point before it"):
        verify(solve(Remembers(), line))
    assert set(calls) == {"1", "2", "3"}


def test_an_error_in_a_block_that_nobody_reads_is_met() -> None:
    class Fails(ReachingWrites):
        def transfer(self, node: TextNode, value: frozenset[str]) -> frozenset[str]:
            if node.word == "write":
                raise ZeroDivisionError
            return super().transfer(node, value)

    results = solve(Fails(), LOOP)
    with pytest.raises(ZeroDivisionError) as caught:
        verify(results)
    assert "while analysing write n" in caught.value.__notes__


def test_what_is_stale_is_not_verified() -> None:
    draft = Draft(LOOP)
    results = solve(Live(), draft)
    edit = draft.insert(TextNode("new", "nop", (), ()), LOOP.node("body"))
    with pytest.raises(StaleError):
        verify(results)
    verify(results.update(edit))
