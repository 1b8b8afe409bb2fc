"""Operator calls to judge: a function, its example tensors, and which variant it is.

They come from torch's own table of operators with samples (`op_db`): each operator as a
function, as a method, in place, and with `out=`, wherever it has these.
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from attrs import evolve, frozen
from hypothesis import settings
from torch import Tensor
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo, SampleInput
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

# Importing torch's own tests loads a hypothesis profile of theirs, for the whole process.
settings.load_profile("default")

Function = Callable[..., Any]

PREFERRED = (torch.float32, torch.int64, torch.complex64, torch.bool)
"""The dtypes to sample; most samples are of the first that an operator supports."""

SEVERAL = 8
FEW = 2


@frozen(eq=False)
class Call:
    """One call of an operator on example tensors: `function(*tensors)`."""

    operator: str
    variant: str
    number: int
    function: Function
    tensors: tuple[Tensor, ...]

    def __str__(self) -> str:
        return f"{self.operator} {self.variant} {self.number}"

    def run(self) -> object:
        """Run it on copies of its tensors that share storage as they do."""
        memo: dict[int, Any] = {}
        with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            return self.function(*[t.__deepcopy__(memo) for t in self.tensors])  # type: ignore[no-untyped-call]  # torch's own


def operators() -> dict[str, list[OpInfo]]:
    """Every operator by name, with the entries that torch has samples for."""
    found: dict[str, list[OpInfo]] = {}
    for info in op_db:
        found.setdefault(info.name, []).append(info)
    return found


def calls_of(infos: Sequence[OpInfo], several: int = SEVERAL, few: int = FEW) -> Iterator[Call]:
    """The calls of one operator that run at all, up to `several` samples per variant."""
    for info in infos:
        supported = info.supported_dtypes("cpu")  # type: ignore[no-untyped-call]  # torch's own
        dtypes = [dtype for dtype in PREFERRED if dtype in supported]
        dtypes = dtypes or sorted(supported, key=str)[:1]
        numbers = itertools.count()
        for place, dtype in enumerate(dtypes):
            for sample in _samples(info, dtype, few if place else several):
                number = next(numbers)
                for call in _variants(info, sample, number):
                    # A sample may be for a variant only; what eager refuses is no program.
                    with contextlib.suppress(Exception):
                        call.run()
                        yield call


def _samples(info: OpInfo, dtype: torch.dtype, count: int) -> Iterator[SampleInput]:
    torch.manual_seed(0)
    samples = info.sample_inputs("cpu", dtype, requires_grad=False)  # type: ignore[no-untyped-call]  # torch's own
    try:
        yield from itertools.islice(samples, count)
    except Exception:  # some samples need a device or a library that is not here
        return


def _variants(info: OpInfo, sample: SampleInput, number: int) -> Iterator[Call]:
    name = f"{info.name}.{info.variant_test_name}" if info.variant_test_name else info.name
    function = _call(name, "function", number, _by_name(info.op), sample)
    yield function
    for variant, method in (("method", info.method_variant), ("in-place", info.inplace_variant)):
        if method is not None:
            yield _call(name, variant, number, _by_name(method), sample)
    if info.supports_out:
        with contextlib.suppress(Exception):
            yield _with_out(function)


def _by_name(function: Any) -> Function:
    """A method of tensors by its name, because only so can a tracer's proxy take part."""
    name = getattr(function, "__name__", "")
    if getattr(Tensor, name, None) is not function:
        return function  # type: ignore[no-any-return]  # torch's own
    return lambda self, *args, **kwargs: getattr(self, name)(*args, **kwargs)


def _call(name: str, variant: str, number: int, run: Function, sample: SampleInput) -> Call:
    arguments = (sample.input, sample.args, sample.kwargs)
    leaves, spec = tree_flatten(arguments)
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    # A tensor that a sample gives twice is one input.
    distinct = list({id(leaves[place]): leaves[place] for place in places}.values())
    index = {id(tensor): number for number, tensor in enumerate(distinct)}
    which = {place: index[id(leaves[place])] for place in places}
    plain = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]

    def function(*tensors: Any, **out: Any) -> Any:
        filled = [
            tensors[which[place]] if place in which else leaf for place, leaf in enumerate(plain)
        ]
        given, args, kwargs = tree_unflatten(filled, spec)
        return run(given, *args, **kwargs, **out)

    return Call(name, variant, number, function, tuple(distinct))


def _with_out(call: Call) -> Call:
    """The same call into tensors that are there already."""
    result = call.run()
    single = isinstance(result, Tensor)
    parts = tree_leaves(result)
    if not all(isinstance(part, Tensor) and part.layout is torch.strided for part in parts):
        raise TypeError("it returns more than tensors")
    # Whatever the last run left in memory must not look as if it had been written already.
    outs = [torch.full(part.shape, 3, dtype=part.dtype) for part in parts]
    given = len(call.tensors)

    def function(*tensors: Any) -> Any:
        out = tensors[given:]
        return call.function(*tensors[:given], out=out[0] if single else tuple(out))

    filling = evolve(call, variant="out", function=function, tensors=(*call.tensors, *outs))
    for part, out, found in zip(parts, outs, tree_leaves(filling.run()), strict=True):
        if torch.equal(found, out) and not torch.equal(found, part):
            raise TypeError("torch leaves `out` as it was")
    return filling
