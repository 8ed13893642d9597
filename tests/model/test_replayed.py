"""The model is no fairy tale: the real statements on a real database take every step with it."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from model.mirror import Mirror
from model.mutants import RIGHT
from model.reading import held
from model.rules import Scope
from model.state import DONE, PENDING
from model.walk import FAULTS, ODDS, Walk

if TYPE_CHECKING:
    from databases import Database
    from faults.figures import Figures

    from model.state import Step, World

CANDIDATES = 400
"""Walks of the model alone, of which those are replayed in which the most happens that is rare."""
SHORT, LONG = 4, 40


def drawn(chance: random.Random) -> Scope:
    """A world in which everything but the broker can be real. Reads are from the low water on."""
    leased, forgets = chance.random() < 0.4, chance.random() < 0.4
    kinds = {kind for kind in FAULTS if chance.random() < 0.7} | {"cut"}
    kinds |= ({"expire"} if leased else set()) | ({"forget"} if forgets else set())
    return Scope(
        "real",
        keys=tuple(chance.choice(("", "k", "k")) for _ in range(4)),
        faults=4,
        kinds=frozenset(kinds),
        spare=6,
        odds=frozenset(odd for odd in ODDS if chance.random() < 0.7),
        slots=2,
        prefetch=chance.random() < 0.5,
        window=1000,
        attempts=chance.randrange(1, 4),
        leased=leased,
        writers=chance.choice(("slow", "plain")),
        redeliver=forgets,
    )


def walk(seed: int) -> tuple[Walk, Scope]:
    scope = drawn(random.Random(seed))
    return Walk(RIGHT, seed, scope), scope


def happened(seed: int) -> set[str]:
    """What happens in a walk: who does what, and what becomes of the job."""
    found = set[str]()

    def note(step: Step, before: World, after: World) -> None:
        states = [world.jobs[step.job].state if step.job >= 0 else "" for world in (before, after)]
        holds = step.what == "reads" and any(_held(before, n) for n in range(len(before.jobs)))
        found.add(re.sub(r"\d", "", " ".join((step.actor, step.what, *states, str(holds)))))

    noting, _ = walk(seed)
    noting.watch = note
    assert noting.run() is None
    return found


def _held(world: World, n: int) -> bool:
    job = world.jobs[n]
    return bool(job.key) and (job.state, job.tx) == (PENDING, DONE) and held(world, n)


@pytest.fixture(scope="module")
def seeds() -> list[int]:
    """The walks to be replayed; each is chosen for what the ones before it have seldom seen."""
    known = {seed: happened(seed) for seed in range(CANDIDATES)}
    often, chosen = Counter[str](), list[int]()
    for _ in range(LONG):
        best = max(known, key=lambda seed: sum(1 / (1 + often[what]) ** 2 for what in known[seed]))
        often.update(known.pop(best))
        chosen.append(best)
    return chosen


def replay(database: Database, seed: int, figures: Figures) -> None:
    (walked, scope) = walk(seed)
    mirror = Mirror(database, scope)
    walked.watch = mirror.follow
    try:
        assert walked.run() is None
    finally:
        mirror.close()
    figures.say(f"seed {seed}: {len(walked.path)} steps")


@pytest.mark.parametrize("nth", range(SHORT))
def test_the_real_statements_do_what_the_model_does(
    database: Database, seeds: list[int], nth: int, figures: Figures
) -> None:
    replay(database, seeds[nth], figures)


@pytest.mark.long
@pytest.mark.parametrize("nth", range(SHORT, LONG))
def test_the_real_statements_do_for_long_what_the_model_does(
    database: Database, seeds: list[int], nth: int, figures: Figures
) -> None:
    replay(database, seeds[nth], figures)
