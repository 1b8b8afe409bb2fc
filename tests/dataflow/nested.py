"""Random programs in the text notation: loops and branches in each other, or any jumps."""

from __future__ import annotations

from random import Random

from dataflow import TextGraph, parse

DEPTH = 3


class _Writer:
    """Lines, and the label that the next one has."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.lines: list[str] = []
        self.labels = self.names = 0
        self.label = ""

    def line(self, text: str) -> None:
        self.lines.append(self.label + text)
        self.label = ""

    def name(self) -> str:
        self.names += 1
        return f"v{self.names}"

    def new_labels(self, count: int) -> list[str]:
        self.labels += count
        return [f"L{number}" for number in range(self.labels - count, self.labels)]

    def body(self, names: list[str], depth: int) -> None:
        """Some lines; what they define for those after them is added to `names`."""
        for _ in range(self.random.randint(1, 3)):
            kinds = ["op", "op", "op", "loop", "branch"] if depth < DEPTH else ["op"]
            getattr(self, self.random.choice(kinds))(names, depth)

    def op(self, names: list[str], depth: int) -> None:
        left, right = self.random.choices(names, k=2)
        names.append(self.name())
        self.line(f"{names[-1]} = w{self.random.randrange(6)} {left} {right}")

    def loop(self, names: list[str], depth: int) -> None:
        head, body, done = self.new_labels(3)
        carried = self.name()
        self.line(f"nop -> {head}({self.random.choice(names)})")
        self.label = f"{head}({carried}): "
        self.line(f"test {carried} {self.random.choice(names)} -> {body}, {done}")
        self.label = f"{body}: "
        inside = [*names, carried]
        self.body(inside, depth + 1)
        self.line(f"nop -> {head}({self.random.choice(inside)})")
        names.append(carried)
        self.label = f"{done}: "

    def branch(self, names: list[str], depth: int) -> None:
        *sides, end = self.new_labels(3)
        merged = self.name()
        self.line(f"test {self.random.choice(names)} -> {', '.join(sides)}")
        for side in sides:
            self.label = f"{side}: "
            inside = list(names)
            self.body(inside, depth + 1)
            self.line(f"nop -> {end}({self.random.choice(inside)})")
        names.append(merged)
        self.label = f"{end}({merged}): "


def nested_program(random: Random) -> TextGraph:
    """Lines `v = wK a b`, K a digit below 6, in loops and branches up to three deep; two inputs."""
    writer = _Writer(random)
    names = ["in0", "in1"]
    writer.op(names, 0)
    writer.body(names, 0)
    writer.line(f"return {' '.join(random.choices(names, k=2))}")
    return parse("\n".join(writer.lines))


def tangled_program(random: Random) -> TextGraph:
    """Lines `v = wK a b` with jumps to anywhere: loops that follow each other at once, that are
    entered twice or never left."""
    count = random.randint(2, 9)
    names = ["in0", "in1", *(f"v{number}" for number in range(count))]
    lines = []
    for number in range(count):
        left, right = random.choices(names, k=2) if number else names[:2]
        onward = [f"L{random.randrange(count)}" for _ in range(random.choice((0, 1, 1, 2)))]
        if onward and number + 1 < count:
            onward.append(f"L{number + 1}")
        arrow = f" -> {', '.join(onward)}" if onward else ""
        lines.append(f"L{number}: v{number} = w{random.randrange(6)} {left} {right}{arrow}")
    lines.append(f"return {' '.join(random.choices(names, k=2))}")
    return parse("\n".join(lines))
