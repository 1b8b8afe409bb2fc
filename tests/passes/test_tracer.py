"""Tracer: shapes while tracing, biases split off, the model left alone."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from typing import Any  # what torch hands to a mode, and what traced modules return

import pytest
import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError
from torch.nn import functional, utils
from torch.utils._python_dispatch import TorchDispatchMode

from passes.frontends.capture.tracer import GraphModule, Tracer

Ops = list[tuple[str, str]]


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(4, 4)
        self.relu = nn.ReLU(inplace=True)
        self.linear2 = nn.Linear(4, 4)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        x1 = x1 * 2
        x1 = self.linear1(x1)
        x1 = self.relu(x1)
        x1 = self.linear2(x1)
        return x1 + x2


class Of(nn.Module):
    """A module whose forward is `run`, given the module's parts and `x`."""

    def __init__(self, run: Callable[..., object], **parts: object) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x: Tensor) -> object:
        return self.run(self, x)


class NothingReal(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Fails on every op that has a result with data."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        real = [t for t in torch.utils._pytree.tree_leaves(result) if isinstance(t, Tensor)]
        assert all(t.is_meta for t in real), f"{func} computes"
        return result


def traced(model: nn.Module, *, split: bool = True, **inputs: Tensor) -> GraphModule:
    with NothingReal():
        graph = Tracer(bias_addition_split=split).trace(model, meta_args=inputs)
    return GraphModule(root=model, graph=graph, class_name=type(model).__name__)


def ops(graph: fx.Graph) -> Ops:
    """What each node but inputs and outputs is, without its path or module."""
    return [
        (node.op, str(node.target if node.op != "call_function" else node.target.__name__))
        for node in graph.nodes
        if node.op not in {"placeholder", "output"} and not isinstance(node.target, type)
    ]


def functions(graph: fx.Graph) -> list[str]:
    return [name for op, name in ops(graph) if op in {"call_function", "call_method"}]


def check_same(model: nn.Module, gm: nn.Module, *inputs: Tensor) -> None:
    expected, got = model(*copy.deepcopy(inputs)), gm(*copy.deepcopy(inputs))
    tolerance = 1e-10 if inputs[0].dtype == torch.float64 else 1e-5
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def split_same(model: nn.Module, x: Tensor) -> fx.Graph:
    """The graph with biases split, after checking what it computes."""
    single = traced(model, x=x)
    check_same(model, single, x)
    model = copy.deepcopy(model).double()
    double = traced(model, x=x.double())
    check_same(model, double, x.double())
    assert str(single.graph) == str(double.graph)
    return double.graph


@pytest.mark.parametrize("with_shapes", [True, False])
def test_linear_model(with_shapes: bool) -> None:
    model = Linear()
    meta = torch.rand(4, 4, device="meta")
    graph = Tracer(bias_addition_split=True).trace(
        model, meta_args={"x1": meta, "x2": meta} if with_shapes else None
    )
    assert [(node.op, node.name, node.target) for node in graph.nodes] == [
        ("placeholder", "x1", "x1"),
        ("placeholder", "x2", "x2"),
        ("call_function", "mul", operator.mul),
        ("get_attr", "linear1_weight", "linear1.weight"),
        ("get_attr", "linear1_bias", "linear1.bias"),
        ("call_function", "linear", functional.linear),
        ("call_function", "add", operator.add),
        ("call_module", "relu", "relu"),
        ("get_attr", "linear2_weight", "linear2.weight"),
        ("get_attr", "linear2_bias", "linear2.bias"),
        ("call_function", "linear_1", functional.linear),
        ("call_function", "add_1", operator.add),
        ("call_function", "add_2", operator.add),
        ("output", "output", "output"),
    ]
    gm = GraphModule(root=model, graph=graph, class_name=model.__class__.__name__)
    assert type(gm).__name__ == "Linear"
    check_same(model, gm, torch.rand(4, 4), torch.rand(4, 4))
    check_same(model, copy.deepcopy(gm), torch.rand(4, 4), torch.rand(4, 4))


def test_traced_modules_can_be_copied_and_pickled() -> None:
    gm = traced(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), input=torch.rand(2, 3))
    for again in (copy.deepcopy(gm), pickle.loads(pickle.dumps(gm))):
        check_same(gm, again, torch.rand(2, 3))


