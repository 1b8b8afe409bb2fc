"""`passes.fits`: budgets, what may be asked, what is counted, what is refused."""

from __future__ import annotations

import functools
import resource
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn, optim
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor

import passes
from passes import BudgetError, Category, Fit, ProgramError
from passes.budget import parse_budget

X, Y = torch.rand(16, 8), torch.randint(0, 4, (16,))
KIB = 1024


def _mlp(width: int = 32) -> nn.Module:
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 4))


def _fits(model: object = None, inputs: object = (X,), **options: Any) -> Fit:
    return passes.fits(model or _mlp(), inputs, **{"budget": "1 GiB", **options})


# ---------------------------------------------------------------------------------- budgets


@pytest.mark.parametrize(
    ("budget", "nbytes"),
    [
        ("24 GiB", 24 * KIB**3), ("24GiB", 24 * KIB**3), ("24 gib", 24 * KIB**3),
        ("24GB", 24 * 10**9), ("512 MiB", 512 * KIB**2), ("1.5 KiB", 1536), ("0.1 kB", 100),
        ("7 B", 7), (" 2 TiB ", 2 * KIB**4), ("2TB", 2 * 10**12), (1, 1), (10**12, 10**12),
    ],
)  # fmt: skip
def test_a_budget_is_an_amount_of_bytes(budget: str | int, nbytes: int) -> None:
    assert parse_budget(budget) == nbytes


@pytest.mark.parametrize(
    "budget",
    ["24 apples", "24", "", "GiB", "-4 GiB", "1e3 MiB", "ib", "5 ib", "24 G", "1,5 GiB", "nan B",
     "0 B", "0.1 B", 0, -1, 24.0, True, None, b"24 GiB"],
)  # fmt: skip
def test_what_is_no_budget_is_refused(budget: Any) -> None:
    with pytest.raises(BudgetError, match="budget"):
        parse_budget(budget)
    with pytest.raises(ValueError, match="budget"):
        _fits(budget=budget)


def test_exactly_what_is_needed_fits_and_one_byte_less_does_not() -> None:
    needed = _fits().needed
    enough, less = _fits(budget=needed), _fits(budget=needed - 1)
    assert enough.fits
    assert enough
    assert enough.margin == 0
    assert not less.fits
    assert not less
    assert less.margin == -1


# ------------------------------------------------------------------------------ what counts


def test_what_is_needed_is_state_inputs_and_the_peak() -> None:
    fit = _fits()
    parameters = (8 * 32 + 32 + 32 * 4 + 4) * 4
    hidden = 16 * 32 * 4
    assert fit.needed == parameters + 16 * 8 * 4 + 2 * hidden
    assert fit.by_category[Category.PARAMETER] == parameters
    assert fit.by_category[Category.INPUT] == 16 * 8 * 4
    assert sum(fit.by_category.values()) == fit.needed
    assert fit.peak_at is not None
    assert fit.peak_at.target == "aten.relu.default"
    assert [one.nbytes for one in fit.largest[:3]] == [hidden, hidden, 8 * 32 * 4]


def test_training_has_gradients_state_and_activations() -> None:
    fit = _fits(inputs=(X, Y), loss=F.cross_entropy, optimizer="adamw")
    parameters = fit.by_category[Category.PARAMETER]
    assert fit.by_category[Category.STATE] == 2 * parameters + 4 * 4  # a step count for each
    assert fit.by_category[Category.ACTIVATION] >= 16 * 32 * 4
    program = passes.load_training_step(_mlp(), F.cross_entropy, optim.AdamW, X, Y)
    assert fit.needed == max(passes.memory(program).breakdown.total)


def test_without_gradients_nothing_is_kept_for_them() -> None:
    deep = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(8)))
    kept = 7 * 16 * 8 * 4
    needed = _fits(deep).needed
    trained = _fits(deep, loss=lambda out: out.sum())  # forward and backward alone
    assert trained.needed >= needed + kept


def test_a_tensor_of_several_names_counts_once() -> None:
    class Tied(nn.Module):
        def __init__(self, tie: bool) -> None:
            super().__init__()
            self.encode, self.decode = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
            if tie:
                self.decode.weight = self.encode.weight
            self.part = self.encode.weight.detach()[:4]  # a view

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.decode(self.encode(x)) + self.part.sum()
            return out

    assert _fits(Tied(False)).needed - _fits(Tied(True)).needed == 8 * 8 * 4


