"""What the passes claim inside sub-graphs, against the truth inside sub-graphs.

The truth of a value is the set of storages it had in any run, each named after the op that
allocated it, and "earlier" where that was in an earlier iteration.  Demanded of every program:

    storages   each real one is among those claimed; two values that have one may alias; values
               that must alias have one
    writes     each real one is claimed of its op, and of every op around it
    memory     at no instance of an op is more alive than claimed, so neither at the peak

and of those whose runs take every way there is: that nothing else is claimed, and that some run
reaches the peak.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product
from typing import Any

import pytest
import torch
from attrs import define
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Proxy
from torch.fx.proxy import GraphAppendingTracer
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

import passes
from passes import UNKNOWN, Program, Storage, Value
from passes.program import OpKind

from .inside import Inside, Instance, observe_inside
from .run import _fresh, _leaves, _tensors, observe, placeholders_of

# ------------------------------------------------------------------------------- the comparison


@define
class Truth:
    """One run of a program, in the program's own terms."""

    program: Program
    inside: Inside
    entry: dict[int, Storage]
    origins: dict[int, tuple[Instance, int]]
    """For each storage the instance that allocated it, and which of its leaves it is."""

    @classmethod
    def of(cls, program: Program, inside: Inside) -> Truth:
        aliases = passes.aliases(program)
        entry: dict[int, Storage] = {}
        origins: dict[int, tuple[Instance, int]] = {}
        for instance in inside.all_instances:
            op = program.op(instance.op)
            if op.kind is OpKind.OUTPUT:
                continue
            assert len(op.results) == len(instance.storages), f"tensor leaves of {op.name}"
            outermost = op.kind is OpKind.INPUT and not op.path
            for leaf, number in enumerate(instance.storages):
                if number not in inside.entry:
                    origins.setdefault(number, (instance, leaf))
                elif outermost or op.kind is OpKind.ATTRIBUTE:
                    (claimed,) = aliases.pointees(op.results[leaf])
                    assert entry.setdefault(number, claimed) is claimed
        assert len(set(entry.values())) == len(entry)
        return cls(program, inside, entry, origins)

    def storage(self, number: int, seen_by: Instance) -> Storage | str:
        """What the claims should call a real storage; a text where there is no such claim."""
        if number in self.inside.entry:
            return self.entry[number]
        origin, leaf = self.origins[number]
        op = self.program.op(origin.op)
        earlier = not self.inside.meet(origin, seen_by)
        for storage in passes.aliases(self.program).all_storages:
            if (storage.op, storage.earlier) == (op, earlier):
                if storage.name.removesuffix(" (earlier)") == op.results[leaf].name:
                    return storage
        return f"{op.results[leaf].name}{' (earlier)' * earlier}"

    def values(self) -> Iterator[tuple[Value, Instance, int]]:
        """Each value as it was at each instance: `(value, instance, storage)`."""
        for instance in self.inside.all_instances:
            op = self.program.op(instance.op)
            if op.kind is not OpKind.OUTPUT:
                for value, number in zip(op.results, instance.storages, strict=True):
                    yield value, instance, number


def names(storages: object) -> list[str]:
    return sorted(map(str, storages))  # type: ignore[call-overload, no-any-return]  # an iterable


def check_sound(truth: Truth) -> None:
    """Every real fact is covered by the claims."""
    program, inside = truth.program, truth.inside
    aliases, memory = passes.aliases(program), passes.memory(program)
    values = list(truth.values())

    by_storage: dict[int, list[tuple[Value, Instance]]] = {}
    by_value: dict[Value, list[tuple[Instance, int]]] = {}
    for value, instance, number in values:
        real = truth.storage(number, instance)
        claim = aliases.pointees(value)
        assert real in claim or UNKNOWN in claim, f"{value} is {real}, not one of {names(claim)}"
        by_storage.setdefault(number, []).append((value, instance))
        by_value.setdefault(value, []).append((instance, number))
    for same in by_storage.values():
        for (one, first), (other, second) in combinations(same, 2):
            if inside.meet(first, second):
                assert aliases.may_alias(one, other), f"{one} and {other} are one storage"
    for one, other in combinations(by_value, 2):
        if aliases.must_alias(one, other):
            for (first, number), (second, another) in product(by_value[one], by_value[other]):
                if inside.meet(first, second):
                    assert number == another, f"{one} and {other} are not one storage"

    for instance in inside.all_instances:
        op = program.op(instance.op)
        claims = aliases.storages_written_by(op)
        assert claims == {written.storage for written in aliases.written_by(op)}
        for number in instance.written:
            real = truth.storage(number, instance)
            assert real in claims or UNKNOWN in claims, f"{op} writes {real}: {names(claims)}"
            for value, there in by_storage[number]:
                if there.ended < instance.began and inside.meet(there, instance):
                    pointees = aliases.pointees(value)
                    assert pointees & claims or UNKNOWN in pointees | claims, f"{op}: {value}"

    for instance in inside.all_instances:
        claimed = memory.at(program.op(instance.op))
        assert instance.alive <= claimed, (
            f"{instance.alive} bytes at {instance.op} {instance.iterations}: {claimed} claimed"
        )
    assert inside.peak_bytes <= memory.peak_bytes