def test_nodes_know_line_and_module() -> None:
    nodes = {
        node.name: node for node in traced(Linear(), x1=torch.rand(4), x2=torch.rand(4)).graph.nodes
    }
    for name in ("linear1_weight", "linear1_bias", "linear", "add"):
        trace = nodes[name].stack_trace
        assert trace is not None
        assert trace.count("File") == 1
        assert __file__ in trace
        assert trace.endswith("x1 = self.linear1(x1)")
        assert list(nodes[name].meta["nn_module_stack"].values()) == [("linear1", nn.Linear)]


def test_without_meta_args_it_is_torch_fx() -> None:
    model = nn.Sequential(Linear().linear1, nn.BatchNorm1d(4), nn.Sequential(nn.Conv1d(4, 2, 1)))
    plain = fx.Tracer().trace(model)
    assert str(Tracer().trace(model)) == str(plain)
    assert str(Tracer().trace(Linear(), concrete_args={"x2": 1})) == str(
        fx.Tracer().trace(Linear(), {"x2": 1})
    )


LINEARS = [
    (nn.Linear(3, 5), (2, 3)),
    (nn.Linear(3, 5), (3,)),
    (nn.Linear(3, 5), (2, 4, 3)),
    (nn.Linear(3, 5, bias=False), (2, 3)),
    (nn.modules.linear.NonDynamicallyQuantizableLinear(3, 5), (2, 3)),
]


@pytest.mark.parametrize(("linear", "shape"), LINEARS)
def test_linear(linear: nn.Module, shape: tuple[int, ...]) -> None:
    graph = split_same(Of(lambda m, x: m.part(x), part=linear), torch.rand(shape))
    if "bias" not in linear.state_dict():
        assert ops(graph) == [("get_attr", "part.weight"), ("call_function", "linear")]
    else:
        assert ops(graph) == [
            ("get_attr", "part.weight"),
            ("get_attr", "part.bias"),
            ("call_function", "linear"),
            ("call_function", "add"),
        ]


CONVS: list[dict[str, Any]] = [
    {},
    {"stride": 2},
    {"padding": 1},
    {"padding": 1, "stride": 2},
    {"padding": "same"},
    {"padding": "valid"},
    {"dilation": 2},
    {"padding": "same", "dilation": 2},
    {"groups": 2},
    {"groups": 2, "bias": False},
    {"padding": 1, "padding_mode": "reflect"},
    {"padding": 1, "padding_mode": "replicate", "dilation": 2},
    {"padding": "same", "padding_mode": "circular"},
]
TRANSPOSED: list[dict[str, Any]] = [
    {},
    {"stride": 2},
    {"stride": 2, "padding": 1, "output_padding": 1},
    {"dilation": 2, "groups": 2},
    {"bias": False},
]
KINDS = [
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1], dims, options)
    for dims in (1, 2, 3)
    for options in CONVS
] + [
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[dims - 1], dims, options)
    for dims in (1, 2, 3)
    for options in TRANSPOSED
]


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize(("kind", "dims", "options"), KINDS)
def test_convolution(
    kind: type[nn.Module], dims: int, options: dict[str, Any], batch: tuple[int, ...]
) -> None:
    model = Of(lambda m, x: m.part(x), part=kind(4, 6, 3, **options))
    graph = split_same(model, torch.rand(*batch, 4, *[7] * dims))
    name = ("conv_transpose" if "Transpose" in kind.__name__ else "conv") + f"{dims}d"
    padded = ["pad"] if "padding_mode" in options else []
    bias = [] if "bias" in options else ["view", "add"]
    assert functions(graph) == [*padded, name, *bias]
    assert str(Tracer(bias_addition_split=True).trace(model)) == str(graph)
    attributes = [target for op, target in ops(graph) if op == "get_attr"]
    assert attributes == (["part.weight"] if "bias" in options else ["part.weight", "part.bias"])


@pytest.mark.parametrize("batch", [(), (2,)])
def test_output_size(batch: tuple[int, ...]) -> None:
    part = nn.ConvTranspose2d(4, 6, 3, stride=2)
    model = Of(lambda m, x: m.part(x, output_size=[10, 9]), part=part)
    x = torch.rand(*batch, 4, 4, 4)
    assert functions(split_same(model, x)) == ["conv_transpose2d", "view", "add"]
    # It takes sizes to compute the padding, and without meta_args there are none.
    graph = Tracer(bias_addition_split=True).trace(model)
    assert ops(graph) == [("call_module", "part")]


