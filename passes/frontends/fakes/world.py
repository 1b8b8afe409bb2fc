"""The fake world: tensors with shapes, strides and storages, but without data.

Programs are executed here to see which storages are shared and written.  State and
inputs enter through `World`, which keeps the sharing of the real tensors (tied weights,
views among buffers, inputs that overlap) and never touches the real ones.

Storages are known by identity.  An address may be reused once a storage is freed, so a
`World` keeps every tensor it has numbered alive.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeCopyMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from passes.errors import CaptureError
from passes.frontends.fakes.asserted import Asserted
from passes.frontends.fakes.composites import ASKING, sizes_asked_alone
from passes.frontends.fakes.kernels import FakeMode
from passes.frontends.fakes.limits import Limits
from passes.frontends.fakes.reach import PLAIN, module_tensors, tensors_inside
from passes.frontends.fakes.unsupported import is_plain, memory_of, why_unsupported
from passes.program import TensorType

Copied = TypeVar("Copied")


def known_int(size: object) -> int | None:
    """A size as an int: a symbolic one by its hint, None if the run decides it."""
    if isinstance(size, int):
        return size
    # A hint belongs to an example the user gave; a size born in the program has none.
    node = getattr(size, "node", None)
    if node is None or node.is_nested_int():  # the size of a ragged dimension is no number
        return None
    hint = getattr(node, "hint", None)
    return int(hint) if hint is not None else None


def _known_ints(sizes: Sequence[int | torch.SymInt]) -> tuple[int | None, ...]:
    for size in sizes:
        if type(size) is not int:
            return tuple(map(known_int, sizes))
    return tuple(sizes)  # type: ignore[arg-type]  # ints, all of them


def type_of(tensor: torch.Tensor) -> TensorType:
    """The type of a tensor, real or fake.  Without strides for one that has not one storage."""
    if not has_storage(tensor):
        return TensorType(
            tuple(known_int(size) for size in tensor.shape),
            () if tensor.shape else (None,),
            None,
            _dtype(tensor),
            str(tensor.device),
        )
    return TensorType(
        _known_ints(tensor.shape),
        _known_ints(tensor.stride()),
        known_int(tensor.storage_offset()),
        _dtype(tensor),
        _device(tensor.device),
    )


_DTYPES: dict[torch.dtype, str] = {}


def _dtype(tensor: torch.Tensor) -> str:
    name = _DTYPES.get(tensor.dtype)
    if name is None:
        name = _DTYPES[tensor.dtype] = str(tensor.dtype).removeprefix("torch.")
    return name


_DEVICES: dict[torch.device, str] = {}


def _device(device: torch.device) -> str:
    name = _DEVICES.get(device)
    if name is None:
        name = _DEVICES[device] = str(device)
    return name


def unwrapped(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor inside those of functorch's transforms, which have no storage."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def has_storage(tensor: torch.Tensor) -> bool:
    """Whether a tensor has one storage, which tells whom it shares memory with.

    Sparse tensors have several; subclasses may wrap any number of tensors.
    """
    return tensor.layout is torch.strided and is_plain(type(tensor))


def storage_of(tensor: torch.Tensor) -> int:
    """The identity of a tensor's storage, valid while the tensor lives."""
    tensor = unwrapped(tensor)
    if not has_storage(tensor):
        # Sparse tensors and wrappers have several storages; the tensor stands for all of them.
        return id(tensor)
    identity: int = tensor.untyped_storage()._cdata
    return identity


def nbytes_of(tensor: torch.Tensor) -> int | None:
    """Bytes of the tensor's whole storage; None if the run decides."""
    return known_int(storage_bytes(tensor))


def storage_bytes(tensor: torch.Tensor) -> int | torch.SymInt | None:
    """The same, as the symbol it may be; None for a tensor that has not one storage."""
    tensor = unwrapped(tensor)
    return tensor.untyped_storage().nbytes() if has_storage(tensor) else None