def check_exact_storages(truths: Sequence[Truth]) -> None:
    """Nothing is claimed of storages and writes that no run does."""
    program = truths[0].program
    aliases = passes.aliases(program)
    real: dict[Value, set[Storage | str]] = {}
    written: dict[str, set[Storage | str]] = {}
    for truth in truths:
        for value, instance, number in truth.values():
            real.setdefault(value, set()).add(truth.storage(number, instance))
        for instance in truth.inside.all_instances:
            writes = {truth.storage(number, instance) for number in instance.written}
            written.setdefault(instance.op, set()).update(writes)
    for value, storages in real.items():
        assert names(aliases.pointees(value)) == names(storages), value
    for op, storages in written.items():
        assert names(aliases.storages_written_by(program.op(op))) == names(storages), op


def check_exact_peak(truths: Sequence[Truth]) -> None:
    """Some run reaches the peak."""
    peak = max(truth.inside.peak_bytes for truth in truths)
    memory = passes.memory(truths[0].program)
    assert memory.peak_bytes == peak, f"{memory.peak_bytes} claimed at {memory.peak_at}"


def check_exact_bytes(truths: Sequence[Truth]) -> None:
    """At every op some run has alive what is claimed."""
    program = truths[0].program
    real: dict[str, int] = {}
    for truth in truths:
        for instance in truth.inside.all_instances:
            real[instance.op] = max(real.get(instance.op, 0), instance.alive)
    memory = passes.memory(program)
    assert {op: memory.at(program.op(op)) for op in real} == real


# ------------------------------------------------------------------------------------- captures


@define
class Case:
    """A captured program, and the values of its placeholders for several runs."""

    graph: GraphModule
    source: object
    runs: list[list[Any]]
    """For each run the value of each placeholder."""

    inputs: list[Any]
    """What the source is called with, in the first run."""

    def truths(self) -> list[Truth]:
        program = passes.load(self.source, *self.inputs)
        assert not program.assumed
        return [Truth.of(program, observe_inside(self.graph, values)) for values in self.runs]


class _Calls(nn.Module):
    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function
        self.linear = nn.Linear(4, 4)
        self.total = nn.Buffer(torch.zeros(4))

    def forward(self, *args: Tensor) -> object:
        return self.function(self, *args)


def exported(function: Callable[..., object], *runs: Sequence[Any], grad: bool = False) -> Case:
    """By `torch.export`.  `function` gets the module, which has some state, and the inputs."""
    with torch.set_grad_enabled(grad), warnings.catch_warnings(action="ignore"):
        program = torch.export.export(_Calls(function).requires_grad_(grad), tuple(runs[0]))
    values = [placeholders_of(program, tuple(run)) for run in runs]
    return Case(program.graph_module, program, values, list(runs[0]))


def compiled(function: Callable[..., object], *runs: Sequence[Any]) -> Case:
    """By Dynamo, as its backends see it."""
    graphs: list[GraphModule] = []
    values: list[list[Any]] = []

    def backend(graph: GraphModule, _: object) -> Callable[..., object]:
        def call(*args: Any) -> object:
            graphs.append(graph)
            values.append(list(args))
            return graph(*args)

        return call

    module = _Calls(function).requires_grad_(False)
    torch._dynamo.reset()
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        run = torch.compile(module, backend=backend, fullgraph=True)
        for inputs in runs:
            run(*[x.clone() for x in inputs])
    torch._dynamo.reset()
    assert len(set(graphs)) == 1
    return Case(graphs[0], graphs[0], values, values[0])


class _Writer(GraphAppendingTracer):
    def __init__(self, graph: Graph, root: nn.Module) -> None:
        super().__init__(graph)
        self.root = root


def written(function: Callable[..., Any], count: int, state: Tensor | None = None) -> GraphModule:
    """By hand, for what the captures refuse and eager torch runs: `function` gets proxies."""
    root, graph = nn.Module(), Graph()
    if state is not None:
        root.register_buffer("state", state)
    writer = _Writer(graph, root)
    inputs = [Proxy(graph.placeholder(f"x{number}"), writer) for number in range(count)]
    graph.output(_nodes(function(*inputs)))
    return GraphModule(root, graph)


def by_hand(function: Callable[..., Any], *runs: Sequence[Any]) -> Case:
    graph = written(function, len(runs[0]))
    return Case(graph, graph, [list(run) for run in runs], list(runs[0]))


def _nodes(value: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.node if isinstance(leaf, Proxy) else leaf, value)


def call(operator: str, *args: Any, near: Proxy) -> Proxy:
    """A call of an operator with sub-graphs, in the graph of `near`."""
    writer: Any = near.tracer

    def argument(value: Any) -> Any:
        if not isinstance(value, GraphModule):
            return _nodes(value)
        name = f"{operator}_{len(writer.root._modules)}"
        setattr(writer.root, name, value)
        return writer.graph.get_attr(name)

    target: Any = getattr(torch.ops.higher_order, operator)
    return Proxy(writer.graph.call_function(target, tuple(map(argument, args))), writer)


