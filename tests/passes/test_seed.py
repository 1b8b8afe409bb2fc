"""The test all began with, its imports changed, and the same claims in our own words."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import passes
from passes import GraphAnalyser, GraphModule, LiveStage, Tracer, shape_prop_pass
from passes.errors import ProgramError


class LinearModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(4, 4)
        self.relu = nn.ReLU(inplace=True)
        self.linear2 = nn.Linear(4, 4)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        x1 = x1 * 2
        x1 = self.linear1(x1)
        x1 = self.relu(x1)
        x1 = self.linear2(x1)
        out = x1 + x2
        return out  # noqa: RET504  # as the seed has it


def test_liveness_analysis() -> None:
    model = LinearModel()
    tracer = Tracer(bias_addition_split=True)
    meta_args = {"x1": torch.rand(4, 4, device="meta"), "x2": torch.rand(4, 4, device="meta")}
    graph = tracer.trace(model, meta_args=meta_args)
    gm = GraphModule(root=model, graph=graph, class_name=model.__class__.__name__)
    shape_prop_pass(gm, *meta_args.values())
    graph_analyser = GraphAnalyser(gm)
    liveness_list = graph_analyser.liveness_analysis()
    stage_count = len(liveness_list)

    # if a LiveStage is covered by another LiveStage, we just keep the larger one.
    assert stage_count == 1

    # a variable named `relu` must exist
    # and this live var must have inplace = True
    assert liveness_list[0].all_live_vars.exists("relu")
    relu_var = liveness_list[0].all_live_vars.get("relu")
    assert relu_var.is_inplace

    # the unique vars must be fewer than the all vars since in-place ops exist
    all_live_vars = liveness_list[0].all_live_vars
    unique_live_vars = liveness_list[0].unique_live_vars
    assert len(unique_live_vars) + 1 == len(all_live_vars)


def _analyser(model: nn.Module, **meta_args: Tensor) -> GraphAnalyser:
    graph = Tracer(bias_addition_split=True).trace(model, meta_args=meta_args)
    gm = GraphModule(root=model, graph=graph, class_name=type(model).__name__)
    shape_prop_pass(gm, *meta_args.values())
    return GraphAnalyser(gm)


@pytest.fixture
def analyser() -> GraphAnalyser:
    shape = torch.empty(4, 4, device="meta")
    return _analyser(LinearModel(), x1=shape, x2=torch.empty_like(shape))


def test_the_seeds_numbers(analyser: GraphAnalyser) -> None:
    """One stage, 13 variables, 12 of them unique; only `relu` writes in place."""
    (stage,) = analyser.liveness_analysis()

    assert len(stage.all_live_vars) == 13
    assert len(stage.unique_live_vars) == 12
    assert [v.name for v in stage.all_live_vars if v.is_inplace] == ["relu"]
    assert {v.name for v in stage.all_live_vars} - {v.name for v in stage.unique_live_vars} == {
        "relu"
    }
    assert stage.name == stage.node.name == "output"


def _names(stages: list[LiveStage]) -> dict[str, list[str]]:
    return {stage.name: [v.name for v in stage.all_live_vars] for stage in stages}


def test_variables_die_in_inference(analyser: GraphAnalyser) -> None:
    """With the outputs live at exit, each stage holds what its op needs, and no more."""
    stages = _names(analyser.liveness_analysis(live_at_exit="outputs"))

    assert stages["mul"] == ["x1", "x2", "mul"]
    assert stages["relu"] == ["x2", "add", "relu"]
    assert stages["add_2"] == ["x2", "add_1", "add_2"]
    assert "output" not in stages


def test_no_stage_covers_another(analyser: GraphAnalyser) -> None:
    stages = [set(names) for names in _names(analyser.liveness_analysis("outputs")).values()]

    assert not any(a <= b for a in stages for b in stages if a is not b)


def test_an_in_place_result_stands_for_its_storage_when_the_operand_is_dead(
    analyser: GraphAnalyser,
) -> None:
    """After `relu` its operand `add` is dead, so the storage's variable is `relu`."""
    stages = {s.name: s for s in analyser.liveness_analysis("outputs")}

    assert stages["relu"].unique_live_vars.exists("add")
    assert not stages["relu"].unique_live_vars.exists("relu")
    assert stages["linear_1"].unique_live_vars.exists("relu")


def test_alias_set_is_the_storage_classes(analyser: GraphAnalyser) -> None:
    shared = [
        sorted(v.name for v in found.members)
        for found in analyser.get_alias_set()
        if found.storage.role is None and len(found.members) > 1
    ]

    assert shared == [["add", "relu"]]


def test_vectors_are_asked_by_name_and_copied(analyser: GraphAnalyser) -> None:
    (stage,) = analyser.liveness_analysis()
    copied = stage.all_live_vars.copy()
    copied.clear()

    assert len(stage.all_live_vars) == 13
    assert not stage.all_live_vars.exists("nobody")
    with pytest.raises(KeyError, match="nobody"):
        stage.all_live_vars.get("nobody")


def test_without_shapes_the_analyser_says_what_to_run() -> None:
    gm = torch.fx.symbolic_trace(LinearModel())

    with pytest.raises(ProgramError, match="run shape_prop_pass"):
        GraphAnalyser(gm).liveness_analysis()


def test_a_graph_that_was_changed_is_refused(analyser: GraphAnalyser) -> None:
    graph = analyser.gm.graph
    first = analyser.liveness_analysis()
    assert len(analyser.liveness_analysis()) == len(first)  # as long as nothing is changed
    (relu,) = [node for node in graph.nodes if node.name == "relu"]
    with graph.inserting_after(relu):
        made = graph.call_function(torch.sin, (relu,))
    with pytest.raises(ProgramError, match="the graph was changed after it was analysed"):
        analyser.liveness_analysis()
    with pytest.raises(ProgramError, match="make a new GraphAnalyser"):
        analyser.get_alias_set()
    graph.erase_node(made)
    assert len(analyser.liveness_analysis()) == len(first)
    analyser.gm.recompile()
    (mul,) = [node for node in graph.nodes if node.name == "mul"]
    mul.args = (mul.args[0], 3)
    with pytest.raises(ProgramError, match="was changed"):
        analyser.liveness_analysis()


def test_a_node_is_one_variable_however_many_leaves_it_has() -> None:
    class Halves(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            a, b = x.chunk(2)
            return a.add_(1) + b

    (stage,) = _analyser(Halves(), x=torch.empty(4, 4, device="meta")).liveness_analysis()

    assert [v.name for v in stage.all_live_vars] == [
        "x", "chunk", "getitem", "getitem_1", "add_", "add",
    ]  # fmt: skip
    assert [v.name for v in stage.unique_live_vars] == ["x", "add"]


def test_the_model_is_left_as_it_was() -> None:
    model = LinearModel()
    before = {name: (p, p._version, p.clone()) for name, p in model.named_parameters()}
    _analyser(model, x1=torch.empty(4, 4, device="meta"), x2=torch.empty(4, 4, device="meta"))

    for name, parameter in model.named_parameters():
        same, version, value = before[name]
        assert parameter is same
        assert parameter._version == version
        assert torch.equal(parameter, value)


def test_shape_prop_fills_every_node() -> None:
    gm = torch.fx.symbolic_trace(LinearModel())
    assert passes.shape_prop_pass(gm, torch.rand(4, 4), torch.rand(4, 4)) is gm

    for node in gm.graph.nodes:
        assert node.meta["tensor_meta"].shape == (4, 4)
        assert node.meta["tensor_meta"].dtype == torch.float32
