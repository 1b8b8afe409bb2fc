"""An explanation, and how it reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from attrs import frozen

from dataflow.equations import ALONG

V = TypeVar("V")


@frozen(eq=False, repr=False)
class Reason(Generic[V]):
    """A fact at a place, what gives it there, and the facts that this rests on."""

    place: str
    fact: str
    by: str
    premises: tuple[Reason[V], ...]

    def lines(self) -> Iterator[str]:
        """The explanation, from the question to where it begins.

        Under each fact is what it rests on: behind dashes, save for the one that goes on.
        """
        told: set[Reason[V]] = set()
        pending: list[tuple[Reason[V], str, str]] = [(self, "", "")]
        while pending:
            reason, first, rest = pending.pop()
            again = reason in told and bool(reason.premises)
            told.add(reason)
            if reason.by != ALONG:
                ending = "" if reason.premises else ", where it begins"
                by = "as above" if again else f"{reason.by}{ending}"
                yield f"{first}{reason.fact} {reason.place}: {by}"
                first = rest
                if again:
                    continue
            onward = reason.premises
            if len(onward) > 1:
                onward = tuple(premise for premise in onward if premise.premises)
            goes_on = onward[0] if len(onward) == 1 else None
            aside = [premise for premise in reason.premises if premise is not goes_on]
            if goes_on is not None:
                pending.append((goes_on, first, rest))
            pending += [(premise, f"{rest}- ", f"{rest}  ") for premise in reversed(aside)]

    def __repr__(self) -> str:
        return f"<Reason for {self.fact} {self.place}: {self.steps} steps>"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    @property
    def steps(self) -> int:
        """How many facts the derivation has."""
        found = dict.fromkeys([self])
        pending = [self]
        while pending:
            fresh = [premise for premise in pending.pop().premises if premise not in found]
            found.update(dict.fromkeys(fresh))
            pending += fresh
        return len(found)