def test_what_the_forward_does_not_use_counts_too() -> None:
    model = _mlp()
    before = _fits(model).needed
    model.unused = nn.Parameter(torch.zeros(100))
    vars(model)["cache"] = torch.zeros(50)
    model.register_buffer("table", torch.zeros(25), persistent=False)
    assert _fits(model).needed == before + 175 * 4


def test_a_cache_that_is_returned_lives_to_the_end() -> None:
    class Cache:
        def __init__(self, *kept: Tensor) -> None:
            self.kept = kept

    class Model(nn.Module):
        def __init__(self, keeps: bool) -> None:
            super().__init__()
            self.keeps = keeps

        def forward(self, x: Tensor) -> tuple[Tensor, object]:
            key = x + 1
            for _ in range(4):
                x = x * 2
            return (key + x).relu(), Cache(key) if self.keeps else None

    lost, kept = _fits(Model(False)), _fits(Model(True))
    assert kept.memory.timeline[-1] - lost.memory.timeline[-1] == X.nbytes
    assert len(kept.program.outputs) == 2


def test_what_the_model_keeps_lives_to_the_end() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.seen = x + 1
            return (self.seen * 2).sum()

    model = Model()
    fit = _fits(model)
    assert fit.memory.timeline[-1] == X.nbytes + 4
    assert not hasattr(model, "seen")  # the user's model is not run


def test_a_cache_that_is_given_counts_and_is_not_changed() -> None:
    class Cache:
        def __init__(self, kept: Tensor) -> None:
            self.layers = [{"kept": kept}]

    class Model(nn.Module):
        def forward(self, x: Tensor, cache: Cache) -> Tensor:
            kept = cache.layers[0]["kept"] = torch.cat([cache.layers[0]["kept"], x])
            return kept.sum(0)

    before = torch.rand(100, 8)
    cache = Cache(before)
    fit = _fits(Model(), {"x": X, "cache": cache}, budget="1 MiB")
    assert fit.by_category[Category.INPUT] == X.nbytes + before.nbytes
    assert fit.memory.timeline[-1] == X.nbytes + before.nbytes + 8 * 4  # the cache holds it
    assert cache.layers[0]["kept"] is before
    cast = _fits(Model(), {"x": X, "cache": cache}, dtype="bfloat16")
    assert 2 * cast.needed == fit.needed


def test_autocast_around_the_question_is_autocast_in_the_model() -> None:
    class Cast(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return super().forward(x)

    inside = _fits(Cast(8, 8), optimizer="sgd", loss=torch.Tensor.sum, targets=())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        around = _fits(nn.Linear(8, 8), optimizer="sgd", loss=torch.Tensor.sum, targets=())
    plain = _fits(nn.Linear(8, 8), optimizer="sgd", loss=torch.Tensor.sum, targets=())
    assert around.memory.timeline == inside.memory.timeline
    assert around.needed != plain.needed


def test_python_may_hold_more_than_is_needed() -> None:
    class Waits(nn.Module):
        def __init__(self, lets_go: bool) -> None:
            super().__init__()
            self.lets_go = lets_go

        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            z = y.sum(1)
            if self.lets_go:
                del y
            return (z[:, None] * x).relu()

    waits, lets_go = _fits(Waits(False)), _fits(Waits(True))
    assert waits.needed == lets_go.needed
    assert waits.held_by_python is not None
    assert lets_go.held_by_python == waits.held_by_python - X.nbytes
    assert "in all, where Python holds what variables name: fits" in str(waits)
    between = _fits(Waits(False), budget=waits.needed)
    assert between.fits
    assert "variables name: does not fit" in str(between)
    assert _fits(torch.export.export(Waits(False), (X,))).held_by_python is None


# ----------------------------------------------------------------------- what may be asked


def test_inputs_by_position_by_name_or_alone() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, *, scale: Tensor | None = None) -> Tensor:
            return x if scale is None else x * scale

    scale = torch.rand(8)
    alone, listed = _fits(Two(), X), _fits(Two(), [X])
    named = _fits(Two(), {"x": X, "scale": scale})
    assert alone.needed == listed.needed == X.nbytes
    assert named.needed == 2 * X.nbytes + scale.nbytes


