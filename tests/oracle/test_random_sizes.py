"""What the passes claim of random programs with dynamic sizes, against runs at many sizes.

Each program is captured once, by `torch.export` and by `make_fx` on symbols, and its graph is run
at several sizes, 1 and odd ones among them.  At each of these:

loaded   the program loaded with inputs of this size is judged as other random programs are
any      what is certain of the program loaded at the sizes of the examples holds here too, if the
         ops in `program.sized` may do either
case     the facts found on symbols are those of the program loaded here, and so are the bytes
plan     the program runs in the arena that is planned for at most these sizes
"""

from __future__ import annotations

import gc
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from attrs import evolve, frozen
from torch.export import ExportedProgram
from torch.fx import GraphModule

import passes
from passes import BudgetError, CaptureError, PlanError, Program, ProgramError
from passes.advice.any_size import at_any_size
from passes.frontends.walk import observing
from passes.liveness import Liveness
from passes.symbolic.cases import Case
from passes.symbolic.dynamic import Facts
from tests.conformance.captures import Captured, quiet
from tests.conformance.judge import judge
from tests.conformance.suite import WAYS, _runs_on_other_data
from tests.oracle.arena import run_freely, run_in_arena
from tests.oracle.random_programs import shrunk
from tests.oracle.run import Run, observe, placeholders_of
from tests.oracle.sized_programs import TRIED, SizedText, Sizes, write
from tests.oracle.test_arena import same_bits
from tests.oracle.test_forward import _real_tensors
from tests.oracle.test_random_programs import made, mistyped, wasted

TOP = (12, 12)
SIZES: Sequence[Sizes] = (
    TRIED[0],
    (1, 6),
    (1, 1),
    (5, 1),
    (0, 4),
    (3, 0),
    (2, 2),
    (4, 4),
    (12, 12),
)
OUT_OF_RANGE = re.compile(
    "the program was captured for|outside of its range|of such a size|negative dimension"
)
REFUSED = re.compile(
    "Load the program|load the program|fails on fake tensors|only the run knows|not known before"
)
"""What the symbolic passes say where they do not answer."""

CAPTURES = ("torch.export", "make_fx", "recorded")

seen: Counter[str] = Counter()
"""How many programs, sizes and answers were judged, and how many refused."""


@frozen
class Finding:
    """`kind`: which claim is wrong, in which way; `what` of it."""

    kind: str
    what: str
    sizes: Sizes
    example: Sizes | None = None

    def __str__(self) -> str:
        loaded = f", loaded at {self.example}" if self.example else ""
        return f"{self.kind}: {self.what}, at {self.sizes}{loaded}"


@frozen(eq=False)
class Sample:
    """A program loaded at some sizes, and the run of its graph there."""

    sizes: Sizes
    captured: Captured
    run: Run
    program: Program

    @property
    def symbols(self) -> dict[str, int]:
        """The dynamic dimensions and their sizes here."""
        dynamic = self.program.dynamic
        return {symbol.name: symbol.example for symbol in dynamic.symbols} if dynamic else {}


@frozen(eq=False)
class Source:
    """A captured program: what it is at given sizes, and how it is loaded there."""

    capture: str
    at: Callable[[Sizes], Captured]
    load: Callable[[Captured], Program]


def sources(text: SizedText, captures: Iterable[str]) -> Iterator[Source]:
    """The program by each of these captures that takes it."""
    if "torch.export" in captures:
        exported = _exported(text) or _exported(evolve(text, automatic=True))
        if exported is not None:
            yield Source("torch.export", partial(_of_exported, text, exported), _loaded_as_it_is)
    if "make_fx" in captures:
        graph = _traced(text)
        if graph is not None:
            yield Source("make_fx", partial(_of_graph, text, graph), _loaded_as_it_is)
    if "recorded" in captures:
        recorded = partial(_recorded, text)
        if _is_taken(recorded):
            yield Source("recorded", recorded, _loaded_before)


def _exported(text: SizedText) -> ExportedProgram | None:
    try:
        return torch.export.export(
            text.module(), text.tensors(), dynamic_shapes=text.dynamic, strict=False
        )
    except Exception:  # many kinds: torch does not export it, or not for these sizes
        return None


def _traced(text: SizedText) -> GraphModule | None:
    try:
        return made(text, "symbolic")
    except Exception:  # many kinds: torch does not trace it
        return None


def _is_taken(capture: Callable[[Sizes], Captured]) -> bool:
    try:
        capture(SIZES[0])
    except (CaptureError, BudgetError):  # its inputs share storage, or it has no bound
        return False
    return True


def _of_exported(text: SizedText, exported: ExportedProgram, sizes: Sizes) -> Captured:
    inputs = text.at(sizes)
    values = placeholders_of(exported, inputs)
    return Captured(exported.graph_module, values, exported, inputs)


