"""The model takes the transitions of ``outbox/states.py``: all of them but those named here, and no other."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from model.change import NEXT, SAME
from model.mutants import RIGHT
from model.rules import Scope
from model.state import DONE
from model.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.state import World

NOT_MODELLED = {
    ("succeeded", "scheduled"),  # an operator wants it done twice
}
BUSY = Scope(
    "busy",
    kinds=frozenset({"kill", "forget", "die", "expire"}),
    spare=12,
    odds=frozenset({"fail", "cancel", "unbound", "hasty", "operate"}),
    slots=2,
    redeliver=True,
)


def taken(before: World, after: World) -> Iterator[tuple[str, str, int]]:
    for old, new in zip(before.jobs, after.jobs, strict=True):
        if old.tx == DONE and (old.state, old.version) != (new.state, new.version):
            yield old.state, new.state, new.version - old.version


def test_each_transition_of_the_table_is_taken_and_no_other() -> None:
    seen = set()
    for seed in range(600):
        walk = Walk(RIGHT, seed, BUSY._replace(leased=seed % 2 == 0, attempts=1 + seed % 3))
        walk.run()
        for (_, before), (_, after) in pairwise(walk.path):
            seen |= set(taken(before, after))
        if len(seen) == len(SAME | NEXT) - len(NOT_MODELLED):
            break
    assert {pair[:2] for pair in seen if pair[2] == 0} == SAME
    assert {pair[:2] for pair in seen if pair[2] == 1} == NEXT - NOT_MODELLED
    assert {pair[2] for pair in seen} == {0, 1}
