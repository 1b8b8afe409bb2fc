"""From an fx graph to a `Program`: run it node by node on fake tensors and watch.

Each node is executed once in the fake world, and the `Observer` tells what it wrote
(`watched`).  What cannot run on fakes has the effects its schema declares, and without
a schema may do anything; the Program counts both.

Nothing here names an operator: what is true of one only is in `observe`, `declared` and
`regions`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from attrs import define, field
from torch import fx, nn
from torch._ops import HigherOrderOperator
from torch.utils._pytree import tree_leaves

from passes.errors import CaptureError
from passes.frontends.effects import assumed
from passes.frontends.effects.around import PRINT, kernel_of
from passes.frontends.effects.choices import Answer, Choices, depends_on_sizes, hides
from passes.frontends.effects.declared import anything
from passes.frontends.effects.observe import Observer
from passes.frontends.effects.watched import enter_hidden, watched
from passes.frontends.fakes.reach import module_tensors
from passes.frontends.fakes.undecided import unlay
from passes.frontends.walk.bodies import Regions
from passes.frontends.walk.book import Book
from passes.frontends.walk.env import (
    MISSING,
    Bound,
    Made,
    bound,
    evaluated,
    leaves_of,
)
from passes.frontends.walk.nodes import (
    CANNOT_RUN,
    LOST_ASSIGNMENT,
    attributes_of,
    explain,
    given_out,
    is_about_fakes,
    is_torchs,
    target_name,
)
from passes.frontends.walk.regions import builder_of
from passes.program import (
    AliasOf,
    Effects,
    Op,
    OpKind,
    Origin,
    Unknown,
    Value,
)


@define(eq=False)
class Walk:
    """One walk over a graph and its sub-graphs.  `ops` numbers are given as they end.

    `missing`: something could not be computed.  `dynamic`: the capture has dynamic dimensions;
    `sized` are nodes that return an operand or a copy as these decide.  `counts` are numbers
    of iterations by the loop's op, where the run holds something of each.
    """

    book: Book
    phases: Mapping[fx.Node, str] = field(factory=dict)
    observer: Observer = field(factory=Observer)
    choices: Choices = field(factory=Choices)
    missing: bool = False
    dynamic: bool = False
    sized: list[str] = field(factory=list)
    counts: dict[str, int | torch.SymInt] = field(factory=dict)
    ops: int = 0

    def mark(self) -> tuple[object, int]:
        """What `forget` goes back to."""
        return self.book.mark(), self.ops

    def forget(self, mark: tuple[Any, int]) -> None:
        """Be as at a mark, to walk the ops since then again."""
        known, self.ops = mark
        self.book.forget(known)

    def surroundings(self) -> AbstractContextManager[object]:
        """What a graph is walked in."""
        stack = ExitStack()
        stack.enter_context(self.book.world.mode)
        stack.enter_context(self.observer)
        return stack

    # -- graphs ------------------------------------------------------------------------

    def graph(
        self, module: fx.GraphModule, inputs: Sequence[Bound | Made], path: tuple[str, ...]
    ) -> tuple[tuple[Op, ...], Bound]:
        """Walk one graph: `(its ops, what it returns)`."""
        env: dict[fx.Node, Bound] = {}
        ops: list[Op] = []
        given = iter(inputs)
        returned = Bound(None, ())
        for node in module.graph.nodes:
            if node.op == "placeholder":
                found = next(given)
                if isinstance(found, Made):
                    op, env[node] = self.made(node, path, found)
                else:
                    env[node] = found
                    op = self.make(node, path, OpKind.INPUT, (), found.values, Effects())
            elif node.op == "get_attr":
                op, env[node] = self.get_attr(node, module, path)
            elif node.op == "output":
                returned = bound(node.args[0], env)
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
            phase=self.phases.get(node, ""),
            stack=meta.get("stack_trace") or "",
            arguments=tuple(node.args),
            keywords=node.kwargs,
            node=node,
        )

    def made(self, node: fx.Node, path: tuple[str, ...], found: Made) -> tuple[Op, Bound]:
        """The op for an input of a sub-graph that the operator makes itself."""
        values = self.book.leaves("/".join((*path, node.name)), leaves_of(found.result))
        reads = frozenset(range(len(found.operands)))
        unknown = any(isinstance(effect, Unknown) for effect in found.effects)
        origin = Origin.DECLARED if unknown else Origin.OBSERVED
        effects = Effects(found.effects, reads, origin=origin)
        op = self.make(node, path, OpKind.CALL, found.operands, values, effects)
        return op, Bound(found.result, values)

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
        fake = self.book.world.tensor(real)
        value = self.book.value("/".join((*path, node.name)), fake)
        effects = Effects(results=(AliasOf((0,)),))
        op = self.make(node, path, OpKind.ATTRIBUTE, (source,), (value,), effects)
        return op, Bound(fake, (value,))

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
            build = builder_of(target, node, env)
            if build is not None:
                regions = build(self, node, path, env)
                reads = frozenset(range(len(operands)))
                effects = Effects(regions.fresh, reads, origin=Origin.FLOW)
                if not regions.known:
                    effects = anything(len(operands), [None] * len(regions.values))
                op = self.make(
                    node, path, OpKind.CALL, tuple(operands), regions.values, effects, (), regions
                )
                return op, Bound(regions.result, regions.values)
            if target is PRINT:
                effects = Effects(reads=frozenset(range(len(operands))))
                op = self.make(node, path, OpKind.CALL, tuple(operands), (), effects)
                return op, Bound(None, ())
            if kernel_of(target) is None:
                return assumed.unobserved(self, node, path, env, operands)

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
        elif isinstance(target, HigherOrderOperator):
            run = kernel_of(target) or target
        else:
            run = target  # type: ignore[assignment]  # call_function: it is callable

        args, kwargs = evaluated(node.args, env), evaluated(node.kwargs, env)
        if self.missing and any(leaf is MISSING for leaf in tree_leaves((args, kwargs))):
            source = node.args[0]
            if (
                target is operator.getitem
                and isinstance(args[1], (int, slice))
                and env[source].result is not MISSING  # type: ignore[index]  # a node
            ):
                return assumed.part(self, node, path, env[source], args)  # type: ignore[index]  # as above
            return assumed.unobserved(self, node, path, env, operands)
        world = self.book.world
        before = attributes_of(run) if isinstance(run, nn.Module) else {}
        try:
            with world.calling(target), self.choices if hides(node) else nullcontext():
                result, seen = self.observer.watch(lambda: run(*args, **kwargs))
        except CANNOT_RUN:
            return assumed.unobserved(self, node, path, env, operands)
        except Exception as error:
            if is_about_fakes(error):
                return assumed.unobserved(self, node, path, env, operands)
            raise CaptureError(explain(node, error)) from error
        if before and attributes_of(run) != before:  # type: ignore[arg-type]  # a module
            raise CaptureError(
                f"module {target!s} ({type(run).__qualname__}) replaces one of its tensors "
                f"while it runs, at node {node.name}; which tensor later calls see cannot be "
                "followed. Write into the tensor (copy_), or return it and pass it in"
            )
        world.limits.note(self.observer.calls)
        if isinstance(node.target, str) or not is_torchs(node.target):
            enter_hidden(self, node)
        for tensor in seen.unlaid:
            unlay(tensor, self.book.world)
        result = given_out(node, env, result)
        if world.is_symbolic:
            guess = self.choices.answer(node, (args, kwargs), result, seen.written)
            if guess is Answer.ANYTHING:
                return assumed.opaque(self, node, path, operands, result)
            if guess is Answer.EITHER:
                return assumed.either(self, node, path, operands, result)
            result = assumed.as_laid_out(self, operands, result)
        if self.dynamic and (
            depends_on_sizes(node, (args, kwargs), result) or self.choices.may_be_hidden(node, run)
        ):
            self.sized.append("/".join((*path, node.name)))
        return watched(self, node, path, env, operands, result, seen)
