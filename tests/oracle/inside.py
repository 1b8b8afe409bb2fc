"""The oracle inside sub-graphs: run a graph, and the graphs its operators call, node by node.

The run of `run.py` takes an operator with sub-graphs for one node.  Here the sub-graphs are run
too, with what torch's own implementations hold while a sub-graph runs:

    any operator   its operands, to the end; the inputs of a sub-graph, as long as that runs
    while_loop     what it carries, and the last answer of its condition, while the body runs
    zero times     a while_loop that never runs its body returns clones
    stack_output   besides, what every iteration returned, until it is stacked in the end
    scan           what it carries; the parts of the first and the last iteration; the stacks
    map            what every iteration returned, until it is stacked in the end
    otherwise      the results are the sub-graph's own

Like `run.py` it predicts nothing, and shares no code with the analyses it is the judge of.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops.flex_attention import sdpa_dense
from torch._ops import HigherOrderOperator
from torch.fx import GraphModule, Node

from .run import _bytes, _fresh, _leaves, _seeded, _tensors

__all__ = ["Inside", "Instance", "Iterations", "observe_inside"]

Iterations = tuple[tuple[str, int], ...]
"""The loops around an instance, outermost first, each with the number of its iteration."""


@dataclass(frozen=True)
class Instance:
    """One execution of one op.

    `began` and `ended` number the moments of the run: what an op's sub-graphs did lies between.
    `storages` are those of its tensor leaves.  `written` has the storages there before it of which
    it, or an op inside it, bumped a version or changed bytes; `changed` only the latter.  `alive`
    is the bytes held, at its end or when it stacks, in storages that are not entry storages.
    """

    op: str
    iterations: Iterations
    began: int
    ended: int
    storages: tuple[int, ...]
    written: frozenset[int]
    changed: frozenset[int]
    alive: int


@dataclass(frozen=True)
class Inside:
    """What one run did: every instance of every op, by path, such as `cond/true/mul`."""

    instances: Mapping[str, Sequence[Instance]]
    times: Mapping[tuple[str, Iterations], int]
    """How often each loop ran its body: by its path and the loops around it."""

    nbytes: Mapping[int, int]
    entry: frozenset[int]
    result: object

    @property
    def all_instances(self) -> list[Instance]:
        """In the order in which they ended."""
        every = (instance for found in self.instances.values() for instance in found)
        return sorted(every, key=lambda instance: instance.ended)

    @property
    def peak_bytes(self) -> int:
        """The most bytes held at any op."""
        return max(instance.alive for found in self.instances.values() for instance in found)

    def meet(self, one: Instance, other: Instance) -> bool:
        """Whether the values of two instances can be there together, as values.

        In a loop they are values of one iteration.  After a loop, only those of the last
        iteration are left.
        """
        if one.ended > other.ended:
            one, other = other, one
        for depth, (loop, number) in enumerate(one.iterations):
            if depth < len(other.iterations) and other.iterations[depth][0] == loop:
                if other.iterations[depth][1] != number:
                    return False
            else:
                return self._is_last(one.iterations, depth)
        return True

    def _is_last(self, iterations: Iterations, depth: int) -> bool:
        for place in range(depth, len(iterations)):
            loop, number = iterations[place]
            if number != max(self.times[loop, iterations[:place]] - 1, 0):
                return False
        return True


def observe_inside(graph_module: GraphModule, placeholder_values: Sequence[object]) -> Inside:
    """Run the graph on copies of the state, and record what it did, in its sub-graphs too."""
    run = _Inside(*_fresh(graph_module, placeholder_values))
    _seeded(lambda: run.program(list(graph_module.graph.nodes)))
    return Inside(run.instances, run.times, dict(enumerate(run.sizes)), run.entry, run.result)


class _Inside:
    """Every storage is kept, so that no address is given out twice; what counts as held is what
    the frames hold: lists of objects, one per sub-graph or operator that is running."""

    def __init__(self, holder: nn.Module, values: Sequence[object]) -> None:
        self.holder = holder
        self.values = list(values)
        self.instances: dict[str, list[Instance]] = {}
        self.times: dict[tuple[str, Iterations], int] = {}
        self.frames: list[_Frame] = []
        self.moment = 0
        self.high = 0
        self.result: object = None
        self.sizes: list[int] = []
        self._numbers: dict[int, int] = {}
        self._kept: list[torch.UntypedStorage] = []
        self._known: dict[int, tuple[Tensor, int]] = {}  # with the storage it had at first
        self.entry: frozenset[int] = frozenset()
        self.remember(_tensors(list(self.values), holder))
        self.entry = frozenset(self._numbers.values())

    # -- running -----------------------------------------------------------------------------

    def program(self, nodes: Sequence[Node]) -> None:
        self.result = self.graph(self.holder, nodes, tuple(self.values), (), ())

    def body(
        self, module: object, inputs: tuple[object, ...], path: tuple[str, ...], loops: Iterations
    ) -> Any:
        assert isinstance(module, GraphModule)
        return self.graph(module, list(module.graph.nodes), inputs, path, loops)

    def graph(
        self,
        module: nn.Module,
        nodes: Sequence[Node],
        inputs: tuple[object, ...],
        path: tuple[str, ...],
        loops: Iterations,
    ) -> object:
        """Run one graph.  Its inputs are held by whoever calls it, as long as it runs."""
        assert len(inputs) == sum(node.op == "placeholder" for node in nodes)
        dying = _dying(nodes)
        waiting = iter(inputs)
        result: object = None
        with self.frame(inputs) as frame:
            for node in nodes:
                name = "/".join((*path, node.name))
                run = functools.partial(self.node, module, node, frame, waiting, name, loops)
                result = self.watched(name, loops, frame, module, node, run)
                for dead in dying.get(node, ()):
                    del frame.env[dead]
        return result

    def node(
        self,
        module: nn.Module,
        node: Node,
        frame: _Frame,
        waiting: Iterator[object],
        name: str,
        loops: Iterations,
    ) -> object:
        """What one node evaluates to."""
        target: Any = node.target
        args, kwargs = frame.value(node.args), frame.value(node.kwargs)
        if node.op == "placeholder":
            return next(waiting)
        if node.op == "get_attr":
            return _attribute(module, target)
        if node.op == "call_module":
            return _attribute(module, target)(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        if node.op == "output":
            return args[0]
        if isinstance(target, HigherOrderOperator) and target.__name__ in _OPERATORS:
            return _OPERATORS[target.__name__](self, args, tuple(name.split("/")), loops)
        return target(*args, **kwargs)

    def stack(self, every: Sequence[Any]) -> tuple[Any, ...]:
        """What all iterations returned, stacked, and counted while both are held."""
        parts = list(zip(*every, strict=True))
        stacks = tuple(None if part[0] is None else torch.stack(part) for part in parts)
        with self.frame(stacks):
            self.high = max(self.high, self.alive())
        return stacks

    @contextmanager
    def frame(self, *held: object) -> Iterator[_Frame]:
        """Objects that are held from here on, and until it is left."""
        self.frames.append(_Frame(list(held), {}))
        yield self.frames[-1]
        self.frames.pop()

    # -- watching ----------------------------------------------------------------------------

    def watched(
        self,
        name: str,
        loops: Iterations,
        frame: _Frame,
        module: nn.Module,
        node: Node,
        run: Callable[[], object],
    ) -> object:
        """Run one node and record it."""
        operands = [frame.value(node.args), frame.value(node.kwargs)]
        if node.op == "call_module":
            operands.append(_attribute(module, str(node.target)))
        self.remember(_tensors(*operands))
        began = self.tick()
        before = len(self._kept)
        bytes_before = {
            number: _bytes(self._kept[number]).clone()
            for number in {self.number(tensor) for tensor in _tensors(*operands)}
        }
        versions = {
            key: (tensor._version, self.number(tensor)) for key, (tensor, _) in self._known.items()
        }
        inside = self.moment
        self.high = 0
        result = frame.env[node] = run()
        changed = {
            number
            for number, old in bytes_before.items()
            if not torch.equal(old, _bytes(self._kept[number]))
        }
        bumped = {
            number
            for key, (version, number) in versions.items()
            if self._known[key][0]._version != version
        }
        if self.moment > inside:
            for other in self.all_since(inside):
                changed |= other.changed
                bumped |= other.written
        storages = tuple(map(self.number, _leaves(result)))
        self.remember(_tensors(result))
        self.sizes = [
            max(size, storage.nbytes())
            for size, storage in zip(self.sizes, self._kept, strict=True)
        ]
        there = frozenset(range(before))
        instance = Instance(
            op=name,
            iterations=loops,
            began=began,
            ended=self.tick(),
            storages=storages,
            written=there & (changed | bumped),
            changed=there & changed,
            alive=max(self.alive(), self.high),
        )
        self.high = 0
        self.instances.setdefault(name, []).append(instance)
        return result

    def tick(self) -> int:
        self.moment += 1
        return self.moment

    def all_since(self, moment: int) -> Iterator[Instance]:
        for found in self.instances.values():
            for instance in reversed(found):
                if instance.began <= moment:
                    break
                yield instance

    def alive(self) -> int:
        """Bytes in all that the frames hold, without the storages there at entry."""
        held = {
            number
            for frame in self.frames
            for tensor in _leaves([frame.held, list(frame.env.values())])
            if (number := self.number(tensor)) not in self.entry
        }
        return sum(self._kept[number].nbytes() for number in held)

    def number(self, tensor: Tensor) -> int:
        """The number of the tensor's storage: a new one if the storage is."""
        storage = tensor.untyped_storage()
        number = self._numbers.setdefault(storage._cdata, len(self._numbers))
        if number == len(self._kept):
            self._kept.append(storage)
            self.sizes.append(storage.nbytes())
        return number

    def remember(self, tensors: Iterator[Tensor]) -> None:
        for tensor in tensors:
            if id(tensor) not in self._known:
                self._known[id(tensor)] = tensor, self.number(tensor)


