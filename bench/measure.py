"""What is measured of an engine: CPU seconds and bytes."""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from attrs import frozen

S = TypeVar("S")
A = TypeVar("A")


@frozen
class Posed(Generic[S, A]):
    """A problem in an engine's own terms, built beforehand.

    `solve` is what is measured; it is called once.  `answer` reads a solution, part by part,
    in an order and in terms that are the same for all engines.
    """

    solve: Callable[[], S]
    answer: Callable[[S], Iterable[A]]


Entrant = Callable[[], Posed[Any, Any]]
"""Builds a problem for one engine, anew each time: some leave their answers in it."""


def seconds(solve: Callable[[], S]) -> tuple[float, S]:
    """CPU seconds of one call, the collector run before, and what it returned."""
    gc.collect()
    start = time.process_time()
    solution = solve()
    return time.process_time() - start, solution


def race(entrants: Mapping[str, Entrant], repeats: int) -> dict[str, float]:
    """Median CPU seconds of solving, by engine; they take turns.

    Raises `AssertionError` if a solution is not that of the first engine.
    """
    times: dict[str, list[float]] = {name: [] for name in entrants}
    expected: list[int] = []
    for turn in range(repeats):
        for name, entrant in entrants.items():
            posed = entrant()
            taken, solution = seconds(posed.solve)
            times[name].append(taken)
            if turn == 0:  # hashes, so that no two solutions are kept to be compared
                found = [hash(part) for part in posed.answer(solution)]
                expected = expected or found
                assert found == expected, _difference(name, expected, found)
            del posed, solution
    return {name: statistics.median(taken) for name, taken in times.items()}


def _difference(name: str, expected: list[int], found: list[int]) -> str:
    pairs = zip(expected, found, strict=False)
    shorter = min(len(expected), len(found))
    part = next((n for n, (a, b) in enumerate(pairs) if a != b), shorter)
    return f"the answer of {name} differs in part {part}"


@frozen
class Bytes:
    """Bytes that solving takes at its worst moment, and that a solution keeps."""

    peak: int
    kept: int


def bytes_of(entrant: Entrant) -> Bytes:
    """Bytes allocated by Python while a problem is solved; the problem's own do not count."""
    posed = entrant()
    gc.collect()
    tracemalloc.start()
    try:
        solution = posed.solve()
        _, peak = tracemalloc.get_traced_memory()
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        del solution
    finally:
        tracemalloc.stop()
    return Bytes(peak, kept)
