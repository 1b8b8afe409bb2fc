"""What torch's own estimators say of a peak, next to the run.

    the run        the graph on real tensors, each value freed at its last use
    ours           aliases + liveness + memory, from a loaded Program
    inductor       build_memory_profile over the same graph
    MemTracker     the model in fake mode, as Python runs it: forward, and backward in training

The peak is of what the program allocates, apart from parameters, buffers and inputs.  What is
printed is by how much of the run's peak an estimate is off, and CPU milliseconds, medians.
MemTracker follows Python, which holds local variables longer than the graph does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from unittest import mock

import torch
from torch import Tensor, nn
from torch._inductor.fx_passes import memory_estimator
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.fx import GraphModule
from torch.utils._pytree import tree_map_only

import passes
from bench.bench import fresh
from bench.joint import training
from examples.models import gpt2, resnet50
from tests.oracle.run import observe, placeholders_of

Estimate = Callable[[], int]
Model = tuple[nn.Module, tuple[Tensor, ...]]
REPEATS = 5


def by_inductor(graph: GraphModule) -> int:
    """The largest number of the profile, less the first.  By itself it leaves a CPU out."""
    with mock.patch.object(memory_estimator, "device_filter", return_value=True):
        profile = memory_estimator.build_memory_profile(
            graph.graph, lambda node: node.op != "placeholder"
        )
    return max(profile) - profile[0]


def by_tracker(make: Callable[[], Model], train: bool) -> int:
    """The total of the peak snapshot, less what was there before."""
    tracker = MemTracker()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model, inputs = make()
        inputs = tree_map_only(Tensor, torch.empty_like, inputs)
        there = [*model.parameters(), *model.buffers(), *inputs]
        tracker.track_external(model, *inputs)
        with tracker, torch.set_grad_enabled(train):
            out = model(*inputs)
            found = getattr(out, "logits", out)
            if train:
                found.float().square().mean().backward()
    (snapshot,) = tracker.get_tracker_snapshot("peak").values()
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in there}
    return int(snapshot["Total"]) - sum(int(s.nbytes()) for s in storages.values())


def row(
    name: str,
    graph: GraphModule,
    values: Sequence[object],
    program: passes.Program,
    make: Callable[[], Model],
    train: bool,
) -> None:
    run = observe(graph, values)
    truth = run.peak_bytes
    cells = []
    estimates: list[Estimate] = [
        lambda: passes.memory(fresh(program)).peak_bytes,
        lambda: by_inductor(graph),
        lambda: by_tracker(make, train),
    ]
    for estimate in estimates:
        times = []
        for _ in range(REPEATS):
            start = time.process_time()
            estimate()
            times.append(time.process_time() - start)
        off = estimate() / truth - 1
        cells.append(f"{off:+8.2%} {statistics.median(times) * 1000:8.1f} ms")
    print(f"{truth / 2**20:8.1f} MiB {' '.join(cells)}  {name}", flush=True)


def main() -> None:
    print("     the run     ours                inductor            MemTracker")
    models: list[tuple[str, Callable[[], Model]]] = [("GPT-2", gpt2), ("ResNet-50", resnet50)]
    for name, make in models:
        model, inputs = make()
        exported = torch.export.export(model, inputs, strict=False)
        graph = exported.graph_module
        values = placeholders_of(exported, inputs)
        row(f"{name}, inference", graph, values, passes.load(exported), make, False)
        joint, arguments = training(model, *inputs)
        row(f"{name}, training", joint, arguments, passes.load(joint, *arguments), make, True)


if __name__ == "__main__":
    main()
