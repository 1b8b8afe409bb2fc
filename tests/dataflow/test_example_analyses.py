"""The example analyses, each against executions or brute force on random programs."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import passes
from dataflow import (
    BOTTOM,
    TOP,
    LawBroken,
    Moment,
    NothingTried,
    TextGraph,
    TextNode,
    check_graph,
    check_monotone,
    check_sound,
    check_values,
    parse,
    solve,
    verify,
)
from examples.analyses.available_expressions import AvailableExpressions
from examples.analyses.constants import Constant, Constants
from examples.analyses.dominators import Dominators, immediate_dominators
from examples.analyses.dtypes import Types
from examples.analyses.intervals import ANY, Intervals, Ranges
from examples.analyses.python_flow import PythonFlow
from examples.analyses.reaching_writes import ReachingWrites
from examples.analyses.taint import leaks
from examples.analyses.uninitialised import MaybeUninitialised, uninitialised_reads
from examples.analyses.very_busy_expressions import VeryBusyExpressions
from examples.models import linear_model, resnet50
from tests.dataflow.test_brute_force import Shape, in_lines, shapes
from tests.dataflow.test_takes import single_assignments, values_seen

Names = frozenset[str]
State = Mapping[str, int]
NAMES = ("a", "b", "c")
STARTS: Sequence[State] = [{"input": -1}, {"input": 2}]
thorough = settings(deadline=None, max_examples=100, derandomize=True, database=None)


# Random programs over three names, and what they do


@st.composite
def programs(draw: st.DrawFn) -> TextGraph:
    """Up to 8 lines: numbers, sums, comparisons, reads; arrows lead anywhere."""
    size = draw(st.integers(2, 8))
    names = st.sampled_from(NAMES)
    lines = []
    for number in range(size):
        word = draw(st.sampled_from(["const", "add", "sub", "mul", "copy", "less", "less", "read"]))
        operands = " ".join(draw(names) for _ in range({"copy": 1, "read": 0}.get(word, 2)))
        if word == "const":
            word, operands = str(draw(st.integers(-3, 3))), ""
        result = "" if word == "less" else f"{draw(names)} = "
        to = [f"l{draw(st.integers(0, size - 1))}" for _ in range(2)]
        arrow = ", ".join(to) if word == "less" else draw(st.sampled_from([to[0], "exit", "next"]))
        lines.append(f"l{number}: {result}{word} {operands}" + (f" -> {arrow}" * (arrow != "next")))
    return parse("\n".join(lines))


def step(node: TextNode, state: State) -> State:
    """The names after a line.  A name without a value is not in the state, nor is a result of
    it; numbers stay small enough to be printed."""
    operands = [state.get(name) for name in node.operands]
    rest = {name: number for name, number in state.items() if name not in node.results}
    known = [number for number in operands if number is not None]
    if len(known) < len(operands) or not node.results:
        return rest
    match node.word:
        case "read":
            result = state["input"]
        case "copy":
            result = known[0]
        case "add":
            result = known[0] + known[1]
        case "sub":
            result = known[0] - known[1]
        case "mul":
            result = known[0] * known[1]
        case word:
            result = int(word)
    return {**rest, **dict.fromkeys(node.results, result)}


def way(node: TextNode, state: State) -> int:
    """`less a b` takes the first way if a < b."""
    left, right = (state.get(name, 0) for name in node.operands)
    return 0 if left < right else 1


def starts(*names: str) -> st.SearchStrategy[State]:
    """States in which these names have values, and there is something to read."""
    return st.fixed_dictionaries(dict.fromkeys((*names, "input"), st.integers(-4, 4)))


def expression(node: TextNode) -> str:
    return " ".join([node.word, *node.operands]) if node.operands and node.results else ""


# Intervals


def in_ranges(fact: Ranges, moment: Moment[TextNode, State]) -> bool:
    """Every name with a value has it in its range."""
    for name in NAMES:
        if name in moment.state:
            found = fact.get(name, BOTTOM)
            if found is BOTTOM or not found[0] <= moment.state[name] <= found[1]:
                return False
    return True


@thorough
@given(programs())
def test_intervals_hold_what_executions_compute(graph: TextGraph) -> None:
    """Names start with any value; what is cut off never runs."""
    results = solve(Intervals(dict.fromkeys(NAMES, ANY)), graph)
    verify(results)
    states: Sequence[State] = [
        {"a": a, "b": b, "c": 0, "input": a} for a in (-4, 0, 3) for b in (-1, 2)
    ]
    check_sound(results, states, step, in_ranges, way=way, limit=16)


def test_intervals_bound_a_counter_by_what_it_is_compared_with() -> None:
    """The bound is an input's, found by the edges and not by the widening."""
    graph = parse(
        """
               n = 0
               one = 1
        loop:  less n limit  -> body, done
        body:  n = add n one -> loop
        done:  write n
        """
    )
    results = solve(Intervals({"limit": (4, 10)}), graph)
    verify(results)
    assert results.before(graph.node("body"))["n"] == (0, 9)
    assert results.before(graph.node("done"))["n"] == (4, 10)
    assert results.before(graph.node("done"))["limit"] == (4, 10)
    ranges: list[Ranges] = [
        {},
        {"n": (0, 3), "limit": (2, 5)},
        {"n": (1, 1), "one": (1, 1), "limit": (0, 9)},
    ]
    check_monotone(results.analysis, graph, ranges)


