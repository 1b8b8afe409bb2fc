"""The model of CUDA's caching allocator: tables by hand, random traces, programs.

No GPU is needed, and none has confirmed it.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn, optim

import passes
from passes import BudgetError
from passes.caching import Block, CachingAllocator, rounded, segment_for
from tests.passes.programs import exported

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("nbytes", "block"),
    [(1, 512), (511, 512), (512, 512), (513, 1024), (MIB, MIB), (MIB + 1, MIB + 512)],
)
def test_blocks_are_multiples_of_512(nbytes: int, block: int) -> None:
    assert rounded(nbytes) == block


@pytest.mark.parametrize(
    ("block", "segment"),
    [
        (512, 2 * MIB), (MIB, 2 * MIB), (MIB + 512, 20 * MIB), (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB), (11 * MIB, 12 * MIB), (30 * MIB + 512, 32 * MIB),
    ],
)  # fmt: skip
def test_segments_are_of_few_sizes(block: int, segment: int) -> None:
    assert segment_for(block) == segment


def _after(*sizes: int) -> tuple[int, int]:
    """What is allocated and reserved after these allocations; a negative size frees the
    first block of that size."""
    allocator = CachingAllocator()
    held: list[tuple[int, Block]] = []
    for size in sizes:
        if size > 0:
            held.append((size, allocator.allocate(size)))
        else:
            found = next(one for one in held if one[0] == -size)
            held.remove(found)
            allocator.free(found[1])
    return allocator.allocated, allocator.reserved


@pytest.mark.parametrize(
    ("sizes", "allocated", "reserved"),
    [
        ((), 0, 0),
        ((100,), 512, 2 * MIB),
        ((MIB, MIB), 2 * MIB, 2 * MIB),
        ((MIB, MIB, 1), 2 * MIB + 512, 4 * MIB),
        ((MIB, MIB - 512), 2 * MIB - 512, 2 * MIB),  # what is left of a small block is free
        ((MIB + 1,), MIB + 512, 20 * MIB),
        ((MIB, MIB + 1), 2 * MIB + 512, 22 * MIB),  # two pools
        # What is left of a large block is kept if it is more than 1 MiB ...
        ((9 * MIB, 9 * MIB), 18 * MIB, 20 * MIB),
        ((9 * MIB, 9 * MIB, 2 * MIB), 20 * MIB, 20 * MIB),
        ((9 * MIB, 9 * MIB, 3 * MIB), 21 * MIB, 40 * MIB),
        # ... and else handed out with it.
        ((11 * MIB,), 12 * MIB, 12 * MIB),
        ((9 * MIB, 9 * MIB, MIB + 512), 20 * MIB, 20 * MIB),
        # What is free is used again, and joined with what is free beside it.
        ((30 * MIB, -30 * MIB, 20 * MIB), 20 * MIB, 30 * MIB),
        ((30 * MIB, -30 * MIB, 20 * MIB, 10 * MIB), 30 * MIB, 30 * MIB),
        ((MIB, MIB, -MIB, -MIB, 512, 512), 1024, 2 * MIB),
        ((9 * MIB, 8 * MIB, -9 * MIB, -8 * MIB, 18 * MIB), 20 * MIB - 2 * MIB, 20 * MIB),
        # The smallest that does: 12 MiB go into 14, not into 30.
        ((30 * MIB, 14 * MIB, -30 * MIB, -14 * MIB, 12 * MIB, 30 * MIB), 42 * MIB, 44 * MIB),
        # Small ones do not go into what large ones left.
        ((30 * MIB, -30 * MIB, 512), 512, 32 * MIB),
    ],
)
def test_traces_worked_out_by_hand(sizes: tuple[int, ...], allocated: int, reserved: int) -> None:
    assert _after(*sizes) == (allocated, reserved)


def test_a_block_is_freed_once() -> None:
    allocator = CachingAllocator()
    block = allocator.allocate(5)
    allocator.free(block)
    with pytest.raises(ValueError, match="free already"):
        allocator.free(block)
    with pytest.raises(ValueError, match="at least one byte"):
        allocator.allocate(0)


_SIZES = st.one_of(
    st.integers(1, 4096), st.integers(1, 3 * MIB), st.integers(1, 40 * MIB), st.just(MIB)
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.booleans(), _SIZES, st.integers(0, 1000)), max_size=60))
def test_laws_of_any_trace(steps: list[tuple[bool, int, int]]) -> None:
    allocator = CachingAllocator()
    held: list[tuple[int, Block]] = []
    before = 0
    for frees, size, which in steps:
        if frees and held:
            allocator.free(held.pop(which % len(held))[1])
        else:
            held.append((size, allocator.allocate(size)))
        assert allocator.allocated == sum(block.size for _, block in held)
        assert allocator.allocated <= allocator.reserved
        assert allocator.reserved >= before
        assert allocator.reserved % (2 * MIB) == 0
        before = allocator.reserved
        for asked, block in held:
            assert rounded(asked) <= block.size <= rounded(asked) + MIB
        ordered = sorted(held, key=lambda one: one[1].address)
        for (_, one), (_, other) in pairwise(ordered):
            assert one.address + one.size <= other.address
        if ordered:
            assert ordered[-1][1].address + ordered[-1][1].size <= allocator.reserved
    for _, block in held:
        allocator.free(block)
    assert allocator.allocated == 0
    whole = list(allocator._free.values())  # each segment is one block again
    assert all(block.before is None and block.after is None for block in whole)
    assert sum(block.size for block in whole) == allocator.reserved


# ------------------------------------------------------------------------------ programs


def test_a_program_in_blocks() -> None:
    def chain(x: Tensor) -> Tensor:
        y = x + 1
        y = y * 2
        return y.sum()

    program = exported(chain, torch.rand(300))  # 1200 bytes: 1536 in blocks
    cuda = passes.cuda_memory(program)
    assert cuda.rounded == (1536, 3072, 4608, 3584, 2048)
    assert cuda.allocated == cuda.rounded  # all small
    assert cuda.max_reserved == 2 * MIB


def test_a_block_may_be_larger_than_its_tensor() -> None:
    program = exported(lambda x: x.sum(), torch.rand(11 * MIB // 4))
    cuda = passes.cuda_memory(program)
    assert cuda.rounded[0] == 11 * MIB
    assert cuda.max_allocated == 12 * MIB + 512
    assert cuda.max_reserved == 14 * MIB


def test_of_a_training_step_every_figure_bounds_the_one_before() -> None:
    model = nn.Sequential(nn.Linear(300, 700), nn.ReLU(), nn.Linear(700, 10))
    program = passes.load_training_step(
        model, F.cross_entropy, optim.AdamW, torch.rand(64, 300), torch.randint(0, 10, (64,))
    )
    cuda, total = passes.cuda_memory(program), passes.memory(program).breakdown.total
    assert len(cuda.rounded) == len(program.all_ops)
    levels = zip(total, cuda.rounded, cuda.allocated, cuda.reserved, strict=True)
    assert all(a <= b <= c <= d for a, b, c, d in levels)
    assert cuda.max_allocated < 1.2 * max(total)
    assert passes.cuda_memory(program) is cuda


def test_what_data_decides_counts_as_the_most_it_can_be() -> None:
    program = exported(lambda x: x.nonzero() + 1, torch.rand(300))  # at most 300 rows of 8 bytes
    cuda = passes.cuda_memory(program)
    assert [storage.name for storage in cuda.bounded] == ["nonzero", "add"]
    assert cuda.max_allocated == 1536 + 2 * 2560
    assert "2 storages count as the most they can be: nonzero, add" in str(cuda)


def test_a_person_is_told_that_no_gpu_was_asked() -> None:
    cuda = passes.cuda_memory(exported(lambda x: x + 1, torch.rand(300)))
    assert "not checked on a GPU" in repr(cuda)
    assert "not checked on a GPU:\n     3.0 KiB  allocated at most" in str(cuda)


def test_of_unknown_sizes_there_is_no_answer() -> None:
    program = exported(lambda x: x.repeat_interleave(x.to(torch.int64)), torch.rand(3))
    with pytest.raises(BudgetError, match="repeat_interleave"):
        passes.cuda_memory(program)
