"""How many bytes are alive because of values that may be one of several storages?

A branch returns one side's tensor or the other's; a loop carries its operand at first and
an earlier iteration's storage later.  Such a value keeps one storage alive, not all it may
be.  Counted is, per op index, the most that any run can hold beyond the storages that are
certainly alive:

    each uncertain tensor, with its views, counts the largest storage it may be;
    but no storage counts twice, and of a branch only one side, unless a loop allocates it.

What the run holds of an earlier iteration besides what it carries (`RegionFlow.held`)
counts here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from typing import Generic, TypeVar

from attrs import define, frozen

from dataflow import CopyKind
from passes.alias import Aliases
from passes.liveness import Liveness, Span, merged
from passes.program import AliasOf, Op, Program, SameAs, Value
from passes.storages import ANY, Allocations, is_one, numbers

N = TypeVar("N")
"""A number of bytes, or a function of symbols that gives one."""


@frozen
class Amounts(Generic[N]):
    """The most bytes of storages by number (None: not known), and what is done with bytes.

    `again` is what an op's run holds of earlier iterations, of so many bytes of one.
    """

    of: Callable[[int], N | None]
    total: Callable[[Iterable[N]], N]
    most: Callable[[Iterable[N]], N]
    less: Callable[[N, N], N]
    again: Callable[[N, Op], N]


@define(eq=False, slots=False)
class Uncertain(Generic[N]):
    """The uncertain values of a program, and the bytes they may keep alive."""

    liveness: Liveness
    amounts: Amounts[N]

    @staticmethod
    def of(liveness: Liveness) -> Uncertain[int]:
        """In plain numbers of bytes."""
        most_of = liveness.aliases.allocations.most
        most = partial(max, default=0)

        def again(held: int, op: Op) -> int:
            count = op.region_flow.again if op.region_flow else 0
            return held * (count or 0)

        return Uncertain(liveness, Amounts(most_of, sum, most, min, again))

    @property
    def program(self) -> Program:
        return self.liveness.program

    @property
    def aliases(self) -> Aliases:
        return self.liveness.aliases

    @property
    def made(self) -> Allocations:
        return self.aliases.allocations

    @cached_property
    def certain_spans(self) -> dict[int, tuple[Span, ...]]:
        """Per storage, when some value lives that is certainly it."""
        found: dict[int, tuple[Span, ...]] = {}
        for value, fact in zip(self.program.values, self.aliases.facts, strict=True):
            span = self.liveness.span(value)
            if span is not None and isinstance(fact, int) and is_one(fact):
                found[fact] = merged(found.get(fact, ()), span)
        return found

    @cached_property
    def roots(self) -> dict[Value, Value]:
        """Each uncertain value -> the one that it is certainly the same storage as."""
        roots = {value: value for value in self.aliases.uncertain}
        sources: dict[Value, list[Value]] = {}
        for op in self.program.all_ops:
            if op.region_flow:
                for copy in op.region_flow.copies:
                    sources.setdefault(copy.target, []).append(copy.source)
        # Values are numbered as they come to be, so what a value is the same as has its
        # root already; but an op's results come after its regions' values.
        same = {target: found[0] for target, found in sources.items() if len(found) == 1}
        for op in self.program.all_ops:
            for effect, value in zip(op.effects.results, op.defines):  # noqa: B905  # inputs have none
                if isinstance(effect, AliasOf):
                    same[value] = op.operands[effect.operands[0]]
                elif isinstance(effect, SameAs):
                    same[value] = op.defines[effect.result]
        for value in roots:
            root = value
            while root in same and same[root] in roots:
                root = same[root]
            roots[value] = root
        return roots

    @cached_property
    def kept(self) -> list[tuple[frozenset[int], tuple[Span, ...]]]:
        """Per uncertain tensor: what it may be, and when it or a view of it lives."""
        spans: dict[Value, tuple[Span, ...]] = {}
        for value, root in self.roots.items():
            span = self.liveness.span(value)
            if span is not None:
                spans[root] = merged(spans.get(root, ()), span)
        for op, head in self._loop_heads:
            if head in self.roots:  # the run holds what it carries from the first to the last
                root = self.roots[head]
                spans[root] = merged(spans.get(root, ()), (op.first_index, op.index - 1))
        return [(self._facts(root), found) for root, found in spans.items()]

    def _facts(self, value: Value) -> frozenset[int]:
        return numbers(self.aliases.facts[value.index])

    @property
    def _loop_heads(self) -> Iterable[tuple[Op, Value]]:
        """Each value that a loop carries, with the loop's op."""
        for op in self.program.all_ops:
            for copy in op.region_flow.copies if op.region_flow else ():
                if copy.kind is CopyKind.BACK:
                    yield op, copy.target

    @property
    def unsized(self) -> list[int]:
        """Storages of unknown size that only uncertain values may be."""
        found = {storage for storages, _ in self.kept for storage in storages}
        found -= {ANY, *self.certain_spans, *self.made.owner}
        return sorted(storage for storage in found if self.made.nbytes(storage) is None)

    def at(self, index: int) -> N:
        """Bytes that uncertain values may keep alive while op `index` runs."""
        amounts = self.amounts
        alone: list[N] = []
        together: list[N] = []
        shared: set[int] = set()
        for storages, spans in self.kept:
            if not _within(index, spans):
                continue
            candidates = [s for s in storages if self._adds(s, index)]
            most = amounts.most(self._known(candidates))
            if all(map(is_one, candidates)):
                together.append(most)
                shared.update(candidates)
            else:
                alone.append(most)
        once = amounts.less(amounts.total(together), self._once(shared, index))
        return amounts.total([*alone, once, *self._held(index)])

    def _known(self, storages: Iterable[int]) -> list[N]:
        found = map(self.amounts.of, storages)
        return [nbytes for nbytes in found if nbytes is not None]

    def _adds(self, storage: int, index: int) -> bool:
        """Whether a storage would add bytes to those certainly alive."""
        if storage == ANY or storage in self.made.owner:
            return False
        return not is_one(storage) or not _within(index, self.certain_spans.get(storage, ()))

    def _once(self, storages: Iterable[int], index: int) -> N:
        """Bytes of storages each counted once, and of each branch the larger side."""
        apart: list[int] = []
        sides: dict[Op, dict[int, list[int]]] = {}
        for storage in storages:
            left = self._left(self.made.definer[storage], index)
            if left is None:
                apart.append(storage)
            else:
                op, side = left
                sides.setdefault(op, {}).setdefault(side, []).append(storage)
        total = self.amounts.total
        larger = [
            self.amounts.most([total(self._known(side)) for side in found.values()])
            for found in sides.values()
        ]
        return total([*self._known(apart), *larger])

    def _left(self, allocates: Op, index: int) -> tuple[Op, int] | None:
        """The outermost op whose region an allocation was made in and `index` is not in,
        with the region's number; -1 is the op itself, beside its regions."""
        if allocates.region_flow:
            return allocates, -1
        left = None
        for op, number, inside in self._regions:
            if allocates.index in inside and index not in inside:
                left = op, number
        return left

    @cached_property
    def _regions(self) -> Sequence[tuple[Op, int, range]]:
        """Every region, inner ones before outer ones."""
        return [
            (op, number, range(region.ops[0].first_index, region.ops[-1].index + 1))
            for op in self.program.all_ops
            for number, region in enumerate(op.regions)
        ]

    def _held(self, index: int) -> Iterable[N]:
        return (nbytes for (start, stop), nbytes in self.held_again if start <= index <= stop)

    @cached_property
    def held_again(self) -> list[tuple[Span, N]]:
        """What a loop's run keeps of a region's output until the region returns again."""
        found = []
        for op in self.program.all_ops:
            flow = op.region_flow
            inside = range(op.first_index, op.index)
            if flow is None or not flow.again:
                continue
            for value in flow.held:
                made = [
                    storage
                    for storage in self._facts(value)
                    if (by := self.made.op(storage)) and by.index in inside
                ]
                region = next(region for region in op.regions if value in region.outputs)
                most = self.amounts.most(self._known(made))
                until = op.index if flow.held_for_stacking else region.ops[-1].index
                found.append(((op.first_index, until), self.amounts.again(most, op)))
        return found


def _within(index: int, spans: Iterable[Span]) -> bool:
    return any(start <= index <= stop for start, stop in spans)
