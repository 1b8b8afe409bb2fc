"""Facts about storages by number: their lattice, what each effect makes of them, sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import passes
from dataflow import Copy, CopyKind
from dataflow.laws import check_lattice
from passes import UNKNOWN, Program
from passes.alias import PointsTo
from passes.census import allocates
from passes.program import AliasOf, Fresh, OneOf, Role, SameAs, Unknown
from passes.storages import (
    ANY,
    Allocations,
    Points,
    StorageSets,
    earlier,
    is_one,
    loops,
    numbers,
)
from passes.storages import points as as_fact
from tests.passes.programs import classes, exported, traced

X = torch.rand(4, 4)

facts = st.frozensets(st.integers(-5, 5), max_size=4).map(as_fact)


def _set(*found: int) -> Points:
    return frozenset(found)


class TestLattice:
    """Sets of numbers, where a set of one is its number."""

    def test_it_obeys_the_laws(self) -> None:
        check_lattice(StorageSets(), facts)

    def test_a_set_of_one_is_its_number(self) -> None:
        lattice = StorageSets()
        assert lattice.join(3, 3) == 3
        assert lattice.join(_set(), 3) == 3
        assert lattice.join(3, 4) == _set(3, 4)
        assert (as_fact(frozenset([7])), as_fact(frozenset())) == (7, frozenset())
        assert (numbers(7), numbers(_set(7, 8))) == (_set(7), _set(7, 8))

    def test_order(self) -> None:
        lattice = StorageSets()
        assert lattice.leq(3, 3)
        assert lattice.leq(3, _set(3, 4))
        assert not lattice.leq(_set(3, 4), 3)
        assert not lattice.leq(3, 4)

    def test_parts_and_names(self) -> None:
        lattice = StorageSets(lambda number: f"s{number}")
        assert list(lattice.parts(_set(9, 16, 2))) == [2, 9, 16]
        assert list(lattice.parts(9)) == [9]
        assert lattice.show(_set(9, 16, 2)) == "{s16, s2, s9}"
        assert lattice.show(9) == "{s9}"

    def test_an_earlier_iterations_storage_is_another_one(self) -> None:
        assert [earlier(number) for number in (0, 3)] == [-2, -5]
        assert [earlier(number) for number in (ANY, -2, -5)] == [ANY, -2, -5]
        assert [number for number in (-5, -2, ANY, 0, 3) if is_one(number)] == [0, 3]


class TestEffects:
    """What a result points to, given what operands and earlier results do."""

    ANYWHERE = _set(5, ANY)

    @staticmethod
    def _result(effect: Any, *operands: Points, results: tuple[Points, ...] = ()) -> Points:
        program = traced(lambda x: x + 1, X)
        (result,) = program.op("add").defines  # number 1
        analysis = PointsTo(Allocations(program))
        return analysis.pointees(effect, result, operands, list(results))

    def test_fresh(self) -> None:
        assert self._result(Fresh(4), 7) == 1

    def test_alias_of_one_operand(self) -> None:
        assert self._result(AliasOf((1,)), 7, 8, 9) == 8
        assert self._result(AliasOf((0,)), _set(7, 8), 9) == _set(7, 8)

    @pytest.mark.parametrize(
        ("first", "second", "both"),
        [
            (7, 7, 7),
            (7, _set(7, 8), 7),
            (_set(7, 8, 9), _set(8, 9, 10), _set(8, 9)),
            (_set(5, ANY), 7, 7),  # one that may be anything says nothing of the other
            (_set(5, ANY), _set(7, 8), _set(7, 8)),
            (_set(5, ANY), _set(6, ANY), _set(6, ANY)),
        ],
    )
    def test_alias_of_two_operands_is_what_both_may_be(
        self, first: Points, second: Points, both: Points
    ) -> None:
        assert self._result(AliasOf((0, 2)), first, 99, second) == both
        assert numbers(self._result(AliasOf((2, 0)), first, 99, second)) & numbers(both)

    def test_same_as_an_earlier_result(self) -> None:
        assert self._result(SameAs(1), 7, results=(3, _set(4, 5), 6)) == _set(4, 5)

    def test_one_of_several_answers(self) -> None:
        assert self._result(OneOf((Fresh(4), AliasOf((0,)))), 7) == _set(1, 7)
        assert self._result(OneOf((AliasOf((0,)), AliasOf((1,)))), 7, 7) == 7

    def test_unknown(self) -> None:
        assert self._result(Unknown(None), 7) == _set(1, ANY)


class TestCopies:
    """What crosses the boundary of a region."""

    @staticmethod
    def _loop() -> Program:
        def loop(x: Tensor) -> Any:
            from torch._higher_order_ops import while_loop

            kept = x * 3
            return while_loop(  # type: ignore[no-untyped-call]  # torch's own
                lambda i, v: i < 3, lambda i, v: (i + 1, v.sin()), (torch.tensor(0), kept)
            )

        return exported(loop, X)

    def test_the_loops_ops(self) -> None:
        program = self._loop()
        (inside,) = loops(program)
        names = [program.all_ops[index].name for index in inside]
        assert all(name.startswith("while_loop/") for name in names)
        assert "while_loop/body/output" in names
        assert loops(traced(lambda x: x + 1, X)) == []

    def test_only_what_the_loop_allocates_is_an_earlier_iterations(self) -> None:
        program = self._loop()
        analysis = PointsTo(Allocations(program))
        loop, inner, outer = (program.op(n) for n in ("while_loop", "while_loop/body/sin", "mul"))
        (made,), (kept,) = inner.results, outer.results
        back = Copy(made.index, 0, CopyKind.BACK, loop.index)
        entry = next(iter(analysis.allocations.owner))
        assert analysis.copy(back, made.index) == earlier(made.index)
        assert analysis.copy(back, kept.index) == kept.index
        assert analysis.copy(back, entry) == entry
        assert analysis.copy(back, _set(made.index, kept.index, ANY)) == _set(
            earlier(made.index), kept.index, ANY
        )
        assert analysis.copy(back, earlier(made.index)) == earlier(made.index)

    def test_other_copies(self) -> None:
        program = self._loop()
        analysis = PointsTo(Allocations(program))
        loop = program.op("while_loop").index
        kinds = {kind: analysis.copy(Copy(3, 11, kind, loop), 3) for kind in CopyKind}
        fresh = {kind for kind, fact in kinds.items() if fact == 11}
        assert fresh == {CopyKind.SKIP, CopyKind.STACK}
        assert all(kinds[kind] == 3 for kind in kinds.keys() - fresh)


class TestAllocations:
    """Who allocates a storage, and how large it is."""

    @staticmethod
    def _made() -> tuple[Program, Allocations]:
        class Scaled(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.scale = nn.Parameter(torch.rand(4))

            def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
                return (x * self.scale).view(-1), torch.nonzero(x)

        with torch.no_grad():
            program = passes.load(torch.export.export(Scaled(), (X,)))
        return program, Allocations(program)

    def _numbers(self) -> tuple[Allocations, int, int, int, int]:
        program, made = self._made()
        by_name = {value.name: value.index for value in program.values}
        named = [by_name[name] for name in ("scale", "x", "mul", "nonzero")]
        return made, named[0], named[1], named[2], named[3]

    def test_what_is_allocated_and_what_is_there_at_entry(self) -> None:
        made, scale, x, mul, nonzero = self._numbers()
        assert made.allocated == [mul, nonzero]
        assert made.entry == {scale: scale, x: x}
        assert [made.nbytes(number) for number in (scale, x, mul, nonzero)] == [16, 64, 64, None]
        assert [made.role(n) for n in (scale, x, mul)] == [Role.PARAMETER, Role.INPUT, None]

    def test_a_result_that_may_be_a_copy_may_have_a_storage_of_its_own(self) -> None:
        """Wherever among the answers that stands."""
        view, copy = AliasOf((0,)), Fresh(8)
        assert allocates(OneOf((copy, view))) == allocates(OneOf((view, copy))) == copy
        assert allocates(OneOf((view, AliasOf((1,))))) is None
        assert allocates(SameAs(0)) is None

    @pytest.mark.parametrize("name", ["allocated", "entry", "owner", "sizes", "most", "made"])
    def test_what_follows_from_the_program_is_not_given(self, name: str) -> None:
        given: dict[str, Any] = {name: {}}
        with pytest.raises(TypeError, match=name):
            Allocations(traced(lambda x: x + 1, X), **given)

    def test_the_op_behind_a_storage(self) -> None:
        made, scale, x, mul, _ = self._numbers()
        found = made.op(mul)
        assert found is not None
        assert found.name == "mul"
        assert made.op(earlier(mul)) is found
        assert made.op(scale) is made.op(x) is made.op(ANY) is None

    def test_a_storage_is_made_once(self) -> None:
        made, scale, _, mul, _ = self._numbers()
        assert made.storage(mul) is made.storage(mul)
        assert made.storage(ANY) is UNKNOWN
        assert made.storages([mul, scale]) == {made.storage(mul), made.storage(scale)}
        own, before, given = (made.storage(number) for number in (mul, earlier(mul), scale))
        assert (own.name, own.nbytes, own.op, own.role) == ("mul", 64, made.op(mul), None)
        assert (before.name, before.nbytes, before.op) == ("mul (earlier)", 64, own.op)
        assert (own.earlier, before.earlier, given.earlier) == (False, True, False)
        assert (given.nbytes, given.op, given.role) == (16, None, Role.PARAMETER)
        assert repr(own) == "<Storage mul: 64 bytes>"

    def test_the_largest_size_counts_and_an_unknown_one_is_unknown(self) -> None:
        made, scale, _, mul, nonzero = self._numbers()
        made.resize(mul, 32)
        assert made.nbytes(mul) == 64
        made.resize(mul, 128)
        assert made.nbytes(mul) == made.nbytes(earlier(mul)) == 128
        made.resize(earlier(mul), 256)
        assert made.nbytes(mul) == 256
        made.resize(nonzero, 8)
        assert made.nbytes(nonzero) is None
        made.resize(scale, None)
        assert made.nbytes(scale) is None
        made.resize(ANY, 1 << 20)
        assert made.nbytes(ANY) is None

    def test_earlier_storages_come_after_their_own_where_a_fact_has_them(self) -> None:
        made, scale, x, mul, nonzero = self._numbers()
        given = [scale, x, mul, nonzero]
        assert made.all_numbers([0, _set(1, ANY)]) == given
        assert made.all_numbers([earlier(mul)]) == [scale, x, mul, earlier(mul), nonzero]
        assert made.all_numbers([0, _set(0, earlier(nonzero))]) == [*given, earlier(nonzero)]


def test_a_storage_class_names_its_members() -> None:
    program = traced(lambda x: (x.view(-1), x + 1), X)
    first, second = passes.aliases(program).classes
    assert repr(first) == "<StorageClass x: 64 bytes, view, x>"
    assert (str(second), second.id, second.nbytes) == ("add", "add", 64)


def test_inputs_that_share_are_named_after_the_first() -> None:
    base = torch.rand(8)
    program = traced(lambda a, b, c: a + b + c, base[:4], torch.rand(4), base[4:])
    aliases = passes.aliases(program)
    assert classes(program)["a"] == {"a", "c"}
    assert [c.nbytes for c in aliases.classes][:2] == [32, 16]
    assert [c.id for c in aliases.classes] == ["a", "b", "add", "add_1"]


def test_what_shares_with_all_its_operands_is_what_they_all_may_be() -> None:
    program = traced(lambda x: torch.split(x, 2)[0], X)
    part = program.op("getitem")
    assert part.effects.results == (AliasOf((0, 1)),)
    analysis = PointsTo(passes.aliases(program).allocations)
    assert analysis.transfer(part, [_set(1, 2), 2]) == [2]
    assert analysis.transfer(part, [2, _set(1, 2)]) == [2]


def test_storages_and_classes_of_another_program_are_refused() -> None:
    one, other = traced(lambda x: x + 1, X), traced(lambda x: x * 2, X)
    aliases, (foreign, *_) = passes.aliases(one), passes.aliases(other).classes
    for ask, message in (
        (lambda: aliases.class_of(foreign.storage), "is not a storage of"),
        (lambda: aliases.check_class(foreign), "is not a storage of"),
        (lambda: aliases.why(other.values[0]), f"not a value of {one.name}"),
    ):
        with pytest.raises(KeyError, match=message):
            ask()
    for wrong, message in (
        (foreign.storage, r"take one of aliases.class_of\(storage\)"),
        (3, "take one of aliases.classes"),
    ):
        with pytest.raises(TypeError, match=message):
            aliases.check_class(wrong)
    with pytest.raises(TypeError, match=r"3 is not a Storage, such as"):
        aliases.class_of(3)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match="takes a Program, and was given a int"):
        passes.Aliases.of(3)  # type: ignore[arg-type]  # on purpose
