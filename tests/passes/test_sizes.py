"""Sizes against plain arithmetic, their bounds and upper envelopes against every point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.symbolic import envelope
from passes.symbolic.bounds import Box, bounds, extreme, is_natural
from passes.symbolic.envelope import upper_envelope
from passes.symbolic.sizes import Size, common_factor

A, B = Size.symbol("a"), Size.symbol("b")
Meaning = Callable[[Mapping[str, int]], int]
Meant = tuple[Size, Meaning]


def n(number: int) -> Size:
    return Size.of(number)


LEAVES: st.SearchStrategy[Meant] = st.one_of(
    st.just((A, lambda at: at["a"])),
    st.just((B, lambda at: at["b"])),
    st.integers(-3, 9).map(lambda k: (n(k), lambda at: k)),
)


def _combined(
    parts: st.SearchStrategy[Meant],
) -> st.SearchStrategy[Meant]:
    def combine(drawn: tuple[str, Meant, Meant]) -> Meant:
        kind, (one, first), (other, second) = drawn
        match kind:
            case "+":
                return one + other, lambda at: first(at) + second(at)
            case "-":
                return one - other, lambda at: first(at) - second(at)
            case "*":
                return one * other, lambda at: first(at) * second(at)
            case "max":
                return Size.apply("max", one, other), lambda at: max(first(at), second(at))
            case "min":
                return Size.apply("min", one, other), lambda at: min(first(at), second(at))
            case "//":
                return Size.apply("//", one, n(3)), lambda at: first(at) // 3
        return Size.apply("%", one, n(4)), lambda at: first(at) % 4

    kinds = st.sampled_from(["+", "-", "*", "max", "min", "//", "%"])
    return st.tuples(kinds, parts, parts).map(combine)


EXPRESSIONS = st.recursive(LEAVES, _combined, max_leaves=6)
INTERVALS = st.tuples(st.integers(0, 5), st.integers(0, 3)).map(lambda p: (p[0], p[0] + p[1]))
BOXES = st.fixed_dictionaries({"a": INTERVALS, "b": INTERVALS})


def points(box: Box) -> list[dict[str, int]]:
    ranges = [range(low, (low + 5 if high is None else high) + 1) for low, high in box.values()]
    return [dict(zip(box, point, strict=True)) for point in product(*ranges)]


@settings(max_examples=60)
@given(EXPRESSIONS, st.integers(0, 20), st.integers(0, 20))
def test_a_size_is_what_arithmetic_says(expression: Meant, a: int, b: int) -> None:
    size, meaning = expression
    assert size.at({"a": a, "b": b}) == meaning({"a": a, "b": b})


@settings(max_examples=60)
@given(EXPRESSIONS, BOXES, st.sampled_from(["", "a", "b", "ab"]))
def test_bounds_hold_at_every_point(
    expression: Meant, box: dict[str, tuple[int, int | None]], endless: str
) -> None:
    size, meaning = expression
    for name in endless:
        box[name] = box[name][0], None
    least, most = bounds(size, box)
    for point in points(box):
        value = meaning(point)
        assert least is None or least <= value
        assert most is None or value <= most
        assert value >= 0 or not is_natural(size, box)


@settings(max_examples=60)
@given(EXPRESSIONS, st.integers(0, 9), st.integers(0, 9))
def test_bounds_of_a_point_are_its_value(expression: Meant, a: int, b: int) -> None:
    size, meaning = expression
    point: Box = {"a": (a, a), "b": (b, b)}
    value = meaning({"a": a, "b": b})
    assert bounds(size, point) == (value, value)


@settings(max_examples=60)
@given(st.lists(EXPRESSIONS, min_size=1, max_size=5), BOXES)
def test_an_upper_envelope_is_the_maximum(expressions: list[Meant], box: Box) -> None:
    sizes = [size for size, _ in expressions]
    kept = upper_envelope(sizes, box)
    for point in points(box):
        assert max(sizes[g.index].at(point) for g in kept) == max(s.at(point) for s in sizes)
    for found in kept:
        assert found.point is not None, "a finite box decides"
        assert sizes[found.index].at(found.point) == max(s.at(found.point) for s in sizes)


@settings(max_examples=60)
@given(st.lists(EXPRESSIONS, min_size=1, max_size=4))
def test_what_all_have_in_common_divides(expressions: list[Meant]) -> None:
    sizes = [size for size, _ in expressions]
    factor = common_factor(sizes)
    assert all(size.divided(factor) * factor == size for size in sizes)


FROM_TWO: Box = {"a": (2, None), "b": (2, None)}

ENVELOPES = {
    "one above the other everywhere": ([A, A * n(2)], [1]),
    "one below at first, above later": ([A * n(100), A * A], [0, 1]),
    "one between two others": ([A * A, A * A + n(4) * A, A * A + n(2) * A], [1]),
    "one below the maximum of two others, and below neither": (
        [A * A * B * n(32), A * A * B * n(16) + A * B * n(64), A * B * n(128)],
        [0, 2],
    ),
    "equal ones": ([A + B, B + A], [0]),
    "a constant that only small sizes stay below": ([n(9), A], [0, 1]),
    "a constant that nothing stays below": ([n(2), A], [1]),
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_envelopes_without_an_end(name: str) -> None:
    sizes, expected = ENVELOPES[name]
    found = upper_envelope(sizes, FROM_TWO)
    assert [g.index for g in found] == expected
    assert all(g.point is not None for g in found)


def test_of_sizes_on_a_line_only_neighbours_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backward pass frees an activation and makes a gradient for each of a thousand layers."""
    asked = []

    def counted(size: Size, box: Box) -> bool:
        asked.append(size)
        return is_natural(size, box)

    monkeypatch.setattr(envelope, "is_natural", counted)
    layers = 1000
    line = [A * B * n(4 * (layers - i)) + n(70 * i) for i in range(layers)]
    # The ends of a line are the greatest somewhere, and what is above the middle of it.
    bent = [*line, A * B * n(2 * layers) + n(35 * layers + 5000)]
    for sizes, expected in ((line, [0, layers - 1]), (bent, [0, layers - 1, layers])):
        assert [found.index for found in upper_envelope(sizes, FROM_TWO)] == expected
    assert len(asked) < 20 * layers


def test_applications_that_nothing_decides_stay_what_they_are() -> None:
    box: Box = {"a": (2, None), "b": (2, None)}
    assert extreme("max", [A, n(1)], box) == A
    assert extreme("min", [A, n(1)], box) == n(1)
    assert str(extreme("max", [A, B], box)) == "max(a, b)"
    assert extreme("max", [], box) == n(0)


SHOWN = {
    "0": n(0),
    "a": A,
    "-a + 3": n(3) - A,
    "a**2*b + 4*a - 1": A * A * B + n(4) * A - n(1),
    "a // 3": Size.apply("//", A, n(3)),
    "4*(a // 3)": n(4) * Size.apply("//", A, n(3)),
    "(a + 1) % 4": Size.apply("%", A + n(1), n(4)),
    "2": Size.apply("//", n(7), n(3)),
}


@pytest.mark.parametrize("text", SHOWN)
def test_how_a_size_reads(text: str) -> None:
    assert str(SHOWN[text]) == text
