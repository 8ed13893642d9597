"""The demo's verdict, from journals that a broken outbox would leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from relay.demo.verdict import Verdict, judge

if TYPE_CHECKING:
    from pathlib import Path

COMMITTED = ["j1 k 1 0.1", "j2 k 2 0.2", "j3 k 3 0.3"]


def verdict(folder: Path, delivered: list[str], receipts: list[int]) -> Verdict:
    came = [f"{job} 1 plain {again} 0.5" for job, again in (line.split() for line in delivered)]
    for name, lines in (("committed", COMMITTED), ("rolled_back", ["j9 k 9 0.1"]), ("delivered", came)):
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return judge(folder, receipts)


def test_a_clean_run_keeps_every_promise(tmp_path: Path) -> None:
    seen = verdict(tmp_path, ["j1 first", "j2 first", "j3 first"], [1, 2, 3])
    assert seen.kept
    assert (seen.committed, seen.rolled_back, seen.delivered, seen.effects) == (3, 1, 3, 3)


def test_a_duplicate_on_the_wire_breaks_no_promise(tmp_path: Path) -> None:
    seen = verdict(tmp_path, ["j1 first", "j2 first", "j1 redelivered", "j3 first"], [1, 2, 3])
    assert (seen.duplicates, seen.kept) == (1, True)


@pytest.mark.parametrize(
    ("broken", "delivered", "receipts"),
    [
        ("lost", ["j1 first", "j2 first"], [1, 2, 3]),
        ("ghosts", ["j1 first", "j2 first", "j3 first", "j9 first"], [1, 2, 3]),
        ("out_of_order", ["j2 first", "j1 first", "j3 first"], [1, 2, 3]),
        ("wrong_effects", ["j1 first", "j2 first", "j3 first"], [1, 2, 2, 3]),
        ("wrong_effects", ["j1 first", "j2 first", "j3 first"], [1, 2]),
        ("wrong_effects", ["j1 first", "j2 first", "j3 first"], [1, 2, 3, 9]),
    ],
)
def test_each_broken_promise_is_seen(
    tmp_path: Path, broken: str, delivered: list[str], receipts: list[int]
) -> None:
    seen = verdict(tmp_path, delivered, receipts)
    assert getattr(seen, broken) == 1
    assert not seen.kept


def test_a_job_that_its_handler_got_is_not_lost_with_the_wiretaps_copy(tmp_path: Path) -> None:
    (tmp_path / "handled-1").write_text("j3 0.4\n")
    seen = verdict(tmp_path, ["j1 first", "j2 first"], [1, 2, 3])
    assert (seen.lost, seen.delivered, seen.kept) == (0, 3, True)


def test_a_line_that_is_being_written_does_not_count_yet(tmp_path: Path) -> None:
    verdict(tmp_path, [], [])
    (tmp_path / "delivered").write_text("j1 1 plain first 0.5\nj2 1 plain fi")
    assert judge(tmp_path, []).delivered == 1
