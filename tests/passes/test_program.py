"""The waist: how programs print, tabulate and find their ops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import passes
from dataflow import UNREACHED, Forward, Lattice, Powerset, solve
from passes import Op
from tests.passes.programs import exported, traced

X = torch.rand(4, 4)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.linear(x)
        return h.view(-1).add_(1)


def test_a_program_prints_what_each_op_does() -> None:
    program = traced(lambda x: (x * 2).view(-1).add_(1), X)
    assert str(program).splitlines()[1:] == [
        "  x = input  # float32[4, 4]",
        "  mul = operator.mul(x, 2)  # float32[4, 4]; fresh",
        "  view = Tensor.view(mul, -1)  # float32[16]; alias of mul",
        "  add_ = Tensor.add_(view, 1)  # float32[16]; alias of view; writes view",
        "  output(add_)",
    ]


def test_rows_are_plain_and_in_order() -> None:
    rows = passes.load(Small(), X).to_rows()
    add = rows[-2]
    assert [row["index"] for row in rows] == list(range(len(rows)))
    assert add["name"] == "add_"
    assert add["writes"] == ["view"]
    assert add["types"] == ["float32[16]"]
    assert "return h.view(-1).add_(1)" in str(add["source"])


def test_source_is_the_users_line_and_module_its_path() -> None:
    program = passes.load(Small(), X)
    linear = program.op("linear")
    assert linear.module == "linear"
    assert linear.source.endswith("h: Tensor = self.linear(x)")
    assert __file__ in linear.source


def test_an_op_is_found_by_node_by_name_and_by_position() -> None:
    module = torch.fx.symbolic_trace(Small())
    program = passes.load(module, X)
    for position, node in enumerate(module.graph.nodes):
        assert program.op(node) is program.op(node.name) is program.op(position)
        assert program.op(node).node is node


def test_nodes_of_another_graph_are_refused() -> None:
    module, other = torch.fx.symbolic_trace(Small()), torch.fx.symbolic_trace(Small())
    program = passes.load(module, X)
    with pytest.raises(KeyError, match="not a node of the graph"):
        program.op(next(iter(other.graph.nodes)))
    with pytest.raises(KeyError, match="no op named 'nope'"):
        program.op("nope")


def test_values_are_numbered_as_they_stand() -> None:
    program = passes.load(Small(), X)
    assert [value.index for value in program.values] == list(range(len(program.values)))
    assert [op.index for op in program.walk()] == list(range(len(program.all_ops)))


def test_parameters_a_module_reaches_are_operands() -> None:
    program = passes.load(torch.fx.symbolic_trace(Small()), X)
    names = [value.name for value in program.op("linear").operands]
    assert names == ["x", "self.linear.weight", "self.linear.bias"]


def test_regions_are_instances_of_their_call_path() -> None:
    """One sub-graph called twice: two ops for each of its nodes."""

    @torch.compiler.nested_compile_region
    def twice(x: Tensor) -> Tensor:
        return x.sin() * 2

    class Nested(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            first: Tensor = twice(x)
            second: Tensor = twice(first)
            return second

    exported_program = torch.export.export(Nested(), (X,), strict=True)
    program = passes.load(exported_program)
    sines = [op for op in program.walk() if op.target == "aten.sin.default"]
    assert len(sines) == 2
    assert sines[0].node is sines[1].node
    assert sines[0].results != sines[1].results
    with pytest.raises(KeyError, match="called at several places"):
        program.op(sines[0].node)
    assert len({s for op in sines for s in passes.aliases(program).pointees(op.results[0])}) == 2


class Executed(Forward[Op, frozenset[str]]):
    """The names of ops that may have run."""

    @property
    def lattice(self) -> Lattice[frozenset[str]]:
        return Powerset()

    def transfer(self, node: Op, value: frozenset[str]) -> frozenset[str]:
        return value | {node.name}


def test_control_flows_through_regions() -> None:
    """Either branch may have run after a `cond`; neither has before it."""

    def either(x: Tensor, flag: Tensor) -> Tensor:
        y: Tensor = torch.cond(flag, lambda v: v.sin(), lambda v: v.cos(), (x,))
        return y + 1

    program = exported(either, X, torch.tensor(True))
    results = solve(Executed(), program)
    inside_true = results.before(program.op("cond/true/sin"))
    assert "cond/false/cos" not in inside_true
    assert not {"cond/true/sin", "cond/false/cos"} & results.before(program.op("cond"))
    assert {"cond/true/sin", "cond/false/cos"} <= results.after(program.op("cond"))
    assert UNREACHED not in results.states


def test_an_analysis_that_fails_is_told_the_op_and_the_line_it_comes_from() -> None:
    class Fails(Executed):
        def transfer(self, node: Op, value: frozenset[str]) -> frozenset[str]:
            return value | {str(node.keywords["other"])}

    program = passes.load(Small(), X)
    with pytest.raises(KeyError, match="other") as caught:
        solve(Fails(), program).after(program.ops[-1])
    told = "\n".join(caught.value.__notes__).splitlines()
    op = program.ops[0]
    assert told[:3] == [f"while analysing {op.line}", "in the program:", f"  > {op.line}"]

    class FailsAtView(Executed):
        def transfer(self, node: Op, value: frozenset[str]) -> frozenset[str]:
            return value | {node.name} if "view" not in node.name else value | 1  # type: ignore[operator]  # the mistake

    with pytest.raises(TypeError) as failed:
        solve(FailsAtView(), program).after(program.ops[-1])
    told = "\n".join(failed.value.__notes__).splitlines()
    here = told.index("  > view = aten.view.default(linear, [-1])")
    assert told[here + 1].startswith(f"        {__file__}:")
    assert told[here + 1].endswith(": return h.view(-1).add_(1)")
