"""What the passes claim of random programs with branches, loops and wrappers, nested.

All tensors are 4x4 and contiguous, so that any may go where another does; what differs is whose
storage each is, and how large that is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import pytest
import torch
from attrs import define, frozen
from torch import Tensor
from torch.fx import GraphModule

from passes import CaptureError

from .inside import observe_inside
from .shrink import shown, shrunk_graph
from .test_inside import (
    WRAPPERS,
    Case,
    Truth,
    call,
    check_exact_bytes,
    check_exact_storages,
    check_sound,
    cond,
    torch_s_own,
    wrapped,
    written,
)

STEPS: Mapping[str, Callable[[Any, Any, Any], Any]] = {
    "add": lambda a, b, c: a + b,
    "in_larger": lambda a, b, c: a.repeat(3, 1)[4:8],
    "through_views": lambda a, b, c: a.view(2, 2, 4).sin().view(4, 4),
    "view": lambda a, b, c: a.view(16).view(4, 4),
    "transposed_twice": lambda a, b, c: a.t().t(),
    "detached": lambda a, b, c: a.detach(),
    "whole_slice": lambda a, b, c: a[:].as_strided((4, 4), (4, 1)),
    "as_it_is": lambda a, b, c: torch.dropout(a.contiguous().reshape(4, 4), 0.5, False),
    "copied": lambda a, b, c: a.t().contiguous(),
    "expanded": lambda a, b, c: a.unbind()[1].expand(4, 4).contiguous(),
    "chunks": lambda a, b, c: torch.cat([a.chunk(2)[1], b.chunk(2)[0]]),
    "overlapping": lambda a, b, c: a.as_strided((4, 4), (1, 1)).add(1),
    "where": lambda a, b, c: torch.where(a > b, a, c),
    "scattered": lambda a, b, c: torch.slice_scatter(a, b[:1], 0, 0, 1),
    "sin_": lambda a, b, c: a.sin_(),
    "copy_": lambda a, b, c: a.copy_(b),
    "zero_": lambda a, b, c: a.zero_(),
    "rows_": lambda a, b, c: (a[1:].mul_(2), a)[1],
    "column_": lambda a, b, c: (a.t()[0].add_(b[0]), a)[1],
    "masked_": lambda a, b, c: a.masked_fill_(b > 1, 0),
    "out": lambda a, b, c: torch.add(a, b, out=c),
    "rows_of_each_": lambda a, b, c: (torch._foreach_add_(a.unbind(), b.unbind()), a)[1],
    "out_in_a_part": lambda a, b, c: (torch.mul(a[1:], b[1:], out=c[:3]), c)[1],
    "real_of_complex": lambda a, b, c: torch.view_as_real(torch.complex(a, b))[..., 1],
    "strided_": lambda a, b, c: a[:].as_strided_((4, 4), (1, 4)).t(),
    "windows": lambda a, b, c: a.unfold(0, 2, 2).sum(-1).repeat(2, 1),
    "broadcast": lambda a, b, c: a[:1].expand_as(b).contiguous(),
    "each_": lambda a, b, c: (torch._foreach_mul_([a, b], 2), a)[1],
}
CALLS = ("wrapper", "wrapper")
CHOICES_TOO = ("wrapper", "cond", "cond", "loop", "loop", "scan", "map_over")


@define
class Writing:
    """Writes a random program.

    Every graph gets the same numbers, which its branches and loops go by, and some tensors.
    """

    random: Random
    calls: Sequence[str]
    numbers: int = 3

    def some(self, values: Sequence[Any], least: int = 1, most: int = 3) -> list[Any]:
        return self.random.choices(values, k=self.random.randint(least, most))

    def body(
        self, tensors: int, results: int, depth: int, loop: bool = False, last: bool = False
    ) -> GraphModule:
        """A sub-graph on this many tensors that returns so many; of a loop, with the numbers,
        the first counted down.  The numbers come first, or `last`."""

        def function(*inputs: Any) -> Any:
            begin = tensors if last else 0
            numbers = list(inputs[begin : begin + self.numbers])
            values = [*inputs[:begin], *inputs[begin + self.numbers :]]
            self.steps(numbers, values, depth)
            before = (numbers[0] - 1, *numbers[1:]) if loop else ()
            return (*before, *self.some(values, results, results))

        return written(function, self.numbers + tensors)

    def steps(self, numbers: list[Any], values: list[Any], depth: int) -> None:
        """Some ops, whose results join the values."""
        for _ in range(self.random.randint(1, 3)):
            if depth and self.random.random() < 0.5:
                getattr(self, self.random.choice(self.calls))(numbers, values, depth - 1)
            else:
                step = STEPS[self.random.choice([*STEPS])]
                values.append(step(*self.some(values, 3, 3)))

    def wrapper(self, numbers: list[Any], values: list[Any], depth: int) -> None:
        given, count = self.some(values), self.random.randint(1, 3)
        body = self.body(len(given), count, depth)
        results = wrapped(self.random.choice(WRAPPERS), body, *numbers, *given)
        values += [results[number] for number in range(count)]

    def cond(self, numbers: list[Any], values: list[Any], depth: int) -> None:
        given, count = self.some(values), self.random.randint(1, 3)
        yes, no = (self.body(len(given), count, depth) for _ in range(2))
        results = cond(self.random.choice(numbers) % 2 > 0, yes, no, *numbers, *given)
        values += [results[number] for number in range(count)]

    def loop(self, numbers: list[Any], values: list[Any], depth: int) -> None:
        carried, extra = self.some(values), self.some(values, 0, 2)
        body = self.body(len(carried) + len(extra), len(carried), depth, loop=True)
        again = written(lambda left, *_: left > 0, self.numbers + len(carried) + len(extra))
        start = (*self.random.sample(numbers, k=self.numbers), *carried)
        results = call("while_loop", again, body, start, tuple(extra), near=numbers[0])
        values += [results[self.numbers + number] for number in range(len(carried))]

    def slices(self, values: list[Any]) -> list[Any]:
        """Stacks of tensors, or of one tensor twice."""
        return [
            torch.stack([a, b]) if self.random.random() < 0.5 else a.expand(2, 4, 4)
            for a, b in zip(self.some(values, 2, 2), self.some(values, 2, 2), strict=True)
        ]

    def scan(self, numbers: list[Any], values: list[Any], depth: int) -> None:
        carried, slices, extra = self.some(values), self.slices(values), self.some(values, 0, 2)
        parts = self.random.randint(0, 2)
        given = len(carried) + len(slices) + len(extra)
        body = self.body(given, len(carried) + parts, depth, last=True)
        results = call("scan", body, carried, slices, (*extra, *numbers), near=numbers[0])
        values += [results[number] for number in range(len(carried))]
        values += [results[len(carried) + number][1] for number in range(parts)]

    def map_over(self, numbers: list[Any], values: list[Any], depth: int) -> None:
        slices, extra, count = self.slices(values), self.some(values, 0, 2), 2
        body = self.body(len(slices) + len(extra), count, depth, last=True)
        results = call("map_impl", body, slices, [*extra, *numbers], near=numbers[0])
        values += [results[number][0] for number in range(count)]

    def program(self) -> GraphModule:
        def function(*inputs: Any) -> Any:
            numbers, values = list(inputs[: self.numbers]), list(inputs[self.numbers :])
            values += [values[0] + 1, values[0] * 2]
            for _ in range(2):
                self.steps(numbers, values, 2)
            return tuple(self.some(values))

        return written(function, self.numbers + 2)


BOTH = torch.arange(1.0, 33.0).view(8, 4)
INPUTS: Sequence[tuple[Tensor, Tensor]] = (
    (BOTH[:4].clone(), torch.ones(4, 4)),
    (BOTH[:4], BOTH[4:]),  # parts of one storage
    (BOTH[:4], BOTH[:4].view(16).view(4, 4)),
)
NUMBERS = ((2, 1, 0), (3, 0, 2), (0, 3, 1), (1, 2, 3))


@frozen
class Check:
    """How to check a program on two inputs."""

    inputs: tuple[Tensor, Tensor]
    numbers: Sequence[tuple[int, ...]]
    """What branches and loops go by, in each run."""

    tight: bool
    """Nothing depends on data, so that nothing may be claimed in vain."""

    torch_too: bool
    """Run torch's own implementations as well, to check the oracle."""

    def __call__(self, graph: GraphModule) -> None:
        """Fail if anything is wrong with the claims about a program that runs."""
        runs = [[*map(torch.tensor, numbers), *self.inputs] for numbers in self.numbers]
        case = Case(graph, graph, runs, runs[0])
        try:
            seen = [observe_inside(graph, values) for values in runs]
        except RuntimeError:  # such as of a write into a part of what it reads
            return
        try:
            program = case.program
        except CaptureError as error:
            if "shapes do not depend on data" in str(error):
                return  # a refusal with its reason, such as of a loop through what a branch made
            raise
        truths = [Truth.of(program, one) for one in seen]
        for truth in truths:
            check_sound(truth)
        if self.tight:
            check_exact_storages(truths)
            check_exact_bytes(truths)
        if self.torch_too:
            alive = seen[-1].instances
            assert torch_s_own(graph, runs[-1]) == {
                op: [i.alive for i in alive[op]] for op in alive
            }

    def fails(self, graph: GraphModule, how: type[Exception]) -> bool:
        """Whether it fails in this way."""
        try:
            self(graph)
        except how:
            return True
        except Exception:  # in another way, such as for a graph that is none any more
            return False
        return False


