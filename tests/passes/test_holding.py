"""Why a storage is alive: the uses that are named are real, and all there are."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from torch import Tensor

import passes
from passes import Program, StorageClass, WhyAlive
from passes.advice.draft import Draft, substituted
from passes.program import Op, OpKind
from tests.oracle.models import MODELS
from tests.passes.programs import exported, traced

X = torch.rand(4, 4)


def why(program: Program, storage: str, op: str) -> WhyAlive:
    found = next(c for c in passes.aliases(program).classes if c.id == storage)
    return passes.liveness(program).why(found, program.op(op))


def uses(found: WhyAlive) -> list[tuple[str | None, list[str]]]:
    return [(use.op.name if use.op else None, [v.name for v in use.through]) for use in found.uses]


def _late(x: Tensor) -> tuple[Tensor, Tensor]:
    a = x + 1
    view = a.view(-1)
    b = x * 2
    c = view.sum()
    return b, c


def test_a_view_holds_its_storage() -> None:
    found = why(traced(_late, X), "add", "mul")
    assert found.made_by is not None
    assert found.made_by.name == "add"
    assert uses(found) == [("sum_1", ["add", "view"])]
    assert found.until.value.name == "view"
    assert str(found).splitlines() == [
        "add is allocated by add, and at mul still needed by",
        "  sum_1: add -> view",
    ]


def test_the_op_itself_is_a_use() -> None:
    found = [("view", ["add"]), ("sum_1", ["add", "view"])]
    assert uses(why(traced(_late, X), "add", "view")) == found
    assert uses(why(traced(_late, X), "add", "add")) == found  # of a later view, too


def test_what_nobody_uses() -> None:
    program = traced(lambda x: (x + 1, x * 2)[1], X)
    assert uses(why(program, "add", "add")) == [("add", ["add"])]


def test_what_is_returned() -> None:
    found = why(traced(_late, X), "mul", "sum_1")
    assert uses(found) == [("output", ["mul"])]
    assert "the caller, as a result: mul" in str(found)


def test_what_the_caller_sees_written() -> None:
    found = why(traced(lambda x: x.add_(1).sum(), X.clone()), "x", "output")
    assert (None, ["x"]) in uses(found)
    assert "is there at entry" in str(found)


def test_what_is_kept_for_a_backward() -> None:
    program = traced(lambda x: (x + 1).exp().sum(), X)
    (add,) = (c for c in passes.aliases(program).classes if c.id == "add")
    found = passes.liveness(program, "all").why(add, program.op("sum_1"))
    assert uses(found) == [(None, ["add"])]


def test_an_op_in_place_leads_there() -> None:
    program = traced(lambda x: (y := x + 1, y.mul_(2).t().exp().sum())[1], X)
    assert uses(why(program, "add", "t"))[-1] == ("exp", ["add", "mul_", "t"])


def test_what_is_not_alive() -> None:
    with pytest.raises(ValueError, match=r"add is not alive at output .*: it is at ops 1 to 4"):
        why(traced(_late, X), "add", "output")


def test_an_op_of_another_program() -> None:
    program, other = traced(_late, X), traced(_late, X)
    with pytest.raises(KeyError):
        passes.liveness(program).why(passes.aliases(program).classes[0], other.op("mul"))


def _without(program: Program, found: WhyAlive) -> Program:
    """The program with another operand in the place of what the uses use, nobody returning it."""
    entry = program.entry.values[0].value
    gone = {use.value: entry for use in found.uses}
    users = {use.op for use in found.uses}

    def changed(op: Op) -> Op:
        if op not in users:
            return op
        if op.kind is OpKind.OUTPUT:
            kept = tuple(value for value in op.operands if value not in gone)
            reads = frozenset(range(len(kept)))
            return evolve(op, operands=kept, effects=evolve(op.effects, reads=reads))
        return substituted(op, gone)

    return Draft(program, tuple(map(changed, program.ops)), instead=gone).program


@pytest.mark.parametrize("name", ["tied_exported", "unet_traced", "kv_cache_exported"])
def test_without_these_uses_it_is_dead(name: str) -> None:
    case = MODELS[name]()
    program = passes.load(case.source, *case.args, **case.kwargs)
    liveness, memory = passes.liveness(program), passes.memory(program)
    asked = 0
    for op in program.ops[:: max(1, len(program.ops) // 12)]:
        for found in memory.alive_at(op)[:3]:
            told = liveness.why(found, op)
            if told.made_by is op or any(use.op and use.op.regions for use in told.uses):
                continue  # what an op allocates is alive there, used or not
            changed = _without(program, told)
            assert found.id in _alive(program, op), "it is alive"
            assert found.id not in _alive(changed, changed.op(op.name)), str(told)
            asked += 1
    assert asked > 10


def _alive(program: Program, op: Op) -> set[str]:
    return {c.id for c in passes.liveness(program).classes(op)}


def test_inside_a_branch() -> None:
    def branches(x: Tensor) -> Tensor:
        y = x + 1
        found: Tensor = torch.cond(x.sum() > 0, lambda a: (a * 2).exp(), lambda a: a - 1, (y,))
        return found

    program = exported(branches, X)
    liveness = passes.liveness(program)
    for op in program.all_ops:
        for found in liveness.classes(op):
            assert isinstance(found, StorageClass)
            assert liveness.why(found, op).uses
