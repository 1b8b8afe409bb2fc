"""What an op does, said of its own operands and results only."""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import frozen


@frozen
class Fresh:
    """A new storage of `nbytes` bytes (None: not known before the run).

    `uninitialised`: it comes from an `empty*` and was not written in full in this op.
    `most` is what `nbytes` cannot exceed where it is None (None: there is no such number).
    """

    nbytes: int | None
    uninitialised: bool = False
    most: int | None = None

    def __str__(self) -> str:
        return "uninitialised" if self.uninitialised else "fresh"


@frozen
class AliasOf:
    """The storage of the given operands, which all have the same one."""

    operands: tuple[int, ...]

    def __str__(self) -> str:
        return "alias of " + "=".join(f"#{operand}" for operand in self.operands)


@frozen
class SameAs:
    """The storage of another, earlier result of the same op."""

    result: int

    def __str__(self) -> str:
        return f"same as result {self.result}"


@frozen
class OneOf:
    """One of several answers; which one is not known before the run.  None: what the regions
    return, as `RegionFlow` says."""

    answers: tuple[Fresh | AliasOf | SameAs, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.answers)) or "as its regions return"


@frozen
class Unknown:
    """Any storage at all, perhaps a new one of `nbytes` bytes."""

    nbytes: int | None

    def __str__(self) -> str:
        return "unknown"


ResultEffect = Fresh | AliasOf | SameAs | OneOf | Unknown


class Origin(Enum):
    """How an op's effects are known.

    OBSERVED by executing it on fake tensors, SCHEMA: by its schema and the types of its
    tensors, which decide it, DECLARED by its schema alone, FLOW: they are what its regions
    do, ANYTHING: nothing is known of it.
    """

    OBSERVED = "observed"
    SCHEMA = "schema"
    DECLARED = "declared"
    FLOW = "flow"
    ANYTHING = "anything"


@frozen
class Effects:
    """What an op does, in terms of its operands and results.

    `results` has one answer per value the op defines.  `reads`, `writes` and
    `overwrites` are operand positions: may be read; written (may be, unless OBSERVED);
    and certainly written in full, over the whole storage, without being read.  `resizes`
    has `(operand position, bytes its storage has afterwards)`.
    An op whose origin is ANYTHING may alias, write and keep all it can reach.
    `repeatable`: done again on the same data it gives the same again, and does nothing
    besides what is said here.  An op that draws random numbers is not.
    """

    results: tuple[ResultEffect, ...] = ()
    reads: frozenset[int] = frozenset()
    writes: frozenset[int] = frozenset()
    overwrites: frozenset[int] = frozenset()
    origin: Origin = Origin.OBSERVED
    resizes: tuple[tuple[int, int | None], ...] = ()
    repeatable: bool = False


ANYTHING: Final = Origin.ANYTHING
"""Asked of every op by every analysis: a name costs a tenth of an enum's own lookup."""
