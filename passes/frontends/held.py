"""What a training step finds: parameters, gradients, the optimizer's state, inputs.

Each is a fake tensor with its role and name, and the real tensor that it stands for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from attrs import define, field, frozen
from torch import nn
from torch.optim import Optimizer
from torch.utils._pytree import MappingKey, SequenceKey, tree_flatten_with_path

from passes.errors import CaptureError
from passes.frontends.fakes.reach import module_tensors, tensors_inside
from passes.frontends.fakes.world import World
from passes.program import Role


@frozen(eq=False)
class Held:
    """A tensor that the model, the optimizer or the caller holds between steps.

    `source` is the real tensor; the fake itself where only capturing has made it.
    """

    role: Role
    name: str
    fake: torch.Tensor
    source: torch.Tensor


@define(eq=False)
class Sources:
    """From real tensors to their fakes in one world, and back."""

    world: World
    _reals: dict[int, torch.Tensor] = field(factory=dict)  # by id of the fake

    def fake(self, real: torch.Tensor) -> torch.Tensor:
        """The fake of a tensor that was there before the capture."""
        fake = self.world.tensor(real)
        self._reals[id(fake)] = real
        return fake

    def number(self, real: torch.Tensor) -> torch.Tensor:
        """The same for a tensor of an optimizer's state, where numbers have their value."""
        is_number = real.numel() == 1 and real.device.type == "cpu"
        if not is_number or self.world.is_fake(real):
            return self.fake(real)
        fake = self.world.number(real)
        self._reals[id(fake)] = real
        return fake

    def held(self, role: Role, name: str, fake: torch.Tensor) -> Held:
        """A fake with what it stands for."""
        return Held(role, name, fake, self._reals.get(id(fake), fake))


def itself(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, where no fake is wanted."""
    return tensor


def of_modules(
    roots: Mapping[str, nn.Module], fake_of: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[tuple[Role, str, torch.Tensor]]:
    """Role, name and fake of the tensors that modules hold, with the prefixes given.
    A tensor with several names has the first."""
    seen = set[int]()
    for prefix, root in roots.items():
        for name, tensor in module_tensors(root).items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield _role(root, name, tensor), prefix + name, fake_of(tensor)


def _role(root: nn.Module, name: str, tensor: torch.Tensor) -> Role:
    if isinstance(tensor, nn.Parameter):
        return Role.PARAMETER
    owner = root.get_submodule(name.partition("[")[0].rpartition(".")[0])
    return Role.BUFFER if name.rpartition(".")[2] in owner._buffers else Role.CONSTANT


def of_caller(
    model: nn.Module,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    targets: Sequence[object],
    fake_of: Callable[[torch.Tensor], torch.Tensor],
) -> Iterator[tuple[Role, str, torch.Tensor]]:
    """The same of inputs, by the names of the model's arguments, and of targets, as "target" or
    "targets"; where the model has an argument of that name, as "loss.target"."""
    try:
        bound = inspect.signature(model.forward).bind(*args, **kwargs).arguments
    except TypeError as error:
        raise CaptureError(
            f"{type(model).__name__} cannot be called with these inputs: {error}"
        ) from error
    named = dict(bound)
    if targets:
        goal = "target" if len(targets) == 1 else "targets"
        goal = f"loss.{goal}" if goal in bound else goal
        named[goal] = targets[0] if len(targets) == 1 else list(targets)
    for path, leaf in tree_flatten_with_path(named)[0]:
        for name, tensor in tensors_inside(_joined(path), leaf):
            yield Role.INPUT, name, fake_of(tensor)


# Any: keys of pytrees have several types and no common one.
def _joined(keys: Iterable[Any]) -> str:
    name = ""
    for key in keys:
        if isinstance(key, MappingKey):
            name += f".{key.key}" if name else str(key.key)
        else:
            name += f"[{key.idx}]" if isinstance(key, SequenceKey) else str(key)
    return name


def gradients(leaves: Iterable[Held]) -> Iterator[tuple[Role, str, torch.Tensor]]:
    """The gradients that tensors have now."""
    for leaf in leaves:
        if leaf.fake.is_leaf and leaf.fake.grad is not None:
            yield Role.GRADIENT, f"grad.{leaf.name}", leaf.fake.grad


def state(optimizer: object, leaves: Iterable[Held]) -> Iterator[tuple[Role, str, torch.Tensor]]:
    """The tensors that an optimizer holds: its state by parameter, its options by group."""
    if not isinstance(optimizer, Optimizer):
        return
    names = {id(leaf.fake): leaf.name for leaf in leaves}
    for number, group in enumerate(optimizer.param_groups):
        options = {name: option for name, option in group.items() if name != "params"}
        start = "optimizer" if len(optimizer.param_groups) == 1 else f"optimizer[{number}]"
        yield from _tensors(start, options)
    for parameter, kept in optimizer.state.items():
        for role, name, tensor in _tensors("optimizer", kept):
            yield role, f"{name}.{names[id(parameter)]}", tensor


def _tensors(start: str, tree: object) -> Iterator[tuple[Role, str, torch.Tensor]]:
    for path, leaf in tree_flatten_with_path(tree)[0]:
        if isinstance(leaf, torch.Tensor):
            yield Role.STATE, f"{start}.{_joined(path)}", leaf


def copied(optimizer: Optimizer, sources: Sources, parameters: Iterable[torch.Tensor]) -> Optimizer:
    """A copy of an optimizer over the fakes of the same parameters."""
    known = {id(parameter) for parameter in parameters}
    owned = [p for group in optimizer.param_groups for p in group["params"]]
    if not known.issuperset(map(id, owned)):
        raise CaptureError(
            f"the {type(optimizer).__name__} updates tensors that are not parameters of the "
            "model or the loss. Make it over model.parameters(), after any change to the model "
            "that replaces them"
        )
    for _, _, tensor in state(optimizer, [Held(Role.PARAMETER, "", p, p) for p in owned]):
        sources.number(tensor)
    made = sources.world.copy(optimizer)
    for name, kept in vars(optimizer).items():
        if name.startswith("_optimizer_") and name.endswith("_hooks"):
            getattr(made, name).update(kept)
    return made
