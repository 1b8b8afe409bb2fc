"""The command, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from passes.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_show_prints_an_op_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "examples.models:linear_model"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (relu,) = [line for line in lines if line.startswith("relu_ ")]
    assert relu.split()[-2:] == ["=linear", "!linear"]
    (mul,) = [line for line in lines if line.startswith("mul ")]
    assert mul.split()[-2:] == ["+mul", "-x1"]


def test_memory_says_where_the_peak_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "examples.models:linear_model"]) == 0
    out = capsys.readouterr().out
    assert "peak  128 B of intermediates, while linear runs" in out
    assert "module linear1" in out
    assert "examples/models.py:" in out
    assert "temporaries inside one op are not counted" in out


def test_effects_are_observed_or_declared(capsys: pytest.CaptureFixture[str]) -> None:
    answers = {}
    for way in ("observed", "declared"):
        assert main(["memory", "--effects", way, "examples.models:linear_model"]) == 0
        answers[way] = capsys.readouterr().out.splitlines()
    observed, declared = answers.values()
    assert [line for line in declared if line not in observed] == [
        "  note: effects are those of the operators' schemas and tables; no op was executed"
    ]
    assert [line for line in observed if line not in declared] == []


def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "--json", "examples.models:linear_model"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["peak_bytes"] == 128
    assert answer["peak_at"]["name"] == "linear"
    assert answer["entry_bytes"]["parameter"] == 160
    assert max(answer["timeline"]) == 128

    assert main(["show", "--json", "examples.models:linear_model"]) == 0
    answer = json.loads(capsys.readouterr().out)
    (linear,) = [c for c in answer["storage_classes"] if c["id"] == "linear"]
    assert linear["members"] == ["linear", "relu_"]


def test_dynamic_dimensions_have_a_peak_for_all_sizes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "linear.pt2")
    sizes = ({0: torch.export.Dim("batch")},)
    linear = torch.export.export(nn.Linear(4, 8), (torch.rand(2, 4),), dynamic_shapes=sizes)
    torch.export.save(linear, path)

    assert main(["memory", path, "--trust"]) == 0
    assert "  32*input.shape[0]  while linear runs" in capsys.readouterr().out

    assert main(["memory", path, "--trust", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)["symbolic"]
    assert [symbol["name"] for symbol in answer["symbols"]] == ["input.shape[0]"]
    assert [piece["bytes"] for piece in answer["peak"]] == ["32*input.shape[0]"]
    assert answer["entry_bytes"]["parameter"] == "160"
    assert answer["refused"] is None


def test_a_peak_for_all_sizes_may_be_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Grown(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x.new_ones(2)
            y.resize_(x.shape[0], 2)
            return y + 1

    path = str(tmp_path / "grown.pt2")
    sizes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(Grown(), (torch.rand(3, 4),), dynamic_shapes=sizes), path)
    assert main(["memory", path, "--trust"]) == 0
    assert "is not known: new_ones has 8 bytes" in capsys.readouterr().out

    assert main(["memory", path, "--trust", "--json"]) == 0
    assert "new_ones" in json.loads(capsys.readouterr().out)["symbolic"]["refused"]


def test_what_has_recorded_its_inputs_may_come_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = """
import torch
def exported(): return torch.export.export(torch.nn.ReLU(), (torch.ones(4),))
def alone(): return torch.nn.ReLU()
"""
    (tmp_path / "come_alone.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    for options in ([], ["--budget", "1KiB"]):
        assert main(["memory", "come_alone:exported", *options]) == 0
        assert "16 B" in capsys.readouterr().out
    assert main(["show", "come_alone:alone"]) == 2
    assert "ReLU needs example inputs" in capsys.readouterr().err


def test_a_file_needs_trust(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "linear.pt2"
    torch.export.save(torch.export.export(nn.Linear(4, 4), (torch.rand(2, 4),)), path)

    assert main(["memory", str(path)]) == 2
    assert "--trust" in capsys.readouterr().err
    assert main(["memory", "--trust", str(path)]) == 0
    assert "peak  32 B" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nowhere.pt2", "No such file"),
        ("nowhere", "there is no file 'nowhere'"),
        ("nowhere:model", "cannot import nowhere"),
        ("examples.models:nothing", "examples.models has no function nothing"),
        ("examples.models:Bottleneck", "raised TypeError"),
        ("os:getcwd", "(model, inputs) or (model, args, kwargs), and returned a str"),
        ("os:uname", "and has 5 parts"),
        ("LICENSE", "not a .pt2 file"),
        ("examples/models.py:gpt2", "not its file: examples.models:gpt2"),
        ("sys:exit", "raised SystemExit"),
    ],
)
def test_a_wrong_model_is_told_what_to_do(
    model: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["memory", model]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("dataflow: ")
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("name", ["source", "trust", "args"])
def test_inputs_may_have_any_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "named.py").write_text(
        f"""\
