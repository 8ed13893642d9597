"""Every state of small worlds, and many schedules of larger ones: no promise is ever broken."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from model.explore import explore
from model.mutants import RIGHT
from model.rules import Setting
from model.scopes import SCOPES, small
from model.walk import Walk

if TYPE_CHECKING:
    from faults.figures import Figures

    from model.rules import Scope

NAMES = [scope.name for scope in SCOPES]
SHORT, LONG = 1500, 10_000


def whole(scope: Scope, figures: Figures) -> None:
    began = time.process_time()
    found = explore(Setting(RIGHT, scope))
    figures.say(
        f"{len(scope.keys)} jobs, {scope.relays} relays, {scope.faults} faults: {found.states:,} states, "
        f"{found.moves:,} moves, depth {found.depth}, {time.process_time() - began:.1f} s"
    )
    assert found.trace is None, f"\n{found.trace}"


@pytest.mark.parametrize("scope", SCOPES, ids=NAMES)
def test_no_state_of_a_small_world_breaks_a_promise(scope: Scope, figures: Figures) -> None:
    whole(small(scope), figures)


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.parametrize("scope", SCOPES, ids=NAMES)
def test_no_state_breaks_a_promise(scope: Scope, figures: Figures) -> None:
    whole(scope, figures)


def walk(seeds: range, figures: Figures) -> None:
    began, steps = time.process_time(), 0
    for seed in seeds:
        schedule = Walk(RIGHT, seed)
        trace = schedule.run()
        assert trace is None, f"seed {seed}\n{trace}"
        steps += len(schedule.path)
    figures.say(f"{len(seeds):,} schedules, {steps:,} steps, {time.process_time() - began:.1f} s")


def test_no_random_schedule_breaks_a_promise(figures: Figures) -> None:
    walk(range(SHORT), figures)


@pytest.mark.long
@pytest.mark.timeout(240)
def test_no_random_schedule_of_many_breaks_a_promise(figures: Figures) -> None:
    walk(range(SHORT, SHORT + LONG), figures)
