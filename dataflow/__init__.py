"""A dataflow framework: lattices, four kinds of analysis, one solver.

    lattice.py    what a lattice is, and its laws
    lattices.py   a library of them
    graph.py      what the engine needs to know of a graph
    analysis.py   Forward, Backward, SparseForward, SparseBackward
    solve.py      the loop; read it first
    order.py      the order it goes in
    results.py    before, after, of
    laws.py       check_lattice, verify
    text.py       graphs as ten lines of text

It knows nothing of tensors or torch.
"""

from dataflow.analysis import (
    UNREACHED,
    Analysis,
    Backward,
    Forward,
    SparseBackward,
    SparseForward,
    Unreached,
)
from dataflow.graph import Copy, CopyKind, Flow, FlowGraph
from dataflow.lattice import Lattice, LatticeError
from dataflow.lattices import (
    BOTTOM,
    NOTHING,
    TOP,
    Bits,
    Bottom,
    Chain,
    Dual,
    Flat,
    Interval,
    Lifted,
    MapOf,
    Nothing,
    Powerset,
    Product,
    Top,
)
from dataflow.laws import LawBroken, check_lattice, verify
from dataflow.results import PointResults, Results, UnreachedError, ValueResults
from dataflow.solve import DidNotConverge, TransferError, solve
from dataflow.text import NotationError, TextGraph, TextNode, parse

__all__ = [
    "BOTTOM",
    "NOTHING",
    "TOP",
    "UNREACHED",
    "Analysis",
    "Backward",
    "Bits",
    "Bottom",
    "Chain",
    "Copy",
    "CopyKind",
    "DidNotConverge",
    "Dual",
    "Flat",
    "Flow",
    "FlowGraph",
    "Forward",
    "Interval",
    "Lattice",
    "LatticeError",
    "LawBroken",
    "Lifted",
    "MapOf",
    "NotationError",
    "Nothing",
    "PointResults",
    "Powerset",
    "Product",
    "Results",
    "SparseBackward",
    "SparseForward",
    "TextGraph",
    "TextNode",
    "Top",
    "TransferError",
    "Unreached",
    "UnreachedError",
    "ValueResults",
    "check_lattice",
    "parse",
    "solve",
    "verify",
]
