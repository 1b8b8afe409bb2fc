"""The control flow of a Python function, as a graph of its statements.

Enough of Python to show how: assignments, calls, `if`, `while`, `for`, `break`, `continue`,
`return`, `pass`.  Other statements are refused by name, and expressions that bind names.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import cached_property

from attrs import define, field, frozen

from dataflow import Flow
from dataflow.graph import straight_lines

_SIMPLE = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.Pass)
_KNOWN = (*_SIMPLE, ast.If, ast.While, ast.For, ast.Return, ast.Break, ast.Continue)
_BINDING = (ast.NamedExpr, ast.Lambda, ast.comprehension, ast.Yield, ast.YieldFrom, ast.Await)


@frozen(eq=False)
class Statement:
    """A statement, or the head of one: the test of an `if`, what a `for` goes over."""

    line: int
    tree: ast.stmt

    def __str__(self) -> str:
        return f"{self.line}: {ast.unparse(self.tree).splitlines()[0]}"


@define(eq=False, slots=False)
class PythonFlow:
    """A function as the solver sees it.  The first node is the function with its arguments."""

    nodes: list[Statement] = field(factory=list)
    successors: list[list[int]] = field(factory=list)
    _leaving: list[int] = field(factory=list)
    _loops: list[tuple[int, list[int]]] = field(factory=list)  # the head, and what breaks out

    @classmethod
    def parse(cls, text: str) -> PythonFlow:
        """The flow of a function's text."""
        tree = ast.parse(text).body[0]
        if not isinstance(tree, ast.FunctionDef):
            raise NotImplementedError(f"a {type(tree).__name__} has no flow: give a function")
        flow = cls()
        flow._leaving += flow._body(tree.body, [flow._add(tree, [])])
        return flow

    @cached_property
    def flow(self) -> Flow[Statement]:
        """The statements as the solver sees them."""
        cuts = [target for number in self._leaving for target in self.successors[number]]
        blocks, edges = straight_lines(self.successors, [0, *cuts])
        ends = {block[-1]: number for number, block in enumerate(blocks)}
        end = len(blocks)  # of its own, so that to leave is a way like any other
        edges += [(ends[number], end) for number in self._leaving]
        return Flow(self.nodes, [*blocks, []], edges, [0], [end])

    def _add(self, tree: ast.stmt, after: Sequence[int]) -> int:
        self.nodes.append(Statement(tree.lineno, tree))
        self.successors.append([])
        for number in after:
            self.successors[number].append(len(self.nodes) - 1)
        return len(self.nodes) - 1

    def _body(self, body: Sequence[ast.stmt], after: Sequence[int]) -> list[int]:
        """Statements one after the other; the nodes from which the last of them goes on."""
        ends = list(after)
        for tree in body:
            ends = self._statement(tree, ends)
        return ends

    def _statement(self, tree: ast.stmt, after: list[int]) -> list[int]:
        for part in ast.walk(tree):
            if isinstance(part, _BINDING) or (part is tree and not isinstance(tree, _KNOWN)):
                name = type(part).__name__
                raise NotImplementedError(f"line {tree.lineno}: {name} is not modelled")
        here = self._add(tree, after)
        match tree:
            case ast.If():
                return [*self._body(tree.body, [here]), *self._body(tree.orelse, [here])]
            case ast.While() | ast.For():
                self._loops.append((here, []))
                for end in self._body(tree.body, [here]):
                    self.successors[end].append(here)
                _, broken = self._loops.pop()
                return [*self._body(tree.orelse, [here]), *broken]
            case ast.Return():
                self._leaving.append(here)
            case ast.Break():
                self._loops[-1][1].append(here)
            case ast.Continue():
                self.successors[here].append(self._loops[-1][0])
        return [here] if isinstance(tree, _SIMPLE) else []
