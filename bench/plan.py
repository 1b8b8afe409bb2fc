"""What plans cost and how large they are, next to a greedy planner.

    python -m bench.plan [FOLDER]

`FOLDER` may have instances as CSV files with the columns `lower`, `upper` (exclusive) and
`size`, whose capacity is the number in the name, as in `A.1048576.csv`.

The greedy planner is ExecuTorch's, where its wheel is installed.  It is not in the extra
`bench`, since it brings `torchao`, which transformers loads wherever it is: give it an
environment of its own.  Else it is the same algorithm written here: largest first, each buffer
into an object that is free for its lifetime, or on top of what is in the way there, or into a
new object; the objects side by side.  The pools are those of torch's inductor.
"""

from __future__ import annotations

import csv
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sympy
import torch
from attrs import define, field
from torch._inductor.codegen import memory_planning

import passes
from bench.graphs import graphs
from passes import Buffer
from passes.planning.buffers import Sections

Given = tuple[int, int, int]
REPEATS = 3

POOLED = 1000
"""For more buffers the pools take up to minutes, and are not asked."""


@define
class _Object:
    size: int
    inside: list[tuple[Given, int]] = field(factory=list)


def shared_objects(given: list[Given]) -> int:
    """Bytes that the greedy planner needs."""
    objects: list[_Object] = []
    for buffer in sorted(given, key=lambda b: -b[2]):
        start, end, size = buffer
        for found in objects:
            met = [o + b[2] for b, o in found.inside if b[0] < end and start < b[1]]
            offset = max(met, default=0)
            if offset + size <= found.size:
                found.inside.append((buffer, offset))
                break
        else:
            objects.append(_Object(size, [(buffer, 0)]))
    return sum(found.size for found in objects)


class _Stub:
    """What a pool asks of a buffer."""

    size = ()

    def get_layout(self) -> _Stub:
        return self

    def get_device(self) -> torch.device:
        return torch.device("cpu")


def greedy_planner() -> tuple[str, Callable[[list[Given]], int]]:
    """The greedy planner, and what it is."""
    try:
        from bench.peers.executorch import greedy
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("bench"):
            raise
        return "as ExecuTorch's, which is not here: pip install executorch", shared_objects
    return "ExecuTorch's own", greedy


def inductor_pools(given: list[Given]) -> int:
    """Bytes that inductor's pools need, asked in its order: largest first."""
    sys.setrecursionlimit(1_000_000)  # they nest as deep as there are buffers
    pools = memory_planning.AllocationPools()
    for start, end, size in sorted(given, key=lambda b: (-b[2], b[0] - b[1])):
        lifetime = memory_planning.LiveRange(start, end)
        # Any: the stub has what is asked of a buffer of the code generator, and no more.
        node: Any = _Stub()
        pools.allocate(memory_planning.Allocation(node, lifetime, size, sympy.Integer(size)))
    found = pools.device_to_pools.values()
    return sum(pool.root.get_size_hint() for group in found for pool in group)


def row(name: str, program: passes.Program, greedy: Callable[[list[Given]], int]) -> None:
    plan = passes.plan(program)
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        passes.plan(program)
        times.append(time.process_time() - start)
    given = [
        (slot.spans[0][0], slot.spans[-1][1] + 1, -(-slot.nbytes // 64) * 64)
        for slot in set(plan.slots.values())
    ]
    bound = sum(arena.lower_bound for arena in plan.arenas.values())
    cells = [f"{plan.nbytes / bound:8.4f} {statistics.median(times) * 1000:8.1f} ms"]
    for planner, most in ((greedy, math.inf), (inductor_pools, POOLED)):
        if len(given) > most:
            cells.append("       -           -")
            continue
        start = time.process_time()
        found = planner(given)
        cells.append(f"{found / bound:8.4f} {(time.process_time() - start) * 1000:8.1f} ms")
    print(f"{len(given):7} {' '.join(cells)}  {name}", flush=True)


def instances(folder: Path, greedy: Callable[[list[Given]], int]) -> None:
    print("\n  bytes  seconds  greedy / bound  instance")
    whole = 0.0
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8") as file:
            given = [
                (int(line["lower"]), int(line["upper"]), int(line["size"]))
                for line in csv.DictReader(file)
            ]
        capacity = int(path.name.split(".")[-2])
        bound = Sections.of([Buffer(((a, b),), size) for a, b, size in given]).lower_bound
        start = time.perf_counter()
        offsets = passes.plan_buffers(given, capacity=capacity)
        seconds = time.perf_counter() - start
        whole += seconds
        top = max(o + b[2] for o, b in zip(offsets, given, strict=True))
        print(f"{top:8} {seconds:7.2f} {greedy(given) / bound:15.3f}  {path.name}", flush=True)
    print(f"{whole:16.2f}  all")


def main(arguments: list[str]) -> None:
    what, greedy = greedy_planner()
    print(f"greedy: {what}")
    print(
        "buffers  /bound     time      greedy     time       pools     time   program", flush=True
    )
    for name, program in graphs():
        row(name, program, greedy)
    for folder in arguments:
        instances(Path(folder), greedy)


if __name__ == "__main__":
    main(sys.argv[1:])
