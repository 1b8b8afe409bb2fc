"""A partition is an equivalence: what chains of sames link."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow import Dual, LatticeError, Partition
from tests.laws.specimens import LETTERS, partitions


def linked(groups: list[set[str]], a: str, b: str) -> bool:
    """Whether a chain of groups that share elements leads from a to b."""
    reached = {a}
    while grown := [group for group in groups if group & reached and not group <= reached]:
        reached.update(*grown)
    return b in reached


@settings(deadline=None)
@given(st.lists(st.sets(st.sampled_from("abcdefgh"), max_size=3), max_size=8), st.randoms())
def test_a_partition_is_the_closure_of_its_groups(groups: list[set[str]], random: Any) -> None:
    """Same is what a chain of groups links; in whatever order and way they came."""
    lattice: Partition[str] = Partition()
    value = lattice.of(groups)
    for a in "abcdefgh":
        assert lattice.class_of(value, a) == {b for b in "abcdefgh" if linked(groups, a, b)}
        for b in "abcdefgh":
            assert lattice.same(value, a, b) == linked(groups, a, b)
    united = lattice.bottom
    for group in random.sample(groups, len(groups)):
        first = min(group, default="a")
        for other in group:
            united = lattice.unite(united, other, first)
    assert united == value
    assert hash(united) == hash(value)


@settings(deadline=None)
@given(partitions().values, partitions().values)
def test_the_meet_of_partitions_keeps_what_both_say(a: Any, b: Any) -> None:
    """Which the dual joins: the same on all paths."""
    lattice: Partition[str] = Partition(LETTERS)
    assert lattice.meet(a, b) == lattice.of(lattice.meet(a, b)), "classes of one are left out"
    for x in LETTERS:
        for y in LETTERS:
            both = lattice.same(a, x, y) and lattice.same(b, x, y)
            assert lattice.same(lattice.meet(a, b), x, y) == both
            assert lattice.same(Dual(lattice).join(a, b), x, y) == both


def test_a_partition_reads_the_same_in_any_order() -> None:
    lattice: Partition[str] = Partition()
    value = lattice.of(["ba", "xyz", "q", ""])
    assert lattice.show(value) == "{{a, b}, {x, y, z}}"
    assert lattice.classes(value) == [frozenset("ab"), frozenset("xyz")]
    assert [lattice.show(part) for part in lattice.parts(value)] == [
        "{{a, b}}",
        "{{x, y}}",
        "{{x, z}}",
    ]
    assert lattice.unite(value, "q", "q") == value
    assert lattice.unite(value, "b", "x") == lattice.of(["abxyz"])
    with pytest.raises(LatticeError, match="universe"):
        _ = lattice.top


def test_classes_are_in_the_order_of_what_is_in_them() -> None:
    """Sorted inside, too: a set of 1 and 8 goes through 8 first."""
    lattice: Partition[int] = Partition()
    value = lattice.of([(4, 5), (2, 7), (8, 1), (6, 3), (0, 9)])
    assert lattice.classes(value) == [*map(frozenset, [(0, 9), (1, 8), (2, 7), (3, 6), (4, 5)])]


def test_a_partition_is_finer_class_by_class() -> None:
    """Some classes may be the same in both."""
    lattice: Partition[str] = Partition()
    assert lattice.leq(lattice.of(["ab", "xy"]), lattice.of(["ab", "xyz"]))
    assert not lattice.leq(lattice.of(["ab", "xyz"]), lattice.of(["ab", "xy"]))


def test_a_long_chain_of_sames_is_merged_in_one_join() -> None:
    """As many steps as elements, not their square."""
    n = 20_000
    lattice: Partition[int] = Partition()
    even = lattice.of((i, i + 1) for i in range(0, n, 2))
    odd = lattice.of((i, i + 1) for i in range(1, n, 2))
    assert lattice.join(even, odd) == {frozenset(range(n + 1))}
