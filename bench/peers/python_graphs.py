"""python_graphs' `LivenessAnalysis` of blocks.  It leaves its sets in labels on them."""

from __future__ import annotations

from typing import Any

import gast
from python_graphs.control_flow import ControlFlowGraph
from python_graphs.data_flow import LivenessAnalysis
from python_graphs.instruction import READ, WRITE, Instruction

from bench.control import Program
from bench.measure import Posed


def prepare(program: Program) -> Posed[None, frozenset[int]]:
    names = [f"v{number}" for number in range(program.variables)]
    numbers = {name: number for number, name in enumerate(names)}
    statement = gast.Pass()  # its accesses are given, so it is not looked at
    graph = ControlFlowGraph()
    blocks: list[Any] = [graph.new_block() for _ in program.blocks]
    for block, given in zip(blocks, program.blocks, strict=True):
        for target, source in given.assigns:
            accesses = [(WRITE, names[target], None)]
            if source is not None:
                accesses.append((READ, names[source], None))
            block.add_instruction(Instruction(statement, accesses))
        if given.read is not None:
            block.add_instruction(Instruction(statement, [(READ, names[given.read], None)]))
        for following in given.onward:
            block.add_exit(blocks[following])

    def run() -> None:
        LivenessAnalysis().visit(blocks[-1])

    return Posed(
        run,
        lambda _: (
            frozenset(numbers[name] for name in block.get_label("liveness_in")) for block in blocks
        ),
    )
