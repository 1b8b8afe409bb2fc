"""Who may import whom.

dataflow          the standard library and attrs; hypothesis only where laws.py asks for it
passes.program    dataflow
passes.census     the program: what its ops say by themselves
passes.symbolic   its sizes, bounds and dynamic: what a program with symbols is made of
passes.frontends  the program and its census, and torch
passes.*          the analyses: everything below, but no frontend while being imported
passes.report     everything below
passes.cli        everything; only `python -m passes` knows of it
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).parents[2]
SYMBOLS = ("passes.symbolic.sizes", "passes.symbolic.bounds", "passes.symbolic.dynamic")
FILES = [path for package in ("dataflow", "passes") for path in (ROOT / package).rglob("*.py")]


@frozen
class Import:
    """A module that is imported; `late` if only when a function runs or for types."""

    module: str
    late: bool

    def within(self, *packages: str) -> bool:
        return any(f"{self.module}.".startswith(f"{package}.") for package in packages)


def imports(source: str, module: str, is_package: bool = False) -> Iterator[Import]:
    """All imports of a module, relative ones spelled out; `from a import b` gives a and a.b."""
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(source), False)]
    while pending:
        node, late = pending.pop()
        late |= isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        late |= isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        pending += [(child, late) for child in ast.iter_child_nodes(node)]
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level + is_package or None] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            yield Import(base, late)
            yield from (Import(f"{base}.{alias.name}", late) for alias in node.names)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def breaches(source: str, module: str, is_package: bool = False) -> list[str]:
    """The imports of a module that point up, or out."""
    me = Import(module, late=False)
    found = []
    for other in imports(source, module, is_package):
        if me.within("dataflow"):
            good = other.within("dataflow", "attrs", *sys.stdlib_module_names)
            good |= module == "dataflow.laws" and other.late and other.within("hypothesis")
        elif me.within("passes.frontends"):
            ours = (
                "passes.program",
                "passes.census",
                "passes.errors",
                "passes.frontends",
                *SYMBOLS,
            )
            good = not other.within("passes") or other.within(*ours) or other.module == "passes"
        else:
            good = other.late or not other.within("torch", "transformers")
            if not me.within(
                "passes.report", "passes.cli", "passes.__main__", "passes.pytest_plugin"
            ):
                above = ("passes.frontends", "passes.report")
                good &= other.late or not other.within(*above)
        if me.within("passes") and not me.within("passes.cli", "passes.__main__"):
            good &= not other.within("passes.cli")
        if not good:
            found.append(other.module)
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    """No file of the two packages imports what stands above it."""
    source = path.read_text(encoding="utf-8")
    assert breaches(source, name_of(path), path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dataflow.solve", "import torch"),
        ("dataflow.solve", "import numpy.linalg"),
        ("dataflow.solve", "from passes import program"),
        ("dataflow.solve", "def late():\n    import passes.program"),
        ("dataflow.solve", "def late():\n    import hypothesis"),
        ("dataflow.laws", "from hypothesis import given"),
        ("passes.alias", "import torch"),
        ("passes.alias", "from torch.fx import Node"),
        ("passes.alias", "try:\n    import torch\nexcept ImportError:\n    pass"),
        ("passes.alias", "from passes.frontends.fx import trace"),
        ("passes.alias", "from passes import frontends"),
        ("passes.alias", "from . import report"),
        ("passes.alias", "from .report.table import show"),
        ("passes.program", "class A:\n    import passes.report"),
        ("passes.program", "def late():\n    import passes.cli"),
        ("passes.frontends.fx", "from passes.alias import Aliases"),
        ("passes.frontends.fx", "from ..report import show"),
        ("passes.report.html", "import torch"),
        ("passes.report.html", "from passes.cli import main"),
    ],
)
def test_an_import_that_points_up_is_found(module: str, source: str) -> None:
    """In every spelling, and also where only a function does it if that is forbidden."""
    assert breaches(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dataflow.solve", "import os.path\nfrom attrs import frozen\nfrom dataflow import graph"),
        ("dataflow.laws", "def check():\n    from hypothesis import given"),
        ("dataflow.laws", "if TYPE_CHECKING:\n    from hypothesis import given"),
        ("passes.alias", "from passes.program import Op\nfrom dataflow import solve"),
        ("passes.alias", "def capture():\n    import torch\n    from passes.frontends import fx"),
        ("passes.frontends.fx", "import torch\nfrom ..program import Op\nfrom . import effects"),
        ("passes.report.html", "from passes import alias\nfrom ..memory import peak"),
        ("passes.__main__", "from passes.cli import main"),
    ],
)
def test_an_import_that_points_down_is_allowed(module: str, source: str) -> None:
    """The arrows forbid no more than they say."""
    assert breaches(source, module) == []


@pytest.mark.parametrize("package", ["dataflow", "passes"])
def test_importing_a_package_does_not_load_torch(package: str) -> None:
    """A report can be read, and a lattice written, where there is no torch."""
    code = f"import sys, {package}; print({package}.__file__, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(ROOT / package / "__init__.py"), "False"]
