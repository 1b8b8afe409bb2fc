"""An amount of memory that a person names, in bytes."""

from __future__ import annotations

import re

from passes.errors import BudgetError

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate("kmgt", 1)}
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*((?:[kmgt]i?)?)b\s*", re.IGNORECASE)


def parse_budget(budget: str | int) -> int:
    """A budget in bytes: an int is bytes, a text has a unit, such as `"24 GiB"` or `"24GB"`.

    KiB, MiB, GiB and TiB are powers of 1024, kB, MB, GB and TB of 1000.  Raises `BudgetError`
    for what is no positive amount of bytes.
    """
    if isinstance(budget, int) and not isinstance(budget, bool):
        nbytes = budget
    else:
        found = _AMOUNT.fullmatch(budget) if isinstance(budget, str) else None
        if isinstance(budget, str) and budget.strip().isdecimal():
            raise BudgetError(
                f"the budget {budget!r} has no unit: give '{budget.strip()} B' for bytes, or one "
                "such as GiB or MB"
            )
        if found is None:
            raise BudgetError(
                f"the budget {budget!r} is no amount of memory: give a number with a unit, such as "
                "'24 GiB', '24GB' or '512 MiB', or a number of bytes as an int"
            )
        amount, unit = found.groups()
        whole, _, part = amount.partition(".")
        scale = _UNITS[unit.lower()]
        nbytes = int(whole) * scale + (int(part) * scale // 10 ** len(part) if part else 0)
    if nbytes <= 0:
        raise BudgetError(f"the budget is {budget!r}, and nothing fits: give a positive amount")
    return nbytes
