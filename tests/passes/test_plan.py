"""Plans of programs: who shares a slot and who must not.  Every tensor is 4x4 floats: 64 bytes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import passes
from passes import PlanError
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
