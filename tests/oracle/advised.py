"""Run what a suggestion makes of a graph next to the graph itself, and compare.

The results are equal bit by bit, what is held at every op is what is claimed, and the
program loaded from the new graph says the same of itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

import passes
from passes import Program, Suggestion
from passes.program import OpKind

from .run import _fresh, _Memory, _seeded, observe


def check(program: Program, suggestion: Suggestion, values: Sequence[object]) -> Program:
    """Assert that a suggestion holds for the graph's placeholder values; the new program."""
    before, changed = program.graph, suggestion.apply()
    after = changed.graph
    assert isinstance(before, GraphModule)
    assert isinstance(after, GraphModule)
    old, new = observe(before, values), observe(after, values)
    assert_same(old.result, new.result)
    memory = passes.memory(changed)
    assert dict(new.alive) == {op.name: memory.at(op) for op in changed.ops}
    claimed = passes.memory(program).peak_bytes - memory.peak_bytes
    measured = old.peak_bytes - new.peak_bytes
    if suggestion.donated:
        levels = _with_inputs(after, values, suggestion.donated, changed)
        kept = _kept_bytes(changed)
        shown = max(levels) + kept
        peak_at = changed.op(suggestion.peak_at)  # levels inside of a sub-graph are not shown
        hidden = peak_at.path or peak_at.regions
        assert suggestion.peak_bytes > shown if hidden else suggestion.peak_bytes == shown
        assert suggestion.saved_bytes >= claimed
    else:
        inside = any(op.regions for op in program.ops)
        assert claimed == suggestion.saved_bytes
        assert measured == claimed or inside
    again = passes.load(after, *values)
    assert passes.memory(again).timeline == memory.timeline
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        assert_same(old.result, after(*_fresh(after, values)[1]))
    return changed


def assert_same(one: object, other: object) -> None:
    """Both results have the same tensors, bit by bit."""
    first = [leaf for leaf in pytree.tree_leaves(one) if isinstance(leaf, Tensor)]
    second = [leaf for leaf in pytree.tree_leaves(other) if isinstance(leaf, Tensor)]
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert torch.equal(_bits(a), _bits(b))


def _bits(tensor: Tensor) -> Tensor:
    """The bytes, so that what is no number equals itself."""
    return tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)


def _with_inputs(
    graph: GraphModule, values: Sequence[object], donated: Sequence[str], program: Program
) -> list[int]:
    """Bytes held at each call, with those of inputs that are given away."""
    memory = _Memory(list(graph.graph.nodes), *_fresh(graph, values))
    inputs = [op for op in program.ops if op.kind is OpKind.INPUT]
    names = {entry.value: entry.name for entry in program.entry.values}
    for op, value in zip(inputs, memory.values, strict=True):
        if op.results and names[op.results[0]] in donated:
            assert isinstance(value, Tensor)
            memory._entry.discard(value.untyped_storage()._cdata)
    _seeded(memory.run)
    calls = [op.name for op in program.ops if op.kind is not OpKind.INPUT]
    return [memory.alive[name] for name in calls]


def _kept_bytes(program: Program) -> int:
    """Bytes of entry storages that stay the caller's."""
    kept = {e.storage: e.nbytes or 0 for e in program.entry.values if not e.donated}
    return sum(kept.values())
