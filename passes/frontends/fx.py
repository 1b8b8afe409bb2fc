"""From an fx graph to a `Program`: run it node by node on fake tensors and watch.

Each node is executed once in the fake world.  Its result leaves are compared, by storage
identity, with its operands (alias), with each other (same), with every value known so
far (an operand it reached on its own), and otherwise are fresh; the `Observer` tells
what it wrote.  What cannot run on fakes has the effects its schema declares, and without
a schema may do anything; the Program counts both.

Nothing here names an operator: what is true of one only is in `observe`, `declared` and
`regions`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from attrs import define, field
from torch import fx, nn
from torch._ops import HigherOrderOperator

from passes.errors import CaptureError, ProgramError
from passes.frontends.book import Book
from passes.frontends.declared import anything
from passes.frontends.env import Bound, bound, evaluated, leaf_names, leaf_values
from passes.frontends.fakes import (
    World,
    module_tensors,
    nbytes_of,
    storage_of,
    tensors_in,
)
from passes.frontends.nodes import (
    CANNOT_RUN,
    LOST_ASSIGNMENT,
    attributes_of,
    explain,
    given_out,
    is_about_fakes,
    is_empty,
    is_torchs,
    target_name,
)
from passes.frontends.observe import QUIET, Observation, Observer, hidden_state
from passes.frontends.regions import REGION_OPERATORS, Regions
from passes.frontends.unobserved import (
    MISSING,
    called_by,
    effects_of,
    is_missing,
    leaves_of,
    recorded_result,
)
from passes.program import (
    AliasOf,
    Effects,
    Entry,
    Fresh,
    Op,
    OpKind,
    Origin,
    Program,
    ResultEffect,
    Role,
    SameAs,
    Value,
)


@define(eq=False)
class Walk:
    """One walk over a graph and its sub-graphs.  `ops` numbers are given as they end."""

    book: Book
    observer: Observer = field(factory=Observer)
    ops: int = 0

    def surroundings(self) -> contextlib.AbstractContextManager[object]:
        """What a graph is walked in."""
        stack = contextlib.ExitStack()
        stack.enter_context(self.book.world.mode)
        stack.enter_context(self.observer)
        return stack

    # -- graphs ------------------------------------------------------------------------

    def graph(
        self, module: fx.GraphModule, inputs: Sequence[Bound], path: tuple[str, ...]
    ) -> tuple[tuple[Op, ...], Bound]:
        """Walk one graph: `(its ops, what it returns)`."""
        env: dict[fx.Node, Bound] = {}
        ops: list[Op] = []
        given = iter(inputs)
        returned = Bound(None, ())
        for node in module.graph.nodes:
            if node.op == "placeholder":
                env[node] = next(given)
                op = self.make(node, path, OpKind.INPUT, (), env[node].values, Effects())
            elif node.op == "get_attr":
                op, env[node] = self.get_attr(node, module, path)
            elif node.op == "output":
                returned = self.returned(node, env)
                operands = tuple(dict.fromkeys(returned.values))
                reads = frozenset(range(len(operands)))
                op = self.make(node, path, OpKind.OUTPUT, operands, (), Effects(reads=reads))
            else:
                op, env[node] = self.call(node, module, path, env)
            ops.append(op)
        return tuple(ops), returned

    def make(
        self,
        node: fx.Node,
        path: tuple[str, ...],
        kind: OpKind,
        operands: tuple[Value, ...],
        results: tuple[Value, ...],
        effects: Effects,
        renames: tuple[tuple[int, Value], ...] = (),
        regions: Regions | None = None,
    ) -> Op:
        """The next op."""
        meta = node.meta
        stack = meta.get("nn_module_stack")
        number = self.ops
        self.ops += 1
        return Op(
            index=number,
            name="/".join((*path, node.name)) if path else node.name,
            kind=kind,
            target=target_name(node),
            operands=operands,
            results=results,
            effects=effects,
            renames=renames,
            regions=regions.regions if regions else (),
            region_flow=regions.flow if regions else None,
            path=path,
            module=next(reversed(stack.values()))[0] if stack else "",
            stack=meta.get("stack_trace") or "",
            arguments=tuple(node.args),
            keywords=node.kwargs,
            node=node,
        )

    def get_attr(
        self, node: fx.Node, module: fx.GraphModule, path: tuple[str, ...]
    ) -> tuple[Op, Bound]:
        name = str(node.target)
        real: Any = module
        for part in name.split("."):
            real = getattr(real, part)
        if not isinstance(real, torch.Tensor):
            return self.make(node, path, OpKind.ATTRIBUTE, (), (), Effects()), Bound(real, ())
        source = self.book.attribute(name, real, module)
        fake = self.book.fakes[source.index]
        value = self.book.value("/".join((*path, node.name)), fake)
        effects = Effects(results=(AliasOf((0,)),))
        op = self.make(node, path, OpKind.ATTRIBUTE, (source,), (value,), effects)
        return op, Bound(fake, (value,))

    def returned(self, node: fx.Node, env: Mapping[fx.Node, Bound]) -> Bound:
        """What a graph returns, with one value per tensor leaf."""
        return bound(node.args[0], env)

    # -- calls -------------------------------------------------------------------------

    def call(
        self,
        node: fx.Node,
        module: fx.GraphModule,
        path: tuple[str, ...],
        env: dict[fx.Node, Bound],
    ) -> tuple[Op, Bound]:
        operands: list[Value] = []
        for argument in node.all_input_nodes:
            operands += env[argument].values
        target = node.target
        if isinstance(target, HigherOrderOperator):
            build = REGION_OPERATORS.get(target.__name__)
            if build is None:
                return self.unobserved(node, path, env, operands)
            regions = build(self, node, path, env)
            reads = frozenset(range(len(operands)))
            effects = Effects(regions.fresh, reads, origin=Origin.FLOW)
            op = self.make(
                node, path, OpKind.CALL, tuple(operands), regions.values, effects, (), regions
            )
            return op, Bound(regions.result, regions.values)

        if target is LOST_ASSIGNMENT:
            raise CaptureError(
                f"node {node.name} is what is left of an assignment to `.data`; the capture "
                "lost the assignment itself, so later uses cannot be followed. Write into the "
                "tensor (copy_), or use the other tensor by its own name"
            )
        return self.execute(node, module, path, env, operands)

    def with_reached(
        self, node: fx.Node, module: fx.GraphModule, operands: Sequence[Value]
    ) -> list[Value]:
        """The operands of a called module, with the tensors that it holds."""
        callee = module.get_submodule(str(node.target))
        reached = [
            self.book.attribute(f"{node.target}.{name}", real, module)
            for name, real in module_tensors(callee).items()
        ]
        return list(dict.fromkeys([*operands, *reached]))

    def execute(
        self,
        node: fx.Node,
        module: fx.GraphModule,
        path: tuple[str, ...],
        env: dict[fx.Node, Bound],
        operands: list[Value],
    ) -> tuple[Op, Bound]:
        """The op for a node without regions: run it and watch."""
        target = node.target
        run: Callable[..., object]
        if node.op == "call_module":
            run = self.book.world.module(module.get_submodule(str(target)))
            operands = self.with_reached(node, module, operands)
        elif node.op == "call_method":
            name = str(target)
            run = lambda self_, *args, **kwargs: getattr(self_, name)(*args, **kwargs)  # noqa: E731
        else:
            run = target  # type: ignore[assignment]  # call_function: it is callable

        args, kwargs = evaluated(node.args, env), evaluated(node.kwargs, env)
        if any(is_missing(env[n].result) for n in node.all_input_nodes):
            return self.unobserved(node, path, env, operands)
        before = attributes_of(run) if isinstance(run, nn.Module) else {}
        try:
            result, seen = self.observer.watch(lambda: run(*args, **kwargs))
        except CANNOT_RUN:
            return self.unobserved(node, path, env, operands)
        except Exception as error:
            if is_about_fakes(error):
                return self.unobserved(node, path, env, operands)
            raise CaptureError(explain(node, error)) from error
        if before and attributes_of(run) != before:  # type: ignore[arg-type]  # a module
            raise CaptureError(
                f"module {target!s} ({type(run).__qualname__}) replaces one of its tensors "
                f"while it runs, at node {node.name}; which tensor later calls see cannot be "
                "followed. Write into the tensor (copy_), or return it and pass it in"
            )
        if isinstance(node.target, str) or not is_torchs(node.target):
            self.find_hidden(node)
        return self.observed(node, path, env, operands, given_out(node, env, result), seen)

    def find_hidden(self, node: fx.Node) -> None:
        """Tensors that a node used though nobody gave them to it exist at entry."""
        if node.op != "call_method":
            found = [
                t
                for t in hidden_state(self.observer.calls)
                if storage_of(t) not in self.book.owners
            ]
            for number, tensor in enumerate(found):
                self.book.entry(f"{node.name} state {number}", Role.CONSTANT, tensor)

    def observed(
        self,
        node: fx.Node,
        path: tuple[str, ...],
        env: dict[fx.Node, Bound],
        operands: list[Value],
        result: object,
        seen: Observation,
    ) -> tuple[Op, Bound]:
        """The op for a node that ran: compare storages, name what is new."""
        positions: dict[int, list[int]] = {}
        for number, operand in enumerate(operands):
            if operand.index in self.book.storages:
                positions.setdefault(self.book.storages[operand.index], []).append(number)

        def among_operands(identity: int) -> list[int]:
            """Where a known storage stands among the operands; it joins them if it must."""
            if identity not in positions:
                positions[identity] = [len(operands)]
                operands.append(self.book.owners[identity])
            return positions[identity]

        writes = overwrites = frozenset[int]()
        resizes: tuple[tuple[int, int | None], ...] = ()
        leaves = tensors_in(result)
        strided = all(
            fake is None or fake.layout is torch.strided
            for fake in (*leaves, *(self.book.fakes.get(operand.index) for operand in operands))
        )
        if seen.opaque or not strided:
            return self.opaque(node, path, operands, result)
        if seen is not QUIET or "out" in node.kwargs:
            out = (
                self.book.storages.get(v.index) for v in leaf_values(node.kwargs.get("out"), env)
            )
            moved = {storage_of(tensor) for tensor in seen.moved}
            touched = {*seen.written, *(out if not is_empty(node) else ())}
            owners = self.book.owners
            written = sorted(touched & owners.keys(), key=lambda s: owners[s].index)
            writes = frozenset(p for s in written for p in among_operands(s))
            overwrites = frozenset(
                p for s in written if s in seen.overwritten for p in positions[s]
            )
            resizes = tuple(self.resized({*written, *moved} & positions.keys(), positions))

        effects: list[ResultEffect] = []
        own: dict[int, int] = {}

        def begin(name: str, leaf: torch.Tensor) -> Value:
            """A value that this op defines, and its effect."""
            identity = storage_of(leaf)
            if identity in own:
                effects.append(SameAs(own[identity]))
            elif identity in positions or identity in self.book.owners:
                effects.append(AliasOf(tuple(among_operands(identity))))
            else:
                own[identity] = len(effects)
                effects.append(Fresh(nbytes_of(leaf), identity in seen.unwritten))
            return self.book.value(name, leaf)

        name = "/".join((*path, node.name)) if path else node.name
        names = leaf_names(name, len(leaves))
        values = tuple([begin(name, leaf) for name, leaf in zip(names, leaves, strict=True)])
        renames: list[tuple[int, Value]] = []
        for tensor in {id(t): t for t in seen.moved}.values():
            stale = [n for n, v in enumerate(operands) if self.book.fakes.get(v.index) is tensor]
            if stale and self.book.storages[operands[stale[0]].index] != storage_of(tensor):
                if path:
                    raise CaptureError(
                        f"node {name} gives a tensor another storage inside a sub-graph; which "
                        "one the outer graph sees afterwards cannot be followed"
                    )
                old = operands[stale[0]]
                new = begin(f"{old.name}@{node.name}", tensor)
                renames.append((stale[0], new))
                _rename(env, tensor, new)
        op = self.make(
            node,
            path,
            OpKind.CALL,
            tuple(operands),
            values,
            Effects(
                results=tuple(effects),
                reads=frozenset(range(len(operands))) - overwrites,
                writes=writes,
                overwrites=overwrites,
                origin=Origin.OBSERVED if seen.trusted else Origin.DECLARED,
                resizes=resizes,
            ),
            tuple(renames),
        )
        return op, Bound(result, values)

    def opaque(
        self, node: fx.Node, path: tuple[str, ...], operands: list[Value], result: object
    ) -> tuple[Op, Bound]:
        """The op for a node whose storages fake tensors do not show: sparse, quantized."""
        leaves = tensors_in(result)
        names = leaf_names("/".join((*path, node.name)) if path else node.name, len(leaves))
        values = tuple(
            [self.book.value(name, leaf) for name, leaf in zip(names, leaves, strict=True)]
        )
        effects = anything(len(operands), [nbytes_of(leaf) for leaf in leaves])
        op = self.make(node, path, OpKind.CALL, tuple(operands), values, effects)
        return op, Bound(result, values)

    def resized(
        self, written: Iterable[int], positions: Mapping[int, list[int]]
    ) -> Iterator[tuple[int, int | None]]:
        """`(operand position, bytes now)` for written storages that changed their size."""
        for identity in written:
            position = positions[identity][0]
            now = nbytes_of(self.book.fakes[self.book.owners[identity].index])
            if now != self.book.sizes[identity]:
                self.book.sizes[identity] = now
                yield position, now

    def unobserved(
        self,
        node: fx.Node,
        path: tuple[str, ...],
        env: dict[fx.Node, Bound],
        operands: list[Value],
    ) -> tuple[Op, Bound]:
        """The op for a node that cannot run on fakes: what its schema declares."""
        result = recorded_result(node, self.book.world)
        called = called_by(node, env)
        leaves = leaves_of(node, called, env, result)
        values = self.book.leaves("/".join((*path, node.name)) if path else node.name, leaves)
        types = [value.type for value in values]
        effects = effects_of(node, called, env, self.book, operands, types)
        op = self.make(node, path, OpKind.CALL, tuple(operands), values, effects)
        if result is MISSING and len(values) > 1:
            result = (MISSING,) * len(values)
        return op, Bound(result, values)


def _rename(env: dict[fx.Node, Bound], tensor: torch.Tensor, new: Value) -> None:
    """From here on, whoever uses this tensor object reads the new value."""
    for node, known in env.items():
        leaves = tensors_in(known.result)
        if any(leaf is tensor for leaf in leaves):
            values = [
                new if leaf is tensor else value
                for leaf, value in zip(leaves, known.values, strict=True)
            ]
            env[node] = Bound(known.result, tuple(values))


def program_of(
    module: fx.GraphModule,
    inputs: Sequence[tuple[Role, str, object]],
    world: World,
    *,
    name: str,
    capture: str,
    sharing: str,
    notes: Sequence[str] = (),
    kind: type[Walk] = Walk,
) -> Program:
    """The program of a graph whose placeholders get `(role, name, fake)` inputs in order."""
    book = Book(world)
    walk = kind(book)
    bound = []
    for role, label, fake in inputs:
        leaves = tensors_in(fake)
        names = leaf_names(label, len(leaves))
        values = [
            walk.book.entry(name, role, leaf) for name, leaf in zip(names, leaves, strict=True)
        ]
        bound.append(Bound(fake, tuple(values)))
    for child in module.modules():
        # State becomes fake before anything runs, while no mode is active.
        for tensor in module_tensors(child).values():
            world.tensor(tensor)
    for node in module.graph.nodes:
        if node.op == "call_module":
            world.module(module.get_submodule(node.target))
    grad = torch.is_grad_enabled()
    depth = torch._C._functorch.get_dynamic_layer_stack_depth()
    try:
        with torch.no_grad(), walk.surroundings():
            ops, returned = walk.graph(module, bound, ())
    except ProgramError:
        raise
    except Exception as error:
        raise CaptureError(
            f"{name} has something that analysis does not expect, after op {walk.ops}: "
            f"{type(error).__name__}: {error}. Please report it"
        ) from error
    finally:
        # A graph may contain nodes that switch these, and end between them.
        torch.set_grad_enabled(grad)
        torch._C._functorch.pop_dynamic_layer_stack_and_undo_to_depth(depth)
    return Program(
        name=name,
        capture=capture,
        ops=ops,
        entry=Entry(tuple(book.entries), sharing),
        outputs=returned.values,
        values=tuple(book.values),
        notes=tuple(notes),
        graph=module,
    )