def tensors_in(result: object) -> list[torch.Tensor]:
    """The tensor leaves of a result, in pytree order."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, PLAIN):
        return []
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]


class World:
    """One fake mode, and the way into it for state and inputs.

    `device` replaces the meta device of inputs, so that they meet the model's parameters
    on one device.  Sizes that the data decides are symbols.  `env` are those of another world
    to share.
    """

    def __init__(
        self,
        device: torch.device | None = None,
        env: Asserted | None = None,
    ) -> None:
        self.env = env or Asserted()
        self.mode = FakeMode(
            allow_non_fake_inputs=False,
            shape_env=self.env,
            static_shapes=True,
        )
        self.device = device
        self.limits = Limits(self.env)
        self.layouts: set[object] = set()  # symbols that are strides no size tells
        self._bases: dict[int, torch.Tensor] = {}
        self._alive: list[object] = []
        self._memo: dict[int, object] = {}
        self._begins: list[int] = []  # of real storages in memory, ascending
        self._memory: dict[int, tuple[int, int]] = {}  # begin -> end, identity

    def tensor(self, real: torch.Tensor) -> torch.Tensor:
        """The fake of a real tensor; fakes share storage exactly where reals do."""
        known = self._memo.get(id(real))
        if isinstance(known, torch.Tensor):
            return known
        self.refuse(real)
        base = real._base
        if base is not None and real.is_complex() != base.is_complex():  # torch makes no such fake
            self._bases.setdefault(storage_of(real), self.tensor(base))
            fake = self._on_base(real)
        else:
            fake = self._on_base(real) if real.is_meta or self.is_fake(real) else self._from(real)
        self._memo[id(real)] = fake
        return fake

    def adopt(self, real: torch.Tensor, fake: torch.Tensor) -> None:
        """Take a fake of this world for a real tensor."""
        self._alive.append(real)
        self._memo[id(real)] = fake

    def beside(self) -> World:
        """Another world, in which a program is recorded that is analysed in this one."""
        return World(self.device)

    def refuse(self, real: torch.Tensor) -> None:
        """Raise for a tensor that cannot be followed; else keep it alive."""
        self._alive.append(real)
        reason = why_unsupported(real)
        if reason is not None:
            raise CaptureError(f"a tensor that the program uses is {reason}")
        if not (real.is_meta or self.is_fake(real)):
            self._refuse_overlap(real)

    def _refuse_overlap(self, real: torch.Tensor) -> None:
        """Two storages over the same memory, as numpy makes them, cannot be told apart; nor can
        a sparse tensor and who else has one of its parts."""
        strided = real.layout is torch.strided
        for storage in memory_of(real):
            begin, end = storage.data_ptr(), storage.data_ptr() + storage.nbytes()
            known = end, storage._cdata if strided else id(real)
            if begin == end or self._memory.get(begin) == known:
                continue
            place = bisect_left(self._begins, begin)
            before = self._memory[self._begins[place - 1]][0] if place else begin
            after = self._begins[place] if place < len(self._begins) else end
            if before > begin or after < end:
                raise CaptureError(
                    "two of the inputs, parameters and buffers are different storages over the "
                    "same memory (from numpy, or by pointer), or a sparse tensor and one of its "
                    "parts, so writes to one cannot be followed to the other: clone one of them"
                )
            self._begins.insert(place, begin)
            self._memory[begin] = known

    def is_fake(self, tensor: torch.Tensor) -> bool:
        return isinstance(tensor, torch._subclasses.FakeTensor)

    def _from(self, real: torch.Tensor) -> torch.Tensor:
        try:
            return self.mode.from_tensor(real, static_shapes=True)
        except Exception as error:
            raise CaptureError(
                f"a {str(real.layout).removeprefix('torch.')} tensor among the inputs or the "
                f"state has no fake: {type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else ''}. Give a copy of it, or a "
                "dense one"
            ) from error

    def _on_base(self, source: torch.Tensor) -> torch.Tensor:
        """A fake like a meta tensor, or like one of another fake world, or a complex view.

        Symbolic sizes are taken at their hints; tensors that share a storage still do.
        """
        size = [known_int(s) for s in source.shape]
        stride = [known_int(s) for s in source.stride()]
        offset = known_int(source.storage_offset())
        if None in size or None in stride or offset is None:
            raise CaptureError(
                f"an input has a size that only a run decides ({tuple(source.shape)}); "
                "give example inputs"
            )
        key = storage_of(source)
        device = self.device if source.is_meta and self.device else source.device
        with self.mode:
            if key not in self._bases:
                count = nbytes_of(source) or 0
                self._bases[key] = torch.empty(count, dtype=torch.uint8, device=device)
            storage = self._bases[key].untyped_storage()
            fake = torch.empty(0, dtype=source.dtype, device=device)
            fake.set_(storage, offset, size, stride)  # type: ignore[arg-type]  # no None
            fake = with_bits_of(source, fake)
            if isinstance(source, nn.Parameter):
                return nn.Parameter(fake, source.requires_grad)
            return fake.requires_grad_(source.requires_grad)

    def calling(self, target: object) -> AbstractContextManager[object]:
        """What a node that calls something is executed in, besides the fake mode."""
        may_ask = target in ASKING or not isinstance(target, OpOverload)
        return sizes_asked_alone() if may_ask and self.is_symbolic else nullcontext()

    def inside(self) -> AbstractContextManager[object]:
        """What a sub-graph is walked in."""
        return self.env.inside()

    def input(self, given: object, recorded: object) -> object:
        """What stands for an input that a capture has recorded."""
        return self.value(given)

    def value(self, real: object) -> object:
        """A pytree of inputs with each tensor replaced by its fake."""
        if isinstance(real, PLAIN):
            return real
        return tree_map(lambda leaf: self._leaf(leaf), real)

    def _leaf(self, leaf: object) -> object:
        if isinstance(leaf, torch.Tensor):
            return self.tensor(leaf)
        if isinstance(leaf, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            hint = getattr(leaf.node, "hint", None)
            if hint is None:
                raise CaptureError(f"an input is {leaf}, which only a run decides; give examples")
            return hint
        inside = [self.tensor(tensor) for _, tensor in tensors_inside("", leaf)]
        # An object, such as a cache: the model may change it, and must not change the user's.
        return self.copy(leaf) if inside else leaf

    def number(self, real: torch.Tensor) -> torch.Tensor:
        """The fake of a small tensor on the CPU, which knows the tensor's values."""
        fake = self.valued(real)
        self._alive.append(real)
        self._memo[id(real)] = fake
        return fake

    def valued(self, real: torch.Tensor) -> torch.Tensor:
        """The same for a tensor that a program makes: held by nobody here."""
        with _disable_current_modes():
            fake: torch.Tensor = self.mode.fake_tensor_converter.from_real_tensor(
                self.mode, real.detach().clone(), make_constant=True
            )
        return fake

    def module(self, real: nn.Module) -> nn.Module:
        """A copy of a module whose tensors are fakes.  The original is not touched."""
        known = self._memo.get(id(real))
        if isinstance(known, nn.Module):
            return known
        for tensor in module_tensors(real).values():
            self.tensor(tensor)
        return self.copy(real)

    def copy(self, real: Copied) -> Copied:
        """A deep copy of an object in which the tensors that have a fake are replaced."""
        try:
            with FakeCopyMode(self.mode):
                return copy.deepcopy(real, self._memo)
        except Exception as error:
            raise CaptureError(
                f"a {type(real).__qualname__} cannot be copied ({type(error).__name__}: {error}), "
                "and analysis runs copies of modules, never the user's own"
            ) from error

    @property
    def is_symbolic(self) -> bool:
        """Whether there is anything here that only a run decides."""
        return bool(self.env.unbacked_symint_counter or self.env.unbacked_symfloat_counter)

    def most_bytes(self, tensor: torch.Tensor) -> int | None:
        """What the bytes of a tensor's storage cannot exceed, where the data decides them."""
        nbytes = storage_bytes(tensor)
        if nbytes is None or known_int(nbytes) is not None:
            return None
        assert isinstance(nbytes, torch.SymInt)
        most = self.limits.most(nbytes)
        return None if most is None else most.constant

    def unknown_size(self) -> torch.SymInt:
        """A size that only the run decides."""
        return self.env.unknown_size()

    def laid_out(
        self,
        tensor: torch.Tensor,
        shape: Sequence[int | torch.SymInt],
        stride: Sequence[int | torch.SymInt],
        offset: int | torch.SymInt,
        nbytes: int | torch.SymInt,
    ) -> torch.Tensor:
        """A new fake of the dtype and device of a tensor, on a storage of its own."""
        with self.mode:
            storage = torch.empty(nbytes, dtype=torch.uint8, device=tensor.device)
            fake = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
            fake.set_(storage.untyped_storage(), 0, (0,), (1,))
            return with_bits_of(tensor, fake.as_strided(shape, stride, offset))

    def like(self, tensor: torch.Tensor) -> torch.Tensor:
        """A new fake of the same type with a storage of its own."""
        with self.mode:
            if not has_storage(tensor):
                return torch.empty_like(tensor)
            made = torch.empty_strided(
                tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
            )
            return with_bits_of(tensor, made)

    def apart(self, tensor: torch.Tensor) -> torch.Tensor:
        """A fake of the type of a tensor of another fake world, with its own storage."""
        return self.like(self._on_base(tensor))


def with_bits_of(source: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """A view of a tensor that is to be conjugated or negated when read, as another one is."""
    if source.is_conj():
        tensor = tensor.conj()
    return torch._neg_view(tensor) if source.is_neg() else tensor
