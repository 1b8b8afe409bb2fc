"""The options of `dataflow memory` that ask of a model as it runs or trains, and if it fits."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import passes
from passes.budget import parse_budget
from passes.errors import CaptureError
from passes.named import A_FACTORY, A_LOSS, called, function_named, is_file
from passes.program import Program

_OPTIONS = ("budget", "train", "optimizer", "loss", "dtype", "dynamic", "real")

_DYNAMIC = re.compile(r"(?P<name>[A-Za-z_]\w*)(\.\.(?P<high>\d+))?=(?P<places>.+:\d+)")


def add_options(command: argparse.ArgumentParser) -> None:
    """Add them to the parser of a command."""
    group = command.add_argument_group(
        "as it runs or trains",
        "With one of these, factory() is called under torch's meta device, so that nothing is "
        "allocated, and counted is the forward as it runs without gradients, or a training step.",
    )
    group.add_argument("--budget", metavar="SIZE", help="of everything, such as 24GiB or 80GB")
    group.add_argument("--train", action="store_true", help="a training step, not the forward")
    group.add_argument("--optimizer", metavar="NAME", help="with its update, such as adamw")
    group.add_argument(
        "--loss",
        metavar="MODULE:FUNCTION",
        help="of the model's output and the last inputs; without, the output is it or has it",
    )
    group.add_argument("--dtype", metavar="NAME", help="cast the model first, such as bfloat16")
    group.add_argument(
        "--dynamic",
        metavar="NAME=INPUT:DIM",
        action="append",
        help="a size that is not fixed, such as batch=x:0,target:0, or length..4096=x:1 where it "
        "has a greatest: the peak as a function of it, and with --budget the largest that fits; "
        "may be given again",
    )
    group.add_argument(
        "--real", action="store_true", help="call factory() as it is, though it may allocate"
    )


def are_used(arguments: argparse.Namespace) -> bool:
    """Whether any of the options was given."""
    return any(getattr(arguments, name, None) not in (None, False) for name in _OPTIONS)


def load(arguments: argparse.Namespace) -> Program:
    """The program of the forward as it runs, or of the training step."""
    if arguments.budget is not None:
        parse_budget(arguments.budget)  # before any work
    dynamic = _dynamic(arguments.dynamic or ())
    # Any: a module's functions are not known before it is imported.
    fitting: Any = import_module("passes.frontends.fitting")
    source: object
    if is_file(arguments.model):
        source = passes.load(arguments.model, trust=arguments.trust)
    else:
        make = function_named(arguments.model, A_FACTORY)
        made = called(make, arguments.model) if arguments.real else None
        source = make if made is None else lambda: made
    loss = arguments.loss if arguments.loss is None else function_named(arguments.loss, A_LOSS)
    program: Program = fitting.program_to_fit(
        source,
        None,
        train=arguments.train,
        loss=loss,
        optimizer=arguments.optimizer,
        dtype=arguments.dtype,
        dynamic=dynamic,
    )
    return program


def _dynamic(given: Iterable[str]) -> dict[str, dict[int, object]]:
    """The dynamic sizes that options name, by input and number of the dimension."""
    found: dict[str, dict[int, object]] = {}
    for text in given:
        parts = _DYNAMIC.fullmatch(text)
        places = [place.rpartition(":") for place in parts["places"].split(",")] if parts else []
        if parts is None or not all(label and number.isdigit() for label, _, number in places):
            raise CaptureError(
                f"--dynamic {text}: give a name for the size, and which dimensions of which "
                "inputs have it, as in batch=x:0,target:0; with its greatest size, "
                "length..4096=x:1"
            )
        for label, _, number in places:
            dim: object = parts["name"]
            if parts["high"]:
                dim = import_module("torch.export").Dim(parts["name"], max=int(parts["high"]))
            found.setdefault(label, {})[int(number)] = dim
    return found
