"""What one node did to storages, seen while it runs on fake tensors.

An `Observer` is a dispatch mode that logs the operators a node calls.  Their schemas say
which arguments they write, including everything inside modules, Python functions and
composite operators; where a schema is known to be silent, a correction stands in the
tables of `schema`.

Only storages matter here, so views need no care: writing through a view writes the
storage it shares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from attrs import define, field
from torch._guards import active_fake_mode
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, disable_fake_tensor_cache
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils._python_dispatch import TorchDispatchMode

from passes.frontends.effects.schema import (
    CLONES_STORAGE,
    COPIES_IN_TRUTH,
    OVERWRITERS,
    PARTS_OF_ONE,
    RETURNS_IF_EMPTY,
    RETURNS_SELF,
    signature,
)
from passes.frontends.effects.views import UNANNOTATED
from passes.frontends.fakes.large import truly_large
from passes.frontends.fakes.layouts import laid_out
from passes.frontends.fakes.outs import called
from passes.frontends.fakes.precision import precise
from passes.frontends.fakes.undecided import may_stretch
from passes.frontends.fakes.world import (
    has_storage,
    known_int,
    nbytes_of,
    storage_of,
    tensors_in,
)


@define(eq=False)
class Call:
    """One operator call inside a node."""

    operator: OpOverload
    args: Sequence[object]
    kwargs: dict[str, object]
    result: object
    unlaid: Sequence[torch.Tensor] = ()
    unclear: bool = False

    def arguments(self) -> Iterator[tuple[str, object]]:
        """Arguments given, by the schema's names."""
        yield from zip(signature(self.operator).arguments, self.args)  # noqa: B905  # rest by name
        yield from self.kwargs.items()

    def written(self) -> Iterator[torch.Tensor]:
        """The tensors this call writes."""
        given = dict(self.arguments())
        for name in signature(self.operator).writes(given.get):
            yield from tensors_in(given.get(name))


@define(eq=False)
class Observation:
    """What a node did, by storage identity.

    `written`: any write.  `overwritten`: written in full before anything read it.
    `unwritten`: allocated by an `empty*` and not written in full.  `moved`: tensors whose
    storage may be another one now, or of another size.  `unlaid`: tensors whose strides the
    real kernel may have set otherwise.  `draws`: it may draw random numbers.  `unclear`: one
    tensor was given as `out=` for two results, or for a result of another shape and read.
    """

    written: set[int] = field(factory=set)
    overwritten: set[int] = field(factory=set)
    unwritten: set[int] = field(factory=set)
    moved: list[torch.Tensor] = field(factory=list)
    unlaid: list[torch.Tensor] = field(factory=list)
    trusted: bool = True
    opaque: bool = False
    draws: bool = False
    unclear: bool = False


QUIET = Observation()