WEIGHTS = {
    "w": nn.Parameter(torch.rand(4, 3, 3)),
    "v": nn.Parameter(torch.rand(4, 8)),
    "b": nn.Parameter(torch.rand(4)),
}
FORMS: list[tuple[Callable[[Any, Tensor], object], list[str]]] = [
    (lambda m, x: functional.conv1d(x, m.w, m.b), ["conv1d", "view", "add"]),
    (lambda m, x: functional.conv1d(x, m.w, m.b, 2, 1), ["conv1d", "view", "add"]),
    (lambda m, x: torch.conv1d(x, m.w, bias=m.b, stride=2), ["conv1d", "view", "add"]),
    (lambda m, x: torch.conv1d(input=x, weight=m.w, bias=m.b), ["conv1d", "view", "add"]),
    (lambda m, x: torch.conv1d(x, m.w, None, 2), ["conv1d"]),
    (lambda m, x: torch.conv1d(x, m.w), ["conv1d"]),
    (lambda m, x: functional.linear(x, m.v, m.b), ["linear", "add"]),
    (lambda m, x: functional.linear(x, m.v, bias=m.b), ["linear", "add"]),
    (lambda m, x: functional.linear(x, m.v), ["linear"]),
    (
        lambda m, x: functional.conv_transpose1d(x, m.w.transpose(0, 1), m.b, 2, 1, 1),
        ["conv_transpose1d", "view", "add"],
    ),
    (
        lambda m, x: functional.conv2d(x[None], m.w[:, None], m.b[:4], groups=1),
        ["conv2d", "view", "add"],
    ),
]


@pytest.mark.parametrize(("run", "expected"), FORMS)
def test_functional_forms(run: Callable[[Any, Tensor], object], expected: list[str]) -> None:
    x = torch.rand(1, 3, 8) if "conv2d" not in expected else torch.rand(1, 8, 8)
    graph = split_same(Of(run, **WEIGHTS), x)
    found = [name for name in functions(graph) if name not in {"getitem", "t", "transpose"}]
    assert found == expected
    unsplit = Tracer().trace(Of(run, **WEIGHTS))
    assert "add" not in functions(unsplit)


MATRICES = {"a": nn.Parameter(torch.rand(2, 3)), "b": nn.Parameter(torch.rand(3, 5))}
BATCHES = {"a": nn.Parameter(torch.rand(4, 2, 3)), "b": nn.Parameter(torch.rand(4, 3, 5))}
PRODUCTS: list[tuple[Callable[[Any, Tensor], object], list[str]]] = [
    (lambda m, x: torch.addmm(x, m.a, m.b), ["mm", "add"]),
    (lambda m, x: torch.addmm(input=x, mat2=m.b, mat1=m.a), ["mm", "add"]),
    (lambda m, x: torch.addmm(x, m.a, m.b, alpha=2), ["mm", "mul", "add"]),
    (lambda m, x: torch.addmm(x, m.a, m.b, beta=0.5), ["mm", "mul", "add"]),
    (lambda m, x: torch.addmm(x, m.a, m.b, beta=3, alpha=0.1), ["mm", "mul", "mul", "add"]),
    (lambda m, x: torch.addmm(x, m.a, m.b, beta=1, alpha=1.0), ["mm", "add"]),
    (lambda m, x: torch.addmm(x / 0, m.a, m.b, beta=0), ["truediv", "mm"]),
    (lambda m, x: x.addmm(m.a, m.b, alpha=2), ["mm", "mul", "add"]),
    (lambda m, x: x.addmm(m.a, mat2=m.b), ["mm", "add"]),
]
BATCH_PRODUCTS: list[tuple[Callable[[Any, Tensor], object], list[str]]] = [
    (lambda m, x: torch.addbmm(x, m.a, m.b), ["bmm", "sum", "add"]),
    (lambda m, x: torch.addbmm(x, batch1=m.a, batch2=m.b), ["bmm", "sum", "add"]),
    (lambda m, x: torch.addbmm(x, m.a, m.b, beta=2, alpha=3), ["bmm", "sum", "mul", "mul", "add"]),
    (lambda m, x: x.addbmm(m.a, m.b, beta=0, alpha=3), ["bmm", "sum", "mul"]),
]


