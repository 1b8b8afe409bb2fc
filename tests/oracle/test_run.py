"""The oracle itself, on graphs so small that the truth can be written down by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn
from torch.fx import GraphModule, Tracer, symbolic_trace

from .models import MODELS
from .run import Run, observe, placeholders_of

NOTHING: frozenset[int] = frozenset()


def run(function: Callable[..., Any] | nn.Module, *values: object) -> Run:
    return observe(symbolic_trace(function), values)


def writers(seen: Run) -> dict[str, set[int]]:
    return {name: set(numbers) for name, numbers in seen.written.items() if numbers}


class _EveryModuleIsALeaf(Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def by_modules(module: nn.Module) -> GraphModule:
    return GraphModule(module, _EveryModuleIsALeaf().trace(module))


# --------------------------------------------------------------------------------------- aliasing


def test_a_view_has_its_operand_s_storage_and_a_sum_a_new_one() -> None:
    def function(x: Tensor, y: Tensor) -> Any:
        total = y + x.t()
        return total.view(-1), x

    seen = run(function, torch.randn(2, 2), torch.randn(2, 2))
    assert seen.storages == {
        "x": (0,), "y": (1,), "t": (0,), "add": (2,), "view": (2,), "output": (2, 0),
    }  # fmt: skip
    assert seen.entry == {0, 1}
    assert seen.nbytes == {0: 16, 1: 16, 2: 16}
    assert set(seen.written.values()) == {NOTHING}


def test_the_leaves_of_a_container_come_in_order() -> None:
    def function(x: Tensor) -> Any:
        left, right = (x + 1).chunk(2)
        best = torch.max(left, dim=0)
        return {"b": right, "a": [best, 3, None]}

    seen = run(function, torch.randn(2, 2))
    assert seen.storages["chunk"] == (1, 1)
    assert seen.storages["max_1"] == (2, 3)
    assert seen.storages["output"] == (1, 2, 3)
    assert seen.nbytes == {0: 16, 1: 16, 2: 8, 3: 16}


def test_a_contiguous_tensor_is_returned_as_it_is() -> None:
    def function(x: Tensor) -> Any:
        return x.contiguous(), x.t().contiguous(), F.dropout(x, training=False), x.reshape(3, 2)

    seen = run(function, torch.randn(2, 3))
    assert seen.storages["output"] == (0, 1, 0, 0)


def test_inputs_that_share_a_storage_do_so_in_the_run() -> None:
    base = torch.randn(4)
    seen = run(lambda x, y: x.add_(y), base[:2], base[2:])
    assert seen.storages["x"] == seen.storages["y"] == (0,)
    assert seen.nbytes == {0: 16}
    assert writers(seen) == {"add_": {0}}


def test_tied_parameters_and_a_buffer_on_top_share_in_the_run() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3))
            self.same = self.weight
            self.apart = nn.Parameter(self.weight.data)
            self.view = nn.Buffer(self.weight.data[1:])

        def forward(self, x: Tensor) -> Any:
            added = self.view.add_(x)
            return self.weight, self.same, self.apart, added, self.weight + 0

    seen = run(Tied(), torch.randn(1))
    assert seen.storages["output"] == (1, 1, 1, 1, 2)
    assert seen.entry == {0, 1}
    assert writers(seen) == {"add_": {1}}


def test_empty_tensors_have_storages_too() -> None:
    seen = run(lambda x: (x[:0].clone(), x[:0], x[:0] * 2), torch.randn(2))
    assert seen.storages["output"] == (1, 0, 2)
    assert seen.nbytes == {0: 8, 1: 0, 2: 0}
    assert seen.peak_bytes == 0


# ----------------------------------------------------------------------------------------- writes


def test_a_write_through_a_view_is_one_to_the_base() -> None:
    def function(x: Tensor, y: Tensor) -> Any:
        z = x + y
        z.view(-1)[:1].mul_(2)
        y.t().copy_(z)
        torch.add(z, z, out=x)
        return z

    seen = run(
        function,
        torch.randn(2, 2),
        torch.randn(2, 2),
    )
    assert writers(seen) == {"mul_": {2}, "copy_": {1}, "add_1": {0}}
    assert seen.changed == seen.written


def test_a_write_that_bumps_no_version_is_seen_in_the_bytes() -> None:
    batch = nn.BatchNorm1d(3).train()
    seen = observe(by_modules(nn.Sequential(batch)), [torch.randn(4, 3)])
    # After the input the storages are those of weight, bias, mean, variance and count.
    assert seen.entry == set(range(6))
    assert writers(seen) == {"_0": {3, 4, 5}}

    def step(w: Tensor, g: Tensor, m: Tensor, v: Tensor, n: Tensor) -> Any:
        torch._foreach_add_([n], 1)
        rates = {"lr": 0.1, "beta1": 0.9, "beta2": 0.9, "weight_decay": 0.0, "eps": 1e-8}
        adam: Any = torch._fused_adam_
        return adam([w], [g], [m], [v], [], [n], **rates, amsgrad=False, maximize=False)

    values = [torch.rand(3) for _ in range(4)]
    seen = run(step, *values, torch.tensor(1.0))
    assert writers(seen) == {"_foreach_add_": {4}, "_fused_adam_": {0, 2, 3}}


def test_a_write_of_the_same_bytes_is_seen_in_the_version() -> None:
    def function(x: Tensor, y: Tensor) -> Any:
        return torch.relu_(x), y.t_()

    seen = run(function, torch.rand(2, 2), torch.rand(2, 2))
    assert writers(seen) == {"relu_": {0}, "t_": {1}}
    assert set(seen.changed.values()) == {NOTHING}


class _Accumulate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Buffer(torch.randn(2))

    def forward(self, x: Tensor) -> Tensor:
        fresh = torch.zeros(2)
        fresh.add_(x.sum(0))
        self.seen.add_(x.sum(0))
        return fresh.mul_(2)


def test_a_module_s_own_new_tensor_is_no_write_and_its_buffer_is() -> None:
    seen = observe(by_modules(nn.Sequential(_Accumulate())), [torch.randn(4, 2)])
    assert seen.storages == {"input_1": (0,), "_0": (2,), "output": (2,)}
    assert writers(seen) == {"_0": {1}}


def test_a_write_inside_a_sub_graph_is_the_node_s() -> None:
    class Program(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.total = nn.Buffer(torch.randn(2))

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.total.add_(x)
                x.mul_(2)
            return x + self.total

    args = (torch.randn(2),)
    program = torch.export.export(Program(), args)
    seen = observe(program.graph_module, placeholders_of(program, args))
    assert writers(seen) == {"wrap_with_set_grad_enabled": {0, 1}}


# ----------------------------------------------------------------------------------------- memory


def test_a_value_is_held_until_after_its_last_use() -> None:
    def function(x: Tensor) -> Tensor:
        a = x + 1  # 16 bytes
        b = a.double()  # 32, with a
        c = b.sum()  # 8, with b
        return c * 2  # 8, with c

    seen = run(function, torch.randn(4))
    assert seen.alive == {"x": 0, "add": 16, "double": 48, "sum_1": 40, "mul": 16, "output": 8}
    assert (seen.peak_bytes, seen.peak_at) == (48, "double")


def test_a_container_holds_all_its_leaves() -> None:
    def function(x: Tensor) -> Any:
        pair: Any = torch.sort(x)  # 16 and 32
        indices = pair[1]
        late = indices.sum()  # 8, with both: the pair still has the values
        return late + pair[0]  # 16, with the 8 and, of the pair, only the values

    seen = run(function, torch.randn(4))
    names = ("sort", "getitem", "sum_1", "getitem_1", "add", "output")
    assert [seen.alive[name] for name in names] == [48, 48, 56, 56, 40, 16]
    assert (seen.peak_bytes, seen.peak_at) == (56, "sum_1")


def test_a_view_holds_the_whole_of_its_storage_and_a_value_unused_is_let_go() -> None:
    def function(x: Tensor) -> Tensor:
        row = (x * 2)[0]  # all 16 bytes
        row.cos()  # 8, used by nobody
        return row + x[0]

    seen = run(function, torch.randn(2, 2))
    names = ("mul", "getitem", "cos", "getitem_1", "add", "output")
    assert [seen.alive[name] for name in names] == [16, 16, 24, 16, 24, 8]


def test_writes_and_views_of_what_was_there_before_cost_nothing() -> None:
    def function(x: Tensor) -> Any:
        return x.add_(1).view(-1)

    seen = run(function, torch.randn(2, 2))
    assert (seen.peak_bytes, seen.peak_at) == (0, "x")


def test_a_tensor_that_a_module_keeps_is_told_apart() -> None:
    class Keep(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.kept = x + 1
            return self.kept

    class Program(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.keep = Keep()

        def forward(self, x: Tensor) -> Any:
            return self.keep(x).sum() * 2

    seen = observe(by_modules(Program()), [torch.randn(4)])
    assert seen.alive == {"x": 0, "keep": 16, "sum_1": 20, "mul": 8, "output": 4}
    assert seen.held_elsewhere == {"x": 0, "keep": 0, "sum_1": 0, "mul": 16, "output": 16}


def test_a_storage_that_grows_counts_as_grown() -> None:
    def function(x: Tensor) -> Any:
        small = x[:1].clone()
        small.resize_(4)
        return small

    seen = run(function, torch.randn(4))
    assert seen.nbytes == {0: 16, 1: 16}
    assert seen.alive == {"x": 0, "getitem": 0, "clone": 4, "resize_": 16, "output": 16}


# ----------------------------------------------------------------------------- what it leaves alone


def test_the_caller_s_state_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2), nn.ReLU(inplace=True), _Accumulate())
    graph_module = by_modules(module)
    x = torch.randn(4, 3)
    held = [x, *graph_module.state_dict(keep_vars=True).values()]
    before = [(tensor.detach().clone(), tensor._version) for tensor in held]
    state = torch.get_rng_state()

    assert any(observe(graph_module, [x]).written.values())

    for tensor, (copied, version) in zip(held, before, strict=True):
        assert torch.equal(tensor, copied)
        assert tensor._version == version
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()


def test_it_computes_what_the_program_computes() -> None:
    for name in ("unet_exported", "tied_traced", "recurrent_traced"):
        case = MODELS[name]()
        source = case.source
        module = source if isinstance(source, GraphModule) else source.module()
        seen: Any = observe(case.graph_module, case.placeholder_values).result
        expected = module(*case.args, **case.kwargs)
        torch.testing.assert_close(seen if isinstance(source, GraphModule) else seen[0], expected)


def test_random_numbers_are_the_same_each_time() -> None:
    first, second = (run(lambda x: F.dropout(x, 0.5), torch.ones(64)).result for _ in range(2))
    assert isinstance(first, Tensor)
    assert isinstance(second, Tensor)
    assert torch.equal(first, second)


# ----------------------------------------------------------------------------------- placeholders


def test_the_placeholders_of_an_exported_program() -> None:
    class Program(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2))
            self.saved = nn.Buffer(torch.randn(2))
            self.unsaved = nn.Buffer(torch.randn(2), persistent=False)

        def forward(self, x: Tensor, pair: dict[str, Tensor], *, b: Tensor, a: int) -> Tensor:
            constant = torch.tensor([1.0, 2.0])
            both = self.weight + self.saved + self.unsaved + constant
            return both + x + pair["p"] - pair["q"] + a * b

    program = Program()
    x, p, q, b = (torch.randn(2) for _ in range(4))
    exported = torch.export.export(program, (x, {"p": p, "q": q}), {"b": b, "a": 3})
    # By keyword in another order than it was exported with.
    values = placeholders_of(exported, (x, {"p": p, "q": q}), {"a": 3, "b": b})
    seen: Any = observe(exported.graph_module, values).result
    torch.testing.assert_close(seen[0], program(x, {"p": p, "q": q}, b=b, a=3))
    with pytest.raises(ValueError, match="keywords"):
        placeholders_of(exported, (x, {"p": p, "q": q}), {"b": b})
    with pytest.raises(ValueError, match="1 arguments more"):
        placeholders_of(exported, (x, x, {"p": p, "q": q}), {"b": b, "a": 3})


def test_a_wrong_number_of_values_and_a_failing_node_are_named() -> None:
    with pytest.raises(ValueError, match="2 placeholders and 1 values"):
        run(lambda x, y: x + y, torch.randn(2))
    with pytest.raises(RuntimeError) as caught:
        run(lambda x, y: x + y, torch.randn(2), torch.randn(3))
    assert "%add" in caught.value.__notes__[0]