def check(seed: int, calls: Sequence[str], runs: int = 4, torch_too: bool = True) -> None:
    """Check the program of a seed; if it fails, say so with as little of it as fails too."""
    random = Random(seed)
    tight = calls is CALLS
    numbers = random.sample(NUMBERS, 1 if tight else runs)
    checks = Check(random.choice(INPUTS), numbers, tight, torch_too)
    graph = Writing(random, calls).program()
    try:
        checks(graph)
    except Exception as error:
        kind = type(error)
        small = shrunk_graph(graph, lambda other: checks.fails(other, kind))
        raise AssertionError(f"seed {seed}, {checks.inputs}\n{shown(small)}") from error


@pytest.mark.parametrize("block", range(3))
def test_claims_hold_of_random_programs(block: int) -> None:
    for seed in range(15 * block, 15 * block + 15):
        check(seed, CHOICES_TOO)


def test_claims_are_exact_where_nothing_depends_on_data() -> None:
    for seed in range(15):
        check(seed, CALLS)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_claims_hold_of_a_thousand_random_programs(block: int) -> None:
    for seed in range(1000 + 100 * block, 1100 + 100 * block):
        check(seed, CHOICES_TOO, runs=2, torch_too=False)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(5))
def test_claims_are_exact_of_five_hundred_programs(block: int) -> None:
    for seed in range(1000 + 100 * block, 1100 + 100 * block):
        check(seed, CALLS, torch_too=False)
