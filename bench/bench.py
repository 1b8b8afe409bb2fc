"""`make bench`: what the passes cost, as ratios to torch's own tools in the same run.

Each pair is measured side by side, alternating, and the medians are compared, because
machines are noisy; the numbers that matter are the ratios.
"""

from __future__ import annotations

import copy
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import torch
from attrs import frozen
from torch import fx
from torch._inductor.fx_passes.memory_estimator import build_memory_profile
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

import passes
from passes import Effects, Program
from passes.census import Census
from passes.frontends.walk.declaring import DeclaredWalk


@frozen
class Pair:
    """Two ways to the same end, timed against each other, and the goal for the ratio."""

    what: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    goal: float
    repeats: int


def medians(functions: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Median seconds of each, taking turns, the collector run before each."""
    times: list[list[float]] = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(repeats):
        for function, found in zip(functions, times, strict=True):
            gc.collect()
            start = time.perf_counter()
            function()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


def fresh(program: Program) -> Program:
    """The same program as it was loaded, with no analysis of it done yet."""
    same = copy.copy(program)
    object.__setattr__(same, "_results", {Census: Census.of(program)})
    return same


def everything(program: Program) -> object:
    """Aliases, liveness and memory from a loaded program."""
    known = fresh(program)
    return passes.aliases(known), passes.liveness(known), passes.memory(known).peak_bytes


def liveness_alone(program: Program) -> Callable[[], object]:
    """Liveness with the aliases it asks for known already."""

    def run() -> object:
        known = fresh(program)
        known.once(passes.Aliases, lambda: aliases)
        return passes.liveness(known)

    aliases = passes.aliases(program)
    return run


def chain(length: int) -> fx.GraphModule:
    """A straight line of add, view, relu, mul on one small tensor."""
    graph = fx.Graph()
    node = graph.placeholder("x")
    aten = torch.ops.aten
    for number in range(length):
        step = number % 4
        if step == 0:
            node = graph.call_function(aten.add.Tensor, (node, 1))
        elif step == 1:
            node = graph.call_function(aten.view.default, (node, [4, 4]))
        elif step == 2:
            node = graph.call_function(aten.relu.default, (node,))
        else:
            node = graph.call_function(aten.mul.Tensor, (node, 2))
    graph.output((node,))
    return fx.GraphModule(torch.nn.Module(), graph)


def with_values(module: fx.GraphModule) -> fx.GraphModule:
    """Leave in `meta["val"]` what inductor's estimator reads."""
    mode = FakeTensorMode()
    with mode:
        FakeTensorProp(module, mode).propagate_dont_convert_inputs(torch.empty(4, 4))
    return module


def gpt2() -> ExportedProgram:
    """GPT-2's 12 layers, narrow: as many nodes as the full model has."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_embd=48, vocab_size=128)).eval()
    ids = torch.randint(128, (1, 16))
    return torch.export.export(model, (), {"input_ids": ids, "use_cache": False}, strict=False)


def capture(exported: ExportedProgram) -> tuple[Callable[[], object], Callable[[], object]]:
    """Effects by fake execution, and plain propagation of fakes, over the same graph."""
    state = {**exported.state_dict, **exported.constants}
    given = iter(torch.utils._pytree.tree_leaves(exported.example_inputs))
    inputs = [
        state[spec.target] if spec.target in state else next(given)
        for spec in exported.graph_signature.input_specs
    ]

    def propagate() -> object:
        return FakeTensorProp(exported.graph_module).propagate(*inputs)

    return (lambda: passes.load(exported)), propagate


def declaring(exported: ExportedProgram) -> Callable[[], object]:
    """Effects by schema, of every node of a graph that is walked already."""
    asked: list[tuple[DeclaredWalk, tuple[Any, ...]]] = []
    effects = DeclaredWalk.effects

    def listening(walk: DeclaredWalk, *question: Any) -> Effects:
        asked.append((walk, question))
        return effects(walk, *question)

    with mock.patch.object(DeclaredWalk, "effects", listening):
        passes.load(exported, effects="declared")
    return lambda: [effects(walk, *question) for walk, question in asked]


def main() -> None:
    print("GPT-2 exported, and chains of add, view, relu, mul.  Loading...", flush=True)
    exported = gpt2()
    gpt2_program = passes.load(exported)
    module = exported.graph_module
    load, propagate = capture(exported)
    chains = {length: with_values(chain(length)) for length in (10_000, 100_000)}
    programs = {length: passes.load(module) for length, module in chains.items()}

    def profile(graph: fx.Graph) -> Callable[[], object]:
        return lambda: build_memory_profile(graph, lambda node: node.op != "placeholder")

    nodes = len(module.graph.nodes)
    pairs = [
        Pair(
            f"aliases + liveness + memory / build_memory_profile, GPT-2 ({nodes} nodes)",
            lambda: everything(gpt2_program),
            profile(module.graph),
            1 / 5,
            15,
        ),
        Pair(
            "liveness / Graph.lint, GPT-2",
            liveness_alone(gpt2_program),
            module.graph.lint,
            2,
            15,
        ),
        Pair("capturing effects / FakeTensorProp, GPT-2", load, propagate, 1.3, 5),
        Pair(
            "declaring effects / FakeTensorProp, GPT-2", declaring(exported), propagate, 1 / 20, 5
        ),
        Pair(
            "loading with declared effects / FakeTensorProp, GPT-2",
            lambda: passes.load(exported, effects="declared"),
            propagate,
            1 / 5,
            5,
        ),
        Pair(
            "aliases + liveness + memory / build_memory_profile, chain of 100,000",
            lambda: everything(programs[100_000]),
            profile(chains[100_000].graph),
            1 / 5,
            3,
        ),
        Pair(
            "liveness / Graph.lint, chain of 100,000",
            liveness_alone(programs[100_000]),
            chains[100_000].graph.lint,
            2,
            3,
        ),
        Pair(
            "aliases + liveness + memory, chain of 100,000 / of 10,000",
            lambda: everything(programs[100_000]),
            lambda: everything(programs[10_000]),
            15,
            3,
        ),
    ]
    print(f"{'ratio':>7} {'goal':>6}  {'ours':>10} {'theirs':>10}")
    for pair in pairs:
        ours, theirs = medians([pair.ours, pair.theirs], pair.repeats)
        print(
            f"{ours / theirs:7.2f} {pair.goal:6.2f}  {ours * 1000:7.1f} ms {theirs * 1000:7.1f} ms"
            f"  {pair.what}",
            flush=True,
        )


if __name__ == "__main__":
    main()
