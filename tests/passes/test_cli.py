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
        ("os:getcwd", "should return (model, inputs)"),
        ("LICENSE", "not a .pt2 file"),
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
