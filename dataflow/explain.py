"""Why does a fact hold?  A smallest derivation of it, from the same equations as the loop.

A fact may be any `f` with `leq(f, state)`: one element of a set, one key of a map.  An
equation gives it at a place.  A read of that equation *carries* it if the equation still gives
it with bottom in the place of all other reads; where none does alone, some do together.  What
is read must then have a fact, too, at another place.  Without carriers the fact begins there:
the node itself says it, or the boundary.  Where no single equation gives all of it, several do
together.

Of all derivations the answer is one with the fewest steps, a fact that is needed twice counted
twice, and none goes in a circle.  (A fact of several parts is explained as a whole as long as its
parts go one way, and then part by part: of each the smallest derivation is told.)  Where facts of
a loop only rest on each other, they rest on what they first rested on while they grew (`growth`).
"""

from __future__ import annotations

from typing import TypeVar

from dataflow.derive import Derivations
from dataflow.reason import Reason
from dataflow.results import PointResults, Results, ValueResults
from dataflow.stand_ins import Answers

N = TypeVar("N")
V = TypeVar("V")


def why(results: Results[N, V], where: object, fact: V | None = None) -> Reason[V]:
    """Why a fact holds before a node, or of a value; by default all that is known there.

    The answer goes on in other analyses that were asked (`Solved`, `Partial`, `Shared`).
    Raises `ValueError` if it does not hold, `UnreachedError` where nothing is reached.
    """
    if isinstance(results, PointResults):
        state = results.before(where)
    elif isinstance(results, ValueResults):
        state = results.of(where)
    else:
        raise TypeError(f"{results!r} is not the result of solve()")
    lattice = results.analysis.lattice
    wanted = state if fact is None else fact
    try:
        holds = lattice.leq(wanted, state)
    except (TypeError, AttributeError) as error:
        raise TypeError(f"{wanted!r} is no fact of {lattice!r}, such as {state!r}") from error
    if not holds:
        raise ValueError(
            f"{lattice.show(wanted)} does not hold at {where}: the fact there is "
            f"{lattice.show(state)}"
        )
    answers = Answers(results)
    return Derivations(answers.ear, results.sweep.limit).derive((answers.place(where), wanted))
