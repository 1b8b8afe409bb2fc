"""Does what a user typed reach a place where it must not?  On plain Python functions.

The graph is built from a function's syntax tree.  Nothing here is about tensors.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Set

from attrs import frozen

from dataflow import Forward, Lattice, Powerset, solve
from examples.analyses.python_flow import PythonFlow, Statement

Names = frozenset[str]


@frozen
class Tainted(Forward[Statement, Names]):
    """Local names that may hold what came from a source.  Forward, may.

    A call's result is tainted if an argument is, unless it is a cleaner's.  Sound for data
    that flows through assignments of plain values.  Blind to what a branch gives away, to
    what a called function keeps or changes, and to two names for one mutable object.
    """

    sources: Names
    cleaners: Names
    lattice: Lattice[Names] = Powerset()

    def transfer(self, node: Statement, value: Names) -> Names:
        match node.tree:
            case ast.Assign(targets=targets, value=given):
                return self._assigned(value, targets, self.dirty(given, value))
            case ast.AnnAssign(target=target, value=ast.expr() as given):
                return self._assigned(value, [target], self.dirty(given, value))
            case ast.AugAssign(target=target, value=given):
                either = self.dirty(given, value) or self.dirty(target, value)
                return self._assigned(value, [target], either)
            case ast.For(target=target, iter=given):  # which may have nothing: then it is kept
                return value | self._assigned(value, [target], self.dirty(given, value))
            case ast.FunctionDef(args=given):  # what arguments are if nobody gives them
                names = [*given.posonlyargs, *given.args]
                names = names[len(names) - len(given.defaults) :] + given.kwonlyargs
                pairs = zip(names, [*given.defaults, *given.kw_defaults], strict=True)
                return value.union(
                    name.arg for name, one in pairs if one and self.dirty(one, value)
                )
        return value

    def dirty(self, tree: ast.AST, value: Names) -> bool:
        """Whether an expression may be what came from a source."""
        match tree:
            case ast.Call(func=ast.Name(id=name)) if name in self.sources | self.cleaners:
                return name in self.sources
            case ast.Name(id=name):
                return name in value
        return any(self.dirty(child, value) for child in ast.iter_child_nodes(tree))

    def _assigned(self, value: Names, targets: list[ast.expr], dirty: bool) -> Names:
        written = {name: whole for target in targets for name, whole in names_in(target)}
        if dirty:
            return value | written.keys()
        return value - {name for name, whole in written.items() if whole}


def names_in(target: ast.expr) -> Iterator[tuple[str, bool]]:
    """The names that an assignment to a target changes, and whether all of each."""
    match target:
        case ast.Name(id=name):
            yield name, True
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            for part in parts:
                yield from names_in(part)
        case ast.Starred(value=inner):
            yield from names_in(inner)
        case ast.Subscript(value=inner) | ast.Attribute(value=inner):
            yield from ((name, False) for name, _ in names_in(inner))


def leaks(
    graph: PythonFlow, sources: Set[str], cleaners: Set[str], sinks: Set[str]
) -> list[Statement]:
    """Statements that may give a sink what came from a source."""
    analysis = Tainted(frozenset(sources), frozenset(cleaners))
    results = solve(analysis, graph)
    found = []
    for node in filter(results.reached, graph.nodes):
        heads = [part for part in ast.iter_child_nodes(node.tree) if not isinstance(part, ast.stmt)]
        calls = [part for head in heads for part in ast.walk(head) if isinstance(part, ast.Call)]
        given = [
            part
            for call in calls
            if isinstance(call.func, ast.Name) and call.func.id in sinks
            for part in (*call.args, *call.keywords)
        ]
        if any(analysis.dirty(part, results.before(node)) for part in given):
            found.append(node)
    return found
