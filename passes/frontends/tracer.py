"""Symbolic tracing at given shapes, with biases as operations of their own.

    Tracer        torch.fx.Tracer that can trace on meta tensors and split biases off
    GraphModule   torch.fx.GraphModule for what it traces

torch.fx knows nothing of shapes: `if x.shape[0] > 3` stops it.  With `meta_args` each proxy
has a *meta* tensor (shape, stride, dtype, no data) on which every recorded op is executed,
so Python that asks for these gets an answer.  The graph holds for those shapes; parameters
of `forward` that are not in `meta_args` keep their defaults and are no placeholders.

Nothing is computed on real tensors and the user's model is never touched, because what is
traced is a copy of its modules around meta tensors, with the paths of the originals.  What
code creates is recorded as well: `torch.arange(x.shape[1])` is a node, not a constant.  A
constant from outside the model hangs on its `get_attr` node, as `meta["constant"]`.

torch.fx loses some writes without a word.  Here `x.data = y` is an error, `y[0] = 1` is
recorded, and with `meta_args` so is `x += y` (for torch.fx it means `x = x + y`).

With `bias_addition_split` an affine op is recorded as what it consists of: the sum before
the bias is a tensor of its own.  `_SPLITS` says how; `nn.Linear` and the convolutions need
no rules there, they just are no leaves, so that their own `forward` is traced.
"""

from __future__ import annotations

import copy
import inspect
import linecache
import operator
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial, reduce
from pathlib import Path
from traceback import StackSummary
from typing import Any  # what flows through a tracer: values and arguments of any op at all

import torch
from torch import Tensor, fx, nn
from torch.fx.graph import inplace_methods
from torch.fx.node import map_aggregate
from torch.fx.proxy import Attribute, TraceError
from torch.nn.functional import linear
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode, is_tensor_method_or_property

