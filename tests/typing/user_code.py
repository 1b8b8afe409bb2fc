"""What a strict code base of a user would contain.  It is checked by mypy and never run.

A wrong use must be an error: `type: ignore` without an error is one itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, assert_type

import torch
from attrs import frozen
from torch import nn

import passes
from dataflow import (
    BOTTOM,
    Backward,
    Bottom,
    Chain,
    Congruence,
    DisjointUnion,
    Dual,
    Flat,
    Flow,
    Forward,
    Interval,
    Lattice,
    Lifted,
    MapOf,
    Moment,
    Nothing,
    Partition,
    PointResults,
    Powerset,
    Product,
    Record,
    Reduced,
    Sign,
    Signs,
    SparseBackward,
    SparseForward,
    TextGraph,
    TextNode,
    Top,
    ValueResults,
    check_graph,
    check_lattice,
    check_monotone,
    check_sound,
    check_values,
    checked,
    diffs,
    dot,
    parse,
    solve,
    trace,
    verify,
)
from passes import (
    Aliases,
    Effects,
    GraphAnalyser,
    Liveness,
    LiveRange,
    LiveStage,
    LiveVariableVector,
    Memory,
    Op,
    Program,
    Region,
    Storage,
    StorageClass,
    TensorType,
    Value,
)
from passes.program import Role

# -- a lattice of one's own ------------------------------------------------------------------


@frozen
class Severity:
    """A fact of one's own type."""

    level: int
    reason: str


@frozen
class Worst(Lattice[Severity]):
    """The severest of what may happen."""

    @property
    def bottom(self) -> Severity:
        return Severity(0, "")

    def join(self, a: Severity, b: Severity) -> Severity:
        return max(a, b, key=lambda fact: (fact.level, fact.reason))


@frozen
class Either(Lattice[bool]):
    """Whether it may be so."""

    @property
    def bottom(self) -> bool:
        return False

    def join(self, a: bool, b: bool) -> bool:
        return a or b


@frozen
class WrongJoin(Lattice[int]):
    """A join of other types than the facts is an error."""

    @property
    def bottom(self) -> int:
        return 0

    def join(self, a: str, b: str) -> int:  # type: ignore[override]
        return 0


# -- the four kinds of analysis --------------------------------------------------------------


@frozen
class Written(Forward[Op, frozenset[Storage]]):
    """Storages written so far."""

    aliases: Aliases
    lattice: Lattice[frozenset[Storage]] = Powerset()

    def boundary(self) -> frozenset[Storage]:
        return frozenset()

    def transfer(self, op: Op, value: frozenset[Storage]) -> frozenset[Storage]:
        return value | self.aliases.storages_written_by(op)


@frozen
class Ahead(Backward[Op, Severity]):
    """The severest op still to come."""

    limits: Mapping[str, int]
    lattice: Lattice[Severity] = Worst()

    def transfer(self, op: Op, value: Severity) -> Severity:
        return self.lattice.join(value, Severity(self.limits.get(op.target, 0), op.name))


@frozen
class Depth(SparseForward[Op, int]):
    """The longest chain of ops up to each value."""

    lattice: Lattice[int] = Chain(0, 10_000)

    def entry(self, value: object) -> int:
        return 0

    def transfer(self, op: Op, operands: Sequence[int]) -> Sequence[int]:
        return [min(max(operands, default=0) + 1, 10_000)] * len(op.defines)


@frozen
class Needed(SparseBackward[Op, bool]):
    """Whether any output needs a value."""

    lattice: Lattice[bool] = Either()

    def exit(self, value: object) -> bool:
        return True

    def transfer(self, op: Op, results: Sequence[bool]) -> Sequence[bool]:
        return [any(results)] * len(op.operands)


@frozen
class WrongTransfer(Forward[Op, int]):
    """A transfer over other nodes than the analysis' is an error."""

    lattice: Lattice[int] = Chain()

    def transfer(self, op: TextNode, value: int) -> int:  # type: ignore[override]
        return value


@frozen
class WrongLattice(Forward[Op, int]):
    """A lattice of other facts than the analysis' is an error."""

    lattice: Lattice[str] = Flat()  # type: ignore[assignment]

    def transfer(self, op: Op, value: int) -> int:
        return value


@frozen
class Constants(Forward[TextNode, Mapping[str, int | Bottom | Top]]):
    """A generic lattice made of two."""

    lattice: MapOf[str, int | Bottom | Top] = MapOf(Flat[int]())

    def transfer(
        self, node: TextNode, value: Mapping[str, int | Bottom | Top]
    ) -> Mapping[str, int | Bottom | Top]:
        return self.lattice.of({**value, **dict.fromkeys(node.results, BOTTOM)})


