"""What `fits` claims of models against the same models run on real tensors.

The recorded forward calls the operators that the real one calls and computes the same, and what
is needed in all is, to the byte, what its run holds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

import passes
from passes import Program
from tests.oracle.eager import Held
from tests.oracle.models import _cnn, _Recurrent
from tests.oracle.run import observe
from tests.oracle.steps import STEPS
from tests.oracle.test_models import _check_possible, _check_writes, _pair_up
from tests.oracle.test_steps import Log, _both_sided, _name, _seeded

QUICK = {"gpt2", "bert", "cnn", "recurrent", "variational", "mixer", "cached", "llama"}
"""Those that every test run has; the rest take minutes."""

Called = tuple[nn.Module, tuple[Any, ...], Mapping[str, Any], bool]
"""A model, its arguments, and whether it asks if it is traced."""


class _Cached(nn.Module):
    """Attention that returns its keys and values in an object torch does not know."""

    class Cache:
        def __init__(self, *held: Tensor) -> None:
            self.held = list(held)

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 24)
        self.frequencies = nn.Buffer(torch.rand(4, 8), persistent=False)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Cache]:
        query, key, value = self.project(self.drop(x)).split(8, -1)
        key, query = key * self.frequencies, query * self.frequencies
        made = nn.functional.scaled_dot_product_attention(query, key, value)
        return made, self.Cache(key, value)


def _cached() -> Called:
    return _Cached().train(), (torch.randn(2, 4, 8),), {}, False


def _cnn_training() -> Called:
    return _cnn().train(), (torch.randn(2, 3, 8, 8),), {}, False


def _recurrent() -> Called:
    return _Recurrent().eval(), (torch.randn(2, 5, 4),), {}, False


def _llama_with_cache() -> Called:
    model, args, keywords, asks = _of_step("llama")()
    config: Any = model.config
    config.use_cache = True
    return model.eval(), args, {"input_ids": keywords["input_ids"]}, asks


def _of_step(name: str) -> Callable[[], Called]:
    def build() -> Called:
        case = STEPS[name]()
        place = len(case.inputs) - case.targets
        return case.model, case.inputs[:place], case.keywords, case.asks

    return build


CASES: dict[str, Callable[[], Called]] = {
    **{name: _of_step(name) for name in STEPS},
    "cached": _cached,
    "cnn": _cnn_training,
    "recurrent": _recurrent,
    "llama_with_cache": _llama_with_cache,
}


def _real_tensors(
    program: Program, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[Tensor]:
    """The real tensor of each placeholder, by the name of its entry value."""
    given = inspect.signature(model.forward).bind(*args, **kwargs).arguments
    named: dict[str, Tensor] = {}
    for path, leaf in pytree.tree_flatten_with_path(dict(given))[0]:
        keys = [str(getattr(key, "key", f"[{getattr(key, 'idx', key)}]")) for key in path]
        named[".".join(keys).replace(".[", "[")] = leaf
        named[keys[-1]] = leaf  # of the keywords that forward has no name for
    named |= {**dict(model.named_buffers()), **dict(model.named_parameters())}
    graph = program.graph
    assert isinstance(graph, GraphModule)
    count = len(graph.graph.find_nodes(op="placeholder"))
    for entry in program.entry.values[:count]:
        yield named[entry.name]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in CASES]
)
def test_what_is_needed_is_what_the_run_holds(name: str) -> None:
    model, args, kwargs, asks = _seeded(CASES[name])
    fit = passes.fits(model, args or kwargs, budget="1 TiB")
    program = fit.program
    graph = program.graph
    assert isinstance(graph, GraphModule)
    values = list(_real_tensors(program, model, args, kwargs))
    run = observe(graph, values)

    assert not program.assumed
    aliases, memory = passes.aliases(program), passes.memory(program)
    if name != "recurrent":  # the real layer has no workspace, its fake has an empty one
        claimed = _pair_up(program, aliases, run)
        assert not _check_possible(program, aliases, run)
        _check_writes(program, aliases, run, claimed)
    assert {op.name: memory.at(op) for op in program.ops} == dict(run.alive)
    assert fit.needed == run.peak_bytes + _nbytes([*values, *_constants(graph)])
    assert fit.needed == sum(fit.by_category.values())
    _check_results(model, args, kwargs, program, values, asks)


def _constants(graph: GraphModule) -> list[Tensor]:
    return [getattr(graph, str(node.target)) for node in graph.graph.find_nodes(op="get_attr")]


def _check_results(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    program: Program,
    values: list[Tensor],
    asks: bool,
) -> None:
    """The graph calls the operators that the model calls, and returns what it returns; and
    Python held as much."""
    graph = program.graph
    assert isinstance(graph, GraphModule)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    log, held = Log(), Held(values)
    with torch.no_grad(), log, held:
        wanted = _seeded(lambda: model(*args, **kwargs))
    model.load_state_dict(state)
    with torch.no_grad():
        found = _seeded(lambda: graph(*values))
    close = torch.allclose if asks else torch.equal
    returned = list(_reached(wanted))
    for tensor in returned:
        same = [one for one in found if one.shape == tensor.shape]
        assert any(close(one, tensor) for one in same)
    assert _nbytes(returned) == _nbytes(found)  # and it returns nothing else
    if not asks:
        targets = [node.target for node in graph.graph.nodes]
        ours = [_name(target) for target in targets if isinstance(target, OpOverload)]
        assert _both_sided(ours) == _both_sided(log.names)
        assert program.held_by_python == held.most


def _reached(result: object) -> Iterator[Tensor]:
    """The tensors that an object of any kind holds."""
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, Mapping):
        yield from _reached(list(result.values()))
    elif isinstance(result, (list, tuple)):
        for part in result:
            yield from _reached(part)
    elif hasattr(result, "__dict__") and not isinstance(result, type):
        yield from _reached(list(vars(result).values()))


def _nbytes(tensors: list[Tensor]) -> int:
    """Of their storages, each once."""
    return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}.values())
