"""In which order to evaluate constraints: a weak topological order (Bourdoncle, 1993).

What feeds no loop is evaluated once, after everything it reads.  A loop is entered at its
head and stands in one piece: its inner loops stand inside it, in one piece each.

A depth-first search gives the order without loops (its reverse postorder) and the heads:
a head is where the search comes back to.  Loops are found from the innermost outwards by
going backwards from there, inner loops merged into their heads (Havlak, 1997); what leads
across is looked at where it first can be part of a loop (Ramalingam, 1999).
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress

from attrs import frozen

from dataflow.components import strong_components
from dataflow.system import UNREACHED


@frozen
class Order:
    """Constraints by rank, and where the loops are.

    `sequence[rank]` is a constraint.  `loops` are the outermost loops as ranges of ranks.
    `readers` has the ranks that read each unknown, ascending, None if none does; it is empty
    if nothing loops.
    """

    sequence: Sequence[int]
    loops: Sequence[range]
    readers: list[list[int] | None]

    @property
    def parts(self) -> list[range]:
        """All ranks in order, cut into loops and the straight stretches between them."""
        parts = []
        end = 0
        for loop in self.loops:
            parts += [range(end, loop.start), loop]
            end = loop.stop
        return [part for part in [*parts, range(end, len(self.sequence))] if part]


@contextmanager
def collector_paused() -> Iterator[None]:
    """Set up without the garbage collector: of the hundreds of thousands of lists that are
    made at once all are kept, and looking them over again and again takes as long as making
    them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@collector_paused()
def weak_topological_order(
    reads: Sequence[Sequence[int]],
    writes: Sequence[Sequence[int]],
    unknowns: int,
    given: Sequence[int] | None = None,
    known: Sequence[object] = (),
    *,
    nested: bool,
) -> Order:
    """The order for constraints that read and write numbered unknowns, in almost
    linear time; the one they are `given` in if it will do.

    `known[u]` is UNREACHED where nothing is known of unknown u at first: loops are entered
    from where something is.  If not `nested`, only the outermost loops are in one piece.
    """
    given = range(len(reads)) if given is None else given
    if _feeds_only_onward(reads, writes, unknowns, given):
        return Order(given, (), [])

    onward, reading = _links(reads, writes, unknowns)
    told = [fact is not UNREACHED for fact in known]
    woken = {c for unknown in compress(range(unknowns), told) for c in reading[unknown]}
    starts = [c for c in woken if all(told[unknown] for unknown in reads[c])]
    starts += [c for c, inputs in enumerate(reads) if not inputs]
    if len(starts) > 1 or len(given) < len(reads):  # then some are erased
        found = set(starts)
        starts = [c for c in given if c in found]
    roots = _roots(onward, given, starts)
    if nested:
        search = _Search(onward, roots)
        heads = search.heads()
        sequence, loops = _arrange(search.order, heads)
    else:
        sequence, loops = strong_components(onward, roots)
    return Order(sequence, loops, readers_of(sequence, reads, unknowns))


def readers_of(
    sequence: Sequence[int], reads: Sequence[Sequence[int]], unknowns: int
) -> list[list[int] | None]:
    """The `readers` of an order."""
    readers: list[list[int] | None] = [None] * unknowns
    for rank, constraint in enumerate(sequence):
        for unknown in reads[constraint]:
            found = readers[unknown]
            if found is None:
                readers[unknown] = [rank]
            else:
                found.append(rank)
    return readers


def _links(
    reads: Sequence[Sequence[int]], writes: Sequence[Sequence[int]], unknowns: int
) -> tuple[Sequence[Sequence[int]], Sequence[Sequence[int]]]:
    """Which constraints each constraint leads to, and which read each unknown."""
    if len(reads) == unknowns and all(inputs == (c,) for c, inputs in enumerate(reads)):
        return writes, reads  # each reads an unknown of its own, of the same number
    reading: list[list[int]] = [[] for _ in range(unknowns)]
    for constraint, inputs in enumerate(reads):
        for unknown in inputs:
            reading[unknown].append(constraint)
    onward = [
        reading[outputs[0]] if len(outputs) == 1 else [r for u in outputs for r in reading[u]]
        for outputs in writes
    ]
    return onward, reading


