"""Operators that return an argument or a copy of it, as layouts decide: `contiguous`, `reshape`.

Run on fake tensors with known sizes, such an operator shows what it does.  Where the run
decides a size, the fake kernel's answer is a guess, and both answers stand.  One kind of
guess is right at every size: that a contiguous tensor is returned itself, or a view of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from enum import Enum
from functools import cache
from typing import Any

import torch
from torch import fx, nn
from torch._ops import HigherOrderOperator, OpOverloadPacket
from torch.overrides import TorchFunctionMode

from passes.frontends.effects.views import ALWAYS_VIEWS, UNANNOTATED
from passes.frontends.fakes.undecided import always_contiguous, any_undecided, is_dynamic
from passes.frontends.fakes.world import storage_of, tensors_in
from passes.frontends.walk.nodes import is_torchs, is_torchs_module, operator_of, recorded_of


@cache
def is_choice(name: str) -> bool:
    """Whether an operator of this name returns an argument or a copy, as layouts decide."""
    if name in UNANNOTATED:
        return True
    packet = getattr(torch.ops.aten, name, None)
    if not isinstance(packet, OpOverloadPacket):  # `==` is a method of every object
        return False
    names = packet.overloads()  # type: ignore[no-untyped-call]  # torch's own
    overloads = [getattr(packet, overload) for overload in names]
    return name not in ALWAYS_VIEWS and any(overload.is_view for overload in overloads)


def choice_of(node: fx.Node) -> str:
    """The operator's name if a node calls one that is a choice, else ''."""
    name = operator_of(node)
    return name if is_choice(name) else ""


def hides(node: fx.Node) -> bool:
    """Whether operators called by a node are not the node's own target."""
    operator = isinstance(node.target, HigherOrderOperator)
    return operator or node.op == "call_module" or not is_torchs(node.target)


def is_alike(source: torch.Tensor | None, leaf: torch.Tensor) -> bool:
    """Whether a result may be an operand or a view of it: choices change no dtype in a view."""
    return source is None or (source.dtype == leaf.dtype and source.device == leaf.device)


class Answer(Enum):
    """What an observation on undecided sizes is worth.

    AS_SEEN: it holds at every size.  EITHER: each result may be an operand or new.  ANYTHING:
    the choice was made inside a module or function, and what followed from it is not known.
    """

    AS_SEEN = "as seen"
    EITHER = "either"
    ANYTHING = "anything"


class Choices(TorchFunctionMode):
    """Notices choices inside modules and Python functions, where no operator is seen that
    stands for them: any (`asked`), and such on undecided layouts (`met`)."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = self.met = False

    def __enter__(self) -> Choices:
        self.asked = self.met = False
        super().__enter__()  # type: ignore[no-untyped-call]  # torch's own
        return self

    # Any: the signature is torch's.
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if is_choice(getattr(func, "__name__", "")):
            self.asked = True
            self.met = self.met or any_undecided((args, kwargs))
        return func(*args, **kwargs)

    def may_be_hidden(self, node: fx.Node, run: object) -> bool:
        """Whether a node just ran code that may return an operand or a copy as sizes decide: a
        choice was met in it, or what it does at other sizes only its author knows."""
        if not hides(node):
            return False
        return self.asked or not isinstance(run, nn.Module) or not is_torchs_module(run)

    def answer(self, node: fx.Node, arguments: object, result: object, written: Set[int]) -> Answer:
        """What to make of what a node just did, when it wrote these storages."""
        if hides(node) and self.met:
            return Answer.ANYTHING
        if not choice_of(node) or not any_undecided((arguments, result)):
            return Answer.AS_SEEN
        sources = tensors_in(arguments)
        if written & set(map(storage_of, sources)):
            return Answer.AS_SEEN  # `dropout` in place, which returns what it writes
        results = tensors_in(result)
        seen = _is_always_so(sources, sources, results, _aliasing(sources, results))
        return Answer.AS_SEEN if seen else Answer.EITHER


def _aliasing(sources: Sequence[torch.Tensor], results: Sequence[torch.Tensor]) -> list[bool]:
    """Which results have the storage of a source."""
    given = {storage_of(source) for source in sources}
    return [storage_of(leaf) in given for leaf in results]


def _is_always_so(
    sources: Sequence[torch.Tensor],
    layouts: Sequence[torch.Tensor],
    results: Sequence[torch.Tensor],
    aliasing: Sequence[bool],
) -> bool:
    """Whether a choice on sources that have these layouts comes out the same at every size."""
    contiguous = all(map(always_contiguous, layouts))
    return all(
        contiguous if is_operand else not any(is_alike(source, leaf) for source in sources)
        for leaf, is_operand in zip(results, aliasing, strict=True)
    )


def depends_on_sizes(node: fx.Node, arguments: object, result: object) -> bool:
    """Whether a choice may come out otherwise at other sizes of the dimensions that the
    capture recorded as dynamic."""
    sources, results = tensors_in(arguments), tensors_in(result)
    return bool(choice_of(node)) and choice_depends(
        node, sources, results, _aliasing(sources, results)
    )


def choice_depends(
    node: fx.Node,
    sources: Sequence[torch.Tensor],
    results: Sequence[torch.Tensor],
    aliasing: Sequence[bool],
) -> bool:
    """The same, of results of which it is said whether they have the storage of a source."""
    if not choice_of(node):
        return False
    recorded = [recorded_of(other) for other in (*node.all_input_nodes, node)]
    if not any(map(is_dynamic, recorded)):
        return False
    layouts = [leaf for found in recorded[:-1] for leaf in tensors_in(found)]
    return not _is_always_so(sources, layouts, results, aliasing)