def test_intervals_cut_off_what_cannot_be() -> None:
    """And no more: with a wider input both ways are open."""
    text = "two = 2\nless n two -> small, large\nsmall: write n -> exit\nlarge: write n"
    graph = parse(text)
    narrow, wide = solve(Intervals({"n": (3, 9)}), graph), solve(Intervals({"n": (1, 9)}), graph)
    assert not narrow.reached(graph.node("small"))
    assert wide.before(graph.node("small"))["n"] == (1, 1)
    assert wide.before(graph.node("large"))["n"] == (2, 9)


# Constants


@thorough
@given(single_assignments())
def test_constants_are_what_executions_see(text: str) -> None:
    """Every name that is ever defined is defined, and has the constant it is said to be."""
    graph = parse(text)
    results = solve(Constants(), graph)
    verify(results)
    for unknown in (0, 1, 5):
        seen = values_seen(graph, unknown)
        pairs = [(name, number) for name, numbers in seen.items() for number in numbers]
        check_values(results, pairs, lambda fact, number: fact is TOP or fact == number)


def test_constants_are_monotone() -> None:
    graph = parse("a = 1 -> l(a)\nl(x): b = mul x y\nc = sub b x\nd = copy b\ntest c -> l(d), exit")
    values: list[Constant] = [BOTTOM, 0, 1, 2, TOP]
    check_monotone(Constants(), graph, values)


# Reaching writes, uninitialised reads


@thorough
@given(programs())
def test_reaching_writes_hold_the_last_write(graph: TextGraph) -> None:
    """In every execution the last write of a name before a point is among them."""

    def covers(fact: Names, moment: Moment[TextNode, State]) -> bool:
        last = {name: f"{name}@{node.label}" for node in moment.past for name in node.results}
        return set(last.values()) <= fact

    results = solve(ReachingWrites(), graph)
    verify(results)
    check_sound(results, STARTS, step, covers, way=way, limit=16)


@thorough
@given(programs())
def test_names_without_a_value_are_known(graph: TextGraph) -> None:
    """Whatever an execution reads before it was written is reported, and nothing is where
    every path writes first."""
    results = solve(MaybeUninitialised(frozenset(NAMES)), graph)
    verify(results)

    def covers(fact: Names, moment: Moment[TextNode, State]) -> bool:
        written = {name for node in moment.past for name in node.results}
        return set(NAMES) - written <= fact

    check_sound(results, STARTS, step, covers, way=way, limit=16)


def test_reads_without_a_value_are_listed() -> None:
    """Each with its line; a dropped name is one, a name that each branch writes is none."""
    graph = parse(
        """
               a = read
               test a     -> left, right
        left:  b = 1
               c = 2      -> end
        right: b = copy d -> end
        end:   write b c
               drop b
               write b
        """
    )
    found = [(str(node), name) for node, name in uninitialised_reads(graph)]
    assert found == [("b = copy d", "d"), ("write b c", "c"), ("write b", "b")]


