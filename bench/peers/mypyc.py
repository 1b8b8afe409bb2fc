"""mypyc's compiled `analyze_live_regs`, which comes with mypy."""

from __future__ import annotations

from mypyc.analysis.dataflow import AnalysisResult, analyze_live_regs, get_cfg
from mypyc.ir.ops import Assign, BasicBlock, Branch, Goto, Integer, Register, Return, Value
from mypyc.ir.rtypes import int_rprimitive

from bench.control import Program
from bench.measure import Posed


def prepare(program: Program) -> Posed[AnalysisResult[Value], frozenset[int]]:
    registers = [Register(int_rprimitive, f"v{number}") for number in range(program.variables)]
    numbers: dict[Value, int] = {register: n for n, register in enumerate(registers)}
    zero = Integer(0)
    blocks = [BasicBlock(number) for number in range(len(program.blocks))]
    for block, given in zip(blocks, program.blocks, strict=True):
        for target, source in given.assigns:
            value = zero if source is None else registers[source]
            block.ops.append(Assign(registers[target], value))
        read = zero if given.read is None else registers[given.read]
        if len(given.onward) == 2:
            a, b = (blocks[target] for target in given.onward)
            block.ops.append(Branch(read, a, b, Branch.BOOL))
        elif given.onward:
            block.ops.append(Goto(blocks[given.onward[0]]))
        else:
            block.ops.append(Return(read))
    cfg = get_cfg(blocks)
    return Posed(
        lambda: analyze_live_regs(blocks, cfg),
        lambda result: (
            frozenset(numbers[value] for value in result.before[block, 0]) for block in blocks
        ),
    )
