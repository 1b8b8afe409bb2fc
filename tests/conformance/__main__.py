"""`make conformance`: every operator, every capture, with progress; then the table."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.conformance.calls import SEVERAL, calls_of, operators
from tests.conformance.extra import EXTRA
from tests.conformance.suite import Tally, conform
from tests.conformance.table import page, remaining

WRONG = ("missed", "false", "short", "disagrees")
DOCS = Path(__file__).parents[2] / "docs" / "reference" / "operator-conformance.md"
LEFT = Path(__file__).parent / "left.txt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite over the named operators, or all; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="OPERATOR", help="all, and a page, if none")
    parser.add_argument("--samples", type=int, default=SEVERAL, help="of an operator's first dtype")
    options = parser.parse_args(arguments)
    names = options.names
    tally = Tally()
    start = time.monotonic()
    told = 0
    every = operators()
    chosen = {name: infos for name, infos in every.items() if not names or name in names}
    for number, (name, infos) in enumerate(chosen.items(), 1):
        calls = list(calls_of(infos, options.samples, -(-options.samples // 4)))
        for call in calls:
            conform(call, tally)
        told = _tell(tally, told, bool(names))
        _progress(tally, number, len(chosen), name, len(calls), start)
    for call in EXTRA:
        if not names or call.operator in names:
            conform(call, tally)
    _tell(tally, told, bool(names))
    report = page(tally, len(chosen), len(EXTRA), options.samples)
    print(report)
    if not names:
        DOCS.write_text(report)
        LEFT.write_text(remaining(tally))
    return 1 if tally.of(*WRONG) else 0


def _tell(tally: Tally, told: int, everything: bool) -> int:
    """Print the findings since `told`, each kind once; how many there are."""
    new = [f for f in tally.findings[told:] if everything or f.outcome in (*WRONG, "uncertain")]
    for line in dict.fromkeys(map(str, new)):
        print(f"    {line}")
    return len(tally.findings)


def _progress(tally: Tally, number: int, total: int, name: str, calls: int, start: float) -> None:
    wrong = len(tally.of(*WRONG))
    unsure = len(tally.of("uncertain", "refused", way="observed"))
    print(
        f"[{number}/{total}] {time.monotonic() - start:5.0f} s  {name}: {calls} calls;"
        f" so far {wrong} wrong, {unsure} uncertain",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
