"""Which faults come when: a seed decides, and no fault is forgotten."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from random import Random

from relay.torture.plan import CALM, Round, rounds

FAULTS = {"kill": (0.0, 0.5), "freeze": (3.0, 12.0), "cut": (0.0, 0.5), "stall": (1.0, 5.0)}


def some(seed: int, count: int = 200) -> list[Round]:
    return list(islice(rounds(Random(seed), FAULTS), count))


def test_a_seed_gives_the_same_faults_again() -> None:
    assert some(7) == some(7)
    assert some(7) != some(8)


def test_every_fault_comes_as_often_as_any_other() -> None:
    counts = Counter(name for each in some(1) for name in each.faults)
    assert counts.keys() == FAULTS.keys()
    assert max(counts.values()) - min(counts.values()) <= 8  # one that is drawn twice for a round comes once


def test_rounds_have_one_or_two_different_faults_and_calm_before_the_next() -> None:
    for each in some(2):
        assert 1 <= len(each.faults) == len(set(each.faults)) <= 2
        assert CALM[0] <= each.calm <= CALM[1]
        assert min(FAULTS[name][0] for name in each.faults) <= each.lasts
        assert each.lasts <= max(FAULTS[name][1] for name in each.faults)
    assert {len(each.faults) for each in some(2)} == {1, 2}


def test_one_fault_alone_can_be_asked_for() -> None:
    assert {each.faults for each in islice(rounds(Random(1), {"kill": (0, 1)}), 20)} == {("kill",)}
