"""The weak topological order: every loop in one piece, and every circle feeds back to a head."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings

from dataflow import UNREACHED, TextNode, parse, solve
from dataflow.components import strong_components
from dataflow.order import Order, collector_paused, weak_topological_order
from tests.dataflow.test_brute_force import Shape, shapes
from tests.dataflow.test_solve import Live, Numbers, nested_loops, renumbered


def order_of(successors: Sequence[Sequence[int]], nested: bool = True) -> Order:
    """The order of constraints that each write an unknown of their own: constraint c writes
    unknown c, and reads those of its predecessors."""
    count = len(successors)
    reads: list[list[int]] = [[] for _ in range(count)]
    for source, targets in enumerate(successors):
        for target in targets:
            reads[target].append(source)
    return weak_topological_order(reads, [(c,) for c in range(count)], count, nested=nested)


def circles(successors: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Every circle of a small graph that passes no node twice."""

    def onward(path: list[int]) -> Iterator[list[int]]:
        for target in successors[path[-1]]:
            if target == path[0]:
                yield path
            elif target > path[0] and target not in path:
                yield from onward([*path, target])

    for start in range(len(successors)):
        yield from onward([start])


def together(successors: Sequence[Sequence[int]]) -> set[frozenset[int]]:
    """The strongly connected components that loop, by reaching one another."""

    def reached(start: int) -> set[int]:
        found: set[int] = set()
        pending = list(successors[start])
        while pending:
            node = pending.pop()
            if node not in found:
                found.add(node)
                pending += successors[node]
        return found

    reach = [reached(node) for node in range(len(successors))]
    return {
        frozenset(other for other in found if node in reach[other])
        for node, found in enumerate(reach)
        if node in found
    }


def check(successors: Sequence[Sequence[int]]) -> None:
    """What makes an order a topological one but for loops, which are in one piece each."""
    for nested in (True, False):
        check_order(successors, order_of(successors, nested))


def check_order(successors: Sequence[Sequence[int]], order: Order) -> None:
    assert sorted(order.sequence) == list(range(len(successors)))
    pieces = [frozenset(order.sequence[rank] for rank in loop) for loop in order.loops]
    assert set(pieces) == together(successors)
    assert len(set(pieces)) == len(pieces)
    rank = {node: number for number, node in enumerate(order.sequence)}
    for source, targets in enumerate(successors):
        for target in targets:
            inside = any(source in piece and target in piece for piece in pieces)
            assert inside or rank[source] < rank[target]
    assert [rank for part in order.parts for rank in part] == list(range(len(successors)))


@settings(deadline=None, max_examples=300)
@given(shapes())
def test_every_outermost_loop_is_one_piece_and_the_rest_goes_onward(shape: Shape) -> None:
    """Outermost loops are the strongly connected components, each contiguous."""
    check(shape.successors)


@pytest.mark.parametrize(
    ("onward", "sequence", "loops"),
    [
        ([[1], [2], [0]], [0, 1, 2], [range(3)]),
        ([[2, 1], [], [1]], [0, 2, 1], []),
        ([[1], [1, 2], []], [0, 1, 2], [range(1, 2)]),
        ([[2], [3], [1, 0], [1]], [0, 2, 1, 3], [range(2), range(2, 4)]),
        ([[1, 4], [2, 3], [1], [5], [5], []], [0, 4, 1, 2, 3, 5], [range(2, 4)]),
        ([[], [0], [1]], [2, 1, 0], []),
    ],
)
def test_components_are_entered_where_the_search_gets_there_first(
    onward: list[list[int]], sequence: list[int], loops: list[range]
) -> None:
    roots = [0, 1, 2] if onward[0] else [2, 1, 0]
    assert strong_components(onward, roots) == (sequence, loops)


@settings(deadline=None, max_examples=300)
@given(shapes())
def test_every_circle_feeds_back_to_where_growth_is_widened(shape: Shape) -> None:
    """The unknown that closes a circle has a reader at or before its writer: there the solver
    may leap, so no circle grows for ever unseen."""
    successors = shape.successors
    order = order_of(successors)
    rank = {node: number for number, node in enumerate(order.sequence)}
    for circle in circles(successors):
        assert any((order.readers[node] or [len(rank)])[0] <= rank[node] for node in circle)


def nested(depth: int) -> list[list[int]]:
    """Loops in loops: 0 leads in, head d leads to head d + 1 and past its loop, its end 2 depth
    + 2 - d leads back to it."""
    successors: list[list[int]] = [[1], *([] for _ in range(2 * depth + 2))]
    for head in range(1, depth + 1):
        end = 2 * depth + 2 - head
        successors[head] = [head + 1, end + 1]
        successors[end] = [head]
    successors[depth + 1] = [depth + 2]
    return successors