def cond(predicate: Proxy, yes: Any, no: Any, *operands: Proxy) -> Proxy:
    bodies = (_body(yes, len(operands)), _body(no, len(operands)))
    return call("cond", predicate, *bodies, operands, near=predicate)


def while_loop(body: Any, count: Proxy, *start: Proxy, extra: Sequence[Proxy] = ()) -> list[Proxy]:
    """Runs `body` `count` times, on what it carries and the extra ones; the last carried."""
    inputs = 1 + len(start) + len(extra)
    again = written(lambda left, *_: left > 0, inputs)
    step = written(lambda left, *rest: (left - 1, *body(*rest)), inputs)
    loop = call("while_loop", again, step, (count, *start), tuple(extra), near=count)
    return [loop[number] for number in range(1, len(start) + 1)]


def wrapped(operator: str, body: Any, *operands: Proxy) -> Proxy:
    before: tuple[Any, ...] = ()
    between: tuple[Any, ...] = ()
    if operator == "wrap_with_autocast":
        before = ("cpu", torch.bfloat16, True, None)
    if operator == "wrap_with_set_grad_enabled":
        before = (False,)
    if operator == "invoke_subgraph":
        between = ("name",)
    inner = _body(body, len(operands))
    return call(operator, *before, inner, *between, *operands, near=operands[0])


def _body(function: Any, count: int) -> GraphModule:
    if isinstance(function, GraphModule):
        return function
    return written(lambda *args: _as_tuple(function(*args)), count)


def _as_tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


# ---------------------------------------------------------------------------- the oracle itself


def _with_probes(
    graph: Graph, root: nn.Module, path: tuple[str, ...], probe: Callable[..., None]
) -> GraphModule:
    """A copy of a graph that calls `probe(op, values)` after each node, in sub-graphs too.

    It is handed the node's operands too, so that they are still there.
    """
    copied, holder = Graph(), nn.Module()
    env: dict[Any, Any] = {}
    inputs: list[Any] = []
    names_of_bodies = {"cond": ["true", "false"], "while_loop": ["cond", "body"]}

    def add_probe(node: Any) -> None:
        seen = [node.args, node.kwargs] if node.op == "output" else [node, node.args, node.kwargs]
        values = [pytree.tree_leaves(pytree.tree_map(lambda v: env.get(v, None), _plain(seen)))]
        copied.call_function(probe, ("/".join((*path, node.name)), values))

    for node in graph.nodes:
        if node.op == "output":
            add_probe(node)
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            bodies = iter(names_of_bodies.get(node.target.__name__, ["body"]))
            for argument in node.args:
                if getattr(argument, "op", None) == "get_attr":
                    module = root.get_submodule(argument.target)
                    assert isinstance(module, GraphModule)
                    inner = _with_probes(
                        module.graph, module, (*path, node.name, next(bodies)), probe
                    )
                    name = f"{node.name}_{len(holder._modules)}"
                    setattr(holder, name, inner)
                    env[argument] = copied.get_attr(name)
        if node.op == "get_attr":
            value = root
            for part in node.target.split("."):
                value = getattr(value, part)
            if isinstance(value, GraphModule):
                continue
            holder.register_buffer(node.target.replace(".", "_"), value)  # type: ignore[arg-type]  # a tensor
            env[node] = copied.get_attr(node.target.replace(".", "_"))
        else:
            env[node] = copied.node_copy(node, env.__getitem__)
        if node.op == "placeholder":
            inputs.append(node)
        elif node.op != "output":
            for waiting in inputs:
                add_probe(waiting)
            inputs.clear()
            add_probe(node)
    return GraphModule(holder, copied)


def _plain(value: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf, value)


class _Probe:
    """Counts the bytes of those storages it was ever shown that are still there."""

    def __init__(self, entry: set[int]) -> None:
        self.entry = entry
        self.made: dict[int, Any] = {}
        self.alive: dict[str, list[int]] = {}

    def __call__(self, op: str, values: object) -> None:
        for tensor in _leaves(values):
            storage = tensor.untyped_storage()
            if storage._cdata not in self.entry and storage._cdata not in self.made:
                self.made[storage._cdata] = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        for address, reference in list(self.made.items()):
            if reference.expired():
                del self.made[address]
        alive = sum(
            torch.UntypedStorage._new_with_weak_ptr(reference.cdata).nbytes()
            for reference in self.made.values()
        )
        self.alive.setdefault(op, []).append(alive)


def torch_s_own(graph: GraphModule, values: Sequence[object]) -> dict[str, list[int]]:
    """Bytes alive at each instance of each op when torch itself runs the sub-graphs."""
    root, copies = _fresh(graph, values)
    entry = {tensor.untyped_storage()._cdata for tensor in _tensors(copies, root)}
    probe = _Probe(entry)
    with torch.no_grad():
        _with_probes(graph.graph, root, (), probe)(*copies)
    return probe.alive
