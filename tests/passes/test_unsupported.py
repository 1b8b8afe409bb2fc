"""Tensors that cannot be followed are refused by name, with advice, in every capture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map

import passes
from passes import CaptureError
from tests.passes.programs import traced

X = torch.arange(1.0, 17.0).view(4, 4)


class Wrapper(Tensor):
    """A subclass that wraps a tensor and has no storage of its own."""

    held: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapper:
        made: Wrapper = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        made.held = inner
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's is not typed
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        bare = tree_map(lambda x: x.held if isinstance(x, Wrapper) else x, (args, kwargs or {}))
        found = func(*bare[0], **bare[1])
        return tree_map(lambda x: Wrapper(x) if isinstance(x, Tensor) else x, found)


class Named(Tensor):
    """A subclass of no use."""


KINDS: dict[str, tuple[Callable[[], Tensor], str]] = {
    "wrapper": (lambda: Wrapper(X), "a Wrapper, a subclass of torch.Tensor.* give those"),
    "parameter": (lambda: nn.Parameter(Wrapper(X)), "a Wrapper, a subclass of torch.Tensor"),
    "name": (lambda: X.as_subclass(Named), r"a Named, .*as_subclass\(torch.Tensor\)"),
    "masked": (lambda: torch.masked.masked_tensor(X, X > 1), "a MaskedTensor, a subclass"),
    "jagged": (
        lambda: torch.nested.nested_tensor([X, X[:2]], layout=torch.jagged),
        "a nested tensor.* give a padded one",
    ),
    "nested": (
        lambda: torch.nested.nested_tensor([X, X[:2]]),
        "a nested tensor.* give a padded one",
    ),
    "quantized": (
        lambda: torch.quantize_per_tensor(X, 0.1, 0, torch.qint8),
        "quantized.* give it dequantized",
    ),
    "onednn": (lambda: X.to_mkldnn(), "in oneDNN's layout.* give it dense"),
    "functional": (
        lambda: torch._to_functional_tensor(X),
        "a functional tensor: give the one inside",
    ),
}


class Adds(nn.Module):
    """Adds what it holds, or is given, to a parameter."""

    def __init__(self, held: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        if isinstance(held, nn.Parameter):
            self.held = held
        elif held is not None:
            self.register_buffer("held", held)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> tuple[Callable[[], Tensor], str]:
    return KINDS[request.param]


@pytest.mark.filterwarnings("ignore")
class TestRefusals:
    def test_as_an_input_of_a_graph(self, kind: tuple[Callable[[], Tensor], str]) -> None:
        make, reason = kind
        with pytest.raises(CaptureError, match=f"^(inputs|x) is {reason}"):
            traced(lambda x: x + 1, make())

    def test_as_an_input_of_a_module(self, kind: tuple[Callable[[], Tensor], str]) -> None:
        make, reason = kind
        with pytest.raises(CaptureError, match=rf"^input\[0\] is {reason}"):
            passes.load(Adds(), make())
        with pytest.raises(CaptureError, match=rf"^input.x is {reason}"):
            passes.load(Adds(), x=make())

    @pytest.mark.parametrize("effects", ["observed", "declared"])
    def test_as_an_input_of_an_exported_program(
        self, kind: tuple[Callable[[], Tensor], str], effects: Literal["observed", "declared"]
    ) -> None:
        make, reason = kind
        exported = torch.export.export(Adds(), (X,))
        with pytest.raises(CaptureError, match=f"^x is {reason}"):
            passes.load(exported, make(), effects=effects)

    def test_as_state(self, kind: tuple[Callable[[], Tensor], str]) -> None:
        make, reason = kind
        model = Adds(make())
        for source in (model, fx.symbolic_trace(Adds())):
            if source is not model:
                source.weight = model.weight
                source.register_buffer("held", make())
            with pytest.raises(CaptureError, match=f"^held is {reason}"):
                passes.load(source, X)

    def test_in_a_training_step(self, kind: tuple[Callable[[], Tensor], str]) -> None:
        make, reason = kind
        with pytest.raises(CaptureError, match=f"^x is {reason}"):
            passes.load_training_step(Adds(), Tensor.sum, torch.optim.SGD, make(), targets=())
        with pytest.raises(CaptureError, match=f"^held is {reason}"):
            passes.load_training_step(Adds(make()), Tensor.sum, torch.optim.SGD, X, targets=())

    def test_of_a_forward_to_fit(self, kind: tuple[Callable[[], Tensor], str]) -> None:
        make, reason = kind
        with pytest.raises(CaptureError, match=f"^held is {reason}"):
            passes.fits(lambda: (Adds(make()), (X,)), budget="1 GiB")


class TestNotRefused:
    def test_parameters_of_a_class_of_their_own(self) -> None:
        class Marked(nn.Parameter):
            pass

        program = traced(lambda x: x.view(-1), Marked(X))
        assert passes.aliases(program).must_alias(program.entry.values[0].value, program.outputs[0])

    def test_a_tensor_without_elements_or_with_strides_of_0(self) -> None:
        for tensor in (X[:0], torch.ones(()).expand(4, 4), X.bfloat16(), X > 1):
            assert not traced(lambda x: (x.t(), x.clone()), tensor).assumed

    def test_a_program_captured_on_meta_stays_there(self) -> None:
        class Compares(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.where(x == 0, 1.0, x.to(torch.float32))

        exported = torch.export.export(Compares(), (X.to("meta"),))
        for program in (exported, exported.run_decompositions()):
            assert (
                passes.load(program).values[0].type
                == passes.load(program, X.to("meta")).values[0].type
            )
            assert not passes.load(program).assumed


class TestSparse:
    def test_a_sparse_tensor_and_its_part_are_refused(self) -> None:
        sparse = X.to_sparse()
        for other in (sparse.values(), sparse.indices(), sparse.detach()):
            with pytest.raises(CaptureError, match="a sparse tensor and one of its parts"):
                traced(lambda s, v: (v.add_(1), s), sparse, other)

    def test_rows_by_pointer_too(self) -> None:
        rows = X.to_sparse_csr()
        with pytest.raises(CaptureError, match="a sparse tensor and one of its parts"):
            traced(lambda s, v: (v.add_(1), s), rows, rows.values())

    def test_the_bytes_of_a_sparse_input_are_not_known(self) -> None:
        program = traced(lambda s, v: s.to_dense() + v, X.to_sparse(), X)
        assert [storage.name for storage in passes.memory(program).unsized] == ["s"]

    def test_one_sparse_tensor_twice_and_two_of_them(self) -> None:
        one, other = X.to_sparse(), X.to_sparse()
        assert len(traced(lambda s, t: s + t, one, one).assumed) == 1
        assert len(traced(lambda s, t: s + t, one, other).assumed) == 1


class TestRead:
    """Tensors that are conjugated when read: `resolve_conj` copies these and no others."""

    CONJUGATED = torch.complex(X, X).conj()

    @staticmethod
    def resolved(program: passes.Program) -> bool:
        """Whether the program copies its one input."""
        return not passes.aliases(program).may_alias(
            program.entry.values[0].value, program.outputs[0]
        )

    @pytest.mark.parametrize("lazy", [True, False])
    def test_on_meta_and_as_recorded(self, lazy: bool) -> None:
        x = self.CONJUGATED if lazy else self.CONJUGATED.conj()
        meta = torch.empty(4, 4, dtype=x.dtype, device="meta")
        meta = meta.conj() if lazy else meta
        assert self.resolved(traced(lambda x: x.resolve_conj(), meta)) is lazy
        fake = FakeTensorMode().from_tensor(x)
        assert self.resolved(traced(lambda x: x.resolve_conj(), fake)) is lazy

    def test_a_branch_returns_one(self) -> None:
        both = self._branching(lambda x: x.conj(), lambda x: x[:].conj())
        assert self.resolved(passes.load(both, self.CONJUGATED.conj(), torch.tensor(True)))

    def test_a_branch_that_alone_returns_one_is_refused(self) -> None:
        one = self._branching(lambda x: x.conj(), lambda x: x.t())
        with pytest.raises(CaptureError, match=r"is_conj\(\) the run decides"):
            passes.load(one, self.CONJUGATED.conj(), torch.tensor(True))

    @staticmethod
    def _branching(*branches: Callable[[Tensor], Tensor]) -> fx.GraphModule:
        graph = fx.Graph()
        x, p = graph.placeholder("x"), graph.placeholder("p")
        bodies = [graph.get_attr("true"), graph.get_attr("false")]
        found = graph.call_function(torch.ops.higher_order.cond, (p, *bodies, (x,)))
        graph.output(graph.call_method("resolve_conj", (found,)))
        parts = {n: fx.symbolic_trace(b) for n, b in zip(("true", "false"), branches, strict=True)}
        return fx.GraphModule(parts, graph)


def boxed(x: Tensor) -> Tensor:
    return Wrapper(x)


def unboxed(x: Wrapper) -> Tensor:
    return x.held


fx.wrap("boxed")
fx.wrap("unboxed")


class TestOnTheWay:
    """Tensors that the program itself makes and that cannot be followed may be anything."""

    def test_a_write_through_a_wrapper_reaches_what_it_wraps(self) -> None:
        program = traced(lambda x: (boxed(x).add_(1), x)[1], X)
        assert len(program.assumed) == 2
        assert program.entry.values[0].value in written(program)

    def test_what_comes_out_of_a_wrapper_may_be_what_went_in(self) -> None:
        program = traced(lambda x: unboxed(boxed(x)), X)  # type: ignore[arg-type]  # is a Wrapper
        entry = program.entry.values[0].value
        assert passes.aliases(program).may_alias(entry, program.outputs[0])

    def test_a_nested_tensor_in_a_compiled_graph(self) -> None:
        def forward(x: Tensor, offsets: Tensor) -> Tensor:
            nested = torch.nested.nested_tensor_from_jagged(x, offsets)
            values: Tensor = nested.values().add_(1)
            return values

        programs: list[passes.Program] = []
        torch._dynamo.reset()
        backend = passes.compile_backend(programs.append)
        torch.compile(forward, backend=backend)(X.clone(), torch.tensor([0, 1, 4]))
        torch._dynamo.reset()
        (program,) = programs
        x = next(entry.value for entry in program.entry.values if entry.name == "x")
        assert program.assumed
        assert x in written(program)


def written(program: passes.Program) -> list[passes.Value]:
    """The entry values that some op may write."""
    aliases = passes.aliases(program)
    found = {one for op in program.ops for one in aliases.written_by(op)}
    values = [entry.value for entry in program.entry.values]
    return [v for v in values if any(aliases.class_of(p) in found for p in aliases.pointees(v))]
