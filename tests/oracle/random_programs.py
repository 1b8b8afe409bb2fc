"""Random programs, written as Python, run as they are written.

Each line is tried on real tensors before it is kept, so the programs run.  A program is text: what
a failing one does can be read, and it shrinks line by line.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from attrs import evolve, frozen
from torch import Tensor, nn

from tests.oracle import rare, vocabulary

INPUTS = (
    ("x = torch.arange(1.0, 17.0).view(4, 4) / 7",),
    ("y = x + 1", "y = x.t()", "y = x[1:]", "y = x.view(-1)", "y = x.as_strided((4, 4), (2, 1))"),
    ("z = x * 2", "z = y[:2]", "z = x.new_ones(4, 1).expand(4, 4)", "z = torch.ones(2, 4, 2)"),
    ("w = x > 1", "w = x.long()", "w = torch.complex(x, x)", "w = x.double()", "w = x[:0]"),
)
"""Each input, in the ways it can be made: some of them share storage."""

KINDS: Mapping[str, Sequence[str]] = {
    name: [
        line.strip()
        for source in (vocabulary, rare)
        for line in getattr(source, name, "").strip().splitlines()
    ]
    for name in ("VIEWS", "CHOICES", "NEW", "WRITES", "STATE", "DATA")
}
WEIGHTS = {"VIEWS": 6, "CHOICES": 3, "NEW": 4, "WRITES": 6, "STATE": 1}
LARGEST = 200
"""Elements that a tensor may have."""


class State(nn.Module):
    """What the programs find in `self`: shared weights, views of one buffer, modules that return
    what they are given, and some that write."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(16.0).view(4, 4) / 5)
        self.linear, self.tied = nn.Linear(4, 4), nn.Linear(4, 4)
        self.linear.weight = self.tied.weight = self.weight
        self.whole = nn.Buffer(torch.arange(12.0))
        self.part = nn.Buffer(self.whole[4:8])
        self.mean, self.variance = nn.Buffer(torch.zeros(4)), nn.Buffer(torch.ones(4))
        self.rows = nn.Buffer(torch.tensor([0, 2, 1, 3]))
        self.places = nn.Buffer(torch.zeros(4, 4, dtype=torch.int64))
        self.dropped, self.same, self.flat = nn.Dropout().eval(), nn.Identity(), nn.Flatten(0)
        self.relu, self.norm = nn.ReLU(inplace=True), nn.BatchNorm1d(4)


@frozen
class Text:
    """A program as text: how its inputs are made, its lines, and the names it returns.

    `data`: it may have results that are as large as the data make them.
    """

    inputs: tuple[str, ...]
    lines: tuple[str, ...]
    returned: tuple[str, ...]
    data: bool = False
    ways: ClassVar[Sequence[Sequence[str]]] = INPUTS

    def __str__(self) -> str:
        body = [*self.lines, f"return {', '.join(self.returned)},"]
        made = [f"    {line}" for line in self.inputs]
        return "\n".join([*made, self.header, *(f"    {line}" for line in body)])

    @property
    def names(self) -> list[str]:
        """Those of the inputs."""
        return [line.partition(" = ")[0] for line in self.inputs]

    @property
    def header(self) -> str:
        return f"def forward(self, {', '.join(self.names)}):"

    def tensors(self, **sizes: int) -> tuple[Tensor, ...]:
        """The inputs, new ones at each call; `sizes` are those that they have names for."""
        known: dict[str, Any] = {"torch": torch, **sizes}
        exec("\n".join(self.inputs), known)
        return tuple(known[name] for name in self.names)

    def module(self) -> nn.Module:
        """A module that does what the text says."""
        code = "\n".join(str(self).splitlines()[len(self.inputs) :])
        found: dict[str, Any] = {}
        exec(code, {"torch": torch, "F": F}, found)
        kind: type[State] = type("Random", (State,), found)
        return kind()


T = TypeVar("T", bound=Text)


@contextmanager
def repeatable() -> Iterator[None]:
    """The same random numbers each time, and the same bytes where nobody has written yet."""
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


@repeatable()
def write(seed: int, data: bool = False) -> Text:
    """The program of a seed.  With `data`, some of its sizes depend on data."""
    random = Random(seed)
    inputs = [random.choice(ways) for ways in INPUTS]
    writing = _Writing(random, inputs, data)
    for _ in range(random.randint(2, 8)):
        writing.line()
    names = [*writing.tensors]
    while True:
        returned = random.sample(names[-6:], k=random.randint(1, 3))
        text = Text(tuple(inputs), tuple(writing.lines), tuple(returned), data)
        if runs(text):
            return text
        # A line that failed, and was not kept, may have changed a tensor before.
        name, _, _ = writing.lines.pop().partition(" = ")
        names = [other for other in names if other != name]


