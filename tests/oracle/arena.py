"""Run a program with every intermediate in one preallocated arena, as a plan says.

Each op runs as torch runs it.  What it allocates is moved to its slot at once, so that views,
in-place ops and everything later work in the arena; before the op runs, its slots are
overwritten, so a slot that is taken too early or too often shows in the result.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from attrs import evolve
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

import passes
from passes import Plan, Program, Slot, Value
from passes.program import OpKind, RegionFlow, ValueCopy

from .inside import Iterations, _Frame, _Inside
from .run import _bytes, _fresh, _seeded

POISON = 0xA5


def run_in_arena(
    program: Program, plan: Plan, graph: GraphModule, placeholder_values: Sequence[object]
) -> object:
    """What the graph returns, on copies of the state, with its intermediates where planned."""
    run = _InArena(program, plan, *_fresh(graph, placeholder_values))
    _seeded(lambda: run.program(list(graph.graph.nodes)))
    return pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, run.result)


def run_freely(graph: GraphModule, placeholder_values: Sequence[object]) -> object:
    """The same without a plan."""
    run = _Free(*_fresh(graph, placeholder_values))
    _seeded(lambda: run.program(list(graph.graph.nodes)))
    return run.result


class _Free(_Inside):
    """The run, without the watching."""

    def watched(
        self,
        name: str,
        loops: Iterations,
        frame: _Frame,
        module: nn.Module,
        node: Node,
        run: Callable[[], object],
    ) -> object:
        frame.env[node] = run()
        return frame.env[node]


class _InArena(_Inside):
    def __init__(
        self, program: Program, plan: Plan, holder: nn.Module, values: Sequence[object]
    ) -> None:
        super().__init__(holder, values)
        self.known = program
        self.plan = plan
        self.aliases = passes.aliases(program)
        self.arenas = {
            device: torch.full((arena.size,), POISON, dtype=torch.uint8)
            for device, arena in plan.arenas.items()
        }
        self.in_arena: set[int] = set()
        self.owned: dict[str, list[Slot]] = {}
        for storage, slot in plan.slots.items():
            assert storage.op is not None
            self.owned.setdefault(storage.op.name, []).append(slot)

    def watched(
        self,
        name: str,
        loops: Iterations,
        frame: _Frame,
        module: nn.Module,
        node: Node,
        run: Callable[[], object],
    ) -> object:
        op = self.known.op(name)
        if not op.regions:
            for slot in self.owned.get(name, ()):
                self.bytes(slot).fill_(POISON)
        result = run()
        if op.kind is OpKind.CALL:
            result = self.moved(result, [self.own_slot(value) for value in op.results])
        frame.env[node] = result
        return result

    def body(
        self, module: object, inputs: tuple[object, ...], path: tuple[str, ...], loops: Iterations
    ) -> Any:
        result = super().body(module, inputs, path, loops)
        flow = self.known.op("/".join(path[:-1])).region_flow
        assert flow is not None
        back: list[ValueCopy] = [copy for copy in flow.copies if copy.kind.name == "BACK"]
        if path[-1] == "body" and flow.held_for_stacking:
            return self.moved(result, self.in_stacks(flow, result, loops[-1][1]), True)
        if path[-1] != "body" or not back:
            return result
        slots: list[Slot | None] = []
        for copy in back:
            both = self.plan.carried.get(copy.target, ())
            slots.append(both[loops[-1][1] % len(both)] if both else None)
        # What is not carried, such as what a scan stacks, comes after.
        leaves = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
        slots += [None] * (len(leaves) - len(slots))
        return self.moved(result, slots, even_from_arena=True)

    def in_stacks(self, flow: RegionFlow, result: object, number: int) -> list[Slot | None]:
        """Where in their stacks the parts of an iteration belong."""
        leaves = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
        stacks = [copy.target for copy in flow.copies if copy.kind.name == "STACK"]
        slots = list[Slot | None]()
        for leaf, stack in zip(leaves, map(self.own_slot, stacks), strict=True):
            nbytes = leaf.numel() * leaf.element_size()
            place = stack and evolve(stack, offset=stack.offset + number * nbytes, nbytes=nbytes)
            slots.append(place)
        return slots

    def own_slot(self, value: Value) -> Slot | None:
        for storage in self.aliases.pointees(value):
            own = storage.op and value in storage.op.results and not storage.earlier
            if own and storage in self.plan.slots:
                return self.plan.slots[storage]
        return None

    def bytes(self, slot: Slot) -> Tensor:
        return self.arenas[slot.device][slot.offset : slot.offset + slot.nbytes]

    def moved(
        self, result: object, slots: Sequence[Slot | None], even_from_arena: bool = False
    ) -> object:
        """The result with its new storages copied to their slots."""
        waiting = iter(slots)
        homes: dict[int, Tensor] = {}

        def move(leaf: object) -> object:
            if not isinstance(leaf, Tensor):
                return leaf
            slot = next(waiting)
            storage = leaf.untyped_storage()
            if self.number(leaf) in self.entry or not storage.nbytes():
                return leaf
            if storage._cdata in self.in_arena:
                if slot is None or not even_from_arena:
                    return leaf
                leaf = leaf.clone()  # of what is carried, this tensor's part only
                storage = leaf.untyped_storage()
                self.number(leaf)  # kept, so that its address is not given out again
            if storage._cdata not in homes:
                assert slot is not None, "a new storage that the plan has no slot for"
                homes[storage._cdata] = self.placed(storage, slot)
            twin = torch.empty(0, dtype=leaf.dtype).set_(
                homes[storage._cdata].untyped_storage(),
                leaf.storage_offset(),
                leaf.size(),
                leaf.stride(),
            )
            twin = twin.conj() if leaf.is_conj() else twin
            return torch._neg_view(twin) if leaf.is_neg() else twin

        return pytree.tree_map(move, result)

    def placed(self, storage: torch.UntypedStorage, slot: Slot) -> Tensor:
        """A copy of a storage in a slot, as a storage of its own at that address."""
        nbytes = storage.nbytes()
        assert nbytes <= slot.nbytes, "a storage larger than its slot"
        address = self.arenas[slot.device].data_ptr() + slot.offset
        place = torch.frombuffer((ctypes.c_char * nbytes).from_address(address), dtype=torch.uint8)
        place.copy_(_bytes(storage))
        self.number(place)  # kept, so that no later storage is taken for it
        self.in_arena.add(place.untyped_storage()._cdata)
        return place
