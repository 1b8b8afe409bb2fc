"""The oracle: run a graph node by node on real tensors and record what happened.

Nothing here predicts.  A storage is the allocation that the tensor in hand really has, a write is
a version counter or a byte that really changed, and memory is what is really held at the time.
The oracle shares no code with the analyses it is the judge of.
"""

from __future__ import annotations

import copy
import functools
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import GraphModule, Node
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

__all__ = ["Layout", "Run", "observe", "placeholders_of"]


@dataclass(frozen=True)
class Layout:
    """The dtype of a tensor, its shape, and its strides."""

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Run:
    """What one run of one graph did.

    The storages are numbered in the order in which they are met: those of the placeholders, then
    those of the module's own tensors, then those that the nodes return.
    """

    storages: Mapping[str, tuple[int, ...]]
    """For each node, the storage of each tensor leaf of its result, in pytree order."""

    written: Mapping[str, frozenset[int]]
    """For each node, the storages there before it of which it bumped a version or changed bytes.

    In-place operators that only change a tensor's shape (``t_``, ``unsqueeze_``) bump the version
    too, so they are here and not in ``changed``.
    """

    changed: Mapping[str, frozenset[int]]
    """The part of ``written`` whose bytes differ after the node from those before."""

    nbytes: Mapping[int, int]
    """The size of each storage: the largest seen, where an operator resized it."""

    entry: frozenset[int]
    """The storages of the placeholders and of the module's parameters, buffers and constants."""

    alive: Mapping[str, int]
    """For each node, the bytes held in storages that are not entry storages while it runs.

    That is with its result there and its operands not yet let go, and without what an operator
    allocates and frees inside.
    """

    held_elsewhere: Mapping[str, int]
    """Bytes that ``alive`` misses: results that are no value of the graph's any more and yet live.

    Zero unless something outside the graph keeps a tensor, as a module that stores one does.
    """

    peak_bytes: int
    """The largest number in ``alive``."""

    peak_at: str
    """The first node at which the peak is reached."""

    layouts: Mapping[str, tuple[Layout, ...]]
    """For each node, what each tensor leaf of its result is like just after it."""

    result: object
    """What the graph returned, in the run that recorded the storages."""


def observe(graph_module: GraphModule, placeholder_values: Sequence[object]) -> Run:
    """Run the graph twice, on copies of the state, and record what it did.

    ``placeholder_values`` has one value for each placeholder, in order.  Neither they nor the
    module are changed.
    """
    nodes: list[Node] = list(graph_module.graph.nodes)
    if not nodes:
        raise ValueError("an empty graph cannot be run")
    wanted = sum(node.op == "placeholder" for node in nodes)
    if wanted != len(placeholder_values):
        raise ValueError(f"{wanted} placeholders and {len(placeholder_values)} values")
    aliasing = _Aliasing(nodes, *_fresh(graph_module, placeholder_values))
    _seeded(aliasing.run)
    memory = _Memory(nodes, *_fresh(graph_module, placeholder_values))
    _seeded(memory.run)
    peak = max(memory.alive.values())
    return Run(
        storages=aliasing.storages,
        written=aliasing.written,
        changed=aliasing.changed,
        nbytes=aliasing.nbytes,
        entry=aliasing.entry,
        alive=memory.alive,
        held_elsewhere=memory.held_elsewhere,
        peak_bytes=peak,
        peak_at=next(name for name, held in memory.alive.items() if held == peak),
        layouts=aliasing.layouts,
        result=aliasing.result,
    )


