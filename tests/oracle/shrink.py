"""Make a failing graph small: take out one node after the other, in sub-graphs too."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

from torch.fx import GraphModule, Node


def shrunk_graph(graph: GraphModule, fails: Callable[[GraphModule], bool]) -> GraphModule:
    """A graph that fails as well and from which no node can go."""
    while True:
        smaller = next(filter(fails, _smaller(graph)), None)
        if smaller is None:
            return graph
        graph = smaller


def shown(graph: GraphModule) -> str:
    """The graph and its sub-graphs as Python."""
    found = []
    for name, module in graph.named_modules():
        if isinstance(module, GraphModule):
            found.append(f"{name or 'program'}:\n{module.code.strip()}")
    return "\n".join(found)


def _smaller(graph: GraphModule) -> Iterator[GraphModule]:
    for name, module in graph.named_modules():
        if isinstance(module, GraphModule):
            for place, node in reversed(list(enumerate(module.graph.nodes))):
                for without in _ways_out(node):
                    yield _without(graph, name, place, without)


def _ways_out(node: Node) -> Iterator[int | None]:
    """What a node may be replaced by: nothing where nobody uses it, or one of its operands."""
    if node.op in ("placeholder", "output"):
        return
    if not node.users:
        yield None
    elif node.op != "get_attr":
        yield from range(len(_operands(node)))


def _operands(node: Node) -> list[Node]:
    """Its tensors; those of an operator with sub-graphs, for a part of its results."""
    found: list[Node] = []
    for other in node.all_input_nodes:
        if node.name.startswith("getitem"):
            found += [each for each in other.all_input_nodes if each.op != "get_attr"]
        elif other.op != "get_attr":
            found.append(other)
    return found


def _without(graph: GraphModule, name: str, place: int, operand: int | None) -> GraphModule:
    made = copy.deepcopy(graph)
    module = made.get_submodule(name)
    assert isinstance(module, GraphModule)
    node: Node = list(module.graph.nodes)[place]
    if operand is not None:
        node.replace_all_uses_with(_operands(node)[operand])
    module.graph.erase_node(node)
    module.recompile()
    return made
