"""From where to where values and storages live, in op indices: tables next to programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

import passes
from passes import LiveRange, Program
from passes.liveness import Liveness, Span, merged
from tests.passes.programs import exported, traced

X = torch.rand(4, 4)


def _spans(program: Program) -> dict[str, Span | None]:
    liveness = passes.liveness(program)
    return {value.name: liveness.span(value) for value in program.values}


def _ranges(program: Program) -> dict[str, tuple[Span, ...]]:
    liveness = passes.liveness(program)
    return {c.id: liveness.range(c).intervals for c in passes.aliases(program).classes}


def _either(x: Tensor, flag: Tensor) -> Any:
    kept = x * 3  # 2, after x and flag
    found = torch.cond(flag, lambda v: (v * 2).sin(), lambda v: v.cos(), (x,))  # 5 to 8, 9 to 11
    return found + kept  # 13, 14


def test_a_branchs_values_live_in_it() -> None:
    spans = _spans(exported(_either, X, torch.tensor(True)))
    assert {name: span for name, span in spans.items() if "/" in name} == {
        "cond/true/args_0": (5, 8),  # held by the run to the branch's end
        "cond/true/mul": (6, 7),
        "cond/true/sin": (7, 8),
        "cond/false/args_0": (9, 11),
        "cond/false/cos": (10, 11),
    }
    assert (spans["args_0"], spans["mul"], spans["add"]) == ((0, 12), (2, 14), (14, 15))


def test_what_a_branch_returns_lives_on_after_the_cond_and_not_in_the_other_branch() -> None:
    ranges = _ranges(exported(_either, X, torch.tensor(True)))
    assert ranges["cond/true/sin"] == ((7, 8), (12, 14))
    assert ranges["cond/false/cos"] == ((10, 11), (12, 14))
    assert ranges["cond/true/mul"] == ((6, 7),)


def test_a_loop_holds_what_it_carries_and_its_condition() -> None:
    def loop(x: Tensor) -> Any:
        from torch._higher_order_ops import while_loop

        return while_loop(  # type: ignore[no-untyped-call]  # torch's own
            lambda i, v: i < 3, lambda i, v: (i + 1, v.sin().cos()), (torch.tensor(0), x)
        )

    program = exported(loop, X)
    spans = _spans(program)
    assert {name.removeprefix("while_loop/"): spans[name] for name in spans if "/" in name} == {
        "cond/arg0_1": (6, 9),
        "cond/arg1_1": (6, 9),
        "cond/lt": (8, 15),  # to the end of the body that it lets run
        "body/arg0_1": (10, 15),
        "body/arg1_1": (10, 15),
        "body/add": (12, 15),
        "body/sin": (13, 14),
        "body/cos": (14, 15),
    }
    ranges = _ranges(program)
    assert ranges["while_loop/body/cos"] == ((14, 15), (16, 19))
    assert ranges["while_loop/body/cos (earlier)"] == ((6, 9), (10, 15))
    assert ranges["while_loop/body/sin"] == ((13, 14),)


def test_what_a_scan_stacks_is_there_from_its_first_op_on() -> None:
    def running(x: Tensor) -> Any:
        from torch._higher_order_ops import scan

        return scan(lambda c, v: ((c + v).sin(), (c * v).cos()), x[0], x)

    spans = _spans(exported(running, X))
    assert (spans["scan[0]"], spans["scan[1]"]) == ((10, 12), (3, 12))
    assert (spans["scan/body/cos"], spans["scan/body/mul"]) == ((8, 9), (7, 8))


def test_an_entry_value_is_there_from_the_first_op_on() -> None:
    """A traced module reads its parameter with an op of its own, here the first."""

    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(X)

        def forward(self) -> Tensor:
            return self.w.relu()

    program = passes.load(fx.symbolic_trace(Reads()))
    assert _spans(program) == {"self.w": (0, 0), "w": (0, 1), "relu": (1, 2)}
    assert _ranges(program) == {"self.w": ((0, 1),), "relu": ((1, 2),)}
    held = passes.liveness(program, "all")
    assert [held.span(value) for value in program.values] == [(0, 2), (0, 2), (1, 2)]
    assert list(held.storage_spans.values()) == [((0, 2),), ((1, 2),)]


def test_an_entry_value_that_only_the_first_op_uses() -> None:
    class Leaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(X)

        def forward(self) -> Tensor:
            return self.w.relu()

    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.leaf = Leaf()

        def forward(self) -> Any:
            return self.leaf()

    class Leaves(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return True

    root = Root()
    program = passes.load(fx.GraphModule(root, Leaves().trace(root)))
    assert _spans(program) == {"self.leaf.w": (0, 0), "leaf": (0, 1)}
    assert _ranges(program) == {"self.leaf.w": ((0, 0),), "leaf": ((0, 1),)}


def test_an_entry_value_nobody_uses_is_never_live() -> None:
    program = traced(lambda x, y: x + 1, X, X.clone())
    assert _spans(program) == {"x": (0, 2), "y": None, "add": (2, 3)}
    assert _ranges(program)["y"] == ()


def test_a_dead_result_of_the_first_op_lives_there() -> None:
    graph = fx.Graph()
    graph.call_function(torch.zeros, (3,))
    graph.output(graph.call_function(torch.ones, (3,)))
    program = passes.load(fx.GraphModule(nn.Module(), graph))
    assert _spans(program) == {"zeros": (0, 0), "ones": (1, 2)}
    assert _ranges(program) == {"zeros": ((0, 0),), "ones": ((1, 2),)}


def test_a_range_of_several_intervals() -> None:
    live = LiveRange(((3, 4), (7, 9)))
    assert (live.first, live.last) == (3, 9)
    assert [index for index in range(12) if index in live] == [3, 4, 7, 8, 9]
    assert "3" not in live
    assert 3.5 not in live


def test_no_range() -> None:
    live = LiveRange(())
    assert (live.first, live.last) == (None, None)
    assert 0 not in live


@pytest.mark.parametrize("ask", [Liveness.before, Liveness.after, Liveness.classes])
def test_an_op_of_another_program_is_refused(ask: Callable[..., object]) -> None:
    one, other = traced(lambda x: x + 1, X), traced(lambda x: x + 1, X)
    with pytest.raises(KeyError, match="not an op of"):
        ask(passes.liveness(one), other.op("add"))


interval = st.tuples(st.integers(0, 20), st.integers(0, 6)).map(lambda t: (t[0], t[0] + t[1]))


@settings(deadline=None, max_examples=300)
@given(st.lists(interval, max_size=7))
def test_intervals_that_share_a_point_are_one(intervals: list[Span]) -> None:
    """Those that only meet end to end stay two: no op need be between them."""
    found: tuple[Span, ...] = ()
    for new in intervals:
        found = merged(found, new)
    apart: list[set[int]] = []
    for start, stop in intervals:
        points = set(range(start, stop + 1))
        points = points.union(*(other for other in apart if other & points))
        apart = [other for other in apart if not other & points] + [points]
    assert list(found) == sorted((min(points), max(points)) for points in apart)
