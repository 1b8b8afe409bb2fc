"""Lattices built from other lattices.

    Lifted         a new least element under another lattice
    Dual           another lattice upside down
    MapOf          a fact per key
    DisjointUnion  facts of one of several lattices

Those that hold several facts side by side are in `products.py`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from attrs import field, frozen

from dataflow.lattice import Lattice, LatticeError, a_lattice, inner_lattice
from dataflow.lattices import BOTTOM, NOTHING, TOP, Bottom, Extreme, Nothing, Top, show_set

V = TypeVar("V")
K = TypeVar("K", bound=Hashable)


def widen_grown(lattice: Lattice[V], old: V, new: V, visits: int) -> V:
    """The widening of one component of a fact; what did not grow stays where it is."""
    return new if old == new else lattice.widen(old, new, visits)


def show_named(name: str, lattices: Iterable[tuple[str, Lattice[Any]]], *first: str) -> str:
    """A lattice with named components as it was written."""
    arguments = [*first, *(f"{key}={lattice!r}" for key, lattice in lattices)]
    return f"{name}({', '.join(arguments)})"


@frozen
class Lifted(Lattice["V | Nothing"], Generic[V]):
    """Another lattice with a new least element `NOTHING` put under it.

    "Nothing known yet" becomes a value of its own, apart from the inner bottom.  Lift
    once: there is one `NOTHING`, so `Lifted(Lifted(...))` is refused.
    """

    inner: Lattice[V] = field(validator=inner_lattice)

    def __attrs_post_init__(self) -> None:
        inner = self.inner
        while isinstance(inner, Dual):
            inner = inner.inner
        if isinstance(inner, Lifted):
            raise LatticeError(
                f"Lifted({self.inner!r}) has one NOTHING for two elements: lift once, or keep "
                "the two apart with Lifted(DisjointUnion(name=...)), whose facts carry a name"
            )

    @property
    def bottom(self) -> V | Nothing:
        return NOTHING

    @property
    def top(self) -> V | Nothing:
        return self.inner.top

    def join(self, a: V | Nothing, b: V | Nothing) -> V | Nothing:
        if a is NOTHING:
            return b
        if b is NOTHING:
            return a
        return self.inner.join(a, b)

    def meet(self, a: V | Nothing, b: V | Nothing) -> V | Nothing:
        if a is NOTHING or b is NOTHING:
            return NOTHING
        return self.inner.meet(a, b)

    def leq(self, a: V | Nothing, b: V | Nothing) -> bool:
        if a is NOTHING:
            return True
        return b is not NOTHING and self.inner.leq(a, b)

    def widen(self, old: V | Nothing, new: V | Nothing, visits: int) -> V | Nothing:
        if old is NOTHING or new is NOTHING:
            return new
        return self.inner.widen(old, new, visits)

    def parts(self, value: V | Nothing) -> Iterable[V | Nothing]:
        return () if value is NOTHING else tuple(self.inner.parts(value)) or (value,)

    def show(self, value: V | Nothing) -> str:
        return NOTHING.value if value is NOTHING else self.inner.show(value)


@frozen
class Dual(Lattice[V]):
    """Another lattice upside down: join is its meet, bottom its top.

    Turns may into must: `Dual(Powerset())` merges two paths by keeping what holds on
    both.  Unreached paths are never joined, so a must-analysis needs no universe until
    somebody asks for its bottom.

    It does not widen, since what shrinks comes to an end in most lattices: here, in all
    but those with an `Interval` or a `Congruence` inside.  Where a loop shrinks one of
    these for ever, solving ends in `DidNotConverge`; subclass and give a `widen` that
    goes to `top` after some visits.
    """

    inner: Lattice[V] = field(validator=inner_lattice)

    @property
    def bottom(self) -> V:
        return self.inner.top

    @property
    def top(self) -> V:
        return self.inner.bottom

    def join(self, a: V, b: V) -> V:
        return self.inner.meet(a, b)

    def meet(self, a: V, b: V) -> V:
        return self.inner.join(a, b)

    def leq(self, a: V, b: V) -> bool:
        return self.inner.leq(b, a)

    def widen(self, old: V, new: V, visits: int) -> V:
        if isinstance(self.inner, Dual):
            twice: Lattice[V] = self.inner.inner
            return twice.widen(old, new, visits)
        return new

    def replace(self, value: V, old: V, new: V) -> V:
        return self.inner.replace(value, old, new)

    def show(self, value: V) -> str:
        return self.inner.show(value)


@frozen
class MapOf(Lattice[Mapping[K, V]]):
    """Finite maps joined key by key.

    An absent key means the inner bottom, and a key with the inner bottom is left out, so
    equal facts are equal maps.  Transfers that may produce such keys call `of`.  Only
    keys that changed are widened.
    """

    inner: Lattice[V] = field(validator=inner_lattice)

    @property
    def bottom(self) -> Mapping[K, V]:
        return {}

    def of(self, items: Mapping[K, V]) -> Mapping[K, V]:
        """The canonical form of a map: without keys that say nothing."""
        bottom = self.inner.bottom
        return {key: value for key, value in items.items() if value != bottom}

    def join(self, a: Mapping[K, V], b: Mapping[K, V]) -> Mapping[K, V]:
        if not a or a is b:
            return b
        if not b:
            return a
        merged = dict(a)
        for key, value in b.items():
            merged[key] = self.inner.join(merged[key], value) if key in merged else value
        return merged

    def meet(self, a: Mapping[K, V], b: Mapping[K, V]) -> Mapping[K, V]:
        return self.of({key: self.inner.meet(a[key], b[key]) for key in a if key in b})

    def leq(self, a: Mapping[K, V], b: Mapping[K, V]) -> bool:
        return all(key in b and self.inner.leq(value, b[key]) for key, value in a.items())

    def widen(self, old: Mapping[K, V], new: Mapping[K, V], visits: int) -> Mapping[K, V]:
        return {
            key: widen_grown(self.inner, old[key], value, visits) if key in old else value
            for key, value in new.items()
        }

    def parts(self, value: Mapping[K, V]) -> Iterable[Mapping[K, V]]:
        return [{key: part} for key, fact in value.items() for part in self.inner.parts(fact)]

    def show(self, value: Mapping[K, V]) -> str:
        return show_set([f"{key}: {self.inner.show(fact)}" for key, fact in value.items()])


@frozen(init=False, repr=False)
class DisjointUnion(Lattice["tuple[str, Any] | Bottom | Top"]):
    """Facts of one of several named lattices: `DisjointUnion(size=Interval(), name=Flat())`.

    A fact is a pair of a name and a fact of that lattice, with `BOTTOM` below and `TOP`
    above them all.  Facts with different names join to `TOP`.
    """

    lattices: tuple[tuple[str, Lattice[Any]], ...]
    _by_name: dict[str, Lattice[Any]] = field(eq=False)

    def __init__(self, /, **lattices: Lattice[Any]) -> None:
        for name, lattice in lattices.items():
            a_lattice(lattice, f"`{name}` of DisjointUnion")
        self.__attrs_init__(tuple(lattices.items()), lattices)

    def __repr__(self) -> str:
        return show_named("DisjointUnion", self.lattices)

    @property
    def bottom(self) -> tuple[str, Any] | Bottom | Top:
        return BOTTOM

    @property
    def top(self) -> tuple[str, Any] | Bottom | Top:
        return TOP

    def of(self, name: str, fact: Any) -> tuple[str, Any]:
        """A fact of the lattice with this name."""
        self._named(name)
        return name, fact

    def _named(self, name: str) -> Lattice[Any]:
        try:
            return self._by_name[name]
        except KeyError:
            known = ", ".join(self._by_name) or "none"
            raise LatticeError(f"{self!r} has no lattice {name!r}; it has {known}") from None

    def join(
        self, a: tuple[str, Any] | Bottom | Top, b: tuple[str, Any] | Bottom | Top
    ) -> tuple[str, Any] | Bottom | Top:
        if a is BOTTOM:
            return b
        if b is BOTTOM:
            return a
        if a is TOP or b is TOP or a[0] != b[0]:
            return TOP
        return a[0], self._named(a[0]).join(a[1], b[1])

    def meet(
        self, a: tuple[str, Any] | Bottom | Top, b: tuple[str, Any] | Bottom | Top
    ) -> tuple[str, Any] | Bottom | Top:
        if a is TOP:
            return b
        if b is TOP:
            return a
        if a is BOTTOM or b is BOTTOM or a[0] != b[0]:
            return BOTTOM
        return a[0], self._named(a[0]).meet(a[1], b[1])

    def leq(self, a: tuple[str, Any] | Bottom | Top, b: tuple[str, Any] | Bottom | Top) -> bool:
        if a is BOTTOM or b is TOP:
            return True
        if a is TOP or b is BOTTOM or a[0] != b[0]:
            return False
        return self._named(a[0]).leq(a[1], b[1])

    def widen(
        self,
        old: tuple[str, Any] | Bottom | Top,
        new: tuple[str, Any] | Bottom | Top,
        visits: int,
    ) -> tuple[str, Any] | Bottom | Top:
        if isinstance(old, Extreme) or isinstance(new, Extreme):
            return new
        return new[0], widen_grown(self._named(new[0]), old[1], new[1], visits)

    def parts(
        self, value: tuple[str, Any] | Bottom | Top
    ) -> Iterable[tuple[str, Any] | Bottom | Top]:
        if isinstance(value, Extreme):
            return () if value is BOTTOM else (value,)
        name, fact = value
        return [(name, part) for part in self._named(name).parts(fact)] or (value,)

    def show(self, value: tuple[str, Any] | Bottom | Top) -> str:
        if not isinstance(value, tuple):
            return str(value.value)
        return f"{value[0]} {self._named(value[0]).show(value[1])}"