import torch
from torch import nn

class Named(nn.Module):
    def forward(self, {name}):
        return {name} + 1

def make():
    return Named(), (), {{"{name}": torch.rand(4)}}
""",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "named", raising=False)
    assert main(["memory", "named:make"]) == 0
    assert "peak  16 B" in capsys.readouterr().out


def test_an_error_of_ours_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("passes.cli._answer", lambda arguments: 1 // 0)
    assert main(["memory", "examples.models:linear_model", "--budget", "1 B"]) == 2
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "dataflow: ZeroDivisionError" in told
    assert told.endswith("please report it\n")


@pytest.mark.parametrize("options", [[], ["--budget", "1MiB"]])
def test_what_a_model_prints_is_no_part_of_the_answer(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
) -> None:
    name = f"talking{len(options)}"
    (tmp_path / f"{name}.py").write_text(
        "import torch\n"
        "print('loading')\n"
        "def make():\n"
        "    print('making')\n"
        "    return torch.nn.ReLU(), torch.rand(4), {}\n"
        "def without():\n"
        "    return torch.nn.ReLU(), torch.rand(4), None\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["memory", f"{name}:make", "--json", *options]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["peak_bytes"] == 16
    assert told.err.startswith("loading\nmaking\n")  # how long it takes may come after
    assert main(["memory", f"{name}:without", *options]) == 2
    assert "kwargs should be a mapping by name, and is a NoneType" in capsys.readouterr().err


def test_the_installed_command_runs() -> None:
    """Through the console script's own entry point, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "passes", "memory", "examples.models:linear_model"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "peak  128 B" in done.stdout


