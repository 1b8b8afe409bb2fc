"""xDSL's sparse forward analysis, with constants as its tests have them."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from xdsl.analysis.dataflow import DataFlowSolver
from xdsl.analysis.dead_code_analysis import DeadCodeAnalysis
from xdsl.analysis.sparse_analysis import Lattice, SparseForwardDataFlowAnalysis
from xdsl.context import Context
from xdsl.dialects.arith import AddiOp, ConstantOp
from xdsl.dialects.builtin import ModuleOp

from bench.measure import Posed
from bench.straight import Additions


@frozen
class Constant:
    """Unknown yet, one int, or any (`top`)."""

    known: int | None = None
    top: bool = False

    @classmethod
    def initial_value(cls) -> Constant:
        return cls()

    def join(self, other: Constant) -> Constant:
        if self == other or other == Constant():
            return self
        return other if self == Constant() else Constant(top=True)

    def meet(self, other: Constant) -> Constant:
        raise NotImplementedError


class ConstantOfValue(Lattice[Constant]):  # type: ignore[misc]  # untyped here
    value_cls = Constant


class Propagation(SparseForwardDataFlowAnalysis[ConstantOfValue]):  # type: ignore[misc]  # untyped here
    def __init__(self, solver: DataFlowSolver) -> None:
        super().__init__(solver, ConstantOfValue)

    def visit_operation_impl(
        self, op: object, operands: list[ConstantOfValue], results: list[ConstantOfValue]
    ) -> None:
        (result,) = results
        if isinstance(op, ConstantOp):
            found = Constant(op.value.value.data)
        else:
            a, b = (operand.value for operand in operands)
            if a.top or b.top:
                found = Constant(top=True)
            elif a.known is None or b.known is None:
                return
            else:
                found = Constant((a.known + b.known + 2**31) % 2**32 - 2**31)
        self.join(result, ConstantOfValue(result.anchor, found))

    def set_to_entry_state(self, lattice: ConstantOfValue) -> None:
        self.join(lattice, ConstantOfValue(lattice.anchor, Constant(top=True)))


def prepare(program: Additions) -> Posed[DataFlowSolver, int]:
    ops: list[Any] = []
    for number in range(program.size):
        constant = program.constant(number)
        if constant is None:
            ops.append(AddiOp(*(ops[operand].result for operand in program.operands(number))))
        else:
            ops.append(ConstantOp.from_int_and_width(constant, 32))
    module = ModuleOp(ops)

    def run() -> DataFlowSolver:
        solver = DataFlowSolver(Context())
        solver.load(DeadCodeAnalysis)
        solver.load(Propagation)
        solver.initialize_and_run(module)
        return solver

    return Posed(
        run,
        lambda solver: [solver.lookup_state(op.result, ConstantOfValue).value.known for op in ops],
    )
