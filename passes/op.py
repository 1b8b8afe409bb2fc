"""One operation and what it works on: types, values, sub-graphs.

A *value* is a tensor object, not memory: two values may be one storage, and to say which
is the work of alias analysis.

Operands are all tensor leaves the op can reach, the ones in its arguments first, then the
implicit ones: parameters and buffers of a called module.  Ops are instances: a sub-graph
called three times gives three ops per body op.

Execution order numbers ops from 0 (`Op.index`) with the ops of a sub-graph before the op
it hangs on, because that op's results come to be when its sub-graphs are done.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from attrs import define, field, frozen

from dataflow import CopyKind
from passes.effects import Effects


@frozen
class TensorType:
    """Shape, stride and offset in elements, dtype and device of a tensor.

    A dimension that no example fixes is None.
    """

    shape: tuple[int | None, ...]
    stride: tuple[int | None, ...]
    offset: int | None
    dtype: str
    device: str

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        place = "" if self.device == "cpu" else f" {self.device}"
        return f"{self.dtype}[{sizes}]{place}"


@define(eq=False, frozen=True)
class Value:
    """A tensor leaf: the result of an op, an input of a region, or alive at entry.

    `index` numbers all values of a program.
    """

    index: int
    name: str
    type: TensorType | None

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Value {self.name}: {self.type}>"


class OpKind(Enum):
    """What an op is in its graph: an input, an attribute, a call, or the output."""

    INPUT = "input"
    ATTRIBUTE = "attribute"
    CALL = "call"
    OUTPUT = "output"


INPUT: Final = OpKind.INPUT  # asked as often as ANYTHING, and a name for the same reason


@frozen(eq=False)
class ValueCopy:
    """At a boundary of an op's regions, `target` becomes `source`."""

    source: Value
    target: Value
    kind: CopyKind


@define(eq=False, frozen=True)
class Region:
    """A sub-graph of an op: `inputs` and `outputs` are its values at entry and exit."""

    name: str
    inputs: tuple[Value, ...]
    ops: tuple[Op, ...]
    outputs: tuple[Value, ...]


@frozen
class RegionFlow:
    """How control and values go through the regions of an op; stated once per operator.

    `control` has pairs of region numbers; None is the op itself, as a source where it
    begins, as a target where it ends.  `copies` say which value becomes which.  `held` are
    outputs of regions that the run keeps until the op ends; `again` of their earlier
    iterations it keeps as well, or if None all of them, however many.  `early` are results
    that are there from the op's beginning.
    """

    control: tuple[tuple[int | None, int | None], ...]
    copies: tuple[ValueCopy, ...]
    held: tuple[Value, ...] = ()
    again: int | None = 0
    early: tuple[Value, ...] = ()

    def defines(self, op: Op) -> bool:
        """Whether the results of its op come from copies, not from the op's own effects."""
        targets = {copy.target for copy in self.copies}
        return any(value in targets for value in op.defines)

    @property
    def held_for_stacking(self) -> bool:
        """Whether results are stacked in the end, from what was held."""
        return not self.early and any(copy.kind is CopyKind.STACK for copy in self.copies)


@define(eq=False, frozen=True)
class Op:
    """One operation at one call path.

    `name` is unique in the program.  `results` are the tensor leaves of what it returns,
    in pytree order; `renames` says which operand positions are another tensor from here
    on (after `set_`), and the value that later uses read.  `phase` is the part of a training
    step it belongs to, if it does.  `arguments` are for display.
    """

    index: int
    name: str
    kind: OpKind
    target: str
    operands: tuple[Value, ...]
    results: tuple[Value, ...]
    effects: Effects
    renames: tuple[tuple[int, Value], ...] = ()
    regions: tuple[Region, ...] = ()
    region_flow: RegionFlow | None = None
    path: tuple[str, ...] = ()
    module: str = ""
    phase: str = ""
    stack: str = ""
    arguments: tuple[object, ...] = ()
    keywords: Mapping[str, object] = field(factory=dict)
    node: object = None
    defines: tuple[Value, ...] = field(init=False)

    @defines.default
    def _results_and_renames(self) -> tuple[Value, ...]:
        return (*self.results, *(value for _, value in self.renames))

    @property
    def first_index(self) -> int:
        """The index of the first op inside the regions; its own where there are none."""
        op = self
        while op.regions:
            op = op.regions[0].ops[0]  # a region has at least its output op
        return op.index

    @property
    def source(self) -> str:
        """`file:line: text` of the line this op comes from, or ''.

        The innermost frame that is not torch's own, so that a linear layer is the line
        that calls it.
        """
        frames: list[str] = []
        for line in map(str.strip, self.stack.splitlines()):
            if line.startswith('File "'):
                file, _, rest = line[6:].partition('", line ')
                frames.append(f"{file}:{rest.partition(',')[0]}")
            elif frames and line and ": " not in frames[-1]:
                frames[-1] += f": {line}"
        own = [f for f in frames if "/site-packages/torch/" not in f and not f.startswith("<")]
        return (own or frames or [""])[-1]

    @property
    def call(self) -> str:
        """The call as it stands in the graph, such as `aten.add.Tensor(x, 1)`."""
        if self.kind is OpKind.INPUT:
            return "input"
        if self.kind is OpKind.ATTRIBUTE:
            return f"self.{self.target}"
        shown = [_short(argument) for argument in self.arguments]
        shown += [f"{name}={_short(argument)}" for name, argument in self.keywords.items()]
        return f"{self.target}({', '.join(shown)})"

    @property
    def line(self) -> str:
        """The op as a line of the program, such as `add = aten.add.Tensor(x, 1)`."""
        return self.call if self.kind is OpKind.OUTPUT else f"{self.name} = {self.call}"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Op {self.index} {self.name} = {self.call}>"


def _short(argument: object) -> str:
    text = str(argument)
    return text if len(text) <= 60 else text[:57] + "..."
