"""The `dataflow` command.

    dataflow show MODEL      the program, with what lives and dies at each op
    dataflow memory MODEL    the peak, where it is, what is alive there, the timeline
    dataflow memory MODEL --train --optimizer adamw --budget 24GiB      does it fit?
    dataflow memory MODEL --dynamic batch=x:0 --budget 24GiB            how large a batch does?
    dataflow advise MODEL    what would lower the peak, and by how much

MODEL is a .pt2 file, or module:factory where factory() returns (model, inputs), (model, args,
kwargs), or a torch.export.ExportedProgram alone, which has inputs.  Exit status 0; 1 if a budget
is not enough; 2 with a message that says what to do.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from typing import Any

import passes
from passes import EffectsKnown, cli_fit
from passes.errors import ProgramError
from passes.named import A_FACTORY, called, function_named, is_file
from passes.program import Program
from passes.report import data, reasons, text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.json and arguments.command == "memory" and (arguments.by or arguments.explain):
        parser.error("--by and --explain are told in words: leave out --json, or leave out these")
    if arguments.effects != "observed" and cli_fit.are_used(arguments):
        parser.error("--effects is for a model that is captured as a graph: leave it out")
    try:
        # What a module prints while it is imported or run is no part of the answer.
        with _progress(f"analysing {arguments.model}"), redirect_stdout(sys.stderr):
            status, lines = _answer(arguments)
            output = "\n".join(lines)
    except ProgramError as error:
        print(f"dataflow: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # status 1 is an answer
        traceback.print_exc()
        told = f"{type(error).__name__}: {error}"
        print(f"dataflow: {told}\nThis was not expected: please report it", file=sys.stderr)
        return 2
    try:
        print(output)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _answer(arguments: argparse.Namespace) -> tuple[int, Iterable[str]]:
    """Exit status and report."""
    if cli_fit.are_used(arguments):
        program = cli_fit.load(arguments)
    else:
        program = _load(arguments.model, arguments.trust, arguments.effects)
    budget = getattr(arguments, "budget", None)
    if arguments.command == "advise":
        advice = passes.advise(program, budget=budget)
        told = _as_json(data.advice(advice)) if arguments.json else reasons.advice(advice)
        return int(not advice.can_fit), told
    status = 0
    lines = _REPORTS[arguments.command, arguments.json](program)
    if budget is not None:
        found = passes.Fit.of(passes.memory(program), budget)
        status = int(not found)
        lines = _as_json(data.fit(found)) if arguments.json else text.fit(found)
    return status, lines if arguments.json else [*lines, *_more(program, arguments)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dataflow", description="Who aliases whom, what is alive when, what the peak is."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (
        ("show", "the program, with what lives and dies at each op"),
        ("memory", "the peak, where it is, what is alive there, the timeline"),
        ("advise", "what would lower the peak, each verified by analysing the changed program"),
    ):
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument(
            "model",
            metavar="MODEL",
            help="a .pt2 file, or module:factory; factory() returns (model, inputs)",
        )
        command.add_argument(
            "--trust",
            action="store_true",
            help="let torch read the .pt2 file, though its reader may unpickle and so run code",
        )
        command.add_argument(
            "--effects",
            choices=("observed", "declared"),
            default="observed",
            help="how to know what ops do: by fake execution, or by schemas, which is faster",
        )
        command.add_argument("--json", action="store_true", help="write JSON for programs")
        if name != "show":
            cli_fit.add_options(command)
        if name == "memory":
            command.add_argument(
                "--by",
                choices=reasons.WAYS,
                action="append",
                help="also say what everything alive at the peak is for; may be given again",
            )
            command.add_argument(
                "--explain",
                action="store_true",
                help="also say why the largest storages at the peak are alive",
            )
    return parser


def _more(program: Program, arguments: argparse.Namespace) -> Iterator[str]:
    """What options ask for besides the report."""
    if arguments.command == "memory":
        for way in arguments.by or ():
            yield from reasons.by(passes.memory(program), way)
        if arguments.explain:
            yield from reasons.explain(passes.memory(program))


def _as_json(answer: Mapping[str, object]) -> Iterable[str]:
    return [json.dumps(answer)]


_REPORTS: Mapping[tuple[str, bool], Callable[[Program], Iterable[str]]] = {
    ("show", False): text.show,
    ("show", True): lambda program: _as_json(data.show(program)),
    ("memory", False): lambda program: text.memory(passes.memory(program)),
    ("memory", True): lambda program: _as_json(data.memory(passes.memory(program))),
}


def _load(model: str, trust: bool, effects: EffectsKnown) -> Program:
    if is_file(model):
        return passes.load(model, trust=trust, effects=effects)
    made = called(function_named(model, A_FACTORY), model)
    # Any: a module's functions are not known before it is imported.
    fitting: Any = import_module("passes.frontends.fitting")
    frontend: Any = import_module("passes.frontends.load")
    call = fitting.as_call(made)
    # By a dict, since inputs may have any names.
    program: Program = frontend.load(
        call.model, call.args, call.kwargs, trust=trust, effects=effects
    )
    return program


@contextmanager
def _progress(what: str, patience: float = 2.0) -> Iterator[None]:
    """Say on stderr that work goes on, once it has taken longer than `patience` seconds."""
    done = threading.Event()
    started = time.monotonic()
    stream = sys.stderr  # capturing a model redirects it for a while

    def report() -> None:
        while not done.wait(patience):
            print(f"{what}: {time.monotonic() - started:.0f} s", file=stream, flush=True)

    watcher = threading.Thread(target=report, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


if __name__ == "__main__":
    sys.exit(main())
