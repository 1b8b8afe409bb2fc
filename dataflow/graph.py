"""What the engine needs to know of a graph, once, as ints.

A graph that can be solved over is anything with a `flow` property: a `Flow`, in which
nodes and values are numbered from 0 and everything else is said in those numbers.

    control   Nodes stand in *blocks*, straight lines that run from first to last; edges
              lead from the end of a block to the start of another.
    values    Each node reads operand values and defines result values.  *Copies* carry a
              value to another one at a boundary: into a sub-graph, out of it, around a
              loop.

A node with sub-graphs (a branch, a loop) takes part like any other: its own effect
happens where its results come to be, after its sub-graphs.  The block it sits in comes
after theirs, and `begins` says at the end of which block it starts, so that "before this
node" means before its sub-graphs too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from enum import Enum
from functools import cached_property
from inspect import getattr_static
from itertools import chain
from typing import Final, Generic, Protocol, TypeVar

from attrs import define, field, frozen

N = TypeVar("N")
K = TypeVar("K")


class GraphError(ValueError):
    """A graph refers to something it does not have, or cannot tell apart what it has; the
    message says where."""


class CopyKind(Enum):
    """Where a copy happens: into a sub-graph, out of it, around a loop, past one that runs
    zero times, into a new value that has a part of every iteration, or along an edge
    between blocks."""

    ENTER = "enter"
    EXIT = "exit"
    BACK = "back"
    SKIP = "skip"
    STACK = "stack"
    EDGE = "edge"


@frozen
class Copy:
    """At the boundary of a sub-graph of `node`, or after it, value `target` becomes `source`.

    All are numbers in the `Flow` the copy stands in.  It happens only where control gets to
    `block`; None: it is not known to depend on that.
    """

    source: int
    target: int
    kind: CopyKind
    node: int
    block: int | None = None

    def __str__(self) -> str:
        return self.kind.value


_SEVERAL: Final = (
    "nodes", "blocks", "edges", "entries", "exits",
    "values", "operands", "results", "inputs", "outputs", "copies",
)  # fmt: skip


@define(eq=False, slots=False, frozen=True, repr=False)
class Flow(Generic[N]):
    """A graph as the engine sees it: nodes, blocks, edges, values, copies, all numbered.

    Nodes are shown as `str` has them; errors and explanations prefer a node's `line`, as it stands
    in the program, and errors add its `source`, where it was written, if it has such texts.

    `blocks` partition the node numbers.  `operands[n]` and `results[n]` are the value
    numbers node n reads and defines; `inputs` are values no node defines; `outputs` are
    values somebody reads after the exits.  Execution may leave at the end of any block in `exits`;
    where that is a choice which analyses should be asked about, let an edge lead to an empty
    block and leave from there.  `checked`: the builder vouches for all numbers, and
    solving need not look.  A draft has `erased_nodes` and `erased_values`: they keep their numbers
    and are no part of the graph any more.  `edits` were made to it since (`draft.Draft`); `answers`
    are what `together.Solved` found, by the number of edits.
    """

    nodes: Sequence[N]
    blocks: Sequence[Sequence[int]]
    edges: Sequence[tuple[int, int]]
    entries: Sequence[int]
    exits: Sequence[int]
    values: Sequence[object] = ()
    operands: Sequence[Sequence[int]] = ()
    results: Sequence[Sequence[int]] = ()
    inputs: Sequence[int] = ()
    outputs: Sequence[int] = ()
    copies: Sequence[Copy] = ()
    begins: Mapping[int, int] = field(factory=dict)
    checked: bool = False
    erased_nodes: Set[int] = frozenset()
    erased_values: Set[int] = frozenset()
    edits: list[object] = field(factory=list, init=False)
    answers: dict[int, object] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        # What can be gone through once only would be empty the second time.
        for name in _SEVERAL:
            given: object = getattr(self, name)
            if not isinstance(given, (list, tuple, Sequence)):
                numbered = name in ("nodes", "blocks", "values", "operands", "results")
                if not isinstance(given, Iterable) or (numbered and isinstance(given, Set)):
                    raise GraphError(f"`{name}` of a Flow wants several, in a list, not {given!r}")
                object.__setattr__(self, name, tuple(given))

    def __repr__(self) -> str:
        nodes = len(self.nodes) - len(self.erased_nodes)
        values = len(self.values) - len(self.erased_values)
        blocks = len(self.blocks)
        return f"<Flow of {nodes} nodes in {blocks} blocks, {values} values>"

    @property
    def flow(self) -> Flow[N]:
        """Itself: it can be solved over."""
        return self

    @cached_property
    def predecessors(self) -> list[list[int]]:
        """Per block those with an edge to it, once an edge."""
        found: list[list[int]] = [[] for _ in self.blocks]
        for source, target in self.edges:
            found[target].append(source)
        return found

    @cached_property
    def successors(self) -> list[list[int]]:
        """Per block those it has an edge to, once an edge, in the order of the edges."""
        found: list[list[int]] = [[] for _ in self.blocks]
        for source, target in self.edges:
            found[source].append(target)
        return found

    @cached_property
    def endless(self) -> list[int]:
        """Blocks that backward analysis starts from though no exit is reachable from them.

        An endless loop is its own boundary, where it goes back; so is a block that leads
        nowhere.
        """
        before = self.predecessors
        leads_out = bytearray(len(self.blocks))
        pending = list(self.exits)
        for block in pending:
            leads_out[block] = 1
        while pending:
            for source in before[pending.pop()]:
                if not leads_out[source]:
                    leads_out[source] = 1
                    pending.append(source)
        if all(leads_out):
            return []
        found = {s for s, target in self.edges if target <= s and not leads_out[s]}
        return [*found, *(b for b, following in enumerate(self.successors) if not following)]

    @cached_property
    def ways(self) -> list[tuple[N, int] | None]:
        """Per edge: the node that decides to take it, and its number among the ways from
        there; None for an edge that is the only one.

        A block's last node decides, or the node with sub-graphs that begins at its end.
        """
        counts = [0] * len(self.blocks)
        for source, _ in self.edges:
            counts[source] += 1
        deciders = {block: node for node, block in self.begins.items()}
        number = [0] * len(self.blocks)
        found: list[tuple[N, int] | None] = []
        for source, _ in self.edges:
            inside = self.blocks[source]
            if counts[source] < 2 or not (inside or source in deciders):
                found.append(None)
                continue
            decider = deciders[source] if source in deciders else inside[-1]
            found.append((self.nodes[decider], number[source]))
            number[source] += 1
        return found

    @cached_property
    def refers_to_itself(self) -> bool:
        """Whether every number in it is one of a node, block or value it has, and every node
        stands in one block, once."""
        if self.checked:
            return True
        nodes, blocks, values = (
            frozenset(range(len(found))) for found in (self.nodes, self.blocks, self.values)
        )
        copies, given = self.copies, {len(self.nodes), *(() if self.values else (0,))}
        referred = (*self.begins, *(copy.node for copy in copies))
        return (
            sum(map(len, self.blocks)) == len(self.nodes)
            and bool(self.entries or not self.blocks)
            and nodes.issuperset(chain.from_iterable(self.blocks))
            and nodes.issuperset(referred)
            and self._has_each_once()
            and len(self.operands) in given
            and len(self.results) in given
            and blocks.issuperset(chain.from_iterable(self.edges))
            and blocks.issuperset((*self.entries, *self.exits, *self.begins.values()))
            and values.issuperset((*self.inputs, *self.outputs))
            and values.issuperset(chain.from_iterable(self.operands))
            and values.issuperset(chain.from_iterable(self.results))
            and values.issuperset(chain.from_iterable((c.source, c.target) for c in copies))
            and blocks.issuperset(c.block for c in copies if c.block is not None)
        )

    def _has_each_once(self) -> bool:
        """Whether blocks of as many nodes as there are have all of them."""
        found = bytearray(len(self.nodes))
        for number in chain.from_iterable(self.blocks):
            found[number] = 1
        return all(found)

    @cached_property
    def feeds_onward(self) -> bool:
        """Whether every value is defined by an earlier node than any that reads it."""
        read = bytearray(len(self.values))
        for operands, results in zip(self.operands, self.results, strict=True):
            for value in operands:
                read[value] = 1
            for value in results:
                if read[value]:
                    return False
        return not self.copies

    @cached_property
    def node_number(self) -> dict[N, int]:
        """Node -> its number.  Raises `GraphError` where nodes are equal or not hashable."""
        return numbered("nodes", self.nodes, self.erased_nodes)

    @cached_property
    def value_number(self) -> dict[object, int]:
        """Value -> its number.  Raises `GraphError` where values are equal or not hashable."""
        return numbered("values", self.values, self.erased_values)

    @cached_property
    def places(self) -> dict[int, tuple[int, int]]:
        """Node number -> (block, position in the block) of its own effect."""
        return {
            node: (block, position)
            for block, nodes in enumerate(self.blocks)
            for position, node in enumerate(nodes)
        }

    def place(self, node: N) -> tuple[int, int]:
        """Where a node begins: a block, and how many nodes of it run before."""
        number = self.number(node)
        if number in self.begins:
            block = self.begins[number]
            return block, len(self.blocks[block])
        return self.places[number]

    def number(self, node: N) -> int:
        """The node's number.  Raises `KeyError` for a node of another graph."""
        try:
            return self.node_number[node]
        except (KeyError, TypeError):
            raise KeyError(f"{node} is not a node of this graph") from None

    def value(self, value: object) -> int:
        """The value's number.  Raises `KeyError` for a value of another graph."""
        try:
            return self.value_number[value]
        except (KeyError, TypeError):
            raise KeyError(f"{value} is not a value of this graph") from None