@dataclass
class _Frame:
    """What a running sub-graph or operator holds: objects to its end, values of its nodes."""

    held: list[object]
    env: dict[Node, object]

    def value(self, argument: Any) -> Any:
        """An argument with its nodes' values."""
        match argument:
            case Node():
                return self.env[argument]
            case tuple():
                return tuple(map(self.value, argument))
            case list():
                return list(map(self.value, argument))
            case dict():
                return {key: self.value(value) for key, value in argument.items()}
            case slice():
                parts = (argument.start, argument.stop, argument.step)
                return slice(*map(self.value, parts))
            case _:
                return argument


def _dying(nodes: Sequence[Node]) -> dict[Node, list[Node]]:
    """For each node those whose values are let go after it."""
    last = {node: node for node in nodes}
    for node in nodes:
        last.update(dict.fromkeys(node.all_input_nodes, node))
    dying: dict[Node, list[Node]] = {}
    for node, user in last.items():
        dying.setdefault(user, []).append(node)
    return dying


def _attribute(module: nn.Module, target: str) -> Any:
    return functools.reduce(getattr, target.split("."), module)


# ------------------------------------------------------------------- the operators with sub-graphs


def _cond(run: _Inside, args: Any, path: tuple[str, ...], loops: Iterations) -> object:
    predicate, yes, no, *rest = args
    operands = tuple(rest[0]) if rest else ()
    if predicate:
        return run.body(yes, operands, (*path, "true"), loops)
    return run.body(no, operands, (*path, "false"), loops)


