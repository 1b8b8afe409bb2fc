"""Where an error happened: the program around a node, under the message."""

from __future__ import annotations

from typing import TypeVar

from dataflow.graph import Flow

N = TypeVar("N")

ANALYSING = "while analysing "
THERE = "in the program:"


def around(flow: Flow[N], number: int) -> str:
    """The nodes around one, as lines to put under a message."""
    nodes = range(max(0, number - 2), min(len(flow.nodes), number + 3))
    return "".join(f"\n  {'>' if n == number else ' '} {flow.nodes[n]}" for n in nodes)


def add_place(error: Exception, flow: Flow[N]) -> None:
    """Show the program around the node that an error's notes name, once."""
    notes = list(getattr(error, "__notes__", ()))
    if "\n  > " in "\n".join([str(error), *notes]):
        return
    names = {note.removeprefix(ANALYSING) for note in notes if note.startswith(ANALYSING)}
    for number, node in enumerate(flow.nodes if names else ()):
        if str(node) in names:
            error.add_note(f"{THERE}{around(flow, number)}")
            break
    if names and isinstance(error, (TypeError, AttributeError)):
        error.add_note("solve(checked(analysis), graph) finds facts that are none")
