"""vyper's `LivenessAnalysis` of its middle language, Venom.

It keeps a set per instruction, as mypyc does.  Its control-flow graph is found beforehand,
by a recursive search.
"""

from __future__ import annotations

import sys
from typing import Any

from vyper.venom.analysis import CFGAnalysis, IRAnalysesCache, LivenessAnalysis
from vyper.venom.basicblock import IRBasicBlock, IRInstruction, IRLabel, IRLiteral, IRVariable
from vyper.venom.context import IRContext
from vyper.venom.function import IRFunction

from bench.control import Program
from bench.measure import Posed


def prepare(program: Program) -> Posed[Any, frozenset[int]]:
    variables = [IRVariable(f"v{number}") for number in range(program.variables)]
    numbers = {variable: number for number, variable in enumerate(variables)}
    labels = [IRLabel(f"b{number}") for number in range(len(program.blocks))]
    function = IRFunction(labels[0], IRContext())  # it makes the entry block
    blocks = [function.entry, *(IRBasicBlock(label, function) for label in labels[1:])]
    for block in blocks[1:]:
        function.append_basic_block(block)
    for block, given in zip(blocks, program.blocks, strict=True):
        for target, source in given.assigns:
            value = IRLiteral(0) if source is None else variables[source]
            block.insert_instruction(IRInstruction("store", [value], variables[target]))
        onward = [labels[following] for following in given.onward]
        read = [] if given.read is None else [variables[given.read]]
        opcode = ("sink", "jmp", "jnz")[len(onward)]
        block.insert_instruction(IRInstruction(opcode, [*read, *onward]))
    cache = IRAnalysesCache(function)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(blocks) * 2 + limit)
    try:
        cache.request_analysis(CFGAnalysis)
    finally:
        sys.setrecursionlimit(limit)
    return Posed(
        lambda: cache.request_analysis(LivenessAnalysis),
        lambda liveness: (
            frozenset(numbers[variable] for variable in liveness.liveness_in_vars(block))
            for block in blocks
        ),
    )
