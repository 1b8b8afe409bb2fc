"""What a lattice is, and the laws every analysis leans on.

A lattice orders *facts* from "nothing known yet" (bottom) upwards.  `join` merges the
facts of two paths.  A fact only ever grows while a problem is being solved, which is
why solving ends::

              {a, b}              top:     everything the facts can say at once
              /    \\
           {a}      {b}           join:    the least fact above both
              \\    /
                {}                bottom:  nothing known yet

A lattice here is an object that *operates on plain values*: `lattice.join(a, b)` where
`a` and `b` are ints, frozensets, tuples or frozen records.  Values know nothing of
lattices, solvers or graphs, so they can be compared, hashed, pickled and printed, and
one value type serves several lattices (a set under union, and the same set under
intersection).

The laws, for all values a, b, c (`dataflow.laws.check_lattice` tries them):

    join(a, a) == a                               idempotent
    join(a, b) == join(b, a)                      commutative
    join(a, join(b, c)) == join(join(a, b), c)    associative
    join(bottom, a) == a                          bottom is neutral
    leq(a, b)  iff  join(a, b) == b               the order is the join's
    leq(join(a, b), widen(a, join(a, b), n))      widening covers the join

and where it has them: `meet` is the greatest fact below both, `top` covers all, the `parts` of a
fact join to it, `replace(a, a, b) == b`.

There is no separate "meet analysis".  A must-analysis is a may-analysis over the
upside-down lattice, `Dual`; `join` never means anything but "merge two paths".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import attrs

V = TypeVar("V")


class LatticeError(TypeError):
    """A lattice was asked for something its definition does not have."""


class Lattice(ABC, Generic[V]):
    """An ordering of facts of type `V` with a least element and a least upper bound.

    Subclass it as an attrs class, give `bottom` and `join`, and override the rest where
    there is a cheaper or better answer.  Methods must not change their arguments and may
    return either of them.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def bottom(self) -> V:
        """The least fact: nothing known yet."""

    @abstractmethod
    def join(self, a: V, b: V) -> V:
        """The least fact that covers both `a` and `b`."""

    def leq(self, a: V, b: V) -> bool:
        """Whether `b` covers `a`."""
        return self.join(a, b) == b

    def widen(self, old: V, new: V, visits: int) -> V:
        """A fact that covers `new`, reached in finitely many steps.

        The solver calls it at loop heads only, with `new` already joined with `old` and
        `visits` counting the times this loop head has grown.  Lattices without infinite
        ascending chains need none.
        """
        return new

    @property
    def top(self) -> V:
        """The greatest fact.  Raises `LatticeError` where the lattice has none."""
        raise LatticeError(f"{self!r} has no top")

    def meet(self, a: V, b: V) -> V:
        """The greatest fact that both cover.  Raises `LatticeError` where undefined."""
        raise LatticeError(f"{self!r} defines no meet")

    def parts(self, value: V) -> Iterable[V]:
        """Facts below `value`, none of them bottom, whose join it is; none for bottom.

        They are as small as is cheap to list: the elements of a set, the keys of a map.
        A lattice that cannot take its facts apart gives the fact as it is.
        """
        try:
            bottom = self.bottom
        except LatticeError:
            return (value,)
        return () if value == bottom else (value,)

    def replace(self, value: V, old: V, new: V) -> V:
        """`value` without what `old` covers, joined with `new`.  Of lattices of sets; raises
        `LatticeError` where undefined."""
        raise LatticeError(f"{self!r} is no lattice of sets")

    def show(self, value: V) -> str:
        """The fact as a person reads it, on one line."""
        return str(value)


def a_lattice(given: object, wanted_by: str) -> None:
    """Raise `TypeError` for what is no lattice, such as the class of one."""
    if isinstance(given, type):
        raise TypeError(f"{wanted_by} wants a lattice, not its class: write {given.__name__}(...)")
    if not isinstance(given, Lattice):
        raise TypeError(f"{wanted_by} wants a lattice, and {given!r} is none: subclass Lattice")


def inner_lattice(of: object, attribute: attrs.Attribute[Any], given: object) -> None:
    """The validator of a lattice that another one is built from."""
    a_lattice(given, f"`{attribute.name}` of {type(of).__name__}")
