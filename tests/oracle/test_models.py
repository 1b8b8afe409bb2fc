"""What the passes claim of real architectures against the same graphs run on real tensors.

For every program of the zoo: no missed alias and no false one, no missed write and no false
one, and the bytes alive at every op equal to the byte.  Where control flow decides, a claim
is a set of possibilities, and the truth has to be among them.
"""

from __future__ import annotations

import pytest

import passes
from dataflow import check_graph, solve, verify
from passes import UNKNOWN, Aliases, Program, StorageClass
from passes.alias import PointsTo
from passes.program import OpKind, Origin
from passes.storages import Allocations
from tests.oracle.models import MODELS, Case
from tests.oracle.run import Run, observe

DECIDED_BY_DATA = {"cond_taken_exported", "cond_not_taken_exported", "while_loop_exported"}


def _is_exact(storages: frozenset[StorageClass]) -> bool:
    return len(storages) == 1 and not any(
        c.storage.earlier or c.storage is UNKNOWN for c in storages
    )


def _pair_up(program: Program, aliases: Aliases, run: Run) -> dict[int, StorageClass]:
    """Real storage -> claimed class, demanding that the two partitions are one."""
    claimed: dict[int, StorageClass] = {}
    real: dict[StorageClass, int] = {}
    for op in program.ops:
        if op.kind is OpKind.OUTPUT:
            continue
        truth, claim = run.storages[op.name], aliases.storages(op)
        assert len(claim) == len(truth), f"tensor leaves of {op.name}"
        for storages, number in zip(claim, truth, strict=True):
            if _is_exact(storages):
                (found,) = storages
                assert claimed.setdefault(number, found) is found, f"missed alias at {op.name}"
                assert real.setdefault(found, number) == number, f"false alias at {op.name}"
    return claimed


def _check_possible(program: Program, aliases: Aliases, run: Run) -> set[str]:
    """Every two leaves that share a storage may alias; the ops with inexact answers."""
    by_storage: dict[int, list[frozenset[StorageClass]]] = {}
    inexact = set()
    for op in program.ops:
        if op.kind is OpKind.OUTPUT:
            continue
        for storages, number in zip(aliases.storages(op), run.storages[op.name], strict=True):
            by_storage.setdefault(number, []).append(storages)
            if not _is_exact(storages):
                inexact.add(op.name)
    for group in by_storage.values():
        for one in group:
            for other in group:
                anything = any(c.storage is UNKNOWN for c in one | other)
                assert anything or one & other, "missed possible alias"
    return inexact


def _check_writes(
    program: Program, aliases: Aliases, run: Run, claimed: dict[int, StorageClass]
) -> None:
    for op in program.ops:
        written = {claimed[n] for n in run.written[op.name] if n in claimed}
        changed = {claimed[n] for n in run.changed[op.name] if n in claimed}
        seen = set(claimed.values())
        claim = aliases.written_by(op)
        assert changed <= claim, f"missed write at {op.name}"
        if op.effects.origin is not Origin.ANYTHING:
            assert claim & seen <= written, f"false write at {op.name}"
        # State of a called module is no node's result: it pairs up by size.
        hidden = sorted(run.nbytes[n] for n in run.written[op.name] if n not in claimed)
        assert sorted(c.nbytes or 0 for c in claim - seen) == hidden, f"writes at {op.name}"


@pytest.mark.parametrize("name", MODELS)
def test_claims_hold_on_real_tensors(name: str) -> None:
    case: Case = MODELS[name]()
    run = observe(case.graph_module, case.placeholder_values)
    program = passes.load(case.source, *case.args, **case.kwargs)
    aliases, memory = passes.aliases(program), passes.memory(program)

    check_graph(program)
    assert not program.assumed
    claimed = _pair_up(program, aliases, run)
    inexact = _check_possible(program, aliases, run)
    if name not in DECIDED_BY_DATA:
        assert not inexact
    _check_writes(program, aliases, run, claimed)
    top_level = {op.name: memory.at(op) for op in program.ops}
    assert top_level == dict(run.alive)
    # What is alive inside sub-graphs, the oracle does not see.
    assert memory.peak_bytes >= run.peak_bytes
    if not any(op.regions for op in program.ops):
        assert memory.peak_bytes == run.peak_bytes
        assert memory.peak_at is not None
        assert memory.peak_at.name == run.peak_at


def test_the_zoo_has_the_architectures_that_matter() -> None:
    assert len(MODELS) >= 15


@pytest.mark.parametrize("name", ["tied_exported", "while_loop_exported", "chunks_traced"])
def test_solutions_satisfy_their_equations(name: str) -> None:
    case = MODELS[name]()
    program = passes.load(case.source, *case.args, **case.kwargs)
    verify(solve(PointsTo(Allocations(program)), program))


def test_loading_changes_nothing_of_the_users_model() -> None:
    """Neither tensors, nor their versions, nor what they are."""
    case = MODELS["cnn_train_traced"]()
    module = case.graph_module
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    before = {name: (tensor, tensor._version, tensor.clone()) for name, tensor in tensors.items()}
    passes.memory(passes.load(case.source, *case.args, **case.kwargs))
    after = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    assert after.keys() == before.keys()
    for name, (tensor, version, value) in before.items():
        assert after[name] is tensor
        assert tensor._version == version
        assert tensor.equal(value)
