"""Graphs as ten lines of text, for documentation, golden tests and trying things out.

    start: n = read
    loop:  test n          -> body, done
    body:  n = decrement n -> loop
    done:  write n

One node a line: an optional label, optional results before `=`, a word that names what
the node does, its operands, and after `->` the labels that may run next.  Without an
arrow the next line does; the last line, and `-> exit`, leave the graph, which is a way with a
number like any other.  The first line is the entry.  `#` starts a comment.  A name that no line
defines is an input, in the order they are named; what a line `return x` reads is read after the
graph.

A label may take values, which the arrows to it give.  So names can be defined once each:

           n = read        -> loop(n)
    loop(i): test i        -> body, done
    body:  j = decrement i -> loop(j)
    done:  write i
"""

from __future__ import annotations

import re

from attrs import define, frozen

from dataflow.graph import Copy, CopyKind, Flow, straight_lines

_LINE = re.compile(
    r"""^\s*(?:(?P<label>[\w.]+)(?:\((?P<takes>[\w.,\s]*)\))?\s*:\s*)?
        (?:(?P<results>[\w.,\s]+?)\s*=\s*)?
        (?P<word>(?!->)[^\s=:>,]+)
        (?P<operands>(?:[\s,]+(?!->)[^\s=:>,]+)*)\s*
        (?:->\s*(?P<targets>[\w.][\w.,\s()]*))?$""",
    re.VERBOSE,
)
_TARGET = re.compile(r"([\w.]+)(?:\(([\w.,\s]*)\))?")


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
        """The node on the line with this label.

        A line without one is labelled with its number among those that have a node, from 1.
        Raises `KeyError` where there is none.
        """
        for node in self.flow.nodes:
            if node.label == label:
                return node
        raise KeyError(f"no line is labelled {label!r}")


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(re.findall(r"[^\s,]+", text or ""))


def parse(text: str) -> TextGraph:
    """The graph a text describes.  Raises `NotationError` with the line at fault."""
    nodes: list[TextNode] = []
    plain: set[int] = set()  # those without a label
    takes: list[tuple[str, ...]] = []
    arrows: list[list[tuple[str, tuple[str, ...]]]] = []
    for count, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].rstrip()
        if not line.strip():
            continue
        match = _LINE.match(line)
        if match is None:
            raise NotationError(f"cannot read line {count}: {line.strip()!r}")
        if match["label"] is None:
            plain.add(len(nodes))
        nodes.append(
            TextNode(
                label=match["label"] or str(len(nodes) + 1),
                word=match["word"],
                results=_names(match["results"]),
                operands=_names(match["operands"]),
            )
        )
        takes.append(_names(match["takes"]))
        arrows.append([(m[1], _names(m[2])) for m in _TARGET.finditer(match["targets"] or "")])
    if not nodes:
        raise NotationError("there is no node in this text")

    numbers: dict[str, int] = {}
    for number, node in enumerate(nodes):
        if node.label == "exit":
            raise NotationError("label 'exit' is taken: it is where the graph is left")
        if node.label in numbers:
            twice = f"label {node.label!r} is taken twice"
            if plain & {number, numbers[node.label]}:
                twice += ", once as the number of a line that has none: give that line a label"
            raise NotationError(twice)
        numbers[node.label] = number
    for number, ways in enumerate(arrows):
        if not ways:
            following = nodes[number + 1].label if number + 1 < len(nodes) else "exit"
            ways.append((following, ()))
        for target, given in ways:
            if target != "exit" and target not in numbers:
                raise NotationError(f"line {nodes[number].label!r} leads to no line: {target!r}")
            wanted = () if target == "exit" else takes[numbers[target]]
            if len(given) != len(wanted):
                raise NotationError(
                    f"line {nodes[number].label!r} gives {len(given)} values to {target!r}, "
                    f"which takes {len(wanted)}"
                )
    return TextGraph(_flow(nodes, numbers, takes, arrows))


def _flow(
    nodes: list[TextNode],
    numbers: dict[str, int],
    takes: list[tuple[str, ...]],
    arrows: list[list[tuple[str, tuple[str, ...]]]],
) -> Flow[TextNode]:
    """Lines as blocks and edges, names as values, what labels take as copies."""
    successors = [[numbers[to] for to, _ in ways if to != "exit"] for ways in arrows]
    leaving = [n for n, ways in enumerate(arrows) if any(to == "exit" for to, _ in ways)]
    # A line that may leave the graph ends its block, like one with several ways on.
    cuts = {target for number in leaving for target in successors[number]}
    cuts |= {number for number, taken in enumerate(takes) if taken}
    blocks, edges = straight_lines(successors, [0, *cuts])
    ends = {block[-1]: number for number, block in enumerate(blocks)}
    starts = {block[0]: number for number, block in enumerate(blocks)}

    names = [n for node, taken in zip(nodes, takes, strict=True)
             for n in (*taken, *node.operands, *node.results)]  # fmt: skip
    values = list(dict.fromkeys([*names, *(n for w in arrows for _, given in w for n in given)]))
    value_number = {name: number for number, name in enumerate(values)}
    defined = {name for node in nodes for name in node.results} | {n for t in takes for n in t}

    exits = []
    for number in leaving:
        exits.append(ends[number])
        if len(arrows[number]) > 1:  # leaving is one of its ways: a block to leave by
            exits[-1] = len(blocks)
            way = [to for to, _ in arrows[number]].index("exit")
            first = next((e for e, edge in enumerate(edges) if edge[0] == ends[number]), 0)
            edges.insert(first + way, (ends[number], len(blocks)))
            blocks.append([])

    copies = []
    for number, ways in enumerate(arrows):
        for to, given in ways:
            if not given:
                continue
            block = ends[number]
            if len(ways) > 1:  # a block of its own for what happens on one of several ways
                edge = edges.index((block, starts[numbers[to]]))
                edges[edge : edge + 1] = [(block, len(blocks))]
                edges.append((len(blocks), starts[numbers[to]]))
                block = len(blocks)
                blocks.append([])
            for source, target in zip(given, takes[numbers[to]], strict=True):
                pair = value_number[source], value_number[target]
                copies.append(Copy(*pair, CopyKind.EDGE, number, block))
    return Flow(
        nodes=nodes,
        blocks=blocks,
        edges=edges,
        entries=[starts[0]],
        exits=exits,
        values=values,
        operands=[tuple(value_number[name] for name in node.operands) for node in nodes],
        results=[tuple(value_number[name] for name in node.results) for node in nodes],
        inputs=[value_number[name] for name in values if name not in defined],
        outputs=[value_number[n] for node in nodes if node.word == "return" for n in node.operands],
        copies=copies,
    )