# Expressions


@thorough
@given(programs())
def test_available_expressions_need_not_be_computed_again(graph: TextGraph) -> None:
    """In every execution there was a computation, and no operand was written since."""

    def covers(fact: Names, moment: Moment[TextNode, State]) -> bool:
        ready: set[str] = set()
        for node in moment.past:
            ready |= {expression(node)}
            ready = {one for one in ready if not {*one.split()[1:]} & {*node.results}}
        return fact <= ready

    results = solve(AvailableExpressions(), graph)
    verify(results)
    check_sound(results, STARTS, step, covers, way=way, limit=16)


@thorough
@given(programs())
def test_very_busy_expressions_will_be_computed(graph: TextGraph) -> None:
    """In every execution that ends there will be a computation before an operand changes."""

    def covers(fact: Names, moment: Moment[TextNode, State]) -> bool:
        wanted = set(fact)
        for node in moment.rest:
            wanted -= {expression(node)}
            if any({*one.split()[1:]} & {*node.results} for one in wanted):
                return False
        return not wanted

    results = solve(VeryBusyExpressions(), graph)
    verify(results)
    states: Sequence[State] = [{"a": a, "b": b, "input": 1} for a in (-2, 3) for b in (0, 5)]
    try:
        check_sound(results, states, step, covers, way=way, limit=16)
    except NothingTried:  # none of them ends
        reject()


def test_an_expression_of_both_branches_is_busy_and_one_of_one_is_not() -> None:
    """The golden tables of available expressions have their counterpart."""
    graph = parse(
        """
        start: test        -> left, right
        left:  x = add a b
               y = mul a b -> end
        right: z = add a b -> end
        end:   write z
        """
    )
    assert solve(VeryBusyExpressions(), graph).before(graph.node("start")) == {"add a b"}
    changed = parse("start: a = read\nx = add a b\nb = read\ny = mul a b")
    results = solve(VeryBusyExpressions(), changed)
    assert results.before(changed.node("start")) == frozenset()
    assert results.after(changed.node("start")) == {"add a b"}


@pytest.mark.parametrize("analysis", [AvailableExpressions(), VeryBusyExpressions()])
def test_analyses_of_expressions_are_monotone(analysis: Any) -> None:
    sets = [frozenset(some) for some in ([], ["add a b"], ["add a b", "copy c"], ["copy c"])]
    check_monotone(analysis, parse("a = add a b\nc = copy c\nwrite a"), sets)


# Dominators


@thorough
@given(shapes())
def test_dominators_are_what_cannot_be_avoided(shape: Shape) -> None:
    """Take a node away: what is then not reached any more, it dominates."""
    nodes = list(range(shape.size))
    graph = in_lines(shape, nodes)
    analysis: Dominators[int] = Dominators()
    results = solve(analysis, graph)
    verify(results)

    def reached(without: int | None) -> set[int]:
        found: set[int] = set()
        pending = list(shape.entries)
        while pending:
            node = pending.pop()
            if node not in found and node != without:
                found.add(node)
                pending += shape.successors[node]
        return found

    everything = reached(None)
    expected = {node: {d for d in nodes if node not in reached(d)} for node in everything}
    assert {n: set(results.after(n)) for n in nodes if results.reached(n)} == expected
    closest = immediate_dominators(graph)
    assert set(closest) == everything
    for node, above in closest.items():
        others = expected[node] - {node}
        assert (above is None) == (not others)
        if above is not None:
            assert others == expected[above]


# dtypes and devices


class Mixed(nn.Module):
    def forward(self, x: Tensor, n: Tensor) -> tuple[Tensor, ...]:
        half = x.to(torch.float16)
        mask = x > 0
        promoted = half + x
        inner = torch.cond(x.sum() > 0, lambda x: x * 2, lambda x: x.neg(), (x,))
        x.add_(n)
        return (
            half * 2,
            mask,
            promoted,
            n / 2,
            n + 1,
            x * 1j,
            torch.softmax(half, 0, x.dtype),
            inner,
        )


class Cast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return x @ x


