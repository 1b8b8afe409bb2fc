"""`make mutants`: do the tests see small mistakes in the solver, the lattices, aliases and
liveness?

Every mutant of a file is run against the tests that are about it, until one fails: it is
*killed*.  The others *survive*; `survivors.txt` lists them with the reason, and those of the
list are counted as survivors without being run.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence

from attrs import define, field

from tests.mutants.mutations import Mutant, mutants_of
from tests.mutants.survivors import Survivor, listed
from tests.mutants.targets import TARGETS
from tests.mutants.trial import ROOT, Outcome, Reach, Verdict, explore, trial, warm

ENOUGH = 0.90
UNSEEN = Outcome(Verdict.PASSED, 0, "no test gets there")


@define
class Tally:
    """What became of the mutants of a file."""

    file: str
    killed: int = 0
    hung: int = 0
    known: list[Mutant] = field(factory=list)
    survivors: list[Mutant] = field(factory=list)

    @property
    def total(self) -> int:
        """How many were judged."""
        return self.killed + len(self.known) + len(self.survivors)

    @property
    def share(self) -> float:
        """Of the killed."""
        return self.killed / self.total if self.total else 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the mutants; 1 if too many survive, or one that the list does not have."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--sample", type=int, metavar="N", help="N mutants of each file only")
    parser.add_argument("--listed", action="store_true", help="run those in the list, too")
    parser.add_argument("--function", default="", help="only where the name starts so")
    options = parser.parse_args(arguments)
    if unknown := [file for file in options.files if file not in TARGETS]:
        parser.error(f"{unknown[0]} is none of {', '.join(TARGETS)}")
    warm(["attrs", "torch", "torch.export", "torch._dynamo", "torch._higher_order_ops"])
    tallies = []
    for file in options.files or TARGETS:
        mutants = mutants_of((ROOT / file).read_text())
        mutants = [mutant for mutant in mutants if mutant.where.startswith(options.function)]
        if options.sample is not None and options.sample < len(mutants):
            chosen = random.Random(file).sample(range(len(mutants)), options.sample)
            mutants = [mutants[number] for number in sorted(chosen)]
        tallies.append(_judge(file, mutants, options.listed))
    print(_table(tallies))
    return 1 if any(tally.survivors or tally.share < ENOUGH for tally in tallies) else 0


def _judge(file: str, mutants: Sequence[Mutant], run_listed: bool) -> Tally:
    """Run the tests of a file with each of its mutants, after a run without any."""
    known = listed()
    sound, reaches = explore(file, TARGETS[file])
    if sound.verdict is not Verdict.PASSED:
        raise SystemExit(f"the tests of {file} fail without a mutant:\n{sound.output}")
    print(f"{file}: {len(mutants)} mutants; without one the tests take {sound.seconds:.0f} s")
    tally = Tally(file)
    start = time.monotonic()
    for number, mutant in enumerate(mutants, 1):
        is_listed = Survivor(file, *mutant.key) in known
        if is_listed and not run_listed:
            tally.known.append(mutant)
            continue
        outcome = UNSEEN
        for tests in _seeing(reaches, mutant, TARGETS[file]):
            outcome = trial(file, mutant.text, tests)
            if outcome.verdict is not Verdict.PASSED:
                break
        if outcome.verdict is Verdict.BROKEN:
            raise SystemExit(f"{_shown(file, mutant)}\nwas not judged:\n{outcome.output}")
        if outcome.verdict is not Verdict.PASSED:
            tally.killed += 1
            tally.hung += outcome.verdict is Verdict.HUNG
            if is_listed:
                print(f"{_shown(file, mutant)}\n  is in the list, but killed:\n{outcome.output}")
        elif is_listed:
            tally.known.append(mutant)
        else:
            tally.survivors.append(mutant)
            print(_shown(file, mutant), flush=True)
        if number % 10 == 0 or number == len(mutants):
            spent = time.monotonic() - start
            print(f"[{number}/{len(mutants)}] {spent:.0f} s, {tally.killed} killed", flush=True)
    return tally


def _seeing(
    reaches: Sequence[Reach], mutant: Mutant, files: Sequence[str]
) -> Iterator[Sequence[str]]:
    """The tests that get to a mutant, file by file, the quickest of each first; all, if it acts
    at import.  Most mutants are killed by the first file, and no other has to be collected."""
    at = mutant.statement
    tests = [reach.test for reach in reaches if at is None or at in reach.statements]
    for file in files:
        if found := [test for test in tests if test.partition("::")[0] == file]:
            yield found


def _shown(file: str, mutant: Mutant) -> str:
    return f"{Survivor(file, *mutant.key)}\n    line {mutant.line}"


def _table(tallies: Sequence[Tally]) -> str:
    lines = [
        f"{'file':28}{'mutants':>8}{'killed':>8}{'hung':>6}{'share':>8}{'listed':>8}{'new':>5}"
    ]
    whole = Tally("all")
    for tally in tallies:
        lines.append(_row(tally))
        whole.killed += tally.killed
        whole.hung += tally.hung
        whole.known += tally.known
        whole.survivors += tally.survivors
    return "\n".join([*lines, _row(whole)])


def _row(tally: Tally) -> str:
    counts = f"{tally.total:8}{tally.killed:8}{tally.hung:6}{tally.share:8.1%}"
    return f"{tally.file:28}{counts}{len(tally.known):8}{len(tally.survivors):5}"


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets decides what some tests see
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.mutants", *sys.argv[1:]])
    sys.exit(main())