def _of_graph(text: SizedText, graph: GraphModule, sizes: Sizes) -> Captured:
    inputs = text.at(sizes)
    return Captured(graph, inputs, graph, inputs)


def _recorded(text: SizedText, sizes: Sizes) -> Captured:
    """What `fits` records of the program as it runs."""
    model, inputs = text.module(), text.at(sizes)
    text.module()(*text.at(sizes))
    named = dict(zip(text.names, inputs, strict=True))
    program = passes.fits(model, named, budget=1, dynamic=text.named_sizes).program
    assert isinstance(program.graph, GraphModule)
    values = [*_real_tensors(program, model, inputs, {})]
    return Captured(program.graph, values, program, inputs)


def _loaded_as_it_is(one: Captured) -> Program:
    return passes.load(one.source, *one.inputs)


def _loaded_before(one: Captured) -> Program:
    assert isinstance(one.source, Program)
    return one.source


def wrong(text: SizedText, captures: Iterable[str] = CAPTURES) -> list[Finding]:
    """What is wrong with the claims about a program."""
    gc.freeze()  # recordings collect garbage, and need not look at all that was there before
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = [
            evolve(one, kind=f"{source.capture}, {one.kind}")
            for source in sources(text, captures)
            for one in _wrong(source)
        ]
    gc.unfreeze()
    seen["programs"] += 1
    return found


def _wrong(source: Source) -> Iterator[Finding]:
    seen[source.capture] += 1
    samples: list[Sample] = []
    for sizes in SIZES:
        try:
            one = source.at(sizes)
            run = observe(one.graph_module, one.values)
        except (RuntimeError, IndexError, ValueError, ArithmeticError, AssertionError):
            continue  # no sizes for this graph
        except CaptureError as error:
            if not OUT_OF_RANGE.search(str(error)):
                yield Finding("refused", str(error), sizes)
            continue
        try:
            sample = Sample(sizes, one, run, source.load(one))
        except CaptureError as error:
            if not (OUT_OF_RANGE.search(str(error)) or "tensors of their own" in str(error)):
                yield Finding("loaded, refused", str(error), sizes)
            continue
        seen["sizes"] += 1
        samples.append(sample)
        yield from _loaded(sample)
    yield from _at_any_size(source, samples)
    if samples and samples[0].symbols:
        for sample in samples:
            yield from _symbolic(samples[0].program, sample)
            # Loaded at a size of 1, where layouts say less.
            yield from _symbolic(samples[min(1, len(samples) - 1)].program, sample)
        for most in samples[-1:] + samples[1:2]:
            yield from _planned(samples[0].program, most, samples)


def _at_any_size(source: Source, samples: Sequence[Sample]) -> Iterator[Finding]:
    for example in samples[:2]:
        for way, program in _ways(source, example):
            for sample in samples:
                if _claimed(sample.program):
                    which = f"any size, {way}"
                    yield from _judged(which, sample, program, ("missed", "false"), example.sizes)


def _ways(source: Source, example: Sample) -> Iterator[tuple[str, Program]]:
    """The program, known in each way, with what `sized` leaves open."""
    one = example.captured
    for way in WAYS.get(source.capture, ()):
        try:
            program = passes.load(one.source, *one.inputs, effects=way)
        except CaptureError:  # schemas cannot follow it, or were recorded at other sizes
            continue
        if _claimed(program):
            yield way, at_any_size(program)


def _claimed(program: Program) -> bool:
    """Whether `sized` is said to tell what differs at other sizes: not where the exported module
    takes other branches, and not of what is resized at some sizes only."""
    resized = any(op.effects.resizes for op in program.all_ops)
    return not resized and not any("refuses these inputs" in note for note in program.notes)


def _loaded(sample: Sample) -> Iterator[Finding]:
    yield from _judged("loaded", sample, sample.program, ("missed", "false", "short"))
    for what in wasted(sample.program, sample.run):
        yield Finding("loaded, wasted", what, sample.sizes)
    for what in mistyped(sample.program, sample.run):
        yield Finding("loaded, mistyped", what, sample.sizes)


def _judged(
    which: str,
    sample: Sample,
    program: Program,
    outcomes: Sequence[str],
    example: Sizes | None = None,
) -> Iterator[Finding]:
    verdict = judge(program, sample.run)
    if verdict.false:
        verdict = judge(program, sample.run, *_runs_on_other_data(sample.captured))
    for outcome in outcomes:
        for what in getattr(verdict, outcome):
            if outcome == "false" and "batch_norm" in what and "does not write" in what:
                continue  # it bumps no version, and these statistics were as before
            yield Finding(f"{which}, {outcome}", what, sample.sizes, example)


