"""Record what a Python function does to fake tensors as an fx graph.

A `Recorder` is a dispatch mode over a fake world: every operator that the function calls,
autograd's and an optimizer's included, becomes one node.  What the function reaches that
nobody gave to it, such as a tensor in a closure, becomes an attribute of the graph.

Small numbers on the CPU that do not depend on inputs, such as an optimizer's step count,
have their values here, so that code may read them; what it reads is part of the graph.  Any
other number that code reads is a symbol, to compute with and not to go by, and so is a size that
the data decides.
"""

from __future__ import annotations

import linecache
import operator
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
from attrs import frozen
from torch import fx, nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.proxy import GraphAppendingTracer
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils._sympy.interp import sympy_interp
from torch.utils._sympy.reference import PythonReferenceAnalysis
from torch.utils.weak import WeakTensorKeyDictionary

from passes.errors import CaptureError
from passes.frontends.fakes.alive import Alive
from passes.frontends.fakes.composites import AS_ON_REAL, sizes_asked_alone
from passes.frontends.fakes.large import truly_large
from passes.frontends.fakes.layouts import laid_out
from passes.frontends.fakes.outs import called
from passes.frontends.fakes.precision import precise
from passes.frontends.fakes.undecided import SYMBOLS, is_undecided
from passes.frontends.fakes.world import World, known_int, tensors_in
from passes.frontends.walk.nodes import CANNOT_RUN

_TORCH = str(Path(torch.__file__).parent)
_PACKAGE = str(Path(__file__).parents[2])
_UNINTERESTING = tuple(
    f"{_TORCH}/{part}" for part in ("_", "overrides", "utils", "autograd", "nn/modules/module.py")
)


