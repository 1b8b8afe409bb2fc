"""`load_training_step`: what it takes, what it captures, what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn, optim
from torch.utils.checkpoint import checkpoint

import passes
from passes import CaptureError, Program, Role
from passes.frontends.training import WhichStep, ZeroGrad

X, Y = torch.rand(3, 4), torch.tensor([0, 1, 0])
STEPS: tuple[WhichStep, WhichStep] = ("first", "later")


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(4, 2, bias=False)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.norm(self.encode(x))
        return h @ self.encode.weight


def _names(program: Program, role: Role) -> list[str]:
    return [entry.name for entry in program.entry.values if entry.role is role]


def _phases(program: Program) -> list[str]:
    return list(dict.fromkeys(op.phase for op in program.ops if op.phase))


def _sgd(
    zero_grad: ZeroGrad = "set_to_none", optimizer: Any = optim.SGD, model: nn.Module | None = None
) -> Program:
    return passes.load_training_step(
        model or nn.Linear(4, 2), F.cross_entropy, optimizer, X, Y, zero_grad=zero_grad
    )


def test_a_step_has_its_parts_in_order() -> None:
    program = _sgd()
    assert _phases(program) == ["forward", "backward", "update"]
    assert _names(program, Role.PARAMETER) == ["weight", "bias"]
    assert _names(program, Role.INPUT) == ["input", "target"]
    assert [(kept.role, kept.name) for kept in program.kept] == [
        (Role.GRADIENT, "grad.weight"),
        (Role.GRADIENT, "grad.bias"),
    ]
    assert not program.assumed


def test_the_update_writes_parameters_and_nothing_else_does() -> None:
    program = _sgd()
    aliases = passes.aliases(program)
    written = {op.phase: set[str]() for op in program.ops}
    for op in program.ops:
        written[op.phase] |= {found.id for found in aliases.written_by(op)}
    assert written["update"] == {"weight", "bias"}
    assert not written["forward"] | written["backward"]


def test_state_is_there_at_entry_and_updated_in_place() -> None:
    program = _sgd(optimizer=optim.Adam)
    assert _names(program, Role.STATE) == [
        "optimizer.step.weight", "optimizer.exp_avg.weight", "optimizer.exp_avg_sq.weight",
        "optimizer.step.bias", "optimizer.exp_avg.bias", "optimizer.exp_avg_sq.bias",
    ]  # fmt: skip
    assert not [kept for kept in program.kept if kept.role is Role.STATE]
    assert passes.memory(program).entry_bytes[Role.STATE] == 2 * (8 + 2) * 4 + 2 * 4


def test_gradients_that_stay_exist_at_entry() -> None:
    for zero_grad in ("to_zero", "never"):
        program = _sgd(zero_grad)
        assert _names(program, Role.GRADIENT) == ["grad.weight", "grad.bias"]
        assert not program.kept
        assert ("zero_grad" in _phases(program)) == (zero_grad == "to_zero")
        gradients = {f"grad.{name}" for name in ("weight", "bias")}
        aliases = passes.aliases(program)
        backward = [op for op in program.ops if op.phase == "backward"]
        assert {c.id for op in backward for c in aliases.written_by(op)} == gradients


def test_tied_weights_are_one_parameter_with_one_gradient() -> None:
    program = passes.load_training_step(_Tied(), F.mse_loss, optim.SGD, X, X)
    assert _names(program, Role.PARAMETER) == ["encode.weight", "norm.weight", "norm.bias"]
    assert len(program.kept) == 3


def test_parameters_over_one_storage_are_known_to_share_it() -> None:
    model = _Tied()
    model.more = nn.Parameter(model.encode.weight.detach()[0])
    program = passes.load_training_step(model, F.mse_loss, optim.SGD, X, X)
    value = {entry.name: entry.value for entry in program.entry.values}
    assert passes.aliases(program).must_alias(value["more"], value["encode.weight"])


def test_nothing_of_the_users_is_changed() -> None:
    model = _Tied()
    optimizer = optim.Adam(model.parameters())
    before = copy.deepcopy(model.state_dict())
    versions = {name: tensor._version for name, tensor in model.state_dict().items()}
    passes.load_training_step(model, F.mse_loss, optimizer, X, X)
    assert all(p.grad is None for p in model.parameters())
    assert not optimizer.state
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert versions == {name: tensor._version for name, tensor in after.items()}
    assert not any(module._forward_hooks for module in model.modules())


def test_the_step_count_of_an_optimizer_is_read() -> None:
    """The bias correction of Adam's fourth step, not of its first."""
    model = nn.Linear(4, 2)
    optimizer = optim.Adam(model.parameters(), lr=1.0)
    for _ in range(3):
        F.cross_entropy(model(X), Y).backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
    program = _sgd(optimizer=optimizer, model=model)
    [value, _] = [op.keywords["value"] for op in program.ops if "addcdiv_" in op.target]
    assert value == pytest.approx(-1 / (1 - 0.9**4))


