"""A whole training step as one Program: forward, loss, backward and the optimizer's update.

The step runs on copies of the model and the optimizer with fake tensors, and every operator
that it calls is recorded.  Parameters, buffers, the optimizer's state, inputs and targets
exist at entry; so do gradients, where they are kept from step to step.  The graph returns
the loss and what is new when the step is over: gradients, state.

An optimizer makes its state in its first update.  What is captured is a later step, unless the
first is asked for: where the optimizer has no state yet, an update goes before, not recorded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
from attrs import define, field
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.optim import Optimizer

from passes.census import Census
from passes.errors import CaptureError, ProgramError
from passes.frontends import held
from passes.frontends.capture.module import data_decides, first_line, sealed, user_place
from passes.frontends.capture.recorder import Recorder
from passes.frontends.dynamic.inputs import Asked, recorded
from passes.frontends.fakes.devices import advice_for, check_gradients, device_for
from passes.frontends.fakes.reach import module_tensors
from passes.frontends.fakes.unsupported import check_hooks, check_tensors
from passes.frontends.fakes.world import World
from passes.frontends.held import Held, Sources
from passes.frontends.load import FROM_EXAMPLES
from passes.frontends.losses import Loss, check_targets, minimised, split_off_targets
from passes.frontends.optimizers import as_for_real_tensors, check_update
from passes.frontends.walk.observing import Walk
from passes.frontends.walk.whole import program_of
from passes.program import Program, Role
from passes.symbolic.dynamic import Dynamic

ZeroGrad = Literal["set_to_none", "to_zero", "never"]
WhichStep = Literal["first", "later"]
OptimizerLike = Optimizer | Callable[..., Optimizer] | None


@define(eq=False)
class Step:
    """One training step on fake copies."""

    model: nn.Module
    loss: Loss
    optimizer: Optimizer | None
    args: Any
    kwargs: Any
    targets: Any
    zero_grad: ZeroGrad
    outputs: object = field(default=None, init=False)
    """Held to the end, as by the variable of a training loop."""
    result: torch.Tensor | None = field(default=None, init=False)
    minimised: str = field(default="", init=False)

    def run(self, recorder: Recorder) -> None:
        """Run all but the update, under a recorder that is active."""
        recorder.phase = "zero_grad"
        self.zero()
        recorder.phase = "forward"
        self.outputs = self.model(*self.args, **self.kwargs)
        self.result, self.minimised = minimised(self.loss, self.outputs, self.targets)
        recorder.phase = "backward"
        self.result.backward()  # type: ignore[no-untyped-call]  # torch's own

    def update(self, recorder: Recorder) -> None:
        """Run the optimizer's update."""
        recorder.phase = "update"
        if self.optimizer is not None:
            self.optimizer.step()

    @property
    def lacks_state(self) -> bool:
        """Whether the optimizer has yet to make its state, if it has any."""
        return self.optimizer is not None and not self.optimizer.state

    def zero(self) -> None:
        """What the training loop does with the gradients of the step before."""
        if self.zero_grad != "never":
            (self.optimizer or self.model).zero_grad(set_to_none=self.zero_grad == "set_to_none")


def load_training_step(
    model: nn.Module,
    loss: Loss,
    optimizer: OptimizerLike,
    inputs: Sequence[object],
    keywords: Mapping[str, object],
    targets: Sequence[object] | None,
    zero_grad: ZeroGrad,
    which: WhichStep = "later",
    dynamic: Asked | None = None,
    device: torch.device | None = None,
) -> Program:
    """The Program of one training step.  See `passes.load_training_step`.

    `device` stands for the meta device.  By default a model on the meta device stays there.
    """
    if not isinstance(model, nn.Module):
        raise CaptureError(f"a training step needs an nn.Module, not a {type(model).__qualname__}")
    if zero_grad not in ("set_to_none", "to_zero", "never"):
        raise CaptureError(f"zero_grad is 'set_to_none', 'to_zero' or 'never', not {zero_grad!r}")
    if which not in ("first", "later"):
        raise CaptureError(f"step is 'first' or 'later', not {which!r}")
    told = ""
    if targets is None:
        count = len(inputs)
        inputs, targets = split_off_targets(loss, inputs)
        if targets:
            told = (
                f". Of the {count} given by position the loss took the last {len(targets)} as its "
                "targets: give the model's own too, or say which are targets: targets=(y,)"
            )
    check_targets(targets)
    wanted = Wanted(model, loss, optimizer, inputs, keywords, targets, zero_grad, which)
    roots = wanted.roots.values()
    tensors = [tensor for root in roots for tensor in module_tensors(root).values()]
    for prefix, root in wanted.roots.items():
        check_hooks(prefix, root)
        check_tensors((prefix + name, tensor) for name, tensor in module_tensors(root).items())
    device = device or device_for((inputs, keywords, targets), tensors)
    try:
        found = list(held.of_caller(model, inputs, keywords, targets, held.itself))
    except CaptureError as error:
        raise CaptureError(f"{error}{told}") from error
    given = {name: real for _, name, real in found}
    check_tensors(given.items())
    check_gradients([*tensors, *given.values()])
    program = recorded(partial(_captured, wanted), device, dynamic or {}, given)
    _ = program.flow, Census.of(program)  # once, here, for every analysis to come
    return program