class FlowGraph(Protocol[N]):
    """Anything that can be solved over: it has a `flow`."""

    @property
    def flow(self) -> Flow[N]:
        """The graph, numbered."""


def flow_of(graph: FlowGraph[N], wanted_by: str) -> Flow[N]:
    """The flow of a graph.  Raises `TypeError` for what is no graph."""
    # Its own errors come through.
    if isinstance(graph, type) or getattr_static(graph, "flow", None) is None:
        raise TypeError(
            f"{wanted_by} wants a graph, and {graph!r} is none: it has no `flow`. Give it a "
            "`Flow`, a program, or what `parse` returns"
        )
    return graph.flow


def numbered(kind: str, things: Sequence[K], erased: Set[int]) -> dict[K, int]:
    """Nodes or values, by what they are.  Raises `GraphError` where two are the same."""
    try:
        found = {thing: number for number, thing in enumerate(things) if number not in erased}
    except TypeError:  # not hashable
        found = {}
    if len(found) + len(erased) < len(things):
        for fault in equal(kind, things, erased):
            raise GraphError(fault)
    return found


def equal(kind: str, things: Sequence[object], erased: Set[int]) -> Iterator[str]:
    """What is wrong with nodes or values that cannot be told from all others: facts are asked
    for by them."""
    first: dict[object, int] = {}
    for number, thing in enumerate(things):
        if number in erased:
            continue
        try:
            earlier = first.setdefault(thing, number)
        except TypeError:
            yield f"{kind} are looked up, and {thing!r} cannot be hashed: make its class frozen"
            return
        if earlier != number:
            yield (
                f"{kind} {earlier} and {number} are equal: {thing}; "
                "give them something that differs, such as a number"
            )