def test_a_model_that_was_never_allocated() -> None:
    def make() -> nn.Module:
        return _mlp(1 << 30)  # 48 GiB

    with torch.device("meta"):
        on_meta = make()
    with FakeTensorMode():
        fake = make()
    called = _fits(make)
    ids = torch.empty(16, 8, device="meta")
    assert called.needed == _fits(on_meta).needed == _fits(fake).needed == _fits(make, ids).needed
    assert called.needed > 48 * KIB**3
    assert not called
    assert "cpu" in str(called.program.values[0].type and called.program.values[0].type.device)


def test_meta_is_as_the_cpu_for_training_too() -> None:
    options: dict[str, Any] = {"loss": F.cross_entropy, "optimizer": "sgd", "inputs": (X, Y)}
    assert _fits(_mlp, **options).needed == _fits(_mlp(), **options).needed


def test_a_function_may_make_the_inputs_too() -> None:
    assert _fits(lambda: (_mlp(), torch.rand(16, 8)), None).needed == _fits().needed
    assert _fits(lambda: (_mlp(), (), {"input": X}), None).needed == _fits().needed


def test_a_graph_or_a_program_will_do() -> None:
    model = _mlp()
    exported = torch.export.export(model, (X,))
    program = passes.load(exported)
    assert _fits(exported).needed == _fits(program, None).needed
    assert Fit.of(passes.memory(program), "1 GiB").needed == _fits(program, None).needed


@pytest.mark.parametrize(
    "optimizer",
    [
        optim.AdamW,
        "AdamW",
        lambda parameters: optim.AdamW(parameters, lr=0.1),
        functools.partial(optim.AdamW, weight_decay=0.0),
    ],
)
def test_an_optimizer_by_name_class_or_function(optimizer: Any) -> None:
    named = _fits(inputs=(X, Y), loss=F.cross_entropy, optimizer="adamw")
    assert _fits(inputs=(X, Y), loss=F.cross_entropy, optimizer=optimizer).needed == named.needed


def test_an_optimizer_that_is_there_already() -> None:
    model = _mlp()
    made = optim.AdamW(model.parameters())
    fit = _fits(model, (X, Y), loss=F.cross_entropy, optimizer=made)
    assert fit.by_category[Category.STATE] == 2 * fit.by_category[Category.PARAMETER] + 16
    assert not made.state


def test_all_at_once_needs_more_than_one_after_the_other() -> None:
    one, every = (
        _fits(
            nn.Sequential(*(nn.Linear(64, 64) for _ in range(8))),
            (torch.rand(1, 64),),
            loss=lambda out: out.sum(),
            optimizer=functools.partial(optim.AdamW, foreach=foreach),
        )
        for foreach in (False, True)
    )
    assert every.needed > one.needed + 6 * 64 * 64 * 4
    assert any("foreach=True" in note for note in one.program.notes)
    assert not any("foreach=True" in note for note in every.program.notes)


def test_gradients_that_stay_are_there_from_the_start() -> None:
    options: dict[str, Any] = {"loss": F.cross_entropy, "optimizer": "sgd", "inputs": (X, Y)}
    stay = _fits(zero_grad="to_zero", **options)
    assert stay.memory.entry_bytes[passes.Role.GRADIENT] == stay.by_category[Category.PARAMETER]
    assert stay.needed > _fits(**options).needed


# -------------------------------------------------------------------------------- casting


