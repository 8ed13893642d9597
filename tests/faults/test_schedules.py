"""Fifty schedulers without an election, with clocks that are wrong, some of them killed: each slot once."""

from __future__ import annotations

import random
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from databases import Database
    from faults.figures import Figures
    from processes import Process, Processes

APP = Path(__file__).with_name("scheduler_app.py")
WRONG = (-600.0, 600.0, 0.0, -90.0, 5.0)
"""Seconds by which their clocks are fast."""

FIRED = """
SELECT (headers->>'slot')::timestamptz FROM outbox.job WHERE kind = %s ORDER BY 1
"""


def started(
    processes: Processes, database: Database, ways: Sequence[str], shifts: Sequence[float]
) -> list[Process]:
    """Start schedulers, and wait until each of them is at work."""
    env = {"OUTBOX_DATABASE_URL": database.dsn, "URL": database.url}
    all_of_them = [
        processes.start(sys.executable, APP, way, str(shift), env=env)
        for way, shift in zip(ways, shifts, strict=True)
    ]
    for each in all_of_them:
        eventually(lambda each=each: "ready" in each.output or not each.running, timeout=90)
        assert each.running, each.story()
    return all_of_them


def between(slots: Sequence[datetime], begin: datetime, end: datetime) -> list[datetime]:
    return [slot for slot in slots if begin < slot <= end]


def every(seconds: int, begin: datetime, end: datetime) -> list[datetime]:
    """Return what must have been fired: whole seconds of the database's clock."""
    first = begin.replace(microsecond=0) + timedelta(seconds=1)
    span = int((end - first).total_seconds())
    all_of_them = [first + timedelta(seconds=n) for n in range(span + 1)]
    return [slot for slot in all_of_them if slot.second % seconds == 0]


@pytest.mark.parametrize(
    ("count", "seconds"),
    [(6, 6), pytest.param(50, 60, marks=[pytest.mark.exhaustive, pytest.mark.timeout(300)])],
)
def test_each_slot_is_fired_once_whoever_fires_and_whatever_their_clocks_say(
    processes: Processes, database: Database, figures: Figures, count: int, seconds: int
) -> None:
    ways = ["session" if n % 2 else "relay" for n in range(count)]
    schedulers = started(processes, database, ways, [WRONG[n % len(WRONG)] for n in range(count)])
    begin: datetime = database.value("SELECT clock_timestamp()")
    half, end = begin + timedelta(seconds=seconds / 2), begin + timedelta(seconds=seconds)
    eventually(lambda: database.value("SELECT clock_timestamp()") > half, timeout=seconds)
    for victim in random.sample(schedulers, count // 3):
        victim.kill()
    eventually(
        lambda: database.value("SELECT clock_timestamp() > %s + interval '2 s'", end), timeout=seconds + 5
    )
    for kind, step in (("tick", 1), ("tock", 2)):
        fired = [slot for (slot,) in database.execute(FIRED, kind)]
        assert between(fired, begin, end) == every(step, begin, end)
        slots = database.execute(
            "SELECT slot_at FROM outbox.slot WHERE schedule = %s ORDER BY 1 OFFSET 1", kind
        )
        assert [slot for (slot,) in slots] == fired
        assert database.value("SELECT bool_and(slot_at <= at) FROM outbox.slot WHERE schedule = %s", kind)
    assert database.value("SELECT count(DISTINCT by) FROM outbox.slot") > 1
    figures.say(f"{count} schedulers, {seconds} s, {count // 3} of them killed: each of {seconds} slots once")
    alive = [each for each in schedulers if each.running]
    assert len(alive) == count - count // 3, "a scheduler died of another's work"
    assert [line for each in alive for line in each.errors] == []


def test_control_to_look_when_it_ran_last_starts_it_twice(processes: Processes, database: Database) -> None:
    database.execute("CREATE TABLE public.peer AS SELECT clock_timestamp() AS last_run")
    database.execute("CREATE TABLE public.ran (slot timestamptz)")
    started(processes, database, ["peer"] * 6, [0.0] * 6)
    twice = "SELECT count(*) FROM (SELECT FROM public.ran GROUP BY slot HAVING count(*) > 1) s"
    assert eventually(lambda: database.value(twice), timeout=30)
