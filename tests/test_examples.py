"""The examples run: every script, and every model through the command."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples import models
from passes.cli import main
from tests.test_docs import blocks

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = [path for path in sorted((ROOT / "examples").glob("*.py")) if path.stem != "models"]
FACTORIES = [
    name
    for name, factory in inspect.getmembers(models, inspect.isfunction)
    if factory.__module__ == models.__name__
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_runs(script: Path) -> None:
    done = subprocess.run(
        [sys.executable, script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("name", FACTORIES)
def test_a_model_has_a_peak(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["memory", f"examples.models:{name}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("peak  ") and not line.startswith("peak  0 B") for line in lines)
    assert not any("were not observed" in line for line in lines)


def test_all_models_are_tried() -> None:
    assert {"linear_model", "gpt2", "resnet50"} <= set(FACTORIES)


def test_the_first_analysis_is_the_one_of_its_page() -> None:
    """The page and the script have the same code, imports aside."""
    page = ROOT / "docs" / "tutorial" / "first-analysis.md"
    told = [block.text for block in blocks(page) if block.language == "python"]
    script = (ROOT / "examples" / "first_analysis.py").read_text(encoding="utf-8")
    assert statements("\n".join(told)) == statements(script)


def statements(code: str) -> list[str]:
    """The statements of a program, without imports and its own docstring."""
    return [
        ast.unparse(statement)
        for number, statement in enumerate(ast.parse(code).body)
        if not isinstance(statement, (ast.Import, ast.ImportFrom))
        and not (number == 0 and isinstance(statement, ast.Expr))
    ]