def types_of(program: passes.Program) -> tuple[Any, list[tuple[passes.Value, Any]]]:
    """The inferred types of a program, and the observed ones."""
    autocast = any("autocast" in op.target for op in program.walk())
    results = passes.run(Types, program, autocast=autocast)
    values = [value for op in program.walk() for value in op.defines]
    return results, [(v, (v.type.dtype, v.type.device)) for v in values if v.type]


def same_type(fact: Any, observed: Any) -> bool:
    return all(said in (TOP, seen) for said, seen in zip(fact, observed, strict=True))


def load(model: nn.Module, *inputs: Tensor) -> passes.Program:
    return passes.load(model, *inputs)


def test_inferred_types_are_the_observed_ones() -> None:
    """On a network, where rules know everything, and on ops chosen to be difficult."""
    model, inputs = resnet50()
    cases = [load(model, *inputs), load(Mixed(), torch.rand(3), torch.arange(3))]
    cases += [load(linear_model()[0].double(), *(x.double() for x in linear_model()[1]))]
    cases += [load(Cast(), torch.rand(3, 3))]
    for program in cases:
        check_graph(program)
        results, observed = types_of(program)
        verify(results)
        check_values(results, observed, same_type)
    for program in (cases[0], cases[2]):
        results, observed = types_of(program)
        assert all(results.of(value) == seen for value, seen in observed)


def test_what_rules_do_not_know_is_not_said() -> None:
    """Promotion, integers, complex scalars; what they do know in the same program."""
    program = load(Mixed(), torch.rand(3), torch.arange(3))
    results, _ = types_of(program)
    facts = [results.of(value)[0] for value in program.outputs[-8:]]
    assert facts[:7] == ["float16", "bool", TOP, TOP, TOP, TOP, "float32"]
    assert all(results.of(value)[1] == "cpu" for value in program.outputs)
    cast = load(Cast(), torch.rand(3, 3))
    assert types_of(cast)[0].of(cast.outputs[0])[0] is TOP


def test_a_wrong_rule_would_be_found() -> None:
    """The same program without regard to autocast."""
    cast = load(Cast(), torch.rand(3, 3))
    results = passes.run(Types, cast, autocast=False)
    with pytest.raises(LawBroken, match="unsound: the fact of"):
        check_values(results, types_of(cast)[1], same_type)


# Python functions

SETS = (frozenset({"source"}), frozenset({"clean"}), frozenset({"sink"}))


class Dirty(int):
    """A number from a source; what is computed with it is one too."""

    def __add__(self, other: int) -> Dirty:
        return Dirty(int(self) + int(other))

    __radd__ = __add__


def clean_handler(flag: Any, sink: Any, source: Any, clean: Any) -> None:
    a = source()
    b = clean(a)
    while flag():
        sink(b)
        b = b + 1
        if flag():
            break
    else:
        a = 0
    sink(b)


def leaky_handler(flag: Any, sink: Any, source: Any, clean: Any) -> None:
    a, box = 1, [0]
    for _ in range(2):
        sink(a)  # in the second round
        a = source()
        box = [clean(a)]
    sink(box)
    box[0] = a
    sink(clean(a))
    sink(1 + box[0])


def test_a_leak_is_found_where_it_is_and_nowhere_else() -> None:
    """Around loops, through containers; not of what was cleaned."""
    assert leaked(inspect.getsource(clean_handler)) == []
    assert leaked(inspect.getsource(leaky_handler)) == ["sink(a)", "sink(1 + box[0])"]


def leaked(text: str) -> list[str]:
    return [ast.unparse(node.tree) for node in leaks(PythonFlow.parse(text), *SETS)]


def test_a_loop_over_nothing_leaves_its_target_as_it_was() -> None:
    """Dirty if it was."""
    text = "def f(sink, source, some):\n  x = {}\n  for x in some:\n    pass\n  sink(x)"
    assert leaked(text.format("source()")) == ["sink(x)"]
    assert leaked(text.format("0")) == []


