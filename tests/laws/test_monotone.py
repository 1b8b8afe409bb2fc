"""`check_monotone` and `checked` catch analyses that go wrong, with what a person can read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from attrs import define, evolve, field, frozen
from hypothesis import strategies as st

from dataflow import (
    BOTTOM,
    TOP,
    UNREACHED,
    Analysis,
    Backward,
    Bits,
    Chain,
    Dual,
    Flat,
    Flow,
    Forward,
    GraphError,
    Interval,
    Lattice,
    LawBroken,
    MapOf,
    NothingTried,
    Powerset,
    Record,
    SparseBackward,
    SparseForward,
    TextNode,
    TransferError,
    Unreached,
    check_lattice,
    check_monotone,
    checked,
    parse,
    solve,
    verify,
)
from dataflow.genkill import GenKill
from dataflow.graph import Copy
from dataflow.system import System
from dataflow.together import Partial, Shared, Solved
from examples.analyses.available_expressions import AvailableExpressions
from examples.analyses.reaching_writes import ReachingWrites
from tests.dataflow import test_edges, test_goldens, test_shared, test_takes, test_together
from tests.dataflow.test_solve import Graph

Names = frozenset[str]
LOOP = parse(
    """
    start: n = read
    loop:  test n     -> body, done
    body:  n = less n -> loop
    done:  write n
    """
)
SSA = parse(
    """
             one = 1
             n = read              -> loop(n, one)
    loop(i, k): test i             -> body, done
    body:    j = add i one         -> loop(j, k)
    done:    write i k
    """
)
SUMS = parse("start: n = 1\nloop: test n -> body, exit\nbody: n = add n n -> loop")
SETS = [frozenset(letters) for letters in ["", "n", "m", "nm"]]
CONSTANTS = [BOTTOM, 0, 1, TOP]


# Transfers that must be caught


@frozen
class Written(Forward[TextNode, Names]):
    """Names written so far.  Right."""

    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | frozenset(node.results)


@frozen
class Unread(Written):
    """Turns around what it is given: names that were *not* there."""

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value | frozenset(node.operands) if not value else value - {"n"}


@frozen
class FlipsBackward(Backward[TextNode, Names]):
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return frozenset({"n"}) - value if node.word == "less" else value


@frozen
class FlipsEdge(Written):
    """A way is taken only while little is known."""

    def edge(self, node: TextNode, way: int, value: Names) -> Names | Unreached:
        return UNREACHED if way == 0 and "n" in value else value


@frozen
class FlipsValues(SparseForward[TextNode, Any]):
    """A sum is known only while one operand is not."""

    lattice: Lattice[Any] = Flat()

    def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
        if node.word == "add":
            return [0 if operands[1] is TOP else TOP]
        return [TOP] * len(node.results)


@frozen
class FlipsUses(SparseBackward[TextNode, int]):
    lattice: Lattice[int] = Bits()

    def exit(self, value: object) -> int:
        return 1

    def transfer(self, node: TextNode, results: Sequence[int]) -> Sequence[int]:
        return [int(not any(results))] * len(node.operands)


@frozen
class FlipsCopies(test_takes.Constants):
    def copy(self, copy: Copy, value: Any) -> Any:
        return BOTTOM if value is TOP else value


@frozen
class FlipsTakes(test_takes.Constants):
    """A branch on an unknown number is never taken."""

    def takes(self, node: TextNode, way: int, operands: Sequence[Any]) -> bool:
        return operands[0] is not TOP


BROKEN: list[tuple[Analysis[TextNode, Any], Any, list[Any], str]] = [
    (Unread(), LOOP, SETS, "transfer at test n gives {n} for {}, and {} for {n}"),
    (FlipsBackward(), LOOP, SETS, "transfer at n = less n gives"),
    (FlipsEdge(), LOOP, SETS, "edge, way 0 of test n, gives {} for {}, and unreached for {n}"),
    (FlipsValues(), SSA, CONSTANTS, "transfer at j = add i one gives"),
    (FlipsUses(), SSA, [0, 1], "transfer at"),
    (FlipsCopies(), SSA, CONSTANTS, "copy, edge, gives"),
    (FlipsTakes(), SSA, CONSTANTS, "takes, way 0 of test i, gives"),
]


@pytest.mark.parametrize(("analysis", "graph", "values", "says"), BROKEN)
def test_what_is_not_monotone_is_caught(
    analysis: Any, graph: Any, values: list[Any], says: str
) -> None:
    """By given values and by search; the message has the node, and both answers."""
    for given in (values, st.sampled_from(values)):
        with pytest.raises(LawBroken, match="is not monotone") as caught:
            check_monotone(analysis, graph, given)
        assert type(analysis).__name__ in str(caught.value)
        assert "which is larger" in str(caught.value)
    with pytest.raises(LawBroken) as caught:
        check_monotone(analysis, graph, values)
    assert says in str(caught.value)


def test_the_counterexample_is_a_sentence() -> None:
    """What was given and what came back, as the lattice shows it."""
    with pytest.raises(LawBroken) as caught:
        check_monotone(FlipsBackward(), LOOP, [frozenset(), frozenset("n")])
    assert str(caught.value) == (
        "FlipsBackward is not monotone: transfer at n = less n gives {n} for {}, and {} for {n}, "
        "which is larger"
    )


RIGHT: list[tuple[Any, Any, Any]] = [
    (Written(), LOOP, st.frozensets(st.sampled_from("mn"))),
    (test_goldens.Liveness(), LOOP, SETS),
    (ReachingWrites(), LOOP, [frozenset({f"n@{at}"}) for at in ("start", "body")]),
    (AvailableExpressions(), LOOP, SETS),
    (test_goldens.Constants(), SUMS, [{}, {"n": 1}, {"n": TOP, "m": 2}]),
    (test_edges.Bounds(), test_edges.COUNTING, st.tuples(st.integers(-9, 0), st.integers(0, 20))),
    (test_edges.Fatal(), test_edges.COUNTING, [BOTTOM, (0, 5), (7, 20)]),
    (test_takes.Conditional(), SSA, CONSTANTS),
    (test_takes.Constants(), SSA, CONSTANTS),
]


@pytest.mark.parametrize(("analysis", "graph", "values"), RIGHT)
def test_what_is_monotone_passes(analysis: Any, graph: Any, values: Any) -> None:
    """The analyses of the other tests, among them must-analyses and those with edges."""
    check_monotone(analysis, graph, values)


def test_an_analysis_that_needs_others_is_tried_where_they_are_known() -> None:
    """As part of a solution, not on its own."""
    results = solve(test_together.DeadWrites(), LOOP)
    check_monotone(results.analysis, LOOP, SETS)
    with pytest.raises(RuntimeError, match=r"known of Solved\(Live\) here"):
        check_monotone(test_together.DeadWrites(), LOOP, SETS)


def test_many_values_are_sampled_the_same_way_each_time() -> None:
    """2,000 selections, not all of 50 ** 3."""
    asked: list[list[Any]] = [[], []]

    @frozen
    class Counts(SparseForward[TextNode, int]):
        asked: list[Any]
        lattice: Lattice[int] = Chain()

        def transfer(self, node: TextNode, operands: Sequence[int]) -> Sequence[int]:
            self.asked.append(tuple(operands))
            return [max(operands, default=0)] * len(node.results)

    for seen in asked:
        check_monotone(Counts(seen), parse("c = add a b"), range(50))
    assert asked[0] == asked[1]
    assert len(asked[0]) == 4 * 2_000


def test_nothing_to_try_is_no_proof() -> None:
    with pytest.raises(ValueError, match="give some values"):
        check_monotone(Written(), LOOP, [])


# checked: while it is solved


@define
class Box:
    """A fact that may change: not one to use, but one that is used."""

    names: list[str] = field(factory=list)


@frozen
class Boxes(Lattice[Box]):
    @property
    def bottom(self) -> Box:
        return Box()

    def join(self, a: Box, b: Box) -> Box:
        return Box(sorted({*a.names, *b.names}))


def wrong(make: Callable[[TextNode, Any], Any], lattice: Lattice[Any]) -> Any:
    """A forward analysis with a transfer that goes wrong at `less`."""

    @frozen
    class Wrong(Forward[TextNode, Any]):
        lattice: Lattice[Any]

        def transfer(self, node: TextNode, value: Any) -> Any:
            return make(node, value) if node.word == "less" else value

    return Wrong(lattice)


def adds_to_set(node: TextNode, value: set[str]) -> set[str]:
    value.add("n")
    return value


def adds_to_box(node: TextNode, value: Box) -> Box:
    value.names.append("n")
    return value


def adds_to_map(node: TextNode, value: dict[str, int]) -> dict[str, int]:
    value["n"] = 1
    return value


@frozen
class State:
    """A record that is frozen, of what is not."""

    env: Any


@dataclass(frozen=True)
class Plain:
    env: Any


@frozen
class Plains(Lattice[Plain]):
    @property
    def bottom(self) -> Plain:
        return Plain({})

    def join(self, a: Plain, b: Plain) -> Plain:
        return Plain({**a.env, **b.env})


def adds_to_field(node: TextNode, value: State | Plain) -> State | Plain:
    value.env["n"] = 1
    return value


@pytest.mark.parametrize(
    ("analysis", "message"),
    [
        (wrong(adds_to_field, Record(State, env=MapOf(Flat()))), r"argument into State\(env=\{'n'"),
        (wrong(adds_to_field, Plains()), r"changed its argument into Plain\(env=\{'n': 1\}\)"),
        (wrong(lambda node, value: 1 // 0, Powerset()), "raised ZeroDivisionError: integer div"),
        (wrong(lambda node, value: None, Powerset()), "returned None, of type NoneType"),
        (wrong(lambda node, value: [*value, "n"], Powerset()), r"returned \['n'\], of type list"),
        (wrong(lambda node, value: {*value, "n"}, Powerset()), r"returned \{'n'\}, of type set"),
        (wrong(lambda node, value: "n", Powerset()), "returned 'n', of type str"),
        (wrong(lambda node, value: 3, Interval()), "returned 3, of type int"),
        (wrong(lambda node, value: [1], MapOf(Flat())), r"returned \[1\], of type list"),
        (wrong(adds_to_map, MapOf(Flat())), r"changed its argument into \{'n': 1\}"),
        (wrong(adds_to_box, Boxes()), r"changed its argument into Box\(names=\['n'\]\)"),
    ],
)
def test_a_wrong_transfer_is_found_where_it_goes_wrong(analysis: Any, message: str) -> None:
    """With the node, and the program around it."""
    with pytest.raises(TransferError, match=message) as caught:
        solve(checked(analysis), LOOP)
    text = str(caught.value)
    assert text.startswith("Wrong.transfer at n = less n ")
    assert text.endswith("\n    n = read\n    test n\n  > n = less n\n    write n")


@frozen
class ForgetsToSay(test_takes.Constants):
    def takes(self, node: TextNode, way: int, operands: Sequence[Any]) -> bool:
        return None  # type: ignore[return-value]  # the mistake


def test_a_way_is_taken_or_not() -> None:
    """A `takes` without a return would make everything unreached."""
    with pytest.raises(TransferError, match=r"takes at test i, way 0 returned None, and True or F"):
        solve(checked(ForgetsToSay()), SSA)


def test_a_lattice_that_changes_its_arguments_is_told_so() -> None:
    """Whatever else comes of it."""

    @frozen
    class Grows(MapOf[str, Any]):
        def join(self, a: Any, b: Any) -> Any:
            a.update(super().join(a, b))
            return a

    with pytest.raises(LawBroken, match=r"changes its arguments: .* have become") as caught:
        solve(checked(wrong(lambda node, value: {"n": 1}, Grows(Flat()))), LOOP)
    assert caught.value.__notes__[0].startswith("with what Wrong.transfer at n = less n")


def test_the_cause_is_kept() -> None:
    """The author's own error, with its traceback."""
    with pytest.raises(TransferError) as caught:
        solve(checked(wrong(lambda node, value: 1 // 0, Powerset())), LOOP)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_must_analysis_without_a_bottom_is_watched_too() -> None:
    """A set where frozensets are needed."""

    @frozen
    class Must(Forward[TextNode, Any]):
        lattice: Lattice[Any] = Dual(Powerset())

        def boundary(self) -> Any:
            return frozenset("n")

        def transfer(self, node: TextNode, value: Any) -> Any:
            return set(value) if node.word == "less" else value

    with pytest.raises(TransferError, match="of type set"):
        solve(checked(Must()), LOOP)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (lambda operands: operands.reverse() or [0], "changed its argument"),
        (lambda operands: (fact for fact in operands), "a list of facts is needed"),
        (lambda operands: 5, "returned 5, and a list of facts is needed"),
        (lambda operands: ["0"], "returned '0', of type str"),
    ],
)
def test_facts_of_values_are_watched(facts: Callable[[Any], Any], message: str) -> None:
    """The list an analysis is given is the solver's own."""

    @frozen
    class Wrong(SparseForward[TextNode, int]):
        lattice: Lattice[int] = Bits()

        def entry(self, value: object) -> int:
            return 1 if value == "a" else 2

        def transfer(self, node: TextNode, operands: Sequence[int]) -> Sequence[int]:
            return facts(operands)  # type: ignore[no-any-return]  # it is wrong

    with pytest.raises(TransferError, match=message):
        solve(checked(Wrong()), parse("c = add a b"))


def test_too_few_facts_are_refused_as_ever() -> None:
    """By the solver, with the node."""

    @frozen
    class TooFew(SparseForward[TextNode, int]):
        lattice: Lattice[int] = Bits()

        def transfer(self, node: TextNode, operands: Sequence[int]) -> Sequence[int]:
            return []

    with pytest.raises(TransferError, match="0 facts where 1 are needed"):
        solve(checked(TooFew()), parse("c = add a b"))


@pytest.mark.parametrize("name", ["boundary", "entry", "exit"])
def test_where_analysis_starts_is_watched(name: str) -> None:
    """A boundary of the wrong type is found before it gets anywhere."""
    base: Any = {"boundary": Forward, "entry": SparseForward, "exit": SparseBackward}[name]
    body = {"lattice": Powerset(), "transfer": lambda *_: [], name: lambda *_: ["n"]}
    flow = Flow(["node"], [[0]], [], [0], [0], ["in"], [[0]], [[]], inputs=[0], outputs=[0])
    with pytest.raises(TransferError, match=rf"Wrong\.{name}.* returned \['n'\]"):
        solve(checked(type("Wrong", (base,), body)()), Graph(flow))


def test_a_boundary_that_may_change_is_no_fact() -> None:
    """A set equals the frozenset it should be."""

    @frozen
    class Starts(Written):
        def boundary(self) -> Any:
            return {"n"}

    with pytest.raises(TransferError, match=r"Starts.boundary returned \{'n'\}, of type set"):
        solve(checked(Starts()), LOOP)


def test_what_gives_less_for_more_is_caught_while_solving() -> None:
    """In a loop a node is asked twice; the second answer has to cover the first."""

    @frozen
    class Flips(Forward[TextNode, Names]):
        lattice: Lattice[Names] = Powerset()

        def transfer(self, node: TextNode, value: Names) -> Names:
            if node.word == "less":
                return frozenset({"n", "more"} if "n" not in value else {"n"})
            return value

    with pytest.raises(LawBroken) as caught:
        solve(checked(Flips()), LOOP)
    assert str(caught.value).startswith(
        "Flips.transfer at n = less n is not monotone: it gave {more, n} for {}, "
        "and for {more, n}, which is more, {n}, which does not cover that\n"
    )


def test_what_remembers_is_caught_while_solving() -> None:
    """An answer that depends on earlier calls: the same fact in, another out."""

    @frozen
    class Remembers(Forward[TextNode, Names]):
        seen: list[str] = field(factory=list)
        lattice: Lattice[Names] = Powerset()

        def transfer(self, node: TextNode, value: Names) -> Names:
            self.seen.append(node.label)
            if node.word != "less":
                return value
            return value | {"first"} if self.seen.count("body") == 1 else value - {"first"}

    with pytest.raises(LawBroken, match="is not monotone"):
        solve(checked(Remembers()), LOOP)


@frozen
class LastWins(Powerset[str]):
    """No lattice: what is joined last wins."""

    def join(self, a: Names, b: Names) -> Names:
        return b


def test_a_lattice_that_is_none_is_caught_on_the_facts_at_hand() -> None:
    """With the law, the facts, and the node whose answer shows it."""
    with pytest.raises(
        LawBroken, match=r"join\(a, b\) == join\(b, a\)|join\(bottom, a\)"
    ) as caught:
        solve(checked(Written(LastWins())), LOOP)
    assert any("Written.transfer at n = read" in note for note in caught.value.__notes__)


def test_a_graph_that_is_none_is_refused_before_it_is_solved() -> None:
    """An edge that leads nowhere is not an analysis' fault."""
    broken = evolve(LOOP.flow, edges=[*LOOP.flow.edges, (0, 9)])
    with pytest.raises(GraphError, match="the edge from block 0 to block 9"):
        solve(checked(Written()), Graph(broken))


# checked: what must not fire


@frozen
class LiveBits(GenKill[TextNode, int], Backward[TextNode, int]):
    """The one name that is live, as a bit, as data."""

    lattice: Lattice[int] = Bits()

    def effect(self, node: TextNode) -> tuple[int, int]:
        return int(bool(node.operands)), int(bool(node.results))


@pytest.mark.parametrize(
    ("analysis", "graph"),
    [
        *((analysis, graph) for analysis, graph, _ in RIGHT),
        (LiveBits(), LOOP),
        (test_together.DeadWrites(), LOOP),
        (test_together.Numbers(), parse(test_together.CIRCLE)),
        (test_together.LaterDoubts(), parse(test_together.CIRCLE)),
        (
            test_shared.Summary(),
            parse("1: load c\n2: read x\n3: store c\n4: test -> 1, 5\n5: nop"),
        ),
    ],
)
def test_a_right_analysis_is_solved_as_it_is_without(analysis: Any, graph: Any) -> None:
    """The same answer, and it is still an analysis of its class."""
    plain, watched = solve(analysis, graph), solve(checked(analysis), graph)
    verify(watched)
    assert isinstance(watched.analysis, type(analysis))
    assert list(watched.states) == list(plain.states)
    assert str(watched) == str(plain)


def test_the_analysis_itself_is_left_alone() -> None:
    """It is a copy that is watched."""
    analysis = wrong(lambda node, value: [*value, "n"], Powerset())
    assert checked(analysis) is not analysis
    assert type(analysis) is not type(checked(analysis))
    node = LOOP.node("body")
    assert analysis.transfer(node, frozenset()) == ["n"]


def test_an_answer_that_grows_with_what_it_asks_for_is_no_breach() -> None:
    """What is asked through `Partial` or `Shared` is an argument that nobody sees."""

    @frozen
    class Asks(Forward[TextNode, Mapping[str, Any]]):
        written: Partial[TextNode, Names] = Partial(Written)
        cells: Shared[str, Names] = Shared(Powerset())
        before: Solved[TextNode, Names] = Solved(Written)
        lattice: MapOf[str, Any] = MapOf(Powerset())

        def transfer(self, node: TextNode, value: Mapping[str, Any]) -> Mapping[str, Any]:
            self.cells.add("all", self.before.after(node))
            return self.lattice.of({node.label: self.written.after(node) | self.cells.of("all")})

    verify(solve(checked(Asks()), LOOP))


@pytest.mark.parametrize("direction", [Forward, Backward])
def test_blocks_that_no_fact_goes_on_from_are_watched(direction: type[Any]) -> None:
    """All of a straight line is such a block; whether somebody watches changes no answer."""

    class Counts(direction):  # type: ignore[misc]  # either way
        lattice: Lattice[Names] = Powerset()
        calls: list[str] = []  # noqa: RUF012  # on purpose

        def transfer(self, node: TextNode, value: Names) -> Names:
            self.calls.append(node.label)
            return {node.label} if node.word == "write" else value  # type: ignore[return-value]

    line = parse("x = read\ny = copy x\nwrite y")
    with pytest.raises(TransferError, match=r"Counts.transfer at write y returned \{'3'\}"):
        solve(checked(Counts()), line)
    for graph, ways in ((line, 1), (parse("x = read -> 2, 3\nwrite x -> exit\nwrite x"), 3)):
        Counts.calls.clear()
        solve(Counts(), graph)
        solving = len(Counts.calls)
        assert solving <= ways
        solve(Counts(), graph, observer=lambda step: None)
        assert len(Counts.calls) == solving + 3


def test_a_class_is_no_analysis() -> None:
    values = [frozenset[str]()]
    asks: list[tuple[str, Callable[[], object]]] = [
        ("solve wants an analysis, not its class: write Written", lambda: solve(Written, LOOP)),  # type: ignore[call-overload]  # on purpose
        ("checked wants an analysis, not its class", lambda: checked(Written)),  # type: ignore[type-var]  # on purpose
        ("check_monotone wants .*not its class", lambda: check_monotone(Written, LOOP, values)),  # type: ignore[arg-type]  # on purpose
        ("checked wants an analysis, and 3 is none", lambda: checked(3)),  # type: ignore[type-var]  # on purpose
    ]
    for message, ask in asks:
        with pytest.raises(TypeError, match=message):
            ask()


def test_an_analysis_that_is_none_of_the_four_cannot_be_watched() -> None:
    class Own(Analysis[TextNode, Names]):
        lattice: Lattice[Names] = Powerset()

        def pose(self, flow: Flow[TextNode]) -> System[Names]:
            return Written().pose(flow)

    for watch in (checked, lambda own: check_monotone(own, LOOP, [frozenset()])):
        with pytest.raises(TypeError, match=r"wants a Forward, .* and Own is none of them"):
            watch(Own())


def test_a_graph_without_nodes_is_no_proof() -> None:
    empty = Graph(Flow([], [[]], [], [0], [0]))
    with pytest.raises(NothingTried, match="nothing was tried"):
        check_monotone(Written(), empty, [frozenset()])


def test_a_transfer_without_a_fact_for_each_value_is_told_as_when_it_is_solved() -> None:
    class Forgets(FlipsValues):
        def transfer(self, node: TextNode, operands: Sequence[Any]) -> Sequence[Any]:
            return []

    class Nothing(Written):
        def transfer(self, node: TextNode, value: Names) -> Names:
            return None  # type: ignore[return-value]  # the mistake

    with pytest.raises(TransferError, match="transfer gave 0 facts where 1 are needed, at "):
        check_monotone(Forgets(), SSA, [BOTTOM, 1])
    with pytest.raises(TransferError, match="transfer gave None where 1 are needed, at n = read"):
        check_monotone(Nothing(), LOOP, [frozenset()])


def test_the_class_of_a_lattice_is_no_lattice() -> None:
    confused = Written(lattice=Powerset)  # type: ignore[arg-type]  # the mistake
    message = "the field `lattice` of Written wants a lattice, not its class: write Powerset"
    for ask in (lambda: solve(confused, LOOP), lambda: checked(confused)):
        with pytest.raises(TypeError, match=message):
            ask()
    with pytest.raises(TypeError, match="check_lattice wants a lattice, not its class"):
        check_lattice(Powerset, [frozenset()])  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match="Shared wants a lattice, not its class"):
        Shared(Powerset)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match="Shared wants a lattice, and 3 is none: subclass Lattice"):
        Shared(3)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match="Partial wants what makes an analysis, not 3"):
        Partial(3)  # type: ignore[arg-type]  # the mistake
