"""numba's `compute_live_map`, and `compute_use_defs`, which finds what it starts from.

numba's sets are at block starts only, as ours are.  It holds a variable to be live only
where some path from the entry has defined or read it: the same here, as the entry defines
all.
"""

from __future__ import annotations

from typing import Any

from numba.core import ir
from numba.core.analysis import compute_live_map, compute_use_defs
from numba.core.controlflow import CFGraph

from bench.control import Program
from bench.measure import Posed


def prepare(program: Program) -> Posed[dict[int, set[str]], frozenset[int]]:
    where = ir.Loc("program", 0)
    scope = ir.Scope(None, where)
    variables = [scope.define(f"v{number}", where) for number in range(program.variables)]
    numbers = {variable.name: number for number, variable in enumerate(variables)}
    blocks: dict[int, Any] = {}
    graph = CFGraph()
    for number, given in enumerate(program.blocks):
        graph.add_node(number)
        block = blocks[number] = ir.Block(scope, where)
        for target, source in given.assigns:
            value = ir.Const(0, where) if source is None else variables[source]
            block.append(ir.Assign(value, variables[target], where))
        if len(given.onward) == 2:
            assert given.read is not None
            block.append(ir.Branch(variables[given.read], *given.onward, where))
        elif given.onward:
            block.append(ir.Jump(given.onward[0], where))
        else:
            assert given.read is not None
            block.append(ir.Return(variables[given.read], where))
    for number, given in enumerate(program.blocks):
        for following in given.onward:
            graph.add_edge(number, following)
    graph.set_entry_point(0)
    graph.process()

    def run() -> dict[int, set[str]]:
        found = compute_use_defs(blocks)
        live: dict[int, set[str]] = compute_live_map(graph, blocks, found.usemap, found.defmap)
        return live

    return Posed(
        run,
        lambda live: (frozenset(numbers[name] for name in live[number]) for number in blocks),
    )