def straight_lines(
    successors: Sequence[Sequence[int]], entries: Sequence[int]
) -> tuple[list[list[int]], list[tuple[int, int]]]:
    """Cut nodes into blocks: `(blocks, edges between blocks)`.

    A node starts a block if it is an entry or does not have exactly one way in, or if
    its only predecessor has several ways out.
    """
    count = len(successors)
    ways_in = [0] * count
    previous = [-1] * count
    for node, targets in enumerate(successors):
        for target in targets:
            ways_in[target] += 1
            previous[target] = node
    starts = set(entries)
    for node in range(count):
        if ways_in[node] != 1 or len(successors[previous[node]]) != 1:
            starts.add(node)
    blocks: list[list[int]] = []
    block_of = [-1] * count
    # Nodes of a cycle nothing leads into have no start; each such cycle gets one.
    for start in [*sorted(starts), *range(count)]:
        if block_of[start] >= 0:
            continue
        line = [start]
        block_of[start] = len(blocks)
        while len(successors[line[-1]]) == 1:
            following = successors[line[-1]][0]
            if following in starts or block_of[following] >= 0:
                break
            block_of[following] = len(blocks)
            line.append(following)
        blocks.append(line)
    edges = [
        (number, block_of[target])
        for number, line in enumerate(blocks)
        for target in successors[line[-1]]
    ]
    return blocks, edges
