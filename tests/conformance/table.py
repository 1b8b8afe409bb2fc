"""What the suite found, as a page of the documentation and as a list of what is left."""

from __future__ import annotations

import torch

from tests.conformance.captures import CAPTURES
from tests.conformance.suite import WAYS, Tally

HEAD = """# Operator conformance

What the passes claim of torch's operators, against runs on real tensors.  Written by
`make conformance`.

The calls are those of torch's own table of operators with samples: each operator as a function,
as a method, in place, and with `out=`, wherever it has these, and {extra} calls of operators that
the table lacks.  Each is captured in three ways, each graph is loaded in two
(`passes.load(..., effects=...)`), and every claim is compared with the storages, the bytes
and the version counters of the same graph executed.

- *missed*: calls with an alias or a write that was not claimed.
- *false*: calls with a certain claim that the run does not show.
- *short*: calls with fewer bytes claimed alive than there are.
- *certain*: the share answered without "may", "unknown" or a refusal.
- *disagrees*: calls where the two ways give different certain answers.

Not counted are calls that the capture itself refuses, and calls with tensors that have no single
storage, such as sparse ones.  Left out are calls with an `out=` that torch leaves as it was
(`fft.ihfft2` and `fft.ihfftn` along one dimension).
"""


def page(tally: Tally, operators: int, extra: int, samples: int) -> str:
    """The summary in Markdown."""
    lines = [
        HEAD.format(extra=extra),
        f"{operators} operators of the table, {samples} samples at most of each variant, and a "
        f"quarter as many of other dtypes, torch {torch.__version__.partition('+')[0]}, CPU.",
        "",
        "| capture | effects | calls | judged | missed | false | short | certain | disagrees |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for capture in CAPTURES:
        for way in WAYS[capture]:
            count = tally.counts
            lines.append(
                f"| `{capture}` | {way} | {tally.calls[capture, way]:,} "
                f"| {tally.judged(capture, way):,} | {count[capture, way, 'missed']} "
                f"| {count[capture, way, 'false']} | {count[capture, way, 'short']} "
                f"| {tally.certain(capture, way):.2%} | {count[capture, way, 'disagrees']} |"
            )
    return "\n".join(lines) + "\n"


def remaining(tally: Tally) -> str:
    """What observed effects leave open, one line per operator, variant and capture."""
    found = {finding.line for finding in tally.of("uncertain", "refused", way="observed")}
    return "".join(f"{line}\n" for line in sorted(found))