class _Mixed(nn.Module):
    """Parameters, buffers of three kinds, a constant, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("frequencies", torch.rand(8), persistent=False)
        self.recurrent = nn.GRU(8, 8, batch_first=True)

    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        x = self.second(self.norm(self.first(x))) * self.frequencies + shift[:, None]
        out: Tensor = self.recurrent(x[None, :2])[0]
        return out


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16", "torch.float64"])
def test_casting_first_is_casting_before(dtype: Any) -> None:
    kind = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype.split(".")[-1])
    shift = torch.arange(16)  # an integer stays one
    wanted = _fits(_Mixed().to(kind), (X.to(kind), shift))
    found = _fits(_Mixed(), (X, shift), dtype=dtype)
    assert found.needed == wanted.needed
    assert found.memory.timeline == wanted.memory.timeline
    assert _fits(_Mixed, (X, shift), dtype=dtype).needed == wanted.needed


def test_casting_goes_with_training() -> None:
    def loss(out: Tensor, goal: Tensor) -> Tensor:
        return F.mse_loss(out, goal)

    goal = torch.rand(16, 4)
    model = _mlp()
    cast = _fits(model, (X, goal), loss=loss, optimizer="adamw", dtype="bfloat16")
    before = _fits(_mlp().bfloat16(), (X.bfloat16(), goal.bfloat16()), loss=loss, optimizer="adamw")
    assert cast.needed == before.needed
    assert all(parameter.dtype is torch.float32 for parameter in model.parameters())


# -------------------------------------------------------------------------------- refusals


class _Counting(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.bincount(x.long().flatten())


class _Finding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.nonzero()


def test_what_data_decides_counts_as_the_most_it_can_be() -> None:
    """As many rows as there are elements, of two numbers of 8 bytes; and the answer says so."""
    x = torch.rand(3, 4)
    fit = _fits(_Finding(), x)
    assert fit.needed == x.nbytes + 12 * 2 * 8
    assert "1 storages count as the most the data can make them: nonzero" in str(fit)
    assert "the most" not in str(_fits())


class _Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.eye(4).to_sparse())

    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class _Checked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not torch.isfinite(x).all():
            x = x.clamp(-1, 1)
        return x * 2


class _Labelled(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return {"loss": x.sum(), "logits": x}


def _holding(tensor: Tensor) -> nn.Module:
    model = _mlp()
    model.held = nn.Parameter(tensor, requires_grad=False)
    return model


def _quantized() -> nn.Module:
    quantize: Any = torch.ao.quantization.quantize_dynamic
    found: nn.Module = quantize(_mlp(), {nn.Linear})
    return found


_twice: Callable[..., Tensor] = TwoTensor


def _reads_data() -> nn.Module:
    return nn.Linear(int(torch.ones(8).sum().item()), 4)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: _fits(_Counting()), "size is not known before the run: bincount"),
        (lambda: _fits(_Sparse()), "table"),
        (lambda: _fits(_Checked()), "_Checked reads a number.*if not torch.isfinite.*Decide by"),
        (
            lambda: _fits(
                _fits(dynamic={"input": {0: "n"}}).program, None, dynamic={"x": {0: "n"}}
            ),
            "cannot be given dynamic sizes",
        ),
        (lambda: _fits(_holding(torch.eye(4).to_sparse_csr())), "held"),
        (lambda: _fits(_holding(_twice(X, X))), "held is a TwoTensor"),
        (lambda: _fits(torch.jit.script(_mlp())), "RecursiveScriptModule"),
        (lambda: _fits(_quantized()), "module 0._packed_params.*quantized"),
        (lambda: _fits(_reads_data), "fails on the meta device"),
        (lambda: _fits(lambda: 3), "and returned a int as the model"),
        (lambda: _fits("model.pt2"), "cannot ask whether a str fits"),
        (lambda: _fits(lambda: (_mlp(), X), X), "has its own inputs already"),
        (lambda: _fits(lambda: (1, 2, 3, 4), None), "has 4 parts"),
        (lambda: _fits(optimizer="adamx"), "no optimizer 'adamx'.*adamw.*sgd"),
        (lambda: _fits(optimizer="adamw"), "should be a tensor with one element.*Give a loss"),
        (lambda: _fits(optimizer=3, loss=lambda out: out.sum()), "cannot be made"),
        (lambda: _fits(dtype="float99"), "floating dtype or its name"),
        (lambda: _fits(dtype=torch.int8), "floating dtype or its name"),
        (lambda: _fits(inputs=(X, X)), "cannot be called with these inputs"),
        (lambda: _fits(inputs=(torch.rand(3, 5),)), "fails on fake tensors"),
        (
            lambda: _fits(torch.export.export(_mlp(), (X,)), optimizer="sgd"),
            "cannot be trained: give the nn.Module",
        ),
        (
            lambda: _fits(optimizer=optim.SGD(_mlp().parameters()), dtype="bfloat16", loss=sum),
            "cannot go with dtype=",
        ),
    ],
)
def test_what_cannot_be_answered_says_what_to_do(ask: Callable[[], Fit], message: str) -> None:
    with pytest.raises(ProgramError, match=f"(?s){message}"):
        ask()


def test_control_flow_is_exported_and_says_so() -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor
            out = torch.cond(x.sum() > 0, torch.sin, lambda x: x + torch.cat([x, x])[:16], (x,))
            return out

    fit = _fits(Branch())
    assert fit.needed >= X.nbytes * 3
    (note,) = [n for n in fit.program.notes if n.startswith("not recorded as it runs")]
    assert note.endswith("cannot be recorded without running it")


def test_the_loss_that_was_found_is_told() -> None:
    weighted = nn.Sequential(nn.Linear(8, 4), _Labelled())
    fit = _fits(weighted, X, optimizer="sgd")
    assert "minimised is the model's output 'loss', since no loss was given" in fit.program.notes


def test_a_person_can_read_it() -> None:
    fit = _fits(budget="4 KiB")
    lines = str(fit).splitlines()
    assert lines[0] == "Sequential does not fit: needs 6.1 KiB of 4.0 KiB, 2.1 KiB are missing"
    assert lines[1].startswith("  at op 7 of 11: aten.relu.default(")
    assert "     1.6 KiB  parameter" in lines
    assert "     2.0 KiB  addmm  temporary  0" in lines
    assert str(_fits()).startswith("Sequential fits: needs 6.1 KiB of 1.0 GiB")
    assert repr(fit) == "<Fit of Sequential: 6288 of 4096 bytes>"


@pytest.mark.slow
def test_a_model_of_seventy_billion_parameters() -> None:
    """Asked of eighty layers in less than a minute, in the memory of a laptop."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        num_hidden_layers=80, hidden_size=8192, num_attention_heads=64, num_key_value_heads=8,
        intermediate_size=28672, vocab_size=32000,
    )  # fmt: skip
    ids = torch.zeros(1, 128, dtype=torch.long)
    start = time.process_time()
    fit = passes.fits(
        lambda: LlamaForCausalLM(config).eval(), (ids,), budget="80 GB", dtype="bfloat16"
    )
    assert time.process_time() - start < 60
    assert not fit
    layer = 2 * 8192**2 + 2 * 8192 * 1024 + 3 * 8192 * 28672 + 2 * 8192
    assert fit.by_category[Category.PARAMETER] == 2 * (80 * layer + 2 * 32000 * 8192 + 8192)
    cache = 80 * 2 * 1024 * 128 * 2
    assert fit.by_category[Category.OUTPUT] <= cache
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 * KIB**2


