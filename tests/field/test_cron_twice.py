"""A scheduler starts the same task twice, at once or one after the other (opencollective#7477, #7890)."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import redis
from helpers import eventually
from releases import locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from databases import Database
    from faults.figures import Figures
    from processes import Process, Processes

    Start = Callable[..., Process]

pytestmark = pytest.mark.long

NAME, KEY = "nightly", "lock:cron:nightly"
BEGAN = datetime.now(UTC)
RUN = 'echo ran >> "$J"'
STAY = f"{RUN}; n=0; while [ $((n += 1)) -lt 3000 ]; do sleep 0.02; done"
"""A minute: longer than any test looks on, and over by itself if nobody ends it."""
HOUR = "3600"


def past(number: int) -> str:
    """Return a schedule whose last slot was more than an hour ago, and another one for each number."""
    at = BEGAN - timedelta(hours=2, minutes=number)
    return f"{at.minute} {at.hour} * * *"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Return a file to which commands write that they have begun."""
    path = tmp_path / "journal"
    path.touch()
    return path


@pytest.fixture
def start(processes: Processes, database: Database, journal: Path) -> Start:
    """Return what starts a shell script by ``outbox cron run``; it finds the journal in ``$J``."""

    def begin(script: str, schedule: str) -> Process:
        env = {"OUTBOX_DATABASE_URL": database.dsn, "J": str(journal)}
        return processes.outbox(
            "cron", "run", NAME, "--schedule", schedule, "--", "sh", "-c", script, env=env
        )

    return begin


@pytest.fixture
def guarded(peer: Start, database: Database, redis_url: str, journal: Path) -> Start:
    """Return what starts a shell script under a mutex in Redis."""

    def begin(script: str, seconds: str = HOUR) -> Process:
        return peer(database, "mutex", NAME, seconds, "sh", "-c", script, REDIS_URL=redis_url, J=str(journal))

    return begin


@pytest.fixture
def keys(redis_url: str) -> Iterator[redis.Redis]:
    """Return a client that looks at the mutex."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


def runs(journal: Path) -> int:
    """Count the commands that have begun."""
    return len(journal.read_text().split())


def begun(journal: Path, count: int, process: Process) -> None:
    """Wait until so many commands have begun."""
    eventually(lambda: runs(journal) == count or not process.running, 30)
    assert process.running, process.story()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("slots", [3, pytest.param(50, marks=pytest.mark.exhaustive)])
def test_three_starts_of_a_slot_are_one_run(
    start: Start, journal: Path, figures: Figures, slots: int
) -> None:
    """Two of them at once, and the third after the first has ended: the lock is free, the slot is taken."""
    skips = 0
    for number in range(slots):
        pair = [start(RUN, past(number)) for _ in range(2)]
        assert [each.wait(60) for each in pair] == [0, 0], [each.story() for each in pair]
        third = start(RUN, past(number))
        assert third.wait(60) == 0, third.story()
        skips += sum("skipped" in line for each in (*pair, third) for line in each.errors)
    assert (runs(journal), skips) == (slots, 2 * slots)
    figures.say(f"{3 * slots} starts for {slots} slots: {runs(journal)} runs, {skips} skips that say why")


def test_a_run_that_is_killed_frees_its_lock_at_once(
    start: Start, journal: Path, database: Database, figures: Figures
) -> None:
    first = start(STAY, past(1))
    begun(journal, 1, first)
    assert locks(database) == 1
    first.kill()
    killed_at = time.monotonic()
    eventually(lambda: not locks(database), every=0.001)
    freed = time.monotonic() - killed_at
    following = start(RUN, past(0))
    assert following.wait(60) == 0, following.story()
    assert (runs(journal), following.errors) == (2, [])
    figures.say(f"killed in the middle: lock free after {freed * 1000:.0f} ms, the next slot runs")


def test_control_a_mutex_is_not_once_a_slot(guarded: Start, journal: Path, figures: Figures) -> None:
    assert [guarded(RUN).wait(60), guarded(RUN).wait(60)] == [0, 0]
    assert runs(journal) == 2
    figures.say("the second start after the first has ended: 2 runs of one slot")


def test_control_a_run_that_is_killed_leaves_its_key_for_all_its_time(
    guarded: Start, journal: Path, keys: redis.Redis, figures: Figures
) -> None:
    first = guarded(STAY)
    begun(journal, 1, first)
    first.kill()
    left = keys.pttl(KEY) / 1000
    following = guarded(RUN)
    assert following.wait(60) == 1, following.story()
    assert (following.errors, runs(journal)) == (["nightly is locked"], 1)
    assert left > 3000
    keys.pexpire(KEY, 1)  # an hour later
    eventually(lambda: not keys.exists(KEY))
    assert guarded(RUN).wait(60) == 0
    figures.say(f"killed in the middle: every start refused for {left:,.0f} s more")


def test_control_a_run_longer_than_its_key_is_overtaken_and_frees_another_ones(
    guarded: Start, journal: Path, tmp_path: Path, keys: redis.Redis, figures: Figures
) -> None:
    first = guarded(f'{RUN}; while [ ! -e "{tmp_path}/over" ]; do sleep 0.02; done', "0.2")
    begun(journal, 1, first)
    eventually(lambda: not keys.exists(KEY))
    second = guarded(STAY)
    begun(journal, 2, second)
    assert first.running, "two at once"
    (tmp_path / "over").touch()
    assert first.wait(60) == 0, first.story()
    assert not keys.exists(KEY), "the first one's end has deleted the second one's key"
    third = guarded(STAY)
    begun(journal, 3, third)
    assert second.running
    figures.say("longer than its time: 2 at once, and again 2 when the first has deleted the second's key")
