"""One op of a program, done again on fake tensors of the same types: what would it be in
place, and what does it cost?"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import cached_property
from math import prod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from attrs import define, evolve, field
from torch import fx, nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from passes.frontends.capture.module import unlogged
from passes.frontends.capture.rewriting import Call
from passes.frontends.fakes.undecided import always_contiguous, is_dynamic, same_layout
from passes.frontends.fakes.world import has_storage, known_int, storage_of, type_of
from passes.frontends.walk.env import leaves_of
from passes.frontends.walk.nodes import recorded_of, target_name
from passes.program import AliasOf, Effects, Op, Origin, Program, TensorType, Value

_METHODS = {
    operator.add: "add_",
    operator.sub: "sub_",
    operator.mul: "mul_",
    operator.truediv: "div_",
    operator.floordiv: "floor_divide_",
    operator.pow: "pow_",
    operator.neg: "neg_",
}
"""Python's operators -> the method that does the same in place."""

_COMMUTE = {torch.ops.aten.add.Tensor, torch.ops.aten.mul.Tensor, operator.add, operator.mul}
"""Whose first two arguments may change places, bit by bit."""


_CLONE = torch.ops.aten.clone.default

_COPIES = frozenset(
    "aten.clone.default aten._to_copy.default aten.contiguous.default aten.alias_copy.default "
    "aten.lift_fresh_copy.default Tensor.clone torch.clone Tensor.contiguous".split()
)
"""Ops whose result, of the same type, equals their first operand."""


