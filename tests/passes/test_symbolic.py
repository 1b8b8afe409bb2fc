"""Peaks as functions of dynamic dimensions, against the program loaded at many sizes."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor, nn
from torch._higher_order_ops import scan
from torch._higher_order_ops.map import map as map_each
from torch.export import Dim, ExportedProgram

import passes
from passes import CaptureError, PlanError, ProgramError, Role
from passes.frontends.fakes.composites import sizes_asked_alone
from passes.symbolic.cases import Cases
from passes.symbolic.dynamic import Facts
from passes.symbolic.memory import SymbolicMemory

BATCH = Dim("batch")
LENGTH = Dim("length", max=64)
Sizes = Mapping[str, int]


class Calls(nn.Module):
    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


def exported(
    function: Callable[..., object], *shape: int, lengths: bool = False
) -> ExportedProgram:
    """Exported with the first dimension, or the first two, dynamic."""
    dynamic = {"x": {0: BATCH, 1: LENGTH} if lengths else {0: BATCH}}
    return torch.export.export(Calls(function), (torch.rand(shape),), dynamic_shapes=dynamic)


@cache
def symbolic(function: Callable[..., object], *shape: int, lengths: bool = False) -> SymbolicMemory:
    return passes.symbolic_memory(passes.load(exported(function, *shape, lengths=lengths)))


def attention(x: Tensor) -> Tensor:
    batch, length, width = x.shape
    q = x.view(batch, length, 2, width // 2).transpose(1, 2)
    weights = (q @ q.transpose(-1, -2)).softmax(-1)
    return (weights @ q).transpose(1, 2).reshape(batch, length, width)


def scattered(x: Tensor) -> Tensor:
    part = (x * 2)[:, :, :2]
    return torch.slice_scatter(part, x[:1, :, :2] * 3, 0, 0, 1) + 1


def branch(x: Tensor) -> Any:
    double = torch.cond(
        x.sum() > 0, lambda v: torch.cat([v, v]).sum(0), lambda v: v.sum(0) + 1, (x,)
    )
    return double * 2


def scanned(x: Tensor) -> Any:
    return scan(lambda carry, row: (carry + row.sum(), row * carry), x.new_zeros(4), x)


def mapped(x: Tensor) -> Any:
    return map_each(lambda row, *_: row * 2 + 1, x)


# What each program does depends on sizes in another way; the shape is of its example.
PROGRAMS: dict[str, tuple[Callable[..., object], tuple[int, ...]]] = {
    "a chain": (lambda x: ((x * 2) * 3).sum(-1), (3, 5, 4)),
    "products of both": (lambda x: x @ x.transpose(1, 2) + 1, (3, 5, 4)),
    "a view or a copy": (lambda x: x.transpose(0, 1).reshape(-1, 4) + 1, (3, 5, 4)),
    "contiguous or not": (lambda x: x.transpose(0, 1).contiguous() * x.sum(), (3, 5, 4)),
    "a view kept by its base": (lambda x: (x * 2)[:, 0], (3, 5, 4)),
    "in place": (lambda x: (x * 2).relu_().add_(1).mul(3), (3, 5, 4)),
    "broadcast": (lambda x: x.new_zeros(1, 1, 4).expand(x.shape) + 1, (3, 5, 4)),
    "an index of the length": (lambda x: torch.arange(x.shape[1]) * 2 + x.sum(), (3, 5, 4)),
    "two results": (lambda x: (x.max(1).values, x.max(1).indices), (3, 5, 4)),
    "attention": (attention, (3, 5, 4)),
    "as large as the storage it is a copy of": (scattered, (3, 5, 4)),
    "a loss that keeps what it sums": (
        lambda x: nn.functional.mse_loss(x, x * 2) + 1,
        (3, 5, 4),
    ),
    "kernels that want numbers": (lambda x: nn.functional.pad(x, (1, 1)) + 1, (3, 5, 4)),
    "a branch": (branch, (3, 5, 4)),
    "a scan along a dynamic dimension": (scanned, (3, 5, 4)),
    "a map along a dynamic dimension": (mapped, (3, 5, 4)),
}
SAMPLED = [(2, 2), (3, 3), (7, 5), (2, 64), (1, 5), (4, 1), (0, 3)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_op_has_the_bytes_of_the_program_at_these_sizes(name: str) -> None:
    function, shape = PROGRAMS[name]
    program = exported(function, *shape, lengths=True)
    found = passes.symbolic_memory(passes.load(program))
    for batch, length in SAMPLED:
        sizes = {"batch": batch, "length": length}
        concrete = passes.memory(passes.load(program, torch.rand(batch, length, *shape[2:])))
        case = found.cases.of({name: (size, size) for name, size in sizes.items()})
        assert case is not None
        assert tuple(size.at(sizes) for size in case.timeline) == concrete.timeline, sizes
        assert {r: s.at(sizes) for r, s in case.entry.items()} == concrete.entry_bytes, sizes
        peak = found.at(sizes)
        assert peak.nbytes == concrete.peak_bytes == max(p.size.at(sizes) for p in case.peak)
        assert concrete.peak_at is not None
        assert peak.op.name == concrete.peak_at.name
        assert peak.total_bytes == peak.nbytes + sum(concrete.entry_bytes.values())


def pieces(found: SymbolicMemory) -> dict[str, str]:
    return {str(piece.size): piece.op.name for piece in found.peak}


class TestPieces:
    def test_a_chain_has_one(self) -> None:
        found = symbolic(lambda x: ((x * 2) * 3).sum(-1), 3, 4)
        assert pieces(found) == {"32*batch": "mul_1"}

    def test_long_and_short_sequences_have_their_own(self) -> None:
        found = symbolic(attention, 3, 5, 8, lengths=True)
        assert pieces(found) == {"16*batch*length**2": "softmax", "64*batch*length": "reshape"}
        for piece in found.peak:
            assert piece.where is not None
            assert found.at(piece.where).op is piece.op

    def test_one_that_is_never_the_greatest_is_left_out(self) -> None:
        """The second matmul is above each of the two others somewhere, but not above both."""
        found = symbolic(attention, 3, 5, 8, lengths=True)
        middle = found.timeline[found.program.op("matmul_1").index]
        assert str(middle) == "8*batch*length**2 + 32*batch*length"
        assert middle not in [piece.size for piece in found.peak]

    def test_a_constant_may_be_the_greatest(self) -> None:
        found = symbolic(lambda x: x.new_zeros(100).sum() + x * 2, 3, 4)
        assert pieces(found) == {"404": "sum_1", "32*batch + 4": "add"}

    def test_floors(self) -> None:
        model = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.MaxPool2d(2))
        dynamic = ({2: Dim("side", min=12, max=99), 3: Dim("side", min=12, max=99)},)
        program = torch.export.export(model, (torch.rand(2, 1, 16, 16),), dynamic_shapes=dynamic)
        found = passes.symbolic_memory(passes.load(program))
        assert "//" in str(found)
        for side in (12, 13, 14, 15, 50, 99):
            concrete = passes.memory(passes.load(program, torch.rand(2, 1, side, side)))
            assert found.at(side=side).nbytes == concrete.peak_bytes
        fitting = [s for s in range(12, 100) if found.at(side=s).total_bytes <= 20_000]
        assert found.largest("side", budget=20_000).value == max(fitting)


class TestSymbols:
    def test_they_have_names_places_and_ranges(self) -> None:
        batch, length = symbolic(attention, 3, 5, 4, lengths=True).symbols
        assert (batch.name, batch.places, batch.range) == ("batch", ("x.shape[0]",), "0..")
        assert (length.name, length.places, length.range) == ("length", ("x.shape[1]",), "0..64")
        assert (batch.example, length.example) == (3, 5)

    def test_a_saved_program_has_places_for_names(self) -> None:
        file = io.BytesIO()
        torch.export.save(exported(attention, 3, 5, 4, lengths=True), file)
        file.seek(0)
        program = passes.load(torch.export.load(file))
        found = passes.symbolic_memory(program)
        assert [symbol.name for symbol in found.symbols] == ["x.shape[0]", "x.shape[1]"]
        sizes = {"x.shape[0]": 3, "x.shape[1]": 5}
        named = passes.symbolic_memory(program, names={"batch": "x.shape[0]"})
        assert named.at({"batch": 3, "x.shape[1]": 5}).nbytes == found.at(sizes).nbytes
        assert "16*batch*x.shape[1]**2" in str(named)

    def test_derived_dimensions_are_not_symbols_of_their_own(self) -> None:
        class Two(nn.Module):
            def forward(self, x: Tensor, y: Tensor) -> Tensor:
                return y * 2 + torch.cat([x, x])

        half = Dim("half", min=2)
        program = torch.export.export(
            Two(), (torch.rand(3, 4), torch.rand(6, 4)), dynamic_shapes=({0: half}, {0: 2 * half})
        )
        found = passes.symbolic_memory(passes.load(program))
        (symbol,) = found.symbols
        assert symbol.places[0] == "x.shape[0]"
        assert symbol.places[1].startswith("y.shape[0] = 2*")
        concrete = passes.memory(passes.load(program, torch.rand(5, 4), torch.rand(10, 4)))
        assert found.at(half=5).nbytes == concrete.peak_bytes
        assert found.at(half=5).total_bytes == concrete.peak_bytes + 15 * 16

    def test_entry_is_apart(self) -> None:
        found = passes.symbolic_memory(
            passes.load(
                torch.export.export(
                    nn.Linear(4, 2), (torch.rand(3, 4),), dynamic_shapes=({0: BATCH},)
                )
            )
        )
        assert str(found.entry[Role.INPUT]) == "16*batch"
        assert str(found.entry[Role.PARAMETER]) == "40"


class TestCases:
    def test_the_sizes_0_and_1_are_cases_of_their_own(self) -> None:
        found = symbolic(lambda x: x.t().reshape(-1) + 1, 3, 4)
        assert pieces(found) == {"32*batch": "add"}
        assert found.at(batch=1).nbytes == 16, "a row is its own transpose: no copy"
        assert found.at(batch=0).nbytes == 0

    def test_a_condition_is_named_and_sizes_against_it_have_their_own_case(self) -> None:
        """A slice of all columns is contiguous, and of fewer it is copied."""

        class Slice(nn.Module):
            def forward(self, x: Tensor, y: Tensor) -> Tensor:
                return x[:, : y.shape[0]].contiguous() + 1

        program = torch.export.export(
            Slice(),
            (torch.rand(4, 6), torch.rand(5)),
            dynamic_shapes=({1: Dim.AUTO}, {0: Dim.AUTO}),
        )
        loaded = passes.load(program)
        names = {"columns": "x.shape[1]", "taken": "y.shape[0]"}
        found = passes.symbolic_memory(loaded, names=names)
        assert found.conditions == ("taken <= columns", "columns != taken")
        for columns, taken in ((6, 5), (6, 6), (5, 6), (9, 2), (2, 2)):
            concrete = passes.memory(
                passes.load(program, torch.rand(4, columns), torch.rand(taken))
            )
            assert found.at(columns=columns, taken=taken).nbytes == concrete.peak_bytes
        budget = found.at(columns=6, taken=6).total_bytes
        assert found.largest("taken", budget=budget, columns=6).value == 6
        assert found.at(columns=6, taken=5).total_bytes > budget, "one less does not fit"

    @pytest.mark.parametrize(
        ("other", "strides"),
        [
            (torch.rand(6, 8).t(), "(1, 8)"),
            (torch.rand(8, 12)[:, :6], "(12, 1)"),
            (torch.rand(9, 6)[1:], "(6, 1) in a storage of 216 bytes"),
        ],
    )
    def test_an_example_that_is_laid_out_otherwise_is_refused(
        self, other: Tensor, strides: str
    ) -> None:
        """A view of what is contiguous is a copy of what is not, with more bytes."""

        class Flat(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                flat: Tensor = x.reshape(-1).exp().sum()
                return flat

        rows = ({0: Dim("rows")},)
        program = torch.export.export(Flat(), (torch.rand(4, 6),), dynamic_shapes=rows)
        for fits in (torch.rand(8, 6), torch.rand(1, 6), other.contiguous().clone()):
            loaded = passes.load(program, fits)
            as_loaded = passes.symbolic_memory(loaded).at(rows=len(fits))
            assert as_loaded.nbytes == passes.memory(loaded).peak_bytes
        loaded = passes.load(program, other)
        with pytest.raises(CaptureError, match=re.escape(f"has strides {strides}")):
            passes.symbolic_memory(loaded).at(rows=8)
        with pytest.raises(CaptureError, match=r"give (input\.contiguous\(\)|a clone\(\) of it)"):
            passes.load_training_step(
                nn.Linear(6, 1), lambda out: out.sum(), None, other, dynamic={"input": {0: "rows"}}
            )

    def test_what_makes_no_difference_is_no_condition(self) -> None:
        # Fake convolutions ask whether there are 16 images.
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        x = torch.rand(3, 3, 8, 8)
        program = torch.export.export(model, (x,), dynamic_shapes=({0: BATCH},))
        found = passes.symbolic_memory(passes.load(program))
        assert found.conditions == ()
        assert len(found.cases.found) == 1
        assert found.at(batch=40).nbytes == 40 * 2 * 4 * 36 * 4

    def test_sizes_at_which_many_conditions_do_not_hold_are_walked_once(self) -> None:
        """Each of the parts has conditions, and most do not hold for two rows."""
        model = Calls(lambda x: x.reshape(-1).unbind(0)[3] + 1)
        both = ({0: Dim.AUTO, 1: Dim.AUTO},)
        captured = torch.export.export(model, (torch.rand(3, 4),), dynamic_shapes=both)
        program = passes.load(captured)
        dynamic = program.dynamic
        assert dynamic is not None
        walked: list[tuple[int, ...]] = []

        def find(sizes: Sizes, loaded: passes.Program) -> Facts:
            walked.append(tuple(sizes.values()))
            return dynamic.find(sizes, loaded)

        rows, columns = (symbol.name for symbol in dynamic.symbols)
        case = Cases(evolve(dynamic, find=find), program).of({rows: (3, 3), columns: (4, 4)})
        assert case is not None
        two = {rows: 2, columns: 2}
        assert len([c for c in case.facts.conditions if not c.holds(two)]) > 5
        assert (3, 4) in walked
        assert (2, 2) in walked
        assert len(walked) == len(set(walked))


FUNCTIONS = {
    "a chain": lambda x: ((x * 2) * 3).sum(-1),
    "a view of one row": lambda x: x.t().reshape(-1) + 1,
    "a constant": lambda x: x.new_zeros(100).sum() + x * 2,
}


class TestLargest:
    @pytest.mark.parametrize("name", FUNCTIONS)
    @pytest.mark.parametrize("budget", [1, 15, 16, 47, 48, 400, 1_000, 4_821])
    def test_it_is_the_largest_of_all(self, name: str, budget: int) -> None:
        found = symbolic(FUNCTIONS[name], 3, 4)
        fitting = [n for n in range(200) if found.at(batch=n).total_bytes <= budget]
        answer = found.largest("batch", budget=budget)
        assert answer.value == max(fitting, default=None)
        assert answer.limit == "budget"
        if answer.value is not None:
            assert answer.total_bytes == found.at(batch=answer.value).total_bytes
            assert answer.next_bytes == found.at(batch=answer.value + 1).total_bytes > budget

    def test_with_another_symbol_given(self) -> None:
        found = symbolic(attention, 3, 5, 4, lengths=True)
        for length in (1, 2, 7, 64):
            answer = found.largest("batch", budget=100_000, length=length)
            assert answer.value is not None
            below, above = (
                found.at(batch=answer.value + more, length=length).total_bytes for more in (0, 1)
            )
            assert below <= 100_000 < above

    def test_the_range_may_be_the_limit(self) -> None:
        answer = symbolic(attention, 3, 5, 4, lengths=True).largest("length", budget=10**9, batch=1)
        assert (answer.value, answer.limit, answer.next_bytes) == (64, "range", None)

    def test_nothing_may_be(self) -> None:
        """A number among the inputs takes no bytes."""

        class Scale(nn.Module):
            def forward(self, x: Tensor, by: int) -> Tensor:
                return x * by

        program = torch.export.export(
            Scale(), (torch.rand(4), 5), dynamic_shapes=(None, Dim.DYNAMIC)
        )
        found = passes.symbolic_memory(passes.load(program), names={"by": "by"})
        answer = found.largest("by", budget=32)
        assert (answer.value, answer.limit) == (None, "nothing")
        assert found.largest("by", budget=31).limit == "budget"

    def test_bytes_that_shrink(self) -> None:
        """Fewer rows, more padding: the largest is beyond sizes that do not fit."""

        def pad(x: Tensor) -> Tensor:
            return (
                torch.cat([x, x.new_zeros(64 - x.shape[0], 4)]).sum()
                + x.new_zeros(64 - x.shape[0], 40).sum()
            )

        dynamic = {"x": {0: Dim("rows", min=2, max=60)}}
        program = torch.export.export(Calls(pad), (torch.rand(3, 4),), dynamic_shapes=dynamic)
        found = passes.symbolic_memory(passes.load(program))
        budget = found.at(rows=40).total_bytes
        assert found.at(rows=2).total_bytes > budget > found.at(rows=60).total_bytes
        assert found.largest("rows", budget=budget).value == 60
        none = found.largest("rows", budget=100)
        assert (none.value, none.next_bytes) == (None, found.at(rows=2).total_bytes)


class TestErrors:
    def test_a_program_without_dynamic_dimensions(self) -> None:
        with pytest.raises(ProgramError, match="dynamic_shapes"):
            passes.symbolic_memory(passes.load(nn.Linear(4, 4), torch.rand(2, 4)))

    def test_a_training_step(self) -> None:
        step = passes.load_training_step(
            nn.Linear(4, 4), nn.MSELoss(), torch.optim.SGD, torch.rand(2, 4), torch.rand(2, 4)
        )
        with pytest.raises(ProgramError, match="a training step of fixed sizes"):
            passes.symbolic_memory(step)

    BAD: Mapping[str, tuple[Callable[[SymbolicMemory], Any], str]] = {
        "unknown": (lambda m: m.at(rows=3, length=5), "'rows'.*batch.*x.shape"),
        "missing": (lambda m: m.at(batch=3), "no size for length"),
        "too large": (lambda m: m.at(batch=3, length=65), r"length=65.*0\.\.64"),
        "negative": (lambda m: m.at(batch=-1, length=5), "batch=-1"),
        "no int": (lambda m: m.at({"batch": 2.0, "length": 5}), "int"),  # type: ignore[dict-item]
        "looked for and given": (
            lambda m: m.largest("batch", budget=9, batch=2, length=5),
            "leave its size out",
        ),
        "a missing other": (lambda m: m.largest("batch", budget=9), "no size for length"),
        "no budget": (lambda m: m.largest("batch", budget=-1, length=5), "budget is -1"),
    }

    @pytest.mark.parametrize("name", BAD)
    def test_a_question_that_has_no_answer(self, name: str) -> None:
        ask, message = self.BAD[name]
        with pytest.raises(ProgramError, match=message):
            ask(symbolic(attention, 3, 5, 4, lengths=True))

    def test_inputs_that_share_a_storage(self) -> None:
        class Two(nn.Module):
            def forward(self, x: Tensor, y: Tensor) -> Tensor:
                return x + y

        both = torch.rand(6, 4)
        dynamic = ({0: BATCH}, {0: BATCH})
        program = torch.export.export(Two(), (both[:3], both[3:]), dynamic_shapes=dynamic)
        for inputs, message in (
            ((both, both), "shares its storage"),
            ((both[:3], both[3:]), "in a storage of 96 bytes"),
        ):
            with pytest.raises(CaptureError, match=message):
                passes.symbolic_memory(passes.load(program, *inputs)).at(batch=len(inputs[0]))

    def test_a_storage_that_is_resized_to_a_dynamic_size(self) -> None:
        def grown(x: Tensor) -> Tensor:
            y = x.new_ones(2)
            y.resize_(x.shape[0], 2)
            return y + 1

        with pytest.raises(CaptureError, match="new_ones has 8 bytes"):
            symbolic(grown, 3, 4).at(batch=3)

    def test_two_symbols_of_one_name(self) -> None:
        program = passes.load(exported(attention, 3, 5, 4, lengths=True))
        with pytest.raises(ProgramError, match="one name"):
            passes.symbolic_memory(program, names={"length": "x.shape[0]"})


class TestInputsOfSteps:
    @staticmethod
    def load(dynamic: Any, x: Tensor | None = None, y: Tensor | None = None) -> passes.Program:
        return passes.load_training_step(
            nn.Linear(4, 4),
            nn.MSELoss(),
            torch.optim.SGD,
            torch.rand(3, 4) if x is None else x,
            torch.rand(3, 4) if y is None else y,
            dynamic=dynamic,
        )

    def test_a_dim_has_a_range(self) -> None:
        rows = Dim("rows", min=2, max=9)
        (symbol,) = passes.symbolic_memory(
            self.load({"input": {0: rows}, "target": {0: rows}})
        ).symbols
        assert (symbol.name, symbol.range, symbol.example) == ("rows", "2..9", 3)
        assert symbol.places == ("input.shape[0]", "target.shape[0]")

    def test_an_operator_that_wants_numbers_is_recorded_on_symbols(self) -> None:
        """Padding with a constant has a kernel that makes numbers of sizes."""

        def shifted(out: Tensor, target: Tensor) -> Tensor:
            return nn.functional.mse_loss(out, nn.functional.pad(target, (0, 1), value=3)[:, 1:])

        def step(rows: int) -> passes.Program:
            x, y = torch.rand(rows, 4), torch.rand(rows, 4)
            sizes = {"input": {0: "rows"}, "target": {0: "rows"}}
            model = nn.Linear(4, 4)
            return passes.load_training_step(model, shifted, torch.optim.SGD, x, y, dynamic=sizes)

        found = passes.symbolic_memory(step(3))
        assert not found.conditions
        assert found.at(rows=9).nbytes == passes.memory(step(9)).peak_bytes

    def test_a_loop_over_a_size_says_so(self) -> None:
        model = nn.GRU(4, 4)
        step = passes.load_training_step(
            model, lambda out: out[0].sum(), None, torch.rand(2, 3, 4),
            dynamic={"input": {0: "length"}},
        )  # fmt: skip
        found = passes.symbolic_memory(step)
        assert found.at(length=5).nbytes > found.at(length=3).nbytes
        with pytest.raises(ProgramError, match="one size of length at a time"):
            found.largest("length", budget="1 GiB")

    def test_a_size_that_decides_what_is_done(self) -> None:
        class Deciding(nn.Linear):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x).exp() if x.shape[0] >= 10 else super().forward(x)

        def step(rows: int) -> passes.Program:
            sizes = {"x": {0: "rows"}}
            x = torch.rand(rows, 4)
            return passes.load_training_step(
                Deciding(4, 4), lambda out: out.sum(), None, x, dynamic=sizes
            )

        found = passes.symbolic_memory(step(4))
        assert len(found.conditions) == 1
        for rows in (4, 9, 10, 12):
            assert found.at(rows=rows).nbytes == passes.memory(step(rows)).peak_bytes
        assert passes.plan(step(4), at_most={"rows": 9}).is_optimal
        with pytest.raises(PlanError, match=r"for rows from 2 to 12: .* is known where .*rows"):
            passes.plan(step(4), at_most={"rows": 12})

    def test_kernels_are_torchs_again_afterwards(self) -> None:
        def kernels() -> str:
            table: str = torch._C._dispatch_dump_table("aten::unsafe_chunk")
            return table

        before = kernels()
        with sizes_asked_alone():
            assert kernels() != before
            assert [len(part) for part in torch.unsafe_chunk(torch.rand(5), 3)] == [2, 2, 1]
        assert kernels() == before

    BAD: Mapping[str, tuple[Any, str]] = {
        "no such input": ({"x": {0: "rows"}}, "no such input; there are input, target"),
        "no such dimension": ({"input": {2: "rows"}}, "has no dim 2"),
        "not in its range": ({"input": {0: Dim("n", max=2)}}, "is 3, and 'n' is from 1 to 2"),
        "one name for two sizes": ({"input": {0: "n", 1: "n"}}, "is 4, and input.shape.0., which"),
    }

    @pytest.mark.parametrize("name", BAD)
    def test_what_cannot_be(self, name: str) -> None:
        dynamic, message = self.BAD[name]
        with pytest.raises(CaptureError, match=message):
            self.load(dynamic)

    def test_strides_and_storages_that_other_sizes_would_not_have(self) -> None:
        dynamic = {"input": {0: "rows"}}
        with pytest.raises(CaptureError, match="not contiguous"):
            self.load(dynamic, torch.rand(4, 3).t())
        both = torch.rand(6, 4)
        with pytest.raises(CaptureError, match="shares its storage"):
            self.load(dynamic, both[:3], both[3:])

    def test_one_tensor_given_twice_has_the_same_sizes(self) -> None:
        """Such as token ids that are the labels too."""
        x = torch.rand(3, 4)
        for dynamic in ({"input": {0: "rows"}, "target": {0: "rows"}}, {"input": {0: "rows"}}):
            found = passes.symbolic_memory(self.load(dynamic, x, x))
            assert found.at(rows=3).nbytes == passes.memory(self.load({}, x, x)).peak_bytes
            for rows in (2, 7):
                one = torch.rand(rows, 4)
                assert (
                    found.at(rows=rows).nbytes == passes.memory(self.load({}, one, one)).peak_bytes
                )
                assert found.entry[Role.INPUT].at({"rows": rows}) == rows * 4 * 4
        with pytest.raises(CaptureError, match="target is the same tensor as another one"):
            self.load({"input": {0: "rows"}, "target": {0: "n"}}, x, x)

    def test_sizes_that_are_too_small_for_the_model(self) -> None:
        """Normalisation wants two elements of each image, and so no length below 3."""
        model = nn.Sequential(nn.Conv1d(2, 4, 3, stride=2, padding=1), nn.InstanceNorm1d(4))

        def step(length: int, rows: int = 3) -> passes.Program:
            dynamic = {"input": {0: "rows", 2: "length"}}
            x = torch.rand(rows, 2, length)
            return passes.load_training_step(
                model, lambda y: y.square().mean(), None, x, dynamic=dynamic
            )

        found = passes.symbolic_memory(step(9))
        for length in (3, 4, 8, 21):
            assert found.at(rows=3, length=length).nbytes == passes.memory(step(length)).peak_bytes
        with pytest.raises(CaptureError, match="more than 1 spatial element"):
            found.at(rows=3, length=2)
        total = found.at(rows=3, length=30).total_bytes
        assert found.largest("length", rows=3, budget=total).value in (30, 31)
        assert found.largest("length", rows=3, budget=10).value is None
        assert found.largest("rows", length=9, budget=total).value is not None

    def test_a_size_that_becomes_a_tensor_stays_a_symbol(self) -> None:
        def loss(out: Tensor, target: Tensor) -> Tensor:
            rows = out.shape[0]
            some = torch.where(out > 0, out, rows) + torch.full((), rows) * target
            return some.sum() / torch.scalar_tensor(rows)

        dynamic = {"input": {0: "rows"}, "target": {0: "rows"}}

        def step(rows: int) -> passes.Program:
            x, y = torch.rand(rows, 4), torch.rand(rows, 4)
            return passes.load_training_step(nn.Linear(4, 4), loss, None, x, y, dynamic=dynamic)

        found = passes.symbolic_memory(step(3))
        assert not found.conditions
        for rows in (2, 5, 9):
            assert found.at(rows=rows).nbytes == passes.memory(step(rows)).peak_bytes
