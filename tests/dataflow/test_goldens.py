"""Golden tables: small programs and what classic analyses say of them.

The files are `tests/goldens/<analysis>.txt`.  A case is a title after `==` that says what
must be found, or must not be; a program in the text notation; `---`; and the table
`str(results)`.  With the environment variable UPDATE_GOLDENS=1 the tables are rewritten
from what the analyses say now: read the diff.
"""

from __future__ import annotations

import os
from ast import literal_eval
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from dataflow import (
    BOTTOM,
    TOP,
    Backward,
    Flat,
    Forward,
    Lattice,
    MapOf,
    Powerset,
    SparseForward,
    TextGraph,
    TextNode,
    parse,
    solve,
    verify,
)
from examples.analyses.available_expressions import AvailableExpressions
from examples.analyses.constants import Constants as ConditionalConstants
from examples.analyses.intervals import ANY, Intervals
from examples.analyses.reaching_writes import ReachingWrites
from examples.analyses.uninitialised import MaybeUninitialised
from examples.analyses.very_busy_expressions import VeryBusyExpressions

GOLDENS = Path(__file__).parents[1] / "goldens"
Names = frozenset[str]


@frozen
class Liveness(Backward[TextNode, Names]):
    """Names that may be read before they are written again.  Backward, may."""

    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: TextNode, value: Names) -> Names:
        return value - frozenset(node.results) | frozenset(node.operands)


@frozen
class Constants(Forward[TextNode, Mapping[str, Any]]):
    """Names with the same value on every path; absent: no value yet.  Forward, must."""

    lattice: MapOf[str, Any] = MapOf(Flat())

    def transfer(self, node: TextNode, value: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.lattice.of(
            {**value, **{name: self.result(node, value) for name in node.results}}
        )

    def result(self, node: TextNode, value: Mapping[str, Any]) -> Any:
        operands = [value.get(name, BOTTOM) for name in node.operands]
        match node.word:
            case "read":
                return TOP
            case "copy":
                return operands[0]
            case "add":
                if BOTTOM in operands or TOP in operands:
                    return BOTTOM if BOTTOM in operands else TOP
                return sum(operands)
        return literal_eval(node.word)


Kinds = Forward[TextNode, Any] | Backward[TextNode, Any] | SparseForward[TextNode, Any]

ANALYSES: Mapping[str, Callable[[TextGraph], Kinds]] = {
    "liveness": lambda graph: Liveness(),
    "reaching_writes": lambda graph: ReachingWrites(),
    "maybe_uninitialised": lambda graph: MaybeUninitialised(frozenset(map(str, graph.flow.values))),
    "available_expressions": lambda graph: AvailableExpressions(),
    "constants": lambda graph: Constants(),
    "conditional_constants": lambda graph: ConditionalConstants(),
    "intervals": lambda graph: Intervals(dict.fromkeys(inputs(graph), ANY)),
    "very_busy_expressions": lambda graph: VeryBusyExpressions(),
}


def inputs(graph: TextGraph) -> list[str]:
    """The names that no line defines."""
    return [str(graph.flow.values[number]) for number in graph.flow.inputs]


@frozen
class Case:
    """One program of a golden file, and its table."""

    path: Path
    title: str
    program: str
    table: str

    def __str__(self) -> str:
        return f"{self.path.stem}: {self.title}"

    @property
    def text(self) -> str:
        return f"== {self.title}\n{self.program}\n---\n{self.table}\n"


def cases() -> list[Case]:
    """Every case of every golden file."""
    found = []
    for path in sorted(GOLDENS.glob("*.txt")):
        for text in path.read_text(encoding="utf-8").removeprefix("== ").split("\n== "):
            title, _, rest = text.partition("\n")
            program, _, table = rest.partition("\n---\n")
            found.append(Case(path, title, program, table.rstrip("\n")))
    return found


@pytest.mark.parametrize("case", cases(), ids=str)
def test_golden_table(case: Case) -> None:
    """The analysis named by the file says what the table says."""
    graph = parse(case.program)
    results = solve(ANALYSES[case.path.stem](graph), graph)
    verify(results)
    table = "\n".join(line.rstrip() for line in str(results).splitlines())
    if os.environ.get("UPDATE_GOLDENS"):
        golden = case.path.read_text(encoding="utf-8")
        case.path.write_text(
            golden.replace(case.text, evolve(case, table=table).text), encoding="utf-8"
        )
    else:
        assert table == case.table


def test_half_of_the_cases_say_must_not() -> None:
    """Finding everything everywhere would pass a suite of "must" alone.  And no case is lost:
    the files are exactly the cases collected from them."""
    found = cases()
    assert len(set(map(str, found))) == len(found)
    for path in GOLDENS.glob("*.txt"):
        here = [case for case in found if case.path == path]
        assert path.read_text(encoding="utf-8") == "\n".join(case.text for case in here)
        negative = sum(case.title.startswith("must not ") for case in here)
        positive = sum(case.title.startswith("must ") for case in here) - negative
        assert positive == negative > 0
    assert {case.path.stem for case in found} == set(ANALYSES)
