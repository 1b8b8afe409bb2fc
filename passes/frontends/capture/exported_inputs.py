"""Whether inputs are such as an exported program was captured for.

A capture holds for some inputs only: of its structure, its dtypes, its constants, its sizes
where they are fixed, and of the ranges of symbols where they are not.  The exported module
refuses others when it runs; so does this.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch.export import ExportedProgram
from torch.export._tree_utils import reorder_kwargs
from torch.export.graph_signature import ConstantArgument
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._pytree import tree_flatten

from passes.errors import CaptureError
from passes.frontends.dynamic.dimensions import (
    Sized,
    at,
    fixed_int,
    names_of,
    range_of,
    sizes_of,
    told,
    user_inputs,
    values_of,
)
from passes.frontends.dynamic.symbols import holds
from passes.frontends.fakes.reach import tensors_inside
from passes.frontends.fakes.unsupported import check_tensors
from passes.frontends.fakes.world import known_int

AS_BEFORE = "Give inputs that it was captured for, or export the model again for these"


def flat_inputs(
    exported: ExportedProgram, args: tuple[object, ...], kwargs: dict[str, object]
) -> list[object]:
    """The user's inputs in the order of the placeholders.

    Raises `CaptureError` if they are nested otherwise than those of the capture.
    """
    expected = exported.call_spec.in_spec
    names = ", ".join(map(str, exported.graph_signature.user_inputs))
    try:
        leaves, spec = tree_flatten((args, reorder_kwargs(kwargs, expected) if kwargs else {}))
    except ValueError as error:
        raise CaptureError(f"these inputs do not fit the program ({names}): {error}") from error
    if spec != expected:
        raise CaptureError(
            f"the program takes {expected.num_leaves} inputs ({names}) and was given "
            f"{spec.num_leaves}, or they are nested otherwise: it was exported for "
            f"{expected}"
        )
    return list(leaves)


def check_inputs(exported: ExportedProgram, given: Sequence[object]) -> None:
    """Raise `CaptureError` for flat inputs that the program was not captured for."""
    for (node, spec), real in zip(user_inputs(exported), given, strict=True):
        check_tensors(tensors_inside(node.name, real))
        recorded = node.meta.get("val")
        if isinstance(spec.arg, ConstantArgument):
            _check_constant(node.name, real, spec.arg.value)
        elif isinstance(recorded, torch.Tensor):
            _check_tensor(node.name, real, recorded)
        elif isinstance(recorded, torch.SymInt):
            _check_number(node.name, real, recorded)
    for problem in _wrong_sizes(exported, sizes_of(exported, given)):
        raise CaptureError(f"{problem}. {AS_BEFORE}")


def _check_constant(name: str, given: object, recorded: object) -> None:
    both_nan = all(isinstance(one, float) and math.isnan(one) for one in (given, recorded))
    if type(given) is type(recorded) and (given == recorded or both_nan):
        return
    raise CaptureError(
        f"input {name} is {given!r:.60}; the program was captured for {recorded!r}, which is part "
        f"of it. {AS_BEFORE}"
    )


def _check_number(name: str, given: object, recorded: torch.SymInt) -> None:
    wanted = fixed_int(recorded)
    if isinstance(given, bool) or not isinstance(given, (int, torch.SymInt)):
        raise CaptureError(
            f"input {name} should be an int, and is {given!r:.60}: the program was captured for one"
        )
    if wanted is not None:
        _check_constant(name, given, wanted)


def _check_tensor(name: str, given: object, recorded: torch.Tensor) -> None:
    if not isinstance(given, torch.Tensor):
        raise CaptureError(f"input {name} should be a tensor, and is a {type(given).__name__}")
    same_rank = len(given.shape) == len(recorded.shape)
    fits = same_rank and all(
        fixed_int(wanted) in (None, size)
        for size, wanted in zip(given.shape, recorded.shape, strict=True)
    )
    if not fits or given.dtype != recorded.dtype:
        raise CaptureError(
            f"input {name} is {given.dtype} of shape {tuple(given.shape)}; the program was "
            f"captured for {recorded.dtype} of shape {tuple(recorded.shape)}. {AS_BEFORE}"
        )


def _wrong_sizes(exported: ExportedProgram, sizes: Sequence[Sized]) -> Iterator[str]:
    """What is wrong with the sizes of dynamic dimensions."""
    values, names = values_of(sizes), names_of(sizes)
    places = {sized.expression: sized.place for sized in reversed(sizes)}
    for sized in sizes:
        wanted = at(sized.expression, values)
        if wanted != sized.size:
            first = places[sized.expression]
            why = f"{told(sized.expression, names)}, which is {wanted}"
            if first != sized.place:
                why = f"the same as {first}, which is {wanted}"
            yield f"{sized.place} is {sized.size}, and the program was captured for {why}"
    for expression, place in (places | {s: names[s] for s in values.keys() - places}).items():
        size = int(at(expression, values))
        low, high = range_of(exported, expression)
        # torch does not ask of 0 and 1 where it says "from 2 on".
        if (low > 2 and size < low) or (high is not None and size > high):
            wanted = f"{low} or more" if high is None else f"{low} to {high}"
            yield f"{place} is {size}, and the program was captured for {wanted}"


def guard_notes(exported: ExportedProgram, given: Sequence[object] | None) -> Iterator[str]:
    """Notes about what a capture found true of its sizes, where a branch asked, and is not true of
    these.  The graph is that of the branch taken then.

    A program read from a file has this only as Python code, which is not run.
    """
    sizes = sizes_of(exported, given)
    unmet = list(_guards_unmet(sizes))
    if unmet:
        yield (
            "the exported module refuses these inputs, for which the model may take another "
            f"branch than the one captured: it was captured for {', '.join(unmet)}"
        )
    others = any(sized.size != known_int(sized.recorded) for sized in sizes)
    unread = [] if any(env.guards for env in _envs(sizes)) else exported._guards_code
    if others and unread:
        yield (
            "the model may take another branch at these sizes than the one captured: for a program "
            f"read from a file it is not checked whether {', '.join(unread)}"
        )


def _guards_unmet(sizes: Sequence[Sized]) -> Iterator[str]:
    values, names = values_of(sizes), names_of(sizes)
    for env in _envs(sizes):
        for guard in env.guards:
            asked = env.replace(guard.expr)
            if asked.free_symbols <= values.keys() and not holds(asked, values):
                yield told(asked, names)


def _envs(sizes: Sequence[Sized]) -> Iterable[ShapeEnv]:
    envs = [sized.recorded.node.shape_env for sized in sizes]
    return {id(env): env for env in envs}.values()