@frozen
class Place:
    """Where a call comes from: the module path and its type's name, and the user's lines."""

    module: str = ""
    kind: str = ""
    frames: tuple[tuple[CodeType, int], ...] = ()

    @property
    def stack(self) -> str:
        """The lines as Python's tracebacks have them."""
        lines = []
        for code, number in self.frames:
            text = linecache.getline(code.co_filename, number).strip()
            lines.append(f'  File "{code.co_filename}", line {number}, in {code.co_name}')
            lines.append(f"    {text}")
        return "\n".join(lines)


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Records operator calls while it is active, inside the mode of its `world`.

    `phase` is noted for every node, as is the place in the user's code; a node of a
    backward pass has the place of the forward operator that it belongs to.  `read` counts
    the numbers that code has read, `alive` the bytes of results that somebody holds.
    """

    supports_higher_order_operators = True

    def __init__(self, world: World) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.world = world
        self.graph = fx.Graph()
        self.constants: dict[str, torch.Tensor] = {}
        self.phase = ""
        self.phases: dict[fx.Node, str] = {}
        self.read = 0
        self.alive = Alive()
        self.modules: list[tuple[str, str]] = []
        # Weak: autograd keeps a gradient as it is only if nobody else holds it.
        self._nodes = WeakTensorKeyDictionary()
        self._adopted: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # by id of the fake
        self._entries: list[torch.Tensor] = []
        self._places: dict[int, Place] = {}  # by autograd's sequence number
        self._numbers: dict[object, fx.Proxy] = {}  # by symbol

    def run(self, function: Callable[[], None]) -> None:
        """Record one call."""
        with self.world.mode, self, Substitute(self), sizes_asked_alone():
            function()

    # -- what the function works on ----------------------------------------------------

    def entry(self, name: str, fake: torch.Tensor, before: fx.Node | None = None) -> fx.Node:
        """A tensor that exists before the first call, as a placeholder; before a given one."""
        identifier = re.sub(r"^(\d)", r"_\1", re.sub(r"\W", "_", name))
        with self.graph.inserting_before(before) if before else nullcontext():
            node = self._nodes[fake] = self.graph.placeholder(identifier)
        node.target = node.name  # an input may be called as a buffer is
        self._entries.append(fake)
        self.alive.ignore(fake)
        return node

    def node(self, tensor: torch.Tensor) -> fx.Node:
        """The node that a tensor is the result of."""
        if tensor in self._nodes:
            known: fx.Node = self._nodes[tensor]
            return known
        fake, real = self._adopted.get(id(tensor), (tensor, tensor))
        name = f"constant_{len(self.constants)}"
        self.constants[name] = real
        node = self.graph.create_node("get_attr", name)
        self._nodes[fake] = node
        self.alive.ignore(fake)
        return node

    def is_known(self, tensor: torch.Tensor) -> bool:
        """Whether the tensor came in as an entry, or by a recorded call."""
        return tensor in self._nodes

    def made(self) -> list[torch.Tensor]:
        """The results of recorded calls that somebody still holds, in the order of the calls."""
        known = set(map(id, self._entries))
        nodes: Any = self._nodes
        held = {n: t for t, n in nodes.items() if id(t) not in known}
        return [held[n] for n in self.graph.nodes if n.op == "call_function" and n in held]

    def fake(self, real: torch.Tensor) -> torch.Tensor:
        """The fake of a tensor; this world's own fakes are returned as they are."""
        if isinstance(real, FakeTensor) and real.fake_mode is self.world.mode:
            return real
        if torch._C._functorch.is_functorch_wrapped_tensor(real):
            return real  # a transform's own, around fakes
        with _disable_current_modes():
            fake = self.world.tensor(real)
        self._adopted[id(fake)] = fake, real
        return fake

    def finished(self, results: Sequence[torch.Tensor], name: str) -> fx.GraphModule:
        """The graph as a module that returns the given tensors."""
        self.graph.output(tuple(map(self.node, results)))
        module = fx.GraphModule(self.constants, self.graph, name)
        for constant, tensor in self.constants.items():
            delattr(module, constant)
            vars(module)[constant] = tensor  # an attribute; fx makes it a buffer
        return module

    # -- calls -------------------------------------------------------------------------

    # Any: the signature is torch's.
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        with torch._C.DisableTorchFunction():  # what happens here is not the function's
            return self._call(func, args, kwargs or {})

    def _call(self, func: Any, args: Any, kwargs: Any) -> object:
        if not isinstance(func, OpOverload):
            raise CaptureError(_refusal(f"{func} has sub-graphs", self._place()))
        if func.namespace in _ABOUT_THE_RUN:
            return func(*args, **kwargs)
        place = self._place()
        if func is torch.ops.aten.lift_fresh.default:
            # What `torch.tensor([...])` makes is new memory at every run.
            func = torch.ops.aten.lift_fresh_copy.default
            constant = args[0]
            if not self.world.is_fake(constant):
                self._adopted[id(constant)] = constant, constant
        else:
            args, kwargs = _mapped(self.fake, (args, kwargs))
        try:
            name = func._schema.name.rpartition("::")[2]
            with self.world.calling(func):
                result = laid_out(func, args, called(func, args, kwargs)[0])
            result = truly_large(name, args, precise(func, args, result))
        except CANNOT_RUN as error:
            raise CaptureError(
                _refusal(f"{func} depends on the data of a tensor", place)
            ) from error
        if func is torch.ops.aten._local_scalar_dense.default and is_undecided(result):
            self._number(result, self._record(func, args, kwargs, None, place))
            return result
        if not (tensors_in(result) or func._schema.is_mutable):
            self.read += func is torch.ops.aten._local_scalar_dense.default
            return result
        result = self._with_value(func, args, kwargs, result)
        self._record(func, args, kwargs, result, place)
        for tensor in tensors_in(result):
            self.alive.see(tensor)
        return result

    def _record(
        self, func: OpOverload, args: Any, kwargs: Any, result: object, place: Place
    ) -> fx.Node:
        args, kwargs = tree_map(self.argument, (args, kwargs))
        name = func._schema.name.rpartition("::")[2]
        node = self.graph.create_node("call_function", func, args, kwargs, name)
        self.phases[node] = self.phase
        node.meta["stack_trace"] = place.stack
        if place.module:
            node.meta["nn_module_stack"] = {place.module: (place.module, place.kind)}
        self._bind(node, result)
        return node

    def _number(self, number: Any, node: fx.Node) -> None:
        """A node gives a number that only the run knows."""
        self._numbers[number.node.expr] = fx.Proxy(node, GraphAppendingTracer(self.graph))

    def argument(self, leaf: object) -> object:
        """What stands for a leaf of a call's arguments in the graph."""
        if isinstance(leaf, torch.Tensor):
            return self.node(leaf)
        if isinstance(leaf, SYMBOLS) and leaf.node.expr.free_symbols <= self._numbers.keys():
            with torch._C._EnableTorchFunction():  # for what proxies are handed to
                made: object = sympy_interp(PythonReferenceAnalysis, self._numbers, leaf.node.expr)
            # A number, where a condition has left a symbol one size.
            return made.node if isinstance(made, fx.Proxy) else made
        if is_undecided(leaf):
            what = "a number that data decides and one of the dynamic dimensions in one size"
            raise CaptureError(_refusal(what, self._place()))
        return leaf

    def _bind(self, node: fx.Node, result: object) -> None:
        if isinstance(result, torch.Tensor):
            self._nodes[result] = node
            self._bind_sizes(node, result)
        elif isinstance(result, (tuple, list)):
            for number, part in enumerate(result):
                if tensors_in(part):
                    picked = self.graph.call_function(operator.getitem, (node, number))
                    picked.meta.update(node.meta)
                    self.phases[picked] = self.phase
                    self._bind(picked, part)

    def _bind_sizes(self, node: fx.Node, tensor: torch.Tensor) -> None:
        """Read the sizes of a result that the data decides, for calls to come."""
        if tensor.layout is not torch.strided:
            return
        sizes: list[Any] = list(tensor.shape)
        for dim, size in enumerate(sizes):
            known = not is_undecided(size) or size.node.expr in self._numbers
            if not known and size.node.expr.is_Symbol:
                read = self.graph.call_function(torch.ops.aten.sym_size.int, (node, dim))
                read.meta.update(node.meta)
                self.phases[read] = self.phase
                self._number(size, read)

    def _with_value(self, func: OpOverload, args: Any, kwargs: Any, result: object) -> object:
        """A new number on the CPU that no input and no size decides, with its value."""
        if (
            isinstance(result, torch.Tensor)
            and known_int(result.numel()) == 1
            and result.device.type == "cpu"
            and not any(isinstance(leaf, _DECIDING) for leaf in tree_leaves((args, kwargs)))
            and func._schema.name in _WITH_VALUE
        ):
            with no_dispatch():
                real: torch.Tensor = func(*args, **kwargs)
            return self.world.valued(real)
        return result

    # -- places ------------------------------------------------------------------------

    def _place(self) -> Place:
        running: Any = torch._C._current_autograd_node()  # torch says there always is one
        if running is not None:
            return self._places.get(running._sequence_nr(), Place())
        place = Place(*(self.modules[-1] if self.modules else ("", "")), frames=_user_frames())
        if torch.is_grad_enabled():
            # autograd numbers its nodes just before it runs the operator they belong to.
            self._places.setdefault(torch._C._autograd._get_sequence_nr() - 1, place)
        return place

    def follow(self, root: nn.Module, prefix: str = "") -> None:
        """Note which of a copy's modules runs.  The modules get hooks."""
        for name, module in root.named_modules():
            path, kind = prefix + name, type(module).__name__
            module.register_forward_pre_hook(self._entering(path, kind), prepend=True)
            module.register_forward_hook(self._leaving, always_call=True)

    def _entering(self, path: str, kind: str) -> Callable[[nn.Module, object], None]:
        def enter(module: nn.Module, inputs: object) -> None:
            self.modules.append((path, kind))

        return enter

    def _leaving(self, module: nn.Module, inputs: object, result: object) -> None:
        self.modules.pop()