class _Log(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """The operators that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.operators: list[OpOverload] = []

    # Any: the signature is torch's.
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators.append(func)
        return func(*args, **(kwargs or {}))


@define(eq=False, slots=False)
class Trials:
    """Runs ops of one program again, on fakes.  Answers None where an op cannot be run alone."""

    program: Program
    _mode: FakeTensorMode = field(factory=FakeTensorMode)
    _flops: dict[object, int | None] = field(factory=dict)

    def in_place(self, op: Op, value: Value) -> tuple[Op, Call] | None:
        """The op that does the same elementwise and leaves the result in operand `value`, as
        the same bytes in the same layout, with the call that makes it so.

        What else uses that storage is for the caller to know.
        """
        node = op.node
        if not isinstance(node, fx.Node) or len(op.results) != 1:
            return None
        wanted = op.results[0].type
        if wanted is None:
            return None
        given = [argument for argument in node.args[:2] if isinstance(argument, fx.Node)]
        own = [argument for argument in given if self._values(op, node, argument) == (value,)]
        if not own:
            return None
        swapped = node.args[0] is not own[0]
        if swapped and (node.target not in _COMMUTE or len(node.args) != 2 or node.kwargs):
            return None
        if not self.stays_like(op, value):
            return None
        call = _in_place_call(self.program, node, swapped)
        if call is None or not self._does_the_same(op, node, own[0], call, wanted):
            return None
        position = op.operands.index(value)
        effects = Effects(
            results=(AliasOf((position,)),),
            reads=op.effects.reads,
            writes=frozenset((position,)),
            origin=Origin.OBSERVED,
            repeatable=True,
        )
        return evolve(op, effects=effects, target=_shown(node, call)), call

    def flops(self, op: Op) -> int | None:
        """Floating-point operations of an op: as torch's own counter counts matrix products,
        convolutions and attention; one per element of a result for all else, none for views."""
        node = op.node
        if not isinstance(node, fx.Node):
            return None
        if node not in self._flops:
            self._flops[node] = self._counted(op, node)
        return self._flops[node]

    def _counted(self, op: Op, node: fx.Node) -> int | None:
        written = sum(
            prod(size or 0 for size in value.type.shape)
            for value, effect in zip(op.results, op.effects.results, strict=True)
            if not isinstance(effect, AliasOf) and value.type is not None
        )
        if not written:
            return 0
        counter = FlopCounterMode(display=False)
        try:
            with unlogged(), self._mode, torch.no_grad():
                fakes = {given: self._fake(op, node, given) for given in node.all_input_nodes}
                with counter:
                    self._run(node, self._call_of(node), fakes)
        except Exception:  # whatever an op says that cannot be run alone
            return None
        return max(counter.get_total_flops(), written)

    def copy(self, kind: TensorType | None) -> tuple[TensorType, int] | None:
        """The type of a copy of a tensor, and its bytes; None where they are not known."""
        try:
            with self._mode:
                made = self._tensor(kind).clone()
        except NotImplementedError:
            return None
        return type_of(made), made.untyped_storage().nbytes()

    @property
    def clone(self) -> Call:
        """What an op calls that copies a tensor."""
        return Call("call_function", _CLONE)

    @property
    def clone_name(self) -> str:
        """How that is called."""
        return str(_CLONE)

    def is_copy(self, op: Op) -> bool:
        """Whether the result of an op equals its first operand, where their types do."""
        return op.target in _COPIES

    # -- at other sizes ----------------------------------------------------------------

    @cached_property
    def at_any_size(self) -> bool:
        """Whether the graph has dynamic dimensions on record."""
        graph = self.program.graph
        return isinstance(graph, fx.GraphModule) and any(
            is_dynamic(recorded_of(node)) for node in graph.graph.find_nodes(op="placeholder")
        )

    def stays_like(self, op: Op, value: Value) -> bool:
        """Whether the only result of an op that has the layout of an operand, at the sizes that
        the program was loaded with, has it at every size."""
        node = op.node
        if not self.at_any_size:
            return True
        if not isinstance(node, fx.Node):
            return False
        given = [one for one in node.all_input_nodes if self._values(op, node, one) == (value,)]
        both = [recorded_of(one) for one in (node, *given[:1])]
        tensors = [one for one in both if isinstance(one, torch.Tensor) and has_storage(one)]
        return len(tensors) == 2 and same_layout(*tensors)

    def stays_dense(self, op: Op, value: Value) -> bool:
        """Whether a result of an op that has the strides of a copy, at the sizes that the program
        was loaded with, has them at every size."""
        node = op.node
        if not self.at_any_size:
            return True
        leaves = leaves_of(recorded_of(node)) if isinstance(node, fx.Node) else []
        leaf = leaves[op.results.index(value)] if len(leaves) == len(op.results) else None
        return leaf is not None and has_storage(leaf) and always_contiguous(leaf)

    # -- running an op -----------------------------------------------------------------

    def _does_the_same(
        self, op: Op, node: fx.Node, own: fx.Node, call: Call, wanted: TensorType
    ) -> bool:
        """Whether the op is elementwise and the call leaves such a result in `own`."""
        try:
            with unlogged(), self._mode, torch.no_grad():
                fakes = {given: self._fake(op, node, given) for given in node.all_input_nodes}
                with _Log() as before:
                    self._run(node, self._call_of(node), fakes)
                with _Log() as after:
                    result = self._run(node, call, fakes)
        except Exception:  # as above
            return False
        target = fakes[own]
        return (
            isinstance(result, torch.Tensor)
            and isinstance(target, torch.Tensor)
            and storage_of(result) == storage_of(target)
            and _layout(type_of(result)) == _layout(wanted)
            and bool(before.operators)
            and all(torch.Tag.pointwise in found.tags for found in before.operators)
            and len(before.operators) == len(after.operators)
        )

    def _call_of(self, node: fx.Node) -> Call:
        module = self._module(node) if node.op == "call_module" else None
        return Call(node.op, node.target, module=module)

    def _module(self, node: fx.Node) -> nn.Module:
        graph = self.program.graph
        assert isinstance(graph, fx.GraphModule)
        return graph.get_submodule(str(node.target))

    # Any: an op may return anything.
    def _run(self, node: fx.Node, call: Call, fakes: Mapping[fx.Node, object]) -> Any:
        args = fx.map_arg(node.args, fakes.__getitem__)  # type: ignore[arg-type]  # of any type
        kwargs: Any = fx.map_arg(node.kwargs, fakes.__getitem__)  # type: ignore[arg-type]  # as above
        assert isinstance(args, tuple)
        if call.swapped:
            args = (args[1], args[0], *args[2:])
        kwargs = {**kwargs, **call.keywords}
        if call.kind == "call_method":
            return getattr(args[0], call.target)(*args[1:], **kwargs)
        if call.kind == "call_module":
            if call.module is None or list(call.module.parameters()):
                raise NotImplementedError("a module with parameters")
            return call.module(*args, **kwargs)
        return call.target(*args, **kwargs)

    def _values(self, op: Op, node: fx.Node, given: fx.Node) -> tuple[Value, ...]:
        """The operands that a node among the arguments stands for."""
        position = 0
        for each in node.all_input_nodes:
            count = len(self.program.op(each).results)
            if each is given:
                return op.operands[position : position + count]
            position += count
        return ()

    def _fake(self, op: Op, node: fx.Node, given: fx.Node) -> object:
        values = self._values(op, node, given)
        if not values:
            known = known_int(given.meta.get("val"))
            if known is None:
                raise NotImplementedError(f"{given} is no tensor")
            return known
        (value,) = values
        if not _is_plain(given):
            raise NotImplementedError(f"{given} may be a list")
        return self._tensor(value.type)

    @staticmethod
    def _tensor(kind: TensorType | None) -> torch.Tensor:
        if (
            kind is None
            or None in (*kind.shape, *kind.stride)
            or len(kind.stride) < len(kind.shape)
        ):
            raise NotImplementedError("a tensor of unknown layout")
        shape: Any = kind.shape
        stride: Any = kind.stride
        dtype = getattr(torch, kind.dtype)
        return torch.empty_strided(shape, stride, dtype=dtype, device=kind.device)


def _is_plain(node: fx.Node) -> bool:
    """Whether a node with one tensor gives the tensor, not a list of it."""
    return not isinstance(node.meta.get("val"), (list, tuple))


def _layout(kind: TensorType) -> object:
    return kind.shape, kind.stride, kind.dtype, kind.device


def _in_place_call(program: Program, node: fx.Node, swapped: bool) -> Call | None:
    """What to call to do what a node does in its first argument, if there is such a thing."""
    target = node.target
    if isinstance(target, OpOverload):
        variant = _overload(target)
        return None if variant is None else Call("call_function", variant, swapped)
    if node.op == "call_method":
        name = f"{target}_"
        return Call("call_method", name) if hasattr(torch.Tensor, name) else None
    if node.op == "call_module":
        graph = program.graph
        assert isinstance(graph, fx.GraphModule)
        return _in_place_module(node, graph.get_submodule(str(target)))
    if target in _METHODS:
        return Call("call_method", _METHODS[target], swapped)
    return _in_place_function(target)  # type: ignore[arg-type]  # a function is left


def _overload(operator_: OpOverload) -> OpOverload | None:
    schema = operator_._schema
    space, _, name = schema.name.partition("::")
    packet = getattr(getattr(torch.ops, space), f"{name}_", None)
    variant = getattr(packet, schema.overload_name or "default", None)
    if not isinstance(variant, OpOverload):
        return None
    theirs, ours = variant._schema.arguments, schema.arguments
    first = theirs[0].alias_info if theirs else None
    same = [a.name for a in theirs] == [a.name for a in ours]
    return variant if same and first is not None and first.is_write else None


def _in_place_module(node: fx.Node, module: nn.Module) -> Call | None:
    if getattr(module, "inplace", None) is not False or list(module.children()):
        return None
    made = type(module).__new__(type(module))
    vars(made).update(vars(module))
    made.inplace = True  # type: ignore[assignment]  # of a module of torch's that has one
    return Call("call_module", f"{node.target}_in_place".replace(".", "_"), module=made)


def _in_place_function(function: Callable[..., object]) -> Call | None:
    name = getattr(function, "__name__", "")
    if "inplace" in getattr(getattr(function, "__code__", None), "co_varnames", ()):
        return Call("call_function", function, keywords={"inplace": True})
    owned: Mapping[str, object] = vars(F)
    known = getattr(torch, name, None) is function or owned.get(name) is function
    if known and hasattr(torch.Tensor, f"{name}_"):
        return Call("call_method", f"{name}_")
    packet = getattr(torch.ops.aten, f"{name}_", None) if known else None
    return Call("call_function", packet) if packet is not None else None


def _shown(node: fx.Node, call: Call) -> str:
    if call.kind == "call_method":
        return f"Tensor.{call.target}"
    if call.kind == "call_module":
        return f"self.{call.target}"
    return str(call.target) if isinstance(call.target, OpOverload) else target_name(node)
