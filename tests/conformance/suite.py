"""The suite: every call through every capture, each claim judged, the outcomes counted."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Literal

import torch
from attrs import define, field, frozen
from torch import Tensor

import passes
from passes import Program
from tests.conformance.calls import Call
from tests.conformance.captures import CAPTURES, Captured, quiet
from tests.conformance.judge import disagreements, judge
from tests.oracle.run import Run, observe

Way = Literal["observed", "declared"]
WAYS: Mapping[str, Sequence[Way]] = {
    "symbolic_trace": ("observed",),  # such a graph records neither operators nor types
    "torch.export": ("observed", "declared"),
    "make_fx": ("observed", "declared"),
}

OUTCOMES = (
    "not captured",  # torch's capture refuses the call
    "no storages",  # sparse and the like: the run has no single storages to compare with
    "refused",  # `passes.load` refuses what runs
    "missed",
    "false",
    "short",
    "uncertain",
    "disagrees",
)


@frozen
class Finding:
    """Something other than a certain, true answer."""

    outcome: str
    call: str
    capture: str
    way: str
    detail: str

    @property
    def line(self) -> str:
        """Which operator, in which variant and capture, whatever the sample."""
        operator, variant, _ = self.call.rsplit(" ", 2)
        return f"{operator} {variant}, {self.capture}: {self.detail}"

    def __str__(self) -> str:
        return f"{self.outcome}, {self.way}: {self.line}"


@define
class Tally:
    """Counts per capture and way, and what was found."""

    calls: Counter[tuple[str, str]] = field(factory=Counter)
    counts: Counter[tuple[str, str, str]] = field(factory=Counter)
    findings: list[Finding] = field(factory=list)

    def add(self, capture: str, way: str, found: Iterable[Finding]) -> None:
        """One call's findings, in one capture and way."""
        self.calls[capture, way] += 1
        found = list(found)
        self.findings += found
        for outcome in {finding.outcome for finding in found}:
            self.counts[capture, way, outcome] += 1

    def judged(self, capture: str, way: str) -> int:
        """Calls that could be captured and compared."""
        lost = self.counts[capture, way, "not captured"] + self.counts[capture, way, "no storages"]
        return self.calls[capture, way] - lost

    def certain(self, capture: str, way: str) -> float:
        """The share of judged calls answered without "may", "unknown" or a refusal."""
        asked = self.judged(capture, way)
        unsure = self.counts[capture, way, "uncertain"] + self.counts[capture, way, "refused"]
        return 1 - unsure / asked if asked else 1.0

    def of(self, *outcomes: str, way: str | None = None) -> list[Finding]:
        """The findings with these outcomes."""
        return [f for f in self.findings if f.outcome in outcomes and way in (None, f.way)]


def conform(call: Call, tally: Tally, captures: Iterable[str] = CAPTURES) -> None:
    """Judge one call in every capture and way."""
    for capture in captures:
        with quiet():
            try:
                captured = CAPTURES[capture](call)
            except Exception as error:
                _all(tally, call, capture, "not captured", error)
                continue
            try:
                run = observe(captured.graph_module, captured.values)
            except NotImplementedError as error:
                _all(tally, call, capture, "no storages", error)
                continue
            except RuntimeError as error:  # a graph that fails on the inputs of its capture
                _all(tally, call, capture, "not captured", error)
                continue
            programs: dict[str, Program] = {}
            for way in WAYS[capture]:
                found = list(judged(captured, run, way, programs))
                tally.add(
                    capture, way, [Finding(o, str(call), capture, way, text) for o, text in found]
                )


def _all(tally: Tally, call: Call, capture: str, outcome: str, error: Exception) -> None:
    text = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    for way in WAYS[capture]:
        tally.add(capture, way, [Finding(outcome, str(call), capture, way, text)])


def judged(
    captured: Captured, run: Run, way: Way, programs: dict[str, Program]
) -> Iterator[tuple[str, str]]:
    """What is found of a graph known in one way: `(outcome, what)`.  `programs` are those of
    the ways before, and this one's is added."""
    try:
        program = programs[way] = passes.load(captured.source, *captured.inputs, effects=way)
    except passes.ProgramError as error:
        if "Please report it" in str(error):
            raise  # no refusal, but a mistake of the analysis
        yield "refused", str(error).splitlines()[-2:][0]
        return
    verdict = judge(program, run)
    if verdict.false:
        verdict = judge(program, run, *_runs_on_other_data(captured))
    for outcome in ("missed", "false", "short", "uncertain"):
        for text in getattr(verdict, outcome):
            yield outcome, text
    if len(programs) > 1:
        for text in disagreements(*programs.values()):
            yield "disagrees", text


def _runs_on_other_data(captured: Captured) -> Iterator[Run]:
    """Runs in which writes of what was there already show.

    Memory that is allocated has a pattern, and each input in turn is full of NaN.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield observe(captured.graph_module, captured.values)
        for place, value in enumerate(captured.values):
            if isinstance(value, Tensor) and value.is_floating_point():
                other = copy.deepcopy([*captured.values])  # inputs share storage as they did
                changed = other[place]
                assert isinstance(changed, Tensor)
                with suppress(Exception):  # not every operator takes every data
                    changed.fill_(float("nan"))
                    yield observe(captured.graph_module, other)
    finally:
        torch.use_deterministic_algorithms(False)