# -- solve and run ---------------------------------------------------------------------------


def of_a_text() -> None:
    graph = parse("x = 1")
    assert_type(graph, TextGraph)
    assert_type(graph.node("1"), TextNode)
    results = solve(Constants(), graph)
    assert_type(results, PointResults[TextNode, Mapping[str, int | Bottom | Top]])
    assert_type(results.before(graph.node("1")), Mapping[str, int | Bottom | Top])
    verify(results)
    solve(Depth(), graph)  # type: ignore[misc]  # an analysis of ops, a graph of text


def of_a_program(program: Program, op: Op, value: Value) -> None:
    written = solve(Written(aliases=passes.aliases(program)), program)
    assert_type(written, PointResults[Op, frozenset[Storage]])
    assert_type(written.before(op), frozenset[Storage])
    assert_type(written.after(op), frozenset[Storage])
    assert_type(written.reached(op), bool)
    assert_type(written.visits, int)

    depth = solve(Depth(), program, limit=100)
    assert_type(depth, ValueResults[Op, int])
    assert_type(depth.of(value), int)

    assert_type(passes.run(Written, program), PointResults[Op, frozenset[Storage]])
    assert_type(passes.run(Ahead, program, limits={}), PointResults[Op, Severity])
    assert_type(passes.run(Depth, program), ValueResults[Op, int])
    assert_type(passes.run(Needed, program, lattice=Either()), ValueResults[Op, bool])
    verify(written)
    written.before("add")  # type: ignore[arg-type]  # a name is no node


def steps(node: TextNode, state: int) -> int:
    return state + 1


def at_least(fact: int, moment: Moment[TextNode, int]) -> bool:
    assert_type(moment.rest, list[TextNode])
    return fact <= moment.state


@frozen
class Lines(Forward[TextNode, int]):
    """How many lines went before."""

    lattice: Lattice[int] = Chain()

    def transfer(self, node: TextNode, value: int) -> int:
        return value + 1


def of_trust(program: Program) -> None:
    graph = parse("x = 1")
    check_graph(graph)
    check_graph(program)
    check_monotone(Lines(), graph, [1, 2])
    check_monotone(Lines(), graph, ["1"])  # type: ignore[misc]  # facts of another lattice
    assert_type(checked(Lines()), Lines)
    results = solve(checked(Lines()), graph)
    check_sound(results, [0], steps, at_least)
    check_sound(results, ["0"], steps, at_least)  # type: ignore[arg-type]  # other states
    depth = passes.run(Depth, program)
    check_values(depth, [(value, 1) for value in program.outputs], lambda fact, size: fact >= size)
    check_sound(depth, [0], steps, at_least)  # type: ignore[arg-type]  # facts of values
    assert_type([diff.gained for diff in diffs(results)], list[tuple[str, ...]])
    assert_type(dot(depth) + dot(results) + trace(Lines(), graph), str)


def of_lattices() -> None:
    check_lattice(Worst(), [Severity(0, ""), Severity(1, "a")])
    check_lattice(Worst(), [1, 2])  # type: ignore[misc]
    pair = Product(Powerset[str](), Lifted(Chain()))
    assert_type(pair.bottom, tuple[frozenset[str], int | Nothing])
    assert_type(Dual(Powerset[int](frozenset({1}))).bottom, frozenset[int])
    assert_type(Interval().bottom, tuple[float, float] | Bottom)
    assert_type(Record(Severity, level=Chain(), reason=Flat()).bottom, Severity)
    assert_type(Partition[str]().of(["ab"]), frozenset[frozenset[str]])
    assert_type(Signs().join(Signs.of(1), Signs.of(-1)), frozenset[Sign])
    steps = Reduced(Interval(), Congruence(), reduce=lambda pair: pair)
    assert_type(steps.bottom, tuple[tuple[float, float] | Bottom, tuple[int, int] | Bottom])
    assert_type(DisjointUnion(a=Chain(), b=Flat()).of("a", 1), tuple[str, Any])
    assert_type(list(MapOf[str, int](Chain()).parts({"x": 1})), list[Mapping[str, int]])
    Record(Severity, level=3)  # type: ignore[arg-type]  # no lattice
    Reduced(Interval(), Congruence())  # type: ignore[call-arg]  # reduce is missing


# -- a graph of one's own --------------------------------------------------------------------


@frozen
class Recipe:
    """Steps one after the other."""

    steps: tuple[str, ...]

    @property
    def flow(self) -> Flow[str]:
        return Flow(
            nodes=self.steps,
            blocks=[range(len(self.steps))],
            edges=[],
            entries=[0],
            exits=[0],
        )