def placeholders_of(
    program: ExportedProgram,
    args: Sequence[object],
    kwargs: Mapping[str, object] | None = None,
) -> list[object]:
    """The value of each placeholder of an exported program, called with these arguments."""
    given = dict(kwargs or {})
    spec: Any = program.call_spec.in_spec
    if spec is not None:
        names: Sequence[str] = spec.child(1).context
        if set(names) != set(given):
            raise ValueError(f"exported with the keywords {list(names)}, called with {list(given)}")
        given = {name: given[name] for name in names}
    flat = iter(pytree.tree_leaves((tuple(args), given)))
    values: list[object] = []
    for entry in program.graph_signature.input_specs:
        match entry.kind:
            case InputKind.USER_INPUT:
                values.append(next(flat))
            case InputKind.PARAMETER:
                values.append(program.state_dict[_target(entry.target)])
            case InputKind.BUFFER if entry.persistent:
                values.append(program.state_dict[_target(entry.target)])
            case InputKind.BUFFER | InputKind.CONSTANT_TENSOR | InputKind.CUSTOM_OBJ:
                values.append(program.constants[_target(entry.target)])
            case _:
                raise NotImplementedError(f"no value for a placeholder of the kind {entry.kind}")
    left = len(list(flat))
    if left:
        raise ValueError(f"{left} arguments more than the program has placeholders for")
    return values


def _target(target: str | None) -> str:
    if target is None:
        raise ValueError("a lifted tensor without a name")
    return target


# ---------------------------------------------------------------------------------------- the state


def _fresh(module: GraphModule, values: Sequence[object]) -> tuple[nn.Module, list[object]]:
    """Copies of the module's state and of the values; what shared a storage before still does."""
    # The copies are run by the nodes of the caller's graph, so the graph itself is not copied.
    state = {
        name: value
        for name, value in vars(module).items()
        if name in ("_parameters", "_buffers", "_modules") or isinstance(value, Tensor)
    }
    memo: dict[int, Any] = {}
    for tensor in list(_tensors((list(state.values()), list(values)))):
        # torch copies a Parameter apart from whoever else has its storage, and no non-leaf at all.
        # The copy of a plain leaf shares what the original shared.
        apart = _apart(tensor.detach(), memo)
        if isinstance(tensor, nn.Parameter):
            apart = nn.Parameter(apart, tensor.requires_grad)
        elif tensor.is_leaf:
            apart.requires_grad_(tensor.requires_grad)
        memo[id(tensor)] = apart
    for part in module.modules():
        # To copy a graph is to compile it, and one without tensors is nothing that changes.
        if isinstance(part, GraphModule) and next(_tensors(part), None) is None:
            memo[id(part)] = part
    holder = nn.Module()
    vars(holder).update(copy.deepcopy(state, memo))
    return holder, copy.deepcopy(list(values), memo)