# What is the same for any data is answered while tracing, not recorded.
_PROPERTIES = frozenset(
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
_LIBRARY = (f"{Path(torch.__file__).parent}{os.sep}", __file__)


class _Unknown(RuntimeError):
    """There is no meta value; the message says why."""


_NO_META_ARGS = _Unknown("meta_args would make shapes known")


def _user_line() -> str:
    """The line of the user's code that is being traced."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARY):
        frame = frame.f_back
    if frame is None:
        return "?"
    path, number = frame.f_code.co_filename, frame.f_lineno
    return f"{path}:{number}: `{linecache.getline(path, number).strip()}`"


def _lost_write(name: str) -> TraceError:
    return TraceError(
        f"{_user_line()} sets the attribute {name!r} of a traced tensor, which a graph cannot"
        " record. Write into the tensor (`x.copy_(y)`), or do it in a torch.fx.wrap function"
    )


class _Proxy(fx.Proxy):
    """A proxy that answers what its meta tensor knows and loses no writes."""

    tracer: Tracer

    def __getattr__(self, name: str) -> Any:
        if name in _PROPERTIES and isinstance(self.tracer.known(self), Tensor):
            return self.tracer.call(getattr, self, name)
        return _Attribute(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in {"tracer", "node", "root", "attr", "_node"}:
            raise _lost_write(name)
        super().__setattr__(name, value)

    def __setitem__(self, key: object, value: object) -> None:
        self.tracer.call(operator.setitem, self, key, value)

    def __len__(self) -> int:
        known = self.tracer.known(self)
        if known is _NO_META_ARGS:
            return super().__len__()
        return len(known if isinstance(known, Tensor) else self.tracer.settled(self, _no_number))

    def __index__(self) -> int:
        return operator.index(self.tracer.settled(self, _no_number))


class _Attribute(_Proxy, Attribute):
    """`proxy.name`, recorded only when it turns out not to be a method call."""


def _no_number(obj: fx.Proxy) -> None:
    raise TraceError("symbolically traced variables cannot be used as numbers")


def _augmented(target: Callable[..., Any]) -> Callable[[_Proxy, object], Any]:
    """The method of `_Proxy` for an augmented assignment; torch.fx has none."""

    def method(self: _Proxy, other: object) -> Any:
        shapeless = self.tracer.known(self) is _NO_META_ARGS
        return NotImplemented if shapeless else self.tracer.call(target, self, other)

    return method


for _name in inplace_methods.keys() - {"setitem"}:
    setattr(_Proxy, f"__{_name}__", _augmented(getattr(operator, _name)))


class _Meta(TorchFunctionMode):
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
        self.inputs = {name: _meta_like(t) for name, t in inputs.items()}
        tensors = [*model.parameters(), *model.buffers()]
        self.device = tensors[0].device if tensors else torch.device("cpu")
        self.copies |= {id(t): self._copy_of_tensor(t) for t in tensors}
        self.root = self._copy_of_modules(model)

    def _copy_of_tensor(self, t: Tensor) -> Tensor:
        made = _meta_like(t)
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
        return self.values.get(node, _Unknown(f"{node} was never executed"))

    def execute(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        """What such a node would give."""
        try:
            with self._executing():
                args, kwargs = map_aggregate((tuple(args), kwargs), self._operand)
                value = self._execute(kind, target, *args, **kwargs)
        except _Unknown as unknown:
            return unknown
        except Exception as error:  # anything that an op or the user's leaf function raises
            name, why = getattr(target, "__name__", target), str(error).partition(". ")[0]
            return _Unknown(f"{name} on meta tensors raises {type(error).__name__}: {why}")
        return self.device if isinstance(value, torch.device) and value == _META else value

    def _operand(self, a: Any) -> Any:
        if isinstance(a, fx.Proxy):
            value = self.value(a.node)
            if isinstance(value, _Unknown):
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
            raise _Unknown(f"{target} of a meta tensor says nothing")
        if target in {"cpu", "cuda"}:
            return args[0].to(_META)
        return getattr(args[0], target)(*args[1:], **kwargs)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.busy and func is Tensor.__deepcopy__:
            return self._copy_of_tensor(args[0])
        if self.busy:
            args, kwargs = map_aggregate((tuple(args), kwargs), self._operand)
        if self.busy or _holds(fx.Proxy, (args, kwargs)):
            return func(*args, **kwargs)
        name, call = func.__name__, ("call_function", func, args, kwargs)
        if name == "__set__":
            raise _lost_write(func.__self__.__name__)
        if name == "__get__":
            call = ("call_function", getattr, (args[0], func.__self__.__name__), {})
        elif is_tensor_method_or_property(func):
            call = ("call_method", name, args, kwargs)
        value = self.execute(*call)
        recorded = name == "__setitem__" or _holds((Tensor, _Unknown), value)
        return self.record(*call) if recorded else value


def _meta_like(t: Tensor) -> Tensor:
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


def _holds(kinds: type | tuple[type, ...], value: Any) -> bool:
    """Whether such an object is in the value or in the containers it consists of."""
    found: list[bool] = []
    map_aggregate(value, lambda leaf: found.append(isinstance(leaf, kinds)))
    return any(found)


class Tracer(fx.Tracer):
    """A torch.fx.Tracer that knows shapes and, if asked, records biases separately."""

    record_stack_traces = True

    def __init__(self, bias_addition_split: bool = False) -> None:
        super().__init__()
        self.bias_addition_split = bias_addition_split
        self._meta: _Meta | None = None
        self._fixed: Mapping[str, object] = {}
        self._opened: nn.Module | None = None

    def trace(  # type: ignore[override]  # shapes come first
        self,
        root: nn.Module,
        meta_args: Mapping[str, Tensor] | None = None,
        concrete_args: Mapping[str, object] | None = None,
    ) -> fx.Graph:
        """The graph of `root`, at the shapes of `meta_args` if there are any.

        `concrete_args` are torch.fx's; with `meta_args` they fix parameters just as
        defaults do: no placeholders, no assertions.
        """
        if meta_args is None:
            return super().trace(root, None if concrete_args is None else dict(concrete_args))
        self._fixed = _fixed_inputs(root, meta_args, concrete_args or {})
        self._meta = meta = _Meta(self.create_proxy, root, meta_args)
        self.proxy_buffer_attributes = True
        try:
            with meta:
                graph = super().trace(meta.root)
        finally:
            self._meta, self._fixed, self.proxy_buffer_attributes = None, {}, False
        for node in graph.find_nodes(op="get_attr"):
            if not hasattr(root, str(node.target).partition(".")[0]):
                node.meta["constant"] = meta.original_of(getattr(meta.root, str(node.target)))
        return graph

    def create_args_for_root(self, *args: Any, **kwargs: Any) -> tuple[Any, list[Any]]:
        forward, inputs = super().create_args_for_root(*args, **kwargs)
        return forward, [self._fixed_or_traced(a) for a in inputs]

    def _fixed_or_traced(self, a: Any) -> Any:
        if not isinstance(a, fx.Proxy) or a.node.target not in self._fixed:
            return a
        self.graph.erase_node(a.node)
        return self._fixed[str(a.node.target)]

    def proxy(self, node: fx.Node) -> _Proxy:
        return _Proxy(node, self)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.create_proxy("call_function", function, args, kwargs)

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any
    ) -> Any:
        """A proxy for the op; for its parts if it is split; or the answer if it just asks."""
        split = _SPLITS.get((kind, target)) if self.bias_addition_split else None
        if split is not None and _accepts(split, (self, *args), kwargs):
            return split(self, *args, **kwargs)
        if self._meta is None:
            return super().create_proxy(kind, target, args, kwargs, *rest, **options)
        value = self._meta.execute(kind, target, args, kwargs)
        if _asks(kind, target, args) and not isinstance(value, _Unknown):
            return value
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **options)
        self._meta.values[proxy.node] = value
        return proxy

    def create_arg(self, a: Any) -> Any:
        return super().create_arg(a if self._meta is None else self._meta.copy_of(a))

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self._meta is not None and self._meta.busy:
            return attr_val
        own = attr_val if self._meta is None else self._meta.copy_of(attr_val)
        return super().getattr(attr, own, parameter_proxy_cache)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if self._meta is not None and self._meta.busy:
            return m.forward(*args, **kwargs)
        own = m if self._meta is None else self._meta.copy_of(m)
        splits = self.bias_addition_split and _is_plain(own)
        self._opened = own if splits and self._sizes_known(*args, **kwargs) else None
        return super().call_module(own, forward, args, kwargs)

    def _sizes_known(self, input: Any, output_size: object = None) -> bool:
        """Whether `forward` can be traced: given an `output_size`, it computes with sizes."""
        return output_size is None or isinstance(self.known(input), Tensor)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m is not self._opened and super().is_leaf_module(m, module_qualified_name)

    def known(self, obj: fx.Proxy) -> Any:
        """What `obj` is on meta tensors, or the reason why that is not known."""
        return _NO_META_ARGS if self._meta is None else self._meta.value(obj.node)

    def settled(self, obj: fx.Proxy, refuse: Callable[[Any], object]) -> Any:
        """What `obj` is for any data; if that depends, what `refuse` raises, with advice."""
        value = self.known(obj)
        if not isinstance(value, (Tensor, _Unknown)):
            return value
        why = value if isinstance(value, _Unknown) else "it depends on the data"
        try:
            return refuse(obj)
        except TraceError as error:
            raise TraceError(
                f"{error}. {_user_line()} needs the value of {obj.node}: {why}. Say it in"
                " tensors (torch.where), or put it into a function marked with torch.fx.wrap"
            ) from None

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self.settled(obj, super().to_bool))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        known = self.known(obj)
        if isinstance(known, (Tensor, tuple, list)):
            return (obj[i] for i in range(len(known)))  # type: ignore[index]  # magic methods
        return iter(self.settled(obj, super().iter))

    def _filter_traceback_frames(self, user_stack_summary: StackSummary) -> StackSummary:
        frames = super()._filter_traceback_frames(user_stack_summary)
        users = [f for f in frames if not f.filename.startswith(_LIBRARY)]
        return StackSummary.from_list(users or [f for f in frames if f.filename != __file__])


def _asks(kind: str, target: Any, args: Any) -> bool:
    if kind not in {"call_function", "call_method"}:
        return False
    return target in _QUERIES or (target is getattr and args[1] in _PROPERTIES)


def _fixed_inputs(
    root: nn.Module, meta_args: Mapping[str, Tensor], concrete_args: Mapping[str, object]
) -> dict[str, object]:
    """The inputs that get no placeholder, by the target that it would have."""
    inputs = list(inspect.signature(type(root).forward).parameters.values())[1:]
    fixed: dict[str, object] = {f"*{p.name}": () for p in inputs if p.kind is p.VAR_POSITIONAL}
    fixed |= {f"**{p.name}": {} for p in inputs if p.kind is p.VAR_KEYWORD}
    defaults = {
        p.name: p.default for p in inputs if not {f"*{p.name}", f"**{p.name}"} & fixed.keys()
    }
    owner = f"{type(root).__name__}.forward"
    if wrong := [n for n in (*meta_args, *concrete_args) if n not in defaults]:
        raise ValueError(
            f"{owner} has no {', '.join(wrong)}; its parameters: {', '.join(defaults)}"
        )
    for n, t in meta_args.items():
        if not isinstance(t, Tensor):
            raise TypeError(f"meta_args[{n!r}] is {t!r}, not a tensor; use concrete_args for it")
    given = {**defaults, **concrete_args}
    fixed |= {n: value for n, value in given.items() if n not in meta_args}
    if missing := [n for n, value in fixed.items() if value is inspect.Parameter.empty]:
        raise ValueError(f"{owner} also needs {', '.join(missing)}, which meta_args lacks")
    return fixed


_FORWARDS = {nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward}
_FORWARDS |= {m.forward for m in (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)}


def _is_plain(m: nn.Module) -> bool:
    """Whether a call of `m` is torch's `forward` of an affine module and nothing else."""
    hooks = (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks)
    changed = any(hooks) or "forward" in vars(m) or not {"weight", "bias"} <= m._parameters.keys()
    return type(m).forward in _FORWARDS and not changed


def _accepts(rule: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether the rule covers such arguments; none covers writing to a given tensor."""
    try:
        bound = inspect.signature(rule).bind(*args, **kwargs)
    except TypeError:
        return False
    return "out" not in kwargs and bound.arguments.get("bias", ...) is not None


def _split_bias(
    op: Any,
    dims: int,
    tracer: Tracer,
    input: Any,
    weight: Any,
    bias: Any,
    *rest: Any,
    **options: Any,
) -> Any:
    """The op without bias, plus the bias, which goes along the axis before the last `dims`."""
    args = (input, weight, None, *rest) if rest else (input, weight)
    result = tracer.call(op, *args, **options)
    shaped = (
        tracer.create_proxy("call_method", "view", (bias, -1, *[1] * dims), {}) if dims else bias
    )
    return result + shaped


def _split_addmm(
    tracer: Tracer, input: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1
) -> Any:
    return _weighted_sum(tracer, input, beta, tracer.call(torch.mm, mat1, mat2), alpha)


def _split_addbmm(
    tracer: Tracer, input: Any, batch1: Any, batch2: Any, *, beta: Any = 1, alpha: Any = 1
) -> Any:
    return _weighted_sum(tracer, input, beta, tracer.call(torch.bmm, batch1, batch2).sum(0), alpha)


def _weighted_sum(tracer: Tracer, input: Any, beta: Any, product: Any, alpha: Any) -> Any:
    if isinstance(alpha, fx.Proxy) or alpha != 1:
        product = tracer.call(operator.mul, product, alpha)
    if not isinstance(beta, fx.Proxy) and beta == 0:
        return product  # torch ignores the input then, infinities and all
    if isinstance(beta, fx.Proxy) or beta != 1:
        input = tracer.call(operator.mul, input, beta)
    return tracer.call(operator.add, input, product)


_BIASED = {linear: 0, torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}
_BIASED |= {torch.conv_transpose1d: 1, torch.conv_transpose2d: 2, torch.conv_transpose3d: 3}
_SPLITS: dict[tuple[str, object], Callable[..., Any]] = {
    ("call_function", torch.addmm): _split_addmm,
    ("call_method", "addmm"): _split_addmm,
    ("call_function", torch.addbmm): _split_addbmm,
    ("call_method", "addbmm"): _split_addbmm,
    **{("call_function", op): partial(_split_bias, op, dims) for op, dims in _BIASED.items()},
}


class GraphModule(fx.GraphModule):
    """A torch.fx.GraphModule that also takes over the constants of a `Tracer`."""

    def __init__(
        self, root: nn.Module | dict[str, Any], graph: fx.Graph, class_name: str = "GraphModule"
    ) -> None:
        nodes = graph.find_nodes(op="get_attr")
        constants = {n.target: n.meta["constant"] for n in nodes if "constant" in n.meta}
        if constants and isinstance(root, nn.Module):
            root, original = object.__new__(type(root)), root
            vars(root).update(vars(original), **constants)
        super().__init__(root, graph, class_name)
