"""Recordings whose inputs have sizes that are symbols, as the user asks for by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sympy
import torch
from attrs import evolve, frozen

from passes.errors import CaptureError
from passes.frontends.dynamic.dimensions import FARTHEST, Dimension
from passes.frontends.dynamic.world import SymbolicWorld, dynamic_from
from passes.frontends.fakes.composites import sizes_asked_alone
from passes.frontends.fakes.unsupported import memory_of
from passes.frontends.fakes.world import World, nbytes_of
from passes.frontends.walk.observing import Walk
from passes.program import Program
from passes.symbolic.dynamic import Dynamic, Symbol

# Any: a torch.export.Dim, which is a type of its own.
Asked = Mapping[str, Mapping[int, Any]]
"""By input and number of the dimension: its name, or a `torch.export.Dim`."""

Capture = Callable[[World, World, Callable[..., Walk], Dynamic | None], Program]
"""Records what runs in a first world and analyses the record in a second, by a walk."""


def recorded(
    capture: Capture,
    device: torch.device | None,
    asked: Asked,
    given: Mapping[str, torch.Tensor],
) -> Program:
    """The program of a recording at the sizes given, with the dynamic dimensions asked for.

    `given` are the inputs by name, and `device` stands for the meta device.
    """
    dimensions, inputs = dynamic_inputs(asked, given)

    def again(world: Callable[[torch.device | None], World], walk: Callable[..., Walk]) -> Program:
        analysed = world(device)
        assert isinstance(analysed, SymbolicWorld)
        recording = analysed.beside()
        for one in inputs:
            one.enter(recording, analysed)
            one.enter(analysed, analysed)
        with sizes_asked_alone():
            return capture(recording, analysed, walk, None)

    found = dynamic_from(dimensions, again) if dimensions else None
    analysed = World(device)
    program = capture(analysed.beside(), analysed, Walk, found)
    if not dimensions:
        return program
    taken = ", ".join(
        f"{place} = {one.symbol.example}" for one in dimensions for place in one.symbol.places
    )
    note = (
        f"dynamic dimensions are taken at the sizes given: {taken}. At others it may call other "
        "operators; symbolic_memory records it again there"
    )
    return evolve(program, notes=(*program.notes, note))


@frozen(eq=False)
class DynamicInput:
    """A tensor among the inputs, and the names of its dynamic dimensions."""

    real: torch.Tensor
    names: Mapping[int, str]

    def enter(self, world: World, symbols: SymbolicWorld) -> None:
        """Have a fake of the symbols' sizes in a world that shares them."""
        shape = [
            symbols.sized(self.names[place]) if place in self.names else size
            for place, size in enumerate(self.real.shape)
        ]
        device = world.device if self.real.is_meta and world.device else self.real.device
        with world.mode:
            fake = torch.empty(shape, dtype=self.real.dtype, device=device)
        world.adopt(self.real, fake.requires_grad_(self.real.requires_grad))


