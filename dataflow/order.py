"""In which order to evaluate constraints: a weak topological order (Bourdoncle, 1993).

Constraints that feed no loop are evaluated once, after everything they read.  A loop is
a strongly connected component; it is entered at its head, and what remains without the
head is ordered the same way, which nests inner loops inside outer ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen


@frozen
class Order:
    """Ranks of constraints, and where the loops are.

    `sequence[rank]` is a constraint.  `loops` are the outermost loops as rank ranges.
    `feedback` has `(constraint, unknown)` where a loop feeds back into what was read
    before: facts are widened there, and only there.
    """

    sequence: Sequence[int]
    loops: frozenset[range]
    feedback: frozenset[tuple[int, int]]

    @property
    def parts(self) -> list[range]:
        """All ranks in order, cut into loops and the straight stretches between them."""
        parts = []
        end = 0
        for loop in sorted(self.loops, key=lambda ranks: ranks.start):
            parts += [range(end, loop.start), loop]
            end = loop.stop
        return [part for part in [*parts, range(end, len(self.sequence))] if part]


def weak_topological_order(
    reads: Sequence[Sequence[int]], writes: Sequence[Sequence[int]], unknowns: int
) -> Order:
    """The order for constraints that read and write numbered unknowns.  Linear where
    nothing loops or the constraints are given in execution order; otherwise linear in
    the number of constraints times the depth of nesting."""
    if _feeds_only_onward(reads, writes, unknowns):
        return Order(range(len(reads)), frozenset(), frozenset())

    readers: list[list[int]] = [[] for _ in range(unknowns)]
    for constraint, inputs in enumerate(reads):
        for unknown in inputs:
            readers[unknown].append(constraint)
    successors = [[r for unknown in outputs for r in readers[unknown]] for outputs in writes]
    predecessors: list[list[int]] = [[] for _ in reads]
    for constraint, following in enumerate(successors):
        for reader in following:
            predecessors[reader].append(constraint)

    sequence: list[int] = []
    loops: list[range] = []
    for outer in _components(list(range(len(reads))), successors):
        start = len(sequence)
        pending = [outer]  # strongly connected parts still to be ordered, last first
        while pending:
            component = pending.pop()
            head = _head(component, predecessors)
            sequence.append(head)
            body = [constraint for constraint in component if constraint != head]
            pending.extend(reversed(_components(body, successors)))
        if len(outer) > 1 or outer[0] in successors[outer[0]]:
            loops.append(range(start, len(sequence)))

    rank = {constraint: number for number, constraint in enumerate(sequence)}
    feedback = frozenset(
        (constraint, unknown)
        for constraint, outputs in enumerate(writes)
        for unknown in outputs
        if any(rank[reader] <= rank[constraint] for reader in readers[unknown])
    )
    return Order(sequence, frozenset(loops), feedback)


def _feeds_only_onward(
    reads: Sequence[Sequence[int]], writes: Sequence[Sequence[int]], unknowns: int
) -> bool:
    seen = bytearray(unknowns)
    for inputs, outputs in zip(reads, writes, strict=True):
        for unknown in inputs:
            seen[unknown] = 1
        for unknown in outputs:
            if seen[unknown]:
                return False
    return True


def _head(component: list[int], predecessors: Sequence[Sequence[int]]) -> int:
    """Where a loop is entered: the first of its constraints that is fed from outside."""
    inside = set(component)
    for constraint in component:
        if not inside.issuperset(predecessors[constraint]):
            return constraint
    return component[0]


def _components(members: list[int], successors: Sequence[Sequence[int]]) -> list[list[int]]:
    """Strongly connected components of a part of a graph, in topological order.

    Tarjan's algorithm with an explicit stack, roots taken in the given order.
    """
    inside = set(members)
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    found: list[list[int]] = []
    done: set[int] = set()
    for root in members:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        path = [(root, iter(successors[root]))]
        while path:
            current, onward = path[-1]
            for following in onward:
                if following not in inside or following in done:
                    continue
                if following not in index:
                    index[following] = low[following] = len(index)
                    stack.append(following)
                    path.append((following, iter(successors[following])))
                    break
                low[current] = min(low[current], index[following])
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[current])
                if low[current] == index[current]:
                    component: list[int] = []
                    while not component or component[-1] != current:
                        component.append(stack.pop())
                    done.update(component)
                    found.append(sorted(component))
    found.reverse()
    return found
