"""Trust, but check: the laws of lattices, and the answer against its own equations.

`check_lattice` is for authors of lattices and their tests, `verify` for results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import TYPE_CHECKING, TypeVar

from dataflow.analysis import UNREACHED
from dataflow.lattice import Lattice, LatticeError
from dataflow.results import Results

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

N = TypeVar("N")
V = TypeVar("V")


class LawBroken(AssertionError):
    """A law does not hold; the message has the law and a counterexample."""


def check_lattice(lattice: Lattice[V], values: Iterable[V] | SearchStrategy[V]) -> None:
    """Try every law of `dataflow.lattice` on values; raise `LawBroken` at the first breach.

    `values` are some facts, tried in all triples, or a hypothesis strategy, which then
    finds and shrinks a counterexample.
    """
    try:
        from hypothesis import given, settings
        from hypothesis.strategies import SearchStrategy, lists
    except ImportError:
        pass
    else:
        if isinstance(values, SearchStrategy):

            @settings(deadline=None, database=None)
            @given(lists(values, min_size=1, max_size=3))
            def try_laws(some: list[V]) -> None:
                _try_laws(lattice, some)

            try_laws()
            return
    _try_laws(lattice, list(values))  # type: ignore[arg-type]  # not a strategy


def _try_laws(lattice: Lattice[V], values: list[V]) -> None:
    join, leq = lattice.join, lattice.leq
    bottom = _if_defined(lambda: lattice.bottom)
    top = _if_defined(lambda: lattice.top)
    for a in values:
        _demand(lattice, "join(a, a) == a", join(a, a) == a, a)
        _demand(lattice, "leq(a, a)", leq(a, a), a)
        for least in bottom:
            _demand(lattice, "join(bottom, a) == a", join(least, a) == a, a)
            _demand(lattice, "leq(bottom, a)", leq(least, a), a)
        for greatest in top:
            _demand(lattice, "join(top, a) == top", join(greatest, a) == greatest, a)
    meets = bool(values) and bool(_if_defined(lambda: lattice.meet(values[0], values[0])))
    for a, b in product(values, repeat=2):
        joined = join(a, b)
        _demand(lattice, "join(a, b) == join(b, a)", joined == join(b, a), a, b)
        _demand(lattice, "leq(a, b) iff join(a, b) == b", leq(a, b) == (joined == b), a, b)
        _demand(lattice, "leq(a, join(a, b))", leq(a, joined), a, b)
        wide = lattice.widen(a, joined, 1)
        _demand(lattice, "leq(join(a, b), widen(a, join(a, b), n))", leq(joined, wide), a, b)
        if meets:
            met = lattice.meet(a, b)
            _demand(lattice, "meet(a, b) == meet(b, a)", met == lattice.meet(b, a), a, b)
            _demand(lattice, "join(a, meet(a, b)) == a", join(a, met) == a, a, b)
            _demand(lattice, "meet(a, join(a, b)) == a", lattice.meet(a, joined) == a, a, b)
    for a, b, c in product(values, repeat=3):
        law = "join(a, join(b, c)) == join(join(a, b), c)"
        _demand(lattice, law, join(a, join(b, c)) == join(join(a, b), c), a, b, c)


def _if_defined(get: Callable[[], V]) -> list[V]:
    try:
        return [get()]
    except LatticeError:
        return []


def _demand(lattice: Lattice[V], law: str, holds: bool, *values: V) -> None:
    if not holds:
        where = ", ".join(f"{name} = {value!r}" for name, value in zip("abc", values))  # noqa: B905  # as many as there are
        raise LawBroken(f"{lattice!r} breaks  {law}  for  {where}")


def verify(results: Results[N, V]) -> None:
    """Re-evaluate every equation of a solution and demand that its state covers it.

    Raises `LawBroken` with the equation, what it says and what the state has.
    """
    for breach in _breaches(results):
        raise LawBroken(breach)


def _breaches(results: Results[N, V]) -> Iterator[str]:
    sweep = results.sweep
    system, lattice = sweep.system, sweep.lattice
    # Facts of several analyses are checked where they were found, together.
    rest = sweep.state[len(results.states) :]
    states = sweep.state if system.asks else [*results.states, *rest]
    for unknown, start in enumerate(system.initial):
        state = states[unknown]
        if start is not UNREACHED and (state is UNREACHED or not lattice.leq(start, state)):
            yield f"the state of {sweep.unknown_name(unknown)} does not cover its boundary"
    for constraint, (inputs, outputs) in enumerate(zip(system.reads, system.writes, strict=True)):
        values = [fact for unknown in inputs if (fact := states[unknown]) is not UNREACHED]
        if len(values) < len(inputs) or not (outputs or system.asks):
            continue
        facts = system.evaluate(system.subjects[constraint], values)
        said = [*zip(outputs, facts, strict=True), *sweep.told]
        sweep.told.clear()
        for unknown, new in said:
            state = states[unknown]
            if new is UNREACHED:
                continue
            if state is UNREACHED or not lattice.leq(new, state):
                has = "unreached" if state is UNREACHED else lattice.show(state)
                yield (
                    f"{system.constraint_name(constraint)} says {lattice.show(new)} of "
                    f"{sweep.unknown_name(unknown)}, whose state is {has}"
                )
