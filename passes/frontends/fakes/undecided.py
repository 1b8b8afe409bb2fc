"""Numbers and sizes that only a run decides, in the fake world.

They are symbols without a hint.  A branch returns the number of one side or of the other,
a loop carries another one in each iteration: `Join` makes from what the sides show the
tensor or number that stands for any of them, known where they agree and a new symbol where
they do not.

What a fake kernel concludes about a symbol may be true of most sizes only ("not 0 and not
1, so a copy").  `is_undecided` says whether an op had to do with symbols at all, and
`always_contiguous` what is true of a layout at every size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from attrs import define, field
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from passes.errors import CaptureError
from passes.frontends.fakes.world import World, has_storage, known_int
from passes.frontends.walk.env import MISSING

SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool)
Size = int | torch.SymInt


def is_undecided(value: object) -> bool:
    """Whether a run decides a number, or anything about the layout of a tensor."""
    if isinstance(value, SYMBOLS):
        return getattr(value.node, "hint", None) is None
    if isinstance(value, torch.Tensor) and has_storage(value):
        return any(known_int(size) is None for size in _layout(value))
    return False


def is_dynamic(recorded: object) -> bool:
    """Whether a capture recorded a size, or one of a tensor, as a symbol."""
    if isinstance(recorded, torch.Tensor) and has_storage(recorded):
        return any(map(is_dynamic, _layout(recorded)))
    return isinstance(recorded, SYMBOLS) and not recorded.node.expr.is_number


def any_undecided(values: object) -> bool:
    """Whether anything in arguments or results is undecided."""
    if isinstance(values, slice):
        values = (values.start, values.stop, values.step)
    if isinstance(values, (tuple, list)):
        return any(map(any_undecided, values))
    if isinstance(values, dict):
        return any(map(any_undecided, values.values()))
    return is_undecided(values)


def always_contiguous(tensor: torch.Tensor) -> bool:
    """Whether a tensor is contiguous whatever its undecided sizes are."""
    expected: Any = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.stride()), strict=True):
        if not _same(size, 1) and not _same(stride, expected):
            return False
        # As torch has it: the stride before a size of 0 is as if it were 1.
        expected = expected * torch.sym_max(size, 1)  # type: ignore[no-untyped-call]  # torch's own
    return True


def _layout(tensor: torch.Tensor) -> list[Size]:
    """Shape, strides and offset, one after the other."""
    return [*tensor.shape, *tensor.stride(), tensor.storage_offset()]


def _same(one: object, other: object) -> bool:
    """Whether two numbers are one, in every run."""
    if isinstance(one, SYMBOLS) and isinstance(other, SYMBOLS):
        return bool(one.node.expr == other.node.expr)
    return type(one) is type(other) and one == other


def may_stretch(tensor: torch.Tensor, sizes: Sequence[object]) -> bool:
    """Whether it is not known which dimensions of a tensor are stretched when it is expanded to
    these sizes: those of one element are, and such a dimension may have one, or as many as asked
    for.  A fake is taken to have these, and keeps its strides."""
    inner = sizes[len(sizes) - tensor.dim() :]
    return any(
        isinstance(size, SYMBOLS)
        and not _same(size, wanted)
        and not (isinstance(wanted, int) and wanted == -1)
        and known_int(size) is None
        for size, wanted in zip(list[object](tensor.shape), inner, strict=False)
    )


def _all_same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return not has_storage(one) or all(
            _same(a, b)
            for a, b in zip(
                [*_layout(one), one.untyped_storage().nbytes()],
                [*_layout(other), other.untyped_storage().nbytes()],
                strict=True,
            )
        )
    return one is other or _same(one, other)


def same_layout(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors have the same shape and strides whatever their symbols are."""
    first, second = [*one.shape, *one.stride()], [*other.shape, *other.stride()]
    return len(first) == len(second) and all(map(_same, first, second))


