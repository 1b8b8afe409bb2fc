"""Trust, but check: lattices, transfers, and the answer against its own equations.

    check_lattice    the laws of `dataflow.lattice`, on facts you give
    check_monotone   larger facts in, larger facts out, at every node of a graph
    verify           every equation of a solution holds

`check_sound`, in sound.py, asks executions; `checked`, in checked.py, looks at an analysis
while it is solved; `check_graph`, in wellformed.py, at graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, reduce
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Final, TypeVar

from dataflow.analysis import (
    UNREACHED,
    Analysis,
    Backward,
    Forward,
    SparseBackward,
    SparseForward,
    Unreached,
    kind_of,
)
from dataflow.around import wrong_number
from dataflow.graph import Copy, Flow, FlowGraph
from dataflow.lattice import Lattice, LatticeError, a_lattice
from dataflow.results import PointResults, Results
from dataflow.snapshot import snapshot
from dataflow.solve import TransferError

N = TypeVar("N")
V = TypeVar("V")

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    Values = Iterable[V] | SearchStrategy[V]

ENOUGH: Final = 2_000
"""How many selections of given values are tried."""


VISITS: Final = (1, 2, 3, 10, 100)
"""At which visits a widening is tried: it may change its mind."""


class LawBroken(AssertionError):
    """A law does not hold; the message has the law and a counterexample."""


class NothingTried(ValueError):
    """A check had nothing to compare, so that it says nothing; a wrong analysis would pass it."""


def check_lattice(lattice: Lattice[V], values: Values[V]) -> None:
    """Try every law of `dataflow.lattice` on values; raise `LawBroken` at the first breach.

    `values` are some facts, tried in all triples, or a hypothesis strategy, which then
    finds and shrinks a counterexample.  Raises `NothingTried` if there are none.
    """
    a_lattice(lattice, "check_lattice")

    def try_all(some: Sequence[V]) -> None:
        with unchanged(lattice, some):
            try_laws(lattice, list(some))
            try_taking_apart(lattice, list(some))

    for_some(values, 3, try_all, whole=True)


def for_some(
    values: Values[V],
    count: int,
    test: Callable[[Sequence[V]], None],
    *,
    whole: bool = False,
) -> None:
    """Run a test on selections of `count` values.

    Of given values it gets all selections, or 2,000 of them at random, always the same; with
    `whole`, all values at once.  Of a hypothesis strategy it gets what that finds; with
    `whole`, 1 to `count`.
    """
    try:
        from hypothesis import given, settings
        from hypothesis.strategies import SearchStrategy, lists
    except ImportError:
        pass
    else:
        if isinstance(values, SearchStrategy):

            @settings(max_examples=100, deadline=None, database=None, derandomize=True,
                      report_multiple_bugs=False)  # fmt: skip
            @given(lists(values, min_size=1 if whole else count, max_size=count))
            def search(some: list[V]) -> None:
                test(some)

            search()
            return
    given_values = list(values)  # type: ignore[arg-type]  # not a strategy
    if not given_values:
        raise NothingTried("there is nothing to try: give some values")
    if whole:
        test(given_values)
    elif len(given_values) ** count <= ENOUGH:
        for selection in product(given_values, repeat=count):
            test(selection)
    else:
        dice = Random(0)
        for _ in range(ENOUGH):
            test(dice.choices(given_values, k=count))


def try_laws(lattice: Lattice[V], values: list[V]) -> None:
    """The laws on all triples of some facts."""
    join, leq = lattice.join, lattice.leq
    for a in values:
        _demand(lattice, "join(a, a) == a", join(a, a) == a, a)
        _demand(lattice, "leq(a, a)", leq(a, a), a)
        for least in _if_defined(lambda: lattice.bottom):
            _demand(lattice, "join(bottom, a) == a", join(least, a) == a, a)
            _demand(lattice, "leq(bottom, a)", leq(least, a), a)
        for greatest in _if_defined(lambda: lattice.top):
            _demand(lattice, "join(top, a) == top", join(greatest, a) == greatest, a)
    meets = bool(values) and bool(_if_defined(lambda: lattice.meet(values[0], values[0])))
    for a, b in product(values, repeat=2):
        joined = join(a, b)
        _demand(lattice, "join(a, b) == join(b, a)", joined == join(b, a), a, b)
        _demand(lattice, "leq(a, b) iff join(a, b) == b", leq(a, b) == (joined == b), a, b)
        _demand(lattice, "leq(a, join(a, b))", leq(a, joined), a, b)
        for visits in VISITS:
            wide = lattice.widen(a, joined, visits)
            law = f"leq(join(a, b), widen(a, join(a, b), n)) at n = {visits}"
            _demand(lattice, law, leq(joined, wide), a, b)
        if meets:
            met = lattice.meet(a, b)
            _demand(lattice, "meet(a, b) == meet(b, a)", met == lattice.meet(b, a), a, b)
            _demand(lattice, "join(a, meet(a, b)) == a", join(a, met) == a, a, b)
            _demand(lattice, "meet(a, join(a, b)) == a", lattice.meet(a, joined) == a, a, b)
            for c in values:
                law = "leq(c, meet(a, b)) if leq(c, a) and leq(c, b)"
                below = not (leq(c, a) and leq(c, b)) or leq(c, met)
                _demand(lattice, law, below, a, b, c)
    for a, b, c in product(values, repeat=3):
        law = "join(a, join(b, c)) == join(join(a, b), c)"
        _demand(lattice, law, join(a, join(b, c)) == join(join(a, b), c), a, b, c)


def try_taking_apart(lattice: Lattice[V], values: list[V]) -> None:
    """What is said of `parts` and `replace`, of some facts."""
    bottom = _if_defined(lambda: lattice.bottom)
    for a in values:
        parts = list(lattice.parts(a))
        whole = reduce(lattice.join, parts) if parts else a
        _demand(lattice, "join of parts(a) == a", whole == a, a)
        for least in bottom:
            _demand(lattice, "parts(a) is empty only for bottom", bool(parts) or a == least, a)
            _demand(lattice, "bottom is none of parts(a)", least not in parts, a)
    if not (values and _if_defined(lambda: lattice.replace(values[0], values[0], values[0]))):
        return
    for a, b in product(values, repeat=2):
        _demand(lattice, "replace(a, a, b) == b", lattice.replace(a, a, b) == b, a, b)


def _if_defined(get: Callable[[], V]) -> list[V]:
    try:
        return [get()]
    except LatticeError:
        return []


def _demand(lattice: Lattice[V], law: str, holds: bool, *values: V) -> None:
    if not holds:
        where = ", ".join(f"{name} = {value!r}" for name, value in zip("abc", values))  # noqa: B905  # as many as there are
        raise LawBroken(f"{lattice!r} breaks  {law}  for  {where}")


@contextmanager
def unchanged(lattice: Lattice[V], values: Sequence[V]) -> Iterator[None]:
    """Raise `LawBroken` if facts, or bottom and top, are not afterwards what they were before;
    whatever else is found then may come of that."""
    facts = [*values, *_if_defined(lambda: lattice.bottom), *_if_defined(lambda: lattice.top)]
    before, shown = snapshot(facts), repr(facts)
    try:
        yield
    finally:
        if snapshot(facts) != before:
            raise LawBroken(
                f"{lattice!r} changes its arguments: {shown} have become {facts!r}; "
                "facts are shared, so a method builds a new one and returns that"
            ) from None


def check_monotone(analysis: Analysis[N, V], graph: FlowGraph[N], values: Values[V]) -> None:
    """Demand that at every node larger facts in give larger facts out; raise `LawBroken`.

    Tried are `transfer`, and `edge`, `takes` and `copy` where the graph has use for them, on
    `values` and their joins.  Values are some facts, or a hypothesis strategy.  An analysis
    that needs others is tried as `results.analysis`, where their answers are known.  Raises
    `TypeError` for what is no analysis, `NothingTried` where no facts go in, and
    `TransferError` where a transfer does not give a fact for each value.
    """
    kind_of(analysis, "check_monotone")
    functions = [found for found in _functions(analysis, graph.flow) if found[1]]
    lattice = analysis.lattice
    if not functions:
        raise NothingTried("nothing was tried: the graph has no node at which facts go in")
    widest = max(arity for _, arity, _ in functions)

    def try_all(facts: Sequence[V]) -> None:
        for name, arity, function in functions:
            small = list(facts[:arity])
            for position in range(arity):
                large = list(small)
                large[position] = lattice.join(small[position], facts[-1])
                less, more = function(list(small)), function(list(large))
                if not all(_below(lattice, a, b) for a, b in zip(less, more, strict=True)):
                    raise LawBroken(
                        f"{type(analysis).__name__} is not monotone: {name} gives "
                        f"{_show(lattice, less)} for {_show(lattice, small)}, and "
                        f"{_show(lattice, more)} for {_show(lattice, large)}, which is larger"
                    )

    for_some(values, widest + 1, try_all)


Function = tuple[str, int, Callable[[list[V]], Sequence["V | Unreached"]]]
"""Something an author wrote that maps facts to facts: what it is, of how many, itself."""


def _functions(analysis: Analysis[N, V], flow: Flow[N]) -> Iterator[Function[V]]:
    if isinstance(analysis, (Forward, Backward)):
        yield from _of_points(analysis, flow)
    elif isinstance(analysis, (SparseForward, SparseBackward)):
        yield from _of_values(analysis, flow)


def _of_points(analysis: Forward[N, V] | Backward[N, V], flow: Flow[N]) -> Iterator[Function[V]]:
    def transfer(node: N, facts: list[V]) -> Sequence[V]:
        given = analysis.transfer(node, facts[0])
        return _as_many(node, None if given is None else [given], 1)

    def edge(node: N, way: int, facts: list[V]) -> Sequence[V | Unreached]:
        return [analysis.edge(node, way, facts[0])]

    for node in flow.node_number:
        yield f"transfer at {node}", 1, partial(transfer, node)
    for decision in flow.ways:
        if decision is not None:
            node, way = decision
            yield f"edge, way {way} of {node},", 1, partial(edge, node, way)


def _of_values(
    analysis: SparseForward[N, V] | SparseBackward[N, V], flow: Flow[N]
) -> Iterator[Function[V]]:
    def copy(step: Copy, facts: list[V]) -> Sequence[V]:
        return [analysis.copy(step, facts[0])]

    def transfer(node: N, count: int, facts: list[V]) -> Sequence[V]:
        return _as_many(node, analysis.transfer(node, facts), count)

    reads, writes = flow.operands, flow.results
    if isinstance(analysis, SparseBackward):
        reads, writes = writes, reads
    for node, number in flow.node_number.items():
        given = partial(transfer, node, len(writes[number]))
        yield f"transfer at {node}", len(reads[number]), given
    for step in flow.copies:
        yield f"copy, {step},", 1, partial(copy, step)
    if isinstance(analysis, SparseForward):
        taken, takes = analysis.lattice.bottom, analysis.takes

        def take(node: N, way: int, facts: list[V]) -> Sequence[V | Unreached]:
            return [taken if takes(node, way, facts) else UNREACHED]

        for decision in flow.ways:
            if decision is not None:
                node, way = decision
                arity = len(flow.operands[flow.number(node)])
                yield f"takes, way {way} of {node},", arity, partial(take, node, way)


def _as_many(node: N, given: Sequence[V] | None, count: int) -> Sequence[V]:
    # Where nobody reads a fact, as of a linked call's results, any number of them will do.
    if given is None or (count and len(given) != count):
        raise TransferError(f"{wrong_number(given, count)}, at {node}")
    return given


def _below(lattice: Lattice[V], a: V | Unreached, b: V | Unreached) -> bool:
    return a is UNREACHED or (b is not UNREACHED and lattice.leq(a, b))


def _show(lattice: Lattice[V], facts: Sequence[V | Unreached]) -> str:
    return ", ".join("unreached" if f is UNREACHED else lattice.show(f) for f in facts)


def verify(results: Results[N, V]) -> None:
    """Re-evaluate every equation of a solution and demand that its state covers it.

    Raises `LawBroken` with the equation, what it says and what the state has, and `StaleError`
    after an edit of the graph.
    """
    if not isinstance(results, Results):
        raise TypeError(f"verify wants what solve() returned, and {results!r} is not that")
    results.fresh()
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
    # Where constraints ask, those that write nothing count too, but not those of erased nodes.
    for constraint in system.sequence if system.asks else range(len(system.reads)):
        inputs, outputs = system.reads[constraint], system.writes[constraint]
        values = [fact for unknown in inputs if (fact := states[unknown]) is not UNREACHED]
        if len(values) < len(inputs) or not (outputs or system.asks):
            continue  # of blocks that write nothing, see below
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
    if isinstance(results, PointResults):
        for block in system.ends:
            if states[block] is not UNREACHED:
                yield from _breaches_inside(results, block)


def _breaches_inside(results: PointResults[N, V], block: int) -> Iterator[str]:
    """Node by node, in a block that writes nothing: its facts are found when asked for."""
    flow, analysis, lattice = results.flow, results.analysis, results.analysis.lattice
    assert isinstance(analysis, (Forward, Backward))
    side = "after" if isinstance(analysis, Forward) else "before"
    for position, number in enumerate(flow.blocks[block]):
        node = flow.nodes[number]
        facts = [results.at(block, position), results.at(block, position + 1)]
        near, far = facts if isinstance(analysis, Forward) else reversed(facts)
        new = analysis.transfer(node, near)
        if not lattice.leq(new, far):
            yield (
                f"[{node}] says {lattice.show(new)} of the point {side} it, whose fact is "
                f"{lattice.show(far)}"
            )
