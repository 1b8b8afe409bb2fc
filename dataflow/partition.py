"""Equivalences, by union-find."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

from attrs import frozen

from dataflow.lattice import Lattice, LatticeError
from dataflow.lattices import show_set

T = TypeVar("T", bound=Hashable)


@frozen
class Partition(Lattice[frozenset[frozenset[T]]]):
    """What is the same as what: classes of elements, ordered by coarseness.

    Bottom keeps all apart.  A join merges the classes of both that share an element, and
    so on: two elements are the same after it if a chain of sames in either links them.  A fact
    is the set of its classes with two elements or more, so facts are hashable and equal
    where they say the same.  `universe` is needed only for `top`, which merges all of it.

    For 1,000 classes `same` and `unite` take some 0.1 ms, a join 1 to 2 ms.

    For "certainly the same on all paths" take the `Dual`: its join keeps what both merge.
    """

    universe: frozenset[T] | None = None

    @property
    def bottom(self) -> frozenset[frozenset[T]]:
        return frozenset()

    @property
    def top(self) -> frozenset[frozenset[T]]:
        if self.universe is None:
            raise LatticeError(
                "Partition() has no top: it does not know all elements. "
                "Write Partition(universe=...)"
            )
        return self.of([self.universe])

    @staticmethod
    def of(groups: Iterable[Iterable[T]]) -> frozenset[frozenset[T]]:
        """The least equivalence in which the elements of each group are the same."""
        parent: dict[T, T] = {}

        def find(element: T) -> T:
            while (above := parent[element]) is not element:
                parent[element] = element = parent[above]
            return element

        for group in groups:
            root = None
            for element in group:
                parent.setdefault(element, element)
                found = find(element)
                if root is None:
                    root = found
                parent[found] = root
        merged: dict[T, list[T]] = {}
        for element in parent:
            merged.setdefault(find(element), []).append(element)
        return frozenset(frozenset(found) for found in merged.values() if len(found) > 1)

    @staticmethod
    def same(value: frozenset[frozenset[T]], a: T, b: T) -> bool:
        """Whether a fact says that a and b are the same."""
        return a == b or any(a in found and b in found for found in value)

    @staticmethod
    def class_of(value: frozenset[frozenset[T]], element: T) -> frozenset[T]:
        """Everything that a fact says is the same as an element, and the element."""
        return next((found for found in value if element in found), frozenset((element,)))

    @staticmethod
    def classes(value: frozenset[frozenset[T]]) -> list[frozenset[T]]:
        """The classes of two elements or more, in a fixed order."""
        return sorted(value, key=lambda found: sorted(map(str, found)))

    def unite(self, value: frozenset[frozenset[T]], a: T, b: T) -> frozenset[frozenset[T]]:
        """The fact after learning that a and b are the same.  One pass over the classes."""
        first, second = self.class_of(value, a), self.class_of(value, b)
        return (value - {first, second}) | {first | second} if b not in first else value

    def join(
        self, a: frozenset[frozenset[T]], b: frozenset[frozenset[T]]
    ) -> frozenset[frozenset[T]]:
        return self.of((*a, *b)) if a != b else a

    def meet(
        self, a: frozenset[frozenset[T]], b: frozenset[frozenset[T]]
    ) -> frozenset[frozenset[T]]:
        home = {element: found for found in b for element in found}
        shared: dict[tuple[frozenset[T], frozenset[T]], list[T]] = {}
        for found in a:
            for element in found & home.keys():
                shared.setdefault((found, home[element]), []).append(element)
        return frozenset(frozenset(some) for some in shared.values() if len(some) > 1)

    def leq(self, a: frozenset[frozenset[T]], b: frozenset[frozenset[T]]) -> bool:
        if a <= b:
            return True  # class by class, without looking inside
        home = {element: found for found in b for element in found}
        nowhere: frozenset[T] = frozenset()
        return all(found <= home.get(next(iter(found)), nowhere) for found in a)

    def parts(self, value: frozenset[frozenset[T]]) -> Iterable[frozenset[frozenset[T]]]:
        for found in self.classes(value):
            first, *others = sorted(found, key=str)
            yield from (frozenset((frozenset((first, other)),)) for other in others)

    def show(self, value: frozenset[frozenset[T]]) -> str:
        classes = [show_set([str(element) for element in found]) for found in value]
        return show_set(classes)