class Observer(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Logs operator calls.  `watch(run)` runs something and says what it did."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.calls: list[Call] = []
        self.loud = False

    # Any: the signature is torch's.
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        kwargs = kwargs or {}
        if not isinstance(func, OpOverload):
            return func(*args, **kwargs)
        about = signature(func)
        # torch caches what operators do to fakes, and forgets that `out=` may be resized, aliases
        # that a schema does not annotate, views of tensors without elements, and where in its
        # storage a new tensor begins.
        nothing = func.is_view and any(known_int(t.numel()) == 0 for t in tensors_in(args[0]))
        copied = about.name in CLONES_STORAGE
        forgotten = about.outputs or about.name in UNANNOTATED or nothing or copied
        before = [(t, t.shape) for name in about.outputs for t in tensors_in(kwargs.get(name))]
        undecided = func is torch.ops.aten.expand.default and may_stretch(*args[:2])
        with _uncached() if forgotten else nullcontext():
            result, unlaid = called(func, args, kwargs)
            try:
                result = laid_out(func, args, result)
            except GuardOnDataDependentSymNode:
                undecided = True  # how the real kernel lays it out
            result = precise(func, args, result)
        if about.name in RETURNS_IF_EMPTY and known_int(args[0].numel()) == 0:
            rest = result[1:] if isinstance(result, tuple) else ()
            result = (args[0], *map(torch.empty_like, [args[0]] * len(rest))) if rest else args[0]
        elif about.name in COPIES_IN_TRUTH:
            result = _as_copies(result, args)
        elif func in PARTS_OF_ONE:
            result = _as_parts(result)
        elif about.name in RETURNS_SELF and isinstance(args[0], FakeTensor):
            result = args[0]
        else:
            result = truly_large(about.name, args, result)
        # Some kernels give a resized `out=` the strides of their operands, and fakes do not.
        resized = [t for t, shape in before if t.shape != shape and t.dim() > 1]
        doubtful = resized and not all(t.is_contiguous() for t in tensors_in(args))
        unlaid = resized if doubtful else tensors_in(result) if undecided else unlaid
        unclear = len(before) > 1 and _unclear(before, tensors_in([*args, *kwargs.values()]))
        self.calls.append(Call(func, args, kwargs, result, unlaid, unclear))
        if unlaid or not about.quiet:
            self.loud = True
        return result

    def watch(self, run: Callable[[], object]) -> tuple[object, Observation]:
        """`(result, what happened)`.  The log is kept until the next call, and with it
        every tensor in it, so that no storage identity is used twice meanwhile."""
        self.calls.clear()
        self.loud = False
        result = run()
        return result, (_summary(self.calls) if self.loud else QUIET)


def _unclear(
    outs: Sequence[tuple[torch.Tensor, torch.Size]], given: Sequence[torch.Tensor]
) -> bool:
    """Whether of several `out=` one stands for two results, or is an operand and resized."""
    as_out = Counter(id(out) for out, _ in outs)
    times = Counter(map(id, given))
    return any(
        as_out[id(out)] > 1 or (times[id(out)] > 1 and out.shape != shape) for out, shape in outs
    )


def _uncached() -> AbstractContextManager[object]:
    mode = active_fake_mode()
    return nullcontext() if mode is None else disable_fake_tensor_cache(mode)


def _as_copies(result: object, args: Sequence[object]) -> object:
    given = {storage_of(tensor) for argument in args for tensor in tensors_in(argument)}
    if isinstance(result, torch.Tensor):
        return result.clone() if storage_of(result) in given else result
    if isinstance(result, tuple):
        return tuple(_as_copies(part, args) for part in result)
    return result


def _as_parts(results: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """Results as parts of one storage, one after the other; as they are where they are that."""
    if len({storage_of(part) for part in results}) == 1:
        return results
    whole = torch.cat([part.reshape(-1) for part in results])
    parts = torch.split(whole, [part.numel() for part in results])
    return [one.view(part.shape) for one, part in zip(parts, results, strict=True)]


def hidden_state(calls: Sequence[Call]) -> list[torch.Tensor]:
    """Tensors that calls use and no call in the log has made: the node's own state."""
    made: set[int] = set()
    found: dict[int, torch.Tensor] = {}
    for call in calls:
        for _, argument in call.arguments():
            for tensor in tensors_in(argument):
                if storage_of(tensor) not in made:
                    found.setdefault(storage_of(tensor), tensor)
        made |= {storage_of(tensor) for tensor in tensors_in(call.result)} - found.keys()
    return list(found.values())


def _summary(calls: Sequence[Call]) -> Observation:
    """Replay a log: order matters for what was read before it was overwritten."""
    seen = Observation()
    read: set[int] = set()
    for call in calls:
        about = signature(call.operator)
        targets = list(call.written())
        storages = {storage_of(tensor) for tensor in targets}
        inputs = {
            storage_of(tensor)
            for name, argument in call.arguments()
            if name not in about.written and about.reads_data
            for tensor in tensors_in(argument)
        }
        read |= inputs - seen.overwritten
        if about.name in OVERWRITERS:
            whole = targets
        else:
            whole = [t for name in about.outputs for t in tensors_in(dict(call.arguments())[name])]
            seen.unclear |= call.unclear
        full = {storage_of(tensor) for tensor in whole if covers_storage(tensor)} - inputs
        read |= storages - full - seen.overwritten
        seen.written |= storages
        seen.overwritten |= full - read
        seen.unwritten -= full
        if about.allocates_unwritten:
            seen.unwritten |= {storage_of(t) for t in tensors_in(call.result)} - storages
        seen.trusted &= about.trusted
        seen.opaque |= about.opaque
        seen.draws |= about.random and about.draws(dict(call.arguments()).get)
        seen.unlaid += call.unlaid
        if about.moves:
            seen.moved += tensors_in(call.args[0])
    return seen


def covers_storage(tensor: torch.Tensor) -> bool:
    """Whether every byte of the tensor's storage belongs to the tensor."""
    if not has_storage(tensor):
        return False
    # Unknown sizes are symbolic, and an equation between them is no fact about a run.
    size = known_int(tensor.numel() * tensor.element_size())
    if size is None or size != nbytes_of(tensor):
        return False
    # As many bytes as the storage has, so it covers it unless elements overlap.
    layout = [*tensor.stride(), *tensor.shape]
    known = [size for size in map(known_int, layout) if size is not None]
    if len(known) != len(layout):
        return False
    expected = 1
    for step, length in sorted(zip(known[: tensor.dim()], known[tensor.dim() :], strict=True)):
        if length != 1:
            if step != expected:
                return False
            expected *= length
    return True