def _symbolic(loaded: Program, sample: Sample) -> Iterator[Finding]:
    sizes = sample.symbols
    try:
        memory = passes.symbolic_memory(loaded)
        memory.checked(sizes)
        case = memory.cases.of({name: (size, size) for name, size in sizes.items()})
    except ProgramError as error:
        if not (OUT_OF_RANGE.search(str(error)) or REFUSED.search(str(error))):
            raise
        seen[f"refused: {error}"] += 1
        return
    assert case is not None
    seen["cases"] += 1
    for kind, what in _unlike(case, sample.program, sizes):
        yield Finding(f"case, {kind}", what, sample.sizes)
    for level, op in zip(case.timeline, case.facts.program.all_ops, strict=True):
        alive = sample.run.alive.get(op.name, 0)
        if not case.unsized and level.at(sizes) < alive:
            yield Finding("case, short", f"{op.target}: {level} and {alive}", sample.sizes)


def _unlike(case: Case, program: Program, sizes: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """How a case differs from the program loaded at sizes in it."""
    here = case.facts.program
    mine, others = Liveness.of(here), Liveness.of(program)
    if [op.effects.writes for op in here.all_ops] != [op.effects.writes for op in program.all_ops]:
        yield "other writes", str(here)
    if mine.aliases.facts != others.aliases.facts:
        yield "other aliases", str(here)
    if mine.spans != others.spans:
        yield "other spans", str(here)
    memory = passes.memory(program)
    claimed = tuple(level.at(sizes) for level in case.timeline)
    if claimed != memory.timeline:
        yield "other bytes", f"{claimed} and {memory.timeline}"
    entry = {role: size.at(sizes) for role, size in case.entry.items()}
    if entry != memory.entry_bytes:
        yield "other bytes at entry", f"{entry} and {memory.entry_bytes}"
    if [s.name for s in case.unsized] != [s.name for s in memory.unsized]:
        yield "other unsized", f"{case.unsized} and {memory.unsized}"


def _planned(loaded: Program, most: Sample, samples: Sequence[Sample]) -> Iterator[Finding]:
    """Run the program in the arena that is planned for at most these sizes."""
    largest = most.symbols
    try:
        plan = passes.plan(loaded, at_most=largest)
    except ProgramError as error:
        told = REFUSED.search(str(error)) or OUT_OF_RANGE.search(str(error))
        if not (told or isinstance(error, PlanError)):
            raise
        seen["plans refused"] += 1
        return
    if any(op.effects.resizes for op in plan.program.all_ops):
        return  # of what one op makes empty and another one resizes, the arena runs neither
    seen["plans"] += 1
    names = [op.name for op in plan.program.all_ops]
    for sample in samples:
        pairs = [(size, largest[name]) for name, size in sample.symbols.items()]
        within = all(size == end or 2 <= size <= end for size, end in pairs)
        # A slice of everything is recorded as something else.
        if within and names == [op.name for op in sample.program.all_ops]:
            seen["planned runs"] += 1
            one = sample.captured
            try:
                placed = run_in_arena(plan.program, plan, one.graph_module, one.values)
            except AssertionError as error:
                yield Finding("plan, impossible", f"{error}, of {plan}", sample.sizes)
                continue
            if not same_bits(run_freely(one.graph_module, one.values), placed):
                yield Finding("plan, overlapping", str(plan), sample.sizes)


def check(seeds: Iterable[int], captures: Sequence[str] = CAPTURES) -> None:
    """Fail with the first program of these seeds that is answered wrongly, made small."""
    for seed in seeds:
        text = write(seed)
        found = wrong(text, captures)
        if found:
            kind = found[0].kind

            def fails(other: SizedText) -> bool:
                return kind in [one.kind for one in wrong(other, captures)]  # noqa: B023  # called here

            small = shrunk(text, fails)
            told = [*dict.fromkeys(map(str, wrong(small, captures)))]
            pytest.fail("\n".join([f"seed {seed}", str(small), *told]))


FLIPS = SizedText(
    tuple(ways[0] for ways in SizedText.ways), ("v0 = x.t().reshape(-1).add_(1)",), ("v0",)
)
"""A copy, and at sizes of 1 a view."""


@pytest.mark.parametrize(
    ("blind", "kind"),
    [
        ((observing, "depends_on_sizes"), "torch.export, any size, observed, missed"),
        ((Facts, "hold_in"), "torch.export, case, other aliases"),
    ],
)
def test_a_wrong_claim_is_found(
    blind: tuple[Any, str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not wrong(FLIPS, ("torch.export",))
    monkeypatch.setattr(*blind, lambda *_: blind[0] is Facts)
    assert kind in [one.kind for one in wrong(FLIPS, ("torch.export",))]


def test_claims_hold_at_the_sizes_of_some_random_programs() -> None:
    check(range(20), ("torch.export", "make_fx"))


def test_claims_hold_at_the_sizes_of_some_recorded_programs() -> None:
    check(range(24, 27), ("recorded",))


@pytest.mark.slow
@pytest.mark.parametrize("block", range(7))
def test_claims_hold_at_the_sizes_of_hundreds_of_random_programs(block: int) -> None:
    check(range(1150 + 50 * block, 1200 + 50 * block))