class Substitute(TorchFunctionMode):
    """Hands the fakes of real tensors to torch, above autograd: code may have real ones
    in closures, and autograd must not know them."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    # Any: the signature is torch's.
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = _mapped(self.recorder.fake, (args, kwargs or {}))
        found = AS_ON_REAL[func](*args, **kwargs) if func in AS_ON_REAL else None
        return func(*args, **kwargs) if found is None else found


_ABOUT_THE_RUN = frozenset({"prim", "profiler"})
"""Operators that ask a tensor's device, or mark a place for the profiler."""

_DECIDING = (torch.Tensor, *SYMBOLS)

_WITH_VALUE = frozenset(f"aten::{name}" for name in ("zeros", "ones", "full", "scalar_tensor"))
"""Operators that make numbers without a tensor."""


# Any: the result is whatever the tree is.
def _mapped(change: Callable[[torch.Tensor], object], tree: Any) -> Any:
    return tree_map(lambda leaf: change(leaf) if isinstance(leaf, torch.Tensor) else leaf, tree)


def _user_frames() -> tuple[tuple[CodeType, int], ...]:
    """The frames between the start of the recording and the operator, outermost first."""
    frames = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code is not Recorder.run.__code__:
        file = frame.f_code.co_filename
        if not file.startswith((_PACKAGE, *_UNINTERESTING)):
            frames.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return tuple(reversed(frames))


def _refusal(what: str, place: Place) -> str:
    lines = place.stack.splitlines()[-2:]
    return "\n".join(
        [
            f"{what}, and what happens then cannot be recorded without running it:",
            *(lines or [f"    in {place.module or 'the step'}"]),
            "Compute it with tensor operations alone, or load the part of the model without it",
        ]
    )
