"""What is installed is all there is."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_package_is_installed() -> None:
    """An editable installation would not miss one that the list does not have."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = [
        path.parent for name in ("dataflow", "passes") for path in ROOT.glob(f"{name}/**/*.py")
    ]
    assert sorted(listed) == sorted({".".join(f.relative_to(ROOT).parts) for f in found})
