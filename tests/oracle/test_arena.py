"""Plans, executed: every program of the zoo with all its intermediates in one arena.

The results are equal to the bit, the arena is as small as the lower bound, and the checks
that would show a wrong plan do show one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor
from torch._higher_order_ops import map as torch_map
from torch._higher_order_ops import while_loop as torch_while_loop
from torch.export import Dim
from torch.utils import _pytree as pytree

import passes
from passes import Plan, Program
from tests.oracle.arena import run_freely, run_in_arena
from tests.oracle.models import MODELS
from tests.oracle.run import placeholders_of
from tests.oracle.test_inside import exported
from tests.oracle.test_symbolic import Model, convolutional, encoder, gpt2
from tests.passes.test_bounded import BOUNDED
from tests.passes.test_bounded import exported as bounded_exported


def same_bits(one: object, other: object) -> bool:
    """Whether two results are equal, NaNs and all."""
    first, second = pytree.tree_leaves(one), pytree.tree_leaves(other)
    return len(first) == len(second) and all(map(_equal, first, second))


def _equal(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor):
        return bool(one == other)
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    whole = torch.contiguous_format
    return torch.equal(
        *(
            x.resolve_conj().resolve_neg().clone(memory_format=whole).flatten().view(torch.uint8)
            for x in (one, other)
        )
    )


def check_runs(program: Program, plan: Plan, graph: Any, values: Any) -> None:
    assert same_bits(run_freely(graph, values), run_in_arena(program, plan, graph, values))


@pytest.mark.parametrize("name", MODELS)
def test_a_program_runs_in_its_arena(name: str) -> None:
    case = MODELS[name]()
    program = passes.load(case.source, *case.args, **case.kwargs)
    plan = passes.plan(program)
    assert plan.is_optimal
    check_runs(program, plan, case.graph_module, case.placeholder_values)


@pytest.mark.parametrize("name", ["convnext_exported", "resnet50_exported", "swin_exported"])
def test_a_wrong_plan_gives_wrong_results(name: str) -> None:
    """All in one place: the executor must not be blind."""
    case = MODELS[name]()
    program = passes.load(case.source, *case.args, **case.kwargs)
    plan = passes.plan(program)
    wrong = evolve(plan, slots={s: evolve(slot, offset=0) for s, slot in plan.slots.items()})
    freely = run_freely(case.graph_module, case.placeholder_values)
    with torch.random.fork_rng():
        placed = run_in_arena(program, wrong, case.graph_module, case.placeholder_values)
    assert not same_bits(freely, placed)


@pytest.mark.parametrize("name", BOUNDED)
def test_data_that_makes_less_runs_in_the_arena_for_the_most(name: str) -> None:
    function, fullest = BOUNDED[name]
    source = bounded_exported(function)
    program = passes.load(source)
    plan = passes.plan(program)
    assert plan.bounded
    for x in (torch.rand(4, 3), torch.zeros(4, 3), fullest):
        check_runs(program, plan, source.graph_module, placeholders_of(source, (x,)))


# ---------------------------------------------------------------------------- sub-graphs, by hand


def while_loop(*args: Any) -> Any:
    return torch_while_loop(*args)  # type: ignore[no-untyped-call]  # torch's own


ONES = torch.ones(4)
YES, NO = torch.tensor(True), torch.tensor(False)


def two_conds(m: Any, v: Tensor, p: Tensor) -> Tensor:
    first = torch.cond(p, lambda v: v * 2, lambda v: v * 3, (v,))
    second = torch.cond(p, lambda v: v + 100, lambda v: v - 100, (v,))
    result: Tensor = first + second * 10
    return result


def nested_cond(m: Any, v: Tensor, p: Tensor, q: Tensor) -> Any:
    def yes(v: Tensor, q: Tensor) -> Any:
        return torch.cond(q, lambda v: (v * 2).sin() * v, lambda v: v.cos() + v, (v,)) + v.exp()

    def no(v: Tensor, q: Tensor) -> Tensor:
        return v.neg().exp() * q

    return torch.cond(p, yes, no, (v, q)) * v


def two_results(m: Any, v: Tensor, p: Tensor) -> Any:
    return torch.cond(p, lambda v: (v * 2, v * 3), lambda v: (v.sin(), v.sin() + 1), (v,))


def swapped(m: Any, n: Tensor, a: Tensor, b: Tensor) -> Any:
    return while_loop(
        lambda i, a, b: i < n.sum(), lambda i, a, b: (i + 1, b.clone(), a + b), (n * 0, a, b)
    )


def fibonacci(m: Any, n: Tensor, a: Tensor, b: Tensor) -> Any:
    found = while_loop(
        lambda i, a, b: i < 5, lambda i, a, b: (i + 1, b * 1, (a * 2).sin() + b), (n * 0, a, b)
    )
    return found[1] * 3 + found[2] * n


def nested_loops(m: Any, n: Tensor, a: Tensor) -> Any:
    def body(i: Tensor, a: Tensor) -> Any:
        inner = while_loop(lambda j, b: j < i, lambda j, b: (j + 1, b * 2 + a), (i * 0, a.sin()))
        return i + 1, inner[1] + a

    return while_loop(lambda i, a: i < n, body, (n * 0, a))


def in_loop(m: Any, n: Tensor, a: Tensor) -> Any:
    def body(i: Tensor, a: Tensor) -> Any:
        return i + 1, torch.cond(i > 1, lambda a: a * 2 + 1, lambda a: a.sin() + 2, (a,))

    return while_loop(lambda i, a: i < n, body, (n * 0, a))


def mapped(m: Any, a: Tensor, b: Tensor) -> Any:
    return torch_map(lambda row, b: (row * b).sin(), a, b)  # type: ignore[arg-type]  # torch's own


CASES: list[tuple[Callable[..., object], list[tuple[Any, ...]]]] = [
    (two_conds, [(ONES, YES), (ONES, NO)]),
    (nested_cond, [(ONES, p, q) for p in (YES, NO) for q in (YES, NO)]),
    (two_results, [(ONES, YES), (ONES, NO)]),
    (swapped, [(torch.tensor(n), ONES, ONES * 2) for n in (5, 1, 0)]),
    (fibonacci, [(torch.tensor(n), ONES, ONES * 2) for n in (1, 3)]),
    (nested_loops, [(torch.tensor(n), ONES) for n in (4, 1, 0)]),
    (mapped, [(torch.rand(3, 16), torch.rand(16))]),
    (in_loop, [(torch.tensor(n), ONES) for n in (4, 1, 0)]),
]


@pytest.mark.parametrize(("function", "runs"), CASES, ids=[f.__name__ for f, _ in CASES])
def test_sub_graphs_run_in_the_arena(function: Any, runs: Any) -> None:
    case = exported(function, *runs)
    program = passes.load(case.source, *case.inputs)
    plan = passes.plan(program)
    for values in case.runs:
        check_runs(program, plan, case.graph, values)


@pytest.mark.parametrize("build", [gpt2, encoder, convolutional])
def test_a_plan_for_the_largest_sizes_does_for_all(build: Callable[[], Model]) -> None:
    torch.manual_seed(0)
    model = build()
    dims = {name: Dim(name, min=8 if name == "side" else 1) for name in model.dynamic.values()}
    if "length" in dims:
        dims["length"] = Dim("length", min=1, max=64)
    shapes: Any = ({place: dims[name] for place, name in model.dynamic.items()},)
    source = torch.export.export(model.model, (model.make(3, 16),), dynamic_shapes=shapes)
    largest = {name: 5 if name == "batch" else 24 for name in dims}
    plan = passes.plan(passes.load(source), at_most=largest)
    assert plan.is_optimal
    for batch, size in ((5, 24), (2, 16), (4, 9)):
        values = placeholders_of(source, (model.make(batch, size),))
        check_runs(plan.program, plan, source.graph_module, values)
    at_last = passes.load(source, model.make(5, 24))
    assert plan.nbytes == passes.plan(at_last).nbytes


def test_two_conds_keep_both_results() -> None:
    """Where a planner reserves the branches' space for the branches only, it is 1111."""
    case = exported(two_conds, (ONES, YES))
    program = passes.load(case.source, *case.inputs)
    plan = passes.plan(program)
    result: Any = run_in_arena(program, plan, case.graph, case.runs[0])
    assert result[0].tolist() == [1012.0] * 4


def test_branches_share_space() -> None:
    case = exported(two_conds, (ONES, YES))
    plan = passes.plan(passes.load(case.source, *case.inputs))
    offsets = {storage.name: slot.offset for storage, slot in plan.slots.items()}
    assert offsets["cond/true/mul"] == offsets["cond/false/mul"]
    assert offsets["cond_1/true/add"] == offsets["cond_1/false/sub"]
    assert offsets["cond/true/mul"] != offsets["cond_1/true/add"]
    assert plan.nbytes == 3 * 64
