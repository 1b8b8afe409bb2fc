"""A backend for `torch.compile` that analyses the graphs of a real run and leaves them alone.

Dynamo cuts the run into graphs: at what it cannot trace, and again for inputs of another
kind or size.  Each is analysed as it comes, at the sizes of the call that made it.

With `backward`, AOTAutograd cuts each graph further, into a forward and a backward one
without in-place writes, and these are analysed and run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from torch import fx
from torch._dynamo.backends.common import aot_autograd
from torch._functorch._aot_autograd.utils import make_boxed_func

from passes.errors import CaptureError
from passes.frontends.capture.aot import Told
from passes.frontends.capture.dynamo import told_by_dynamo
from passes.frontends.load import OBSERVED, from_graph
from passes.program import Program

# Any: a compiled graph takes and returns what the graph does.
Compiled = Callable[..., Any]
Backend = Callable[[fx.GraphModule, Sequence[object]], Compiled]


def compile_backend(report: Callable[[Program], object], backward: bool) -> Backend:
    """A backend that hands the Program of each graph to `report`.  See
    `passes.compile_backend`."""
    if not callable(report):
        raise CaptureError(
            f"compile_backend needs a function of a Program, such as programs.append, not a "
            f"{type(report).__qualname__}"
        )
    numbers = count()

    def analyse(
        graph: fx.GraphModule,
        inputs: Sequence[object],
        name: str,
        capture: str,
        told: Told = (),
    ) -> None:
        report(from_graph(graph, inputs, {}, capture, name, OBSERVED, told=told))

    def whole(graph: fx.GraphModule, inputs: Sequence[object]) -> Compiled:
        analyse(graph, inputs, f"graph {next(numbers)}", "torch.compile")
        return graph.forward

    def cut(graph: fx.GraphModule, inputs: Sequence[object]) -> Compiled:
        number = next(numbers)
        told = [told_by_dynamo(node) for node in graph.graph.find_nodes(op="placeholder")]

        def compiler(direction: str) -> Backend:
            def compile_part(part: fx.GraphModule, given: Sequence[object]) -> Compiled:
                name = f"graph {number}, {direction}"
                analyse(part, given, name, "torch.compile and AOTAutograd", told)
                boxed: Compiled = make_boxed_func(part.forward)
                return boxed

            return compile_part

        split = aot_autograd(fw_compiler=compiler("forward"), bw_compiler=compiler("backward"))
        compiled: Compiled = split(graph, inputs)
        return compiled

    return cut if backward else whole
