"""What the passes claim of random programs, against their runs.

Each program is captured by `symbolic_trace` and by `make_fx`, loaded in every way there is, and
judged as in the conformance suite: no alias, write or byte missed, none claimed in vain, nothing
uncertain that does not depend on data.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Literal

import pytest
import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

import passes
from passes import Program
from tests.conformance.captures import Captured, quiet
from tests.conformance.suite import WAYS, judged
from tests.oracle.random_programs import Text, shrunk, write
from tests.oracle.run import Run, observe

UNSURE = ("uncertain", "refused")
MIXED = re.compile("scalar type|dtypes")
"""Of what torch's fake kernels say of operands that differ in dtype.  The real ones do not look
where there is nothing to compute."""


def captured(text: Text) -> Iterator[tuple[str, Captured]]:
    """The graphs of a program, by the capture they come from."""
    inputs = text.tensors()
    with contextlib.suppress(Exception):  # a method of a buffer that is given a proxy, say
        graph = fx.symbolic_trace(text.module())
        yield "symbolic_trace", Captured(graph, inputs, graph, inputs)
    recorded = None
    try:
        recorded = made(text)
    except RuntimeError as error:  # it refuses to read a number that data decides
        if not (text.data or "out of a tracing tensor" in str(error)):
            raise
    if recorded is not None:
        yield "make_fx", Captured(recorded, inputs, recorded, inputs)


def made(text: Text, mode: Literal["real", "symbolic"] = "real") -> fx.GraphModule:
    """By `make_fx`, with the state as it was: tracing runs the program, which writes."""
    used, state = text.module(), text.module()
    graph: fx.GraphModule = make_fx(used, tracing_mode=mode)(*text.tensors())
    before: dict[int, Tensor] = {
        id(t): state.get_parameter(name) for name, t in used.named_parameters()
    }
    before |= {id(t): state.get_buffer(name) for name, t in used.named_buffers()}
    for name, held in [*graph.named_parameters(), *graph.named_buffers(), *vars(graph).items()]:
        if id(held) in before:
            setattr(graph, name, before[id(held)])
    return graph


def wrong(text: Text) -> list[str]:
    """What is wrong with the claims about a program."""
    found: list[str] = []
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # captures run the program
        for capture, one in captured(text):
            try:
                run = observe(one.graph_module, one.values)
            except (
                RuntimeError,
                IndexError,
            ):  # a graph that is not the program, as of what was constant
                continue
            programs: dict[str, Program] = {}
            for way in WAYS[capture]:
                for outcome, what in judged(one, run, way, programs):
                    if outcome == "false" and "batch_norm" in what and "does not write" in what:
                        continue  # it bumps no version, and these statistics were as before
                    if outcome == "refused" and MIXED.search(what) and "[:0]" in str(text):
                        continue
                    # What `out=` resizes may have any strides, and then views may be copies.
                    unsure = way == "declared" or text.data or "out=" in str(text)
                    if outcome not in UNSURE or not unsure:
                        found.append(f"{capture}, {way}: {outcome}: {what}")
                if way == "observed" and way in programs and not text.data:
                    found += [f"{capture}: wasted: {what}" for what in wasted(programs[way], run)]
                if way == "observed" and way in programs:
                    found += [f"{capture}: mistyped: {w}" for w in mistyped(programs[way], run)]
    return found


def mistyped(program: Program, run: Run) -> Iterator[str]:
    """Results that are not like those of the run."""
    for op in program.ops:
        for value, real in zip(op.results, run.layouts[op.name], strict=False):
            claim = value.type
            if claim is None or None in claim.shape or None in claim.stride:
                continue
            steps = zip(claim.shape, claim.stride, real.stride, strict=False)
            same = 0 in real.shape or all(n == 1 or a == b for n, a, b in steps)
            if (claim.shape, claim.dtype) != (real.shape, real.dtype) or not same:
                yield f"{op.target} gives {claim} {claim.stride}, really {real}"


def wasted(program: Program, run: Run) -> Iterator[str]:
    """Ops at which more bytes are claimed alive than there are."""
    if any(op.effects.resizes or op.renames for op in program.ops):
        return  # a storage is claimed as large as it ever gets, and until `set_` is done
    if passes.aliases(program).uncertain:
        return  # what may be new memory is claimed
    memory = passes.memory(program)
    for op in program.ops:
        if memory.at(op) > run.alive[op.name]:
            yield f"{op.target}: {memory.at(op)} bytes claimed, and {run.alive[op.name]} are alive"


def check(seeds: Iterable[int], data: bool = False) -> None:
    """Fail with the first program of these seeds that is answered wrongly, made small."""
    for seed in seeds:
        text = write(seed, data)
        found = wrong(text)
        if found:
            same = _kind(found[0])
            small = shrunk(text, lambda other: same in map(_kind, wrong(other)))  # noqa: B023  # called here
            pytest.fail("\n".join([f"seed {seed}", str(small), *wrong(small)]))


def _kind(finding: str) -> str:
    return finding.rpartition(": ")[0]


def test_a_seed_is_one_program() -> None:
    """What numbers were drawn before decides nothing, not even where data does."""
    texts = set()
    for number in range(8):
        torch.manual_seed(number)
        texts.add(write(90400, data=True))
    assert len(texts) == 1


@pytest.mark.parametrize("block", range(2))
def test_claims_hold_of_some_random_programs(block: int) -> None:
    check(range(50 * block, 50 * block + 50))


def test_claims_hold_of_some_programs_that_depend_on_data() -> None:
    check(range(50), data=True)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(15))
def test_claims_hold_of_thousands_of_random_programs(block: int) -> None:
    check(range(1000 + 500 * block, 1500 + 500 * block))


@pytest.mark.slow
@pytest.mark.parametrize("block", range(2))
def test_claims_hold_of_a_thousand_programs_that_depend_on_data(block: int) -> None:
    check(range(1000 + 500 * block, 1500 + 500 * block), data=True)