@pytest.mark.parametrize(
    "optimizer",
    [
        optim.SGD,
        lambda parameters: optim.SGD(parameters, momentum=0.9, nesterov=True),
        lambda parameters: optim.AdamW(parameters, foreach=True),
        lambda parameters: optim.Adam(parameters, fused=True),
        lambda parameters: optim.Adam(parameters, lr=torch.tensor(0.1), capturable=False),
        lambda parameters: optim.Adagrad(parameters, initial_accumulator_value=0.1),
        optim.RMSprop,
        optim.NAdam,
        optim.Rprop,
        optim.ASGD,
        optim.Adafactor,
        lambda parameters: optim.Adafactor(parameters, lr=torch.tensor(0.1), foreach=True),
        None,
    ],
)
def test_optimizers(optimizer: Any) -> None:
    program = _sgd(optimizer=optimizer)
    written = {c.id for op in program.ops for c in passes.aliases(program).written_by(op)}
    assert ({"weight", "bias"} <= written) == (optimizer is not None)
    assert not program.assumed


def test_a_loss_may_have_parameters() -> None:
    class Distance(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.centre = nn.Parameter(torch.zeros(2))

        def forward(self, out: Tensor) -> Tensor:
            return (out - self.centre).square().sum()

    model, loss = nn.Linear(4, 2), Distance()
    optimizer = optim.SGD([*model.parameters(), *loss.parameters()])
    program = passes.load_training_step(model, loss, optimizer, X)
    assert _names(program, Role.PARAMETER) == ["weight", "bias", "loss.centre"]
    assert [kept.name for kept in program.kept][-1] == "grad.loss.centre"


def test_a_loss_may_hold_tensors() -> None:
    """Real ones, by a closure: they are attributes of the graph."""
    goal = torch.rand(3, 2)
    model = nn.Linear(4, 2)

    def loss(out: Tensor) -> Tensor:
        penalty = sum(parameter.square().sum() for parameter in model.parameters())
        return F.mse_loss(out, goal) + 0.1 * penalty

    program = passes.load_training_step(model, loss, optim.SGD, X)
    assert _names(program, Role.CONSTANT) == ["self.constant_0"]
    assert program.graph.constant_0 is goal  # type: ignore[attr-defined]  # a GraphModule
    assert all(p.grad is None for p in model.parameters())


def test_the_model_may_have_its_loss() -> None:
    class WithLoss(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return {"loss": super().forward(x).sum()}

    program = passes.load_training_step(WithLoss(4, 2), None, optim.SGD, X)
    assert [value.type.shape for value in program.outputs[:1] if value.type] == [()]


def test_targets_may_be_named() -> None:
    def loss(out: Tensor, *more: Tensor) -> Tensor:
        return F.mse_loss(out, more[0]) + F.mse_loss(out, more[1])

    goals = torch.rand(3, 2), torch.rand(3, 2)
    program = passes.load_training_step(nn.Linear(4, 2), loss, optim.SGD, X, targets=goals)
    assert _names(program, Role.INPUT) == ["input", "targets[0]", "targets[1]"]


def test_frozen_parameters_get_no_gradient() -> None:
    model = nn.Sequential(nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 2))
    program = _sgd(model=model)
    assert [kept.name for kept in program.kept] == ["grad.1.weight", "grad.1.bias"]


def test_a_model_may_be_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = nn.Linear(4_000_000, 2)
    x = torch.empty(3, 4_000_000, device="meta")
    program = passes.load_training_step(model, F.cross_entropy, optim.AdamW, x, Y.to("meta"))
    assert passes.memory(program).entry_bytes[Role.PARAMETER] == (8_000_000 + 2) * 4


def test_backward_ops_have_the_place_of_their_forward() -> None:
    program = passes.load_training_step(_Tied(), F.mse_loss, optim.SGD, X, X)
    [op] = [op for op in program.ops if "batch_norm_backward" in op.target]
    assert op.module == "norm"
    assert "self.norm(self.encode(x))" in op.source


def test_the_step_runs_on_real_tensors() -> None:
    model = nn.Linear(4, 2)
    graph: Any = _sgd(model=model).graph
    wanted = F.cross_entropy(model(X), Y)
    with torch.no_grad():
        loss, *gradients = graph(*model.parameters(), X, Y)
    wanted.backward()  # type: ignore[no-untyped-call]  # torch's
    assert torch.equal(loss, wanted)
    assert all(torch.equal(g, p.grad) for g, p in zip(gradients, model.parameters(), strict=True))  # type: ignore[arg-type]  # no None


def test_gradients_of_inputs_are_returned() -> None:
    x = torch.rand(3, 4, requires_grad=True)
    program = passes.load_training_step(nn.Linear(4, 2), F.cross_entropy, None, x, Y)
    assert [kept.name for kept in program.kept] == ["grad.weight", "grad.bias", "grad.input"]
    assert x.grad is None


def test_transforms_are_seen_through() -> None:
    class Mapped(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = torch.vmap(super().forward)(x)
            return out

    program = _sgd(model=Mapped(4, 2))
    assert _phases(program) == ["forward", "backward", "update"]
    assert not _names(program, Role.CONSTANT)


def test_a_tensor_made_of_numbers_is_new_in_each_run() -> None:
    class Shifted(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            shift = torch.tensor([1.0, 2.0])
            shift.mul_(3)
            return super().forward(x) + shift

    model = Shifted(4, 2)
    graph: Any = _sgd(model=model, optimizer=None).graph
    first, second = (graph(*model.parameters(), X, Y)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(first, F.cross_entropy(model(X), Y))


def test_a_tensor_that_the_model_replaces_is_returned() -> None:
    class Running(nn.Linear):
        mean: Tensor

        def forward(self, x: Tensor) -> Tensor:
            self.mean = 0.9 * self.mean + x.mean(0)
            return super().forward(x - self.mean)

    model = Running(4, 2)
    model.register_buffer("mean", torch.zeros(4))
    program = _sgd(model=model)
    assert [(k.role, k.name) for k in program.kept][-1] == (Role.BUFFER, "mean")


def test_hooks_of_an_optimizer_are_captured() -> None:
    def clip(optimizer: optim.Optimizer, args: object, kwargs: object) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, 1.0)

    model = nn.Linear(4, 2)
    optimizer = optim.SGD(model.parameters())
    optimizer.register_step_pre_hook(clip)
    program = _sgd(model=model, optimizer=optimizer)
    assert [op.target for op in program.ops if "norm" in op.target and op.phase == "update"] == [
        "aten._foreach_norm.Scalar",  # as on real tensors
        "aten.linalg_vector_norm.default",
    ]


class _Again(nn.Module):
    def __init__(self, share: float) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 2), nn.Dropout(share))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = checkpoint(self.inner, x, use_reentrant=False)
        return result


@pytest.mark.parametrize(("share", "count"), [(0.5, 1), (0.0, 0)])
def test_random_numbers_drawn_again_are_told(share: float, count: int) -> None:
    """Checkpointing restores the generator's state, which no operator shows."""
    notes = _sgd(model=_Again(share)).notes
    assert sum("in the backward pass" in note for note in notes) == count


class _Branching(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out if out.sum() > 0 else -out


class _BranchingOnProduct(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        scale = torch.ones(()) * x.sum().item()
        return super().forward(-x if scale > 0 else x)


@pytest.mark.parametrize(
    ("model", "loss", "optimizer", "inputs", "said"),
    [
        (_Branching(4, 2), F.cross_entropy, optim.SGD, (X, Y), "if out.sum"),
        (nn.Linear(4, 2), None, optim.SGD, (X,), "one element"),
        (nn.Linear(4, 2), lambda out: out.sum().item(), optim.SGD, (X,), "one element"),
        (nn.Linear(4, 2), lambda out: max(out.sum().item(), 1) * out.sum(), optim.SGD, (X,), "max"),
        (nn.Linear(4, 2), lambda out: out.sum() / len(out[out > 0]), optim.SGD, (X,), "len"),
        (nn.Linear(4, 2), lambda out: out.detach().sum(), optim.SGD, (X,), "does not depend"),
        (nn.Linear(4, 2), F.cross_entropy, optim.SGD, (), "targets="),
        (_BranchingOnProduct(4, 2), F.cross_entropy, optim.SGD, (X, Y), "if scale"),
        (nn.Linear(4, 2), F.cross_entropy, optim.LBFGS, (X, Y), "LBFGS.step needs closure"),
        (nn.Linear(4, 2), F.cross_entropy, nn.Linear(4, 2), (X, Y), "optimizer"),
        (nn.Linear(4, 2), F.cross_entropy, optim.SGD(nn.Linear(2, 2).parameters()), (X, Y), "over"),
        (nn.Linear(4, 2), F.cross_entropy, optim.SGD, (X, X, X, Y), "cannot be called"),
        (nn.Linear(5, 2), F.cross_entropy, optim.SGD, (X, Y), "fails on fake tensors"),
        (lambda x: x, F.cross_entropy, optim.SGD, (X, Y), "needs an nn.Module"),
    ],
)
def test_what_cannot_be_captured_says_why(
    model: Any, loss: Any, optimizer: Any, inputs: Any, said: str
) -> None:
    with pytest.raises(CaptureError, match=said):
        passes.load_training_step(model, loss, optimizer, *inputs)


def test_hooks_of_gradients_are_captured() -> None:
    model = nn.Linear(4, 2)
    model.weight.register_hook(lambda gradient: gradient * 0)  # type: ignore[no-untyped-call]
    graph: Any = _sgd(model=model).graph
    with torch.no_grad():
        _, weight, bias = graph(*model.parameters(), X, Y)
    assert not weight.any()
    assert bias.any()


def test_hooks_for_when_a_gradient_is_there_are_refused() -> None:
    model = nn.Linear(4, 2)
    weight: Any = model.weight
    weight.register_post_accumulate_grad_hook(lambda parameter: None)
    with pytest.raises(CaptureError, match="weight has hooks"):
        _sgd(model=model)


def test_hooks_of_modules_are_captured() -> None:
    model = nn.Linear(4, 2)
    plain = _sgd(model=model)
    model.register_forward_hook(lambda module, inputs, out: out.cos())
    model.register_full_backward_hook(lambda module, into, out: None)
    added = {op.target for op in _sgd(model=model).ops} - {op.target for op in plain.ops}
    assert "aten.cos.default" in added


class TestFirstStep:
    def test_state_and_gradients_are_new(self) -> None:
        program = passes.load_training_step(
            nn.Linear(4, 2), F.cross_entropy, optim.Adam, X, Y, step="first", zero_grad="never"
        )
        assert not _names(program, Role.STATE)
        assert not _names(program, Role.GRADIENT)
        assert [kept.name for kept in program.kept if kept.role is Role.STATE][:3] == [
            "optimizer.step.weight", "optimizer.exp_avg.weight", "optimizer.exp_avg_sq.weight",
        ]  # fmt: skip

    def test_its_peak_is_the_first_in_which_state_is_there_too(self) -> None:
        first, later = (
            passes.load_training_step(nn.Linear(4, 4), F.mse_loss, optim.Adam, X, X, step=which)
            for which in STEPS
        )
        assert passes.memory(first).peak_bytes > passes.memory(later).peak_bytes

    def test_an_optimizer_that_has_stepped_is_refused(self) -> None:
        model = nn.Linear(4, 2)
        optimizer = optim.Adam(model.parameters())
        F.cross_entropy(model(X), Y).backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
        with pytest.raises(CaptureError, match="made steps before"):
            passes.load_training_step(model, F.cross_entropy, optimizer, X, Y, step="first")

    def test_there_are_two(self) -> None:
        with pytest.raises(CaptureError, match="'first' or 'later'"):
            passes.load_training_step(nn.Linear(4, 2), None, None, X, step="second")  # type: ignore[arg-type]