@functools.lru_cache(maxsize=4)
def _positions(count: int) -> Tensor:
    return torch.arange(count)


@functools.cache
def _frequencies(count: int) -> dict[str, Tensor]:
    return {"cos": torch.ones(count).cos()}


class _Memoized(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        count = x.shape[-1]
        return (x * _frequencies(count)["cos"])[:, _positions(count)].square().sum()


@pytest.mark.parametrize("train", [False, True])
def test_what_functions_memoize_is_as_it_was(train: bool) -> None:
    """A function that keeps its results has no fake tensors for the user's next call."""
    model, x = _Memoized(), torch.rand(2, 3, requires_grad=train)
    options: dict[str, Any] = {"loss": lambda out: out} if train else {}
    _positions.cache_clear()
    _frequencies.cache_clear()
    assert _fits(model, (x,), **options).by_category[Category.CONSTANT] == 0
    assert _positions.cache_info().currsize == _frequencies.cache_info().currsize == 0
    assert float(model(x).detach()) > 0
    # What is kept from before is there already, and stays.
    assert _fits(model, (x,), **options).by_category[Category.CONSTANT] == 3 * 8 + 3 * 4
    assert _positions.cache_info().currsize == _frequencies.cache_info().currsize == 1


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr", "to_sparse_csc"])
def test_sparse_inputs_are_refused_by_name(layout: str, train: bool) -> None:
    class Product(nn.Module):
        def forward(self, graph: Tensor, x: Tensor) -> Tensor:
            return graph @ x

    graph, x = getattr(torch.eye(4), layout)(), torch.rand(4, 4, requires_grad=train)
    loss = (lambda y: y.sum()) if train else None
    with pytest.raises(BudgetError, match=r"not known before the run: .*graph.*sparse"):
        passes.fits(Product(), (graph, x), budget="1 MiB", loss=loss)
