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

Node = ast.stmt | ast.expr

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

    `statement` is the line where the statement around it starts; None for what is run when
    the file is imported.  `which` tells equal changes to equal lines of a function apart.
    """

    where: str
    line: int
    statement: int | None
    before: str
    after: str
    text: str
    which: int = 1

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What it is whatever else in the file changes."""
        return self.where, self.before, self.after, self.which


def mutants_of(source: str) -> list[Mutant]:
    """The mutants of a file, in the order of its lines; each is another text, and compiles."""
    lines = source.splitlines(keepends=True)
    found: list[Mutant] = []
    seen: Counter[tuple[str, str, str, int]] = Counter()
    for place, node, replacement in _mistakes(ast.parse(source), _Place()):
        mutant = _mutant(lines, place, node, replacement)
        if mutant.before == mutant.after:  # two equal arguments that changed places
            continue
        seen[mutant.key] += 1
        found.append(evolve(mutant, which=seen[mutant.key]))
    return sorted(found, key=lambda mutant: mutant.line)


@frozen
class _Place:
    """The function and the statement around a node."""

    where: str = ""
    statement: int | None = None
    in_function: bool = False


def _mutant(lines: list[str], place: _Place, node: Node, replacement: str) -> Mutant:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    first, last = node.lineno - 1, node.end_lineno
    # Columns count bytes.
    head = lines[first].encode()[: node.col_offset].decode()
    tail = lines[last - 1].encode()[node.end_col_offset :].decode()
    changed = head + replacement + tail
    text = "".join([*lines[:first], changed, *lines[last:]])
    before = _one_line("".join(lines[first:last]))
    after = _one_line(changed)
    return Mutant(place.where, node.lineno, place.statement, before, after, text)


def _one_line(text: str) -> str:
    """Some lines as one, without comments."""
    return " ".join(line.partition("  #")[0].strip() for line in text.splitlines()).strip()


def _mistakes(node: ast.AST, place: _Place) -> Iterator[tuple[_Place, Node, str]]:
    """Every node of a tree that could be another by mistake, and the text of that other."""
    if isinstance(node, ast.stmt) and place.in_function:
        place = evolve(place, statement=node.lineno)
    if isinstance(node, (ast.stmt, ast.expr)):
        yield from ((place, *found) for found in _of(node))
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        place = evolve(place, where=f"{place.where}.{node.name}".lstrip("."))
    for name, value in ast.iter_fields(node):
        if name in _KEPT.get(type(node), ()):
            continue
        inside = isinstance(node, ast.FunctionDef) and name == "body"
        within = evolve(place, in_function=True) if inside else place
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _mistakes(child, within)


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


def _of(node: Node) -> Iterator[tuple[Node, str]]:
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


def _of_call(node: ast.Call) -> Iterator[tuple[Node, str]]:
    name = ast.unparse(node.func).rpartition(".")[2]
    arguments = node.args
    if name == "sorted" and len(arguments) == 1:
        yield node, f"list({ast.unparse(arguments[0])})"
    for at in ORDERED.get(name, ()):
        swapped = [*arguments[:at], arguments[at + 1], arguments[at], *arguments[at + 2 :]]
        yield node, ast.unparse(ast.Call(node.func, swapped, node.keywords))


def _of_condition(test: ast.expr) -> Iterator[tuple[Node, str]]:
    """A condition that has no operator of its own to be changed."""
    if isinstance(test, (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.NamedExpr)):
        yield test, f"(not ({ast.unparse(test)}))"


def _of_statement(node: ast.stmt) -> Iterator[tuple[Node, str]]:
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
