"""`check_sound` and `check_values` catch analyses that executions contradict, and no others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import strategies as st

from dataflow import (
    BOTTOM,
    TOP,
    UNREACHED,
    Backward,
    Dual,
    Flow,
    Forward,
    Instance,
    Interval,
    Lattice,
    LawBroken,
    Moment,
    NothingTried,
    Powerset,
    TextNode,
    Unreached,
    check_sound,
    check_values,
    link,
    parse,
    solve,
    verify,
)
from dataflow.sound import execute
from tests.dataflow.test_brute_force import Graph
from tests.dataflow.test_edges import COUNTING, Bounds, Fatal
from tests.dataflow.test_takes import Conditional, values_seen

Names = frozenset[str]
State = Mapping[str, int]
COUNTDOWN = parse(
    """
    start: n = read
           total = 0
    loop:  test n           -> body, done
    body:  total = add total n
           n = less n       -> loop
    done:  write total
    """
)


# An interpreter: what lines do to names


def step(node: TextNode, state: State) -> State:
    """The names after a line.  `read` gives what the state has under `input`."""
    operands = [state[name] for name in node.operands]
    match node.word:
        case "read":
            result = state["input"]
        case "add":
            result = sum(operands)
        case "less":
            result = operands[0] - 1
        case word if word.isdigit():
            result = int(word)
        case _:
            return state
    return {**state, **dict.fromkeys(node.results, result)}


def way(node: TextNode, state: State) -> int:
    """`test n` goes its first way unless n is 0."""
    return 0 if state[node.operands[0]] else 1


STARTS: list[State] = [{"input": number} for number in range(4)]


# Facts of the past


@frozen
class Ranges(Forward[TextNode, Any]):
    """Between which bounds n lies.  Forward, may."""

    lattice: Lattice[Any] = Interval()

    def boundary(self) -> Any:
        return (0, 0)

    def transfer(self, node: TextNode, value: Any) -> Any:
        if "n" not in node.results:
            return value
        return (0, 3) if node.word == "read" else Interval.sub(value, (1, 1))


@frozen
class ForgetsZero(Ranges):
    """Wrong about what is read."""

    def transfer(self, node: TextNode, value: Any) -> Any:
        return (1, 3) if node.word == "read" else super().transfer(node, value)


@frozen
class CutsWay(Ranges):
    """Wrong about where control goes: a missed edge."""

    def edge(self, node: TextNode, way: int, value: Any) -> Any | Unreached:
        return UNREACHED if way == 1 else value


def covers_n(fact: Any, moment: Moment[TextNode, State]) -> bool:
    return fact is not BOTTOM and fact[0] <= moment.state.get("n", 0) <= fact[1]


def test_facts_that_hold_what_executions_do_pass() -> None:
    """Given states, and found ones."""
    results = solve(Ranges(), COUNTDOWN)
    check_sound(results, STARTS, step, covers_n, way=way)
    found: st.SearchStrategy[State] = st.integers(0, 3).map(lambda number: {"input": number})
    check_sound(results, found, step, covers_n, way=way)


def test_a_wrong_fact_is_told_with_the_execution_that_contradicts_it() -> None:
    """It satisfies its own equations; only the run tells."""
    results = solve(ForgetsZero(), COUNTDOWN)
    verify(results)
    with pytest.raises(LawBroken) as caught:
        check_sound(results, STARTS, step, covers_n, way=way)
    assert str(caught.value) == (
        "ForgetsZero is unsound after n = read: the fact is [1, 3], which does not cover this "
        "execution (the state, and what runs then):\n"
        "  {'input': 0}  n = read\n"
        "  {'input': 0, 'n': 0}  <- here"
    )


def test_a_missed_edge_is_told() -> None:
    """Execution gets to where the analysis says that none does."""
    results = solve(CutsWay(), COUNTDOWN)
    verify(results)
    with pytest.raises(LawBroken, match="before write total: there is no fact, as nothing is"):
        check_sound(results, STARTS, step, covers_n, way=way)


def test_an_edge_that_the_graph_misses_is_no_matter_of_the_analysis() -> None:
    """The interpreter goes where the graph leads; a way that is not there is its mistake."""
    with pytest.raises(ValueError, match=r"way\(...\) is 2 at test n, which has 2 ways on"):
        check_sound(solve(Ranges(), COUNTDOWN), STARTS, step, covers_n, way=lambda n, s: 2)
    with pytest.raises(ValueError, match=r"way\(...\) is None at test n"):
        check_sound(solve(Ranges(), COUNTDOWN), STARTS, step, covers_n, way=lambda n, s: None)
    with pytest.raises(ValueError, match="test n has several ways on: say with way="):
        check_sound(solve(Ranges(), COUNTDOWN), STARTS, step, covers_n)


def test_a_long_execution_is_told_by_its_end() -> None:
    """The last lines that ran."""

    @frozen
    class Small(Ranges):
        def transfer(self, node: TextNode, value: Any) -> Any:
            return (0, 5) if "n" in node.results else value

    def counts_up(node: TextNode, state: State) -> State:
        return {**state, "n": state["n"] + 1} if node.word == "less" else step(node, state)

    five: list[State] = [{"input": 5}]
    with pytest.raises(LawBroken) as caught:
        check_sound(solve(Small(), COUNTDOWN), five, counts_up, covers_n, way=way)
    lines = str(caught.value).splitlines()
    assert lines[-1] == "  {'input': 5, 'n': 6, 'total': 5}  <- here"
    assert len(lines) <= 11


# Facts of past and future nodes


@frozen
class MustWritten(Forward[TextNode, Names]):
    """Names written on every path.  Forward, must."""

    lattice: Lattice[Names] = Dual(Powerset())

    def boundary(self) -> Names:
        return frozenset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | frozenset(node.results)


@frozen
class Live(Backward[TextNode, Names]):
    """Names that may be read before they are written.  Backward, may."""

    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value - frozenset(node.results) | frozenset(node.operands)


@frozen
class KillsReads(Live):
    """Wrong where a line reads what it writes: the read is lost."""

    def transfer(self, node: TextNode, value: Names) -> Names:
        return (value | frozenset(node.operands)) - frozenset(node.results)


def covers_written(fact: Names, moment: Moment[TextNode, State]) -> bool:
    return fact <= {name for node in moment.past for name in node.results}


def covers_reads(fact: Names, moment: Moment[TextNode, State]) -> bool:
    """Whatever is read in what is left to run, before it is written there, is live."""
    written: set[str] = set()
    for node in moment.rest:
        if not set(node.operands) - written <= fact:
            return False
        written |= set(node.results)
    return True


def test_facts_of_the_past_may_be_of_what_ran() -> None:
    """A must fact says that all of it happened."""
    check_sound(solve(MustWritten(), COUNTDOWN), STARTS, step, covers_written, way=way)
    may = evolve(MustWritten(), lattice=Powerset())
    fork = parse("start: n = read\ntest n -> left, end\nleft: x = 1\nend: write n")
    check_sound(solve(MustWritten(), fork), STARTS, step, covers_written, way=way)
    with pytest.raises(LawBroken, match=r"before write n: the fact is \{n, x\}"):
        check_sound(solve(may, fork), STARTS, step, covers_written, way=way)


def test_facts_of_the_future_are_compared_with_what_runs_next() -> None:
    """A backward analysis, right, imprecise, and wrong."""
    check_sound(solve(Live(), COUNTDOWN), STARTS, step, covers_reads, way=way)
    with pytest.raises(LawBroken, match="KillsReads is unsound"):
        check_sound(solve(KillsReads(), COUNTDOWN), STARTS, step, covers_reads, way=way)


@frozen
class VeryBusy(Backward[TextNode, Names]):
    """Lines that will run on every path.  Backward, must."""

    lattice: Lattice[Names] = Dual(Powerset())

    def boundary(self) -> Names:
        return frozenset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | {node.label}


def test_what_was_cut_off_says_nothing_of_the_future() -> None:
    """An execution that does not end within the limit would contradict a must fact."""

    def covers(fact: Names, moment: Moment[TextNode, State]) -> bool:
        return fact <= {node.label for node in moment.rest}

    endless: list[State] = [{"input": -1}]
    results = solve(VeryBusy(), COUNTDOWN)
    assert "done" in results.before(COUNTDOWN.node("start"))
    check_sound(results, [*endless, *STARTS], step, covers, way=way, limit=50)
    # Of the past it says as much as any other.
    with pytest.raises(LawBroken, match="ForgetsZero"):
        check_sound(solve(ForgetsZero(), COUNTDOWN), endless, step, covers_n, way=way, limit=50)


def test_edges_that_refine_are_sound_forwards_and_backwards() -> None:
    """The number is the state; the lines are those of the edge tests."""

    def move(node: TextNode, number: int) -> int:
        match node.word:
            case "set":
                return int(node.operands[0])
            case "add":
                return number + int(node.operands[0])
        return number

    def turn(node: TextNode, number: int) -> int:
        return 0 if number < int(node.operands[0]) else 1

    def inside(fact: Any, moment: Moment[TextNode, int]) -> bool:
        return fact is not BOTTOM and bool(fact[0] <= moment.state <= fact[1])

    def fatal(fact: Any, moment: Moment[TextNode, int]) -> bool:
        return inside(fact, moment) or all(node.word != "fail" for node in moment.rest)

    check_sound(solve(Bounds(), COUNTING), st.integers(-20, 20), move, inside, way=turn)
    graph = parse("add 1\nbelow 10 -> ok, bad\nbad: fail\nok: write -> exit")
    check_sound(solve(Fatal(), graph), st.integers(-20, 20), move, fatal, way=turn)


# How a graph is executed


def test_a_node_with_sub_graphs_begins_before_them_and_acts_after() -> None:
    """Before it is the moment at which its sub-graph is entered."""
    nodes = [TextNode(w, w, (w,), ()) for w in ("first", "inner", "loop", "last")]
    flow = Flow(
        nodes, [[0], [1], [2, 3]], [(0, 1), (0, 2), (1, 1), (1, 2)], [0], [2], begins={2: 0}
    )
    ways = {"loop": 0, "inner": 1}
    execution = execute(
        flow, 0, 0, lambda node, count: count + 1, lambda node, count: ways[node.word]
    )
    assert [node.word for node, _ in execution.steps] == ["first", "inner", "loop", "last"]
    assert [(at, node.word) for at, node in execution.marks] == [(1, "loop")]
    results = solve(MustWritten(), Graph(flow))
    check_sound(
        results, [0], lambda node, count: count + 1,
        lambda fact, moment: fact <= {n.word for n in moment.past},
        way=lambda node, count: ways[node.word],
    )  # fmt: skip


def test_an_execution_may_leave_or_go_on() -> None:
    """None is the way out of a block that leaves and leads on; to leave may be a way, too."""
    flow: Flow[str] = Flow(["a", "b"], [[0], [1]], [(0, 1)], [0], [0, 1])
    for chosen, ran in ((None, "a"), (0, "ab")):
        execution = execute(flow, 0, chosen, lambda n, s: s, lambda n, s: s)
        assert "".join(node for node, _ in execution.steps) == ran
        assert execution.ended
    graph = parse("a: nop -> exit, b\nb: nop")
    for chosen, ran in ((0, "a"), (1, "ab")):
        run = execute(graph.flow, 0, chosen, lambda n, s: s, lambda n, s: s)
        assert "".join(node.label for node, _ in run.steps) == ran
        assert run.ended


def test_there_is_a_fact_before_a_call_that_never_returns() -> None:
    functions = {"main": parse("start: call\nend: nop"), "f": parse("spin: nop -> spin")}
    graph = link(functions, lambda node: "f" if node.word == "call" else None, "main")
    call = Instance((), functions["main"].node("start"))

    @frozen
    class Ran(Forward[Instance[TextNode], frozenset[str]]):
        lattice: Lattice[frozenset[str]] = Powerset()

        def transfer(self, node: Instance[TextNode], value: frozenset[str]) -> frozenset[str]:
            return value | {node.of.word}

    results = solve(Ran(), graph)
    assert results.before(call) == frozenset()
    assert not results.reached(call)
    check_sound(
        results, [0], lambda node, state: state,
        lambda fact, moment: {node.of.word for node in moment.past} <= fact, limit=9,
    )  # fmt: skip


def test_the_last_node_of_a_function_decides_who_goes_on() -> None:
    """One that calls itself returns to one of two callers, and the state knows to which."""
    functions = {
        "main": parse("call\nend"),
        "f": parse("test -> more, done\nmore: call\ndone: return"),
    }
    graph = link(functions, lambda node: "f" if node.word == "call" else None, "main")

    def step(node: Instance[TextNode], state: tuple[int, int]) -> tuple[int, int]:
        left, deep = state
        change = {"test": 1, "call": -1}.get(node.of.word, 0)
        return left - (change == 1), deep + change

    def way(node: Instance[TextNode], state: tuple[int, int]) -> int:
        left, deep = state
        return 0 if (left > 0 if node.of.word == "test" else deep == 1) else 1

    execution = execute(graph.flow, graph.flow.entries[0], (3, 0), step, way)
    ran = " ".join(node.of.word for node, _ in execution.steps)
    assert ran == "test test test return call return call return call end"


def test_an_endless_execution_is_cut_off() -> None:
    """After as many nodes as the limit says, in long blocks and in empty ones."""
    long = parse("a: nop\nnop\nnop -> a")
    execution = execute(long.flow, 0, 0, lambda node, count: count + 1, limit=10)
    assert not execution.ended
    assert len(execution.steps) == 10
    assert [execution.state(at) for at in range(11)] == list(range(11))
    empty: Flow[str] = Flow(["n"], [[0], []], [(0, 1), (1, 1)], [0], [])
    assert len(execute(empty, 0, 0, lambda node, count: count + 1, limit=10).steps) == 1


def test_every_entry_is_executed_from() -> None:
    """A graph with several entries."""
    nodes = [TextNode(w, w, (w,), ()) for w in ("a", "b", "c")]
    flow = Flow(nodes, [[0], [1], [2]], [(0, 2), (1, 2)], [0, 1], [2])
    seen: list[str] = []
    check_sound(
        solve(MustWritten(), Graph(flow)), [0], lambda node, state: state,
        lambda fact, moment: not seen.append("".join(n.word for n in moment.past)),  # type: ignore[func-returns-value]
    )  # fmt: skip
    assert {"ac", "bc"} <= set(seen)


# Facts of values


def constant(fact: Any, number: int) -> bool:
    return fact is TOP or bool(fact == number)


@frozen
class TakesOne(Conditional):
    """Wrong: never leaves a loop."""

    def takes(self, node: TextNode, way: int, operands: Sequence[Any]) -> bool:
        return way == 0


def test_facts_of_values_are_compared_with_what_they_were() -> None:
    """In each execution, as often as they were defined."""
    graph = parse(
        """
                 k = 3         -> loop(k)
        loop(x): test unknown  -> body, done
        body:    y = copy x    -> loop(y)
        done:    z = copy x
        """
    )
    seen = [
        (name, number)
        for unknown in (0, 1)
        for name, numbers in values_seen(graph, unknown).items()
        for number in numbers
    ]
    check_values(solve(Conditional(), graph), seen, constant)
    with pytest.raises(LawBroken) as caught:
        check_values(solve(TakesOne(), graph), seen, constant)
    assert str(caught.value) == (
        "TakesOne is unsound: no execution defines z, it says, and in an execution z was 3"
    )
    with pytest.raises(LawBroken, match="the fact of x is 3, and in an execution x was 4"):
        check_values(solve(Conditional(), graph), [("x", 4)], constant)
    with pytest.raises(KeyError, match="w is not a value of this graph"):
        check_values(solve(Conditional(), graph), [("w", 4)], constant)
    with pytest.raises(NothingTried, match="nothing was tried"):
        check_values(solve(Conditional(), graph), [], constant)


def test_a_check_that_compares_nothing_says_so() -> None:
    """A wrong analysis would pass it."""

    @frozen
    class Nothing(VeryBusy):
        def transfer(self, node: TextNode, value: Names) -> Names:
            return frozenset({"wrong"})

    def never(fact: Names, moment: Moment[TextNode, State]) -> bool:
        return False

    endless: list[State] = [{"input": -1}]
    results = solve(Nothing(), COUNTDOWN)
    with pytest.raises(NothingTried, match="no execution of at most 50 nodes left"):
        check_sound(results, endless, step, never, way=way, limit=50)
    with pytest.raises(NothingTried, match="no execution of at most 0 nodes ran"):
        check_sound(solve(ForgetsZero(), COUNTDOWN), STARTS, step, covers_n, way=way, limit=0)
    with pytest.raises(LawBroken):
        check_sound(results, STARTS, step, never, way=way)
