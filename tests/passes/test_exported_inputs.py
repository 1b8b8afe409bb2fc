"""Inputs of exported programs: those are refused that the exported module refuses."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

import passes
from passes import CaptureError


class Calls(nn.Module):
    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: object, y: object) -> object:
        return self.function(x, y)


def v(size: int) -> Tensor:
    return torch.rand(size)


def at_most() -> ExportedProgram:
    return _export(lambda x, y: (x.exp(), y.sum()), {0: Dim("b", max=8)}, None)


def at_least() -> ExportedProgram:
    return _export(lambda x, y: (x.exp(), y.sum()), {0: Dim("b", min=4)}, None)


def equal() -> ExportedProgram:
    b = Dim("b")
    return _export(lambda x, y: (x.exp() * 2, y.sum()), {0: b}, {0: b}, y=4)


def derived() -> ExportedProgram:
    b = Dim("b", max=100)
    return _export(lambda x, y: (x + y[::2]).exp(), {0: b}, {0: 2 * b})


def alone() -> ExportedProgram:
    """No size is the dimension itself."""
    return _export(lambda x, y: (x.sum() + y[::2]).exp(), None, {0: 2 * Dim("b", max=100)})


def specialised() -> ExportedProgram:
    return _export(
        lambda x, y: nn.functional.max_pool1d(x[None], 3, 1).sum() + y, {0: Dim.AUTO}, None
    )


def branch() -> ExportedProgram:
    return _export(lambda x, y: x.exp() if x.shape[0] > 3 else x * 2, {0: Dim.AUTO}, None)


def _export(
    function: Callable[..., object], x_dims: object, y_dims: object, x: int = 4, y: int = 8
) -> ExportedProgram:
    dynamic = {"x": x_dims, "y": y_dims}
    return torch.export.export(Calls(function), (v(x), v(y)), dynamic_shapes=dynamic)


Case = tuple[Callable[[], ExportedProgram], int, int]

FIT: Mapping[str, Case] = {
    "the greatest": (at_most, 8, 8),
    "one": (at_most, 1, 8),
    "the least": (at_least, 4, 8),
    "equal": (equal, 7, 7),
    "derived": (derived, 3, 6),
    "no size of its own": (alone, 4, 14),
    "as specialised": (specialised, 4, 8),
    "the same branch": (branch, 9, 8),
}
DO_NOT_FIT: Mapping[str, tuple[Case, str]] = {
    "too great": ((at_most, 16, 8), r"x\.shape\[0\] is 16, .* for 0 to 8\. Give"),
    "too small": ((at_least, 3, 8), r"x\.shape\[0\] is 3, .* for 4 or more\. Give"),
    "not equal": ((equal, 2, 5), r"y\.shape\[0\] is 5, .* the same as x\.shape\[0\], which is 2"),
    "not twice": ((derived, 2, 7), r"y\.shape\[0\] is 7, .* for 2\*b, which is 4"),
    "beyond a derived one": ((alone, 4, 202), r"y\.shape\[0\] is 202, .* for 0 to 200"),
    "specialised": ((specialised, 6, 8), r"x is .*\(6,\); .* captured for .*\(4,\)"),
    "another branch": ((branch, 2, 8), r"x\.shape\[0\] is 2, .* for 4 or more"),
}


@pytest.mark.parametrize("name", FIT)
def test_inputs_of_other_sizes_that_fit(name: str) -> None:
    make, x, y = FIT[name]
    program = make()
    program.module()(v(x), v(y))
    loaded = passes.load(program, v(x), v(y))
    if loaded.dynamic is not None:
        sizes = {symbol.name: symbol.example for symbol in loaded.dynamic.symbols}
        found = passes.symbolic_memory(loaded).at(**sizes)
        assert found.nbytes == passes.memory(loaded).peak_bytes


@pytest.mark.parametrize("name", DO_NOT_FIT)
def test_inputs_that_do_not_fit(name: str) -> None:
    (make, x, y), message = DO_NOT_FIT[name]
    program = make()
    with pytest.raises((AssertionError, RuntimeError)):
        program.module()(v(x), v(y))
    with pytest.raises(CaptureError, match=message):
        passes.load(program, v(x), v(y))


def test_a_dimension_that_no_size_is_alone_is_told_in_the_users_names() -> None:
    dynamic = passes.load(alone(), v(4), v(14)).dynamic
    assert dynamic is not None
    (symbol,) = dynamic.symbols
    assert (symbol.name, symbol.example, symbol.places) == ("b", 7, ("y.shape[0] = 2*b",))
    with pytest.raises(CaptureError, match=r"y\.shape\[0\] is 7, .* 2\*b, which no whole number"):
        passes.load(alone(), v(4), v(7))  # which torch's module takes


CONSTANTS = [(1, 2), (1, True), (1, 1.0), (True, 1), (2.5, 2.0), ("sum", "mean"), (None, 1)]


@pytest.mark.parametrize(("recorded", "given"), CONSTANTS)
def test_a_constant_is_part_of_the_program(recorded: object, given: object) -> None:
    program = torch.export.export(Calls(lambda x, y: x.exp()), (v(4), recorded))
    passes.load(program, v(4), recorded)
    with pytest.raises(CaptureError, match=r"input y is .* captured for .* part of it"):
        passes.load(program, v(4), given)
    with pytest.raises(CaptureError, match=r"input y is tensor.* captured for .* part of it"):
        passes.load(program, v(4), v(3))


def test_not_a_number_is_a_constant() -> None:
    program = torch.export.export(Calls(lambda x, y: x + y), (v(4), float("nan")))
    passes.load(program, v(4), float("nan"))


@pytest.mark.parametrize("given", [True, 2.0, torch.tensor(2), "2"])
def test_a_dynamic_number_is_an_int(given: object) -> None:
    program = torch.export.export(
        Calls(lambda x, y: x.exp() * y), (v(4), 3), dynamic_shapes={"x": None, "y": Dim.DYNAMIC}
    )
    passes.load(program, v(4), 5)
    with pytest.raises(CaptureError, match="input y should be an int, and is"):
        passes.load(program, v(4), given)


def test_another_branch_of_two_sizes_is_noted() -> None:
    program = _export(
        lambda x, y: x.exp() if x.shape[0] < y.shape[0] else x * 2, {0: Dim.AUTO}, {0: Dim.AUTO}
    )
    assert not any("branch" in note for note in passes.load(program, v(4), v(5)).notes)
    with pytest.raises(AssertionError):
        program.module()(v(9), v(5))
    (_, note) = passes.load(program, v(9), v(5)).notes
    assert "refuses these inputs" in note
    assert note.endswith("it was captured for x.shape[0] < y.shape[0]")

    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    read = torch.export.load(file)
    assert not any("branch" in note for note in passes.load(read).notes)
    assert not any("branch" in note for note in passes.load(read, v(4), v(8)).notes)
    (_, note) = passes.load(read, v(9), v(5)).notes
    assert "it is not checked whether" in note
