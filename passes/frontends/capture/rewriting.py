"""From ops in a new order, some changed and some new, back to an fx graph that runs."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field, frozen
from torch import fx, nn

from passes.errors import ProgramError
from passes.program import Op, OpKind, Program, Value


@frozen(eq=False)
class Call:
    """What an op calls instead of what its node calls.

    The arguments are those of the node, the first two of them swapped if `swapped`, with
    more keywords; for an op without a node they are its operands.  `module` is what
    the target of a `call_module` names.
    """

    kind: str
    target: Any
    swapped: bool = False
    keywords: Mapping[str, object] = field(factory=dict)
    module: nn.Module | None = None


def rewritten(
    program: Program,
    ops: Sequence[Op],
    calls: Mapping[str, object],
    instead: Mapping[Value, Value],
) -> tuple[fx.GraphModule, Mapping[Op, fx.Node]]:
    """A graph of these ops, with the tensors and modules of the program's, and the node of
    each op.  See `passes.advice.draft.Draft` for what the arguments are."""
    module = program.graph
    if not isinstance(module, fx.GraphModule):
        raise ProgramError(f"{program.name} has no graph that could be rewritten")
    graph = fx.Graph(tracer_cls=getattr(module.graph, "_tracer_cls", None))
    # How the graph takes its inputs and returns its outputs.
    graph._codegen = copy.deepcopy(module.graph._codegen)
    writer = _Writer(program, graph, calls, instead)
    for op in ops:
        writer.write(op)
    made_modules = [call for call in calls.values() if isinstance(call, Call) and call.module]
    attributes: dict[str, Any] = {call.target: call.module for call in made_modules}
    for node in graph.nodes:
        if node.op in ("get_attr", "call_module") and node.target not in attributes:
            attributes[str(node.target)] = _attribute(module, str(node.target))
    made = fx.GraphModule(attributes, graph, class_name=type(module).__name__)
    made.training = module.training
    made.meta.update(module.meta)
    return made, writer.nodes


# Any: an attribute is whatever the module has there.
def _attribute(module: nn.Module, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part)
    return found


@define(eq=False)
class _Writer:
    program: Program
    graph: fx.Graph
    calls: Mapping[str, object]
    instead: Mapping[Value, Value]
    nodes: dict[Op, fx.Node] = field(factory=dict)
    by_value: dict[Value, fx.Node] = field(factory=dict)
    by_node: dict[fx.Node, fx.Node] = field(factory=dict)
    """From nodes of the program's graph to those of the new one."""
    originals: dict[fx.Node, Op] = field(init=False)

    @originals.default
    def _by_node(self) -> dict[fx.Node, Op]:
        return {op.node: op for op in self.program.ops if isinstance(op.node, fx.Node)}

    def write(self, op: Op) -> None:
        """Append the node of an op."""
        node = op.node
        call = self.calls.get(op.name)
        if not isinstance(node, fx.Node):
            assert isinstance(call, Call), "an op without a node says what it calls"
            arguments = tuple([self.by_value[value] for value in op.operands])
            made = self.graph.create_node(call.kind, call.target, arguments, {}, op.name)
        else:
            places = self.places(op, node)
            args = fx.map_arg(node.args, places.__getitem__)
            kwargs = fx.map_arg(node.kwargs, places.__getitem__)
            kind, target = node.op, node.target
            if isinstance(call, Call):
                kind, target = call.kind, call.target
                kwargs = {**kwargs, **call.keywords}  # type: ignore[dict-item]  # of a node
                if call.swapped:
                    args = (args[1], args[0], *args[2:])
            made = self.graph.create_node(kind, target, args, kwargs, op.name, node.type)
            made.meta = dict(node.meta)
            if self.originals[node].name == op.name:
                self.by_node[node] = made
        made.name = op.name  # torch may have added a number, though all names are apart
        self.nodes[op] = made
        if op.kind is not OpKind.OUTPUT:
            self.by_value.update(dict.fromkeys(op.defines, made))

    def places(self, op: Op, node: fx.Node) -> dict[fx.Node, fx.Node]:
        """For each node that `node` is given, the new one to be given instead."""
        found = {given: self.by_node.get(given) for given in node.all_input_nodes}
        if op.kind is OpKind.OUTPUT:
            for given in found:
                for value in self.originals[given].results:
                    if value in self.instead:
                        found[given] = self.by_value[self.instead[value]]
        else:
            before = self.originals[node].operands
            position = 0
            for given in found:
                count = len(self.originals[given].results)
                span = slice(position, position + count)
                if before[span] != op.operands[span]:
                    (found[given],) = {self.by_value[value] for value in op.operands[span]}
                position += count
        missing = [given.name for given, new in found.items() if new is None]
        assert not missing, f"{op} is placed before {missing}"
        return found  # type: ignore[return-value]  # none is missing