@define(eq=False)
class Wanted:
    """What a user gives for a training step."""

    model: nn.Module
    loss: Loss
    optimizer: OptimizerLike
    inputs: Sequence[object]
    keywords: Mapping[str, object]
    targets: Sequence[object]
    zero_grad: ZeroGrad
    which: WhichStep

    @property
    def roots(self) -> dict[str, nn.Module]:
        """The modules of the step, with the prefixes of their names."""
        loss = {"loss.": self.loss} if isinstance(self.loss, nn.Module) else {}
        return {"": self.model} | loss


def _captured(
    wanted: Wanted,
    world: World,
    analysed: World,
    walk: Callable[..., Walk],
    dynamic: Dynamic | None,
) -> Program:
    """The step recorded in one world and analysed in another."""
    model, optimizer, roots = wanted.model, wanted.optimizer, wanted.roots
    inputs, keywords, targets = wanted.inputs, wanted.keywords, wanted.targets
    tensors = [tensor for root in roots.values() for tensor in module_tensors(root).values()]
    sources = Sources(world)
    copies = {prefix: world.module(root) for prefix, root in roots.items()}
    found = [sources.held(*each) for each in held.of_modules(roots, sources.fake)]
    given = [
        sources.held(*each)
        for each in held.of_caller(model, inputs, keywords, targets, sources.fake)
    ]
    step = Step(
        model=copies[""],
        loss=copies.get("loss.", wanted.loss),
        optimizer=None,
        args=world.value(list(inputs)),
        kwargs=world.value(dict(keywords)),
        targets=world.value(list(targets)),
        zero_grad=wanted.zero_grad,
    )
    leaves = [*found, *given]
    for leaf in leaves:
        gradient = leaf.source.grad if leaf.source.is_leaf else None
        leaf.fake.grad = None if gradient is None else sources.fake(gradient)
        for hook in (leaf.source._backward_hooks or {}).values():
            leaf.fake.register_hook(hook)  # type: ignore[no-untyped-call]  # torch's own
    with _capturing(model, native=_is_recurrent(model)):
        earlier = Recorder(world)
        if isinstance(optimizer, Optimizer):
            step.optimizer = held.copied(optimizer, sources, tensors)
        earlier.run(lambda: _prepare(step, earlier, optimizer, leaves, wanted.which))
        for one in given:
            one.fake.grad = None  # inputs are new in each step
        found += [sources.held(*each) for each in held.gradients(leaves)]
        entries = list({id(one.fake): one for one in (*given, *found)}.values())
        entries.sort(key=lambda one: _ORDER.index(one.role))
        recorder = Recorder(world)
        nodes = [recorder.entry(one.name, one.fake) for one in entries]
        for prefix, root in copies.items():
            recorder.follow(root, prefix)
        recorder.run(lambda: step.run(recorder))
        if wanted.which == "later" and step.lacks_state:
            earlier.run(lambda: step.update(earlier))
        state = [sources.held(*each) for each in held.state(step.optimizer, leaves)]
        state = [one for one in state if not recorder.is_known(one.fake)]
        place = sum(one.role is not Role.INPUT for one in entries)
        before = nodes[place] if place < len(nodes) else nodes[-1].next
        for one in state:
            recorder.entry(one.name, one.fake, before)
        entries[place:place] = state
        recorder.run(lambda: step.update(recorder))
    there = {id(one.fake) for one in entries}
    left = [
        sources.held(*each)
        for each in (
            *held.gradients(leaves),
            *held.state(step.optimizer, leaves),
            *held.of_modules(copies, lambda fake: fake),
        )
        if id(each[2]) not in there and recorder.is_known(each[2])
    ]
    assert step.result is not None
    graph = recorder.finished([step.result, *(one.fake for one in left)], type(model).__name__)
    # What is recorded stands below autocast, which may be on around the caller.
    with torch._C._DisableAutocast():
        return program_of(
            graph,
            [(one.role, one.name, analysed.tensor(one.source)) for one in entries],
            analysed,
            name=type(model).__name__,
            capture="a training step on fake tensors",
            sharing=FROM_EXAMPLES,
            notes=list(_notes(model, recorder, step)),
            phases=recorder.phases,
            held_by_python=recorder.alive.most,
            kept=[(number, one.role, one.name) for number, one in enumerate(left, 1)],
            kind=walk,
            dynamic=dynamic,
        )