@pytest.mark.parametrize(
    ("run", "expected", "parts"),
    [(*case, MATRICES) for case in PRODUCTS] + [(*case, BATCHES) for case in BATCH_PRODUCTS],
)
@pytest.mark.parametrize("shape", [(2, 5), (5,), (1, 1)])
def test_products(
    run: Callable[[Any, Tensor], object],
    expected: list[str],
    parts: dict[str, nn.Parameter],
    shape: tuple[int, ...],
) -> None:
    assert functions(split_same(Of(run, **parts), torch.rand(shape))) == expected


class Doubled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return input.matmul(self.weight.t()) * 2


class Inherited(nn.Linear):
    pass


def hooked() -> nn.Module:
    linear = nn.Linear(4, 4)
    linear.register_forward_hook(lambda module, args, output: output * 2)
    return linear


def patched() -> nn.Module:
    linear = nn.Linear(4, 4)
    linear.forward = lambda input: input * 2  # type: ignore[method-assign]
    return linear


def old_weight_norm() -> nn.Module:
    linear: nn.Module = utils.weight_norm(nn.Linear(4, 4))
    return linear


WHOLE: list[tuple[Callable[[], nn.Module], list[str]]] = [
    (hooked, ["part"]),
    (patched, ["part"]),
    (old_weight_norm, ["part"]),
    (lambda: utils.parametrizations.orthogonal(nn.Linear(4, 4)), ["part"]),
    (lambda: nn.MultiheadAttention(4, 2), ["part"]),
    (lambda: nn.LSTM(4, 4), ["part"]),
    (
        lambda: torch.ao.nn.qat.Linear(4, 4, qconfig=torch.ao.quantization.default_qat_qconfig),
        ["part"],
    ),
]


@pytest.mark.parametrize(("make", "expected"), WHOLE)
def test_not_split(make: Callable[[], nn.Module], expected: list[str]) -> None:
    part = make().eval()
    attention = isinstance(part, nn.MultiheadAttention)
    model = Of(lambda m, x: m.part(x, x, x) if attention else m.part(x), part=part)
    gm = traced(model, x=torch.rand(3, 4))
    assert ops(gm.graph) == [("call_module", "part")]
    check_same(model, gm, torch.rand(3, 4))


def test_lazy_modules_stay_lazy() -> None:
    part = nn.LazyLinear(4)
    graph = traced(Of(lambda m, x: m.part(x), part=part), x=torch.rand(3, 4)).graph
    assert ops(graph) == [("call_module", "part")]
    assert nn.parameter.is_lazy(part.weight)


def test_subclasses_are_traced_through() -> None:
    overriding = split_same(Of(lambda m, x: m.part(x), part=Doubled(4, 4)), torch.rand(3, 4))
    assert functions(overriding) == ["t", "matmul", "mul"]
    inherited = split_same(Of(lambda m, x: m.part(x), part=Inherited(4, 4)), torch.rand(3, 4))
    assert functions(inherited) == ["linear", "add"]


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (lambda m, x: x.clone().addmm_(x, x), "addmm_"),
        (lambda m, x: torch.addmm(x, x, x, out=torch.empty_like(x)), "addmm"),
        (lambda m, x: torch.baddbmm(x[None], x[None], x[None]), "baddbmm"),
    ],
)
def test_ops_that_are_left(run: Callable[[Any, Tensor], object], name: str) -> None:
    graph = split_same(Of(run), torch.rand(3, 3))
    assert name in functions(graph)
    assert "add" not in functions(graph)


def test_shared_modules_and_tied_weights() -> None:
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    b.weight = a.weight
    model = Of(lambda m, x: m.b(m.a(m.b(x))), a=a, b=b)
    graph = split_same(model, torch.rand(3, 4))
    attributes = [target for op, target in ops(graph) if op == "get_attr"]
    assert attributes == ["a.weight", "b.bias", "a.bias"]


