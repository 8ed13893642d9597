"""The model has teeth: each rule broken on purpose is found, by exploration and by random schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.explore import explore
from model.mutants import BELTS, MUTANTS, RIGHT
from model.rules import Setting
from model.scopes import small
from model.walk import Walk

if TYPE_CHECKING:
    from faults.figures import Figures

    from model.mutants import Mutant
    from model.rules import Rules, Scope

NAMES = [mutant.name for mutant in MUTANTS]
SEEDS = range(5000)


@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_a_broken_rule_is_found(mutant: Mutant, figures: Figures) -> None:
    found = explore(Setting(mutant.rules, small(mutant.scope)))
    assert found.trace is not None, f"{mutant.name} survives {found.states:,} states"
    assert mutant.flaw in found.trace.flaw, f"\n{found.trace}"
    figures.say(f"a trace of {len(found.trace)} steps, after {found.states:,} states")


@pytest.mark.long
@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_a_broken_rule_is_found_by_chance(mutant: Mutant, figures: Figures) -> None:
    for seed in SEEDS:
        trace = Walk(mutant.rules, seed).run()
        if trace is not None:
            figures.say(f"schedule {seed}, after {len(trace)} steps: {trace.flaw}")
            return
    pytest.fail(f"{mutant.name} survives {len(SEEDS):,} schedules")


@pytest.mark.parametrize(("name", "rules", "scope"), BELTS, ids=[belt[0] for belt in BELTS])
def test_a_belt_may_break_where_another_holds(name: str, rules: Rules, scope: Scope) -> None:
    found = explore(Setting(rules, small(scope)))
    assert found.trace is None, f"\n{found.trace}"


def test_every_rule_is_broken_somewhere() -> None:
    broken = {
        rule
        for rules in [mutant.rules for mutant in MUTANTS] + [belt[1] for belt in BELTS]
        for rule, held in rules._asdict().items()
        if not held
    }
    assert broken == set(RIGHT._asdict())


def test_a_trace_reads_as_a_table() -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "ignore basic.return")
    told = str(explore(Setting(mutant.rules, small(mutant.scope))).trace).splitlines()
    assert told[0] == "BROKEN: marked published in a version that the broker never took"
    assert told[1].split() == ["actor", "what", "state"]
    assert told[-1].split()[:5] == ["7", "relay", "1", "marks", "it:"]