@pytest.mark.parametrize("depth", range(1, 13))
@pytest.mark.parametrize("seed", range(5))
def test_nested_loops_stand_inside_one_another(depth: int, seed: int) -> None:
    """Each inner loop in one piece inside of the one around it, however things are numbered."""
    plain = nested(depth)
    names = random.Random(seed).sample(range(len(plain)), len(plain))
    successors: list[list[int]] = [[] for _ in plain]
    for node, targets in enumerate(plain):
        successors[names[node]] = [names[target] for target in targets]
    check(successors)
    order = order_of(successors)
    rank = {node: number for number, node in enumerate(order.sequence)}
    for head in range(1, depth + 1):
        inside = sorted(rank[names[node]] for node in range(head, 2 * depth + 3 - head))
        assert rank[names[head]] == inside[0]
        assert inside == list(range(inside[0], inside[0] + len(inside)))


def test_a_loop_with_two_ways_in_is_one_piece() -> None:
    """Irreducible: 0 leads to both 1 and 2, which lead to one another."""
    check([[1, 2], [2], [1, 3], []])


def test_many_loops_one_after_the_other_are_many_pieces() -> None:
    """None of them waits for another."""
    successors = [[number, number + 1] for number in range(50)] + [[]]
    check(successors)
    assert len(order_of(successors).loops) == 50


def test_a_small_loop_is_written_down_as_one_would() -> None:
    """Head, body, and what follows."""
    order = order_of([[1, 2], [0], []])
    assert list(order.sequence) == [0, 1, 2]
    assert list(order.loops) == [range(2)]


@settings(deadline=None, max_examples=60)
@given(shapes(loops=False))
def test_without_loops_there_are_none(shape: Shape) -> None:
    """Straight-line programs get a plain topological order."""
    successors = shape.successors
    assert not order_of(successors).loops
    check(successors)


def test_an_entry_that_is_a_loop_head_is_its_head_however_blocks_are_numbered() -> None:
    """Else another place is widened, and the answer is not the same."""
    graph = parse(
        """
        head: test     -> one, two
        one:  add 1    -> mid
        two:  nop      -> mid
        mid:  below 10 -> head, done
        done: write
        """
    )
    expected = solve(Numbers(), graph)
    for seed in range(30):
        assert str(solve(Numbers(), renumbered(graph, seed))) == str(expected)


def test_a_loop_is_entered_from_before_it_rather_than_from_inside() -> None:
    """Of two entries, 0 in the loop and 2 before it, 2 decides that 1 is the head."""
    reads, writes = [(1,), (0, 2), ()], [(0,), (1,), (2,)]
    order = weak_topological_order(
        reads, writes, 3, known=[UNREACHED, None, UNREACHED], nested=True
    )
    assert list(order.sequence) == [2, 1, 0]
    alone = weak_topological_order(
        reads[:2], writes[:2], 3, known=[UNREACHED, None, None], nested=True
    )
    assert list(alone.sequence) == [0, 1]


def test_a_loop_is_entered_where_all_that_is_read_is_known() -> None:
    """Constraint 0 also reads what 1 has to give first."""
    reads, writes = [(0, 1), (0,)], [(0,), (1,)]
    order = weak_topological_order(reads, writes, 2, known=[None, UNREACHED], nested=True)
    assert list(order.sequence) == [1, 0]


def test_a_loop_of_which_nothing_is_known_is_entered_from_what_nothing_feeds() -> None:
    """Constraint 1 leads to 2, which then is the head, though 0 comes first."""
    reads, writes = [(0,), (1,), (2,)], [(2,), (2,), (0,)]
    order = weak_topological_order(reads, writes, 3, known=[UNREACHED] * 3, nested=True)
    assert list(order.sequence) == [1, 2, 0]


@pytest.mark.parametrize("nested", [True, False])
def test_what_is_written_may_have_no_reader(nested: bool) -> None:
    order = weak_topological_order([(0,)], [(0, 1)], 2, nested=nested)
    assert (list(order.sequence), list(order.loops)) == ([0], [range(1)])
    assert order.readers == [[0], None]


def test_twelve_loops_inside_one_another_cost_few_transfers() -> None:
    """Solving inner loops anew each time their surroundings grow would cost thousands."""
    calls = []

    class Counted(Live):
        def transfer(self, node: TextNode, value: frozenset[str]) -> frozenset[str]:
            calls.append(node)
            return super().transfer(node, value)

    solve(Counted(), nested_loops(12, late=False))
    assert len(calls) <= 2 * 156


def test_setting_up_pauses_the_collector_and_leaves_it_as_it_was() -> None:
    """On, or off."""
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_components_are_of_what_the_roots_lead_to() -> None:
    sequence, loops = strong_components([[1], [0, 2], [], [0]], [0])
    assert sorted(sequence) == [0, 1, 2]
    assert [sequence[n] for n in loops[0]] in ([0, 1], [1, 0])
