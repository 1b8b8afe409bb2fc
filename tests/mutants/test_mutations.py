"""What mutants are made of a source, and that the list of survivors is of mutants that exist."""

from __future__ import annotations

import ast
from textwrap import dedent
from typing import Any

import pytest

from tests.mutants.counting import HITS, counting
from tests.mutants.mutations import mutants_of
from tests.mutants.survivors import Survivor, listed, parsed
from tests.mutants.targets import TARGETS
from tests.mutants.trial import ROOT


def _mistakes(source: str) -> list[str]:
    """The changed lines, without the brackets that keep an operator's operands together."""
    return [mutant.after for mutant in mutants_of(dedent(source))]


@pytest.mark.parametrize(
    ("source", "mistakes"),
    [
        ("x = a < b", ["x = (a <= b)"]),
        ("x = a <= b", ["x = (a < b)"]),
        ("x = a == b", ["x = (a != b)"]),
        ("x = a is b", ["x = (a is not b)"]),
        ("x = a in b", ["x = (a not in b)"]),
        ("x = a < b <= c", ["x = (a <= b <= c)", "x = (a < b < c)"]),
        ("x = a and b", ["x = (a or b)", "x = (b)", "x = (a)"]),
        (
            "x = a or b or c",
            ["x = (a and b and c)", "x = (b or c)", "x = (a or c)", "x = (a or b)"],
        ),
        ("x = a + b", ["x = (a - b)"]),
        ("x = f(a, a)", []),
        ("x = a | b", ["x = (a & b)"]),
        ("x = not a", ["x = (a)"]),
        ("x = -a", ["x = (a)"]),
        ("x = 3", ["x = 4", "x = (2)"]),
        ("x = True", ["x = False"]),
        ("x = a.join", ["x = a.meet"]),
        ("x = min(a, b)", ["x = max(a, b)"]),
        ("x = sorted(a)", ["x = list(a)"]),
        ("x = a.leq(b, c)", ["x = a.leq(c, b)"]),
        ("x = replace(a, b, c)", ["x = replace(b, a, c)", "x = replace(a, c, b)"]),
        (
            "x = [a for a in b if a]",
            ["x = [a for a in b if (not (a))]", "x = [a for a in b if True]"],
        ),
        ("x = a if b else c", ["x = a if (not (b)) else c"]),
        ("f(a)", ["pass"]),
        ("x.a = b", ["pass"]),
        ("x[a] = b", ["pass"]),
        ("x += b", ["pass"]),
        ("while a:\n    continue", ["while (not (a)):", "pass"]),
        ("def f():\n    return a", ["return None"]),
        ("if a:\n    raise b", ["if (not (a)):", "pass"]),
    ],
)
def test_a_mistake(source: str, mistakes: list[str]) -> None:
    assert _mistakes(source) == mistakes


@pytest.mark.parametrize(
    "source",
    [
        "x = a",
        "x = f(a, b)",
        "x = a.unite(b, c)",
        '"""Words: 1 < 2."""',
        "x: Tuple[1, 2] = a",
        "def f(x: Literal[1]) -> Literal[2]:\n    return None",
        "@decorated(1)\nclass A(B[0]):\n    pass",
        "assert a < b",
        "x = f'{a + 1}'",
        "def f():\n    return",
    ],
)
def test_no_mistake(source: str) -> None:
    assert _mistakes(source) == []


def test_what_an_error_says_is_left_alone() -> None:
    assert _mistakes("raise A(b + 1)") == ["pass"]


def test_a_mutant_is_the_file_with_one_change() -> None:
    head = "class A:\n    def f(self):\n        y = 'ä'; return (\n            "
    (mutant,) = [m for m in mutants_of(f"{head}a <  # b\n            b)\n") if "<=" in m.after]
    assert mutant.text == f"{head}(a <= b))\n"
    assert (mutant.where, mutant.line, mutant.statement) == ("A.f", 4, 3)
    assert mutant.before == "a < b)"


def test_statements_that_are_run_are_noted() -> None:
    source = """
    def f(x):
        '''Text.'''
        for y in range(x):
            if y:
                continue
            elif y > 5:
                return 1
        try:
            raise KeyError
        except KeyError:
            return (
                2)
    """
    hits: set[int] = set()
    names = {HITS: hits}
    exec(compile(counting(ast.parse(dedent(source))), "f", "exec"), names)
    assert hits == set()
    function: Any = names["f"]
    assert function(3) == 2
    assert hits == {3, 4, 5, 6, 7, 9, 10, 12}
    mutants = mutants_of(dedent(source))
    assert {m.statement for m in mutants} == {5, 6, 7, 8, 10, 12}


def test_equal_mistakes_in_equal_lines_are_counted() -> None:
    keys = [mutant.key for mutant in mutants_of("f(a)\nf(a)\n")]
    assert keys == [("", "f(a)", "pass", 1), ("", "f(a)", "pass", 2)]


def test_a_list_reads_as_it_is_written() -> None:
    once = Survivor("a.py", "A.f", "x < y", "(x <= y)")
    twice = Survivor("b.py", "", "x - y", "x + y", 2)
    text = f"{once}\n  Both are\n  the same.\n\n{twice}\n  Nobody asks.\n"
    assert parsed(text) == {once: "Both are the same.", twice: "Nobody asks."}


@pytest.mark.parametrize("text", ["a.py  f\n    - x\n    + y\n", "a.py  f\n  Why.\n", "Why.\n"])
def test_a_list_without_a_mutant_or_a_reason_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no survivor with a reason"):
        parsed(text)


def test_survivors_exist() -> None:
    known = {
        Survivor(file, *mutant.key)
        for file in TARGETS
        for mutant in mutants_of((ROOT / file).read_text())
    }
    assert not [str(survivor) for survivor in listed() if survivor not in known]


def test_targets_and_their_tests_exist() -> None:
    names = {*TARGETS, *(test for tests in TARGETS.values() for test in tests)}
    assert not [name for name in names if not (ROOT / name).is_file()]
