"""Plans of programs: who shares a slot and who must not.  Every tensor is 4x4 floats: 64 bytes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._higher_order_ops import while_loop
from torch.export import Dim

import passes
from passes import PlanError, ProgramError
from passes.planning.buffers import Buffer
from passes.planning.check import check
from tests.passes.programs import exported, traced

X = torch.rand(4, 4)


def offsets(plan: passes.Plan) -> dict[str, int]:
    return {storage.name: slot.offset for storage, slot in plan.slots.items()}


def test_a_chain_takes_turns() -> None:
    plan = passes.plan(traced(lambda x: ((x * 2) * 3) * 4, X))
    assert plan.nbytes == 128
    assert plan.is_optimal
    found = offsets(plan)
    assert found["mul"] == found["mul_2"] != found["mul_1"]


def test_an_operand_is_not_overwritten_by_its_result() -> None:
    """Torch reads one while it writes the other."""
    plan = passes.plan(traced(lambda x: (x * 2) * 3, X))
    assert len(set(offsets(plan).values())) == 2


def test_views_and_in_place_results_have_no_slot_of_their_own() -> None:
    program = traced(lambda x: (x * 2).view(-1).relu_().add_(1), X)
    assert offsets(passes.plan(program)) == {"mul": 0}


def test_inputs_stay_where_they_are() -> None:
    program = traced(lambda x: x.add_(1), X.clone())
    plan = passes.plan(program)
    assert plan.nbytes == 0
    with pytest.raises(KeyError, match="not in an arena"):
        plan.slot(passes.aliases(program).classes[0])


def test_what_earlier_iterations_made_is_told_apart_from_nothing() -> None:
    def around(x: Tensor) -> Tensor:
        result: Tensor = while_loop(  # type: ignore[no-untyped-call]  # torch's own
            lambda i, v: i < 3, lambda i, v: (i + 1, v * 2), (torch.tensor(0), x.cos())
        )[1]
        return result

    program = exported(around, X)
    plan = passes.plan(program)
    [earlier] = [c for c in passes.aliases(program).classes if c.id.endswith("mul (earlier)")]
    with pytest.raises(KeyError, match="earlier iterations made it"):
        plan.slot(earlier)
    assert {slot.nbytes for slots in plan.carried.values() for slot in slots} == {8, 64}


def test_what_is_returned_is_kept() -> None:
    def early(x: Tensor) -> tuple[Tensor, Tensor]:
        first = x * 2
        return first[0], (x + 1) * 3

    found = offsets(passes.plan(traced(early, X)))
    assert found["mul"] not in (found["add"], found["mul_1"])


def test_offsets_are_multiples_of_the_alignment() -> None:
    program = traced(lambda x: x.sum() + x.sum(0) + x.amax(), X)
    for alignment in (1, 64, 4096):
        plan = passes.plan(program, alignment=alignment)
        assert all(offset % alignment == 0 for offset in offsets(plan).values())
    assert passes.plan(program, alignment=1).nbytes == passes.memory(program).peak_bytes


def test_each_device_has_an_arena() -> None:
    plan = passes.plan(traced(lambda x: (x.to("meta") * 2, x * 3), X))
    assert {device: arena.size for device, arena in plan.arenas.items()} == {"meta": 128, "cpu": 64}


def test_a_slot_has_the_most_that_the_data_can_make_of_a_storage() -> None:
    plan = passes.plan(exported(lambda x: x[x > 0] * 2, X))
    assert [storage.name for storage in plan.bounded] == ["index", "mul"]
    assert {plan.slots[storage].nbytes for storage in plan.bounded} == {64}
    assert passes.plan(traced(lambda x: x * 2, X)).bounded == ()


def test_a_size_that_nothing_bounds_is_refused() -> None:
    program = exported(lambda x: x.repeat_interleave(x[:, 0].long(), 0), X)
    with pytest.raises(PlanError, match=r"the size of .* is decided by the run"):
        passes.plan(program)


def test_a_plan_is_a_plan_for_the_checker() -> None:
    program = traced(lambda x: torch.cat([x.sin(), x.cos()]).exp().sum(0) + x.sum(), X)
    plan = passes.plan(program)
    slots = list(plan.slots.values())
    buffers = [
        Buffer(tuple((a, b + 1) for a, b in slot.spans), max(slot.nbytes, 1)) for slot in slots
    ]
    check(buffers, [slot.offset for slot in slots], plan.nbytes, plan.alignment)


def test_exact_says_so_and_is_no_larger() -> None:
    program = traced(lambda x: ((x * 2) * 3) * 4, X)
    assert passes.plan(program, exact=True, time_limit=5).nbytes == passes.plan(program).nbytes


def test_rows_and_a_short_text() -> None:
    plan = passes.plan(traced(lambda x: x * 2, X))
    assert plan.to_rows() == [
        {"storage": "mul", "device": "cpu", "offset": 0, "nbytes": 64, "live": [[1, 2]]}
    ]
    assert repr(plan).endswith("64 bytes on cpu (at least 64)>")


class TestAtMost:
    """Plans for all sizes up to given ones."""

    def plan(self, function: Any, **largest: int) -> passes.Plan:
        class Model(torch.nn.Module):
            def forward(self, x: Tensor) -> Any:
                return function(x)

        shapes = {"x": {0: Dim("batch", min=1, max=60)}}
        exported = torch.export.export(Model(), (torch.rand(4, 8),), dynamic_shapes=shapes)
        return passes.plan(passes.load(exported), alignment=1, at_most=largest)

    def test_is_as_large_as_the_largest(self) -> None:
        plan = self.plan(lambda x: x.exp().sum(), batch=50)
        assert plan.nbytes == 50 * 8 * 4 + 4
        assert repr(plan).startswith("<Plan of Model for at most batch=50: 1604 bytes")

    def test_a_size_that_shrinks_has_its_most(self) -> None:
        assert self.plan(lambda x: x.new_zeros(63 - x.shape[0]), batch=50).nbytes == 61 * 4

    def test_what_makes_no_difference_is_in_nobodys_way(self) -> None:
        # Fake convolutions ask whether there are 16 images.
        weight = torch.rand(2, 1, 3)
        plan = self.plan(lambda x: torch.conv1d(x.unsqueeze(1), weight), batch=50)
        assert plan.nbytes == 50 * 2 * 6 * 4

    def test_sharing_that_changes_is_refused(self) -> None:
        class Slice(torch.nn.Module):
            def forward(self, x: Tensor, y: Tensor) -> Tensor:
                return x[:, : y.shape[0]].contiguous() + 1  # of all columns, no copy

        exported = torch.export.export(
            Slice(),
            (torch.rand(4, 6), torch.rand(5)),
            dynamic_shapes=({1: Dim.AUTO}, {0: Dim.AUTO}),
        )
        program = passes.load(exported)
        message = r"do for x.shape\[1\] from 2 to 9, .* where .* only. Load the program at each"
        with pytest.raises(PlanError, match=message):
            passes.plan(program, at_most={"x.shape[1]": 9, "y.shape[0]": 5})

    def test_one_stands_for_itself(self) -> None:
        def flat(x: Tensor) -> Tensor:
            return x.t().reshape(-1) * 2

        assert [slot.nbytes for slot in self.plan(flat, batch=1).slots.values()] == [32]
        assert [slot.nbytes for slot in self.plan(flat, batch=2).slots.values()] == [64, 64]

    def test_every_size_has_to_be_given(self) -> None:
        with pytest.raises(ProgramError, match="outside of its range"):
            self.plan(lambda x: x.exp(), batch=61)
        with pytest.raises(ProgramError, match="no dynamic dimension is called 'rows'"):
            self.plan(lambda x: x.exp(), rows=4)
        fixed = passes.load(torch.nn.ReLU(), torch.rand(4))
        with pytest.raises(ProgramError, match="has no dynamic dimensions"):
            passes.plan(fixed, at_most={"batch": 4})
