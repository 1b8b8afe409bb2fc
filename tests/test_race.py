"""The race is fair: all engines get one program, say the same, and a peer may be missing."""

from __future__ import annotations

import shutil
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

from bench import by_hand, control, straight
from bench.measure import Posed, bytes_of, race
from bench.peers import mlir
from bench.race import (
    PEERS_OF_LIVENESS,
    PEERS_ON_LINES,
    bits_of_sparse_sets,
    installed,
    main,
    race_on_control_flow,
    race_with_many_variables,
    report,
)

PROGRAMS = {
    **{kind: control.dense(kind, 60) for kind in control.KINDS},
    **{f"sparse {kind}": control.sparse(kind, 60) for kind in ("loops", "chain")},
}


def prepare(name: str, program: object) -> Posed[Any, Any]:
    """A problem for a peer; the test is skipped if the peer is not installed."""
    try:
        found: Posed[Any, Any] = import_module(f"bench.peers.{name}").prepare(program)
    except ModuleNotFoundError as error:
        pytest.skip(f"no module {error.name}")
    return found


def answer(posed: Posed[Any, Any]) -> list[Any]:
    return list(posed.answer(posed.solve()))


def live_by_definition(program: control.Program) -> list[frozenset[int]]:
    """What is live before each block, by going round until nothing changes."""
    before: list[frozenset[int]] = [frozenset()] * len(program.blocks)
    while True:
        now = []
        for block in program.blocks:
            live = {variable for following in block.onward for variable in before[following]}
            live |= set() if block.read is None else {block.read}
            for target, source in reversed(block.assigns):
                live.discard(target)
                live |= set() if source is None else {source}
            now.append(frozenset(live))
        if now == before:
            return now
        before = now


@pytest.mark.parametrize("name", PROGRAMS)
def test_our_answers_are_by_definition(name: str) -> None:
    expected = live_by_definition(PROGRAMS[name])
    assert answer(control.with_bits(PROGRAMS[name])) == expected
    assert answer(control.with_sets(PROGRAMS[name])) == expected
    assert answer(by_hand.prepare(PROGRAMS[name])) == expected
    assert any(len(live) > 10 for live in expected), "there is something to find"


