"""Small mistakes that could be made in a source file, one at a time.

A *mutant* is a file with one of them: an operator, a constant, a condition or an argument
changed, a statement dropped.  Tests that still pass with it have a hole there.

Left alone are annotations, decorators, docstrings, assertions, and what errors say.  Arguments
are swapped only where both are facts and the order counts: a join has none.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from attrs import evolve, frozen

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
}
OPPOSITES = {
    a: b
    for pair in ("any all", "min max", "join meet", "bottom top", "add discard")
    for a, b in (pair.split(), pair.split()[::-1])
}
ORDERED = {"leq": (0,), "sub": (0,), "widen": (0,), "widen_grown": (1,), "replace": (0, 1)}
"""Calls on facts whose order counts, and the arguments that may be taken for the next one."""


@frozen
class Mutant:
    """One mistake: in which function (`where`), the lines it is on before and after, and
    `text`, the whole file with it.

    `which` tells mutants apart that change equal lines of one function equally.
    """

    where: str
    line: int
    last_line: int
    before: str
    after: str
    text: str
    which: int = 1

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What it is whatever else in the file changes."""
        return self.where, self.before, self.after, self.which


def mutants_of(source: str) -> list[Mutant]:
    """The mutants of a file, in the order of its lines; each is a text that compiles."""
    lines = source.splitlines(keepends=True)
    found: list[Mutant] = []
    seen: Counter[tuple[str, str, str, int]] = Counter()
    for where, node, replacement in _Walk(source).mistakes():
        mutant = _mutant(lines, where, node, replacement)
        seen[mutant.key] += 1
        found.append(evolve(mutant, which=seen[mutant.key]))
    return sorted(found, key=lambda mutant: mutant.line)


def _mutant(lines: list[str], where: str, node: ast.expr | ast.stmt, replacement: str) -> Mutant:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    first, last = node.lineno - 1, node.end_lineno
    # Columns count bytes.
    head = lines[first].encode()[: node.col_offset].decode()
    tail = lines[last - 1].encode()[node.end_col_offset :].decode()
    changed = head + replacement + tail
    text = "".join([*lines[:first], changed, *lines[last:]])
    before = _one_line("".join(lines[first:last]))
    return Mutant(where, node.lineno, node.end_lineno, before, _one_line(changed), text)


def _one_line(text: str) -> str:
    """Some lines as one, without comments."""
    return " ".join(line.partition("  #")[0].strip() for line in text.splitlines()).strip()


class _Walk:
    """Every place of a file with what could stand there by mistake."""

    def __init__(self, source: str) -> None:
        self.tree = ast.parse(source)

    def mistakes(self) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
        """`(function, node, what replaces it)`."""
        yield from self._inside(self.tree, "")

    def _inside(self, node: ast.AST, where: str) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
        if isinstance(node, (ast.stmt, ast.expr)):
            yield from ((where, *found) for found in _of(node))
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            where = f"{where}.{node.name}".lstrip(".")
        for name, value in ast.iter_fields(node):
            if name in _KEPT.get(type(node), ()):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self._inside(child, where)


# What is not looked into: types, messages, and what is no code.
_KEPT: dict[type[ast.AST], tuple[str, ...]] = {
    ast.AnnAssign: ("annotation", "target"),
    ast.Assert: ("test", "msg"),
    ast.Assign: ("targets",),
    ast.ClassDef: ("bases", "keywords", "decorator_list"),
    ast.FunctionDef: ("decorator_list", "returns"),
    ast.JoinedStr: ("values",),
    ast.Raise: ("exc", "cause"),
    ast.arg: ("annotation",),
}


def _of(node: ast.stmt | ast.expr) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    """The mistakes that could be made at one node, without those inside it."""
    match node:
        case ast.Compare(ops=operators):
            for at, operator in enumerate(operators):
                some = [*operators[:at], COMPARED[type(operator)](), *operators[at + 1 :]]
                changed = ast.Compare(node.left, some, node.comparators)
                yield node, f"({ast.unparse(changed)})"
        case ast.BoolOp(op=connective, values=values):
            other = ast.Or() if isinstance(connective, ast.And) else ast.And()
            yield node, f"({ast.unparse(ast.BoolOp(other, values))})"
            for at in range(len(values)):
                rest = [*values[:at], *values[at + 1 :]]
                kept = rest[0] if len(rest) == 1 else ast.BoolOp(connective, rest)
                yield node, f"({ast.unparse(kept)})"
        case ast.BinOp(op=operation) if type(operation) in COMPUTED:
            changed_sum = ast.BinOp(node.left, COMPUTED[type(operation)](), node.right)
            yield node, f"({ast.unparse(changed_sum)})"
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield node, f"({ast.unparse(node.operand)})"
        case ast.Constant(value=bool(value)):
            yield node, str(not value)
        case ast.Constant(value=int(value)):
            yield node, str(value + 1)
            yield node, f"({value - 1})"
        case ast.Attribute(value=owner, attr=name) if name in OPPOSITES:
            yield node, f"{ast.unparse(owner)}.{OPPOSITES[name]}"
        case ast.Name(id=name, ctx=ast.Load()) if name in OPPOSITES:
            yield node, OPPOSITES[name]
        case ast.Call():
            yield from _of_call(node)
        case ast.If() | ast.While() | ast.IfExp():
            yield from _of_condition(node.test)
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            for part in node.generators:
                for condition in part.ifs:
                    yield from _of_condition(condition)
                    yield condition, "True"
        case ast.stmt():
            yield from _of_statement(node)


def _of_call(node: ast.Call) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    name = ast.unparse(node.func).rpartition(".")[2]
    arguments = node.args
    if name == "sorted" and len(arguments) == 1:
        yield node, f"list({ast.unparse(arguments[0])})"
    for at in ORDERED.get(name, ()):
        swapped = [*arguments[:at], arguments[at + 1], arguments[at], *arguments[at + 2 :]]
        yield node, ast.unparse(ast.Call(node.func, swapped, node.keywords))


def _of_condition(test: ast.expr) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    """A condition that has no operator of its own to be changed."""
    if isinstance(test, (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.NamedExpr)):
        yield test, f"(not ({ast.unparse(test)}))"


def _of_statement(node: ast.stmt) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    match node:
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.Continue() | ast.Break():
            yield node, "pass"
        case ast.AugAssign():
            yield node, "pass"
        case ast.Assign(targets=targets):
            if all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets):
                yield node, "pass"
        case ast.Return(value=value) if value is not None:
            if not (isinstance(value, ast.Constant) and value.value is None):
                yield node, "return None"
