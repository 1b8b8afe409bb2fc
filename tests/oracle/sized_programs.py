"""Random programs whose inputs have two sizes that are not fixed, `a` and `b`.

They are written with the lines of other random programs and with some where sizes are computed.
Each line is tried at several sizes before it is kept, so that most programs run at all of them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from attrs import evolve, frozen
from torch import Tensor
from torch.export import Dim

from tests.oracle.random_programs import KINDS, LARGEST, State, Text, repeatable

Sizes = tuple[int, int]

WAYS: Sequence[Mapping[str, Sequence[str]]] = (
    {"x = torch.arange(1.0, a * b + 1).view(a, b) / 7": ("a", "b")},
    {
        "y = torch.arange(1.0, a * b + 1).view(a, b)": ("a", "b"),
        "y = torch.arange(1.0, a * b + 1).view(b, a)": ("b", "a"),
        "y = torch.arange(1.0, a * b + 1).view(b, a).t()": ("a", "b"),
        "y = torch.ones(b)": ("b",),
        "y = torch.ones(a, 1)": ("a", ""),
        "y = torch.ones(a, 4)": ("a", ""),
        "y = torch.ones(4, 4)": ("", ""),
        "y = torch.ones(2 * a, b)": ("2*a", "b"),
        "y = x[:, 1:]": ("a", "b-1"),
    },
    {
        "z = torch.ones(2, a, b)": ("", "a", "b"),
        "z = torch.ones(a, b, dtype=torch.int64)": ("a", "b"),
        "z = torch.ones(a, b) > 0": ("a", "b"),
        "z = torch.ones(a)": ("a",),
        "z = torch.ones(a, 2, b)": ("a", "", "b"),
        "z = torch.ones(a, b, dtype=torch.float64)": ("a", "b"),
    },
)
"""Each input, in the ways it can be made, and the sizes of it that are not fixed."""

LINES = """
    {x}.reshape({n}, -1)
    {x}.reshape(-1, {n})
    {x}.view({n}, -1)
    {x}.view({x}.shape[{d}], -1)
    {x}.reshape({x}.shape[{d}], -1)
    {x}.reshape(-1, {x}.shape[{d}])
    {x}.t().reshape({x}.shape)
    {x}.t().reshape(-1)
    {x}.t().contiguous()
    {x}.t().flatten()
    {x}.transpose({d}, {e}).reshape(-1)
    {x}.transpose({d}, {e}).contiguous()
    {x}.transpose({d}, {e}).flatten(1)
    {x}.transpose({d}, {e}).view({x}.shape[{e}], {x}.shape[{d}])
    {x}.permute({perm}).reshape({x}.shape)
    {x}.unflatten({d}, (-1, 1))
    {x}.expand({n}, *{x}.shape)
    {x}.expand({n}, *{x}.shape).reshape(-1)
    {x}.expand(1, *{x}.shape).contiguous()
    {x}[:1].expand({x}.shape)
    {x}[:1].expand({x}.shape).contiguous()
    {x}[:1].expand({x}.shape).reshape(-1)
    {x}[:, :1].contiguous()
    {x}[:, :1].reshape(-1)
    {x}[:, 0].contiguous()
    {x}[:{n}]
    {x}[{n}:]
    {x}[:, :{n}]
    {x}[:, {n}:]
    {x}[::2]
    {x}[:, ::2].contiguous()
    {x}[-1:]
    {x}[:-1]
    {x}[:, -1]
    {x}.narrow({d}, 0, {x}.shape[{d}] // 2)
    {x}.narrow({d}, 0, {n})
    {x}.narrow({d}, 0, {n}).contiguous()
    {x}.chunk(2, {d})
    {x}.chunk(3, {d})
    {x}.split({x}.shape[{d}] // 2 + 1, {d})
    {x}.split({n}, {d})
    {x}.tensor_split(2, {d})
    {x}.unbind({d})
    {x}.to({y}.dtype)
    {x}.as_strided(({n}, 1), (1, 1))
    {x}.diagonal()
    {x}.unfold({d}, 2, 2)
    {x}.unsqueeze({d}).expand(-1, {n}, -1)
    {x}.squeeze({d}).contiguous()
    {x}.repeat({n}, 1)
    {x}.repeat_interleave({n}, {d})
    {x}.tile(1, 2)
    torch.cat([{x}, {y}], {d})
    torch.cat([{x}, {x}], {d})
    torch.cat([{x}[:1], {y}])
    torch.stack([{x}, {y}], {d})
    torch.stack([{x}, {x}], {d})
    torch.zeros({n}, {m})
    torch.arange({n})
    torch.full(({n},), 2.0)
    torch.eye({n})
    torch.empty({n}, {m}).zero_()
    {x}.new_zeros({n}, {m})
    {x}.new_ones({x}.shape).add_({x})
    {x} + {x}.shape[{d}]
    {x} / {x}.numel()
    {x}.sum({d}, keepdim=True).expand({x}.shape)
    {x} @ {y}
    {x} @ {x}.t()
    {x}.t() @ {x}
    {x}.mT.matmul({y})
    {x}.softmax({d})
    {x}.t().softmax({d})
    {x} + {y}.t()
    {x}.t() + {y}
    {x}.index_select({d}, torch.arange({n}))
    {x}[torch.arange({x}.shape[0])]
    {x}[torch.arange({x}.shape[0]).flip(0)]
    {x}.gather({d}, torch.zeros({n}, {m}, dtype=torch.int64))
    {x}.flip({d})
    {x}.roll({n}, {d})
    {x}.cumsum({d})
    {x}.sort({d})
    {x}.topk(1, {d})
    {x}.tril({n})
    {x}.where({x} > {f}, {y})
    F.pad({x}, (1, {n}))
    F.pad({x}, (0, 0, {n}, 0))
    F.pad({x}, (0, -1))
    F.layer_norm({x}, {x}.shape[-1:])
    F.normalize({x}, dim={d})
    F.linear({x}, {y})
    F.glu({x}, {d})
    F.avg_pool1d({x}[None], 2)
    F.max_pool1d({x}[None], 2, ceil_mode=True)
    F.max_pool2d({x}[None], 2, 1)
    F.adaptive_avg_pool1d({x}[None], 2)
    F.adaptive_avg_pool2d({x}[None], (1, {n}))
    F.interpolate({x}[None], scale_factor=2)
    F.interpolate({x}[None], size={n})
    F.conv1d({x}[None], {x}[:1, None, :1].expand(1, {x}.shape[0], 1))
    F.conv2d({x}[None, None], torch.ones(2, 1, 2, 2), padding=1)
    F.unfold({x}[None, None], 2)
    F.one_hot(torch.arange({n}), {n})
    F.batch_norm({x}, None, None, training=True)
    F.group_norm({x}[None], 1)
    F.instance_norm({x}[None])
    F.gelu({x}).view({x}.shape)
    {x}[:{n}].add_({f})
    {x}[:, :{n}].zero_()
    {x}.view(-1)[:{n}].fill_({f})
    {x}.narrow({d}, 0, {n}).mul_({f})
    {x}.t().copy_({y})
    {x}[0].copy_({y}[-1])
    {x}.reshape(-1).add_({f})
    {x}.t().reshape(-1).zero_()
    {x}.contiguous().add_({f})
    {x}.t().contiguous().add_({f})
    {x}.flatten().mul_({f})
    {x}.to(torch.float32).add_({f})
    {x}.index_fill_({d}, torch.arange({n}), 1)
    {x}.resize_({n}, {m})
    torch.add({x}, {y}, out=torch.empty({n}, {m}))
    torch.cat([{x}, {y}], out=torch.empty(0))
    self.whole[:4].add_({x}.sum())
    self.part.copy_({x}.reshape(-1)[:4])
    self.linear({x}.mean({d}, keepdim=True).expand(-1, 4))
    self.norm({x}.reshape(-1, 1).expand(-1, 4))
    self.relu({x}.t())
    self.flat({x})
    self.flat({x}.t())
    self.same({x}).add_(1)
"""
OUT = re.compile(r"vmap|torch\.func|scaled_dot_product")
"""Lines that are left out: what functorch wraps is no storage that an arena could have, and stays
wrapped where torch cannot trace it; torch's attention of nothing ends the process."""

LINES_BY_KIND: Mapping[str, Sequence[str]] = {
    **{kind: [one for one in lines if not OUT.search(one)] for kind, lines in KINDS.items()},
    "SIZED": [line.strip() for line in LINES.strip().splitlines()],
}
WEIGHTS = {"SIZED": 18, "VIEWS": 3, "CHOICES": 2, "NEW": 2, "WRITES": 3, "STATE": 1}
TRIED: Sequence[Sizes] = ((3, 5), (6, 3), (7, 8))
"""The sizes that each line is tried at.  The first are the examples."""


@frozen
class SizedText(Text):
    """A program as text; `automatic`: torch finds out which of its sizes may change."""

    automatic: bool = False
    ways: ClassVar[Sequence[Sequence[str]]] = tuple(tuple(made) for made in WAYS)

    def tensors(self, **sizes: int) -> tuple[Tensor, ...]:
        return super().tensors(**(sizes or {"a": TRIED[0][0], "b": TRIED[0][1]}))

    def at(self, sizes: Sizes) -> tuple[Tensor, ...]:
        """The inputs of these sizes."""
        return self.tensors(a=sizes[0], b=sizes[1])

    @property
    def dynamic(self) -> tuple[Mapping[int, Any], ...]:
        """For each input, what `torch.export` is told of its dimensions."""
        a, b = Dim("a", min=0, max=12), Dim("b", min=0, max=12)
        known = {"a": a, "b": b, "2*a": 2 * a, "b-1": b - 1}
        return tuple(
            {
                place: Dim.AUTO if self.automatic else known[size]
                for place, size in enumerate(made[line])
                if size
            }
            for made, line in zip(WAYS, self.inputs, strict=True)
        )

    @property
    def named_sizes(self) -> Mapping[str, Mapping[int, str]]:
        """For each input, the names of its sizes that are not fixed."""
        return {
            name: {place: size for place, size in enumerate(made[line]) if size}
            for name, made, line in zip(self.names, WAYS, self.inputs, strict=True)
        }


@repeatable()
def write(seed: int) -> SizedText:
    """The program of a seed."""
    random = Random(seed)
    inputs = [random.choice([*made]) for made in WAYS]
    # A few programs are only known to run at the sizes of the examples.
    tried = TRIED if random.random() < 0.9 else TRIED[:1]
    writing = _Writing(random, inputs, tried)
    for _ in range(random.randint(2, 7)):
        writing.line()
    names = writing.tensors[-6:]
    returned = random.sample(names, k=min(len(names), random.randint(1, 3)))
    text = SizedText(
        tuple(inputs), tuple(writing.lines), tuple(returned), automatic=random.random() < 0.4
    )
    while not _runs(text, tried):
        # A line that failed, and was not kept, may have changed a tensor before.
        name, _, _ = text.lines[-1].partition(" = ")
        kept = tuple(one for one in text.returned if one != name) or ("x",)
        text = evolve(text, lines=text.lines[:-1], returned=kept)
    return text


def _runs(text: SizedText, tried: Sequence[Sizes]) -> bool:
    try:
        with torch.no_grad():
            for sizes in tried:
                text.module()(*text.at(sizes))
    except Exception:  # it uses what is not there any more
        return False
    return True


class _Writing:
    """A program being written, and its tensors at each of the sizes."""

    def __init__(self, random: Random, inputs: Sequence[str], tried: Sequence[Sizes]) -> None:
        self.random = random
        self.lines: list[str] = []
        self.worlds: list[dict[str, Any]] = []
        for a, b in tried:
            known = {"torch": torch, "F": F, "self": State(), "a": a, "b": b}
            exec("\n".join(inputs), known)
            self.worlds.append(known)

    @property
    def tensors(self) -> list[str]:
        return [name for name, v in self.worlds[0].items() if isinstance(v, Tensor)]

    def line(self) -> None:
        """Add one line that runs, and those that take its result apart."""
        for _ in range(40):
            kind = self.random.choices([*WEIGHTS], [*WEIGHTS.values()])[0]
            code = self.filled(self.random.choice(LINES_BY_KIND[kind]))
            if code is not None and self.keeps(code):
                return

    def filled(self, template: str) -> str | None:
        """The template with names, sizes and numbers in its places."""
        random, names = self.random, self.tensors
        weights = [1 + 2 * place for place in range(len(names))]
        x, y, z = random.choices(names, weights, k=3)
        first: Tensor = self.worlds[0][x]
        dims = first.dim()
        if first.numel() > LARGEST:
            return None
        d, e = (random.randrange(max(dims, 1)) for _ in range(2))
        shape = [f"{x}.shape[{place}]" for place in range(dims)]
        shapes = ["-1", f"-1, {shape[d]}" if dims else "1", f"{x}.numel()", ", ".join(shape) or "1"]
        return template.format(
            x=x,
            y=y,
            z=z,
            d=d,
            e=e,
            n=self.size(),
            m=self.size(),
            i=random.choice((0, 1, -1)),
            f=random.choice((0.5, 2.0, 1.0)),
            shape=f"({random.choice(shapes)},)",
            perm=tuple(random.sample(range(dims), dims)),
            bigger=f"({self.size()}, *{x}.shape)",
            strided=random.choice(("(2, 2), (1, 2), 0", "(1, 3), (2, 1), 1", "(2, 3), (0, 1), 0")),
        )

    def size(self) -> str:
        """An expression for a size."""
        sizes = [f"{name}.shape[0]" for name in self.tensors if self.worlds[0][name].dim()]
        sizes += [f"{name}.shape[-1]" for name in self.tensors if self.worlds[0][name].dim()]
        size = self.random.choice(sizes)
        changed = (size, size, f"{size} - 1", f"{size} // 2", f"{size} * 2", "1", "2", "3")
        return self.random.choice(changed)

    def keeps(self, code: str) -> bool:
        """Run the line at all sizes; keep it if it runs."""
        name = f"v{len(self.lines)}"
        results: list[Any] = []
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                results = [eval(code, known) for known in self.worlds]
        except Exception:  # it does not fit these tensors
            return False
        parts = [[one] if isinstance(one, Tensor) else one for one in results]
        if not all(isinstance(one, (list, tuple)) and one for one in parts):
            return False
        if not all(isinstance(p, Tensor) and p.numel() < 9 * LARGEST for one in parts for p in one):
            return False
        for known, result in zip(self.worlds, results, strict=True):
            known[name] = result
        self.lines.append(f"{name} = {code}")
        if not isinstance(results[0], Tensor):
            fewest = min(map(len, parts))
            for number in sorted(self.random.sample(range(fewest), min(2, fewest))):
                part = f"v{len(self.lines)}"
                for known, one in zip(self.worlds, parts, strict=True):
                    known[part] = one[number]
                self.lines.append(f"{part} = {name}[{number}]")
        return True
