"""``outbox cron run``: once a slot, never twice at once, whatever is killed; and nothing to clean up."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psutil
import pytest
from helpers import eventually
from releases import locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from databases import Database
    from processes import Process, Processes

    from relay import sandbox

    Start = Callable[..., Process]

NIGHTLY = "0 3 * * *"
LOST, UNREACHABLE = 1, 69
BEGAN = datetime.now(UTC)


def past(number: int) -> str:
    """Return a schedule whose last slot was more than an hour ago, and another one for each number."""
    at = BEGAN - timedelta(hours=2, minutes=number)
    return f"{at.minute} {at.hour} * * *"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Return a file to which commands write what they do."""
    path = tmp_path / "journal"
    path.touch()
    return path


@pytest.fixture
def start(processes: Processes, database: Database, journal: Path) -> Iterator[Start]:
    """Start a shell script by ``outbox cron run``; it finds the journal in ``$J``."""

    def begin(script: str, schedule: str = NIGHTLY, *options: str, dsn: str = database.dsn) -> Process:
        env = {"OUTBOX_DATABASE_URL": dsn, "J": str(journal)}
        words = ("cron", "run", "nightly", "--schedule", schedule, *options)
        return processes.outbox(*words, "--", "sh", "-c", script, env=env)

    yield begin
    for word in filter(str.isdigit, journal.read_text().split()):  # what a broken one left behind
        with suppress(ProcessLookupError):
            os.killpg(int(word), signal.SIGKILL)


def begun(journal: Path, process: Process, count: int = 1) -> int:
    """Wait until a command has written the process id of its shell, and return it."""

    def written() -> list[str]:
        assert process.running, process.story()
        return journal.read_text().split()[count - 1 : count]

    return int(eventually(written, timeout=30)[0])


def told(process: Process) -> list[str]:
    """Return what we said; a shell says "Terminated" of its own."""
    return [line for line in process.errors if line.startswith("outbox: ")]


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


STAY = 'echo $$ >> "$J"; while :; do sleep 0.05; done'


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [4, pytest.param(100, marks=pytest.mark.exhaustive)])
def test_of_two_starts_for_each_slot_one_runs(start: Start, journal: Path, count: int) -> None:
    lines = []
    for number in range(count):
        pair = [start('echo ran >> "$J"; sleep 0.05', past(number)) for _ in range(2)]
        assert [each.wait(60) for each in pair] == [0, 0], [each.story() for each in pair]
        lines += [line for each in pair for line in told(each)]
    assert journal.read_text().split() == ["ran"] * count
    assert len(lines) == count, lines
    assert all(line.startswith("outbox: nightly skipped: ") for line in lines)


def test_a_second_start_after_the_first_has_ended_is_told_who_ran(
    start: Start, journal: Path, database: Database
) -> None:
    first = start("echo ran; exit 3")
    assert first.wait() == 3, first.story()
    assert first.output == "ran\n"
    second = start('echo again >> "$J"')
    assert second.wait() == 0
    (line,) = second.errors
    slot: datetime = database.value("SELECT slot_at FROM outbox.slot")
    who = f"on {socket.gethostname()}, pid {first.pid}, since "
    assert line.startswith(
        f"outbox: nightly skipped: the slot of {slot:%Y-%m-%d %H:%M:%S} UTC has run, {who}"
    )
    assert (slot.hour, slot.minute, slot.second, slot.microsecond) == (3, 0, 0, 0)
    assert not journal.read_text()


def test_a_long_run_is_not_overtaken_and_the_slot_that_was_skipped_is_not_used_up(
    start: Start, journal: Path
) -> None:
    first = start(STAY, past(1))
    shell = begun(journal, first)
    second = start('echo second >> "$J"', past(2))
    assert second.wait() == 0
    (line,) = second.errors
    assert line.startswith(
        f"outbox: nightly skipped: it still runs, on {socket.gethostname()}, pid {first.pid}, "
    )
    os.kill(shell, signal.SIGKILL)
    assert first.wait() == 128 + signal.SIGKILL
    third = start('echo third >> "$J"', past(2))
    assert third.wait() == 0, third.story()
    assert third.errors == []
    assert journal.read_text().split() == [str(shell), "third"]


