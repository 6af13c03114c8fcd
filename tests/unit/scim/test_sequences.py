"""What is referred to goes first, what belongs together goes together, and nothing else moves."""

from __future__ import annotations

from random import Random

import pytest

from usher_core.scim import sequences
from usher_core.scim.sequences import Node


@pytest.mark.parametrize(
    ("nodes", "arranged"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([Node(), Node(), Node()], [(0,), (1,), (2,)], id="no reference"),
        pytest.param([Node(), Node((0,)), Node((1,))], [(0,), (1,), (2,)], id="backwards"),
        pytest.param([Node((2,)), Node(), Node()], [(1,), (2,), (0,)], id="forwards"),
        pytest.param([Node((1,)), Node((2,)), Node()], [(2,), (1,), (0,)], id="a chain"),
        pytest.param([Node((1,)), Node((0,))], [(0, 1)], id="a circle"),
        pytest.param([Node((0,)), Node()], [(0,), (1,)], id="itself"),
        pytest.param([Node((3,)), Node(), Node((0,)), Node((2,))], [(0, 2, 3), (1,)], id="a wide circle"),
        pytest.param(
            [Node((1, 2)), Node((0,)), Node((3,)), Node((2,)), Node()],
            [(2, 3), (0, 1), (4,)],
            id="a circle that refers to a circle",
        ),
        pytest.param(
            [Node((2,), "g"), Node((), "g"), Node()], [(2,), (0,), (1,)], id="two changes of one resource"
        ),
        pytest.param([Node((2,), "g"), Node((), "h"), Node()], [(1,), (2,), (0,)], id="of two resources"),
    ],
)
def test_operations_are_arranged(nodes: list[Node], arranged: list[tuple[int, ...]]) -> None:
    assert sequences.arrange(nodes) == arranged


def test_a_long_chain_takes_no_deep_recursion() -> None:
    nodes = [Node((place + 1,)) for place in range(20_000)] + [Node()]
    assert sequences.arrange(nodes) == [(place,) for place in reversed(range(20_001))]
    ring = [Node(((place + 1) % 20_000,)) for place in range(20_000)]
    assert sequences.arrange(ring) == [tuple(range(20_000))]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_refers_to_whatever(seed: int) -> None:
    random = Random(seed)
    count = random.randint(1, 14)
    creates = [place for place in range(count) if random.random() < 0.6]
    nodes = [
        Node(
            tuple(one for one in creates if random.random() < 2 / count),
            None if place in creates else random.choice("abc"),
        )
        for place in range(count)
    ]
    steps = sequences.arrange(nodes)
    assert sorted(place for step in steps for place in step) == list(range(count))
    position = {place: number for number, step in enumerate(steps) for place in step}

    def reached(start: int) -> set[int]:
        found, pending = set(), [start]
        while pending:
            for need in nodes[pending.pop()].needs:
                if need not in found:
                    found.add(need)
                    pending.append(need)
        return found

    for place, node in enumerate(nodes):
        for need in node.needs:
            assert position[need] <= position[place]
            assert (position[need] == position[place]) == (need == place or place in reached(need))
        for later in range(place + 1, count):
            if node.changes is not None and node.changes == nodes[later].changes:
                assert position[place] < position[later]