def dynamic_inputs(
    asked: Asked, given: Mapping[str, torch.Tensor]
) -> tuple[list[Dimension], list[DynamicInput]]:
    """The dimensions that a user asks for, and the inputs that have them.

    Sizes are from 1 on: no step has nothing to learn from.
    """
    sizes: dict[str, int] = {}
    places: dict[str, list[str]] = {}
    ranges: dict[str, tuple[int, int]] = {}
    inputs: dict[int, DynamicInput] = {}  # by identity: ids may be the labels too
    for label, dimensions in _checked(asked):
        real = given.get(label)
        if real is None:
            raise CaptureError(
                f"dynamic={{{label!r}: ...}}: there is no such input; there are {', '.join(given)}"
            )
        if not real.is_contiguous():
            raise CaptureError(
                f"input {label} is not contiguous, and how it is laid out at other sizes is not "
                f"known: give {label}.contiguous()"
            )
        names: dict[int, str] = {}
        for place, dim in dimensions.items():
            if not -real.dim() <= place < real.dim():
                raise CaptureError(f"input {label} of shape {tuple(real.shape)} has no dim {place}")
            place %= real.dim()
            name, least, most = _named_range(label, place, dim)
            if names.setdefault(place, name) != name:
                raise CaptureError(f"{label}.shape[{place}] is named twice: {names[place]}, {name}")
            size = real.shape[place]
            if sizes.setdefault(name, size) != size:
                raise CaptureError(
                    f"{label}.shape[{place}] is {size}, and {places[name][0]}, which is {name!r} "
                    f"too, is {sizes[name]}"
                )
            places.setdefault(name, []).append(f"{label}.shape[{place}]")
            low, high = ranges.get(name, (1, FARTHEST))
            ranges[name] = low, high = max(low, least), min(high, most)
            if not low <= size <= high:
                raise CaptureError(
                    f"{label}.shape[{place}] is {size}, and {name!r} is from {low} to "
                    f"{high if high < FARTHEST else 'any size'}: give inputs of such a size"
                )
        if inputs.setdefault(id(real), DynamicInput(real, names)).names != names:
            raise CaptureError(
                f"input {label} is the same tensor as another one, and dynamic= does not say the "
                "same of both: name the same dimensions, or give a clone"
            )
    found = []
    for name, size in sizes.items():
        low, high = ranges[name]
        end = high if high < FARTHEST else None
        symbol = Symbol(name, tuple(places[name]), low, end, size)
        found.append(Dimension(symbol, sympy.Symbol(name)))
    each = list(inputs.values())
    _check_storages(each, list({id(tensor): tensor for tensor in given.values()}.values()))
    return found, each


def _checked(asked: Asked) -> Iterator[tuple[str, Mapping[int, object]]]:
    """What is asked for, by input."""
    if not isinstance(asked, Mapping):
        raise CaptureError(f"dynamic={asked!r:.60}: {_WANTED}")
    for label, dimensions in asked.items():
        if not isinstance(dimensions, Mapping):
            raise CaptureError(f"dynamic={{{label!r}: {dimensions!r:.60}}}: {_WANTED}")
        for place in dimensions:
            if not isinstance(place, int):
                raise CaptureError(
                    f"dynamic={{{label!r}: {{{place!r}: ...}}}}: the number of a dimension is an "
                    f"int. {_WANTED}"
                )
        yield label, dimensions


_WANTED = (
    "name sizes by input and number of the dimension, as in {'x': {0: 'batch'}, 'target': {0: "
    "'batch'}}"
)


def _named_range(label: str, place: int, dim: object) -> tuple[str, int, int]:
    """The name of a size, its least and its greatest."""
    where = f"dynamic={{{label!r}: {{{place}: {dim!r:.60}}}}}"
    # Any: see `Asked`.
    made: Any = dim
    name: object = made.__name__ if isinstance(made, torch.export.Dim) else made
    if not isinstance(name, str):
        raise CaptureError(
            f"{where}: a size has a name, such as 'batch', or is a torch.export.Dim, which has a "
            "range too. Sizes of one name are equal"
        )
    if not name.isidentifier():
        raise CaptureError(
            f"{where}: {name!r} is no name. Give a word; a size that follows from another one "
            "cannot be asked for"
        )
    if name is made:
        return name, 1, FARTHEST
    return name, max(1, int(made.min)), int(min(made.max, FARTHEST))


def _check_storages(inputs: Sequence[DynamicInput], given: Sequence[torch.Tensor]) -> None:
    storages = [storage._cdata for tensor in given for storage in memory_of(tensor)]
    for found in inputs:
        if any(storages.count(storage._cdata) > 1 for storage in memory_of(found.real)):
            raise CaptureError(
                f"an input with dynamic dimensions, of shape {tuple(found.real.shape)}, shares its "
                "storage with another one, and what they share at other sizes is not known: give "
                "a clone"
            )
        if nbytes_of(found.real) != found.real.numel() * found.real.element_size():
            raise CaptureError(
                f"an input with dynamic dimensions, of shape {tuple(found.real.shape)}, is part of "
                f"a storage of {nbytes_of(found.real)} bytes, and how large that is at other sizes "
                "is not known: give a clone() of it"
            )
