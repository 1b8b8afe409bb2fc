"""How much memory would a program take from torch's allocator for CUDA?

The program's storages are put through a model of that allocator (`caching.py`): what exists
at entry first, in its order; then op by op what the op allocates, in the order of its
results, and after the op what it uses last is freed.

The program is taken as it is, though it may have been captured on the CPU: on a GPU some
operators have other kernels, with other results.  Of one with tensors on several devices, one
device is counted, since each has an allocator of its own.  Not counted are temporaries inside one
op, the workspace of cuBLAS, and the CUDA context, some hundred MiB.  A storage that only may be
alive, after a branch or in a loop, counts as if it were; one whose size the data decides, as if
it were as large as it can be.

The model is made from what is known of the allocator.  It has not been compared with a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define

from passes.caching import Block, CachingAllocator, rounded
from passes.errors import BudgetError, ProgramError
from passes.liveness import Liveness, Span
from passes.memory import Memory
from passes.printing import listed, size
from passes.program import Program, check_program
from passes.storages import ANY, Storage


@define(eq=False, frozen=True, slots=False, repr=False)
class CudaMemory:
    """The answer, in bytes at each op, of everything there is.  `passes.cuda_memory(program)`.

    `rounded` has each storage in multiples of 512.  `allocated` has blocks as they are handed
    out, some of which are larger than was asked for: its maximum is for
    `torch.cuda.max_memory_allocated`.  `reserved` has the segments taken from the device, for
    `torch.cuda.max_memory_reserved`.  Not checked on a GPU.
    """

    program: Program
    device: str
    rounded: tuple[int, ...]
    allocated: tuple[int, ...]
    reserved: tuple[int, ...]

    @classmethod
    def of(cls, program: Program, device: str | None = None) -> CudaMemory:
        """Run the model once for a device, by default the only one or the only one besides the
        CPU.  Raises `ProgramError` where that is none or several, `BudgetError` for a storage
        that nothing bounds."""
        check_program(program)
        device = _device(program, device)
        return program.once((cls, device), lambda: cls._simulate(program, device))

    @classmethod
    def _simulate(cls, program: Program, device: str) -> CudaMemory:
        liveness = Liveness.of(program)
        made = liveness.aliases.allocations
        last = len(program.all_ops) - 1
        spans: dict[int, Sequence[Span]] = {n: [(0, last)] for n in made.owner}
        spans |= {n: found for n, found in liveness.spans.items() if n not in made.owner}
        begins: dict[int, list[int]] = {}
        ends: dict[int, list[int]] = {}
        sizes: dict[int, int] = {}
        for number, intervals in spans.items():
            if number != ANY and made.storage(number).device not in (device, None):
                continue
            nbytes = made.most(number) if number != ANY else None
            if nbytes is None:
                raise BudgetError(
                    f"the size of {made.storage(number)} is not known before the run, nor what it "
                    "cannot exceed, so neither is what an allocator makes of it: give it a fixed "
                    "size in the model"
                )
            sizes[number] = nbytes
            for start, stop in intervals if nbytes else ():
                begins.setdefault(start, []).append(number)
                ends.setdefault(stop, []).append(number)
        allocator = CachingAllocator()
        held: dict[int, Block] = {}
        total = 0
        levels: list[tuple[int, int, int]] = []
        for index in range(last + 1):
            for number in begins.get(index, ()):
                held[number] = allocator.allocate(sizes[number])
                total += rounded(sizes[number])
            levels.append((total, allocator.allocated, allocator.reserved))
            for number in ends.get(index, ()):
                allocator.free(held.pop(number))
                total -= rounded(sizes[number])
        columns = tuple(zip(*levels, strict=True)) or ((), (), ())
        return cls(program, device, *columns)

    @property
    def bounded(self) -> tuple[Storage, ...]:
        """Storages whose size the data decides; they count as the most they can be."""
        return Memory.of(self.program).bounded

    @property
    def max_allocated(self) -> int:
        """The most that is handed out at once."""
        return max(self.allocated, default=0)

    @property
    def max_reserved(self) -> int:
        """What is taken from the device in the end, for nothing is given back."""
        return max(self.reserved, default=0)

    def __repr__(self) -> str:
        return (
            f"<CudaMemory of {self.program.name}: {self.max_allocated} bytes allocated, "
            f"{self.max_reserved} reserved, not checked on a GPU>"
        )

    def __str__(self) -> str:
        lines = [
            f"{self.program.name} on {self.device} by a model of torch's allocator for CUDA, not "
            "checked on a GPU:",
            f"  {size(self.max_allocated):>10}  allocated at most",
            f"  {size(self.max_reserved):>10}  reserved",
        ]
        if self.bounded:
            names = listed([storage.name for storage in self.bounded])
            lines.append(f"  {len(self.bounded)} storages count as the most they can be: {names}")
        return "\n".join(lines)


def _device(program: Program, wanted: str | None) -> str:
    """The device to count: the one that is wanted, else the one that must be meant."""
    known = sorted({value.type.device for value in program.values if value.type}) or ["cpu"]
    found = [wanted] if wanted else [one for one in known if one != "cpu"] or known
    if len(found) > 1 or found[0] not in known:
        raise ProgramError(
            f"{program.name} has tensors on {', '.join(known)}: say which of these to count, as in "
            f"passes.cuda_memory(program, device={known[-1]!r})"
        )
    return found[0]
