"""Kirin's constant propagation, which comes with it."""

from __future__ import annotations

from typing import Any

from kirin import ir, types
from kirin.analysis.const import Propagate
from kirin.dialects import func
from kirin.dialects.py import binop, constant
from kirin.prelude import basic_no_opt

from bench.measure import Posed
from bench.straight import Additions


def prepare(program: Additions) -> Posed[Any, int]:
    block = ir.Block()
    block.args.append_from(types.MethodType, "self")
    values: list[Any] = []
    for number in range(program.size):
        known = program.constant(number)
        if known is None:
            statement = binop.Add(*(values[operand] for operand in program.operands(number)))
        else:
            statement = constant.Constant(known)
        block.stmts.append(statement)
        values.append(statement.results[0])
    block.stmts.append(func.Return(values[-1]))
    code = func.Function(
        sym_name="f", signature=func.Signature((), types.Int), body=ir.Region(block)
    )
    method = ir.Method(sym_name="f", arg_names=["self"], dialects=basic_no_opt, code=code)

    def run() -> Any:
        frame, _ = Propagate(basic_no_opt).initialize().run(method)
        return frame

    return Posed(run, lambda frame: [frame.entries[value].data for value in values])