def _while_loop(run: _Inside, args: Any, path: tuple[str, ...], loops: Iterations) -> object:
    condition, body, start, extra = args
    loop, carried, more = "/".join(path), tuple(start), tuple(extra)
    number = 0
    # As in `while_loop_dense`: the answer of the condition lives on until there is another one.
    with run.frame(None, carried) as frame:
        while True:
            now = (*loops, (loop, number))
            again = run.body(condition, (*carried, *more), (*path, "cond"), now)
            frame.held[0] = again
            if not again:
                break
            carried = run.body(body, (*carried, *more), (*path, "body"), now)
            frame.held[1] = carried
            number += 1
    run.times[loop, loops] = number
    if number == 0:
        return tuple(one.clone() if isinstance(one, Tensor) else one for one in carried)
    return carried


def _stacked_loop(run: _Inside, args: Any, path: tuple[str, ...], loops: Iterations) -> object:
    condition, body, start, extra = args
    loop, carried, more = "/".join(path), tuple(start), tuple(extra)
    every: list[tuple[Any, ...]] = []
    with run.frame(None, carried, every) as frame:
        while True:
            now = (*loops, (loop, len(every)))
            again = run.body(condition, (*carried, *more), (*path, "cond"), now)
            frame.held[0] = again
            if not again:
                break
            carried = run.body(body, (*carried, *more), (*path, "body"), now)
            frame.held[1] = carried
            every.append(carried)
        run.times[loop, loops] = len(every)
        if not every:
            return tuple(one.unsqueeze(0).clone() for one in carried)
        return run.stack(every)