def test_a_runner_that_is_killed_leaves_no_command_no_lock_and_nothing_to_clean_up(
    start: Start, journal: Path, database: Database
) -> None:
    first = start(STAY, past(1))
    shell = begun(journal, first)
    assert locks(database) == 1
    first.kill()
    eventually(lambda: gone(shell) and not locks(database), timeout=3)
    again = start("exit 0", past(1))
    assert again.wait() == 0
    assert "has run" in again.errors[0], "at most once: a slot that was begun is not run again"
    following = start("exit 5", past(0))
    assert following.wait() == 5, following.story()


@pytest.mark.long
def test_a_command_that_outlives_its_runner_and_its_keeper_keeps_the_lock(
    start: Start, journal: Path, database: Database
) -> None:
    first = start(STAY, past(2))
    shell = begun(journal, first)
    for helper in psutil.Process(first.pid).children():
        if helper.pid != shell:
            helper.kill()
    first.kill()
    second = start("exit 5", past(1))
    assert second.wait() == 0, second.story()
    assert "it still runs" in second.errors[0]
    os.killpg(shell, signal.SIGKILL)
    eventually(lambda: not locks(database), timeout=3)
    third = start("exit 5", past(1))
    assert third.wait() == 5, third.story()


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1"])
def test_signals_are_passed_on_and_the_commands_exit_code_is_ours(
    start: Start, journal: Path, name: str
) -> None:
    process = start(f'trap "echo got >> $J; exit 7" {name}; {STAY}')
    begun(journal, process)
    process.signal(signal.Signals[f"SIG{name}"])
    assert process.wait() == 7, process.story()
    assert journal.read_text().split()[1:] == ["got"]
    assert told(process) == []


def test_a_command_that_a_signal_ended_ends_us_as_a_shell_would(start: Start) -> None:
    process = start("kill -9 $$")
    assert process.wait() == 128 + signal.SIGKILL


def end_the_session(database: Database) -> None:
    query = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name LIKE 'outbox-cron:%%' AND datname = current_database()"
    )
    assert database.execute(query) == [(True,)]


def test_a_lock_that_is_lost_stops_the_command_and_says_why(
    start: Start, journal: Path, database: Database
) -> None:
    process = start(f'trap "echo told >> $J; exit 0" TERM; {STAY}')
    begun(journal, process)
    end_the_session(database)
    assert process.wait() == LOST, process.story()
    assert journal.read_text().split()[1:] == ["told"]
    (line,) = told(process)
    assert line.startswith("outbox: nightly: the lock is lost (PostgreSQL: ")
    assert line.endswith("and another may run: SIGTERM has ended the command")


def test_a_command_that_does_not_stop_when_the_lock_is_lost_is_killed(
    start: Start, journal: Path, database: Database
) -> None:
    process = start(f"trap '' TERM; {STAY}", NIGHTLY, "--kill-after", "0.3")
    shell = begun(journal, process)
    end_the_session(database)
    assert process.wait() == LOST, process.story()
    assert gone(shell)
    assert told(process)[0].endswith("SIGTERM did not end the command within 0.3 s, SIGKILL did")


def test_a_database_that_crashes_or_freezes_stops_the_command(
    start: Start, journal: Path, own_postgres: sandbox.Postgres, own_database: Database
) -> None:
    for count, (fault, repair) in enumerate(
        ((own_postgres.kill, own_postgres.start), (own_postgres.pause, own_postgres.resume)), start=1
    ):
        process = start(STAY, past(count), dsn=own_database.dsn)
        shell = begun(journal, process, count)
        fault()
        assert process.wait(15) == LOST, process.story()
        assert gone(shell)
        repair()


def test_a_database_that_is_away_runs_nothing(
    start: Start, journal: Path, own_postgres: sandbox.Postgres, own_database: Database
) -> None:
    own_postgres.kill()
    process = start('echo ran >> "$J"', dsn=own_database.dsn)
    assert process.wait() == UNREACHABLE, process.story()
    assert len(process.errors) == 1
    assert not journal.read_text()
