"""``outbox cron``: what it refuses, which slot a start is for, and what ``cron list`` shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from failing import USAGE, WRONG, fails
from helpers import eventually
from operating import read
from releases import ALEMBIC, ROOT
from roles import role

from outbox.cron import Cron
from outbox.errors import ConfigError
from relay.cli import runs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bouncer import PgBouncer
    from click.testing import Result
    from databases import Database
    from processes import Process, Processes

    from relay import sandbox

    Outbox = Callable[..., Result]

NOON = datetime(2027, 6, 1, 12, tzinfo=UTC)
HOURLY = ("cron", "run", "task", "--schedule", "@hourly", "--")


def run(processes: Processes, dsn: str, tmp_path: Path) -> tuple[Process, Path]:
    """Start a command that leaves a trace."""
    trace = tmp_path / "ran"
    return processes.outbox(*HOURLY, "touch", str(trace), env={"OUTBOX_DATABASE_URL": dsn}), trace


# --- which slot ---


@pytest.mark.parametrize(
    ("schedule", "offset", "minute"),
    [
        ("*/10 * * * *", 0.0, 0),
        ("*/10 * * * *", 599.0, 10),
        ("*/10 * * * *", 570.0, 10),
        ("*/10 * * * *", 569.0, 0),
        ("*/10 * * * *", 301.0, 0),
        ("* * * * *", 46.0, 1),  # of a minute, a quarter
        ("* * * * *", 44.0, 0),
    ],
)
def test_a_start_is_for_the_last_slot_or_for_the_one_that_is_very_near(
    schedule: str, offset: float, minute: int
) -> None:
    found = runs.nearest(Cron(schedule), NOON + timedelta(seconds=offset))
    assert found == NOON.replace(minute=minute)


def test_a_schedule_without_slots_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cron, "latest", lambda *_: None)
    with pytest.raises(ConfigError, match="no slot within fifty years"):
        runs.nearest(Cron("@daily"), NOON)


# --- what is refused ---


def test_a_pooler(processes: Processes, pgbouncer: PgBouncer, tmp_path: Path) -> None:
    process, trace = run(processes, pgbouncer.dsn, tmp_path)
    assert "pooler" in fails(process, WRONG)
    assert not trace.exists()


def test_a_replica(
    processes: Processes, own_postgres: sandbox.Postgres, replica_url: str, tmp_path: Path
) -> None:
    process, trace = run(processes, replica_url, tmp_path)
    assert "replica" in fails(process, WRONG)
    assert not trace.exists()


def test_a_database_without_the_schema_or_with_the_one_before(
    processes: Processes, database: Database, empty_database: Database, tmp_path: Path
) -> None:
    process, trace = run(processes, empty_database.dsn, tmp_path)
    assert "run outbox migrate" in fails(process, WRONG)
    env = {"OUTBOX_DATABASE_URL": database.dsn}
    assert processes.start(ALEMBIC, "downgrade", "0001", env=env, cwd=ROOT).wait(30) == 0
    process, trace = run(processes, database.dsn, tmp_path)
    assert 'relation "outbox.slot" does not exist' in fails(process, WRONG)
    assert not trace.exists()


def test_a_role_without_rights_runs_nothing_and_that_of_a_consumer_or_a_relay_does(
    processes: Processes, database: Database, tmp_path: Path
) -> None:
    with role(database, "app") as app:
        process, trace = run(processes, app.url("psycopg"), tmp_path)
        assert "permission denied" in fails(process, WRONG)
        assert not trace.exists()
    for kind in ("consumer", "relay"):
        with role(database, kind) as able:
            process, trace = run(processes, able.url("psycopg"), tmp_path)
            assert process.wait() == 0, process.story()
        database.execute("DELETE FROM outbox.slot")
        trace.unlink()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("cron", "run", "t", "--schedule", "* * *", "--", "true"), "no cron expression"),
        (("cron", "run", "t", "--schedule", "@daily", "--zone", "Mars", "--", "true"), "'Mars' is not known"),
        (("cron", "run", "", "--schedule", "@daily", "--", "true"), "NAME is empty"),
        (("cron", "run", "t", "--schedule", "@daily", "--kill-after", "x", "--", "true"), "--kill-after"),
        (("cron", "run", "t", "--schedule", "@daily"), "COMMAND"),
        (("cron", "run", "t", "--", "true"), "--schedule"),
    ],
)
def test_a_wrong_use_is_refused(processes: Processes, words: tuple[str, ...], told: str) -> None:
    process = processes.outbox(*words, env={"OUTBOX_DATABASE_URL": "postgresql://nowhere.invalid/d"})
    assert process.wait() == USAGE, process.story()
    assert told in process.story()


def test_a_command_that_there_is_not_uses_up_no_slot(processes: Processes, database: Database) -> None:
    env = {"OUTBOX_DATABASE_URL": database.dsn}
    process = processes.outbox(*HOURLY, "no-such-command", env=env)
    assert process.wait() == 127, process.story()
    assert process.errors == ["outbox: task: there is no command no-such-command"]
    assert database.value("SELECT count(*) FROM outbox.slot") == 0


# --- what is listed ---

TOML = """
[[schedules]]
name = "nightly"
cron = "30 2 * * *"
zone = "Europe/Berlin"
kind = "report.build"
"""


def test_schedules_and_commands_are_listed_with_their_last_and_next_slots(
    outbox: Outbox, database: Database, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "outbox.toml").write_text(TOML)
    assert outbox("cron", "list").exit_code == 0
    for name, slot in (
        ("gone", "2026-01-01"),
        ("nightly", "epoch"),
        ("twice", "2026-01-01"),
        ("twice", "2026-01-02"),
    ):
        database.execute(
            "INSERT INTO outbox.slot (schedule, slot_at, by) VALUES (%s, %s, 'web:7')", name, slot
        )
    env = {"OUTBOX_DATABASE_URL": database.dsn}
    process = processes.outbox(*HOURLY, "sh", "-c", "while :; do sleep 0.05; done", env=env)
    found = eventually(
        lambda: (
            [each for each in read(outbox("cron", "list", "--json"))["schedules"] if each["running"]]
            and {each["name"]: each for each in read(outbox("cron", "list", "--json"))["schedules"]}
        ),
        timeout=30,
    )
    assert list(found) == ["task", "gone", "nightly", "twice"]
    assert {name: each["what"] for name, each in found.items()}["task"] == "command"
    assert datetime.fromisoformat(found["twice"]["last"]) == datetime(2026, 1, 2, tzinfo=UTC)
    assert found["nightly"]["last"] is None
    following = Cron("30 2 * * *", "Europe/Berlin").next(datetime.now(UTC))
    assert following is not None
    assert datetime.fromisoformat(found["nightly"]["next"]) == following
    assert (found["twice"]["running"], found["twice"]["next"], found["twice"]["by"]) == (None, None, "web:7")
    assert found["task"]["by"].endswith(f":{process.pid}")
    lines = outbox("cron", "list").output.splitlines()
    assert lines[0].split()[:2] == ["NAME", "WHAT"]
    assert lines[1].endswith("runs now")
    assert len(lines) == 5
