"""Functions that call each other, as one graph: a callee has one instance per call path.

    graph = link({"main": main, "double": double}, callee, "main")

A call is a node with a sub-graph, the callee's: operands go to its inputs and outputs
come back as the node's results, by position.  Its own effect happens on return; of its results a
sparse transfer has nothing to say, and backward it is given no facts of them.  Functions
that call each other in a circle have one instance each for every call into the circle, so
recursion is a loop and the solve converges; facts of all calls around it are merged there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from attrs import frozen

from dataflow.components import strong_components
from dataflow.graph import Copy, CopyKind, Flow, FlowGraph, GraphError, flow_of
from dataflow.wellformed import check_graph

N = TypeVar("N")


@frozen
class Instance(Generic[N]):
    """A node or value of a function, at one call path: the calls that lead to it."""

    path: tuple[object, ...]
    of: N

    def __str__(self) -> str:
        return " / ".join(map(str, (*self.path, self.of)))


@frozen(eq=False)
class Linked(Generic[N]):
    """The graph of a function with everything it calls.  Ask by `Instance`."""

    flow: Flow[Instance[N]]


def link(
    functions: Mapping[str, FlowGraph[N]], callee: Callable[[N], str | None], main: str
) -> Linked[N]:
    """Put a function and what it calls into one graph.

    `callee(node)` is the name of the function a node calls, None if it calls none.  Raises
    `KeyError` for a function that is not given, `GraphError` for one that refers to what it
    does not have, has no entry, or leaves at the end of a block that also leads on, and
    `ValueError` for a wrong number of operands or results, or for more than `MOST` call paths.
    """
    if main not in functions:
        raise KeyError(f"{main!r} is not given: the functions are {', '.join(functions)}")
    flows = {name: flow_of(graph, f"link, as {name!r},") for name, graph in functions.items()}
    for name, flow in flows.items():
        _demand_function(name, flow)
    linker = _Linker(flows, callee)
    placed = linker.place(main, (), {})
    linker.place_callees()
    return Linked(linker.graph(placed))


MOST = 100_000
"""Call paths of one graph: more is taken for a mistake, since each has nodes of its own."""


def _demand_function(name: str, flow: Flow[N]) -> None:
    """Raise `GraphError` for a graph that cannot be linked."""
    if not flow.refers_to_itself:
        try:
            check_graph(flow)
        except GraphError as error:
            raise GraphError(f"in function {name!r}: {error}") from None
    for block in flow.exits:
        if flow.successors[block]:
            raise GraphError(
                f"function {name!r} may return at the end of block {block} or go on from there; "
                "let an edge lead to an empty block, and return from that one"
            )


def _circles(functions: Mapping[str, Flow[N]], callee: Callable[[N], str | None]) -> dict[str, int]:
    """Per function a number, the same for those that call each other in a circle."""
    number = {name: position for position, name in enumerate(functions)}
    called = [
        [number[name] for node in flow.node_number if (name := callee(node)) in number]
        for flow in functions.values()
    ]
    sequence, loops = strong_components(called, range(len(called)))
    names = list(functions)
    return number | {names[sequence[at]]: -1 - loop.start for loop in loops for at in loop}


@frozen(eq=False)
class _Placed:
    """An instance of a function: its first and last block, its inputs and outputs."""

    entry: int
    back: int
    inputs: Sequence[int]
    outputs: Sequence[int]


class _Linker(Generic[N]):
    """Puts instances of functions side by side and connects them."""

    def __init__(self, functions: Mapping[str, Flow[N]], callee: Callable[[N], str | None]) -> None:
        self.functions, self.callee = functions, callee
        self.circles = _circles(functions, callee)
        self.nodes: list[Instance[N]] = []
        self.blocks: list[list[int]] = []
        self.edges: list[tuple[int, int]] = []
        self.values: list[object] = []
        self.operands: list[tuple[int, ...]] = []
        self.results: list[tuple[int, ...]] = []
        self.copies: list[Copy] = []
        self.begins: dict[int, int] = {}
        self.erased_nodes: set[int] = set()
        self.erased_values: set[int] = set()
        # Calls that are not connected yet: the node, its callee, the path, and the instances
        # of a circle that it may go to.
        self.pending: list[tuple[int, str, tuple[object, ...], dict[str, _Placed]]] = []
        self.instances = 0

    def graph(self, main: _Placed) -> Flow[Instance[N]]:
        """All of it."""
        return Flow(
            nodes=self.nodes,
            blocks=self.blocks,
            edges=self.edges,
            entries=[main.entry],
            exits=[main.back],
            values=self.values,
            operands=self.operands,
            results=self.results,
            inputs=main.inputs,
            outputs=main.outputs,
            copies=self.copies,
            begins=self.begins,
            erased_nodes=self.erased_nodes,
            erased_values=self.erased_values,
        )

    def place(self, name: str, path: tuple[object, ...], circle: dict[str, _Placed]) -> _Placed:
        """One more instance of a function, in a circle of such."""
        if name not in self.functions:
            raise KeyError(f"{' / '.join(map(str, path))} calls {name!r}, which is not given")
        self.instances += 1
        if self.instances > MOST:
            raise ValueError(
                f"more than {MOST:,} call paths, the last to {name!r}: each gets nodes of its own; "
                "let callee(node) be None where a call is to be a node like any other"
            )
        flow = self.functions[name]
        first = len(self.values)
        self.values += [Instance(path, value) for value in flow.values]
        first_node = len(self.nodes)
        self.nodes += [Instance(path, node) for node in flow.nodes]
        self.erased_nodes |= {first_node + number for number in flow.erased_nodes}
        self.erased_values |= {first + number for number in flow.erased_values}
        nothing: list[Sequence[int]] = [()] * len(flow.nodes)  # a graph of control has no values
        self.operands += [tuple(first + v for v in read) for read in flow.operands or nothing]
        self.results += [tuple(first + v for v in made) for made in flow.results or nothing]
        starts, ends = self._cut(flow, first_node)
        self.edges += [(ends[source], starts[target]) for source, target in flow.edges]
        back = len(self.blocks)  # to whom, is no choice of the node that leaves
        self.blocks.append([])
        self.edges += [(ends[block], back) for block in flow.exits]
        self.begins |= {first_node + node: ends[block] for node, block in flow.begins.items()}
        for copy in flow.copies:
            block = None if copy.block is None else ends[copy.block]
            self.copies.append(
                Copy(
                    first + copy.source,
                    first + copy.target,
                    copy.kind,
                    first_node + copy.node,
                    block,
                )
            )
        entry = starts[flow.entries[0]]
        if len(flow.entries) > 1:  # at which of them, is no choice of the call
            entry = len(self.blocks)
            self.blocks.append([])
            self.edges += [(entry, starts[block]) for block in flow.entries]
        placed = circle[name] = _Placed(
            entry,
            back,
            [first + value for value in flow.inputs],
            [first + value for value in flow.outputs],
        )
        own = self.circles[name]
        calls = [
            (
                first_node + number,
                called,
                (*path, node),
                circle if self.circles.get(called) == own else {},
            )
            for node, number in flow.node_number.items()
            if (called := self.callee(node)) is not None
        ]
        self.pending += reversed(calls)
        return placed

    def place_callees(self) -> None:
        """Connect calls to an instance of their circle, or to a new one, until none is left."""
        while self.pending:
            call, called, path, circle = self.pending.pop()
            self._connect(call, circle.get(called) or self.place(called, path, circle))

    def _cut(self, flow: Flow[N], first_node: int) -> tuple[list[int], list[int]]:
        """Blocks, cut before each call; per block of the function, its first and last part."""
        starts, ends = [], []
        for block in flow.blocks:
            starts.append(len(self.blocks))
            self.blocks.append([])
            for node in block:
                if self.callee(flow.nodes[node]) is not None:
                    self.begins[first_node + node] = len(self.blocks) - 1
                    self.blocks.append([])
                self.blocks[-1].append(first_node + node)
            ends.append(len(self.blocks) - 1)
        return starts, ends

    def _connect(self, call: int, target: _Placed) -> None:
        """Control and values into the callee, and back."""
        before = self.begins[call]
        after = before + 1
        for given, wanted, what in (
            (self.operands[call], target.inputs, "operands"),
            (self.results[call], target.outputs, "results"),
        ):
            if len(given) != len(wanted):
                raise ValueError(
                    f"{self.nodes[call]} has {len(given)} {what}, its callee {len(wanted)}"
                )
        self.edges.append((before, target.entry))
        self.edges.append((target.back, after))
        self.copies += [
            Copy(source, to, CopyKind.ENTER, call, before)
            for source, to in zip(self.operands[call], target.inputs, strict=True)
        ]
        self.copies += [
            Copy(source, to, CopyKind.EXIT, call, after)
            for source, to in zip(target.outputs, self.results[call], strict=True)
        ]
        self.results[call] = ()  # they come from the callee
