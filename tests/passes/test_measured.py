"""Where torch's own records and transformations go wrong, the passes know better.

Each program is one on which a recorded tensor, a schema or a transformation of torch's was
measured to be wrong about storages or writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

import passes
from passes import Program
from passes.frontends.fakes.world import nbytes_of, storage_of
from tests.passes.programs import exported, ids, traced

X = torch.rand(4, 6)


def _written(program: Program) -> set[str]:
    aliases = passes.aliases(program)
    return set().union(*(ids(aliases.written_by(op)) for op in program.walk()))


def _both(function: Any, *inputs: Tensor) -> list[Program]:
    """A function exported, its effects observed and declared."""

    class Calls(nn.Module):
        def forward(self, *given: Tensor) -> Any:
            return function(*given)

    with torch.no_grad():
        program = torch.export.export(Calls(), inputs, strict=False)
    return [passes.load(program), passes.load(program, effects="declared")]


class TestRecordedTensors:
    def test_dropout_that_drops_nothing_returns_its_argument(self) -> None:
        """Recorded: something new.  Written through, it makes a decomposition wrong."""

        def drops(x: Tensor) -> tuple[Tensor, Tensor]:
            h = x + 1
            e = functional.dropout(h, 0.5, False)
            e.mul_(2)
            return h, e

        for program in _both(drops, X):
            h, e = program.outputs
            assert passes.aliases(program).must_alias(h, e)

    def test_a_reloaded_graph_has_lost_its_sharing(self, tmp_path: Path) -> None:
        class Model(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return (x + 1).view(-1).add_(1)

        path = tmp_path / "model.pt2"
        torch.export.save(torch.export.export(Model(), (X,)), path)
        loaded = torch.export.load(path)
        recorded = {node.name: node.meta.get("val") for node in loaded.graph.nodes}
        assert storage_of(recorded["add"]) != storage_of(recorded["view"])
        for program in (passes.load(loaded), passes.load(loaded, effects="declared")):
            (result,) = program.outputs
            add = program.op("add").results[0]
            assert passes.aliases(program).must_alias(add, result)

    def test_a_copied_node_shares_its_recorded_tensor_and_nothing_else(self) -> None:
        graph = make_fx(lambda x: x + 1)(X).graph
        add = next(node for node in graph.nodes if node.name == "add")
        with graph.inserting_after(add):
            twin = graph.node_copy(add)
        twin.graph.output_node().args = ((add, twin),)
        module = fx.GraphModule(nn.Module(), graph)
        assert twin.meta["val"] is add.meta["val"]
        for program in (passes.load(module, X), passes.load(module, X, effects="declared")):
            assert not passes.aliases(program).may_alias(*program.outputs)

    def test_before_resize_a_storage_had_its_old_size_and_counts_the_largest(self) -> None:
        program = traced(lambda x: (x + 1).resize_(2, 2), X)
        sizes = {s.name: s.nbytes for s in passes.aliases(program).all_storages}
        assert sizes["add"] == nbytes_of(X)
        larger = traced(lambda x: (x + 1).resize_(10, 6), X)
        assert passes.memory(larger).peak_bytes == 240

    def test_after_set_a_tensor_is_another_storage(self) -> None:
        program = traced(lambda x, y: x.set_(y).add_(1), X.clone(), X + 1)
        assert _written(program) == {"y"}


class TestFakeKernels:
    def test_a_cached_call_still_resizes_what_it_is_given(self) -> None:
        """torch's cache of calls on fakes forgets that `out=` was resized."""

        def solves(a: Tensor, b: Tensor) -> Tensor:
            whole, pivots = a.new_empty([0]), a.new_empty([0], dtype=torch.int32)
            info, result = a.new_empty([], dtype=torch.int32), a.new_empty([0])
            found = torch.ops.aten._linalg_solve_ex.result(
                a, b, result=result, LU=whole, pivots=pivots, info=info
            )
            return found[0]  # type: ignore[no-any-return]  # of an operator

        inputs = torch.rand(5, 5), torch.rand(5, 5)
        module = make_fx(solves)(*inputs)
        peaks = {passes.memory(passes.load(module, *inputs)).peak_bytes for _ in range(3)}
        assert peaks == {224}

    def test_a_cached_call_still_returns_its_argument(self) -> None:
        """The cache forgets aliases, too, that the schema does not annotate."""
        module = make_fx(lambda x: torch.ops.aten.lift.default(x))(X)
        ways: tuple[passes.EffectsKnown, ...] = ("observed", "observed", "declared")
        for effects in ways:
            program = passes.load(module, X, effects=effects)
            assert passes.aliases(program).must_alias(program.outputs[0], program.values[0])

    def test_native_dropout_copies_even_if_it_drops_nothing(self) -> None:
        for program in _both(lambda x: torch.native_dropout(x, 0.5, False)[0], X):
            x = program.entry.values[0].value
            assert not passes.aliases(program).may_alias(program.outputs[0], x)


