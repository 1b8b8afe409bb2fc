"""The loop itself, on systems of equations written down by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from attrs import frozen

from dataflow import (
    UNREACHED,
    DidNotConverge,
    Forward,
    Interval,
    Lattice,
    SparseForward,
    Step,
    TextNode,
    TransferError,
    Unreached,
    parse,
    solve,
)
from dataflow.analysis import System
from dataflow.lattices import Chain
from dataflow.solve import Sweep

Fact = Any


def fixpoint(
    system: System[Fact], lattice: Lattice[Fact], limit: int = 10_000
) -> tuple[list[Fact], int]:
    """The state of each unknown in the least solution, and how many evaluations it took."""
    sweep = Sweep(system, lattice, limit)
    return sweep.run(), sweep.visits


def system(
    reads: Sequence[Sequence[int]],
    writes: Sequence[Sequence[int]],
    evaluate: Callable[[int, list[Fact]], Sequence[Fact]],
    initial: Sequence[Fact],
    asks: bool = False,
    is_rapid: bool = False,
) -> System[Fact]:
    return System(
        initial, reads, writes, range(len(reads)), evaluate, lambda c: f"c{c}", lambda u: f"u{u}",
        asks=asks, is_rapid=is_rapid,
    )  # fmt: skip


def test_an_error_before_anything_is_evaluated_blames_no_constraint() -> None:
    """Here a constraint reads an unknown that is not there."""
    broken = system([(5,)], [(0,)], lambda c, values: values, [0])
    with pytest.raises(IndexError) as caught:
        fixpoint(broken, Chain())
    assert getattr(caught.value, "__notes__", []) == []


def test_a_node_that_is_named_is_not_named_again() -> None:
    @frozen
    class Fails(Forward[TextNode, int]):
        lattice: Lattice[int] = Chain()

        def transfer(self, node: TextNode, value: int) -> int:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        solve(Fails(), parse("one -> last, exit\nlast: two"))
    assert [n for n in caught.value.__notes__ if "while" in n] == ["while analysing one"]


def test_an_error_while_a_widened_loop_is_taken_back_names_who_was_evaluated() -> None:
    """The second fails for what the first gives after the leap."""

    def evaluate(constraint: int, values: list[Fact]) -> Sequence[Fact]:
        if constraint == 1 and values[0] == (0, 9):
            raise ZeroDivisionError
        return [Interval.meet(Interval(), Interval.add(values[0], (0, 1)), (0, 9))]

    loop = system([(0,), (1,)], [(1,), (0,)], evaluate, [(0, 0), UNREACHED])
    with pytest.raises(ZeroDivisionError) as caught:
        fixpoint(loop, Interval())
    assert caught.value.__notes__ == ["while analysing c1"]


def test_an_error_of_the_lattice_after_a_leap_blames_no_constraint() -> None:
    class Fails(Interval):
        def leq(self, a: Any, b: Any) -> bool:
            raise ZeroDivisionError

    count = system([(0,)], [(0,)], lambda c, values: [Interval.add(values[0], (1, 1))], [(0, 0)])
    with pytest.raises(ZeroDivisionError) as caught:
        fixpoint(count, Fails())
    assert not hasattr(caught.value, "__notes__")


def test_no_facts_at_all_is_a_wrong_number() -> None:
    @frozen
    class Forgets(SparseForward[TextNode, int]):
        lattice: Lattice[int] = Chain()

        def transfer(self, node: TextNode, operands: Sequence[int]) -> Sequence[int]:
            return None  # type: ignore[return-value]  # on purpose

    with pytest.raises(TransferError, match="gave None where 1 are needed"):
        solve(Forgets(), parse("x = read y"))


def test_a_constraint_is_evaluated_once_where_nothing_loops() -> None:
    """Given backwards, it is put in order."""
    initial = [0, UNREACHED, UNREACHED, UNREACHED]
    reads, writes = [(2,), (1,), (0,)], [(3,), (2,), (1,)]
    line = system(reads, writes, lambda c, values: [values[0] + 1], initial)
    assert fixpoint(line, Chain()) == ([0, 1, 2, 3], 3)


def test_what_says_nothing_and_asks_nothing_is_not_evaluated() -> None:
    def evaluate(constraint: int, values: list[Fact]) -> Sequence[Fact]:
        evaluated.append(constraint)
        return values if constraint else ()

    evaluated: list[int] = []
    assert fixpoint(system([(0,), (0,)], [(), (1,)], evaluate, [7, UNREACHED]), Chain())[1] == 1
    assert evaluated == [1]
    asking = system([(0,), (0,)], [(), (1,)], evaluate, [7, UNREACHED], asks=True)
    assert fixpoint(asking, Chain())[1] == 2


def test_what_reads_the_unreached_says_nothing() -> None:
    given = system([(0, 1)], [(2,)], lambda c, values: [99], [5, UNREACHED, UNREACHED])
    assert fixpoint(given, Chain()) == ([5, UNREACHED, UNREACHED], 0)


def test_a_fact_may_be_unreached_and_then_says_nothing() -> None:
    given = system([(0,)], [(1, 2)], lambda c, values: [UNREACHED, 3], [5, 8, UNREACHED])
    assert fixpoint(given, Chain()) == ([5, 8, 3], 1)


def test_a_growing_loop_is_reported_with_its_last_four_facts() -> None:
    count = system([(0,)], [(0,)], lambda c, values: [values[0] + 1], [0])
    with pytest.raises(DidNotConverge) as caught:
        fixpoint(count, Chain(), limit=6)
    message = str(caught.value)
    assert "the fact at u0 grew 7 times" in message
    assert re.findall(r"^  (\d+)$", message, re.MULTILINE) == ["4", "5", "6", "7"]


@pytest.mark.parametrize(
    ("size", "names"), [(4, "c0, c1, c2, c3"), (5, "c0, c1, c2, c3 and 1 more")]
)
def test_a_growing_loop_is_named_by_its_first_four_constraints(size: int, names: str) -> None:
    around = [(number,) for number in range(size)]
    following = [*around[1:], around[0]]
    initial = [0, *[UNREACHED] * (size - 1)]
    count = system(around, following, lambda c, values: [values[0] + 1], initial)
    with pytest.raises(DidNotConverge, match=re.escape(f"its loop ({names}) and still grows")):
        fixpoint(count, Chain(), limit=6)


@pytest.mark.parametrize("wrong", [None, []])
def test_a_wrong_number_of_facts_in_the_descent_is_told(wrong: Any) -> None:
    calls: list[int] = []

    def evaluate(constraint: int, values: list[Fact]) -> Sequence[Fact]:
        calls.append(constraint)
        return wrong if len(calls) == 3 else [(0, values[0][1] + 1)]

    with pytest.raises(TransferError, match="where 1 are needed") as caught:
        fixpoint(system([(0,)], [(0,)], evaluate, [(0, 0)]), Interval())
    assert caught.value.__notes__ == ["while analysing c0"]


def test_what_reads_a_growing_loop_from_behind_is_not_named() -> None:
    count = system([(0,), (0,)], [(0,), (1,)], lambda c, values: [values[0] + 1], [0, UNREACHED])
    with pytest.raises(DidNotConverge, match=re.escape("its loop (c0) and still grows")):
        fixpoint(count, Chain(), limit=6)


def test_growth_up_to_the_limit_is_no_error() -> None:
    count = system([(0,)], [(0,)], lambda c, values: [min(values[0] + 1, 6)], [0])
    assert fixpoint(count, Chain(), limit=6) == ([6], 7)
    with pytest.raises(DidNotConverge, match="grew 6 times"):
        fixpoint(count, Chain(), limit=5)


def test_a_rapid_system_goes_on_to_the_end_of_a_loop_before_it_goes_back() -> None:
    """Constraint 2 leads back to 1, and past 3, which has nothing new, to 4: that comes first."""
    seen: list[int] = []

    def evaluate(constraint: int, values: list[Fact]) -> Sequence[Fact]:
        seen.append(constraint)
        more = min(values[0] + 1, 9)
        return [more, 0, more] if constraint == 2 else [more]

    rapid = system(
        [(n,) for n in range(5)], [(1,), (2,), (1, 3, 4), (4,), (0,)], evaluate,
        [0, *[UNREACHED] * 4], is_rapid=True,
    )  # fmt: skip
    state, visits = fixpoint(rapid, Chain())
    assert state == [9, 9, 9, 0, 9]
    assert all(one == 4 for one, after in pairwise(seen) if after < one), seen
    assert seen.count(3) == 1
    assert visits == len(seen)


def test_what_reads_one_thing_that_is_not_reached_is_not_asked_in_the_descent() -> None:
    asked: list[list[Fact]] = []

    def evaluate(constraint: int, values: list[Fact]) -> Sequence[Fact]:
        asked.append(values)
        return [(0, values[0][1] + 1)]

    half = system([(0,), (0, 1)], [(0,), (0,)], evaluate, [(0, 0), UNREACHED])
    fixpoint(half, Interval())
    assert all(len(values) == 1 for values in asked)


def test_an_error_in_the_descent_blames_the_constraint_that_was_asked() -> None:
    calls: list[int] = []

    def evaluate(constraint: int, values: list[Fact]) -> Sequence[Fact]:
        calls.append(constraint)
        if len(calls) == 3:
            raise ValueError("too wide")
        return [(0, values[0][1] + 1)]

    with pytest.raises(ValueError, match="too wide") as caught:
        fixpoint(system([(0,)], [(0,)], evaluate, [(0, 0)]), Interval())
    assert caught.value.__notes__ == ["while analysing c0"]


@pytest.mark.parametrize("grows", [0, 1])
def test_a_rapid_loop_has_its_limit_too(grows: int) -> None:
    """How often it is gone around; once is no growth."""
    around = system(
        [(0,), (1,)], [(1,), (0,)], lambda c, values: [values[0] + grows], [0, UNREACHED],
        is_rapid=True,
    )  # fmt: skip
    if not grows:
        assert fixpoint(around, Chain(), limit=0) == ([0, 0], 2)
        return
    with pytest.raises(DidNotConverge, match="grew 7 times"):
        fixpoint(around, Chain(), limit=6)


def test_a_lattice_is_told_how_often_it_has_widened() -> None:
    told: list[tuple[int, int, int]] = []

    class Leaps(Chain):
        def widen(self, old: int, new: int, visits: int) -> int:
            told.append((old, new, visits))
            return new if visits < 4 else 100

    count = system([(0,)], [(0,)], lambda c, values: [min(values[0] + 1, 100)], [0])
    assert fixpoint(count, Leaps()) == ([100], 5 + 1)
    assert told == [(0, 1, 1), (1, 2, 2), (2, 3, 3), (3, 4, 4)]


@pytest.mark.parametrize("length", [199, 200, 201])
def test_a_long_fact_is_told_by_its_two_ends(length: int) -> None:
    class Words(Chain):
        def show(self, value: int) -> str:
            return "b" * (length // 2) + "e" * (length - length // 2)

    count = system([(0,)], [(0,)], lambda c, values: [values[0] + 1], [0])
    with pytest.raises(DidNotConverge) as caught:
        fixpoint(count, Words(), limit=6)
    shown = str(caught.value).splitlines()[1].strip()
    whole = "b" * (length // 2) + "e" * (length - length // 2)
    assert shown == (whole if length <= 200 else "b" * 90 + " ... " + "e" * 90)


def test_a_block_is_named_by_its_nodes_the_first_and_last_of_many() -> None:
    @frozen
    class Same(Forward[TextNode, int]):
        lattice: Lattice[int] = Chain()

        def transfer(self, node: TextNode, value: int) -> int:
            return value

    names: list[str] = []
    graph = parse("a\nb\nc -> 4, exit\nd\ne\nf\ng -> 8, exit\nh -> exit, 1")
    solve(Same(), graph, observer=lambda step: names.append(step.constraint))
    assert names == ["[a; b; c]", "[d; ...; g]", "[h]"]


def test_a_transfer_that_returns_nothing_is_named_with_its_block() -> None:
    class Forgets(Forward[TextNode, int]):
        lattice: Lattice[int] = Chain()

        def transfer(self, node: TextNode, value: int) -> int:
            return None  # type: ignore[return-value]  # the mistake

    with pytest.raises(TypeError, match="transfer returned None in the block of b"):
        solve(Forgets(), parse("a\nb -> 1, exit"))
    straight = parse("a\nb -> exit")
    results = solve(Forgets(), straight)
    with pytest.raises(TypeError, match=r"transfer returned None\n(.*\n)*while analysing a"):
        results.after(straight.flow.nodes[1])


def test_the_observer_sees_every_evaluation_and_what_grew() -> None:
    """A round that brings nothing is a step, too."""
    seen: list[tuple[str, list[Fact], list[tuple[str, Fact, Fact]]]] = []

    def note(step: Step[Fact]) -> None:
        seen.append((step.constraint, list(step.read), list(step.grew)))

    count = system([(0,)], [(0,)], lambda c, values: [min(values[0] + 1, 2)], [0])
    Sweep(count, Chain(), observer=note).run()
    assert seen == [
        ("c0", [0], [("u0", 0, 1)]),
        ("c0", [1], [("u0", 1, 2)]),
        ("c0", [2], []),
    ]


def test_between_steps_nobody_is_being_evaluated() -> None:
    """So what `read` notes then is for nobody."""
    given = system([(0,)], [(1,)], lambda c, values: values, [5, UNREACHED], asks=True)
    sweep = Sweep(given, Chain())
    assert sweep.rank < 0
    sweep.run()
    assert sweep.rank < 0
    assert sweep.read(1) == 5
    assert sweep.order.readers == [[0], None]


def test_what_is_read_while_running_is_read_again_when_it_grows() -> None:
    """c0 asks for u2, which c1 makes later and c2 makes grow."""

    def evaluate(constraint: int, values: list[Fact]) -> Sequence[Fact]:
        match constraint:
            case 0:
                asked = sweep.read(2)
                return [0 if asked is UNREACHED else asked]
            case 1:
                return [4]
            case _:
                return [9 if values[0] is not UNREACHED and values[0] >= 4 else 4]

    given = system([(), (), (1,)], [(1,), (2,), (2,)], evaluate, [UNREACHED] * 3, asks=True)
    sweep = Sweep(given, Chain())
    assert sweep.run() == [UNREACHED, 9, 9]
    assert sweep.order.readers[2] == [0]


def test_what_is_told_is_joined_and_wakes_its_readers() -> None:
    def evaluate(constraint: int, values: list[Fact]) -> Sequence[Fact]:
        if constraint == 0:
            sweep.tell(extra, 3)
            sweep.tell(extra, 2)
            return []
        return [sweep.read(extra)]

    given = system([(), ()], [(), (0,)], evaluate, [UNREACHED], asks=True)
    sweep = Sweep(given, Chain())
    extra = sweep.new(1, "aside")
    assert (extra, sweep.unknown_name(extra), sweep.unknown_name(0)) == (1, "aside", "u0")
    assert sweep.run() == [3, 3]


INFINITY = float("inf")

COUNTED = """
start: set 0
head:  test -> more, done
more:  above 100 -> never, again
never: write -> again
again: below 10 -> on, done
on:    add 1 -> head
done:  write
"""


@frozen
class Counted(Forward[TextNode, Any]):
    """The bounds of one number; `above` goes its first way only with numbers above."""

    lattice: Lattice[Any] = Interval()

    def boundary(self) -> Any:
        return 0, 0

    def transfer(self, node: TextNode, value: Any) -> Any:
        return Interval.add(value, (1, 1)) if node.word == "add" else value

    def edge(self, node: TextNode, way: int, value: Any) -> Any | Unreached:
        if node.word not in ("below", "above"):
            return value
        limit = int(node.operands[0])
        lower = Interval.of(value[0], min(value[1], limit - 1))
        upper = Interval.of(max(value[0], limit), value[1])
        first = lower if node.word == "below" else upper
        found = (first, upper if node.word == "below" else lower)[way]
        return found if isinstance(found, tuple) else UNREACHED


def test_every_evaluation_is_counted_those_of_the_descent_too() -> None:
    evaluated = []

    def evaluate(constraint: int, values: list[Fact]) -> Sequence[Fact]:
        evaluated.append(constraint)
        return [Interval.add(values[0], (1, 1)) if values[0][1] < 10 else values[0]]

    state, visits = fixpoint(system([(0,)], [(0,)], evaluate, [(0, 0)]), Interval())
    assert state == [(0, INFINITY)]
    assert visits == len(evaluated) == 3


def test_what_widening_reached_keeps_a_fact_when_the_descent_finds_it_unreached() -> None:
    """The descent makes facts smaller; it does not take an answer away."""
    graph = parse(COUNTED)
    results = solve(Counted(), graph)
    assert results.before(graph.node("head")) == (0, 10)
    assert results.before(graph.node("never")) == (100, INFINITY)
