"""Which source is it, and how is it captured: the front door.

    nn.Module         exported; traced where export refuses, and the Program says so
    fx.GraphModule    as it is: from symbolic_trace, make_fx, Dynamo
    ExportedProgram   as it is, with its own state
    a path to a .pt2  read by torch, which may unpickle: only with trust=True

Inputs come from the caller, else from what the source recorded.  Parameters, buffers and
constants come from the source's real state, so that ties and shared buffers are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike, fspath
from typing import Any

import torch
from attrs import evolve, frozen
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument
from torch.fx.graph import _PyTreeCodeGen
from torch.utils._pytree import tree_leaves

from passes.census import Census
from passes.errors import CaptureError
from passes.frontends.capture.aot import Told, kept_by_aot, phases_by_aot, told_by_aot
from passes.frontends.capture.dynamo import is_python_number, told_by_dynamo
from passes.frontends.capture.exported_inputs import check_inputs, flat_inputs, guard_notes
from passes.frontends.capture.module import cannot_capture, export, first_line, needs_inputs, trace
from passes.frontends.capture.saved import saved_program
from passes.frontends.dynamic.dimensions import sizes_in, sizes_of, taken_at
from passes.frontends.dynamic.world import dynamic_of
from passes.frontends.fakes.devices import device_for, is_recorded_on_meta
from passes.frontends.fakes.reach import module_tensors, tensors_inside
from passes.frontends.fakes.unsupported import check_tensors
from passes.frontends.fakes.world import World
from passes.frontends.walk.declaring import DeclaredWalk, RecordedWorld
from passes.frontends.walk.env import MISSING
from passes.frontends.walk.nodes import recorded_of
from passes.frontends.walk.observing import Walk
from passes.frontends.walk.whole import program_of
from passes.program import Program, Role

_ROLES = {
    InputKind.USER_INPUT: Role.INPUT,
    InputKind.PARAMETER: Role.PARAMETER,
    InputKind.BUFFER: Role.BUFFER,
    InputKind.CONSTANT_TENSOR: Role.CONSTANT,
    InputKind.CUSTOM_OBJ: Role.CONSTANT,
    InputKind.TOKEN: Role.CONSTANT,
}

FROM_EXAMPLES = "inputs share storage as the example inputs do"
FROM_SCHEMAS = "effects are those of the operators' schemas and tables; no op was executed"
ASSUMED_APART = "inputs are assumed to share no storage: no example inputs were given"


@frozen
class Way:
    """How the effects of ops come to be known: the world of tensors, and the walk."""

    world: Callable[[torch.device | None], World]
    walk: Callable[..., Walk]


OBSERVED = Way(World, Walk)
WAYS: Mapping[str, Way] = {
    "observed": OBSERVED,
    "declared": Way(RecordedWorld, DeclaredWalk),
}


def load(
    source: object,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    *,
    trust: bool,
    effects: str = "observed",
) -> Program:
    """The Program of a source called with these inputs.  See `passes.load`."""
    if effects not in WAYS:
        raise CaptureError(f"effects={effects!r}: it is one of {', '.join(map(repr, WAYS))}")
    program = _program(source, args, kwargs, trust, WAYS[effects])
    if effects == "declared":
        program = evolve(program, notes=(*program.notes, FROM_SCHEMAS))
    _ = program.flow, Census.of(program)  # once, here, for every analysis to come
    return program


def _program(
    source: object, args: Sequence[object], kwargs: Mapping[str, object], trust: bool, way: Way
) -> Program:
    if isinstance(source, (str, PathLike)):
        path = fspath(source)
        capture = f"torch.export, read from {path}"
        return _from_exported(saved_program(path, trust), args, kwargs, capture, None, way)
    if isinstance(source, ExportedProgram):
        return _from_exported(source, args, kwargs, "torch.export", source_name(source), way)
    if isinstance(source, fx.GraphModule):
        return from_graph(source, args, kwargs, "an fx graph", source_name(source), way)
    if isinstance(source, nn.Module):
        return _from_module(source, args, kwargs, way)
    raise CaptureError(
        f"cannot load a {type(source).__qualname__}: give an nn.Module with example inputs, "
        "a torch.fx.GraphModule, a torch.export.ExportedProgram, or the path of a .pt2 file"
    )


def source_name(source: object) -> str:
    """What to call the program of a source."""
    if isinstance(source, ExportedProgram):
        for node in source.graph.nodes:
            stack = node.meta.get("nn_module_stack")
            path, kind = next(iter(stack.values())) if stack else (None, None)
            if path == "":  # the model itself, and not what an export has added
                return str(getattr(kind, "__name__", kind)).rpartition(".")[2]
        return "ExportedProgram"
    return getattr(source, "_class_name", None) or type(source).__name__.rpartition(".")[2]


def _from_exported(
    exported: ExportedProgram,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    capture: str,
    name: str | None,
    way: Way,
    notes: Sequence[str] = (),
    graph: fx.GraphModule | None = None,
) -> Program:
    """`graph` is one that does the same as the exported one, if not that itself."""
    signature = exported.graph_signature
    placeholders = [node for node in exported.graph.nodes if node.op == "placeholder"]
    recorded = getattr(exported, "example_inputs", None)
    given: list[object] | None = None
    if args or kwargs:
        given = flat_inputs(exported, tuple(args), dict(kwargs))
    elif recorded is not None:
        given = tree_leaves(recorded)
    if given is not None:
        check_inputs(exported, given)
    examples = iter(given if given is not None else [])
    sharing = FROM_EXAMPLES if given is not None else ASSUMED_APART

    on_meta = any(map(is_recorded_on_meta, placeholders))
    device = None if on_meta else device_for(given or (), exported.state_dict.values())
    world = way.world(device)
    inputs: list[tuple[Role, str, object]] = []
    notes = list(notes)
    for node, spec in zip(placeholders, signature.input_specs, strict=True):
        real: object
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            target = str(spec.target)
            real = exported.state_dict.get(target, exported.constants.get(target))
        elif spec.kind is InputKind.USER_INPUT:
            real = next(examples) if given is not None else node.meta.get("val")
        elif spec.kind is InputKind.TOKEN:
            real = None
        else:
            real = exported.constants.get(str(spec.target))
        label = node.name if spec.kind is InputKind.USER_INPUT else str(spec.target or node.name)
        inputs.append((_ROLES[spec.kind], label, world.input(real, node.meta.get("val"))))
    source = "the example inputs" if given is not None else "the sizes it was exported with"
    notes += taken_at(source, sizes_of(exported, given))
    notes += guard_notes(exported, given)

    def again(
        world: Callable[[torch.device | None], World],
        walk: Callable[..., Walk],
        graph: fx.GraphModule | None = None,
    ) -> Program:
        return _from_exported(exported, args, kwargs, capture, name, Way(world, walk), graph=graph)

    mutated = {**signature.buffers_to_mutate, **signature.user_inputs_to_mutate}
    if mutated:
        notes.append(
            "after this graph, its caller copies results into "
            + ", ".join(sorted(set(map(str, mutated.values()))))
        )
    return program_of(
        exported.graph_module if graph is None else graph,
        inputs,
        world,
        name=name or source_name(exported),
        capture=capture,
        sharing=sharing,
        notes=notes,
        phases=_phases(exported),
        kept=list(_kept(exported)),
        kind=way.walk,
        dynamic=dynamic_of(exported, given, again),
    )


def _phases(exported: ExportedProgram) -> Mapping[fx.Node, str]:
    """Forward and backward of a joint graph, where the loss comes last in the forward."""
    specs = exported.graph_signature.output_specs
    losses = {spec.arg.name for spec in specs if spec.kind is OutputKind.LOSS_OUTPUT}
    found: dict[fx.Node, str] = {}
    phase = "forward"
    for node in exported.graph.nodes if losses else ():
        if node.op not in ("placeholder", "output"):
            found[node] = phase
        if node.name in losses:
            phase = "backward"
    return found


def _kept(exported: ExportedProgram) -> Iterator[tuple[int, Role, str]]:
    """Which tensors among the outputs are gradients, or new values of buffers or inputs."""
    specs = exported.graph_signature.output_specs
    tensors = [spec for spec in specs if isinstance(spec.arg, TensorArgument)]
    for number, spec in enumerate(tensors):
        if spec.kind is OutputKind.BUFFER_MUTATION:
            yield number, Role.BUFFER, str(spec.target)
        elif spec.kind is OutputKind.USER_INPUT_MUTATION:
            yield number, Role.INPUT, str(spec.target)
        elif spec.kind in (OutputKind.GRADIENT_TO_PARAMETER, OutputKind.GRADIENT_TO_USER_INPUT):
            yield number, Role.GRADIENT, f"grad.{spec.target}"


def from_graph(
    module: fx.GraphModule,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    capture: str,
    name: str,
    way: Way,
    notes: Sequence[str] = (),
    told: Told = (),
) -> Program:
    """The Program of a graph called with these inputs, or else with those it recorded.

    `told` is what is known of the inputs of the function whose graph AOTAutograd made.
    """
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    given: list[object]
    sharing = FROM_EXAMPLES
    if args or kwargs or not placeholders:
        given = list(_bind(module, placeholders, args, kwargs))
    else:
        given = [_recorded(node) for node in placeholders]
        if any(isinstance(value, torch.Tensor) for value in given):
            sharing = "inputs share storage as the recorded ones do"
    check_tensors(module_tensors(module).items())
    for node, value in zip(placeholders, given, strict=True):
        check_tensors(tensors_inside(node.name, value))
    on_meta = any(map(is_recorded_on_meta, placeholders))
    world = way.world(None if on_meta else device_for(given, module_tensors(module).values()))
    named = [told_by_aot(node, told) or told_by_dynamo(node) for node in placeholders]
    inputs = [
        (role, label, _fake_input(node, value, world))
        for node, (role, label), value in zip(placeholders, named, given, strict=True)
    ]
    sizes = [
        sized
        for node, (_, label), value in zip(placeholders, named, given, strict=True)
        for sized in sizes_in(label, recorded_of(node), value)
    ]
    source = "the sizes of its inputs" if args or kwargs else "the sizes it was captured with"
    notes = [*notes, *taken_at(source, sizes)]
    outputs = module.graph.find_nodes(op="output")
    return program_of(
        module,
        inputs,
        world,
        name=name,
        capture=capture,
        sharing=sharing,
        notes=notes,
        phases=phases_by_aot(module.graph),
        kept=[kept for node in outputs for kept in kept_by_aot(node, told)],
        kind=way.walk,
    )


def _fake_input(node: fx.Node, value: object, world: World) -> object:
    if is_python_number(node) and isinstance(value, torch.Tensor) and not world.is_fake(value):
        return world.number(value)
    return world.value(value)


def _bind(
    module: fx.GraphModule,
    placeholders: Sequence[fx.Node],
    args: Sequence[object],
    kwargs: Mapping[str, object],
) -> Iterator[object]:
    """One input per placeholder, in order."""
    if isinstance(module.graph._codegen, _PyTreeCodeGen):
        try:
            flat = list(module.graph.process_inputs(*args, **kwargs))
        except Exception as error:
            raise CaptureError(f"these inputs do not fit the graph: {first_line(error)}") from error
        args, kwargs = flat, {}
    names = [str(node.target) for node in placeholders]
    unknown = [name for name in kwargs if name not in names]
    if unknown or len(args) > len(placeholders):
        raise CaptureError(
            f"the graph takes {len(names)} inputs ({', '.join(names)}) and was given "
            f"{len(args)} by position" + (f" and {', '.join(unknown)}" if unknown else "")
        )
    for number, node in enumerate(placeholders):
        if number < len(args):
            yield args[number]
        elif names[number] in kwargs:
            yield kwargs[names[number]]
        elif node.args:
            yield node.args[0]
        else:
            raise CaptureError(
                f"no input for {names[number]}: the graph takes {', '.join(names)}, and "
                f"{len(args) + len(kwargs)} were given"
            )


def _recorded(node: fx.Node) -> object:
    """The input a graph recorded for a placeholder, if it did."""
    recorded = recorded_of(node, MISSING)
    if recorded is not MISSING:
        return recorded
    # Any: torch's TensorMetadata, a named tuple.
    meta: Any = node.meta.get("tensor_meta")
    if meta is not None:
        return torch.empty_strided(meta.shape, meta.stride, dtype=meta.dtype, device="meta")
    if node.args:
        return node.args[0]
    raise CaptureError(
        f"the graph does not say what its input {node.name} is like: give example inputs, "
        "passes.load(graph_module, x, ...)"
    )


def _from_module(
    module: nn.Module, args: Sequence[object], kwargs: Mapping[str, object], way: Way
) -> Program:
    name = type(module).__name__
    if not args and not kwargs and needs_inputs(module):
        raise CaptureError(
            f"{name} needs example inputs: passes.load(model, x, ...); tensors on the meta "
            "device will do"
        )
    check_tensors(module_tensors(module).items())
    check_tensors(tensors_inside("input", list(args)))
    check_tensors(tensors_inside("input", dict(kwargs)))
    try:
        exported, how = export(module, args, kwargs)
    except Exception as error:
        refused = error
    else:
        return _from_exported(exported, args, kwargs, how, name, way)
    notes = [f"torch.export refused: {first_line(refused)}"]
    try:
        traced, inputs = trace(module, args, kwargs)
        return from_graph(traced, (), inputs, "symbolic_trace", name, way, notes)
    except Exception as untraceable:
        raise cannot_capture(name, refused, untraceable) from refused