class TestSilentSchemas:
    @pytest.mark.parametrize("train", [True, False])
    @pytest.mark.parametrize("name", ["batch_norm", "instance_norm"])
    def test_normalisation_writes_statistics_in_training(self, name: str, train: bool) -> None:
        def normalises(x: Tensor, m: Tensor, v: Tensor) -> Any:
            return getattr(torch, name)(x, None, None, m, v, train, 0.1, 1e-5, False)

        inputs = torch.rand(2, 3, 4), torch.rand(3), torch.rand(3)
        assert len(_written(traced(normalises, *inputs))) == (2 if train else 0)
        for program in _both(normalises, *inputs):
            assert len(_written(program)) == (2 if train else 0)

    def test_a_list_of_results_without_annotation(self) -> None:
        for program in _both(lambda x: torch.unsafe_split(x, 2), X):
            x = program.entry.values[0].value
            assert all(passes.aliases(program).must_alias(part, x) for part in program.outputs)

    def test_a_written_list(self) -> None:
        for program in _both(lambda x, y: torch._foreach_add_([x, y], 1.0), X, X + 1):
            assert len(_written(program)) == 2


class TestWhatDeadCodeEliminationDeletes:
    """`Graph.eliminate_dead_code` deletes these writes, whose results nobody uses."""

    @pytest.mark.parametrize(
        "write",
        [
            lambda y: y.mul_(2),
            lambda y: y.view(-1).mul_(2),
            lambda y: functional.relu(y, inplace=True),
            lambda y: torch.relu_(y),
            lambda y: torch.add(y, 1, out=y),
            lambda y: y.copy_(y + 1),
            lambda y: nn.functional.dropout(y, 0.5, True, inplace=True),
        ],
    )
    def test_the_write_is_known(self, write: Any) -> None:
        def writes(x: Tensor) -> Tensor:
            y = x.mul(2)
            write(y)
            return y

        program = traced(writes, X)
        assert _written(program) == {"mul"}
        module = program.graph
        assert isinstance(module, fx.GraphModule)
        before = len(module.graph.nodes)
        module.graph.eliminate_dead_code()
        assert len(module.graph.nodes) < before

    def test_a_module_that_writes(self) -> None:
        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.act = nn.ReLU(inplace=True)

            def forward(self, x: Tensor) -> Tensor:
                y = x.mul(2)
                self.act(y)
                return y

        assert _written(passes.load(fx.symbolic_trace(Model()), X)) == {"mul"}


class TestReuse:
    """Reinplacing and CSE went wrong on these; the facts forbid what they did."""

    def test_an_operand_is_a_view_of_what_would_be_written(self) -> None:
        program = exported(
            lambda a, c: torch.addmm(a, a.t(), c), torch.rand(4, 4), torch.rand(4, 4)
        )
        t = program.op("t").results[0]
        assert passes.aliases(program).must_alias(t, program.entry.values[0].value)

    def test_a_write_through_a_view_lies_between_equal_expressions(self) -> None:
        def twice(x: Tensor) -> tuple[Tensor, Tensor]:
            y = x.mul(2)
            first = y + 1
            y.view(-1).zero_()
            return first, y + 1

        assert _written(traced(twice, X)) == {"mul"}
