"""A program to be: the ops of another one in a new order, some changed, some added.

What an op does is said of its own operands and results, so it holds wherever the op stands.
A draft is therefore a Program for every analysis as soon as its ops and values are numbered
anew, and nothing has to be executed.  Ops inside sub-graphs stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from attrs import define, evolve, field, frozen

from passes.program import (
    Entry,
    EntryValue,
    Kept,
    Op,
    OpKind,
    Program,
    Region,
    RegionFlow,
    Value,
    ValueCopy,
)


@define(eq=False, frozen=True, slots=False)
class Draft:
    """The ops of `source`'s outermost graph, changed.

    `ops` are in the new order, over values of the source and of new ops.  `calls` says what
    an op calls where that is not what its node calls; such ops and new ones are known by
    name.  `instead` has, for values that are returned, the value to return.  `donated` are
    the entry values that the caller gives away.
    """

    source: Program
    ops: tuple[Op, ...]
    calls: Mapping[str, object] = field(factory=dict)
    instead: Mapping[Value, Value] = field(factory=dict)
    donated: frozenset[Value] = frozenset()

    @classmethod
    def of(cls, program: Program) -> Draft:
        """The program as it is."""
        given = [entry.value for entry in program.entry.values if entry.donated]
        return cls(program, program.ops, donated=frozenset(given))

    @cached_property
    def program(self) -> Program:
        """The draft as a Program, for analysis; it has the graph of its source."""
        return _Numbering(self, lambda op: op.node).program(self.source.graph)

    @cached_property
    def rewritten(self) -> Program:
        """The same with a graph of its own, which can be run."""
        from passes.frontends.capture.rewriting import rewritten

        graph, nodes = rewritten(self.source, self.ops, self.calls, self.instead)
        made = _Numbering(self, lambda op: nodes.get(op, op.node)).program(graph)
        dynamic = self.source.dynamic
        return evolve(made, dynamic=dynamic and dynamic.of_graph(graph))


def substituted(op: Op, instead: Mapping[Value, Value]) -> Op:
    """The op with other operands.  Raises `ValueError` for an op with sub-graphs, whose flow
    names its operands."""
    if not any(value in instead for value in op.operands):
        return op
    if op.regions:
        raise ValueError(f"{op} has sub-graphs")
    return evolve(op, operands=tuple([instead.get(value, value) for value in op.operands]))


def copied(op: Op, name: str, instead: Mapping[Value, Value], phase: str) -> Op:
    """The same op once more, under another name and with results of its own."""
    again = substituted(op, instead)
    results = tuple(
        [Value(-1, value.name.replace(op.name, name, 1), value.type) for value in op.results]
    )
    return evolve(again, name=name, results=results, phase=phase)


@define(eq=False)
class _Numbering:
    """Numbers ops and values in the order they come to be."""

    draft: Draft
    node_of: Callable[[Op], object]
    values: list[Value] = field(factory=list)
    made: dict[Value, Value] = field(factory=dict)
    count: int = 0
    sized: list[str] = field(factory=list)
    sized_nodes: frozenset[object] = field(init=False)

    @sized_nodes.default
    def _nodes_of_sized(self) -> frozenset[object]:
        source = self.draft.source
        return frozenset([op.node for op in source.all_ops if op.name in source.sized])

    def program(self, graph: object) -> Program:
        source = self.draft.source
        entry = Entry(tuple(map(self.entry, source.entry.values)), source.entry.sharing)
        ops = tuple(map(self.op, self.draft.ops))
        instead = self.draft.instead
        return Program(
            name=source.name,
            capture=source.capture,
            ops=ops,
            entry=entry,
            outputs=self.known(instead.get(value, value) for value in source.outputs),
            values=tuple(self.values),
            notes=source.notes,
            graph=graph,
            kept=tuple(
                [
                    Kept(self.made[instead.get(k.value, k.value)], k.role, k.name)
                    for k in source.kept
                ]
            ),
            sized=tuple(self.sized),
        )

    def entry(self, old: EntryValue) -> EntryValue:
        return evolve(old, value=self.value(old.value), donated=old.value in self.draft.donated)

    def value(self, old: Value) -> Value:
        if old not in self.made:
            self.made[old] = Value(len(self.values), old.name, old.type)
            self.values.append(self.made[old])
        return self.made[old]

    def known(self, values: Iterable[Value]) -> tuple[Value, ...]:
        return tuple([self.made[value] for value in values])

    def op(self, old: Op) -> Op:
        operands = None if old.kind is OpKind.INPUT else self.known(old.operands)
        regions = tuple(map(self.region, old.regions))
        index = self.count
        self.count += 1
        if old.node in self.sized_nodes:
            self.sized.append(old.name)
        results = tuple(map(self.value, old.results))
        return evolve(
            old,
            index=index,
            operands=operands or (),
            results=results,
            renames=tuple([(position, self.value(value)) for position, value in old.renames]),
            regions=regions,
            region_flow=self.flow(old.region_flow) if old.region_flow else None,
            node=self.node_of(old),
        )

    def region(self, old: Region) -> Region:
        inputs = tuple(map(self.value, old.inputs))
        ops = tuple(map(self.op, old.ops))
        return Region(old.name, inputs, ops, self.known(old.outputs))

    def flow(self, old: RegionFlow) -> RegionFlow:
        return evolve(
            old,
            copies=tuple(
                [ValueCopy(self.made[c.source], self.made[c.target], c.kind) for c in old.copies]
            ),
            held=self.known(old.held),
            early=self.known(old.early),
        )


@frozen(eq=False)
class Names:
    """Names that no op of a program has yet."""

    taken: set[str]

    def fresh(self, base: str) -> str:
        """A new name that begins with `base`."""
        name, number = base, 1
        while name in self.taken:
            number += 1
            name = f"{base}_{number}"
        self.taken.add(name)
        return name