@define(eq=False)
class Join:
    """What stands for any of several results.  Made once for what is joined again and again,
    as in a loop: a symbol it has made stands for whatever comes."""

    world: World
    where: str
    _made: set[object] = field(factory=set)

    @property
    def _env(self) -> ShapeEnv:
        return self.world.env

    def results(self, one: object, other: object) -> object:
        """Two results of the same structure, joined leaf by leaf; no storage is shared."""
        leaves, spec = tree_flatten(one)
        others, other_spec = tree_flatten(other)
        if spec != other_spec:
            raise CaptureError(
                f"{self.where} returns different numbers of results: {spec} and {other_spec}"
            )
        return tree_unflatten([self.leaf(a, b) for a, b in zip(leaves, others, strict=True)], spec)

    def head(self, leaf: object) -> object:
        """What stands for a leaf that a loop carries, at first: tensors are taken to stay as
        they are, numbers to change."""
        if isinstance(leaf, torch.Tensor):
            return self.tensor(leaf, leaf)
        return leaf if leaf is None or leaf is MISSING else self.unknown(leaf)

    def covers(self, one: object, other: object) -> bool:
        """Whether what stands for one result stands for the other, leaf by leaf."""
        pairs = zip(tree_leaves(one), tree_leaves(other), strict=True)
        return all(_all_same(first, second) for first, second in pairs)

    def leaf(self, one: object, other: object) -> object:
        """What stands for either of two leaves."""
        if one is MISSING or other is MISSING:
            return MISSING
        if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
            return self.tensor(one, other)
        if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
            raise CaptureError(f"{self.where} returns a tensor or not, as the run decides")
        return one if _same(one, other) or self._is_made(one) else self.unknown(one, other)

    def unknown(self, *numbers: object) -> object:
        """A number that may be any, of the kind of the given ones."""
        kinds = {_kind(number) for number in numbers}
        make: dict[type, Callable[[], object]] = {
            int: self._env.create_unbacked_symint,
            float: self._env.create_unbacked_symfloat,
            bool: self._env.create_unbacked_symbool,
        }
        if len(kinds) != 1 or not kinds <= make.keys():
            shown = " or ".join(map(str, numbers))
            raise CaptureError(
                f"{self.where} returns {shown}, as the run decides; later ops cannot be followed. "
                "Return tensors or numbers of one kind"
            )
        (kind,) = kinds
        with self._env.ignore_fresh_unbacked_symbols():
            number = make[kind]()
        assert isinstance(number, SYMBOLS)
        self._made.add(number.node.expr)
        return number

    def tensor(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """A tensor with a storage of its own that stands for either of two."""
        for what in ("dtype", "device", "layout"):
            if getattr(one, what) != getattr(other, what):
                self._refuse(what, getattr(one, what), getattr(other, what))
        for bit in (torch.Tensor.is_conj, torch.Tensor.is_neg):
            if bit(one) != bit(other):
                self._refuse(f"{bit.__name__}()", bit(one), bit(other))
        if one.dim() != other.dim():
            self._refuse("number of dimensions", one.dim(), other.dim())
        if not has_storage(one):
            return self.world.like(one)
        shape = self._sizes(one.shape, other.shape)
        if always_contiguous(one) and always_contiguous(other):
            stride = list(_contiguous(shape))
        else:
            stride = self._sizes(one.stride(), other.stride())
            self.world.layouts |= _symbols(
                a for a, b in zip(stride, one.stride(), strict=True) if not _same(a, b)
            )
        (offset,) = self._sizes([one.storage_offset()], [other.storage_offset()])
        (nbytes,) = self._sizes(
            [one.untyped_storage().nbytes()], [other.untyped_storage().nbytes()]
        )
        return self.world.laid_out(one, shape, stride, offset, nbytes)

    def _refuse(self, what: str, one: object, other: object) -> None:
        raise CaptureError(
            f"{self.where} returns a tensor whose {what} the run decides ({one} or {other}); "
            "later ops cannot be followed. Return tensors of one kind"
        )

    def _sizes(self, ones: Sequence[Size], others: Sequence[Size]) -> list[Size]:
        return [
            one if _same(one, other) or self._is_made(one) else self._size()
            for one, other in zip(ones, others, strict=True)
        ]

    def _size(self) -> torch.SymInt:
        size = self.world.unknown_size()
        self._made.add(size.node.expr)
        return size

    def _is_made(self, number: object) -> bool:
        return isinstance(number, SYMBOLS) and number.node.expr in self._made


def _kind(number: object) -> type:
    kinds = {torch.SymInt: int, torch.SymFloat: float, torch.SymBool: bool}
    return kinds.get(type(number), type(number))


def _contiguous(shape: Sequence[Size]) -> Iterator[Size]:
    for place in range(len(shape)):
        step: Any = 1
        for size in shape[place + 1 :]:
            step = step * torch.sym_max(size, 1)  # type: ignore[no-untyped-call]  # torch's own
        yield step


def _is_symbol(size: object) -> bool:
    return isinstance(size, torch.SymInt)


def _symbols(sizes: Iterable[Size]) -> set[object]:
    return {
        symbol
        for size in sizes
        if isinstance(size, torch.SymInt)
        for symbol in size.node.expr.free_symbols
    }


def is_unlaid(value: object, world: World) -> bool:
    """Whether a tensor's strides are unknown even where its sizes are not.  Fake kernels
    then guess the strides of their results too."""
    return (
        isinstance(value, torch.Tensor)
        and has_storage(value)
        and not world.layouts.isdisjoint(_symbols(value.stride()))
    )


def unlaid(tensor: torch.Tensor, world: World) -> torch.Tensor:
    """The same storage under a tensor with unknown strides."""
    with world.mode:
        return tensor.as_strided(
            tensor.shape, _unknown_strides(tensor, world), tensor.storage_offset()
        )


def unlay(tensor: torch.Tensor, world: World) -> None:
    """Make the strides of a tensor unknown."""
    with world.mode:
        tensor.as_strided_(tensor.shape, _unknown_strides(tensor, world), tensor.storage_offset())


def _unknown_strides(tensor: torch.Tensor, world: World) -> list[torch.SymInt]:
    stride = [world.unknown_size() for _ in tensor.shape]
    world.layouts |= _symbols(stride)
    return stride


def stand_in(tensor: torch.Tensor, world: World) -> torch.Tensor:
    """A tensor of the same type on a storage of its own, of unknown size."""
    size = world.unknown_size
    return world.laid_out(tensor, tensor.shape, tensor.stride(), size(), size())


def unsized(tensor: torch.Tensor, world: World) -> torch.Tensor:
    """The same with sizes and strides that are unknown too."""
    if not tensor.dim() or not has_storage(tensor):
        return tensor
    size = world.unknown_size
    shape = [size() for _ in tensor.shape]
    return world.laid_out(tensor, shape, _unknown_strides(tensor, world), size(), size())


def recorded(value: object, world: World) -> object:
    """A result as its capture recorded it, on storages of its own; the sizes which that took
    for symbols are not known."""
    join = Join(world, "the capture")
    return tree_map(lambda leaf: _recorded(leaf, join), value)


def _recorded(leaf: object, join: Join) -> object:
    if isinstance(leaf, SYMBOLS):
        return join.unknown(leaf)
    if not isinstance(leaf, torch.Tensor):
        return leaf
    world = join.world
    if not has_storage(leaf) or not any(map(_is_symbol, _layout(leaf))):
        return world.apart(leaf)
    shape = [world.unknown_size() if _is_symbol(n) else n for n in leaf.shape]
    if always_contiguous(leaf):
        stride: list[Size] = list(_contiguous(shape))
    else:
        stride = [world.unknown_size() if _is_symbol(n) else n for n in leaf.stride()]
        world.layouts |= _symbols(stride)
    size = world.unknown_size
    return world.laid_out(leaf, shape, stride, size(), size())
