"""Meta tensors behind proxies: what a symbolic trace knows of shapes while it runs.

A `Meta` lives for one trace.  It holds copies of the model's modules around meta tensors,
so that nothing real is computed or touched, and for each recorded node what it gave on meta
tensors, or `Unknown` with the reason why it gave nothing.
"""

from __future__ import annotations

import copy
import inspect
import linecache
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any  # what flows through a tracer: values and arguments of any op at all

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.fx.proxy import TraceError
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode, is_tensor_method_or_property

# What is the same for any data is answered while tracing, not recorded.
PROPERTIES = frozenset(
    "device dtype is_cpu is_cuda is_meta itemsize layout nbytes ndim requires_grad shape".split()
)
_QUERIES = {
    *"dim element_size is_complex is_contiguous is_floating_point is_signed ndimension".split(),
    *"nelement numel size storage_offset stride".split(),
    *(torch.is_complex, torch.is_floating_point, torch.numel),
}
# What a meta tensor would answer, but wrongly.
_UNTRUE = frozenset("data_ptr get_device is_pinned is_shared storage untyped_storage".split())
_META = torch.device("meta")
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:\d+)?")
LIBRARY = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parents[1]}{os.sep}")


class Unknown(RuntimeError):
    """There is no meta value; the message says why."""


NO_META_ARGS = Unknown("meta_args would make shapes known")


