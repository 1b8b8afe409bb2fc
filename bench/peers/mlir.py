"""MLIR's passes, run by `mlir-opt` (Debian's mlir-16-tools)."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import tempfile
import time

from bench.straight import Additions

PASSES = {"--sccp": "SCCP", "--int-range-optimizations": "ArithIntRangeOpts"}  # as timed


def seconds(program: Additions, option: str) -> float | None:
    """CPU seconds of one pass; None if mlir-opt is not installed.

    The pass's own timer, which is of wall time, times the share of the wall time that the
    whole process had a CPU.  Rewriting what was found to be constant is in it.
    """
    command = shutil.which("mlir-opt-16") or shutil.which("mlir-opt")
    if command is None:
        return None
    lines = ["func.func @f() -> i32 {"]
    for number in range(program.size):
        constant = program.constant(number)
        if constant is None:
            a, b = program.operands(number)
            lines.append(f"  %x{number} = arith.addi %x{a}, %x{b} : i32")
        else:
            lines.append(f"  %x{number} = arith.constant {constant} : i32")
    lines += [f"  return %x{program.size - 1} : i32", "}"]
    with tempfile.NamedTemporaryFile("w", suffix=".mlir") as file:
        file.write("\n".join(lines))
        file.flush()
        arguments = [command, option, "--mlir-timing", "--mlir-disable-threading", file.name]
        before, start = _cpu_of_children(), time.perf_counter()
        done = subprocess.run(
            [*arguments, "-o", "/dev/null"], capture_output=True, text=True, check=True
        )
        share = (_cpu_of_children() - before) / (time.perf_counter() - start)
    found = re.search(
        rf"([\d.]+) \([^)]*\)\s+(?:'[^']*' Pipeline\n.*?)?{PASSES[option]}", done.stderr
    )
    assert found, f"mlir-opt {option} does not say what it took:\n{done.stderr}"
    return float(found[1]) * min(1, share)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
