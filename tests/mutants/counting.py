"""A module that notes which of its statements are run, at little cost."""

from __future__ import annotations

import ast

HITS = "__statements_run__"
"""The set of lines that a module made by `counting` adds to; whoever imports it provides it."""


def counting(tree: ast.Module) -> ast.Module:
    """The module, noting the line of every statement in a function just before it is run."""
    _Counting().visit(tree)
    return ast.fix_missing_locations(tree)


class _Counting(ast.NodeTransformer):
    def __init__(self) -> None:
        self.in_function = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:  # ast's
        outside, self.in_function = self.in_function, True
        node.body = [each for statement in node.body for each in self._noted(statement)]
        self.in_function = outside
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for name, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                noted = [each for statement in value for each in self._noted(statement)]
                setattr(node, name, noted)
            elif isinstance(value, list):
                for child in value:
                    if isinstance(child, (ast.ExceptHandler, ast.match_case)):
                        self.visit(child)
        return node

    def _noted(self, statement: ast.stmt) -> list[ast.stmt]:
        self.visit(statement)
        if not self.in_function:
            return [statement]
        note = ast.parse(f"{HITS}.add({statement.lineno})").body[0]
        return [ast.copy_location(note, statement), statement]