class Everything(nn.Module):
    """State of all kinds, which forward reads and writes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.norm = nn.BatchNorm1d(4)
        self.lstm = nn.LSTM(4, 4)
        self.dropout = nn.Dropout()
        self.encoder = nn.TransformerEncoderLayer(4, 2, 4)
        self.weight = nn.Parameter(torch.rand(4))
        self.steps = nn.Buffer(torch.zeros(1))
        self.plain = torch.rand(4)
        self.many = [torch.rand(4), torch.rand(4)]
        self.closure: Callable[[Tensor], Tensor] = lambda x: self.norm(x) + self.weight
        self.method = self.helper
        self.seen: list[object] = []
        self.calls = 0

    def helper(self, x: Tensor) -> Tensor:
        return self.weight.mul(self.dropout(x))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = x
        self.seen.append(x)
        self.steps.add_(1)
        x = self.embedding(x) + self.plain.mul(2) + self.many[1] + self.steps + OUTSIDE
        x, _ = self.lstm(x.to(x.device))
        x = self.method(self.closure(x)) + torch.arange(x.shape[-1], device=x.device)
        result: Tensor = self.encoder(x[None])
        return result


OUTSIDE = torch.rand(4)


def test_the_model_is_untouched() -> None:
    model = Everything().train()
    x = torch.randint(7, (3,))
    before = {
        name: (t, id(t), t._version, t.clone())
        for name, t in model.state_dict(keep_vars=True).items()
    }
    attributes = {name: dict(vars(m)) for name, m in model.named_modules()}
    random = torch.get_rng_state()
    gm = traced(model, x=x)
    for name, t in model.state_dict(keep_vars=True).items():
        old, identity, version, data = before[name]
        assert t is old
        assert (id(t), t._version) == (identity, version)
        assert torch.equal(t, data)
        assert t.grad is None
    assert {name: dict(vars(m)) for name, m in model.named_modules()} == attributes
    assert model.training
    assert model.calls == 0
    assert model.seen == []
    assert torch.equal(torch.get_rng_state(), random)
    assert gm.get_parameter("weight") is model.weight
    assert gm.get_submodule("lstm") is model.lstm
    gm.eval()
    model.eval()
    result = gm(x)
    model.steps.zero_()
    torch.testing.assert_close(result, model(x))


def test_constants_are_not_put_into_the_model() -> None:
    model = Of(lambda m, x: x + OUTSIDE)
    gm = traced(model, x=torch.rand(4))
    assert not hasattr(model, "_tensor_constant0")
    assert [node.meta["constant"] is OUTSIDE for node in gm.graph.find_nodes(op="get_attr")] == [
        True
    ]
    check_same(model, gm, torch.rand(4))
    check_same(model, copy.deepcopy(gm), torch.rand(4))


def test_an_impossible_model() -> None:
    with torch.device("meta"):
        model = Of(lambda m, x: m.part(x), part=nn.Linear(10**12, 10))
        x = torch.rand(10**12)
    assert functions(traced(model, x=x).graph) == ["linear", "add"]


def test_hooks_of_leaves_do_not_run() -> None:
    part = nn.TransformerEncoderLayer(4, 2, 4)
    seen: list[object] = []
    part.register_forward_hook(lambda *args: seen.append(args))
    part.linear1.register_forward_hook(lambda *args: seen.append(args))
    traced(Of(lambda m, x: m.part(x), part=part), x=torch.rand(3, 4))
    assert seen == []


def branch_on_shape(m: Any, x: Tensor) -> object:
    if x.shape[0] > 3 and x.size(1) == 5 and x.dim() == 2 and x.ndim == 2 and len(x) == 4:
        return x + 1
    return x - 1


SHAPES: list[Callable[[Any, Tensor], object]] = [
    branch_on_shape,
    lambda m, x: x + 1 if x.dtype is torch.float32 else x,
    lambda m, x: x + 1 if x.device == torch.device("cpu") else x,
    lambda m, x: x + 1 if not x.is_cuda else x,
    lambda m, x: x + 1 if (x * 2).is_floating_point() and torch.numel(x) == 20 else x,
    lambda m, x: x.t().shape[0] * x if x.T.stride() == (1, 5) else x,
    lambda m, x: x.max(1).values.shape[0] * x,
    lambda m, x: x.view(x.shape[0], -1, *x.shape[1:]),
    lambda m, x: sum(row.sum() for row in x),
    lambda m, x: [part + 1 for part in torch.split(x, 3)],
    lambda m, x: len(x.unbind(1)) * x,
    lambda m, x: x + torch.zeros(x.shape[-1]) + m.table[: x.size(0), None],
    lambda m, x: x.cpu() + x.to("cpu") + x.to(x.device),
    lambda m, x: x.flatten()[list(range(x.numel() // 2))],
    lambda m, x: m.table.shape[0] * x,
    lambda m, x: torch.eye(5)[torch.tensor([0, 1])] @ x.T,
]


@pytest.mark.parametrize("run", SHAPES)
def test_python_that_asks_for_shapes(run: Callable[[Any, Tensor], object]) -> None:
    model = Of(run, table=torch.rand(9))
    check_same(model, traced(model, x=torch.rand(4, 5)), torch.rand(4, 5))


def augmented(m: Any, x: Tensor) -> object:
    y = x.view(-1)
    y += 1
    y[0] = 7
    return x


def test_writes_are_recorded() -> None:
    model = Of(augmented)
    gm = traced(model, x=torch.rand(4, 5))
    assert functions(gm.graph) == ["view", "iadd", "setitem"]
    check_same(model, gm, torch.rand(4, 5))


class Optional(nn.Module):
    def forward(
        self, x: Tensor, mask: Tensor | None = None, *rest: Tensor, scale: int = 2, **more: Tensor
    ) -> Tensor:
        if mask is not None:
            x = x + mask
        return x * scale if not rest and "y" not in more else x


def test_parameters_not_given_keep_their_defaults() -> None:
    x = torch.rand(3)
    graph = traced(Optional(), x=x).graph
    assert [node.name for node in graph.nodes] == ["x", "mul", "output"]
    both = traced(Optional(), x=x, mask=x)
    assert [node.name for node in both.graph.nodes] == ["x", "mask", "add", "mul", "output"]
    check_same(Optional(), both, x, x)
    tracer = Tracer()
    fixed = tracer.trace(Optional(), meta_args={"x": x}, concrete_args={"scale": 5})
    assert next(iter(fixed.find_nodes(op="call_function", target=operator.mul))).args[1] == 5


def test_wrong_inputs() -> None:
    x = torch.rand(4)
    with pytest.raises(ValueError, match=r"Linear.forward has no x3; its parameters: x1, x2"):
        Tracer().trace(Linear(), meta_args={"x1": x, "x3": x})
    with pytest.raises(ValueError, match=r"Linear.forward also needs x2"):
        Tracer().trace(Linear(), meta_args={"x1": x})
    with pytest.raises(TypeError, match=r"meta_args\['x2'\] is 3, not a tensor"):
        Tracer().trace(Linear(), meta_args={"x1": x, "x2": 3})  # type: ignore[dict-item]


def assigned(m: Any, x: Tensor) -> object:
    x.data = x * 2
    return x


DATA: list[tuple[Callable[[Any, Tensor], object], str]] = [
    (lambda m, x: x if x.sum() > 0 else -x, "it depends on the data"),
    (lambda m, x: x if x.nonzero().shape[0] else -x, "nonzero on meta tensors raises"),
    (lambda m, x: list(x[x > 0]), "getitem on meta tensors raises"),
    (lambda m, x: len(x.nonzero()) * x, "nonzero on meta tensors raises"),
    (lambda m, x: list(range(int(x.sum()))), "it depends on the data"),
    (lambda m, x: x * [1, 2][int(x.sum().item())], "item on meta tensors raises"),
    (lambda m, x: x if x.data_ptr() else -x, "data_ptr of a meta tensor says nothing"),
]


@pytest.mark.parametrize(("run", "why"), DATA)
def test_python_that_asks_for_data(run: Callable[[Any, Tensor], object], why: str) -> None:
    with pytest.raises(TraceError, match=why) as caught:
        traced(Of(run), x=torch.rand(4))
    assert __file__ in str(caught.value)
    assert "torch.fx.wrap" in str(caught.value)


def test_advice_without_meta_args() -> None:
    with pytest.raises(TraceError, match="meta_args would make shapes known"):
        Tracer().trace(Of(branch_on_shape))


@pytest.mark.parametrize("with_shapes", [True, False])
def test_writes_that_would_be_lost(with_shapes: bool) -> None:
    meta = {"x": torch.rand(4)} if with_shapes else None
    with pytest.raises(TraceError, match=r"test_tracer.py:\d+: `x.data = x \* 2` sets .*'data'"):
        Tracer().trace(Of(assigned), meta_args=meta)
    with pytest.raises(TraceError, match=r"'anything'"):
        Tracer().trace(Of(lambda m, x: setattr(x, "anything", 1)), meta_args=meta)


def test_a_failed_trace_leaves_the_tracer_usable() -> None:
    tracer = Tracer(bias_addition_split=True)
    with pytest.raises(TraceError):
        tracer.trace(Of(assigned), meta_args={"x": torch.rand(4)})
    x = torch.rand(4, 4)
    assert len(tracer.trace(Linear(), meta_args={"x1": x, "x2": x}).nodes) == 14
