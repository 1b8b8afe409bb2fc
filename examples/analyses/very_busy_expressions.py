"""Which expressions may be computed early, as every path needs them: the question of hoisting."""

from __future__ import annotations

from attrs import frozen

from dataflow import Backward, Dual, Lattice, Powerset, TextNode

Expressions = frozenset[str]


@frozen
class VeryBusyExpressions(Backward[TextNode, Expressions]):
    """Expressions that every path computes before it changes an operand.  Backward, must.

    Of executions that end; in a loop without exit nothing is said to be busy after it.
    """

    lattice: Lattice[Expressions] = Dual(Powerset())

    def boundary(self) -> Expressions:
        return frozenset()

    def transfer(self, node: TextNode, value: Expressions) -> Expressions:
        unchanged = frozenset(
            expression
            for expression in value
            if not set(expression.split()[1:]) & set(node.results)
        )
        if node.operands and node.results:
            return unchanged | {" ".join([node.word, *node.operands])}
        return unchanged
