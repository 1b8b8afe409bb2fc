"""Dynamic dimensions as symbols: a fake world whose inputs have sizes that are not fixed.

A program is walked as at fixed sizes, but with symbols for its dynamic dimensions.  Whatever
a fake kernel asks about them is answered as at the sizes given, and torch notes the question
as a guard.  So everything found holds at all sizes that answer the same; sizes 0 and 1,
about which torch asks without a note, are no symbols but these numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from typing import Any

import sympy
import torch
from attrs import define, evolve, field
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import ConstantSource
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import DimDynamic
from torch.utils._sympy.value_ranges import ValueRanges

from passes.errors import CaptureError
from passes.frontends.dynamic.dimensions import FARTHEST, Dimension, at, dimensions_of
from passes.frontends.dynamic.symbols import Expression, Reader
from passes.frontends.fakes.world import (
    World,
    known_int,
    nbytes_of,
    storage_bytes,
    storage_of,
    type_of,
    unwrapped,
    with_bits_of,
)
from passes.frontends.walk.book import Book
from passes.frontends.walk.observing import Walk
from passes.program import Fresh, OneOf, Op, Program, Unknown
from passes.symbolic.bounds import Interval
from passes.symbolic.dynamic import Dynamic, Facts
from passes.symbolic.sizes import Size

WANT_NUMBERS = frozenset({torch.ops.aten.constant_pad_nd.default})
"""Operators of which a walk need not find out that their kernels in C++ want numbers."""

Load = Callable[[Callable[[torch.device | None], World], Callable[..., Walk]], Program]
"""Makes a program in a world, by a walk."""


@define(eq=False)
class How:
    """How to walk: on symbols or on numbers, and which operators to run as torch's
    decompositions in Python.  Some kernels in C++ want numbers, and make a number of a symbol;
    a walk adds the operators for which that happens."""

    symbols: bool = True
    python: set[object] = field(factory=lambda: set(WANT_NUMBERS))


class SymbolicWorld(World):
    """A fake world in which recorded symbols are symbols, with `sizes` as examples."""

    def __init__(
        self,
        dimensions: Sequence[Dimension],
        sizes: Mapping[str, int],
        how: How,
        device: torch.device | None,
    ) -> None:
        super().__init__(device)
        # With symbols, what torch keeps for the next like call costs more than a call.
        self.mode.cache_enabled = not how.symbols
        env = self.env
        self._how = how
        self._bounded: set[int] = set()
        names: dict[object, str] = {}
        self._met: dict[int, bool] = {}  # storages, and whether they are a dynamic input's
        self.box: dict[str, Interval] = {}
        self._symbols: dict[object, Expression] = {}
        self._by_name: dict[str, Expression] = {}
        self._loaded = {d.expression: d.symbol.example for d in dimensions}
        self._examples = {d.expression: sympy.Integer(sizes[d.symbol.name]) for d in dimensions}
        for dimension in dimensions:
            name, high = dimension.symbol.name, dimension.symbol.high
            size = sizes[name]
            made: Expression = sympy.Integer(size)
            if how.symbols:
                made = env.create_symbol(size, ConstantSource(name), DimDynamic.DYNAMIC)
            self._symbols[dimension.expression] = made
            self._by_name[name] = dimension.expression
            self.box[name] = (size, size)
            if isinstance(made, sympy.Symbol):
                self.box[name] = (max(2, dimension.symbol.low), high)
                names[made] = name
                # Without an end, torch would not know that a slice of everything is one.
                end = FARTHEST if high is None else high
                env.var_to_range[made] = ValueRanges(self.box[name][0], end)
        self.reader = Reader(names, self.box)
        self.limits.names = names

    @contextmanager
    def calling(self, target: object) -> Iterator[None]:
        env = self.env
        before = len(env.replacements)
        in_python = target in self._how.python
        try:
            with enable_python_dispatcher() if in_python else super().calling(target):
                yield
        except Exception:  # many kinds: the kernel wants numbers, and the next walk avoids it
            self._how.python.add(target)
            raise
        if len(env.replacements) > before:
            self._how.python.add(target)

    def input(self, given: object, recorded: object) -> object:
        """An input of the program: what was given, with the symbols that were recorded."""
        if isinstance(recorded, torch.SymInt):
            return self._size(recorded)
        if not isinstance(recorded, torch.Tensor) or recorded.layout is not torch.strided:
            return super().input(given, recorded)
        layout = (*recorded.shape, *recorded.stride(), recorded.storage_offset())
        if all(isinstance(size, int) for size in layout):
            return super().input(given, recorded)
        assert isinstance(given, torch.Tensor)
        self._meet(given, dynamic=True)
        self._refuse_other_layout(given, recorded)
        device = self.device if given.is_meta and self.device else given.device
        with self.mode:
            made = torch.empty_strided(
                [self._size(size) for size in recorded.shape],
                [self._size(step) for step in recorded.stride()],
                dtype=given.dtype,
                device=device,
            )
            made = with_bits_of(given, made)
        return made.requires_grad_(given.requires_grad)

    def sized(self, name: str) -> int | torch.SymInt:
        """The size that a symbol stands for."""
        return self._size_of(self._by_name[name])

    def beside(self) -> World:
        return _Beside(self)

    def tensor(self, real: torch.Tensor) -> torch.Tensor:
        self._meet(real, dynamic=False)
        return super().tensor(real)

    def _refuse_other_layout(self, given: torch.Tensor, recorded: torch.Tensor) -> None:
        """Refuse an example that is not laid out as was recorded, in a storage of its own."""
        wanted = [self._when_loaded(step) for step in recorded.stride()]
        found = type_of(given)
        places = list(zip(found.shape, found.stride, wanted, strict=True))
        elements = 1 + sum((size - 1) * step for size, _, step in places if size is not None)
        whole = 0 if 0 in found.shape else elements * given.element_size()
        other = whole and any(size != 1 and own != step for size, own, step in places)
        if other or nbytes_of(given) != whole:
            raise CaptureError(
                f"an input with dynamic dimensions, {found} in the example, has strides "
                f"{found.stride} in a storage of {nbytes_of(given)} bytes, and was captured with "
                f"strides {tuple(wanted)}, in one of {whole}. How it is laid out at other sizes is "
                "not known: load the program with a copy that is as captured, such as "
                "x.clone(memory_format=torch.contiguous_format), or at the sizes you need instead"
            )

    def _when_loaded(self, step: int | torch.SymInt) -> int:
        return step if isinstance(step, int) else int(at(step.node.expr, self._loaded))

    def _meet(self, real: torch.Tensor, dynamic: bool) -> None:
        """Refuse a storage of a dynamic input that something else has too."""
        if real.layout is torch.strided:
            key = storage_of(real)
            if key in self._met and (dynamic or self._met[key]):
                raise CaptureError(
                    f"an input with dynamic dimensions, of shape {tuple(real.shape)} in the "
                    "example, shares its storage with another input or with state, and what they "
                    "share at other sizes is not known. Load the program with inputs that do not"
                )
            self._met[key] = dynamic

    def _size(self, size: int | torch.SymInt) -> int | torch.SymInt:
        """A recorded size in this world."""
        if isinstance(size, int):
            return size
        return self._size_of(size.node.expr)

    def _size_of(self, recorded: Expression) -> int | torch.SymInt:
        env = self.env
        here = sympy.sympify(recorded.xreplace(self._symbols))
        made: int | torch.SymInt
        made = env.create_symintnode(here, hint=int(recorded.xreplace(self._examples)))
        return made

    def facts(self, program: Program, walk: Walk) -> Facts:
        """What a walk in this world has found."""
        env = self.env
        book = walk.book
        sizes: dict[int, Size] = {}
        largest = _largest(program.all_ops, book)
        for entry in program.entry.values:
            self._add(sizes, book, entry.value.index, entry.nbytes, entry.name, largest)
        for op in program.all_ops:
            for effect, value in zip(op.effects.results, op.defines):  # noqa: B905  # inputs have none
                answers = effect.answers if isinstance(effect, OneOf) else (effect,)
                for answer in answers:
                    if isinstance(answer, (Fresh, Unknown)):
                        self._add(sizes, book, value.index, answer.nbytes, value.name, largest)
        conditions = [c for guard in env.guards for c in self.reader.conditions(guard.expr)]
        again = {}
        for op in program.all_ops:
            count = walk.counts.get(op.name)
            size = None if count is None else self.reader.size(count - 1)
            if size is not None:
                again[op.index] = size
        told = {condition.text: condition for condition in conditions}
        return Facts(
            program, sizes, frozenset(self._bounded), again, self.box, tuple(told.values())
        )

    def _add(
        self,
        sizes: dict[int, Size],
        book: Book,
        number: int,
        nbytes: int | None,
        name: str,
        largest: Mapping[int, int | None],
    ) -> None:
        """The size of a storage, which is `nbytes` at the examples."""
        if number not in book.fakes:
            return
        if nbytes is None:
            begun = book.begun[book.storages[number]]
            most = None if begun is None else self.limits.most(begun)
            if most is not None and book.storages[number] not in largest:
                sizes[number] = most
                self._bounded.add(number)
            return
        identity = book.storages[number]
        fake = unwrapped(book.fakes[number])
        begun = book.begun[identity]
        if identity not in largest:
            for found in (begun, fake.numel() * fake.element_size()):
                size = None if found is None else self.reader.size(found)
                if size is not None and known_int(found) == nbytes:
                    sizes[number] = size
                    return
        elif largest[identity] is None:
            return
        elif not any(isinstance(each, torch.SymInt) for each in (begun, storage_bytes(fake))):
            sizes[number] = Size.of(max(largest[identity] or 0, nbytes))
            return
        raise CaptureError(
            f"{name} has {nbytes} bytes in this example, and how many at other sizes of the "
            "dynamic dimensions is not known. Load the program at the sizes you need instead"
        )


class _Beside(World):
    """A world with the symbols of another one, and its way to call operators."""

    def __init__(self, world: SymbolicWorld) -> None:
        super().__init__(world.device, env=world.env)
        self.mode.cache_enabled = world.mode.cache_enabled
        self.calling = world.calling  # type: ignore[method-assign]  # the same method


def _largest(ops: Iterable[Op], book: Book) -> dict[int, int | None]:
    """The most bytes that storages which ops resize get to, by identity."""
    found: dict[int, int | None] = {}
    for op in ops:
        for position, nbytes in op.effects.resizes:
            identity = book.storages[op.operands[position].index]
            before = found.get(identity, 0)
            found[identity] = None if None in (before, nbytes) else max(before or 0, nbytes or 0)
    return found


def dynamic_of(
    exported: ExportedProgram, inputs: Sequence[object] | None, load: Callable[..., Program]
) -> Dynamic | None:
    """The dynamic dimensions of an exported program called with these flat inputs, or else
    with the recorded ones; None if it has none.  `load` takes a `graph` to walk instead."""
    dimensions = dimensions_of(exported, inputs)
    if not dimensions:
        return None
    return dynamic_from(dimensions, load, lambda graph: partial(load, graph=graph))


def dynamic_from(
    dimensions: Sequence[Dimension], load: Load, changed: Callable[[object], Load] | None = None
) -> Dynamic:
    """Dimensions as a program has them, with the way to facts about them; `changed` loads
    another graph over the same inputs, if that can be."""

    def walked(sizes: Mapping[str, int], how: How) -> Facts:
        walks: list[Walk] = []

        # Any: the parameters are those of a walk.
        def walk(*args: Any, **keywords: Any) -> Walk:
            walks.append(Walk(*args, **keywords))
            return walks[0]

        program = load(partial(SymbolicWorld, dimensions, sizes, how), walk)
        world = walks[0].book.world
        assert isinstance(world, SymbolicWorld)
        return world.facts(program, walks[0])

    def find(sizes: Mapping[str, int], loaded: Program) -> Facts:
        how = How()
        known: set[object] | None = None
        found: list[Facts] = []
        refused: list[CaptureError] = []
        while how.python != known:
            known = set(how.python)
            try:
                found.append(walked(sizes, how))
            except CaptureError as error:
                refused.append(error)
        found.sort(key=_equations)
        if all(sizes[d.symbol.name] == d.symbol.example for d in dimensions):
            for facts in found:
                if _different(facts.program, loaded) is None:
                    return facts
        numbers = walked(sizes, How(symbols=False))
        for facts in found:
            different = _different(facts.program, numbers.program)
            if different is None:
                return facts
            refused.append(different)
        raise refused[-1]

    def named(names: Mapping[str, str]) -> Dynamic:
        new = [evolve(d.symbol, name=names.get(d.symbol.name, d.symbol.name)) for d in dimensions]
        renamed = [Dimension(s, d.expression) for s, d in zip(new, dimensions, strict=True)]
        return dynamic_from(renamed, load, changed)

    def of_graph(graph: object) -> Dynamic | None:
        return changed and dynamic_from(dimensions, changed(graph), changed)

    symbols = tuple(dimension.symbol for dimension in dimensions)
    return Dynamic(symbols, find, named, of_graph)


def _equations(facts: Facts) -> int:
    """In how many ways facts hold for single sizes only."""
    points = sum(low == high for low, high in facts.box.values())
    return points + sum(condition.relation == "==" for condition in facts.conditions)


def _different(symbolic: Program, numbers: Program) -> CaptureError | None:
    """What to raise if a walk on symbols has not found what one on numbers finds."""
    for one, other in zip_longest(symbolic.all_ops, numbers.all_ops):
        if one is None or other is None or _told(one) != _told(other):
            return CaptureError(
                f"{_shown(one)} on symbolic sizes is {_shown(other)} on numbers. Load the program "
                "at the sizes you need instead"
            )
    return None


def _shown(op: Op | None) -> str:
    if op is None:
        return "the end of the program"
    return f"{op.name} ({op.target}: {', '.join(map(str, op.effects.results))})"


def _told(op: Op) -> object:
    """What an op does to memory."""
    results = op.effects.results
    return op.name, [r.nbytes if isinstance(r, Fresh) else r for r in results], op.effects.resizes
