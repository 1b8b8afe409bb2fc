"""The tensor program every pass sees: the waist between frontends and analyses.

    Program    ops in execution order, the values that exist at entry, the capture it is of
    Op         one operation at one call path: operands, results, effects, sub-graphs
    Value      one tensor leaf that an op defines or that exists at entry
    Effects    what the op does, said of its own operands and results only
    Region     a sub-graph of an op, with inputs, ops and outputs of its own

Effects are relational ("result 0 has the storage of operand 1"), never absolute, so they hold
wherever the op stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from attrs import define, field, frozen

from dataflow import Copy, Flow
from passes.blocks import Blocks
from passes.effects import ANYTHING as ANYTHING
from passes.effects import AliasOf as AliasOf
from passes.effects import Effects as Effects
from passes.effects import Fresh as Fresh
from passes.effects import OneOf as OneOf
from passes.effects import Origin as Origin
from passes.effects import ResultEffect as ResultEffect
from passes.effects import SameAs as SameAs
from passes.effects import Unknown as Unknown
from passes.op import INPUT as INPUT
from passes.op import Op as Op
from passes.op import OpKind as OpKind
from passes.op import Region as Region
from passes.op import RegionFlow as RegionFlow
from passes.op import TensorType as TensorType
from passes.op import Value as Value
from passes.op import ValueCopy as ValueCopy
from passes.printing import op_lines

if TYPE_CHECKING:
    from passes.symbolic.dynamic import Dynamic

T = TypeVar("T")


class Role(Enum):
    """What an entry value is to the program: `constant` covers all other attributes.

    A training step also has gradients and the optimizer's state.
    """

    INPUT = "input"
    PARAMETER = "parameter"
    BUFFER = "buffer"
    CONSTANT = "constant"
    GRADIENT = "gradient"
    STATE = "state"

    __hash__ = object.__hash__  # they are compared by identity, and names take long to hash


@frozen(eq=False)
class EntryValue:
    """A value that exists before the first op runs.

    Entry values with equal `storage` numbers share one storage, of `nbytes` bytes.
    `donated`: the caller has given it away, so it lives until its last use and no longer.
    """

    value: Value
    role: Role
    name: str
    storage: int
    nbytes: int | None
    donated: bool = False


@frozen(eq=False)
class Entry:
    """What exists before the first op, and how it is known which of it shares storage."""

    values: tuple[EntryValue, ...]
    sharing: str


@frozen(eq=False)
class Kept:
    """A returned value that is more to its caller than a result: a gradient, say."""

    value: Value
    role: Role
    name: str


@define(eq=False, frozen=True, slots=False, repr=False)
class Program:
    """A tensor program: ops in execution order over the values of its entry.

    `ops` are those of the outermost graph, one per node of the source graph and in its
    order; `walk()` has the ops of all regions too.  `values[value.index]` is each value, of
    entry, ops and region inputs.  `kept` says of outputs what they are to the caller, where
    they are not just results.  `dynamic` are its dimensions that are not fixed, if it has any;
    all else is at the sizes it was loaded with.  `held_by_python` is the most bytes of
    intermediates that were there at once while Python ran, which holds what variables name;
    None where it did not run.  `sized` names the ops that return an operand at some sizes of
    the dynamic dimensions that the source has on record, and a copy at others.  `capture` says
    what made it, `notes` what the capture assumed or lost.  Satisfies `dataflow.FlowGraph`.
    """

    name: str
    capture: str
    ops: tuple[Op, ...]
    entry: Entry
    outputs: tuple[Value, ...]
    values: tuple[Value, ...]
    notes: tuple[str, ...] = ()
    graph: object = None
    kept: tuple[Kept, ...] = ()
    dynamic: Dynamic | None = None
    held_by_python: int | None = None
    sized: tuple[str, ...] = ()
    _results: dict[object, object] = field(factory=dict, init=False)

    def once(self, key: object, compute: Callable[[], T]) -> T:
        """The result known under `key`, computed at the first call.

        For the `of(program)` of result types: a program never changes, so neither do the
        results of analysing it.
        """
        if key not in self._results:
            self._results[key] = compute()
        return self._results[key]  # type: ignore[return-value]  # a key has one type

    def walk(self) -> Iterator[Op]:
        """Every op in execution order: the ops of a region before the op it hangs on."""
        yield from _walk(self.ops)

    @cached_property
    def all_ops(self) -> tuple[Op, ...]:
        """`walk()` as a tuple: `all_ops[op.index] is op`."""
        return tuple(self.walk())

    @cached_property
    def _by_name(self) -> dict[str, Op]:
        return {op.name: op for op in self.all_ops}

    @cached_property
    def _by_node(self) -> dict[object, list[Op]]:
        found: dict[object, list[Op]] = {}
        for op in self.all_ops:
            if op.node is not None:
                found.setdefault(op.node, []).append(op)
        return found

    def op(self, which: object) -> Op:
        """The op for a node of the source graph, a name, or a position in `ops`.

        Raises `KeyError` for a node of another graph, an unknown name or position, or a node of
        a sub-graph that is called several times (ask by name: one op per call path).
        """
        if isinstance(which, int):
            if not -len(self.ops) <= which < len(self.ops):
                raise KeyError(f"{self.name} has {len(self.ops)} ops, and none at position {which}")
            return self.ops[which]
        if isinstance(which, str):
            if which not in self._by_name:
                raise KeyError(f"{self.name} has no op named {which!r}")
            return self._by_name[which]
        found = self._by_node.get(which, [])
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(op.name for op in found)
            raise KeyError(f"{which} is called at several places, ask for one by name: {names}")
        raise KeyError(f"{which} is not a node of the graph that {self.name} was made from")

    def check(self, op: Op) -> None:
        """Raise `KeyError` unless `op` is one of this program's, `TypeError` if no op at all."""
        if not isinstance(op, Op):
            raise TypeError(f"{op!r} is not an Op: ask for it with program.op({op!r})")
        if not op.index < len(self.all_ops) or self.all_ops[op.index] is not op:
            raise KeyError(f"{op} is not an op of {self.name}")

    def check_value(self, value: Value) -> None:
        """Raise `KeyError` unless `value` is one of this program's, `TypeError` if no value at
        all."""
        if not isinstance(value, Value):
            raise TypeError(
                f"{value!r} is not a Value: an op's are its operands and results, as in "
                "program.op(NAME).results[0]"
            )
        if not value.index < len(self.values) or self.values[value.index] is not value:
            raise KeyError(f"{value} is not a value of {self.name}")

    @property
    def assumed(self) -> tuple[Op, ...]:
        """Ops whose effects are not known for certain: declared by a schema alone, or anything."""
        return tuple(
            op for op in self.all_ops if op.effects.origin in (Origin.DECLARED, Origin.ANYTHING)
        )

    @cached_property
    def flow(self) -> Flow[Op]:
        """The program as the solver sees it."""
        # An input op defines nothing: its value is there at entry.  What regions hand to
        # their op's results are copies.
        ops = self.all_ops
        lines = Blocks()
        lines.add(self.ops)
        return Flow(
            nodes=ops,
            blocks=lines.blocks,
            edges=lines.edges,
            entries=[0],
            exits=[lines.current],
            values=self.values,
            operands=[tuple([value.index for value in op.operands]) for op in ops],
            results=[
                ()
                if op.kind is OpKind.INPUT or (op.region_flow and op.region_flow.defines(op))
                else tuple([value.index for value in op.defines])
                for op in ops
            ],
            inputs=[entry.value.index for entry in self.entry.values],
            outputs=[value.index for value in self.outputs],
            copies=[
                Copy(copy.source.index, copy.target.index, copy.kind, op.index)
                for op in ops
                if op.region_flow
                for copy in op.region_flow.copies
            ],
            begins=lines.begins,
            checked=True,
        )

    def to_rows(self) -> list[dict[str, object]]:
        """One dict per op, in execution order, for a data frame."""
        return [
            {
                "index": op.index,
                "name": op.name,
                "path": "/".join(op.path),
                "kind": op.kind.value,
                "target": op.target,
                "operands": [value.name for value in op.operands],
                "results": [value.name for value in op.results],
                "types": [str(value.type) for value in op.results],
                "effects": [str(effect) for effect in op.effects.results],
                "reads": [op.operands[number].name for number in sorted(op.effects.reads)],
                "writes": [op.operands[number].name for number in sorted(op.effects.writes)],
                "origin": op.effects.origin.value,
                "module": op.module,
                "source": op.source,
            }
            for op in self.all_ops
        ]

    def __repr__(self) -> str:
        return f"<Program {self.name}: {len(self.all_ops)} ops, captured by {self.capture}>"

    def __str__(self) -> str:
        lines = [f"{self.name}: {len(self.all_ops)} ops, captured by {self.capture}"]
        lines += [f"  note: {note}" for note in self.notes]
        lines += list(op_lines(self.ops, "  "))
        return "\n".join(lines)


def check_program(found: object) -> None:
    """Raise `TypeError` for what is no Program."""
    if not isinstance(found, Program):
        raise TypeError(
            f"this takes a Program, and was given a {type(found).__qualname__}: load it first, as "
            "in passes.load(model, *example_inputs)"
        )


def _walk(ops: tuple[Op, ...]) -> Iterator[Op]:
    for op in ops:
        for region in op.regions:
            yield from _walk(region.ops)
        yield op
