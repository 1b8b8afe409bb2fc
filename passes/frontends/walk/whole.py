"""The program of a whole graph: its inputs, a walk over it, and what the walk found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import fx

from passes.errors import CaptureError, ProgramError
from passes.frontends.capture.module import unlogged
from passes.frontends.fakes.reach import module_tensors
from passes.frontends.fakes.undecided import is_dynamic
from passes.frontends.fakes.world import World, tensors_in
from passes.frontends.walk.book import Book
from passes.frontends.walk.env import Bound, leaf_names
from passes.frontends.walk.nodes import recorded_of
from passes.frontends.walk.observing import Walk
from passes.program import Entry, Kept, Program, Role
from passes.symbolic.dynamic import Dynamic


def program_of(
    module: fx.GraphModule,
    inputs: Sequence[tuple[Role, str, object]],
    world: World,
    *,
    name: str,
    capture: str,
    sharing: str,
    notes: Sequence[str] = (),
    phases: Mapping[fx.Node, str] | None = None,
    kept: Sequence[tuple[int, Role, str]] = (),
    kind: Callable[..., Walk] = Walk,
    dynamic: Dynamic | None = None,
    held_by_python: int | None = None,
) -> Program:
    """The program of a graph whose placeholders get `(role, name, fake)` inputs in order.

    `phases` are of nodes of a training step, `kept` the positions of outputs with what they
    are to the caller.
    """
    book = Book(world)
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    walk = kind(
        book,
        phases or {},
        dynamic=any(is_dynamic(recorded_of(node)) for node in placeholders),
    )
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
        with unlogged(), torch.no_grad(), walk.surroundings():
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
    if walk.sized:
        notes = [
            *notes,
            "at other sizes these may return a copy where they return an operand here, or an "
            f"operand where they return a copy: {', '.join(dict.fromkeys(walk.sized))}",
        ]
    devices = sorted({value.type.device for value in book.values if value.type})
    if len(devices) > 1:
        notes = [
            *notes,
            f"tensors are on {' and '.join(devices)}: bytes of all are added up, but for plans",
        ]
    return Program(
        name=name,
        capture=capture,
        ops=ops,
        entry=Entry(tuple(book.entries), sharing),
        outputs=returned.values,
        values=tuple(book.values),
        notes=tuple(notes),
        graph=module,
        dynamic=dynamic,
        kept=tuple([Kept(returned.values[number], role, name) for number, role, name in kept]),
        held_by_python=held_by_python,
        sized=tuple(dict.fromkeys(walk.sized)),
    )