def _scan(run: _Inside, args: Any, path: tuple[str, ...], loops: Iterations) -> object:
    body, carried, operands, extra = args
    loop, count, carries = "/".join(path), len(operands[0]), len(carried)
    stacks: list[Any] = []
    # As in `generic_scan`: the parts of the first iteration, and of the last, live on.
    with run.frame(None, None, carried, stacks) as frame:
        for number in range(count):
            slices = [operand.select(0, number) for operand in operands]
            now = (*loops, (loop, number))
            found = run.body(body, (*carried, *slices, *extra), (*path, "body"), now)
            carried, parts = found[:carries], found[carries:]
            frame.held[1:3] = parts, carried
            if number == 0:
                frame.held[0] = parts
                stacks += [
                    None if part is None else torch.empty(count, *part.shape, dtype=part.dtype)
                    for part in parts
                ]
                run.high = max(run.high, run.alive())
            for stack, part in zip(stacks, parts, strict=True):
                if part is not None:
                    stack[number] = part
    run.times[loop, loops] = count
    return (*carried, *stacks)


def _map(run: _Inside, args: Any, path: tuple[str, ...], loops: Iterations) -> object:
    body, operands, extra = args
    loop, count = "/".join(path), len(operands[0])
    every: list[Any] = []
    with run.frame(every):
        for number in range(count):
            slices = [operand[number] for operand in operands]
            now = (*loops, (loop, number))
            every.append(run.body(body, (*slices, *extra), (*path, "body"), now))
        run.times[loop, loops] = count
        return run.stack(every)


def _autocast(run: _Inside, args: Any, path: tuple[str, ...], loops: Iterations) -> object:
    with torch.autocast(*args[:4]):
        return run.body(args[4], args[5:], (*path, "body"), loops)


def _grad_mode(run: _Inside, args: Any, path: tuple[str, ...], loops: Iterations) -> object:
    with torch.set_grad_enabled(args[0]):
        return run.body(args[1], args[2:], (*path, "body"), loops)


def _flex_attention(run: _Inside, args: Any, path: tuple[str, ...], loops: Iterations) -> object:
    query, key, value, score, mask, scale, options, *captured = args
    # As in `_math_attention_inner`: the mask is there while the scores are worked on.
    held: list[object] = []

    def batched(name: str, body: object) -> Callable[..., object]:
        def call(*inputs: object) -> object:
            with run.frame(held):
                held.append(run.body(body, inputs, (*path, name), loops))
            return held[-1]

        return call

    blocks = (*mask[:-1], batched("mask", mask[-1]))
    eager: Any = sdpa_dense
    return eager(query, key, value, batched("score", score), blocks, scale, options, *captured)


def _packed(run: _Inside, args: Any, path: tuple[str, ...], loops: Iterations) -> object:
    return run.body(args[0], tuple(args[1]), (*path, "body"), loops)


def _checkpoint(run: _Inside, args: Any, path: tuple[str, ...], loops: Iterations) -> object:
    return run.body(args[0], args[1:], (*path, "body"), loops)


def _invoke(run: _Inside, args: Any, path: tuple[str, ...], loops: Iterations) -> object:
    return run.body(args[0], args[2:], (*path, "body"), loops)


def _function(run: _Inside, args: Any, path: tuple[str, ...], loops: Iterations) -> object:
    result, _ = run.body(args[0], args[2:], (*path, "body"), loops)
    return result


_OPERATORS: Mapping[str, Callable[[_Inside, Any, tuple[str, ...], Iterations], object]] = {
    "cond": _cond,
    "while_loop": _while_loop,
    "while_loop_stack_output": _stacked_loop,
    "scan": _scan,
    "map_impl": _map,
    "flex_attention": _flex_attention,
    "hints_wrapper": _packed,
    "strict_mode": _packed,
    "invoke_quant": _checkpoint,
    "foreach_map": _checkpoint,
    "wrap_with_autocast": _autocast,
    "wrap_with_set_grad_enabled": _grad_mode,
    "tag_activation_checkpoint": _checkpoint,
    "invoke_subgraph": _invoke,
    "autograd_function_apply": _function,
}
"""Any other operator is run as one node."""