class _Writing:
    def __init__(self, random: Random, inputs: Sequence[str], data: bool) -> None:
        self.random = random
        self.lines: list[str] = []
        self.known: dict[str, Any] = {"torch": torch, "F": F, "self": State()}
        exec("\n".join(inputs), self.known)
        self.weights = {**WEIGHTS, "DATA": 2} if data else WEIGHTS

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {name: v for name, v in self.known.items() if isinstance(v, Tensor)}

    def line(self) -> None:
        """Add one line that runs, and those that take its result apart."""
        for _ in range(30):
            kind = self.random.choices([*self.weights], [*self.weights.values()])[0]
            code = self.filled(self.random.choice(KINDS[kind]))
            if code is not None and self.keeps(code):
                return

    def filled(self, template: str) -> str | None:
        """The template with names and numbers in its places; None if none fit."""
        names = list(self.tensors)
        # The later, the more likely, so that views are of views.
        weights = [1 + 2 * place for place in range(len(names))]
        x, y, z = self.random.choices(names, weights, k=3)
        numbers = self.numbers(self.known[x])
        return template.format(x=x, y=y, z=z, **numbers) if numbers else None

    def numbers(self, x: Tensor) -> dict[str, object]:
        if x.numel() > LARGEST:
            return {}
        random, dims = self.random, x.dim()
        d, e = (random.randrange(max(dims, 1)) for _ in range(2))
        size = x.shape[d] if dims else 1
        return {
            "d": d,
            "e": e,
            "i": random.randrange(max(size, 1)),
            "f": random.choice((0.5, 2.0, 1.0)),
            "shape": tuple(_factors(random, x.numel())),
            "perm": tuple(random.sample(range(dims), dims)),
            "bigger": (2, *x.shape),
            "strided": _strided(random, x.numel()),
        }

    def keeps(self, code: str) -> bool:
        """Run the line; keep it if it runs."""
        name = f"v{len(self.lines)}"
        try:
            result = eval(code, self.known)
        except Exception:  # it does not fit these tensors
            return False
        parts = result if isinstance(result, (tuple, list)) else [result]
        if not parts or not all(isinstance(p, Tensor) and p.numel() <= LARGEST for p in parts):
            return False
        self.known[name] = result
        self.lines.append(f"{name} = {code}")
        if not isinstance(result, Tensor):
            for number in sorted(self.random.sample(range(len(parts)), min(2, len(parts)))):
                part = f"v{len(self.lines)}"
                self.known[part] = parts[number]
                self.lines.append(f"{part} = {name}[{number}]")
        return True


def _factors(random: Random, count: int) -> Iterator[int]:
    while count > 1 and random.random() < 0.8:
        divisors = [n for n in range(1, count + 1) if count % n == 0]
        yield (factor := random.choice(divisors))
        count //= factor
    yield count


def _strided(random: Random, elements: int) -> str:
    """Sizes, strides and an offset, perhaps overlapping."""
    sizes = [random.randint(1, 3) for _ in range(2)]
    strides = [random.randint(0, 4) for _ in range(2)]
    reach = sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    offset = random.randint(0, max(elements - 1 - reach, 0))
    return f"{tuple(sizes)}, {tuple(strides)}, {offset}"


# -- shrinking --------------------------------------------------------------------------


def shrunk(text: T, fails: Callable[[T], bool]) -> T:
    """A text that fails as well, and of which no part can go."""
    while True:
        smaller = next((other for other in _smaller(text) if runs(other) and fails(other)), None)
        if smaller is None:
            return text
        text = smaller


def _smaller(text: T) -> Iterator[T]:
    for number, line in reversed(list(enumerate(text.lines))):
        rest = (*text.lines[:number], *text.lines[number + 1 :])
        name, _, code = line.partition(" = ")
        for other in dict.fromkeys(["", *re.findall(r"\b(?:[wxyz]|v\d+)\b", code)]):
            replaced = tuple(re.sub(rf"\b{name}\b", other or name, one) for one in rest)
            returned = [other if one == name else one for one in text.returned]
            kept = tuple(dict.fromkeys(one for one in returned if one)) or ("x",)
            yield evolve(text, lines=replaced, returned=kept)
    for number in range(len(text.returned)):
        if len(text.returned) > 1:
            kept = (*text.returned[:number], *text.returned[number + 1 :])
            yield evolve(text, returned=kept)
    for number, line in enumerate(text.inputs):
        plain = text.ways[number][0]
        if line != plain:
            yield evolve(text, inputs=(*text.inputs[:number], plain, *text.inputs[number + 1 :]))


def runs(text: Text) -> bool:
    """Whether the program runs to its end."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            copy.deepcopy(text.module())(*text.tensors())
    except Exception:  # it uses what is not there any more
        return False
    return True