def test_progress_goes_to_stderr_and_only_when_it_takes_long(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from time import sleep

    from passes.cli import _progress

    with _progress("working", patience=0.05):
        sleep(0.2)
    slow = capsys.readouterr()
    assert "working: 0 s" in slow.err
    assert slow.out == ""
    with _progress("working", patience=5):
        pass
    assert capsys.readouterr().err == ""


# ------------------------------------------------------------------------------ does it fit


def _write(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    (folder / f"{name}.py").write_text(
        """\
import torch
from torch import nn

class Scored(nn.Linear):
    def forward(self, x):
        return {"loss": super().forward(x).square().mean()}

def large():  # 16 GiB
    return nn.Linear(1 << 16, 1 << 16, bias=False), torch.rand(1, 1 << 16)

def small():
    return nn.Linear(8, 4), (torch.rand(2, 8), torch.tensor([0, 1]))

def deep():
    layers = [nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(8)]
    return nn.Sequential(*layers, nn.Linear(8, 4)), (torch.rand(64, 8), torch.arange(64) % 4)

def alone():
    return nn.Linear(8, 4), torch.rand(2, 8)

def scored():
    return Scored(8, 4), (), {"x": torch.rand(2, 8)}

def reads():
    return nn.Linear(int(torch.ones(8).sum().item()), 4), torch.rand(2, 8)
""",
        encoding="utf-8",
    )
    monkeypatch.chdir(folder)
    return name


def test_a_budget_decides_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = _write(tmp_path, monkeypatch, "cli_budget")
    assert main(["memory", f"{name}:large", "--budget", "24GiB"]) == 0
    assert capsys.readouterr().out.startswith("Linear fits: needs 16.0 GiB of 24.0 GiB")
    assert main(["memory", f"{name}:large", "--budget", "24GiB", "--dtype", "float64"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("Linear does not fit: needs 32.0 GiB of 24.0 GiB, 8.0 GiB are missing")
    assert "aten." in out.splitlines()[1]
    assert main(["memory", f"{name}:large", "--budget", "24GiB", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["fits"] is True
    assert answer["needed"] == sum(answer["by_category"].values()) == 4 * 2**32 + 2 * 4 * 2**16
    assert answer["margin"] == answer["budget"] - answer["needed"]


def test_training_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = _write(tmp_path, monkeypatch, "cli_train")
    step = ["memory", f"{name}:scored", "--train"]
    assert main([*step, "--optimizer", "adamw", "--budget", "1 MiB"]) == 0
    out = capsys.readouterr().out
    assert "minimised is the model's output 'loss', since no loss was given" in out
    assert " state" in out
    assert main([*step, "--budget", "1 MiB"]) == 0  # no update
    assert " state" not in capsys.readouterr().out
    assert main([*step, "--optimizer", "adamw"]) == 0  # no budget: what is needed
    assert "optimizer state 296 B" in capsys.readouterr().out
    loss = ["--loss", "torch.nn.functional:cross_entropy"]
    assert main(["memory", f"{name}:small", *loss, "--budget", "1 MiB"]) == 0
    assert " gradient" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["alone", "--budget", "24 apples"], "is no amount of memory"),
        (["alone", "--budget", ""], "is no amount of memory"),
        (["alone", "--budget", "6144"], "has no unit: give '6144 B'"),
        (["alone", "--train"], "Give a loss"),
        (["small", "--train"], "cannot be called with these inputs"),
        (["alone", "--loss", "nothing"], "it is not module:function, such as torch.nn"),
        (["alone", "--optimizer", "adamx"], "known by name are"),
        (["alone", "--dtype", "int8"], "floating dtype"),
        (["reads", "--budget", "1MiB"], "fails on the meta device"),
        (["alone", "--dynamic", "batch"], "as in batch=x:0,target:0"),
        (["alone", "--dynamic", "batch=input:0,target"], "as in batch=x:0,target:0"),
        (["alone", "--dynamic", "batch=y:0"], "there is no such input; there are input"),
        (["alone", "--dynamic", "batch=input:2"], "has no dim 2"),
    ],
)
def test_what_cannot_be_asked_of_a_budget(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    factory, *rest = options
    name = _write(tmp_path, monkeypatch, "cli_refused")
    assert main(["memory", f"{name}:{factory}", *rest]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_factory_that_reads_data_is_called_as_it_is_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = _write(tmp_path, monkeypatch, "cli_real")
    assert main(["memory", f"{name}:reads", "--budget", "1MiB", "--real"]) == 0
    assert "Linear fits" in capsys.readouterr().out


def test_dynamic_sizes_are_asked_for_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = _write(tmp_path, monkeypatch, "cli_dynamic")
    forward = ["memory", f"{name}:alone", "--dynamic", "batch..64=input:0"]
    assert main(forward) == 0
    out = capsys.readouterr().out
    assert "  16*batch  while addmm runs" in out
    assert "  batch >= 2, <= 64  is input.shape[0]" in out
    assert "largest" not in out
    # 144 B of parameters, 32 B of input and 16 B of output for each.
    for budget, told in (
        ("400 B", "largest batch that fits: 5; needs 384 B\n  for 6, 32 B would be missing"),
        ("1 MiB", "largest batch that fits: 64; needs 3.1 KiB\n  its range ends there"),
    ):
        assert main([*forward, "--budget", budget]) == 0
        assert told in capsys.readouterr().out
    assert main([*forward, "--budget", "150 B"]) == 1
    assert "no batch fits: the smallest needs 192 B" in capsys.readouterr().out


def test_dynamic_sizes_of_a_training_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = _write(tmp_path, monkeypatch, "cli_dynamic_step")
    loss = ["--loss", "torch.nn.functional:cross_entropy", "--optimizer", "adamw"]
    sizes = ["--dynamic", "batch=input:0,target:0", "--budget", "1 MiB", "--json"]
    assert main(["memory", f"{name}:small", *loss, *sizes]) == 0
    answer = json.loads(capsys.readouterr().out)
    (found,) = answer["largest_sizes"]
    assert found["total_bytes"] <= 2**20 < found["next_bytes"]
    assert (found["symbol"], found["limit"], found["refused"]) == ("batch", "budget", None)
    assert found["value"] > answer["symbolic"]["symbols"][0]["example"]


def test_advice_on_a_training_step_goes_as_low_as_a_budget_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = _write(tmp_path, monkeypatch, "cli_advise")
    step = ["--train", "--loss", "torch.nn.functional:cross_entropy", "--json"]
    assert main(["advise", f"{name}:deep", *step]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["suggestions"][0]["kind"] == "recompute"
    lowest = answer["suggestions"][0]["peak_bytes"]
    budget = (answer["peak_bytes"] + lowest) // 2
    assert main(["advise", f"{name}:deep", *step, "--budget", f"{budget} B"]) == 0
    found = json.loads(capsys.readouterr().out)["suggestions"][0]
    assert lowest < found["peak_bytes"] <= budget
    assert found["extra_flops"] < answer["suggestions"][0]["extra_flops"]


def test_effects_are_observed_where_a_model_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["memory", "examples.models:gpt2", "--train", "--effects", "declared"])
    assert caught.value.code == 2
    assert "--effects" in capsys.readouterr().err


def test_a_file_may_be_compared_with_a_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "linear.pt2"
    torch.export.save(torch.export.export(nn.Linear(4, 4), (torch.rand(2, 4),)), path)
    assert main(["memory", str(path), "--trust", "--budget", "100 B"]) == 1
    assert "Linear does not fit: needs 144 B of 100 B" in capsys.readouterr().out
    assert main(["memory", str(path), "--trust", "--budget", "1 kB", "--train"]) == 2
    assert "cannot be trained" in capsys.readouterr().err
