"""The list of mutants that survive: `survivors.txt`, each with the reason.

    dataflow/solve.py  Sweep.widen
        - the line
        + the line with the mistake
      Why no test sees it, on one or more lines.

A line is given as it stands, not by its number, so the list outlives edits elsewhere.  `(2)`
after the function is the second of two equal mistakes in equal lines.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from attrs import frozen

LIST = Path(__file__).parent / "survivors.txt"
_ENTRY = re.compile(
    r"(?P<file>\S+)  (?P<where>\S+)(?: \((?P<which>\d+)\))?\n"
    r"    - (?P<before>.*)\n"
    r"    \+ (?P<after>.*)\n"
    r"(?P<reason>(?:  \S.*\n)+)"
)


@frozen
class Survivor:
    """A mutant of a file, by what it changes."""

    file: str
    where: str
    before: str
    after: str
    which: int = 1

    def __str__(self) -> str:
        which = f" ({self.which})" if self.which > 1 else ""
        return f"{self.file}  {self.where or '-'}{which}\n    - {self.before}\n    + {self.after}"


def parsed(text: str) -> dict[Survivor, str]:
    """Survivors and the reasons; raises `ValueError` where the text is no such list."""
    found: dict[Survivor, str] = {}
    for paragraph in filter(None, text.split("\n\n")):
        entry = _ENTRY.fullmatch(paragraph.rstrip("\n") + "\n")
        if entry is None:
            raise ValueError(f"no survivor with a reason:\n{paragraph}")
        file, where, which, before, after, reason = entry.group(
            "file", "where", "which", "before", "after", "reason"
        )
        key = Survivor(file, where.removeprefix("-"), before, after, int(which or 1))
        if key in found:
            raise ValueError(f"listed twice:\n{key}")
        found[key] = " ".join(reason.split())
    return found


@cache
def listed() -> dict[Survivor, str]:
    """Those of `survivors.txt`."""
    return parsed(LIST.read_text())