@pytest.mark.parametrize("peer", PEERS_OF_LIVENESS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_peers_find_the_same_alive(peer: str, name: str) -> None:
    assert answer(prepare(peer, PROGRAMS[name])) == live_by_definition(PROGRAMS[name])


def test_kinds_of_graphs_differ() -> None:
    """Loops are nested eight deep, a chain has none, and the entry gives all their values."""
    back = {
        kind: [
            (source, target)
            for source, block in enumerate(control.dense(kind, 60).blocks)
            for target in block.onward
            if target <= source
        ]
        for kind in control.KINDS
    }
    assert back["chain"] == []
    assert len(back["random"]) > 5
    deepest = max(sum(t <= block <= s for s, t in back["loops"]) for block in range(60))
    assert deepest == 8
    assert {target for target, _ in control.dense("chain", 60).blocks[0].assigns} == set(range(64))


@pytest.mark.parametrize(
    ("constants", "different"), [(straight.FEW_SUMS, 23), (straight.ALL_DIFFERENT, 100)]
)
def test_constants_are_those_of_plain_additions(constants: tuple[int, ...], different: int) -> None:
    program = straight.Additions(100, constants)
    values: list[int] = []
    for number in range(100):
        known = program.constant(number)
        values.append(sum(values[o] for o in program.operands(number)) if known is None else known)
    assert answer(straight.constants(program)) == values
    assert answer(straight.ranges(program)) == [(value, value) for value in values]
    assert all(abs(value) < 2**31 for value in values)
    assert len(set(values)) == different


@pytest.mark.parametrize("peer", PEERS_ON_LINES)
def test_peers_find_the_same_constants(peer: str) -> None:
    program = straight.Additions(100)
    assert answer(prepare(peer, program)) == answer(straight.constants(program))


@pytest.mark.skipif(shutil.which("mlir-opt-16") is None, reason="no mlir-opt-16")
@pytest.mark.parametrize("option", mlir.PASSES)
def test_mlir_says_what_its_pass_took(option: str) -> None:
    taken = mlir.seconds(straight.Additions(2_000), option)
    assert taken is not None
    assert 0 < taken < 5


def test_who_answers_otherwise_loses() -> None:
    honest = lambda: Posed(lambda: [1, 2, 3], iter)  # noqa: E731  # two of them side by side
    wrong = lambda: Posed(lambda: [1, 2, 4], iter)  # noqa: E731  # as above
    short = lambda: Posed(lambda: [1, 2], iter)  # noqa: E731  # as above
    assert set(race({"ours": honest, "peer": honest}, 2)) == {"ours", "peer"}
    with pytest.raises(AssertionError, match="the answer of peer differs in part 2"):
        race({"ours": honest, "peer": wrong}, 1)
    with pytest.raises(AssertionError, match="the answer of peer differs in part 2"):
        race({"ours": honest, "peer": short}, 1)


def test_each_turn_has_a_problem_of_its_own() -> None:
    """Some engines leave their answers in the problem, and would find them there."""
    solved: list[int] = []

    def entrant(name: str) -> Posed[None, None]:
        fresh: list[int] = []

        def solve() -> None:
            assert not fresh
            fresh.append(1)
            solved.append(1)

        return Posed(solve, lambda _: [])

    race({name: partial(entrant, name) for name in ("a", "b")}, 3)
    assert len(solved) == 6


def test_bytes_at_the_worst_moment_and_kept() -> None:
    def solve() -> bytes:
        bytes(3_000_000)
        return bytes(1_000_000)

    found = bytes_of(lambda: Posed(solve, lambda _: []))
    assert 1_000_000 <= found.kept < 1_100_000
    assert 3_000_000 <= found.peak < 3_100_000


def test_a_missing_peer_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_xdsl(name: str) -> ModuleType:
        if name == "bench.peers.xdsl":
            raise ModuleNotFoundError(name="xdsl")
        return import_module(name)

    monkeypatch.setattr("bench.race.import_module", without_xdsl)
    assert list(installed(["mypyc", "xdsl"])) == ["mypyc"]
    assert "xdsl is not here (no module xdsl" in capsys.readouterr().out
    with pytest.raises(ModuleNotFoundError, match="no_such_peer"):
        installed(["no_such_peer"])


def test_the_ratio_is_to_the_fastest_peer(capsys: pytest.CaptureFixture[str]) -> None:
    report("work, us each", {"ours": 1.0, "slow": 8.0, "fast": 4.0}, 1_000_000, 0.5)
    report("work, us each", {"a": 3.0, "b": 2.0, "peer": 8.0}, 1_000_000, 0.5, ours=("a", "b"))
    report("work, us each", {"ours": 1.0}, 1_000_000, 0.5)
    assert capsys.readouterr().out.splitlines() == [
        "   0.25   0.50  work, us each: ours 1.00, slow 8.00, fast 4.00",
        "   0.25   0.50  work, us each: a 3.00, b 2.00, peer 8.00",
        "                work, us each: ours 1.00",
    ]


def test_an_authors_calls_are_those_that_solving_makes() -> None:
    program = PROGRAMS["loops"]
    problem = control.own(program)
    results = problem.solve()
    found = [results.before(results.flow.nodes[line[0]]) for line in results.flow.blocks]
    assert found == live_by_definition(program)
    assert results.visits == problem.visits > len(program.blocks)
    assert len(problem.transfers) > sum(len(block.assigns) + 1 for block in program.blocks)
    assert len(problem.joins) > problem.visits - len(program.blocks)
    control.replay(problem.transfers)


def test_who_is_slow_is_not_run_at_larger_sizes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.race.SIZES", (60, 120))
    monkeypatch.setattr("bench.race.REPEATS", {60: 1, 120: 1})
    monkeypatch.setattr("bench.race.PATIENCE", 0)
    race_on_control_flow(installed(["mypyc"]))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(control.KINDS)
    for small, large in zip(lines[::2], lines[1::2], strict=True):
        assert "mypyc" in small
        assert "too slow" not in small
        assert large.endswith("not run, as too slow: mypyc")


def test_sets_that_do_not_fit_are_not_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.race.SIZES", (60, 120))
    monkeypatch.setattr("bench.race.REPEATS", {60: 1, 120: 1})
    monkeypatch.setattr("bench.race.ROOM", bits_of_sparse_sets(control.sparse("chain", 120)))
    race_with_many_variables({})
    for line in capsys.readouterr().out.splitlines():
        assert ("Bits not run" in line) == ("360 variables" in line)


def test_a_part_that_is_not_there() -> None:
    with pytest.raises(SystemExit, match="no part of the race is called speed; there are lines"):
        main(["speed"])
