"""What generality costs: liveness as a loop for nothing else.

It takes the same graph as the engine, and checks nothing: not the graph, not that
every block is reached, not that it ends.  No peer, but what Python itself takes.
"""

from __future__ import annotations

from bench.control import Instruction, Program, bits_of
from bench.measure import Posed
from dataflow import Bits, Flow
from dataflow.order import collector_paused


def prepare(program: Program) -> Posed[list[int], frozenset[int]]:
    """Liveness by such a loop, a set of variables as the bits of an int."""
    flow = bits_of(program).flow
    return Posed(lambda: live(flow), lambda found: (frozenset(Bits.members(b)) for b in found))


@collector_paused()
def live(flow: Flow[Instruction[int]]) -> list[int]:
    """What is live before each block of a graph with one entry, from which all is reached."""
    nodes, count = flow.nodes, len(flow.blocks)
    generated, killed = [0] * count, [0] * count
    for block, line in enumerate(flow.blocks):
        gen = kill = 0
        for number in reversed(line):
            node = nodes[number]
            gen = (gen | node.killed) ^ node.killed | node.generated
            kill |= node.killed
        generated[block], killed[block] = gen, kill
    onward, before = flow.successors, flow.predecessors
    order = _postorder(onward, flow.entries[0])
    rank = [0] * count
    for at, block in enumerate(order):
        rank[block] = at
    found = [0] * count
    marked = bytearray(b"\x01") * count
    at = 0
    while at >= 0:
        block = order[at]
        marked[at] = 0
        after = 0
        for target in onward[block]:
            after |= found[target]
        kill = killed[block]
        now = (after | kill) ^ kill | generated[block]
        if now != found[block]:
            found[block] = now
            for source in before[block]:
                marked[rank[source]] = 1
        at = marked.find(1, at + 1)
        if at < 0:
            at = marked.find(1)
    return found


def _postorder(onward: list[list[int]], start: int) -> list[int]:
    seen = bytearray(len(onward))
    seen[start] = 1
    order: list[int] = []
    path, pending = [start], [iter(onward[start])]
    while path:
        for target in pending[-1]:
            if not seen[target]:
                seen[target] = 1
                path.append(target)
                pending.append(iter(onward[target]))
                break
        else:
            pending.pop()
            order.append(path.pop())
    return order