@pytest.mark.parametrize(
    "arguments", ["x, y=source()", "x, /, y=source()", "y=source(), /, x=1", "*, y=source(), x"]
)
def test_a_default_may_be_dirty(arguments: str) -> None:
    """That of the argument it belongs to, of whatever kind, and of no other."""
    assert leaked(f"def f({arguments}):\n  sink(x)\n  sink(y)") == ["sink(y)"]


@pytest.mark.parametrize("statement", ["with a: pass", "try: pass\n  finally: pass", "del a",
                                       "global a", "def g(): pass", "print(a := 1)", "yield a",
                                       "[a for a in b]", "a = lambda: b"])  # fmt: skip
def test_what_is_not_modelled_is_refused(statement: str) -> None:
    """By its line, rather than left out."""
    with pytest.raises(NotImplementedError, match=r"line 2: .* is not modelled"):
        PythonFlow.parse(f"def f():\n  {statement}")
    with pytest.raises(NotImplementedError, match="Assign has no flow"):
        PythonFlow.parse("x = 1")


@st.composite
def python_functions(draw: st.DrawFn) -> str:
    """Functions of up to some 12 statements, with loops in loops."""
    name = st.sampled_from("abc")

    def body(depth: int, in_loop: bool) -> list[str]:
        lines: list[str] = []
        for _ in range(draw(st.integers(1, 4))):
            kinds = [*["source", "sink"] * 3, "clean", "copy", "add", "pair", "plus", "number"]
            kinds += ["if", "while", "for"] if depth else []
            kinds += ["break", "continue"] if in_loop else ["return"]
            x, y, z = draw(name), draw(name), draw(name)
            kind = draw(st.sampled_from(kinds))
            simple = {
                "source": f"{x} = source()",
                "clean": f"{x} = clean({y})",
                "copy": f"{x} = {y}",
                "add": f"{x} = {y} + {z}",
                "sink": f"sink({x})",
                "pair": f"{x}, {y} = {y}, {z}",
                "plus": f"{x} += {y}",
                "number": f"{x} = 1",
            }
            heads = {"if": "if flag():", "while": "while flag():", "for": f"for {x} in [{y}, 2]:"}
            if kind in simple:
                lines.append(simple[kind])
            elif kind in heads:
                loop = kind != "if"
                lines += [heads[kind], *indented(body(depth - 1, in_loop or loop))]
                if draw(st.booleans()):
                    lines += ["else:", *indented(body(depth - 1, in_loop))]
            else:
                lines.append(kind)
        return lines

    lines = body(2, False)
    return "\n".join(["def f(flag, sink, source, clean):", " a = b = c = 0", *indented(lines)])


def indented(lines: Sequence[str]) -> list[str]:
    return [" " + line for line in lines]


@thorough
@given(python_functions(), st.lists(st.booleans(), max_size=12))
def test_python_runs_along_the_flow_and_leaks_where_it_is_said(
    text: str, flags: list[bool]
) -> None:
    """Every step of the interpreter is an edge, and every sink that gets something dirty is
    among the leaks."""
    graph = PythonFlow.parse(text)
    check_graph(graph)
    lines: list[int] = []
    dirty: set[int] = set()
    answers = iter(flags)

    def sink(number: int) -> None:
        if isinstance(number, Dirty):
            dirty.add(sys._getframe(1).f_lineno)

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != "<function>":
            return None
        if event == "line":
            lines.append(frame.f_lineno)
        return trace

    scope: dict[str, Any] = {}
    exec(compile(text, "<function>", "exec"), scope)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        scope["f"](lambda: next(answers, False), sink, lambda: Dirty(1), int)
    finally:
        sys.settrace(before)
    ways = {(node.line, graph.nodes[to].line)
            for node, targets in zip(graph.nodes, graph.successors, strict=True)
            for to in targets}  # fmt: skip
    assert set(pairwise([1, *lines])) <= ways
    assert dirty <= {node.line for node in leaks(graph, *SETS)}


def test_to_leave_a_function_is_a_way_like_any_other() -> None:
    """So what a test that may be the last thing says is known on both of its ways."""
    flow = PythonFlow.parse("def f(x):\n  while x:\n    x = g()").flow
    assert [way[1] for way in flow.ways if way and str(way[0]) == "2: while x:"] == [0, 1]
