"""From an fx graph to a `Program` without executing a node: schemas, and recorded types.

Types come from what the capture left in `meta["val"]`; which of these tensors share storage
it is never asked, because after saving or copying a graph that is not true any more.  What
each op does is `declared`.  The walk keeps per value what later ops depend on: its type,
its storage where that is certain, and the storage's size.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from attrs import define, evolve, field
from torch import fx, nn
from torch._ops import HigherOrderOperator, OpOverload
from torch.utils._pytree import tree_map

from passes.errors import CaptureError
from passes.frontends.effects.choices import choice_depends
from passes.frontends.effects.declared import (
    anything,
    declared,
    declared_plain,
    plain,
    result_count,
)
from passes.frontends.effects.operands import (
    Arguments,
    Operand,
    argument_of,
    is_opaque,
    operands_in,
)
from passes.frontends.effects.schema import signature
from passes.frontends.effects.views import is_contiguous
from passes.frontends.fakes.layouts import has_two_formats, is_doubtful
from passes.frontends.fakes.undecided import SYMBOLS
from passes.frontends.fakes.undecided import recorded as as_recorded
from passes.frontends.fakes.world import (
    World,
    has_storage,
    known_int,
    nbytes_of,
    tensors_in,
    type_of,
)
from passes.frontends.walk.env import MISSING, Bound, Made, leaf_names, leaves_of
from passes.frontends.walk.nodes import target_name, unclear_out
from passes.frontends.walk.observing import Walk
from passes.frontends.walk.recordings import check_as_recorded, holding_of
from passes.program import (
    AliasOf,
    Effects,
    Fresh,
    Op,
    OpKind,
    Origin,
    ResultEffect,
    TensorType,
    Value,
)

NO_TENSORS = frozenset(("_operator", "math", "builtins", "torch", "torch.fx.experimental.sym_node"))
"""Modules whose functions give no tensor unless they are given one."""

ON_BATCHES = frozenset(("associative_scan", "flex_attention", "flex_attention_backward"))
"""Operators that hand their sub-graphs batches which only their implementation makes."""


class RecordedWorld(World):
    """The way into a program that is not executed: tensors as they are."""

    def tensor(self, real: torch.Tensor) -> torch.Tensor:
        if real.is_meta and self.device is not None:
            return super().tensor(real)
        self.refuse(real)
        return real

    def module(self, real: nn.Module) -> nn.Module:
        return real

    def own(self, recorded: object) -> object:
        """What was recorded, in this world: for operators with sub-graphs, which work out the
        shapes of what they stack and carry."""
        return tree_map(self._own, recorded)

    def _own(self, leaf: object) -> object:
        if isinstance(leaf, torch.Tensor):
            if not has_storage(leaf):
                return self.like(leaf)
            found = type_of(leaf)
            unknown = None in (*found.shape, *found.stride, found.offset)
            return as_recorded(leaf, self) if unknown else self.apart(leaf)
        if isinstance(leaf, SYMBOLS):
            hint = known_int(leaf)
            return as_recorded(leaf, self) if hint is None else hint
        return leaf


@define(eq=False)
class DeclaredWalk(Walk):
    """A walk that asks schemas and recorded types, and runs nothing."""

    known: dict[Value, Operand] = field(factory=dict)
    objects: dict[Value, Value] = field(factory=dict)  # in-place result -> its first value
    entries_seen: int = 0

    def surroundings(self) -> AbstractContextManager[object]:
        return nullcontext()

    def graph(
        self, module: fx.GraphModule, inputs: Sequence[Bound | Made], path: tuple[str, ...]
    ) -> tuple[tuple[Op, ...], Bound]:
        if not path:
            placeholders = module.graph.find_nodes(op="placeholder")
            for node, given in zip(placeholders, inputs, strict=True):
                check_as_recorded(node, given.result)
            return super().graph(module, inputs, path)
        ops, returned = super().graph(module, inputs, path)
        return ops, Bound(self.own(returned.result), returned.values)

    def own(self, recorded: object) -> object:
        """What was recorded, as fakes of this world."""
        world = self.book.world
        assert isinstance(world, RecordedWorld)
        return world.own(recorded)

    def call(
        self,
        node: fx.Node,
        module: fx.GraphModule,
        path: tuple[str, ...],
        env: dict[fx.Node, Bound],
    ) -> tuple[Op, Bound]:
        if not isinstance(node.target, HigherOrderOperator):
            return super().call(node, module, path, env)
        if node.target.__name__ in ON_BATCHES:
            raise CaptureError(
                f"node {node.name} ({target_name(node)}) runs its sub-graphs on batches of what "
                "the capture recorded, and how large these are is not on record: load with "
                "effects='observed'"
            )
        given = {
            one: Bound(self.own(env[one].result), env[one].values) for one in node.all_input_nodes
        }
        with self.book.world.mode:
            return super().call(node, module, path, {**env, **given})

    def get_attr(
        self, node: fx.Node, module: fx.GraphModule, path: tuple[str, ...]
    ) -> tuple[Op, Bound]:
        op, bound = super().get_attr(node, module, path)
        for value, source in zip(op.results, op.operands, strict=True):
            self.known[value] = self.operand(source)
        return op, bound

    def execute(
        self,
        node: fx.Node,
        module: fx.GraphModule,
        path: tuple[str, ...],
        env: dict[fx.Node, Bound],
        operands: list[Value],
    ) -> tuple[Op, Bound]:
        if node.op == "call_module":
            operands = self.with_reached(node, module, operands)
        recorded = holding_of(node, env, self.book.world)
        if recorded is MISSING:
            count = result_count(node.target)
            recorded = MISSING if count in (None, 1) else (MISSING,) * (count or 0)
        leaves = leaves_of(recorded)
        types = [None if leaf is None else type_of(leaf) for leaf in leaves]
        effects = self.effects(node, env, operands, types, leaves)
        types = list(self.without_doubtful_strides(node, operands, types, effects))
        name = "/".join((*path, node.name)) if path else node.name
        first = len(self.book.values)
        values = tuple(
            [
                Value(first + number, name, found)
                for number, (name, found) in enumerate(
                    zip(leaf_names(name, len(types)), types, strict=True)
                )
            ]
        )
        self.book.values += values
        self.learn(node, operands, values, effects)
        if self.dynamic and self.depends_on_sizes(node, env, leaves, effects):
            self.sized.append(name)
        op = self.make(node, path, OpKind.CALL, tuple(operands), values, effects)
        return op, Bound(recorded, values)

    # -- what an op does ---------------------------------------------------------------

    def effects(
        self,
        node: fx.Node,
        env: Mapping[fx.Node, Bound],
        operands: Sequence[Value],
        types: Sequence[TensorType | None],
        leaves: Sequence[torch.Tensor | None],
    ) -> Effects:
        target = node.target
        if target is operator.getitem:
            found = self.projected(node, env, operands, len(types))
            if found is not None:
                return found
        if isinstance(target, OpOverload):
            if signature(target).name in ("set_", "set_data"):
                raise CaptureError(
                    f"node {node.name} ({target_name(node)}) gives a tensor another storage, "
                    "which schemas cannot follow: load with effects='observed'"
                )
            kind = plain(target)
            if kind is not None and not any(is_opaque(value.type) for value in operands):
                return declared_plain(target, kind, len(operands), types)
            place = {value: number for number, value in enumerate(operands)}
            given = {**dict(zip(signature(target).arguments, node.args)), **node.kwargs}  # noqa: B905  # rest by name
            arguments = {
                name: argument_of(argument, env, lambda v: self.operand(v).at(place[v]))
                for name, argument in given.items()
            }
            if len(signature(target).outputs) > 1 and self.unclear(
                signature(target).outputs, arguments, operands, types
            ):
                raise unclear_out(node)
            return declared(target, arguments, len(operands), types)
        if not operands and not types and getattr(target, "__module__", "") in NO_TENSORS:
            return Effects(origin=Origin.SCHEMA)
        # Dynamo records the tensor itself, which later ops may make smaller: its storage stays.
        whole = [None if leaf is None else nbytes_of(leaf) for leaf in leaves]
        return anything(len(operands), whole)

    def unclear(
        self,
        outputs: Sequence[str],
        arguments: Arguments,
        operands: Sequence[Value],
        types: Sequence[TensorType | None],
    ) -> bool:
        """Whether of several `out=` one stands for two results, or is an operand and resized."""

        def objects(given: Iterable[object]) -> list[Value]:
            values = [operands[operand.position] for operand in operands_in([*given])]
            return [self.objects.get(value, value) for value in values]

        outs = objects(arguments.get(name) for name in outputs)
        read = objects(value for name, value in arguments.items() if name not in outputs)
        known = [self.operand(out).type for out in outs]
        return len({*outs}) < len(outs) or any(
            out in read and (one is None or found is None or one.shape != found.shape)
            for out, one, found in zip(outs, known, types, strict=False)
        )

    def operand(self, value: Value) -> Operand:
        """What is known of a value, at position 0."""
        known = self.known.get(value)
        if known is None:
            known = self.known[value] = self.entering(value)
        return known

    def entering(self, value: Value) -> Operand:
        """What is known of a value that no op has defined: of entry, or a region's input."""
        entries = self.book.entries
        while self.entries_seen < len(entries):
            entry = entries[self.entries_seen]
            self.known[entry.value] = Operand(0, entry.value.type, entry.nbytes, entry.storage)
            self.entries_seen += 1
        return self.known.get(value, Operand(0, value.type))

    def projected(
        self,
        node: fx.Node,
        env: Mapping[fx.Node, Bound],
        operands: Sequence[Value],
        count: int,
    ) -> Effects | None:
        """`getitem` of a list or tuple: which of its tensors come out."""
        container, index = node.args
        held = env[container] if isinstance(container, fx.Node) else None
        if held is None or not isinstance(held.result, (list, tuple)) or not isinstance(index, int):
            return None
        parts = [len(leaves_of(part)) for part in held.result]
        place = range(len(parts))[index]
        before = sum(parts[:place])
        taken = held.values[before : before + count]
        if len(taken) != count or parts[place] != count:
            return None
        positions = {value: number for number, value in enumerate(operands)}
        return Effects(
            tuple(AliasOf((positions[value],)) for value in taken),
            reads=frozenset(range(len(operands))),
            origin=Origin.SCHEMA,
        )

    def without_doubtful_strides(
        self,
        node: fx.Node,
        operands: Sequence[Value],
        types: Sequence[TensorType | None],
        effects: Effects,
    ) -> Iterator[TensorType | None]:
        """The types of results, without strides where those of the run may be others than the
        capture recorded, having run fake kernels."""
        given = [self.operand(value).type for value in operands]
        target = node.target
        doubtful = any(
            one is not None and (None in one.stride or has_two_formats(one.shape, one.stride))
            for one in given
        )
        if isinstance(target, OpOverload) and is_doubtful(target):
            doubtful |= not all(one is not None and is_contiguous(one) for one in given)
        outs = isinstance(target, OpOverload) and signature(target).outputs
        for found, effect in zip(types, effects.results, strict=True):
            if found is not None and outs and isinstance(effect, AliasOf):
                yield _as_given(found, given[effect.operands[0]])
            elif found is not None and doubtful:
                yield _unlaid(found)
            else:
                yield found

    def depends_on_sizes(
        self,
        node: fx.Node,
        env: Mapping[fx.Node, Bound],
        leaves: Sequence[torch.Tensor | None],
        effects: Effects,
    ) -> bool:
        """Whether results that are declared to be an operand, or new, are so at some sizes only."""
        certain = [
            (leaf, isinstance(effect, AliasOf))
            for leaf, effect in zip(leaves, effects.results, strict=True)
            if leaf is not None and isinstance(effect, (AliasOf, Fresh))
        ]
        sources = [t for one in node.all_input_nodes for t in tensors_in(env[one].result)]
        return choice_depends(node, sources, *(zip(*certain, strict=True) if certain else ((), ())))

    # -- what is known afterwards ------------------------------------------------------

    def learn(
        self, node: fx.Node, operands: Sequence[Value], values: Sequence[Value], effects: Effects
    ) -> None:
        for number, (value, effect) in enumerate(zip(values, effects.results, strict=True)):
            self.known[value] = self.result(value, effect, operands, number)
        for position, nbytes in effects.resizes:
            if not values:  # no result tells what it is now
                self.forget_type(operands[position])
            storage = self.operand(operands[position]).storage
            for value, known in self.known.items():
                if known.storage is None or known.storage == storage:
                    self.known[value] = evolve(known, nbytes=nbytes)
        target = node.target
        if isinstance(target, OpOverload) and effects.writes | {p for p, _ in effects.resizes}:
            self.same_object(target, operands, values, effects)

    def result(
        self, value: Value, effect: ResultEffect, operands: Sequence[Value], number: int
    ) -> Operand:
        if isinstance(effect, Fresh):
            return Operand(0, value.type, effect.nbytes, value)
        if isinstance(effect, AliasOf):
            source = self.operand(operands[effect.operands[0]])
            return Operand(0, value.type, source.nbytes, source.storage)
        return Operand(0, value.type)

    def same_object(
        self,
        target: OpOverload,
        operands: Sequence[Value],
        values: Sequence[Value],
        effects: Effects,
    ) -> None:
        """An in-place result is its operand's tensor object: if the operator changes the
        object's shape, the types of all its names are out of date."""
        for value, effect in zip(values, effects.results, strict=True):
            if isinstance(effect, AliasOf):
                operand = operands[effect.operands[0]]
                self.objects[value] = self.objects.get(operand, operand)
                if value.type != self.operand(operand).type:
                    self.forget_type(operand)
                    self.known[value] = evolve(self.known[value], type=value.type)

    def forget_type(self, value: Value) -> None:
        """The types of all names of a value's object are out of date."""
        first = self.objects.get(value, value)
        for name in [first, *(v for v, o in self.objects.items() if o is first)]:
            self.known[name] = evolve(self.operand(name), type=None)


def _as_given(found: TensorType, out: TensorType | None) -> TensorType:
    """A result in a tensor given as `out=`: it keeps its strides if it fits, which some fakes do
    not do; if it is resized, its kernel decides them."""
    if len(found.shape) < 2:
        return found
    fits = out is not None and out.shape == found.shape
    return evolve(found, stride=out.stride) if out is not None and fits else _unlaid(found)


def _unlaid(found: TensorType) -> TensorType:
    return evolve(found, stride=(None,) * len(found.stride))
