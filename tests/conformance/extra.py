"""Calls of operators that real graphs contain and torch's table of samples does not.

Most are written as graphs have them, by overload.  The last are operators of one's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed
from torch import Tensor

from tests.conformance.calls import Call

aten = torch.ops.aten
prims = torch.ops.prims
quantized = torch.ops.quantized_decomposed


def _x(*shape: int) -> Tensor:
    return torch.arange(1, 1 + torch.Size(shape).numel(), dtype=torch.float32).reshape(shape) / 7


X, Y, FLAT, ROW = _x(4, 6), _x(4, 6) + 1, _x(24), _x(6)
HALF = X.to(torch.float16)
COMPLEX = torch.complex(X, Y)
IMAGE = _x(2, 3, 4, 4)
STATS = (_x(3), _x(3) + 1, _x(3) + 2, _x(3) + 3)
INDEX = torch.tensor([0, 2])
STEP = torch.ones(())
SCALE = torch.full((), 2.0)
FOUND = torch.zeros(())

ZERO = torch.zeros((), dtype=torch.int64)
RANGE = (-128, 127, torch.int8)
BY = (0.1, 0, *RANGE)
BYTES = torch.arange(24, dtype=torch.int8).view(4, 6)
TOKENS = (X, _x(4, 1), torch.zeros(4, 1, dtype=torch.int64))

# Any: keywords for an overloaded function.
ADAM: dict[str, Any] = {
    "lr": 0.1,
    "beta1": 0.9,
    "beta2": 0.99,
    "weight_decay": 0.0,
    "eps": 1e-8,
    "amsgrad": False,
    "maximize": False,
}
SGD: dict[str, Any] = {
    "weight_decay": 0.0,
    "momentum": 0.9,
    "lr": 0.1,
    "dampening": 0.0,
    "nesterov": False,
    "maximize": False,
    "is_first_step": False,
}
ADAGRAD: dict[str, Any] = {
    "lr": 0.1,
    "lr_decay": 0.0,
    "weight_decay": 0.0,
    "eps": 1e-8,
    "maximize": False,
}


def _norm(operator: Any, *more: object) -> Callable[..., Any]:
    return lambda x, w, b, m, v: operator(x, w, b, m, v, *more)


def _qkv(x: Tensor, bias: Tensor) -> Any:
    return aten._transform_bias_rescale_qkv.default(x, bias, 2)


_LIBRARY: Any = torch.library.Library("conformance", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch's
_LIBRARY.define("any(Tensor(a) x, Tensor y) -> Tensor(*)", tags=(torch.Tag.pt2_compliant_tag,))
_LIBRARY.impl("any", lambda x, y: x.view(-1), "CompositeExplicitAutograd")


def _zeros(x: Tensor, other: Tensor, batch: int = 0) -> Any:
    return aten._new_zeros_with_same_feature_meta.default(x, other, self_num_batch_dims=batch)


def _resized(x: Tensor, nbytes: int) -> Tensor:
    """What frees and allocates a shard's storage again."""
    made = x + 1
    torch.ops.inductor.resize_storage_bytes_.default(made, nbytes)
    return x * 2


def _bag(x: Tensor, rows: Tensor, begins: Tensor, by: Tensor) -> Any:
    """With weights that do not lie one after another."""
    return aten._embedding_bag_forward_only.default(x, rows, begins, False, 0, False, by[::2])


