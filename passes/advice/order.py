"""A search for an order of ops with a lower peak.

A beam of partial orders grows op by op, once from the beginning and once from the end; in
either direction a storage is alive from the first op that touches it to the last.  Then the
best order so far, and the program's own, are improved by moves: what holds a storage alive
over the peak is taken to the other side of it, with all that must go along.

The search knows bytes per storage and op, which is exact where no branch or loop decides;
whether an order is better is for an analysis of the reordered program to say.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property

from attrs import define, frozen

from passes.advice.dependences import dependences
from passes.advice.facts import Facts
from passes.program import OpKind

WIDTH = 6
BRANCHES = 3
SEEN = 40
"""Of the ops that could come next, how many are looked at, the program's next ones first."""
LARGEST = 3_000
"""Ops of a program that the beam is tried on."""
SECONDS = 2.0
"""For the moves."""


@define(eq=False, slots=False)
class Board:
    """What a schedule needs to know: who must precede whom, and who touches how many bytes."""

    facts: Facts

    @cached_property
    def count(self) -> int:
        return len(self.facts.ops)

    @cached_property
    def before(self) -> list[set[int]]:
        return dependences(self.facts)

    @cached_property
    def after(self) -> list[set[int]]:
        found: list[set[int]] = [set() for _ in self.before]
        for number, others in enumerate(self.before):
            for other in others:
                found[other].add(number)
        return found

    @cached_property
    def touched(self) -> list[list[int]]:
        """The storages that each op touches, of those whose life the order decides."""
        facts = self.facts
        last = self.count - 1
        return [
            [s for s in storages if s >= 0 and not facts.is_entry(s) and facts.nbytes(s)]
            + ([s for s in self._to_the_end if s not in storages] if number == last else [])
            for number, storages in enumerate(facts.touched)
        ]

    @cached_property
    def _to_the_end(self) -> list[int]:
        facts = self.facts
        end = facts.ops[-1].index
        allocated = facts.aliases.allocations.allocated
        return [s for s in allocated if facts.last_use(s) == end and facts.nbytes(s)]

    @cached_property
    def touches(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for number, storages in enumerate(self.touched):
            for storage in storages:
                found.setdefault(storage, []).append(number)
        return found

    @cached_property
    def extra(self) -> list[int]:
        """Bytes at each op beyond what it touches and what lives across it."""
        own = self.levels(range(self.count), [0] * self.count)
        return [real - seen for real, seen in zip(self.facts.levels, own, strict=True)]

    def levels(self, order: Sequence[int], extra: Sequence[int] | None = None) -> list[int]:
        """Bytes at each position of an order."""
        place = [0] * self.count
        for position, number in enumerate(order):
            place[number] = position
        steps = [0] * (self.count + 1)
        for storage, numbers in self.touches.items():
            places = [place[number] for number in numbers]
            nbytes = self.facts.nbytes(storage)
            steps[min(places)] += nbytes
            steps[max(places) + 1] -= nbytes
        more = self.extra if extra is None else extra
        found, level = [], 0
        for position, number in enumerate(order):
            level += steps[position]
            found.append(level + more[number])
        return found

    @cached_property
    def inputs(self) -> list[int]:
        return [n for n, op in enumerate(self.facts.ops) if op.kind is OpKind.INPUT]


def orders(facts: Facts) -> list[tuple[int, ...]]:
    """Orders of the ops that promise a lower peak, most promising first."""
    board = Board(facts)
    own = tuple(range(board.count))
    tried = [_moved(board, own)]
    if board.count <= LARGEST:
        forward = _beam(board, board.before, board.after, 1)
        backward = _beam(board, board.after, board.before, -1)
        found = [(*board.inputs, *forward), (*board.inputs, *reversed(backward))]
        found = [order for order in found if len(order) == board.count]
        if found:
            tried.append(_moved(board, min(found, key=lambda o: _badness(board, o))))
    bound = max(facts.levels, default=0)
    better = {
        _settled(board, order) for order in tried if max(board.levels(order), default=0) < bound
    }
    return sorted(better, key=lambda order: (_badness(board, order), order))


def _badness(board: Board, order: Sequence[int]) -> tuple[int, int]:
    levels = board.levels(order)
    peak = max(levels, default=0)
    return peak, levels.count(peak)


# ------------------------------------------------------------------------------------- the beam


@frozen(eq=False)
class _State:
    """A partial order; `done` and `ready` are sets of ops as bits and numbers."""

    peak: int
    level: int
    done: int
    ready: tuple[int, ...]
    last: int
    previous: _State | None


def _beam(
    board: Board, needs: Sequence[set[int]], frees: Sequence[set[int]], direction: int
) -> tuple[int, ...]:
    """The best order found of all ops but the inputs, each after those it needs.

    Ties go to the program's own order, or in the other direction against it.
    """
    need = [_bits(others) for others in needs]
    users = {storage: _bits(numbers) for storage, numbers in board.touches.items()}
    touched, extra, nbytes = board.touched, board.extra, board.facts.nbytes
    outside = set(board.inputs)
    done = _bits(outside)
    placed = [n for n in range(board.count) if n not in outside]
    ready = tuple(n for n in placed if not need[n] & ~done)
    states = [_State(0, 0, done, ready, -1, None)]
    for _ in placed:
        found: dict[int, _State] = {}
        for state in states:
            options = []
            for number in sorted(state.ready, key=lambda n: direction * n)[:SEEN]:
                now = state.done | 1 << number
                begun = freed = 0
                for storage in touched[number]:
                    if not users[storage] & state.done:
                        begun += nbytes(storage)
                    if not users[storage] & ~now:
                        freed += nbytes(storage)
                peak = max(state.peak, state.level + begun + extra[number])
                options.append((peak, begun - freed, direction * number, number, now))
            for peak, change, _, number, now in sorted(options)[:BRANCHES]:
                known = found.get(now)
                if known is None or peak < known.peak:
                    new = [n for n in frees[number] if not need[n] & ~now and n not in outside]
                    rest = tuple([n for n in state.ready if n != number])
                    found[now] = _State(
                        peak, state.level + change, now, (*rest, *new), number, state
                    )
        states = sorted(found.values(), key=lambda s: (s.peak, s.level))[:WIDTH]
        if not states:
            return ()
    order: list[int] = []
    last: _State | None = states[0]
    while last is not None and last.last >= 0:
        order.append(last.last)
        last = last.previous
    return tuple(reversed(order))


def _bits(numbers: Sequence[int] | set[int]) -> int:
    found = 0
    for number in numbers:
        found |= 1 << number
    return found


# ------------------------------------------------------------------------------------ the moves


def _moved(board: Board, order: tuple[int, ...]) -> tuple[int, ...]:
    """An order improved by moves away from the peak, until none helps."""
    deadline = time.monotonic() + SECONDS
    best = _badness(board, order)
    while time.monotonic() < deadline:
        for candidate in _moves(board, order):
            badness = _badness(board, candidate)
            if badness < best:
                order, best = candidate, badness
                break
        else:
            return order
    return order


def _settled(board: Board, order: tuple[int, ...]) -> tuple[int, ...]:
    """An order with ops moved back to where the program has them, as far as the peak allows."""
    deadline = time.monotonic() + SECONDS
    peak = _badness(board, order)[0]
    for number in sorted(moved_ops(order)):
        if time.monotonic() > deadline:
            break
        rest = [n for n in order if n != number]
        first = max((rest.index(n) + 1 for n in board.before[number]), default=0)
        last = min((rest.index(n) for n in board.after[number]), default=len(rest))
        wanted = next((k for k in range(first, last) if rest[k] > number), last)
        tried = (*rest[:wanted], number, *rest[wanted:])
        if len(moved_ops(tried)) < len(moved_ops(order)) and _badness(board, tried)[0] <= peak:
            order = tried
    return order


def _moves(board: Board, order: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Orders in which one storage that lives across the peak does so no longer."""
    levels = board.levels(order)
    peak = levels.index(max(levels))
    place = {number: position for position, number in enumerate(order)}
    across = [
        (board.facts.nbytes(storage), storage, early, late)
        for storage, numbers in board.touches.items()
        if (early := [n for n in numbers if place[n] < peak])
        and (late := [n for n in numbers if place[n] > peak])
        and len(early) + len(late) == len(numbers)
    ]
    found = []
    for _, _, early, late in sorted(across, reverse=True)[:SEEN]:
        for start, edges, inside in (
            (early, board.after, order[:peak]),
            (late, board.before, order[peak + 1 :]),
        ):
            going = _closure(start, edges, set(inside), order[peak])
            if going is not None:
                found.append(_placed_beyond(order, peak, going, start is early))
    return found


def _closure(
    start: Sequence[int], edges: Sequence[set[int]], inside: set[int], never: int
) -> set[int] | None:
    """All that must go along with `start`, of `inside`; None if `never` must."""
    found, waiting = set(start), list(start)
    while waiting:
        for other in edges[waiting.pop()]:
            if other == never:
                return None
            if other in inside and other not in found:
                found.add(other)
                waiting.append(other)
    return found


def _placed_beyond(
    order: tuple[int, ...], peak: int, going: set[int], later: bool
) -> tuple[int, ...]:
    """The order with `going` right after the op at the peak, or right before it."""
    before = [n for n in order[:peak] if n not in going]
    after = [n for n in order[peak + 1 :] if n not in going]
    moved = [n for n in order if n in going]
    middle = [order[peak], *moved] if later else [*moved, order[peak]]
    return (*before, *middle, *after)


def moved_ops(order: Sequence[int]) -> list[int]:
    """As few ops as need to move to get to an order, in that order."""
    # The longest rising part stays where it is.
    tails: list[int] = []
    links: dict[int, int] = {}
    ends: list[int] = []
    for number in order:
        low, high = 0, len(tails)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if tails[middle] < number else (low, middle)
        if low:
            links[number] = ends[low - 1]
        tails[low:] = [number, *tails[low + 1 :]]
        ends[low:] = [number, *ends[low + 1 :]]
    staying = set()
    number = ends[-1] if ends else -1
    while number >= 0:
        staying.add(number)
        number = links.get(number, -1)
    return [number for number in order if number not in staying]
