"""Run tests with another text in place of one source file.

A first run without a mutant records which statements each test gets to and how long
it takes.  A mutant is then run against the tests that get to it, file by file.

Each trial is a fork of this process, which has pytest and what else is slow to import, but
nothing of the packages under test.  So a trial costs its tests and little more.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Generator, Sequence
from enum import Enum
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, ModuleType

import hypothesis
import pytest
from attrs import frozen

from tests.mutants.counting import HITS, counting

ROOT = Path(__file__).parents[2]
LEFT_OUT = "tests/laws/test_impostors.py::test_the_counterexample_is_shrunk"
"""Trials do not shrink: any failure will do."""

CPU_PER_TEST = 20
"""Seconds of a processor, after which a test hangs; the slowest takes a tenth."""

WALL = 600
"""Seconds until a trial hangs that uses no processor."""

MEMORY = 3 << 30
"""Bytes that a trial may use more than this process."""


class Verdict(Enum):
    """`PASSED`: all tests.  `FAILED`: one did, and the rest was not run.  `HUNG`: a test
    took too long, or all memory that it may use.  `BROKEN`: the trial itself went wrong, and
    says nothing."""

    PASSED = "passed"
    FAILED = "failed"
    HUNG = "hung"
    BROKEN = "broken"


@frozen
class Outcome:
    """How a trial ended, after how many seconds, and what it printed last."""

    verdict: Verdict
    seconds: float
    output: str


def warm(modules: Sequence[str]) -> None:
    """Import what all trials need, once; random tests get the same examples every time."""
    hypothesis.settings.register_profile(
        "trial",
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    for module in modules:
        import_module(module)


@frozen
class Reach:
    """What one test does: how many seconds it takes, and the lines where the
    statements start that it gets to."""

    test: str
    seconds: float
    statements: frozenset[int]


def explore(file: str, tests: Sequence[str]) -> tuple[Outcome, list[Reach]]:
    """Run test files without a mutant; what each test in them reaches, the quickest first."""
    with TemporaryDirectory() as folder:
        record = Path(folder) / "record"
        code = compile(counting(ast.parse((ROOT / file).read_text())), str(ROOT / file), "exec")
        outcome = _fork(file, code, tests, _Scout(record))
        rows = json.loads(record.read_text()) if record.exists() else []
    found = [Reach(test, seconds, frozenset(statements)) for test, seconds, statements in rows]
    return outcome, sorted(found, key=lambda reach: reach.seconds)


def trial(file: str, text: str, tests: Sequence[str]) -> Outcome:
    """Run tests, in this order, with `text` in place of a file."""
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    return _fork(file, compile(text, str(ROOT / file), "exec"), files, _Choice(tests))


def _fork(file: str, code: CodeType, tests: Sequence[str], plugin: object) -> Outcome:
    module = file.removesuffix(".py").replace("/", ".")
    assert module not in sys.modules, f"{module} is imported already: trials would not see it"
    start = time.monotonic()
    here, there = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.close(here)
        os.dup2(there, 1)
        os.dup2(there, 2)
        try:
            ending = _run(_Finder(module, code), tests, plugin)
            sys.stdout.flush()
        except BaseException as error:
            os.write(2, repr(error).encode())
            ending = _FULL if isinstance(error, MemoryError) else _BROKEN
        os._exit(ending)
    os.close(there)
    output = _read_until(here, start + WALL)
    if output is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    verdict = _verdict(status) if output is not None else Verdict.HUNG
    return Outcome(verdict, time.monotonic() - start, output or "")


_BROKEN = 100
_FULL = 101  # of memory, with pytest unable to go on


def _verdict(status: int) -> Verdict:
    if os.WIFSIGNALED(status):
        # Killed from outside, as when memory is short, it says nothing of the mutant.
        ended = {signal.SIGPROF: Verdict.HUNG, signal.SIGKILL: Verdict.BROKEN}
        return ended.get(signal.Signals(os.WTERMSIG(status)), Verdict.FAILED)
    code = os.WEXITSTATUS(status)
    if code == pytest.ExitCode.OK:
        return Verdict.PASSED
    if code == _FULL:
        return Verdict.HUNG
    # A file that cannot even be imported interrupts the run.
    failed = (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
    return Verdict.FAILED if code in failed else Verdict.BROKEN


def _read_until(pipe: int, end: float) -> str | None:
    """The end of what comes out of a pipe; None if it stays open too long."""
    output = b""
    with os.fdopen(pipe, "rb", buffering=0) as source:
        while (left := end - time.monotonic()) > 0:
            if not select.select([source], [], [], left)[0]:
                break
            some = source.read(1 << 16)
            if not some:
                return output.decode(errors="replace")
            output = (output + some)[-20_000:]
    return None


def _run(finder: _Finder, tests: Sequence[str], plugin: object) -> int:
    """In the fork: run the tests, and say by a number how that went."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    sys.meta_path.insert(0, finder)
    options = ["-x", "-q", "--tb=line", "-p", "no:cacheprovider", "--hypothesis-profile=trial"]
    options += ["--deselect", LEFT_OUT, "-W", "ignore"]
    code = int(pytest.main([*options, *tests], plugins=[_Clock(), plugin]))
    return code if finder.used else _BROKEN


class _Clock:
    """Ends the process when one test has used up its time."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, CPU_PER_TEST)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectstart(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 2 * CPU_PER_TEST)


class _Choice:
    """Keeps the chosen tests only, in their order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.rank = {test: number for number, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if item.nodeid in self.rank]
        items[:] = sorted(chosen, key=lambda item: self.rank[item.nodeid])


class _Scout:
    """Writes down what each test reaches, and its time."""

    def __init__(self, record: Path) -> None:
        self.record = record
        self.rows: list[tuple[str, float, list[int]]] = []
        self.statements: set[int] = set()
        setattr(builtins, HITS, self.statements)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.statements.clear()
        start = time.monotonic()
        try:
            return (yield)
        finally:
            seconds = time.monotonic() - start
            self.rows.append((item.nodeid, seconds, sorted(self.statements)))

    def pytest_sessionfinish(self) -> None:
        self.record.write_text(json.dumps(self.rows))


class _Finder(MetaPathFinder):
    """Gives one module other code."""

    def __init__(self, module: str, code: CodeType) -> None:
        self.module, self.code, self.used = module, code, False

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.module:
            return None
        self.used = True
        file = self.code.co_filename
        return spec_from_file_location(name, file, loader=_Loader(name, file, self.code))


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self.code = code

    def get_code(self, fullname: str) -> CodeType:
        return self.code
