"""A solution, and the way to it, for people.

    diffs    per node, what an analysis gains and loses there
    dot      a picture of the graph with its facts, as text for Graphviz
    trace    the iteration, one line an evaluation: for teaching, and for slow analyses

The whole table of a solution is `str(results)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from attrs import frozen

from dataflow.analysis import UNREACHED, Backward, Forward, SparseBackward, SparseForward
from dataflow.combinators import Dual
from dataflow.graph import FlowGraph
from dataflow.lattice import Lattice
from dataflow.results import PointResults, Results, ValueResults
from dataflow.solve import Step, solve

N = TypeVar("N")
V = TypeVar("V")


@frozen
class Diff:
    """What a node changes, in execution order: parts of the fact after it that the fact before
    it does not have, and the reverse."""

    node: str
    gained: tuple[str, ...]
    lost: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(
            [*(f"+{part}" for part in self.gained), *(f"-{part}" for part in self.lost)]
        )


def diffs(results: PointResults[N, V]) -> Iterator[Diff]:
    """What each node changes, in order; nodes that no execution reaches are left out.

    Facts are told apart by the lattice's `parts`: the elements of a set, the keys of a map.  A
    fact that cannot be taken apart appears as a whole, lost as it was and gained as it is.  Parts
    that print alike and are not equal are different ones.
    """
    lattice = _upright(results.analysis.lattice)
    for node in filter(results.reached, results.flow.node_number):
        before, after = _parts(lattice, results.before(node)), _parts(lattice, results.after(node))
        yield Diff(str(node), tuple(_without(after, before)), tuple(_without(before, after)))


def _upright(lattice: Lattice[V]) -> Lattice[V]:
    """A lattice whose parts can be listed: of what is upside down the one inside."""
    while isinstance(lattice, Dual):
        lattice = lattice.inner
    return lattice


def _parts(lattice: Lattice[V], value: V) -> dict[str, list[V]]:
    """The parts of a fact, in order, by their text: a set of one is its element."""
    found: dict[str, list[V]] = {}
    for part in lattice.parts(value):
        shown = lattice.show(part)
        alone = shown.startswith("{") and shown.endswith("}")
        found.setdefault(shown[1:-1] if alone else shown, []).append(part)
    return found


def _without(parts: dict[str, list[V]], others: dict[str, list[V]]) -> Iterator[str]:
    """The text of each part that is not among the others."""
    for shown, alike in parts.items():
        yield from (shown for part in alike if part not in others.get(shown, ()))


def dot(results: Results[N, V]) -> str:
    """The solution as a graph in the DOT language: render it with `dot -Tsvg`.

    Of points: a box for each block, with the fact at its ends and what each node changes.
    Of values: nodes in round boxes, with values and their facts on the edges between them.
    What no execution reaches is dashed.
    """
    if isinstance(results, PointResults):
        body = _points(results)
    elif isinstance(results, ValueResults):
        body = _values(results)
    else:
        raise TypeError(f"{type(results).__name__} is no solution that can be drawn")
    lines = [
        "digraph {",
        '  node [shape=box, fontname="monospace"]',
        *(f"  {x}" for x in body),
        "}",
    ]
    return "\n".join(lines)


def _points(results: PointResults[N, V]) -> Iterator[str]:
    flow, show = results.flow, results.analysis.lattice.show
    changes = iter(diffs(results))
    change = {node: next(changes) for node in flow.node_number if results.reached(node)}
    for number, block in enumerate(flow.blocks):
        nodes = [flow.nodes[index] for index in block]
        reached = results.states[number] is not UNREACHED
        if not reached or not nodes:
            lines = [str(node) for node in nodes]
        else:
            told = [f"{node}    {change[node]}".rstrip() for node in nodes]
            lines = [show(results.before(nodes[0])), *told, show(results.after(nodes[-1]))]
            if nodes[0] in {flow.nodes[n] for n in flow.begins}:
                lines = lines[1:]  # before it is elsewhere
        yield f"b{number} [label={_quoted(lines)}{'' if reached else ', style=dashed'}]"
    for number, entry in enumerate(flow.entries):
        yield f"start{number} [shape=point]"
        yield f"start{number} -> b{entry}"
    for number, leaving in enumerate(flow.exits):
        yield f"end{number} [shape=point]"
        yield f"b{leaving} -> end{number}"
    for (source, target), way in zip(flow.edges, flow.ways, strict=True):
        yield f"b{source} -> b{target}" + (f' [label="{way[1]}"]' if way else "")


def _values(results: ValueResults[N, V]) -> Iterator[str]:
    flow, show = results.flow, results.analysis.lattice.show
    makers: dict[int, list[str]] = {}
    for node, number in flow.node_number.items():
        runs = "" if results.runs(node) else ", style=dashed"
        yield f"n{number} [label={_quoted([str(node)])}, shape=ellipse{runs}]"
        for result in flow.results[number]:
            makers.setdefault(result, []).append(f"n{number}")
    for value, number in flow.value_number.items():
        fact = results.states[number]
        told = "unreached" if fact is UNREACHED else show(fact)
        style = ", style=dashed" if fact is UNREACHED else ""
        yield f"v{number} [label={_quoted([f'{value}  {told}'])}{style}]"
        yield from (f"{maker} -> v{number}" for maker in makers.get(number, ()))
    for number, read in enumerate(flow.operands):
        yield from (f"v{operand} -> n{number}" for operand in dict.fromkeys(read))
    for copy in flow.copies:
        yield f'v{copy.source} -> v{copy.target} [style=dotted, label="{copy}"]'


def _quoted(lines: list[str]) -> str:
    """Lines of text, left aligned, as a DOT string: nothing in them is taken for markup."""
    text = ""
    for line in lines:
        escaped = line.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        text += f"{escaped}\\l"
    return f'"{text}"'


def trace(
    analysis: Forward[N, V] | Backward[N, V] | SparseForward[N, V] | SparseBackward[N, V],
    graph: FlowGraph[N],
) -> str:
    """Solve, and tell each evaluation on a line: what was evaluated, what it read, and which
    facts grew from what to what.

    Facts that a loop leaps to are told as they were left by widening.  The last step of a
    widened loop, which takes some of that back, is not told.
    """
    steps: list[Step[Any]] = []
    results: Results[N, V] = solve(analysis, graph, observer=steps.append)
    lattice: Lattice[Any] = results.sweep.lattice
    rows = [_row(number, step, lattice) for number, step in enumerate(steps, 1)]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, (*widths, 0), strict=True)).rstrip()
        for row in rows
    )


def _row(number: int, step: Step[Any], lattice: Lattice[Any]) -> tuple[str, str, str, str]:
    def show(fact: Any) -> str:
        return "unreached" if fact is UNREACHED else lattice.show(fact)

    grew = "; ".join(f"{name}: {show(old)} to {show(new)}" for name, old, new in step.grew)
    read = ", ".join(map(show, step.read)) or "nothing"
    return str(number), step.constraint, f"reads {read}", grew or "nothing grows"
