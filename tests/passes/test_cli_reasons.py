"""`dataflow memory --by --explain` and `dataflow advise`, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from passes.cli import main

ROOT = Path(__file__).resolve().parents[2]
MODEL = "examples.models:linear_model"


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def _lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(arguments) == 0
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def test_by_category(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _lines(capsys, "memory", MODEL, "--by", "category")
    place = lines.index("everything at the peak, 416 B, by category:")
    assert lines[place + 1 :] == [
        "160 B  parameter",
        "128 B  input",
        "128 B  temporary",
    ]


def test_by_module_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _lines(capsys, "memory", MODEL, "--by", "module", "--by", "source")
    assert "everything at the peak, 416 B, by module:" in lines
    assert "144 B  linear1" in lines
    assert "everything at the peak, 416 B, by source:" in lines
    assert "64 B  examples/models.py:22: x1 = x1 * 2" in lines


def test_there_is_no_other_way(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["memory", MODEL, "--by", "colour"])
    assert "category" in capsys.readouterr().err


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _lines(capsys, "memory", MODEL, "--explain")
    place = lines.index("why the largest are alive while linear runs:")
    assert lines[place + 1].startswith("64 B  linear, temporary")
    assert lines[place + 2].startswith("allocated by op 7, examples/models.py:23: x1 = ")
    assert lines[place + 3].startswith("held until linear_1, op 9, as linear -> relu_, examples/")
    assert lines[place + 4].startswith("used before by relu_, op 8, examples/models.py:24")


def test_explain_is_of_memory_only() -> None:
    with pytest.raises(SystemExit):
        main(["show", MODEL, "--explain"])


def test_words_are_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    for option in (["--by", "module"], ["--explain"]):
        with pytest.raises(SystemExit, match="2"):
            main(["memory", MODEL, "--json", *option])
        assert "leave out --json" in capsys.readouterr().err


def test_advise(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _lines(capsys, "advise", MODEL)
    assert "peak  416 B of everything, while linear runs" in lines
    assert "1. donate: 64 B less" in lines
    assert "let the caller give away x1, keeping no reference to it" in lines


@pytest.mark.parametrize(
    ("budget", "status", "told"),
    [
        ("416 B", 0, "budget 416 B: the peak is within it already"),
        ("352 B", 0, "budget 352 B: the peak gets within it by 1"),
        ("351 B", 1, "budget 351 B: no one change was found that gets the peak within it"),
    ],
)
def test_advise_for_a_budget(
    capsys: pytest.CaptureFixture[str], budget: str, status: int, told: str
) -> None:
    assert main(["advise", MODEL, "--real", "--budget", budget]) == status
    assert told in capsys.readouterr().out


def test_advise_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise", "--json", MODEL]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["peak_bytes"] == 416
    assert answer["peak_at"]["name"] == "linear"
    (found,) = answer["suggestions"]
    assert found["kind"] == "donate"
    assert found["saved_bytes"] == 64
    assert found["donated"] == ["x1"]
    (note,) = answer["not_searched"]
    assert note.endswith("of the sizes that the program was loaded with")
