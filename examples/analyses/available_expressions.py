"""Which expressions need not be computed again: the question of common subexpressions."""

from __future__ import annotations

from attrs import frozen

from dataflow import Dual, Forward, Lattice, Powerset, TextNode

Expressions = frozenset[str]


@frozen
class AvailableExpressions(Forward[TextNode, Expressions]):
    """Expressions computed on every path, with operands unchanged since.  Forward, must.

    Two expressions are the same if they are written the same.
    """

    lattice: Lattice[Expressions] = Dual(Powerset())

    def boundary(self) -> Expressions:
        return frozenset()

    def transfer(self, node: TextNode, value: Expressions) -> Expressions:
        computed = {" ".join([node.word, *node.operands])} if node.operands and node.results else ()
        return frozenset(
            expression
            for expression in value | frozenset(computed)
            if not set(expression.split()[1:]) & set(node.results)
        )
