"""What is claimed of training steps against the same steps run on real tensors.

The captured graph does to real tensors, bit by bit, what the training loop does, by the same
operators; and of that graph aliases, writes and bytes are what its run shows.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from torch._ops import OpOverload
from torch.fx import GraphModule
from torch.utils._python_dispatch import TorchDispatchMode

import passes
from passes import Program, Role
from tests.oracle.eager import Held
from tests.oracle.run import observe
from tests.oracle.steps import STEPS, StepCase
from tests.oracle.test_models import _check_possible, _check_writes, _pair_up

QUICK = {
    "gpt2", "bert", "cnn_accumulating", "variational", "messages", "mixer", "checkpointed",
    "first_adam", "first_momentum", "first_adagrad", "number_read", "number_of_both", "adafactor",
    "routed", "speech", "mixed", "bags", "clipped",
}  # fmt: skip
"""Those that every test run has; the rest take minutes."""

ONE_SIDED = {"detach", "lift_fresh", "lift_fresh_copy", "_local_scalar_dense"}
"""Operators that autograd calls more often on real tensors, and those that read numbers."""


class Log(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """The names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace not in ("prim", "profiler"):
            self.names.append(_name(func))
        return func(*args, **(kwargs or {}))


def _name(operator: OpOverload) -> str:
    return operator._schema.name.rpartition("::")[2]


def _seeded(run: Callable[[], Any]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return run()


def _step(case: StepCase, model: nn.Module, optimizer: optim.Optimizer) -> Tensor:
    """One step as a training loop has it; its loss."""
    if case.zero_grad != "never":
        optimizer.zero_grad(set_to_none=case.zero_grad == "set_to_none")
    place = len(case.inputs) - case.targets
    outputs = model(*case.inputs[:place], **case.keywords)
    value: Tensor
    value = outputs.loss if case.loss is None else case.loss(outputs, *case.inputs[place:])
    value.backward()  # type: ignore[no-untyped-call]  # torch's own
    optimizer.step()
    return value.detach()


def _real_tensors(
    case: StepCase, program: Program, model: nn.Module, optimizer: optim.Optimizer
) -> Iterator[Tensor]:
    """The real tensor of each placeholder, by the name of its entry value."""
    assert isinstance(program.graph, GraphModule)
    parameters = dict(model.named_parameters())
    named = {**parameters, **dict(model.named_buffers()), **case.keywords}
    rest = iter([tensor for tensor in case.inputs if isinstance(tensor, Tensor)])
    count = len(program.graph.graph.find_nodes(op="placeholder"))
    for entry in program.entry.values[:count]:
        _, _, name = entry.name.partition(".")
        if entry.name in named:
            yield named[entry.name]
        elif entry.role is Role.INPUT:
            yield next(rest)
        elif entry.role is Role.GRADIENT:
            gradient = parameters[name].grad
            assert gradient is not None
            yield gradient
        else:
            key, _, name = name.partition(".")
            yield optimizer.state[parameters[name]][key]


def _twin(model: nn.Module, optimizer: optim.Optimizer) -> tuple[nn.Module, optim.Optimizer]:
    made = copy.deepcopy((model, optimizer))
    for parameter, other in zip(model.parameters(), made[0].parameters(), strict=True):
        # A copy of a parameter has no gradient.
        other.grad = None if parameter.grad is None else parameter.grad.clone()
    return made


def _check(case: StepCase) -> None:
    model, optimizer = case.model, case.optimizer(case.model.parameters())
    if not case.first:
        _seeded(lambda: _step(case, model, optimizer))  # makes the optimizer's state
    program = passes.load_training_step(
        model,
        case.loss,
        optimizer,
        *case.inputs,
        zero_grad=case.zero_grad,
        step="first" if case.first else "later",
        **case.keywords,
    )
    twin, twin_optimizer = _twin(model, optimizer)
    if case.zero_grad == "set_to_none":
        twin_optimizer.zero_grad()
    log, held = Log(), Held(_there(case, twin, twin_optimizer))
    with log, held:
        wanted = _seeded(lambda: _step(case, twin, twin_optimizer))
    graph = program.graph
    assert isinstance(graph, GraphModule)
    values = list(_real_tensors(case, program, model, optimizer))
    run = observe(graph, values)
    with torch.no_grad():
        found, *kept = _seeded(lambda: graph(*values))

    def is_same(one: Tensor, other: Tensor) -> bool:
        if case.asks:
            return torch.allclose(one, other, rtol=1e-3, atol=3e-3)
        return torch.equal(one, other)

    assert is_same(found, wanted)
    theirs_by_name = dict(twin.named_parameters())
    for one, tensor in zip(program.kept, kept, strict=True):
        _, _, name = one.name.partition(".")
        if one.role is Role.STATE:
            key, _, name = name.partition(".")
            assert is_same(tensor, twin_optimizer.state[theirs_by_name[name]][key]), one.name
        else:
            gradient = theirs_by_name[name].grad
            assert gradient is not None
            assert is_same(tensor, gradient), one.name
    mine = itertools.chain(model.named_parameters(), model.named_buffers())
    theirs = itertools.chain(twin.named_parameters(), twin.named_buffers())
    for (name, one_tensor), (_, other_tensor) in zip(mine, theirs, strict=True):
        assert is_same(one_tensor, other_tensor), name
    for parameter, other in zip(model.parameters(), twin.parameters(), strict=True):
        for key, state in optimizer.state.get(parameter, {}).items():
            if isinstance(state, Tensor):
                assert is_same(state, twin_optimizer.state[other][key]), key
    if not case.asks:
        targets = [getattr(op.node, "target", None) for op in program.ops]
        ours = [_name(target) for target in targets if isinstance(target, OpOverload)]
        assert _both_sided(ours) == _both_sided(log.names)
        assert program.held_by_python == held.most

    assert not program.assumed
    aliases, memory = passes.aliases(program), passes.memory(program)
    claimed = _pair_up(program, aliases, run)
    assert not _check_possible(program, aliases, run)
    _check_writes(program, aliases, run, claimed)
    assert {op.name: memory.at(op) for op in program.ops} == dict(run.alive)
    assert not memory.unsized


def _there(case: StepCase, model: nn.Module, optimizer: optim.Optimizer) -> list[object]:
    """What exists before a step."""
    parameters = list(model.parameters())
    gradients = [parameter.grad for parameter in parameters]
    state = [dict(kept) for kept in optimizer.state.values()]
    return [case.inputs, dict(case.keywords), parameters, list(model.buffers()), gradients, state]


def _both_sided(names: list[str]) -> list[str]:
    return [name for name in names if name not in ONE_SIDED]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in STEPS]
)
def test_a_captured_step_is_the_step(name: str) -> None:
    case = STEPS[name]()
    # An LSTM is captured as native operators.
    native = any(isinstance(module, nn.LSTM) for module in case.model.modules())
    with torch.backends.mkldnn.flags(enabled=not native):
        _check(case)


def test_there_are_steps_of_twenty_architectures() -> None:
    assert len(STEPS) >= 20
