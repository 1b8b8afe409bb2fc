"""Where an error happened: the program around a node, under the message."""

from __future__ import annotations

from typing import TypeVar

from dataflow.graph import Flow
from dataflow.lattice import LatticeError

N = TypeVar("N")

ANALYSING = "while analysing "
THERE = "in the program:"
ADVICE = "solve(checked(analysis), graph) finds facts that are none"


def around(flow: Flow[N], number: int) -> str:
    """The nodes around one, as lines to put under a message."""
    nodes = range(max(0, number - 2), min(len(flow.nodes), number + 3))
    return "".join(f"\n  {'>' if n == number else ' '} {flow.nodes[n]}" for n in nodes)


def add_node(error: Exception, flow: Flow[N], number: int) -> None:
    """Name the node at which an error happened, and show the program around it."""
    error.add_note(f"{ANALYSING}{flow.nodes[number]}")
    add_place(error, flow, number)


def add_place(error: Exception, flow: Flow[N], number: int) -> None:
    """Show the program around the node at which an error happened, once."""
    if "\n  > " in "\n".join([str(error), *notes_of(error)]):
        return
    error.add_note(f"{THERE}{around(flow, number)}")
    add_advice(error)


def add_advice(error: Exception) -> None:
    """Say how to find out more about an error that a fact of a wrong type may have caused."""
    is_told = isinstance(error, LatticeError) or ADVICE in notes_of(error)
    if isinstance(error, (TypeError, AttributeError)) and not is_told:
        error.add_note(ADVICE)


def notes_of(error: Exception) -> list[str]:
    """The notes that an error has."""
    return list(getattr(error, "__notes__", ()))
