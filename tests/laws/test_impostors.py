"""`check_lattice` catches lattices that are none, with a counterexample a person can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import frozen
from hypothesis import strategies as st

from dataflow import (
    BOTTOM,
    Chain,
    Flat,
    Interval,
    Lattice,
    LawBroken,
    MapOf,
    Powerset,
    Reduced,
    check_lattice,
)

INFINITY = float("inf")


@frozen
class KeepsLeft(Flat[int]):
    """Where two constants clash the first one wins: the answer depends on path order."""

    def join(self, a: Any, b: Any) -> Any:
        return b if a is BOTTOM else a


@frozen
class AlwaysCovers(Powerset[str]):
    """Claims that everything covers everything, so solving would end at once."""

    def leq(self, a: frozenset[str], b: frozenset[str]) -> bool:
        return True


@frozen
class NeverCovers(Powerset[str]):
    """Denies what its join says, so solving would never end."""

    def leq(self, a: frozenset[str], b: frozenset[str]) -> bool:
        return a < b


@frozen
class WidensToOld(Interval):
    """Widening that ends by forgetting the new fact."""

    def widen(self, old: Any, new: Any, visits: int) -> Any:
        return old


@frozen
class WidensTooLow(Interval):
    """Widening that forgets the low bound."""

    def widen(self, old: Any, new: Any, visits: int) -> Any:
        return new if old is BOTTOM else (old[0], INFINITY)


@frozen
class Adds(Chain):
    """Counts a fact twice when it arrives twice."""

    def join(self, a: int, b: int) -> int:
        return a + b

    def leq(self, a: int, b: int) -> bool:
        return a + b == b


@frozen
class RockPaperScissors(Lattice[str]):
    """Each covers another in a circle: what three paths merge to depends on grouping."""

    @property
    def bottom(self) -> str:
        return ""

    def join(self, a: str, b: str) -> str:
        if not a or not b or a == b:
            return a or b
        pairs = {"rock": "paper", "paper": "scissors", "scissors": "rock"}
        return b if pairs[a] == b else a


@frozen
class BottomIsNotLeast(Chain):
    """Starts above some of its facts."""

    @property
    def bottom(self) -> int:
        return 5


@frozen
class TopIsNotGreatest(Powerset[str]):
    """Names a top that does not cover all facts."""

    @property
    def top(self) -> frozenset[str]:
        return frozenset("a")


@frozen
class MeetIsJoin(Powerset[str]):
    """Its dual would be the may-analysis once more."""

    def meet(self, a: frozenset[str], b: frozenset[str]) -> frozenset[str]:
        return a | b


@frozen
class MeetIsLow(Powerset[str]):
    """Its meet is below both, though not the greatest that is."""

    def meet(self, a: frozenset[str], b: frozenset[str]) -> frozenset[str]:
        return min(a, b, key=len) if a <= b or b <= a else self.bottom


@frozen
class GrowsItsArgument(MapOf[str, frozenset[str]]):
    """Its join puts what it finds into the first map."""

    def join(self, a: Any, b: Any) -> Any:
        a.update(super().join(a, b))
        return a


@frozen
class KeepsBottoms(MapOf[str, frozenset[str]]):
    """Its meet has keys that say nothing, which its join leaves out again."""

    def join(self, a: Any, b: Any) -> Any:
        return self.of(super().join(a, b))

    def meet(self, a: Any, b: Any) -> Any:
        return {key: a.get(key, frozenset()) & b.get(key, frozenset()) for key in {**a, **b}}


@frozen
class TiresOfWidening(Interval):
    """After some visits it takes back what it gave."""

    def widen(self, old: Any, new: Any, visits: int) -> Any:
        return new if visits < 5 else old


@frozen
class LosesAPart(Powerset[str]):
    """One of several elements stands for all."""

    def parts(self, value: frozenset[str]) -> list[frozenset[str]]:
        return [*super().parts(value)][:1]


@frozen
class NothingIsAPart(Powerset[str]):
    """The empty set is one of the parts."""

    def parts(self, value: frozenset[str]) -> list[frozenset[str]]:
        return [frozenset(), *super().parts(value)]


@frozen
class ReplacesNothing(Powerset[str]):
    """What is to go stays."""

    def replace(self, value: Any, old: Any, new: Any) -> frozenset[str]:
        return self.join(value, new)


def drops_first_of_small(pair: tuple[int, int]) -> tuple[int, int]:
    """Not monotone: a larger pair keeps less of its first side."""
    first, second = pair
    return (0 if second > 1 else first), second


def takes_one(pair: tuple[int, int]) -> tuple[int, int]:
    """Not idempotent: reduces a little more each time."""
    return max(0, pair[0] - 1), pair[1]


@frozen
class Impostor:
    """A lattice that breaks a law, and what the message must name."""

    lattice: Lattice[Any]
    values: Sequence[Any]
    law: str

    def __str__(self) -> str:
        return type(self.lattice).__name__


SETS = [frozenset(letters) for letters in ["", "a", "b", "ab"]]
IMPOSTORS = [
    Impostor(KeepsLeft(), [BOTTOM, 1, 2], "join(a, b) == join(b, a)"),
    Impostor(AlwaysCovers(), SETS, "leq(a, b) iff join(a, b) == b"),
    Impostor(NeverCovers(), SETS, "leq(a, a)"),
    Impostor(WidensToOld(), [BOTTOM, (0, 1), (0, 2)], "widen(a, join(a, b), n)"),
    Impostor(WidensTooLow(), [(0, 1), (-1, 2)], "widen(a, join(a, b), n)"),
    Impostor(TiresOfWidening(), [(0, 1), (-1, 2)], "widen(a, join(a, b), n)) at n = 10"),
    Impostor(LosesAPart(), SETS, "join of parts(a) == a"),
    Impostor(NothingIsAPart(), SETS, "bottom is none of parts(a)"),
    Impostor(ReplacesNothing(), SETS, "replace(a, a, b) == b"),
    Impostor(Adds(), [0, 1, 2], "join(a, a) == a"),
    Impostor(RockPaperScissors(), ["rock", "paper", "scissors"], "join(a, join(b, c))"),
    Impostor(BottomIsNotLeast(), [3, 7], "join(bottom, a) == a"),
    Impostor(TopIsNotGreatest(), SETS, "join(top, a) == top"),
    Impostor(MeetIsJoin(), SETS, "join(a, meet(a, b)) == a"),
    Impostor(MeetIsLow(), [*SETS, frozenset("bc")], "leq(c, meet(a, b)) if leq(c, a) and"),
    Impostor(KeepsBottoms(Powerset()), [{}, {"x": SETS[1]}], "meet(a, join(a, b)) == a"),
    # Right lattices on maps that are not canonical.
    Impostor(MapOf(Powerset()), [{"x": SETS[0]}, {}], "meet(a, join(a, b)) == a"),
    Impostor(
        Reduced(Chain(), Chain(), reduce=drops_first_of_small),
        [(3, 0), (0, 2)],
        "leq(a, join(a, b))",
    ),
    Impostor(
        Reduced(Chain(0, 3), Chain(0, 3), reduce=takes_one), [(2, 0), (3, 0)], "join(a, a) == a"
    ),
]


@pytest.mark.parametrize("impostor", IMPOSTORS, ids=str)
def test_a_broken_law_is_caught_on_given_values(impostor: Impostor) -> None:
    """Given some facts, the message has the lattice, the law and facts that break it."""
    with pytest.raises(LawBroken) as caught:
        check_lattice(impostor.lattice, impostor.values)
    message = str(caught.value)
    assert repr(impostor.lattice) in message
    assert impostor.law in message
    shown = message.split(" for ")[1].removeprefix(" a = ")
    assert any(shown.startswith(repr(value)) for value in impostor.values)


@pytest.mark.parametrize("impostor", IMPOSTORS, ids=str)
def test_a_broken_law_is_found_by_search(impostor: Impostor) -> None:
    """Given a strategy, hypothesis finds the counterexample."""
    with pytest.raises(LawBroken, match=r"breaks  .*  for  a = "):
        check_lattice(impostor.lattice, st.sampled_from(impostor.values))


@pytest.mark.parametrize("a_map", [{"x": SETS[1]}, st.fixed_dictionaries({"x": st.just(SETS[1])})])
def test_a_lattice_that_changes_its_arguments_is_told_so(a_map: Any) -> None:
    """Which is why a law fails, or does not."""
    values: Any = [{}, a_map] if isinstance(a_map, dict) else st.one_of(st.builds(dict), a_map)
    with pytest.raises(LawBroken, match=r"changes its arguments: .* have become .*so a method"):
        check_lattice(GrowsItsArgument(Powerset()), values)


def test_the_counterexample_is_shrunk() -> None:
    """The facts in the message are the simplest that hypothesis knows."""
    with pytest.raises(LawBroken, match=r"join\(a, a\) == a  for  a = 1\b"):
        check_lattice(Adds(), st.integers(0, 10**6))
