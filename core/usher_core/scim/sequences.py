"""The order in which the operations of a bulk are applied, and which of them only go together.

What refers to a resource comes after the operation that creates it, wherever that stands in the message. Else
the order of the message is kept, and that of the operations on one resource always: RFC 7644 §3.7 lets a
provider reorder if the result is what the client meant. Creates that refer to each other form a circle
(§3.7.1): one step, to be applied as a whole.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Node:
    """One operation: the places of the creates that it refers to, and the resource that it changes.

    `changes` is `None` for a create, which nothing can come before.
    """

    needs: tuple[int, ...] = ()
    changes: Any = None


def arrange(nodes: Sequence[Node]) -> list[tuple[int, ...]]:
    """Put operations, named by their places, into the order in which they are to be applied, step by step.

    Of those that could come next the first in the message does. A step has several places only if these are
    creates in a circle.
    """
    successors = _successors(nodes)
    steps = _circles(successors)
    step_of = {place: number for number, step in enumerate(steps) for place in step}
    following: list[set[int]] = [set() for _ in steps]
    for place, others in enumerate(successors):
        following[step_of[place]] |= {step_of[other] for other in others} - {step_of[place]}
    waiting = [0] * len(steps)
    for after in following:
        for other in after:
            waiting[other] += 1
    ready = [(step[0], number) for number, step in enumerate(steps) if waiting[number] == 0]
    heapq.heapify(ready)
    arranged = []
    while ready:
        _, number = heapq.heappop(ready)
        arranged.append(steps[number])
        for other in following[number]:
            waiting[other] -= 1
            if waiting[other] == 0:
                heapq.heappush(ready, (steps[other][0], other))
    return arranged


def _successors(nodes: Sequence[Node]) -> list[list[int]]:
    """List what has to come after each operation."""
    successors: list[list[int]] = [[] for _ in nodes]
    latest: dict[Any, int] = {}
    for place, node in enumerate(nodes):
        for need in node.needs:
            if need != place:
                successors[need].append(place)
        if node.changes is not None:
            if node.changes in latest:
                successors[latest[node.changes]].append(place)
            latest[node.changes] = place
    return successors


def _circles(successors: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Find the strongly connected components, by Tarjan's way without recursion; each sorted."""
    found: list[tuple[int, ...]] = []
    seen: dict[int, int] = {}
    lowest: dict[int, int] = {}
    pending: list[int] = []
    is_pending = [False] * len(successors)
    for root in range(len(successors)):
        path = [] if root in seen else [(root, iter(successors[root]))]
        if path:
            _enter(root, seen, lowest, pending, is_pending)
        while path:
            place, others = path[-1]
            for other in others:
                if other not in seen:
                    _enter(other, seen, lowest, pending, is_pending)
                    path.append((other, iter(successors[other])))
                    break
                if is_pending[other]:
                    lowest[place] = min(lowest[place], seen[other])
            else:
                path.pop()
                if path:
                    above = path[-1][0]
                    lowest[above] = min(lowest[above], lowest[place])
                if lowest[place] == seen[place]:
                    cut = pending.index(place)
                    circle = pending[cut:]
                    del pending[cut:]
                    for one in circle:
                        is_pending[one] = False
                    found.append(tuple(sorted(circle)))
    return found


def _enter(
    place: int, seen: dict[int, int], lowest: dict[int, int], pending: list[int], is_pending: list[bool]
) -> None:
    seen[place] = lowest[place] = len(seen)
    pending.append(place)
    is_pending[place] = True