def _apart(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """A copy with the bits that say "conjugate" and "negate", which torch's copy resolves."""
    if tensor.is_conj():
        return _apart(tensor.conj(), memo).conj()
    if tensor.is_neg():
        return torch._neg_view(_apart(torch._neg_view(tensor), memo))
    copied: Tensor = copy.deepcopy(tensor, memo)
    return copied


def _seeded(run: Callable[[], None]) -> None:
    """Run with grad mode off, the same random numbers each time and the global state put back."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        run()


def _tensors(*values: object) -> Iterator[Tensor]:
    """The tensors in reach: leaves of pytrees, and what modules and functions among them hold."""
    done: set[int] = set()
    waiting: deque[object] = deque(values)
    while waiting:
        for leaf in pytree.tree_leaves(waiting.popleft()):
            if id(leaf) in done:
                continue
            done.add(id(leaf))
            if isinstance(leaf, Tensor):
                yield _batch(leaf)
            elif isinstance(leaf, nn.Module):
                # A GraphModule's meta is the one place where the tensors are not real.
                waiting.extend(value for name, value in vars(leaf).items() if name != "meta")
            elif isinstance(leaf, functools.partial):
                waiting.extend((leaf.func, leaf.args, leaf.keywords))
            elif isinstance(leaf, types.MethodType):
                waiting.append(leaf.__self__)
            elif isinstance(leaf, types.FunctionType):
                waiting.extend(cell.cell_contents for cell in leaf.__closure__ or () if _full(cell))


def _full(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018  an empty cell raises
    except ValueError:
        return False
    return True


def _leaves(value: object) -> list[Tensor]:
    return [_batch(leaf) for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _batch(tensor: Tensor) -> Tensor:
    """The tensor that has a storage: the batch of which `vmap` shows one."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


# ------------------------------------------------------------------------------------- the two runs


class _Interpreter:
    """Executes nodes one by one; the two runs differ in what they look at around each."""

    def __init__(self, nodes: Sequence[Node], holder: nn.Module, values: Sequence[object]) -> None:
        self.nodes = nodes
        self.holder = holder
        self.values = values
        self.env: dict[Node, object] = {}
        self.result: object = None
        self._waiting = iter(values)

    def entry_tensors(self) -> Iterator[Tensor]:
        return _tensors(list(self.values), self.holder, [node.target for node in self.nodes])

    def execute(self, node: Node) -> object:
        try:
            return self._execute(node)
        except Exception as error:
            error.add_note(f"while running {node.format_node()}")
            raise

    def operands(self, node: Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return self._value(node.args), self._value(node.kwargs)

    def _value(self, argument: Any) -> Any:
        """The argument with its nodes' values, in the plain containers that written code has."""
        match argument:
            case Node():
                return self.env[argument]
            case tuple() if hasattr(argument, "_fields"):
                return type(argument)(*map(self._value, argument))
            case tuple():
                return tuple(map(self._value, argument))
            case list():
                return list(map(self._value, argument))
            case dict():
                return {key: self._value(value) for key, value in argument.items()}
            case slice():
                parts = (argument.start, argument.stop, argument.step)
                return slice(*map(self._value, parts))
            case _:
                return argument

    def attribute(self, target: object) -> Any:
        return functools.reduce(getattr, str(target).split("."), self.holder)

    def _execute(self, node: Node) -> object:
        args, kwargs = self.operands(node)
        match node.op:
            case "placeholder":
                return next(self._waiting)
            case "get_attr":
                return self.attribute(node.target)
            case "call_module":
                return self.attribute(node.target)(*args, **kwargs)
            case "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
            case "call_function":
                target: Any = node.target
                return target(*args, **kwargs)
            case "output":
                return args[0]
            case _:
                raise NotImplementedError(f"a node of the kind {node.op}")


class _Aliasing(_Interpreter):
    """Keeps every value, so that no storage is freed and no address is given out twice."""

    def __init__(self, nodes: Sequence[Node], holder: nn.Module, values: Sequence[object]) -> None:
        super().__init__(nodes, holder, values)
        self.storages: dict[str, tuple[int, ...]] = {}
        self.layouts: dict[str, tuple[Layout, ...]] = {}
        self.written: dict[str, frozenset[int]] = {}
        self.changed: dict[str, frozenset[int]] = {}
        self._numbers: dict[int, int] = {}
        self._kept: list[torch.UntypedStorage] = []
        self._sizes: list[int] = []
        self._tensors: list[Tensor] = []
        self._homes: list[int] = []
        self._known: set[int] = set()
        self._remember(self.entry_tensors())
        self.entry = frozenset(self._numbers.values())

    @property
    def nbytes(self) -> dict[int, int]:
        return dict(enumerate(self._sizes))

    def run(self) -> None:
        for node in self.nodes:
            reach = self._reach(node)
            before = self._bytes(reach)
            versions = [tensor._version for tensor in self._tensors]
            result = self.env[node] = self.execute(node)
            changed = frozenset(self._differing(before))
            bumped = frozenset(self._bumped(versions))
            self.storages[node.name] = tuple(map(self._number, _leaves(result)))
            self.layouts[node.name] = tuple(map(_layout, _leaves(result)))
            self._remember(_tensors(result))
            self._resized()
            self.written[node.name] = changed | bumped
            self.changed[node.name] = changed
            if node.op == "output":
                self.result = result

    def _number(self, tensor: Tensor) -> int:
        """The number of the tensor's storage: a new one if the storage is."""
        storage = tensor.untyped_storage()
        # The address of the StorageImpl, which empty tensors have too, and not that of the data.
        number = self._numbers.setdefault(storage._cdata, len(self._numbers))
        if number == len(self._kept):
            self._kept.append(storage)
            self._sizes.append(storage.nbytes())
        return number

    def _remember(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            if id(tensor) not in self._known:
                self._known.add(id(tensor))
                self._tensors.append(tensor)
                self._homes.append(self._number(tensor))

    def _resized(self) -> None:
        for number, storage in enumerate(self._kept):
            self._sizes[number] = max(self._sizes[number], storage.nbytes())

    def _reach(self, node: Node) -> set[int]:
        operands: list[object] = [self.operands(node), node.target]
        if node.op == "call_module":
            operands.append(self.attribute(node.target))
        self._remember(_tensors(*operands))
        return {self._number(tensor) for tensor in _tensors(*operands)}

    def _bytes(self, numbers: Iterable[int]) -> dict[int, Tensor]:
        return {number: _bytes(self._kept[number]).clone() for number in numbers}

    def _differing(self, before: Mapping[int, Tensor]) -> Iterator[int]:
        for number, old in before.items():
            if not torch.equal(old, _bytes(self._kept[number])):
                yield number

    def _bumped(self, versions: Sequence[int]) -> Iterator[int]:
        for index, version in enumerate(versions):
            tensor = self._tensors[index]
            if tensor._version != version:
                yield self._homes[index]
                self._homes[index] = self._number(tensor)  # set_ gives it another


def _layout(tensor: Tensor) -> Layout:
    return Layout(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tensor.stride())


def _bytes(storage: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(storage)


# A weak reference keeps the address of a StorageImpl from being given out again.
_weak: Callable[[torch.UntypedStorage], Any] = StorageWeakRef


class _Memory(_Interpreter):
    """Lets each value go after the last node that uses it, as the code written by torch.fx does."""

    def __init__(self, nodes: Sequence[Node], holder: nn.Module, values: Sequence[object]) -> None:
        super().__init__(nodes, holder, values)
        self.alive: dict[str, int] = {}
        self.held_elsewhere: dict[str, int] = {}
        # Kept, because after `set_` nobody else may hold them, and addresses are given out again.
        self._there = [tensor.untyped_storage() for tensor in self.entry_tensors()]
        self._entry = {storage._cdata for storage in self._there}
        self._made: dict[int, Any] = {}  # StorageWeakRef, which is untyped

    def run(self) -> None:
        dying = self._dying()
        for node in self.nodes:
            self.env[node] = self.execute(node)
            self._measure(node)
            for dead in dying.get(node, ()):
                del self.env[dead]

    def _dying(self) -> dict[Node, list[Node]]:
        last: dict[Node, Node] = {}
        for node in self.nodes:
            last[node] = node
            for operand in node.all_input_nodes:
                last[operand] = node
        dying: dict[Node, list[Node]] = {}
        for node, user in last.items():
            if user.op != "output":
                dying.setdefault(user, []).append(node)
        return dying

    def _measure(self, node: Node) -> None:
        held: dict[int, int] = {}
        for tensor in _leaves(list(self.env.values())):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._entry:
                held[storage._cdata] = storage.nbytes()
                if storage._cdata not in self._made:
                    self._made[storage._cdata] = _weak(storage)
        elsewhere = 0
        for address, reference in list(self._made.items()):
            if address in held:
                continue
            if reference.expired():
                del self._made[address]
            else:
                elsewhere += torch.UntypedStorage._new_with_weak_ptr(reference.cdata).nbytes()
        self.alive[node.name] = sum(held.values())
        self.held_elsewhere[node.name] = elsewhere