def _prepare(
    step: Step,
    recorder: Recorder,
    optimizer: OptimizerLike,
    leaves: Sequence[Held],
    which: WhichStep,
) -> None:
    """Bring the copies to where the step to capture begins."""
    if not (optimizer is None or isinstance(optimizer, Optimizer)):
        try:
            made = optimizer(step.model.parameters())
        except Exception as error:
            raise CaptureError(
                "the optimizer cannot be made from the model's parameters: "
                f"{type(error).__name__}: {first_line(error)}"
            ) from error
        if not isinstance(made, Optimizer):
            raise CaptureError(
                "the optimizer should be a torch.optim.Optimizer, its class or a function of "
                f"parameters that makes it; this makes a {type(made).__qualname__}"
            )
        step.optimizer = made
    if step.optimizer is not None:
        check_update(step.optimizer)
    if which == "first":
        if isinstance(optimizer, Optimizer) and _has_stepped(optimizer):
            raise CaptureError(
                "step='first', and the optimizer has state: it has made steps before. Give its "
                "class, or one that is new"
            )
        return
    step.zero()
    trained = [one.fake for one in leaves if one.fake.requires_grad and one.fake.is_leaf]
    if step.zero_grad != "set_to_none" and any(t.grad is None for t in trained):
        step.run(recorder)
        if step.lacks_state:
            step.update(recorder)


def _has_stepped(optimizer: Optimizer) -> bool:
    """Whether it has state that only a step makes; some optimizers begin with some."""
    return any(float(kept.get("step", 1)) > 0 for kept in optimizer.state.values())


_ORDER = (Role.PARAMETER, Role.BUFFER, Role.CONSTANT, Role.GRADIENT, Role.STATE, Role.INPUT)
"""Of placeholders."""


@contextmanager
def _capturing(model: nn.Module, native: bool) -> Iterator[None]:
    """Errors say what to do, torch is quiet."""
    try:
        with sealed(), as_for_real_tensors(), warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            # A fake of oneDNN's recurrent layer lacks the workspace that the layer keeps.
            with torch.backends.mkldnn.flags(enabled=False) if native else nullcontext():
                yield
    except ProgramError:
        raise
    except GuardOnDataDependentSymNode as error:
        raise data_decides("the step", error) from error
    except Exception as error:
        raise CaptureError(
            f"the training step of {type(model).__name__} fails on fake tensors: "
            f"{type(error).__name__}: {first_line(error)}\n{user_place(error)}"
            + advice_for(error, "Does it run on real ones? Data cannot decide what it does")
        ) from error


def _is_recurrent(model: nn.Module) -> bool:
    return any(isinstance(module, nn.LSTM) for module in model.modules())


def _notes(model: nn.Module, recorder: Recorder, step: Step) -> Iterator[str]:
    if step.loss is None:
        yield f"minimised is {step.minimised}, since no loss was given"
    if not model.training:
        yield "the model is in eval mode: model.train() first, if this is how it is trained"
    if _is_recurrent(model):
        yield "LSTM is captured as torch's native operators, not as one of oneDNN's"
    if recorder.read:
        yield (
            f"{recorder.read} numbers, such as an optimizer's step count, were read: they are "
            "those of this one step"
        )
    made = [name for name, tensor in recorder.constants.items() if isinstance(tensor, FakeTensor)]
    if made:
        yield f"{len(made)} tensors that an earlier step has made are taken as constants"
    again = [n for n, phase in recorder.phases.items() if phase == "backward" and _draws(n)]
    if again:
        yield (
            f"{len(again)} ops draw random numbers in the backward pass, such as {again[0]}: where "
            "checkpointing runs the forward again it draws the same ones, and this graph others"
        )


def _draws(node: fx.Node) -> bool:
    tags = getattr(node.target, "tags", ())
    return torch.Tag.nondeterministic_seeded in tags
