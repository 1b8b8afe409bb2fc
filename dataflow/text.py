"""Graphs as ten lines of text, for documentation, golden tests and trying things out.

    start: n = read
    loop:  test n          -> body, done
    body:  n = decrement n -> loop
    done:  write n

One node a line: an optional label, optional results before `=`, a word that names what
the node does, its operands, and after `->` the labels that may run next.  Without an
arrow the next line does; the last line, and `-> exit`, leave the graph.  The first line
is the entry.  `#` starts a comment.  A name that no line defines is an input.
"""

from __future__ import annotations

import re

from attrs import define, frozen

from dataflow.graph import Flow, straight_lines

_LINE = re.compile(
    r"""^\s*(?:(?P<label>[\w.]+)\s*:\s*)?
        (?:(?P<results>[\w.,\s]+?)\s*=\s*)?
        (?P<word>(?!->)[^\s=:>,]+)
        (?P<operands>(?:[\s,]+(?!->)[^\s=:>,]+)*)\s*
        (?:->\s*(?P<targets>[\w.][\w.,\s]*))?$""",
    re.VERBOSE,
)


class NotationError(ValueError):
    """A text does not follow the notation; the message names the line."""


@frozen
class TextNode:
    """One line of the notation: `label: results = word operands`."""

    label: str
    word: str
    results: tuple[str, ...]
    operands: tuple[str, ...]

    def __str__(self) -> str:
        left = f"{', '.join(self.results)} = " if self.results else ""
        return f"{left}{' '.join([self.word, *self.operands])}"


@define(eq=False, frozen=True)
class TextGraph:
    """A graph written in the notation."""

    flow: Flow[TextNode]

    def node(self, label: str) -> TextNode:
        """The node on the line with this label (or this line number, from 1)."""
        for node in self.flow.nodes:
            if node.label == label:
                return node
        raise KeyError(f"no line is labelled {label!r}")


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(re.findall(r"[^\s,]+", text or ""))


def parse(text: str) -> TextGraph:
    """The graph a text describes.  Raises `NotationError` with the line at fault."""
    nodes: list[TextNode] = []
    arrows: list[tuple[str, ...] | None] = []
    for line in text.splitlines():
        line = line.split("#")[0].rstrip()
        if not line.strip():
            continue
        match = _LINE.match(line)
        if match is None:
            raise NotationError(f"cannot read line {len(nodes) + 1}: {line.strip()!r}")
        nodes.append(
            TextNode(
                label=match["label"] or str(len(nodes) + 1),
                word=match["word"],
                results=_names(match["results"]),
                operands=_names(match["operands"]),
            )
        )
        arrows.append(None if match["targets"] is None else _names(match["targets"]))
    if not nodes:
        raise NotationError("there is no node in this text")

    numbers: dict[str, int] = {}
    for number, node in enumerate(nodes):
        if node.label in numbers or node.label == "exit":
            raise NotationError(f"label {node.label!r} is taken twice")
        numbers[node.label] = number
    successors: list[list[int]] = []
    leaving: list[int] = []
    for number, targets in enumerate(arrows):
        if targets is None:
            targets = (nodes[number + 1].label,) if number + 1 < len(nodes) else ("exit",)
        for target in targets:
            if target != "exit" and target not in numbers:
                raise NotationError(f"line {nodes[number].label!r} leads to no line: {target!r}")
        if "exit" in targets:
            leaving.append(number)
        successors.append([numbers[target] for target in targets if target != "exit"])

    # A line that may leave the graph ends its block, like one with several ways on.
    cuts = [*{target for number in leaving for target in successors[number]}]
    blocks, edges = straight_lines(successors, [0, *cuts])
    ends = {block[-1]: number for number, block in enumerate(blocks)}
    starts = {block[0]: number for number, block in enumerate(blocks)}

    values = list(dict.fromkeys(n for node in nodes for n in (*node.operands, *node.results)))
    value_number = {name: number for number, name in enumerate(values)}
    defined = {name for node in nodes for name in node.results}
    return TextGraph(
        Flow(
            nodes=nodes,
            blocks=blocks,
            edges=edges,
            entries=[starts[0]],
            exits=[ends[number] for number in leaving],
            values=values,
            operands=[tuple(value_number[name] for name in node.operands) for node in nodes],
            results=[tuple(value_number[name] for name in node.results) for node in nodes],
            inputs=[value_number[name] for name in values if name not in defined],
        )
    )
