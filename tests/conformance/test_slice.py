"""A slice of the conformance suite: operators once answered wrongly, and some others.

`make conformance` asks them all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.calls import Call, calls_of, operators
from tests.conformance.extra import EXTRA
from tests.conformance.judge import judge
from tests.conformance.suite import Finding, Tally, conform
from tests.oracle.run import observe
from tests.passes.programs import traced

ONCE_WRONG = """
    equal cov masked_select item linalg.lstsq linalg.solve_ex nn.functional.rrelu sum_to_size
    nn.functional.embedding_bag nn.functional.batch_norm conj_physical kron tensor_split
""".split()

OTHERS = """
    reshape contiguous to split dropout einsum resolve_neg index_put squeeze_multiple
    slice_scatter nn.functional.mse_loss native_batch_norm meshgrid nn.functional.dropout
""".split()

WRONG = ("missed", "false", "short", "disagrees")
LEFT = Path(__file__).parent / "left.txt"
MOST_LEFT = 10


def _wrong(tally: Tally) -> list[str]:
    return list(map(str, tally.of(*WRONG)))


def _unlisted(found: list[Finding]) -> set[str]:
    """What observed effects leave open though the list of what is left does not say so."""
    return {finding.line for finding in found} - set(LEFT.read_text().splitlines())


@pytest.mark.parametrize("name", [*ONCE_WRONG, *OTHERS])
def test_claims_about_an_operator_hold(name: str) -> None:
    tally = Tally()
    for call in calls_of(operators().get(name, []), several=2, few=1):
        conform(call, tally)
    assert not _wrong(tally)
    assert not _unlisted(tally.of("uncertain", "refused", way="observed"))


@pytest.mark.parametrize("call", EXTRA, ids=str)
def test_claims_about_what_the_table_lacks_hold(call: Call) -> None:
    tally = Tally()
    conform(call, tally)
    assert not _wrong(tally)
    assert not tally.of("uncertain", "refused", way="observed")


@pytest.mark.parametrize("call", [c for c in EXTRA if c.operator[:6] == "prims."], ids=str)
def test_views_of_decomposed_graphs_are_certain_by_schema_too(call: Call) -> None:
    tally = Tally()
    conform(call, tally)
    assert not tally.of("uncertain", "refused", way="declared")


def test_little_is_left() -> None:
    assert len(LEFT.read_text().splitlines()) <= MOST_LEFT


class TestTheJudge:
    """It must see what is wrong: a program judged by the run of another one."""

    @staticmethod
    def _judge(claimed: object, ran: object) -> tuple[bool, bool, bool]:
        import torch
        from torch import fx

        x = torch.rand(4, 6)
        run = observe(fx.symbolic_trace(ran), [x])  # type: ignore[arg-type]  # a function
        verdict = judge(traced(claimed, x), run)  # type: ignore[arg-type]  # as above
        return bool(verdict.missed), bool(verdict.false), bool(verdict.short)

    def test_the_same_program(self) -> None:
        assert self._judge(lambda x: x.view(24), lambda x: x.view(24)) == (False, False, False)

    def test_a_missed_alias_and_a_false_one(self) -> None:
        def copies(x: object) -> object:
            return _named(x, "clone")

        def views(x: object) -> object:
            return _named(x, "detach")

        assert self._judge(copies, views) == (True, False, False)
        assert self._judge(views, copies) == (False, True, True)

    def test_a_missed_write_and_a_false_one(self) -> None:
        def writes(x: object) -> object:
            return _named(x, "neg_")

        def reads(x: object) -> object:
            return _named(x, "detach")

        assert self._judge(reads, writes) == (True, False, False)
        assert self._judge(writes, reads) == (False, True, False)


def _named(x: object, method: str) -> object:
    """The method's result, under one name whatever the method."""
    from torch import fx

    assert isinstance(x, fx.Proxy)
    return fx.Proxy(x.tracer.graph.create_node("call_method", method, (x.node,), name="y"))
