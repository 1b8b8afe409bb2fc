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
the bias is a tensor of its own.  `SPLITS` says how; `nn.Linear` and the convolutions need
no rules there, they just are no leaves, so that their own `forward` is traced.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from traceback import StackSummary
from typing import Any  # what flows through a tracer: values and arguments of any op at all

from torch import Tensor, fx, nn
from torch.fx.graph import inplace_methods
from torch.fx.proxy import Attribute, TraceError

from passes.frontends.capture.meta import (
    LIBRARY,
    NO_META_ARGS,
    PROPERTIES,
    Meta,
    Unknown,
    lost_write,
    only_asks,
    user_line,
)
from passes.frontends.capture.split import SPLITS, accepts, is_plain_affine


class _Proxy(fx.Proxy):
    """A proxy that answers what its meta tensor knows and loses no writes."""

    tracer: Tracer

    def __getattr__(self, name: str) -> Any:
        if name in PROPERTIES and isinstance(self.tracer.known(self), Tensor):
            return self.tracer.call(getattr, self, name)
        return _Attribute(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in {"tracer", "node", "root", "attr", "_node"}:
            raise lost_write(name)
        super().__setattr__(name, value)

    def __setitem__(self, key: object, value: object) -> None:
        self.tracer.call(operator.setitem, self, key, value)

    def __len__(self) -> int:
        known = self.tracer.known(self)
        if known is NO_META_ARGS:
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
        shapeless = self.tracer.known(self) is NO_META_ARGS
        return NotImplemented if shapeless else self.tracer.call(target, self, other)

    return method


for _name in inplace_methods.keys() - {"setitem"}:
    setattr(_Proxy, f"__{_name}__", _augmented(getattr(operator, _name)))


class Tracer(fx.Tracer):
    """A torch.fx.Tracer that knows shapes and, if asked, records biases separately."""

    record_stack_traces = True

    def __init__(self, bias_addition_split: bool = False) -> None:
        super().__init__()
        self.bias_addition_split = bias_addition_split
        self._meta: Meta | None = None
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
        self._meta = meta = Meta(self.create_proxy, root, meta_args)
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
        split = SPLITS.get((kind, target)) if self.bias_addition_split else None
        if split is not None and accepts(split, (self, *args), kwargs):
            return split(self, *args, **kwargs)
        if self._meta is None:
            return super().create_proxy(kind, target, args, kwargs, *rest, **options)
        value = self._meta.execute(kind, target, args, kwargs)
        if only_asks(kind, target, args) and not isinstance(value, Unknown):
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
        splits = self.bias_addition_split and is_plain_affine(own)
        self._opened = own if splits and self._sizes_known(*args, **kwargs) else None
        return super().call_module(own, forward, args, kwargs)

    def _sizes_known(self, input: Any, output_size: object = None) -> bool:
        """Whether `forward` can be traced: given an `output_size`, it computes with sizes."""
        return output_size is None or isinstance(self.known(input), Tensor)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m is not self._opened and super().is_leaf_module(m, module_qualified_name)

    def known(self, obj: fx.Proxy) -> Any:
        """What `obj` is on meta tensors, or the reason why that is not known."""
        return NO_META_ARGS if self._meta is None else self._meta.value(obj.node)

    def settled(self, obj: fx.Proxy, refuse: Callable[[Any], object]) -> Any:
        """What `obj` is for any data; if that depends, what `refuse` raises, with advice."""
        value = self.known(obj)
        if not isinstance(value, (Tensor, Unknown)):
            return value
        why = value if isinstance(value, Unknown) else "it depends on the data"
        try:
            return refuse(obj)
        except TraceError as error:
            raise TraceError(
                f"{error}. {user_line()} needs the value of {obj.node}: {why}. Say it in"
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
        users = [f for f in frames if not f.filename.startswith(LIBRARY)]
        return StackSummary.from_list(
            users or [f for f in frames if not f.filename.startswith(LIBRARY[1])]
        )


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
