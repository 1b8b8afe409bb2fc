"""Strongly connected components, in the order in which what they hold can be evaluated.

One depth-first search (Gabow, 2000): while a constraint is on the path, `tops` has those
that may be the first of their component.  What leads back to one further up takes away
those in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def strong_components(
    onward: Sequence[Sequence[int]], roots: Iterable[int]
) -> tuple[list[int], list[range]]:
    """What can be reached from `roots`, and where in it the components are that loop.

    It is in reverse postorder, but for these components being in one piece each: what leads
    from one to another leads onward.  In linear time.
    """
    done = len(onward)
    entered = [0] * len(onward)  # numbers in the order of entering, from 1; `done` in the end
    number = 0
    open_: list[int] = []  # finished ones whose component is not, in postorder
    closed: list[int] = []
    loops: list[tuple[int, int]] = []
    path: list[int] = []
    rest = iter(roots)  # what is still to be looked at from the end of the path
    pending: list[Iterator[int]] = []  # and from before
    first: list[int] = []  # how many were open when it was entered
    tops = [0]
    while True:
        for following in rest:
            at = entered[following]
            if not at:
                number += 1
                entered[following] = number
                pending.append(rest)
                rest = iter(onward[following])
                path.append(following)
                first.append(len(open_))
                tops.append(number)
                break
            while tops[-1] > at:
                tops.pop()
        else:
            if not path:
                break
            rest = pending.pop()
            constraint, start = path.pop(), first.pop()
            open_.append(constraint)
            if tops[-1] < entered[constraint]:
                continue
            tops.pop()
            component = open_[start:]
            del open_[start:]
            for member in component:
                entered[member] = done
            if len(component) > 1 or constraint in onward[constraint]:
                loops.append((len(closed), len(closed) + len(component)))
            closed += component
            if len(closed) == len(onward):  # what is left of the roots was reached
                break
    count = len(closed)
    closed.reverse()
    return closed, [range(count - stop, count - start) for start, stop in reversed(loops)]
