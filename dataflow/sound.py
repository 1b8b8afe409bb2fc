"""Truth is the run: do facts cover what executions do?

    check_sound    facts of program points, against an interpreter that you give
    check_values   facts of values, against what values were in executions of yours

An analysis can satisfy every law and its own equations and still be wrong about programs.
Only executions tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import frozen

from dataflow.analysis import Backward
from dataflow.graph import Flow
from dataflow.laws import LawBroken, NothingTried, for_some
from dataflow.results import PointResults, UnreachedError, ValueResults

if TYPE_CHECKING:
    from dataflow.laws import Values

N = TypeVar("N")
V = TypeVar("V")
C = TypeVar("C")


@frozen(eq=False)
class Execution(Generic[N, C]):
    """The nodes that ran, each with the concrete state before it, and the state after all.

    `marks` has the moments when nodes with sub-graphs began, as (steps so far, node).
    `ended`: it left the graph, and was not cut off.
    """

    steps: Sequence[tuple[N, C]]
    last: C
    marks: Sequence[tuple[int, N]]
    ended: bool

    def state(self, at: int) -> C:
        """The state after `at` steps."""
        return self.steps[at][1] if at < len(self.steps) else self.last


@frozen(eq=False)
class Moment(Generic[N, C]):
    """A moment of an execution, after `at` of its steps."""

    execution: Execution[N, C]
    at: int

    @property
    def state(self) -> C:
        """The concrete state now."""
        return self.execution.state(self.at)

    @property
    def past(self) -> list[N]:
        """The nodes that have run, in order."""
        return [node for node, _ in self.execution.steps[: self.at]]

    @property
    def rest(self) -> list[N]:
        """The nodes that are still to run, in order."""
        return [node for node, _ in self.execution.steps[self.at :]]


def check_sound(
    results: PointResults[N, V],
    states: Values[C],
    step: Callable[[N, C], C],
    covers: Callable[[V, Moment[N, C]], bool],
    *,
    way: Callable[[N, C], int | None] | None = None,
    limit: int = 1_000,
) -> None:
    """Execute a graph from each of `states`, and demand that facts cover every moment.

    `step(node, state)` is the state after a node; it returns a new one.  `way(node, state)`
    is the number of the way on, from 0, that control takes after a node with several; None:
    it leaves the graph.  `covers(fact, moment)` compares: a fact of the past with the
    moment's `state` or `past`, a fact of the future with its `rest`.  States are some to
    start from, or a hypothesis strategy.

    Executions go along the graph's edges: one that the graph forgot is not missed here.
    They end after `limit` nodes.  What was cut off has no future, so it says nothing
    of a backward analysis.  Raises `LawBroken` with the execution up to there, and `NothingTried`
    if no moment of any execution was compared.
    """
    compared = 0

    def run(selection: Sequence[C]) -> None:
        nonlocal compared
        for entry in results.flow.entries:
            execution = execute(results.flow, entry, selection[0], step, way, limit)
            if execution.ended or not isinstance(results.analysis, Backward):
                compared += _look(results, execution, covers)

    for_some(states, 1, run)
    if not compared:
        backward = isinstance(results.analysis, Backward)
        raise NothingTried(
            f"nothing was tried: no execution of at most {limit} nodes "
            + ("left the graph, so none has a future to compare with" if backward else "ran any")
        )


def execute(
    flow: Flow[N],
    block: int,
    state: C,
    step: Callable[[N, C], C],
    way: Callable[[N, C], int | None] | None = None,
    limit: int = 1_000,
) -> Execution[N, C]:
    """What runs from the start of a block, for at most `limit` nodes."""
    beginning = {block: node for node, block in flow.begins.items()}
    steps: list[tuple[N, C]] = []
    marks: list[tuple[int, N]] = []
    for _ in range(limit):  # blocks may be empty
        for number in flow.blocks[block]:
            if len(steps) == limit:
                return Execution(steps, state, marks, ended=False)
            steps.append((flow.nodes[number], state))
            state = step(flow.nodes[number], state)
        decider = steps[-1][0] if steps else None  # before an empty block, too
        if block in beginning:
            decider = flow.nodes[beginning[block]]
            marks.append((len(steps), decider))
        choices = flow.successors[block]
        chosen: int | None = 0 if choices else None
        if len(choices) + (block in flow.exits) > 1:
            if way is None or decider is None:
                raise ValueError(
                    f"{'block' if decider is None else decider} has several ways on: "
                    "say with way=... which one an execution takes"
                )
            chosen = way(decider, state)
            leaves = chosen is None and block in flow.exits
            if not leaves and chosen not in range(len(choices)):
                raise ValueError(
                    f"way(...) is {chosen} at {decider}, which has {len(choices)} ways"
                    f" on, from 0{', and None' if block in flow.exits else ''}"
                )
        if chosen is None:
            return Execution(steps, state, marks, ended=True)
        block = choices[chosen]
    return Execution(steps, state, marks, ended=False)


def _look(
    results: PointResults[N, V],
    execution: Execution[N, C],
    covers: Callable[[V, Moment[N, C]], bool],
) -> int:
    """Compare each moment of an execution with the facts there; how many there were."""
    moments = list(_moments(results.flow, execution))
    for side, node, at in moments:
        try:
            fact = results.before(node) if side == "before" else results.after(node)
        except UnreachedError:
            says = "there is no fact, as nothing is reached there"
        else:
            if covers(fact, Moment(execution, at)):
                continue
            says = f"the fact is {results.analysis.lattice.show(fact)}"
        shown = execution.steps[max(0, at - 8) : at]
        before = [f"  {state!r}  {ran}" for ran, state in shown]
        lines = [*(["  ..."] if at > 8 else []), *before, f"  {execution.state(at)!r}  <- here"]
        raise LawBroken(
            f"{type(results.analysis).__name__} is unsound {side} {node}: {says}, which does not "
            "cover this execution (the state, and what runs then):\n" + "\n".join(lines)
        )
    return len(moments)


def _moments(flow: Flow[N], execution: Execution[N, C]) -> Iterator[tuple[str, N, int]]:
    for at, (node, _) in enumerate(execution.steps):
        if flow.number(node) not in flow.begins:
            yield "before", node, at
        yield "after", node, at + 1
    for at, node in execution.marks:
        yield "before", node, at


def check_values(
    results: ValueResults[N, V],
    seen: Iterable[tuple[object, C]],
    covers: Callable[[V, C], bool],
) -> None:
    """Demand that facts cover what values were in executions.

    `seen` has pairs of a value of the graph and what it was, as often as it was defined.
    Raises `LawBroken` with the first that no fact covers, and `NothingTried` if there is none.
    """
    compared = False
    for value, concrete in seen:
        compared = True
        if results.reached(value):
            fact = results.of(value)
            if covers(fact, concrete):
                continue
            says = f"the fact of {value} is {results.analysis.lattice.show(fact)}"
        else:
            says = f"no execution defines {value}, it says"
        raise LawBroken(
            f"{type(results.analysis).__name__} is unsound: {says}, and in an execution "
            f"{value} was {concrete!r}"
        )
    if not compared:
        raise NothingTried("nothing was tried: `seen` has no value")