@frozen
class Count(Forward[str, int]):
    """How many steps went before."""

    lattice: Lattice[int] = Chain()

    def transfer(self, node: str, value: int) -> int:
        return value + 1


def of_a_graph() -> None:
    assert_type(solve(Count(), Recipe(("stir", "bake"))), PointResults[str, int])


# -- the answers about programs --------------------------------------------------------------


def load(model: nn.Module) -> Program:
    x = torch.rand(2)
    passes.load("model.pt2", trust=True)
    passes.load(model, x, mask=x)
    return passes.load(model, x)


def answers(program: Program, op: Op, value: Value) -> Iterator[object]:
    assert_type(program.ops, tuple[Op, ...])
    assert_type(program.op("add"), Op)
    assert_type(program.walk(), Iterator[Op])
    assert_type(program.assumed, tuple[Op, ...])
    assert_type(program.outputs, tuple[Value, ...])
    assert_type(program.to_rows(), list[dict[str, object]])
    assert_type(op.effects, Effects)
    assert_type(op.operands, tuple[Value, ...])
    assert_type(op.defines, tuple[Value, ...])
    assert_type(op.regions, tuple[Region, ...])
    assert_type(value.type, TensorType | None)

    aliases = passes.aliases(program)
    assert_type(aliases, Aliases)
    assert_type(aliases.pointees(value), frozenset[Storage])
    assert_type(aliases.may_alias(value, value), bool)
    assert_type(aliases.classes, tuple[StorageClass, ...])
    assert_type(aliases.storages(op), tuple[frozenset[StorageClass], ...])
    assert_type(aliases.written_by(op), frozenset[StorageClass])
    assert_type(aliases.classes[0].members, frozenset[Value])
    assert_type(aliases.classes[0].nbytes, int | None)

    liveness = passes.liveness(program, "all")
    assert_type(liveness, Liveness)
    assert_type(liveness.before(op), frozenset[Value])
    assert_type(liveness.classes(op), frozenset[StorageClass])
    assert_type(liveness.range(aliases.classes[0]), LiveRange)
    passes.liveness(program, "some")  # type: ignore[arg-type]

    fit = passes.fits(nn.Linear(4, 4), [torch.rand(4)], budget="24 GiB", optimizer="adamw")
    assert_type(fit.needed if fit else fit.margin, int)
    assert_type(fit.by_category[passes.Category.STATE], int)
    assert_type(passes.cuda_memory(fit.program).max_reserved, int)
    passes.fits(nn.Linear(4, 4), budget=1.5)  # type: ignore[arg-type]  # bytes are whole
    memory = passes.memory(program)
    assert_type(memory, Memory)
    assert_type(memory.peak_bytes, int)
    assert_type(memory.peak_at, Op | None)
    assert_type(memory.timeline, tuple[int, ...])
    assert_type(memory.at(op), int)
    assert_type(memory.alive_at(op), tuple[StorageClass, ...])
    assert_type(memory.entry_bytes, Mapping[Role, int])
    assert_type(memory.unsized, tuple[Storage, ...])
    program.name = "other"  # type: ignore[misc]  # results are immutable
    yield memory


def stages(analyser: GraphAnalyser) -> None:
    (stage, *_) = analyser.liveness_analysis()
    assert_type(stage, LiveStage)
    assert_type(stage.all_live_vars, LiveVariableVector)
    assert_type(stage.all_live_vars.exists("add"), bool)
    assert_type(stage.unique_live_vars[0].is_inplace, bool)
    assert_type(analyser.get_alias_set(), tuple[StorageClass, ...])


# -- a result of one's own, which others can name as a field ---------------------------------


@frozen
class Depths:
    """Depths by name."""

    by_name: Mapping[str, int]

    @classmethod
    def of(cls, program: Program) -> Depths:
        return program.once(cls, lambda: cls._solve(program))

    @classmethod
    def _solve(cls, program: Program) -> Depths:
        results = passes.run(Depth, program)
        return cls({value.name: results.of(value) for value in program.outputs})


@frozen
class Deep(Forward[Op, frozenset[str]]):
    """Deep results that exist by now."""

    depths: Depths
    lattice: Lattice[frozenset[str]] = Powerset()

    def transfer(self, op: Op, value: frozenset[str]) -> frozenset[str]:
        deep = (v.name for v in op.defines if self.depths.by_name.get(v.name, 0) > 10)
        return value | frozenset(deep)


def of_a_result(program: Program) -> None:
    assert_type(passes.run(Deep, program), PointResults[Op, frozenset[str]])