def _split_out(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Into tensors of which the second is resized."""
    a, b = a * 2, b[:1] * 2
    aten.split_with_sizes_copy.out(x, [2, 2], out=[a, b])
    return a + b


def _normed(x: Tensor) -> Tensor:
    return torch.nn.functional.batch_norm(x, None, None, training=True)


@torch.library.custom_op("conformance::scale_", mutates_args={"x"})
def scale_(x: Tensor, by: float) -> None:
    """Writes its argument, and says so."""
    x.mul_(by)


@torch.library.custom_op("conformance::scaled", mutates_args=())
def scaled(x: Tensor, by: float) -> Tensor:
    """Returns something new."""
    return x * by


@scaled.register_fake
def _(x: Tensor, by: float) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("conformance::fill_both_", mutates_args={"outs", "also"})
def fill_both_(source: Tensor, outs: Sequence[Tensor], also: Tensor) -> None:
    """Writes the tensors of a list and another."""
    for out in outs:
        out.copy_(source)
    also.add_(source)


@torch.library.triton_op("conformance::kernel_", mutates_args={"out"})
def kernel_(x: Tensor, out: Tensor) -> None:
    """What stands for a Triton kernel: known by its schema."""
    out.copy_(x)


_CALLS: Sequence[tuple[str, Callable[..., Any], tuple[Tensor, ...]]] = (
    ("_unsafe_view", lambda x: aten._unsafe_view.default(x, [24]), (X,)),
    ("unsafe_split", lambda x: aten.unsafe_split.Tensor(x, 2), (X,)),
    ("unsafe_split", lambda x: torch.unsafe_split(x, 2), (X,)),
    ("unsafe_split_with_sizes", lambda x: aten.unsafe_split_with_sizes.default(x, [1, 3]), (X,)),
    ("unsafe_chunk", lambda x: torch.unsafe_chunk(x, 2), (X,)),
    ("_reshape_alias", lambda x: aten._reshape_alias.default(x, [24], [1]), (X,)),
    ("reshape", lambda x: x.t().reshape(-1), (X,)),
    ("reshape", lambda x: x[:, :3].reshape(2, 2, 3), (X,)),
    ("contiguous", lambda x: x.t().contiguous(), (X,)),
    ("contiguous", lambda x: x.contiguous(memory_format=torch.channels_last), (IMAGE,)),
    ("to", lambda x: x.to(torch.float32), (X,)),
    ("to", lambda x: x.to(torch.float32, copy=True), (X,)),
    ("to", lambda x: x.to(torch.float64), (X,)),
    ("to", lambda x, y: x.to(y), (HALF, X)),
    ("flatten", lambda x: x.flatten(), (X,)),
    ("flatten", lambda x: x.t().flatten(), (X,)),
    ("type_as", lambda x, y: x.type_as(y), (X, Y)),
    ("type_as", lambda x, y: x.type_as(y), (HALF, Y)),
    ("sum_to_size", lambda x: x.sum_to_size(4, 6), (X,)),
    ("sum_to_size", lambda x: x.sum_to_size(1, 6), (X,)),
    ("to_dense", lambda x: x.to_dense(), (X,)),
    ("conj_physical", torch.conj_physical, (X,)),
    ("conj_physical", torch.conj_physical, (COMPLEX,)),
    ("resolve_conj", lambda x: x.conj().resolve_conj(), (COMPLEX,)),
    ("resolve_neg", lambda x: x.conj().imag.resolve_neg(), (COMPLEX,)),
    ("real", torch.real, (X,)),
    ("atleast_1d", torch.atleast_1d, (X,)),
    ("atleast_3d", lambda *xs: aten.atleast_3d.Sequence(xs), (X, ROW)),
    ("broadcast_tensors", torch.broadcast_tensors, (X, ROW)),
    ("meshgrid", lambda a, b: torch.meshgrid(a, b, indexing="xy"), (ROW, FLAT)),
    ("cartesian_prod", torch.cartesian_prod, (ROW,)),
    ("cartesian_prod", torch.cartesian_prod, (ROW, FLAT)),
    ("einsum", lambda x: torch.einsum("ij->ji", x), (X,)),
    ("einsum", lambda x: torch.einsum("ij->i", x), (X,)),
    ("einsum", lambda x, y: torch.einsum("ij,kj->ik", x, y), (X, Y)),
    ("dropout", lambda x: aten.dropout.default(x, 0.5, False), (X,)),
    ("dropout", lambda x: aten.dropout.default(x, 0.5, True), (X,)),
    ("dropout", lambda x: aten.dropout.default(x, 0.0, True), (X,)),
    ("native_dropout", lambda x: aten.native_dropout.default(x, 0.5, False), (X,)),
    ("feature_dropout", lambda x: torch.feature_dropout(x, 0.5, False), (IMAGE,)),
    ("alpha_dropout", lambda x: torch.alpha_dropout(x, 0.5, False), (X,)),
    ("dropout_", lambda x: torch.dropout_(x, 0.5, True), (X,)),
    ("lift", lambda x: aten.lift.default(x), (X,)),
    ("lift_fresh", lambda x: aten.lift_fresh.default(x), (X,)),
    ("lift_fresh_copy", lambda x: aten.lift_fresh_copy.default(x), (X,)),
    ("alias", lambda x: aten.alias.default(x), (X,)),
    ("detach_", lambda x: x.detach_(), (X,)),
    ("_to_copy", lambda x: aten._to_copy.default(x), (X,)),
    ("_cast_Float", lambda x: aten._cast_Float.default(x), (X,)),
    ("channel_shuffle", lambda x: torch.channel_shuffle(x, 1), (IMAGE,)),
    ("index_put_", lambda x, i, y: x.index_put_([i], y[:2]), (X, INDEX, Y)),
    ("index_put_", lambda x, i, y: aten.index_put_.default(x, [i], y, True), (X, INDEX, ROW)),
    ("index_put", lambda x, i, y: aten.index_put.default(x, [i], y), (X, INDEX, ROW)),
    ("set_", lambda x, y: x.set_(y).add_(1), (X, Y)),
    ("resize_", lambda x: x.resize_(8, 6).fill_(0), (X,)),
    ("resize_", lambda x: (x + 1).resize_(2, 2), (X,)),
    ("resize_as_", lambda x, y: (x + 1).resize_as_(y), (ROW, X)),
    ("as_strided_", lambda x: x.as_strided_([6, 4], [1, 6]).mul_(2), (X,)),
    ("t_", lambda x: (x.t_().reshape(-1), x.contiguous()), (X,)),
    ("transpose_", lambda x: x.transpose_(0, 1).reshape(-1).add_(1), (X,)),
    ("unsqueeze_", lambda x: x.unsqueeze_(0).add_(1), (X,)),
    ("squeeze_", lambda x: x.squeeze_().add_(1), (X,)),
    ("copy_", lambda x, y: x.copy_(y), (X, ROW)),
    ("zero_", lambda x: x[1:].zero_(), (X,)),
    ("random_", lambda x: x.random_(3), (X,)),
    ("slice_scatter", lambda x, y: torch.slice_scatter(x[:2], y, 0, 0, 1), (X, ROW[None])),
    ("select_scatter", lambda x, y: x.expand(4, 6).select_scatter(y, 0, 0), (X[:1], ROW)),
    ("index_select", lambda x, y, i: torch.index_select(x, 0, i, out=y), (X, X[2:], INDEX)),
    ("index_select", lambda x, y, i: torch.index_select(x, 0, i, out=y), (X, Y[3:], INDEX)),
    (
        "batch_norm",
        lambda x: _normed(x.t()).reshape(-1).mul_(2),
        (X,),
    ),
    (
        "batch_norm",
        lambda x: _normed(x.t()).t().reshape(-1),
        (X,),
    ),
    ("empty", lambda x: torch.empty(4, 6, out=x.tensor_split(2, 1)[1]), (X,)),
    ("_to_cpu", lambda x: aten._to_cpu.default([x]), (X,)),
    ("data", lambda x: aten.data.default(x), (X,)),
    ("flatten_dense_tensors", lambda x: aten.flatten_dense_tensors.default([x]), (X,)),
    ("flatten_dense_tensors", lambda x, y: aten.flatten_dense_tensors.default([x, y]), (X, Y)),
    (
        "unflatten_dense_tensors",
        lambda f, x: aten.unflatten_dense_tensors.default(f, [x]),
        (FLAT, X),
    ),
    ("cumprod_backward", lambda x, y: aten.cumprod_backward.default(x, y, 0, y), (X, Y)),
    (
        "_batch_norm_impl_index",
        _norm(aten._batch_norm_impl_index.default, True, 0.1, 1e-5, False),
        (IMAGE, *STATS),
    ),
    ("masked_scatter_", lambda x, y: x.masked_scatter_(y > 2, y), (X, Y)),
    ("embedding_renorm_", lambda x, i: aten.embedding_renorm_.default(x, i, 0.1, 2.0), (X, INDEX)),
    ("rrelu_with_noise", lambda x, y: aten.rrelu_with_noise.default(x, y, 0.1, 0.3, True), (X, Y)),
    ("rrelu_with_noise", lambda x, y: aten.rrelu_with_noise.default(x, y, 0.1, 0.3, False), (X, Y)),
    ("dropout", lambda x: (h := x + 1, torch.dropout(h, 0.5, False).mul_(2)), (X,)),
    ("im2col", lambda x: torch.nn.functional.unfold(x, 1, stride=3), (IMAGE,)),
    ("col2im", lambda x: torch.nn.functional.fold(x, (3, 3), 2), (_x(2, 12, 4),)),
    ("log_sigmoid", lambda x: torch.nn.functional.logsigmoid(x.t()).reshape(-1).mul_(2), (X,)),
    ("floor_divide", lambda x: (x.t() // SCALE).reshape(-1).mul_(2), (X,)),
    ("native_dropout", lambda x: torch.native_dropout(x, 0.5, False), (X,)),
    ("native_dropout", lambda x: torch.native_dropout(x[:0], 0.5, True), (X,)),
    ("channel_shuffle", lambda x: torch.channel_shuffle(x[:0], 1), (IMAGE,)),
    ("mse_loss", lambda x, y: torch.nn.functional.mse_loss(x[:0], y[:0]), (X, Y)),
    ("split_copy", lambda x, a, b: aten.split_copy.Tensor_out(x, 2, out=[a, b]), (X, X[:2], X[2:])),
    ("split_with_sizes_copy", _split_out, (X, X[:2], X[2:])),
    ("native_batch_norm", _norm(aten.native_batch_norm.default, True, 0.1, 1e-5), (IMAGE, *STATS)),
    ("native_batch_norm", _norm(aten.native_batch_norm.default, False, 0.1, 1e-5), (IMAGE, *STATS)),
    ("batch_norm", _norm(torch.batch_norm, True, 0.1, 1e-5, False), (IMAGE, *STATS)),
    ("batch_norm", _norm(torch.batch_norm, False, 0.1, 1e-5, False), (IMAGE, *STATS)),
    ("instance_norm", _norm(torch.instance_norm, True, 0.1, 1e-5, False), (IMAGE, *STATS)),
    ("instance_norm", _norm(torch.instance_norm, False, 0.1, 1e-5, False), (IMAGE, *STATS)),
    ("_foreach_add", lambda x, y: torch._foreach_add([x, y], 1.0), (X, ROW)),
    ("_foreach_add_", lambda x, y: torch._foreach_add_([x, y], 1.0), (X, ROW)),
    ("_foreach_add_", lambda x, y: torch._foreach_add_([x], [y]), (X, Y)),
    ("_foreach_mul_", lambda x, y, s: torch._foreach_mul_([x, y], s), (X, ROW, SCALE)),
    ("_foreach_copy_", lambda x, y: torch._foreach_copy_([x], [y]), (X, Y)),
    ("_foreach_zero_", lambda x, y: torch._foreach_zero_([x, y]), (X, Y)),
    ("_foreach_norm", lambda x, y: torch._foreach_norm([x, y]), (X, Y)),
    ("_foreach_sqrt_", lambda x, y: torch._foreach_sqrt_([x, y]), (X, Y)),
    ("_foreach_lerp_", lambda x, y: torch._foreach_lerp_([x], [y], 0.5), (X, Y)),
    ("_foreach_addcdiv_", lambda x, y, z: torch._foreach_addcdiv_([x], [y], [z]), (X, Y, Y + 1)),
    (
        "_fused_adam_",
        lambda p, g, m, v, n: torch._fused_adam_([p], [g], [m], [v], [], [n], **ADAM),
        (X, Y, X + 1, Y + 1, STEP),
    ),
    (
        "_fused_adam_",
        lambda p, g, m, v, n, s, f: torch._fused_adam_(
            [p], [g], [m], [v], [], [n], **ADAM, grad_scale=s, found_inf=f
        ),
        (X, Y, X + 1, Y + 1, STEP, SCALE, FOUND),
    ),
    (
        "_fused_adamw_",
        lambda p, g, m, v, n: torch._fused_adamw_([p], [g], [m], [v], [], [n], **ADAM),
        (X, Y, X + 1, Y + 1, STEP),
    ),
    ("_fused_sgd_", lambda p, g, m: torch._fused_sgd_([p], [g], [m], **SGD), (X, Y, X + 1)),
    (
        "_fused_adagrad_",
        lambda p, g, s, n: torch._fused_adagrad_([p], [g], [s], [n], **ADAGRAD),
        (X, Y, X + 1, STEP),
    ),
    ("_foreach_copy", lambda x, y: aten._foreach_copy([x[1], x[:, 1:3]], [y[0], y[:, :2]]), (X, Y)),
    ("_foreach_copy", lambda x, y: aten._foreach_copy([x.expand(4, 6)], [y]), (ROW, Y)),
    (
        "_functional_sym_constrain_range",
        lambda x: aten._functional_sym_constrain_range.default(2, 1, None, x),
        (X,),
    ),
    ("nonzero_numpy", lambda x: aten.nonzero_numpy.default(x), (X,)),
    ("nonzero", lambda x: x.nonzero(as_tuple=True), (X,)),
    ("where", lambda x: aten.where.default(x > 1), (X,)),
    ("resize", lambda x: aten.resize.default(x[1], [2]), (X,)),
    ("resize", lambda x: aten.resize.default(x[1], [50]), (X,)),
    ("slice_scatter", lambda x: aten.slice_scatter.default(x[:0], x[:0], 0, 0, 1), (X,)),
    ("_transform_bias_rescale_qkv", _qkv, (_x(2, 3, 12), _x(12))),
    ("_new_zeros_with_same_feature_meta", lambda x, y: _zeros(x, y[1:, 2]), (ROW[:3], Y)),
    ("_new_zeros_with_same_feature_meta", lambda x, y: _zeros(x, y[1], batch=1), (X, Y)),
    ("resize_storage_bytes_", lambda x: _resized(x, 0), (X,)),
    ("resize_storage_bytes_", lambda x: _resized(x, 200), (X,)),
    ("quantize_per_tensor", lambda x: quantized.quantize_per_tensor(x, *BY), (X,)),
    ("dequantize_per_tensor", lambda x: quantized.dequantize_per_tensor(x, *BY), (BYTES,)),
    (
        "quantize_per_tensor",
        lambda x, s, z: quantized.quantize_per_tensor.tensor(x, s, z, *RANGE),
        (X, SCALE, ZERO),
    ),
    (
        "quantize_per_channel",
        lambda x, s, z: quantized.quantize_per_channel(x, s, z, 0, *RANGE),
        (X, ROW[:4], INDEX.repeat(2)),
    ),
    (
        "dequantize_per_channel",
        lambda x, s, z: quantized.dequantize_per_channel(x, s, z, 0, *RANGE),
        (BYTES, ROW[:4], INDEX.repeat(2)),
    ),
    ("embedding_bag", _bag, (X, INDEX, torch.zeros(1, dtype=torch.int64), ROW[:4])),
    ("prims.as_strided", lambda x: prims.as_strided.default(x, [2, 2], [1, 2], 1).add_(1), (X,)),
    ("prims.real", lambda x: prims.real.default(x).add_(1), (COMPLEX,)),
    ("prims.imag", lambda x: prims.imag.default(x).add_(1), (COMPLEX,)),
    ("prims.device_put", lambda x: prims.device_put.default(x, "cpu").add_(1), (X,)),
    ("prims.view_of", lambda x: prims.view_of.default(x).add_(1), (X,)),
    ("prims.view_of_dtype", lambda x: prims.view_of_dtype.default(x, torch.int32).add_(1), (X,)),
    ("prims.collapse_view", lambda x: prims.collapse_view.default(x, 0, 1).add_(1), (X,)),
    ("prims.split_dim", lambda x: prims.split_dim.default(x, 0, 2).add_(1), (X,)),
    ("prims.broadcast_in_dim", lambda x: prims.broadcast_in_dim.default(x, [2, 6], [1]), (ROW,)),
    ("choose_qparams", lambda x: quantized.choose_qparams(x, -128, 127, 1e-5, torch.int8), (X,)),
    ("quantize_per_token", lambda x, s, z: quantized.quantize_per_token(x, s, z, *RANGE), TOKENS),
    ("conformance::scale_", lambda x: scale_(x, 2.0), (X,)),
    ("conformance::scaled", lambda x: scaled(x, 2.0), (X,)),
    ("conformance::fill_both_", lambda x, a, b, c: fill_both_(x, [a, b], c), (X, Y, X + 1, Y + 1)),
    ("conformance::any", lambda x, y: torch.ops.conformance.any(x, y), (X, Y)),
    ("conformance::kernel_", lambda x, out: kernel_(x, out), (X, Y)),
)

EXTRA: Sequence[Call] = tuple(
    Call(name, "extra", number, function, tensors)
    for number, (name, function, tensors) in enumerate(_CALLS)
)