def user_line() -> str:
    """The line of the user's code that is being traced."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(LIBRARY):
        frame = frame.f_back
    if frame is None:
        return "?"
    path, number = frame.f_code.co_filename, frame.f_lineno
    return f"{path}:{number}: `{linecache.getline(path, number).strip()}`"


def lost_write(name: str) -> TraceError:
    return TraceError(
        f"{user_line()} sets the attribute {name!r} of a traced tensor, which a graph cannot"
        " record. Write into the tensor (`x.copy_(y)`), or do it in a torch.fx.wrap function"
    )


def only_asks(kind: str, target: Any, args: Any) -> bool:
    if kind not in {"call_function", "call_method"}:
        return False
    return target in _QUERIES or (target is getattr and args[1] in PROPERTIES)


class Meta(TorchFunctionMode):
    """One trace on meta tensors: copies of all that is real, values of all proxies.

    As a mode it sees the torch calls without a proxy: those of the user's code are recorded,
    and those that an op makes while it is executed (`busy`) get copies as operands.
    """

    def __init__(
        self, record: Callable[..., Any], model: nn.Module, inputs: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        self.record = record
        self.busy = False
        self.values: dict[fx.Node, Any] = {}
        self.copies: dict[int, Any] = {}  # by id of the original: the memo of copy.deepcopy
        self.originals: dict[int, tuple[Tensor, Tensor]] = {}  # by id of the copy, with the copy
        self.inputs = {name: meta_like(t) for name, t in inputs.items()}
        tensors = [*model.parameters(), *model.buffers()]
        self.device = tensors[0].device if tensors else torch.device("cpu")
        self.copies |= {id(t): self._copy_of_tensor(t) for t in tensors}
        self.root = self._copy_of_modules(model)

    def _copy_of_tensor(self, t: Tensor) -> Tensor:
        made = meta_like(t)
        self.originals[id(made)] = (made, t)
        return made

    def _copy_of_modules(self, model: nn.Module) -> Any:
        """The same modules around meta tensors; scripted ones cannot be copied and are shared."""
        for m in model.modules():
            scripted = isinstance(m, torch.jit.ScriptModule)
            self.copies[id(m)] = m if scripted else object.__new__(type(m))
        with self, self._executing():
            for m in model.modules():
                if (made := self.copies[id(m)]) is not m:
                    vars(made).update((name, self._copy(a)) for name, a in vars(m).items())
        return self.copies[id(model)]

    def _copy(self, attribute: object) -> object:
        try:
            return copy.deepcopy(attribute, self.copies)
        except Exception:  # locks, handles and the like have many ways to refuse
            return attribute

    def copy_of(self, a: Any) -> Any:
        """The copy of a part of the model; code can get past the copies by a closure."""
        return self.copies.get(id(a), a) if isinstance(a, (Tensor, nn.Module)) else a

    def original_of(self, a: Any) -> Any:
        return self.originals.get(id(a), (a, a))[1]

    @contextmanager
    def _executing(self) -> Iterator[None]:
        before, self.busy = self.busy, True
        try:
            with _META:  # for what an op makes of its own
                yield
        finally:
            self.busy = before

    def value(self, node: fx.Node) -> Any:
        """What the node gave on meta tensors, or the reason why it gave nothing."""
        return self.values.get(node, Unknown(f"{node} was never executed"))

    def execute(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        """What such a node would give."""
        try:
            with self._executing():
                args, kwargs = map_aggregate((tuple(args), kwargs), self._operand)
                value = self._execute(kind, target, *args, **kwargs)
        except Unknown as unknown:
            return unknown
        except Exception as error:  # anything that an op or the user's leaf function raises
            name, why = getattr(target, "__name__", target), str(error).partition(". ")[0]
            return Unknown(f"{name} on meta tensors raises {type(error).__name__}: {why}")
        return self.device if isinstance(value, torch.device) and value == _META else value

    def _operand(self, a: Any) -> Any:
        if isinstance(a, fx.Proxy):
            value = self.value(a.node)
            if isinstance(value, Unknown):
                raise value
            return value
        if isinstance(a, Tensor):
            return self._operand_tensor(a)
        device = isinstance(a, torch.device) or (isinstance(a, str) and _DEVICE.fullmatch(a))
        return _META if device else a

    def _operand_tensor(self, t: Tensor) -> Any:
        with torch._C.DisableTorchFunction():
            if id(t) not in self.copies and not t.is_meta:
                self.copies[id(t)] = self._copy_of_tensor(t)
        return self.copies.get(id(t), t)

    def _execute(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> Any:
        if kind == "placeholder":
            return self.inputs[target]
        if kind == "get_attr":
            return reduce(getattr, target.split("."), self.root)
        if kind == "call_module":  # not by __call__, because tracing runs no hooks of leaves
            return self.root.get_submodule(target).forward(*args, **kwargs)
        if target is getattr and args[1] in {"is_cpu", "is_cuda", "is_meta"}:
            return args[1] == f"is_{self.device.type}"
        if kind == "call_function":
            return target(*args, **kwargs)
        if target in _UNTRUE:
            raise Unknown(f"{target} of a meta tensor says nothing")
        if target in {"cpu", "cuda"}:
            return args[0].to(_META)
        return getattr(args[0], target)(*args[1:], **kwargs)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.busy and func is Tensor.__deepcopy__:
            return self._copy_of_tensor(args[0])
        if self.busy:
            args, kwargs = map_aggregate((tuple(args), kwargs), self._operand)
        if self.busy or holds(fx.Proxy, (args, kwargs)):
            return func(*args, **kwargs)
        name, call = func.__name__, ("call_function", func, args, kwargs)
        if name == "__set__":
            raise lost_write(func.__self__.__name__)
        if name == "__get__":
            call = ("call_function", getattr, (args[0], func.__self__.__name__), {})
        elif is_tensor_method_or_property(func):
            call = ("call_method", name, args, kwargs)
        value = self.execute(*call)
        recorded = name == "__setitem__" or holds((Tensor, Unknown), value)
        return self.record(*call) if recorded else value


def meta_like(t: Tensor) -> Tensor:
    kind: dict[str, Any] = {"dtype": t.dtype, "device": _META}
    if is_lazy(t):
        return type(t)(requires_grad=t.requires_grad, **kind)
    if t.layout is torch.strided:
        made = torch.empty_strided(t.size(), t.stride(), **kind)
    else:
        made = torch.empty(t.size(), layout=t.layout, **kind)
    if isinstance(t, nn.Parameter):
        return nn.Parameter(made, requires_grad=t.requires_grad)
    return made.requires_grad_(t.requires_grad)


def holds(kinds: type | tuple[type, ...], value: Any) -> bool:
    """Whether such an object is in the value or in the containers it consists of."""
    found: list[bool] = []
    map_aggregate(value, lambda leaf: found.append(isinstance(leaf, kinds)))
    return any(found)
