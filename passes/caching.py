"""How torch's allocator for CUDA lays out blocks: a model of it, with no GPU.

Memory is taken from the device in segments, which stay, and is handed out in blocks:

    sizes      rounded up to 512 bytes
    small      blocks of at most 1 MiB, from segments of 2 MiB
    large      blocks of less than 10 MiB from segments of 20 MiB; larger ones from a segment
               of their own, of a multiple of 2 MiB
    reuse      the smallest free block that is large enough, the lowest of equal ones
    splitting  what is left of a block becomes a free block: of a small one always, of a large
               one if it is more than 1 MiB; else the block is handed out whole
    freeing    free neighbours in a segment become one block

This is the default configuration, without expandable segments, on one stream, and with memory
enough: on a device that is full, unused segments are given back first.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from attrs import define, field

KIB = 1024
MIB = 1024 * KIB
BLOCK = 512
SMALL = MIB
SMALL_SEGMENT = 2 * MIB
LARGE = 10 * MIB
LARGE_SEGMENT = 20 * MIB
SEGMENTS_ROUND_TO = 2 * MIB

_Key = tuple[int, int]


def rounded(nbytes: int) -> int:
    """The size of a block for so many bytes."""
    return -(-nbytes // BLOCK) * BLOCK


def segment_for(size: int) -> int:
    """The size of a new segment for a block."""
    if size <= SMALL:
        return SMALL_SEGMENT
    if size < LARGE:
        return LARGE_SEGMENT
    return -(-size // SEGMENTS_ROUND_TO) * SEGMENTS_ROUND_TO


@define(eq=False)
class Block:
    """A part of a segment of the small or the large pool: `size` bytes from `address`."""

    address: int
    size: int
    is_small: bool
    before: Block | None = None
    after: Block | None = None


@define(eq=False)
class CachingAllocator:
    """The state: bytes of blocks handed out (`allocated`), and of segments (`reserved`)."""

    allocated: int = field(default=0, init=False)
    reserved: int = field(default=0, init=False)
    _pools: tuple[list[_Key], list[_Key]] = field(factory=lambda: ([], []), init=False)
    """Free blocks, large and small ones, by size and address."""
    _free: dict[_Key, Block] = field(factory=dict, init=False)

    def allocate(self, nbytes: int) -> Block:
        """A block for so many bytes.  Raises `ValueError` unless there is at least one."""
        if nbytes < 1:
            raise ValueError(f"a block is for at least one byte, not {nbytes}")
        size = rounded(nbytes)
        block = self._smallest(size) or self._segment(size)
        left = block.size - size
        if left >= BLOCK if block.is_small else left > SMALL:
            rest = Block(block.address + size, left, block.is_small, block, block.after)
            if rest.after:
                rest.after.before = rest
            block.size, block.after = size, rest
            self._put(rest)
        self.allocated += block.size
        return block

    def free(self, block: Block) -> None:
        """Take a block back that was handed out.  Raises `ValueError` for a free one."""
        if self._is_free(block):
            raise ValueError(f"the block at {block.address} is free already")
        self.allocated -= block.size
        if block.after and self._is_free(block.after):
            _absorb(block, self._take(block.after))
        if block.before and self._is_free(block.before):
            left = self._take(block.before)
            _absorb(left, block)
            block = left
        self._put(block)

    def _smallest(self, size: int) -> Block | None:
        """The smallest free block of at least a size, taken out of its pool."""
        pool = self._pools[size <= SMALL]
        place = bisect_left(pool, (size, 0))
        return self._take(self._free[pool[place]]) if place < len(pool) else None

    def _segment(self, size: int) -> Block:
        block = Block(self.reserved, segment_for(size), size <= SMALL)
        self.reserved += block.size
        return block

    def _is_free(self, block: Block) -> bool:
        return self._free.get((block.size, block.address)) is block

    def _put(self, block: Block) -> None:
        key = block.size, block.address
        self._free[key] = block
        insort(self._pools[block.is_small], key)

    def _take(self, block: Block) -> Block:
        key = block.size, block.address
        del self._free[key]
        pool = self._pools[block.is_small]
        del pool[bisect_left(pool, key)]
        return block


def _absorb(left: Block, right: Block) -> None:
    left.size += right.size
    left.after = right.after
    if left.after:
        left.after.before = left