def _roots(
    onward: Sequence[Sequence[int]], given: Sequence[int], starts: Sequence[int]
) -> Iterator[int]:
    """Where a search begins: where solving starts, then what nothing feeds, then what is
    left.  Mostly the first is enough, and who asks goes on only if it was not."""
    if len(starts) == 1:
        yield from starts
    fed = bytearray(len(onward))
    for following in onward:
        for reader in following:
            fed[reader] = 1
    yield from (c for c in starts if not fed[c])
    yield from starts
    yield from (c for c in given if not fed[c])
    yield from given


def _feeds_only_onward(
    reads: Sequence[Sequence[int]],
    writes: Sequence[Sequence[int]],
    unknowns: int,
    given: Sequence[int],
) -> bool:
    seen = bytearray(unknowns)
    for constraint in given:
        for unknown in reads[constraint]:
            seen[unknown] = 1
        for unknown in writes[constraint]:
            if seen[unknown]:
                return False
    return True


class _Search:
    """A depth-first search.  `order` is its reverse postorder."""

    def __init__(self, onward: Sequence[Sequence[int]], roots: Iterable[int]) -> None:
        count = len(onward)
        self.onward = onward
        self.entered = [-1] * count  # numbers in the order of entering
        self.before: list[list[int]] = [[] for _ in range(count)]  # by what leads down or back
        # What leads across or ahead, at the lowest constraint that is above both ends.
        self.across: dict[int, list[tuple[int, int]]] = {}
        self.order: list[int] = []
        self.back: set[int] = set()  # what something leads back to
        self.above = list(range(count))  # a finished one -> what it was reached from
        self.number = 0
        for root in roots:
            if self.entered[root] < 0:
                self._from(root)
                if len(self.order) == count:
                    break
        self.order.reverse()

    def _from(self, root: int) -> None:
        entered, onward, above = self.entered, self.onward, self.above
        before, order, number = self.before, self.order, self.number
        first = entered[root] = number
        path, pending = [root], [iter(onward[root])]
        while path:
            current = path[-1]
            for following in pending[-1]:
                if entered[following] < 0:
                    number += 1
                    entered[following] = number
                    before[following].append(current)
                    path.append(following)
                    pending.append(iter(onward[following]))
                    break
                if entered[following] >= first:
                    if above[following] == following:  # on the path still: it leads back
                        before[following].append(current)
                        self.back.add(following)
                    else:
                        top = _root(above, following)
                        self.across.setdefault(top, []).append((current, following))
            else:
                pending.pop()
                path.pop()
                order.append(current)
                if path:
                    above[current] = path[-1]
        self.number = number + 1

    def heads(self) -> list[int]:
        """Per constraint the head of the innermost loop around it: itself, if it is one
        that only leads back to itself; -1 outside of loops; for a head of a larger loop,
        the head of the loop around that."""
        entered, before = self.entered, self.before
        merged = list(range(len(entered)))
        heads = [-1] * len(entered)
        for head in sorted(self.back.union(self.across), key=entered.__getitem__, reverse=True):
            for source, target in self.across.get(head, ()):
                before[_root(merged, target)].append(source)
            body: list[int] = []
            for source in before[head]:
                if source == head:
                    heads[head] = head
                elif entered[source] > entered[head]:
                    body.append(_root(merged, source))
            if not body:
                continue
            body = list(dict.fromkeys(body))
            seen = {head, *body}
            for member in body:  # grows while it is walked
                for source in before[member]:
                    if merged[source] != source:
                        source = _root(merged, source)
                    if source not in seen:
                        seen.add(source)
                        body.append(source)
            for member in body:
                heads[member] = merged[member] = head
        return heads


def _root(parents: list[int], x: int) -> int:
    """The root of the tree x is in, with the way there halved."""
    while parents[x] != x:
        parents[x] = x = parents[parents[x]]
    return x


def _arrange(order: Sequence[int], heads: Sequence[int]) -> tuple[list[int], list[range]]:
    """Constraints with each loop in one piece, and the outermost loops."""
    looping = set(heads)
    inside: dict[int, list[int]] = {}
    for constraint in reversed(order):
        head = heads[constraint]
        inside.setdefault(-1 if head == constraint else head, []).append(constraint)
    sequence: list[int] = []
    loops: list[range] = []
    for outer in reversed(inside[-1]):
        start = len(sequence)
        pending = [outer]
        while pending:
            constraint = pending.pop()
            sequence.append(constraint)
            pending += inside.get(constraint, ())
        if outer in looping:
            loops.append(range(start, len(sequence)))
    return sequence, loops
