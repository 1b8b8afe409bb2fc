"""What is told of an error: its node, and the program around that, under the message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from dataflow.graph import Flow
from dataflow.lattice import LatticeError

N = TypeVar("N")

ANALYSING = "while analysing "
THERE = "in the program:"
ADVICE = "solve(checked(analysis), graph) finds facts that are none"


def around(flow: Flow[N], number: int) -> str:
    """The nodes around one, as lines to put under a message; under the one itself its `source`,
    the line it was written in, if it has one."""
    text = ""
    for at in range(max(0, number - 2), min(len(flow.nodes), number + 3)):
        text += f"\n  {'>' if at == number else ' '} {in_full(flow.nodes[at])}"
        if at == number and (source := _text(flow.nodes[at], "source")):
            text += f"\n        {source}"
    return text


def in_full(node: object) -> str:
    """A node as a line of its program: its `line` if that is text, or what `str` makes of it."""
    return _text(node, "line") or str(node)


def _text(node: object, attribute: str) -> str:
    found = getattr(node, attribute, "")
    return found if isinstance(found, str) else ""


def add_node(error: Exception, flow: Flow[N], number: int) -> None:
    """Name the node at which an error happened, and show the program around it."""
    error.add_note(f"{ANALYSING}{in_full(flow.nodes[number])}")
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


def wrong_number(facts: Sequence[object] | None, needed: int) -> str:
    """What is said of a transfer that did not give a fact for each value."""
    given = "None" if facts is None else f"{len(facts)} facts"
    return f"transfer gave {given} where {needed} are needed"


def notes_of(error: Exception) -> list[str]:
    """The notes that an error has."""
    return list(getattr(error, "__notes__", ()))
