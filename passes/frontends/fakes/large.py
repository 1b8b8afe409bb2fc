"""Where real kernels give results more bytes than fake ones do."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from passes.frontends.effects.schema import (
    BEGINS_AS_ARGUMENT,
    CLONES_STORAGE,
    REDUCES_IN_PLACE,
)
from passes.frontends.effects.views import repeats
from passes.frontends.fakes.world import known_int, storage_bytes, tensors_in, type_of

_LARGER_IN_TRUTH = CLONES_STORAGE.keys() | REDUCES_IN_PLACE | BEGINS_AS_ARGUMENT


def truly_large(name: str, args: Sequence[object], result: object) -> object:
    """The fake result of the operator `name`, with the storage sizes that its real kernel
    gives it."""
    if name not in _LARGER_IN_TRUTH:
        return result
    if name in CLONES_STORAGE:
        cloned = CLONES_STORAGE[name]
        sources = tensors_in(args[cloned.argument])
        grown = [
            _as_behind(part, source, cloned.batched)
            for part, source in zip(tensors_in(result), sources, strict=True)
        ]
        return grown[0] if isinstance(result, torch.Tensor) else grown
    first = args[0]
    if not isinstance(first, torch.Tensor) or not isinstance(result, torch.Tensor):
        return result
    if name in BEGINS_AS_ARGUMENT:
        return _grown(result, first.numel() * first.element_size())
    if result.dim() == 0:
        shapes = [tensor.shape for tensor in tensors_in(list(args[:2]))]
        size = prod(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]  # torch's own
        return _grown(result, size * result.element_size())
    return result


def _as_behind(result: torch.Tensor, source: torch.Tensor, batched: bool) -> torch.Tensor:
    """A fake result with the elements behind a source; where batched, for each time that it has
    the source's."""
    nbytes = storage_bytes(source)
    if nbytes is None or repeats(type_of(source)):
        return result
    own, other = known_int(result.numel()), known_int(source.numel())
    return _grown(result, nbytes * own // other if batched and own and other else nbytes)


def _grown(tensor: torch.Tensor, nbytes: int | torch.SymInt | None) -> torch.Tensor:
    """A fake tensor on a storage of at least this many bytes; of as many, where only the run
    knows how many these are."""
    before, known = storage_bytes(tensor), known_int(nbytes)
    comparable = known is not None and known_int(before) is not None
    if nbytes is None or (comparable and before and nbytes <= before):
        return tensor
    if comparable and isinstance(nbytes, int):
        tensor.untyped_storage().resize_(nbytes)
        return tensor
    # No storage is resized to a symbol.
    whole = torch.empty(nbytes // tensor.itemsize, dtype=tensor.dtype, device=tensor.device)
    return whole.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
