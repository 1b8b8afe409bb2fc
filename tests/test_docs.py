"""The pages run: their code, their outputs and their types.

Every ```python block of README.md and docs/ is run, a page's blocks in order and in one
namespace.  A comment on the line before a block says more about it:

    <!-- file: NAME -->          python that is the file NAME; other blocks may import it,
                                 and if it is a test file its tests are run
    <!-- needs: MODULE -->       python that is run only where MODULE is installed
    <!-- output -->              text that the python block before it prints
    <!-- output: COMMAND -->     text that the `dataflow` command prints

In an output `...` stands for anything, on a line of its own for any number of lines;
blanks at line ends count nowhere, nor how many there are in a line with `...`.
All python of a page is also checked by `mypy --strict`, but for what needs more modules.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from attrs import frozen

import passes
from examples.models import linear_model
from passes.cli import main
from passes.report import data

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(
    r"^(?:<!--[ ](?P<mark>[^\n]*?)[ ]-->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)


@frozen
class Block:
    """One fenced block of a page; `line` is where its text starts."""

    line: int
    language: str
    mark: str
    text: str

    @property
    def about(self) -> str:
        """What the comment before it says after the colon."""
        return self.mark.partition(": ")[2]

    @property
    def is_file(self) -> bool:
        return self.mark.startswith("file: ")

    @property
    def is_extra(self) -> bool:
        """Whether it needs a module that may not be installed."""
        return self.mark.startswith("needs: ")

    @property
    def placed(self) -> str:
        """Its text with the line numbers of the page."""
        return "\n" * (self.line - 1) + self.text


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        yield Block(line, match["language"], match["mark"] or "", match["text"])


def module_name(page: Path) -> str:
    """The name of the module that is all python of a page."""
    return re.sub(r"\W", "_", str(page.relative_to(ROOT).with_suffix(""))).lower()


def write_modules(page: Path, folder: Path) -> list[Path]:
    """Write a page's python: its files, and the rest as one module with the page's lines."""
    written = []
    whole = ""
    for block in blocks(page):
        if block.language == "python" and block.is_file:
            written.append(folder / block.about)
            written[-1].write_text(block.text, encoding="utf-8")
        elif block.language == "python" and not block.is_extra:
            whole += "\n" * (block.line - 1 - whole.count("\n")) + block.text
    written.append(folder / f"{module_name(page)}.py")
    written[-1].write_text(whole, encoding="utf-8")
    return written


def matches(shown: str, printed: str) -> bool:
    """Whether a page shows what was printed."""
    pattern = ""
    for line in shown.splitlines():
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*"
        else:
            text = re.escape(line.rstrip())
            if "..." in line:  # a shortened line has other columns
                text = re.sub(r"(?:\\ ){2,}", "  +", text).replace(r"\.\.\.", r"[^\n]*")
            pattern += text + r"\n"
    got = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
    return re.fullmatch(pattern, got) is not None


@pytest.mark.parametrize("page", PAGES, ids=module_name)
def test_a_page_runs_and_says_what_it_shows(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = ModuleType(module_name(page))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.chdir(tmp_path)
    files = [path.stem for path in write_modules(page, tmp_path)]
    for name in files:
        if name != module.__name__:
            monkeypatch.delitem(sys.modules, name, raising=False)
    printed: str | None = None
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if block.language == "python" and block.is_file:
            if block.about.startswith("test_"):
                run_tests(import_module(block.about.removesuffix(".py")))
        elif block.is_extra and find_spec(block.about) is None:
            printed = None  # nor is its output compared
        elif block.language == "python":
            code = compile(block.placed, str(tmp_path / f"{module.__name__}.py"), "exec")
            capsys.readouterr()
            exec(code, vars(module))
            printed = capsys.readouterr().out
        elif block.mark == "output":
            assert printed is None or matches(block.text, printed), (
                f"{where}: in truth it prints\n{printed}"
            )
        elif block.mark.startswith("output: "):
            command, *arguments = shlex.split(block.about)
            assert command == "dataflow"
            if any("examples." in argument for argument in arguments):
                monkeypatch.chdir(ROOT)
            capsys.readouterr()
            assert main(arguments) == 0, capsys.readouterr().err
            out = capsys.readouterr().out
            monkeypatch.chdir(tmp_path)
            assert matches(block.text, out), f"{where}: in truth it prints\n{out}"
        else:
            assert not block.mark, f"{where}: what does {block.mark!r} mean?"


def run_tests(module: ModuleType) -> None:
    """Call the test functions of a module."""
    tests = [value for name, value in vars(module).items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()


def test_the_pages_are_typed(tmp_path: Path) -> None:
    files = [path for page in PAGES for path in write_modules(page, tmp_path)]
    assert len(set(files)) == len(files), "two pages have a file of the same name"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", ROOT / "mypy.ini", *files],
        cwd=ROOT,
        env={"MYPYPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_json_field_has_its_line() -> None:
    """The reference names the fields that the command writes, and no others."""
    model, inputs = linear_model()
    program = passes.load(model, *inputs)
    rest = {"name", "capture", "notes", "assumed"}
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    tables = page.partition("## JSON")[2]
    told = {
        name for row in re.findall(r"^\| (`.*?) \|", tables, re.M) for name in row.split("`")[1::2]
    }
    fit = passes.Fit.of(passes.memory(program), "1 KiB")
    answers = [data.show(program), data.fit(fit), data.advice(passes.advise(program))]
    assert told == rest | {name for answer in answers for name in answer}


def test_the_pages_name_files_that_exist() -> None:
    """Relative links lead somewhere."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_what_a_page_shows_is_compared() -> None:
    """The comparison itself: it must see a difference, and let `...` be anything."""
    assert matches("a\nb\n", "a  \nb\n")
    assert matches("a\n...\nd\n", "a\nb\nc\nd\n")
    assert matches("a ...    c.\n", "a b  c.\n")
    assert not matches("a\n", "b\n")
    assert not matches("a\n", "a\nb\n")
    assert not matches("a ... c\n", "a b\n c\n")
