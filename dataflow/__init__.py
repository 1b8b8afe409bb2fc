"""A dataflow framework: lattices, four kinds of analysis, one solver.

    lattice.py    what a lattice is, and its laws
    lattices.py   a library of them, with numeric, partition, combinators and products
    graph.py      what the engine needs to know of a graph
    analysis.py   Forward, Backward, SparseForward, SparseBackward
    genkill.py    GenKill: transfers that are data
    system.py     the equations they come to
    solve.py      the loop; read it first
    order.py      the order it goes in
    components.py strongly connected components, for it
    together.py   analyses that need each other: the fields of one that solving fills in
    joint.py      several analyses as one system
    results.py    before, after, of
    cursor.py     facts inside blocks, for it
    explain.py    why a fact holds, by the smallest of its derivations (derive, fewest, reason)
    equations.py  for that: what gives a fact at a place, with hearing, stand_ins and growth
    premises.py   and what it must read for that
    draft.py      edit a graph
    update.py     and bring results up to date
    calls.py      functions that call each other, as one graph
    laws.py       check_lattice, check_monotone, verify
    sound.py      check_sound: facts against executions
    snapshot.py   what a fact is now, to see whether it changes
    checked.py    an analysis that is watched while it is solved
    wellformed.py check_graph
    around.py     what is told of an error, and where it happened
    draw.py       diffs, pictures and traces
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
from dataflow.calls import Instance, Linked, link
from dataflow.checked import checked
from dataflow.combinators import DisjointUnion, Dual, Lifted, MapOf
from dataflow.draft import Draft, Edit
from dataflow.draw import Diff, diffs, dot, trace
from dataflow.explain import why
from dataflow.genkill import GenKill
from dataflow.graph import Copy, CopyKind, Flow, FlowGraph
from dataflow.lattice import Lattice, LatticeError
from dataflow.lattices import (
    BOTTOM,
    NOTHING,
    TOP,
    Bits,
    Bottom,
    Chain,
    Flat,
    Nothing,
    Powerset,
    Top,
)
from dataflow.laws import LawBroken, NothingTried, check_lattice, check_monotone, verify
from dataflow.numeric import Congruence, Interval, Sign, Signs
from dataflow.partition import Partition
from dataflow.products import Product, Record, Reduced
from dataflow.reason import Reason
from dataflow.results import PointResults, Results, StaleError, UnreachedError, ValueResults
from dataflow.solve import DidNotConverge, Observer, Step, TransferError, solve
from dataflow.sound import Execution, Moment, check_sound, check_values
from dataflow.text import NotationError, TextGraph, TextNode, parse
from dataflow.together import Partial, Shared, Solved
from dataflow.wellformed import GraphError, check_graph

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
    "Congruence",
    "Copy",
    "CopyKind",
    "DidNotConverge",
    "Diff",
    "DisjointUnion",
    "Draft",
    "Dual",
    "Edit",
    "Execution",
    "Flat",
    "Flow",
    "FlowGraph",
    "Forward",
    "GenKill",
    "GraphError",
    "Instance",
    "Interval",
    "Lattice",
    "LatticeError",
    "LawBroken",
    "Lifted",
    "Linked",
    "MapOf",
    "Moment",
    "NotationError",
    "Nothing",
    "NothingTried",
    "Observer",
    "Partial",
    "Partition",
    "PointResults",
    "Powerset",
    "Product",
    "Reason",
    "Record",
    "Reduced",
    "Results",
    "Shared",
    "Sign",
    "Signs",
    "Solved",
    "SparseBackward",
    "SparseForward",
    "StaleError",
    "Step",
    "TextGraph",
    "TextNode",
    "Top",
    "TransferError",
    "Unreached",
    "UnreachedError",
    "ValueResults",
    "check_graph",
    "check_lattice",
    "check_monotone",
    "check_sound",
    "check_values",
    "checked",
    "diffs",
    "dot",
    "link",
    "parse",
    "solve",
    "trace",
    "verify",
    "why",
]
