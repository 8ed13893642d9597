"""Each mutant of the guarantees' code makes its test go red."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from mutants import MUTANTS
from mutation import ROOT, Mutant, Unfit, check, survives

if TYPE_CHECKING:
    from pathlib import Path

    from faults.figures import Figures

NAMES = [mutant.name for mutant in MUTANTS]


@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_a_mutant_can_still_be_made(mutant: Mutant) -> None:
    check(mutant)


@pytest.mark.exhaustive
@pytest.mark.timeout(330)
@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_a_mutant_does_not_survive(mutant: Mutant, tmp_path: Path, figures: Figures) -> None:
    began = time.monotonic()
    said = survives(mutant, tmp_path)
    figures.say(f"caught after {time.monotonic() - began:.0f} s, with the start of its servers")
    assert said is None, f"{mutant.test} stays green with {mutant.name}:\n{said}"


def test_a_mutant_whose_code_has_gone_is_noticed() -> None:
    with pytest.raises(Unfit, match="0 times"):
        check(MUTANTS[0]._replace(old="this is nowhere"))


def test_no_two_mutants_have_one_name() -> None:
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_a_mutant_is_told_of_with_its_test(mutant: Mutant) -> None:
    file, _, test = mutant.test.removeprefix("tests/").partition("::")
    assert (
        f"| {mutant.name} | `{mutant.file}` | `{file}` `{test}` |" in (ROOT / "docs/mutants.md").read_text()
    )


@pytest.mark.exhaustive
@pytest.mark.timeout(330)
def test_a_mutant_that_breaks_nothing_survives(tmp_path: Path) -> None:
    harmless = Mutant("harmless", "relay/window.py", "No I/O.", "No input, no output.", WINDOW)
    assert survives(harmless, tmp_path)


WINDOW = "tests/relay/test_window.py::test_room_is_never_negative"
