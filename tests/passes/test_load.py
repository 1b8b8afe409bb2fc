"""The front door: what is accepted, and what bad input is told."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import passes
from passes import CaptureError, TrustError
from passes.program import Role


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.register_buffer("scale", torch.ones(2))

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        y: Tensor = self.linear(x) * self.scale
        return y if bias is None else y + bias


X = torch.rand(3, 4)


def _is_traced(x: object) -> bool:
    return isinstance(x, fx.Proxy)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "small.pt2"
    torch.export.save(torch.export.export(Small(), (X,)), path)
    return path


class TestSources:
    """Every kind of source, the same program."""

    def test_a_module_is_exported(self) -> None:
        program = passes.load(Small(), X)
        assert program.capture == "torch.export"
        assert program.name == "Small"
        roles = [entry.role for entry in program.entry.values]
        assert roles == [Role.PARAMETER, Role.PARAMETER, Role.BUFFER, Role.INPUT]

    def test_keyword_inputs(self) -> None:
        program = passes.load(Small(), X, bias=torch.rand(2))
        assert "add" in {op.name for op in program.ops}

    def test_a_module_that_export_refuses_is_traced_and_says_so(self) -> None:
        class Refused(nn.Module):
            def forward(self, x: Any) -> Any:
                if not _is_traced(x):
                    raise RuntimeError("not while exporting")
                return x.sin()

        program = passes.load(Refused(), X)
        assert program.capture == "symbolic_trace"
        assert any("torch.export refused" in note for note in program.notes)

    def test_a_traced_graph(self) -> None:
        program = passes.load(fx.symbolic_trace(Small()), X, torch.rand(2))
        assert {op.target for op in program.ops} >= {"self.linear", "operator.mul"}

    def test_a_made_graph_has_recorded_its_inputs(self) -> None:
        from torch.fx.experimental.proxy_tensor import make_fx

        made = make_fx(lambda x: x.sin() + 1, tracing_mode="fake")(X)
        assert passes.load(made).op("sin").target == "aten.sin.default"

    def test_a_dynamo_graph(self) -> None:
        seen: list[passes.Program] = []

        def backend(module: fx.GraphModule, inputs: list[Tensor]) -> object:
            seen.append(passes.load(module))
            return module.forward

        torch._dynamo.reset()
        compiled = torch.compile(Small(), backend=backend)
        compiled(X)
        (program,) = seen
        roles = {entry.role for entry in program.entry.values}
        assert Role.PARAMETER in roles
        assert not program.assumed

    def test_a_file_with_trust(self, saved: Path) -> None:
        program = passes.load(saved, trust=True)
        assert str(saved) in program.capture
        assert (
            passes.memory(program).peak_bytes == passes.memory(passes.load(Small(), X)).peak_bytes
        )

    def test_meta_inputs_meet_parameters_on_their_device(self) -> None:
        program = passes.load(fx.symbolic_trace(Small()), X.to("meta"), X[0, :2].to("meta"))
        assert {v.type.device for v in program.values if v.type} == {"cpu"}

    def test_dynamic_sizes_are_taken_from_the_examples(self) -> None:
        rows = torch.export.Dim("rows", min=2, max=64)
        exported = torch.export.export(Small(), (X,), dynamic_shapes=({0: rows},))
        small, large = passes.load(exported, X), passes.load(exported, torch.rand(30, 4))
        assert any("dynamic dimensions" in note for note in small.notes)
        assert passes.memory(large).peak_bytes == 10 * passes.memory(small).peak_bytes


class TestBadInput:
    """Never a traceback from inside, never a wrong answer in silence."""

    def test_a_file_without_trust(self, saved: Path) -> None:
        with pytest.raises(TrustError, match=r"trust=True .*--trust"):
            passes.load(saved)

    @pytest.mark.parametrize("junk", [b"", b"hello", b"\x80\x04}q\x00."])
    def test_a_file_that_is_no_archive(self, tmp_path: Path, junk: bytes) -> None:
        path = tmp_path / "junk.pt2"
        path.write_bytes(junk)
        with pytest.raises(CaptureError, match=r"not a \.pt2 file"):
            passes.load(path, trust=True)

    def test_a_foreign_archive(self, tmp_path: Path) -> None:
        path = tmp_path / "foreign.pt2"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("hello.txt", "hello")
        with pytest.raises(CaptureError, match="torch cannot read"):
            passes.load(path, trust=True)

    def test_a_damaged_file(self, saved: Path) -> None:
        whole = saved.read_bytes()
        saved.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(CaptureError, match=r"not a \.pt2 file|torch cannot read"):
            passes.load(saved, trust=True)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(CaptureError, match="No such file"):
            passes.load(tmp_path / "none.pt2", trust=True)

    @pytest.mark.parametrize("thing", [42, None, {"a": 1}, io.BytesIO(), nn.Module])
    def test_not_a_model(self, thing: object) -> None:
        with pytest.raises(CaptureError, match=r"cannot load a .*: give an nn\.Module"):
            passes.load(thing)

    def test_no_inputs(self) -> None:
        with pytest.raises(CaptureError, match="Small needs example inputs"):
            passes.load(Small())
        with pytest.raises(CaptureError, match="does not say what its input x is like"):
            passes.load(fx.symbolic_trace(Small()))

    def test_too_many_inputs(self) -> None:
        with pytest.raises(CaptureError, match=r"takes 2 inputs \(x, bias\) and was given 3"):
            passes.load(fx.symbolic_trace(Small()), X, X, X)

    def test_an_input_of_another_shape_or_kind(self) -> None:
        exported = torch.export.export(Small(), (X,))
        with pytest.raises(CaptureError, match=r"input x is .*\(5, 4\); .* captured for"):
            passes.load(exported, torch.rand(5, 4))
        with pytest.raises(CaptureError, match=r"float64.*captured for torch\.float32"):
            passes.load(exported, X.double())
        with pytest.raises(CaptureError, match="should be a tensor"):
            passes.load(exported, 3)

    def test_inputs_that_do_not_fit_show_the_op_and_the_line(self) -> None:
        with pytest.raises(CaptureError) as raised:
            passes.load(fx.symbolic_trace(Small()), torch.rand(3, 5), X)
        message = str(raised.value)
        assert "node linear fails" in message
        assert "call_module[target=linear]" in message
        assert "^^^" in message

    def test_a_module_that_cannot_be_captured_gives_both_reasons(self) -> None:
        class Hopeless(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.tensor([1.0]) if x.sum() > 0 else x

        with pytest.raises(CaptureError) as raised:
            passes.load(Hopeless(), X)
        message = str(raised.value)
        assert "torch.export:" in message
        assert "symbolic_trace:" in message
        assert "if x.sum() > 0" in message
        assert "torch.cond" in message

    def test_a_module_that_rebinds_a_tensor_is_refused_by_name(self) -> None:
        class Keeps(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.last = torch.zeros(3, 4)

            def forward(self, x: Tensor) -> Tensor:
                self.last = x + 1
                return self.last

        class Leaves(fx.Tracer):
            def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
                return True

        root = nn.Sequential(Keeps())
        graph = fx.Graph()
        graph.output(graph.call_module("0", (graph.placeholder("x"),)))
        with pytest.raises(CaptureError, match=r"module 0 \(.*Keeps\) replaces one of its tensors"):
            passes.load(fx.GraphModule(root, graph), X)


def test_an_op_without_a_fake_kernel_is_counted() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(torch.Tensor.tolist, (x,)))
    program = passes.load(fx.GraphModule(nn.Module(), graph), X)
    assert [op.name for op in program.assumed] == ["tolist"]


def test_tracing_records_an_augmented_assignment_as_the_write_it_is() -> None:
    """torch.fx alone records `y += 1` as `y = y + 1`."""

    class Adds(nn.Module):
        def forward(self, x: Any) -> Any:
            if not _is_traced(x):
                raise RuntimeError("not while exporting")
            y = x * 2
            z = y.view(-1)
            z += 1
            return y

    program = passes.load(Adds(), X)
    assert program.capture == "symbolic_trace"
    (written,) = {s for op in program.walk() for s in passes.aliases(program).written_by(op)}
    assert written.id == "mul"


def test_inputs_that_no_capture_takes_are_told_as_such() -> None:
    """What fails is told of both ways, and the first question is whether it runs at all."""
    with pytest.raises(CaptureError) as caught:
        passes.load(nn.Linear(4, 4), torch.rand(8, 5))
    text = str(caught.value)
    assert text.count("must have same reduction dim") == 2
    assert "Does it run with these inputs?" in text
    assert not any(line.endswith(":") for line in text.splitlines())
