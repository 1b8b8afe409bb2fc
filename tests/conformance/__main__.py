"""`make conformance`: every operator, every capture, with progress; then the table."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.conformance.calls import calls_of, operators
from tests.conformance.extra import EXTRA
from tests.conformance.suite import Tally, conform
from tests.conformance.table import page, remaining

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "operator-conformance.md"
LEFT = Path(__file__).parent / "left.txt"


def main(names: list[str]) -> int:
    """Run the suite over the named operators, or all; 1 if anything is missed or false."""
    tally = Tally()
    start = time.monotonic()
    every = operators()
    chosen = {name: infos for name, infos in every.items() if not names or name in names}
    for number, (name, infos) in enumerate(chosen.items(), 1):
        calls = list(calls_of(infos))
        for call in calls:
            conform(call, tally)
        _progress(tally, number, len(chosen), name, len(calls), start)
    for call in EXTRA:
        if not names or call.operator in names:
            conform(call, tally)
    for finding in tally.of("missed", "false", "short", "disagrees"):
        print(finding)
    if names:
        for finding in tally.of("uncertain", "refused", "not captured"):
            print(finding)
    report = page(tally, len(chosen), len(EXTRA))
    print(report)
    if not names:
        DOCS.write_text(report)
        LEFT.write_text(remaining(tally))
    return 1 if tally.of("missed", "false", "short", "disagrees") else 0


def _progress(tally: Tally, number: int, total: int, name: str, calls: int, start: float) -> None:
    wrong = len(tally.of("missed", "false", "short", "disagrees"))
    unsure = len(tally.of("uncertain", "refused", way="observed"))
    print(
        f"[{number}/{total}] {time.monotonic() - start:5.0f} s  {name}: {calls} calls;"
        f" so far {wrong} wrong, {unsure} uncertain",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
