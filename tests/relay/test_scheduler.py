"""The leader fires schedules beside its other work, and goes on with that when it cannot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from databases import Database
from helpers import eventually
from relays import add, line, relaying, states
from releases import ALEMBIC, ROOT
from roles import role

from outbox import events
from outbox.schedules import schedule
from relay.backend import Backend
from relay.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from processes import Processes

    from outbox.events import Event

TICK = schedule("tick", "* * * * * *", "tick", {"n": 1})
MINUTELY = "* * * * *"


@pytest.fixture
def backend(database: Database) -> Iterator[Backend]:
    opened = Backend(database.dsn)
    yield opened
    opened.close()


def looked_ago(database: Database, name: str, ago: timedelta) -> None:
    """Let a schedule have been seen first some time ago."""
    at = datetime.now(UTC) - ago
    database.execute(
        "INSERT INTO outbox.slot (schedule, slot_at, at, by) VALUES (%s, 'epoch', %s, 'test')", name, at
    )


def fired(database: Database) -> list[str]:
    return [slot for (slot,) in database.execute("SELECT headers->>'slot' FROM outbox.job ORDER BY pos")]


def test_a_relay_fires_its_schedules_and_publishes_their_jobs(database: Database, amqp_url: str) -> None:
    with line(amqp_url) as look:
        look.bind("ticks", "tick")
        with relaying(database, amqp_url, schedules=(TICK,)) as running:
            running.wait(events.SlotFired, count=3)
            messages = eventually(lambda: look.take("ticks"))
        seen = running.of(events.SlotFired)
    assert [str(each.slot) for each in seen] == fired(database)
    assert len({each.slot for each in seen}) == len(seen)
    headers = messages[0].headers
    assert (headers["schedule"], headers["slot"]) == ("tick", seen[0].slot)


def test_an_idle_leader_is_not_late_by_more_than_its_heartbeat(database: Database, amqp_url: str) -> None:
    with relaying(database, amqp_url, schedules=(schedule("t", "*/3 * * * * *", "t"),)) as running:
        running.wait(events.SlotFired, count=2)
    late = database.value("SELECT max(at - slot_at) FROM outbox.slot WHERE slot_at > 'epoch'")
    assert timedelta() <= late < timedelta(seconds=2)


@pytest.mark.parametrize(("misfire", "count"), [("skip", 0), ("latest", 1), ("all(10)", 10)])
def test_what_was_missed_is_made_good_as_the_policy_says(
    database: Database, backend: Backend, misfire: str, count: int
) -> None:
    looked_ago(database, "hourly", timedelta(hours=40))
    seen: list[Event] = []
    # Half an hour from now, so that no slot is on time.
    minute = (datetime.now(UTC) + timedelta(minutes=30)).minute
    scheduler = Scheduler(
        backend, [schedule("hourly", f"{minute} * * * *", "k", misfire=misfire)], seen.append
    )
    while scheduler.run():
        pass
    slots_fired = fired(database)
    assert len(slots_fired) == count
    assert slots_fired == sorted(slots_fired)
    scheduler._look_at = 0.0
    assert not scheduler.run()
    assert fired(database) == slots_fired


def test_many_slots_are_fired_in_slices_oldest_first(
    database: Database, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_ago(database, "s", timedelta(days=2))
    monkeypatch.setattr("relay.scheduler.SLICE", 0.01)
    scheduler = Scheduler(backend, [schedule("s", MINUTELY, "k", misfire="all(300)")], lambda _: None)
    rounds = 0
    while scheduler.run():
        rounds += 1
    found = fired(database)
    assert rounds > 1
    assert 300 <= len(found) <= 301
    assert found == sorted(set(found))


def test_it_looks_again_when_a_slot_is_due_and_not_before(
    database: Database, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    rows: Callable[..., Any] = backend.rows
    monkeypatch.setattr(backend, "rows", lambda sql, params: asked.append(sql) or rows(sql, params))
    scheduler = Scheduler(backend, [TICK], lambda _: None)
    scheduler.run()
    once = len(asked)
    eventually(lambda: scheduler.run() or fired(database))
    assert once == 3  # nothing is known of it; it begins; it is read again
    assert len(asked) == once + 2


def test_one_that_cannot_be_fired_does_not_hold_up_the_others(database: Database, backend: Backend) -> None:
    for name in ("a", "b"):
        looked_ago(database, name, timedelta(hours=3))
    database.execute("ALTER TABLE outbox.job ADD CONSTRAINT no_a CHECK (kind <> 'a')")
    scheduler = Scheduler(
        backend, [schedule("a", MINUTELY, "a"), schedule("b", MINUTELY, "b")], lambda _: None
    )
    assert not scheduler.run()
    assert database.execute("SELECT kind FROM outbox.job") == [("b",)]
    assert database.execute("SELECT schedule FROM outbox.slot WHERE slot_at > 'epoch'") == [("b",)]
    assert "no_a" in (backend.postponed or "")
    database.execute("ALTER TABLE outbox.job DROP CONSTRAINT no_a")
    scheduler._look_at = 0.0
    scheduler.run()
    assert database.value("SELECT count(*) FROM outbox.job WHERE kind = 'a'") == 1


def test_on_the_schema_before_jobs_are_published_and_no_schedule_is_fired(
    database: Database, amqp_url: str, processes: Processes
) -> None:
    down = processes.start(ALEMBIC, "downgrade", "0001", env={"OUTBOX_DATABASE_URL": database.dsn}, cwd=ROOT)
    assert down.wait(30) == 0, down.story()
    with line(amqp_url) as look:
        look.bind("all")
        with relaying(database, amqp_url, schedules=(TICK,)) as running:
            told = running.wait(events.SlotsRefused)
            (job,) = add(database)
            assert eventually(lambda: look.take("all"))
    assert "outbox.slot" in told.reason
    assert states(database) == {"published": 1}
    assert job


def test_without_a_right_jobs_are_published_and_the_remedy_is_told(database: Database, amqp_url: str) -> None:
    with role(database, "relay") as narrow:
        database.execute(f'REVOKE INSERT ON outbox.slot FROM "{narrow.name}"')  # type: ignore[arg-type]
        with line(amqp_url) as look:
            look.bind("all")
            with relaying(
                Database(narrow.url("psycopg"), database.name), amqp_url, schedules=(TICK,)
            ) as relay:
                told = relay.wait(events.SlotsRefused)
                add(database)
                assert eventually(lambda: look.take("all"))
    assert "permission denied for table slot" in told.reason
    assert "grants" in told.reason


def test_a_relays_role_can_fire(database: Database) -> None:
    looked_ago(database, "k", timedelta(hours=3))
    with role(database, "relay") as narrow:
        backend = Backend(Database(narrow.url("psycopg"), database.name).dsn)
        try:
            made = schedule("k", MINUTELY, "k", b"\0", content_type="x/y", key="k", headers={"a": "%s :x"})
            Scheduler(backend, [made], lambda _: None).run()
            assert backend.postponed is None
        finally:
            backend.close()
    row = database.execute("SELECT kind, payload, content_type, key, headers->>'a' FROM outbox.job")
    assert row == [("k", b"\0", "x/y", "k", "%s :x")]


def test_old_slots_are_pruned_but_the_last_of_each_schedule(database: Database, backend: Backend) -> None:
    for name, days in (("often", (30, 20, 10, 1)), ("seldom", (400,)), ("later", (20, -5))):
        for ago in days:
            database.execute(
                "INSERT INTO outbox.slot (schedule, slot_at, by) "
                "VALUES (%s, now() - make_interval(days => %s), 't')",
                name,
                ago,
            )
    looked_ago(database, "often", timedelta(days=40))
    scheduler = Scheduler(backend, [TICK], lambda _: None)
    assert scheduler.prune(7 * 86_400.0, 3)
    assert not scheduler.prune(7 * 86_400.0, 3)
    left = database.execute(
        "SELECT schedule, round(extract(epoch FROM now() - slot_at) / 86400)::int FROM outbox.slot "
        "ORDER BY 1, 2"
    )
    assert left == [("later", -5), ("later", 20), ("often", 1), ("seldom", 400)]


APP = """
import outbox
schedules = outbox.Schedules()
schedules.add("tick", "* * * * * *", "tick")
"""


def test_the_relay_fires_an_applications_schedules(
    database: Database, amqp_url: str, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    env = {"OUTBOX_DATABASE_URL": database.dsn, "OUTBOX_BROKER_URL": amqp_url, "OUTBOX_LOG": "json"}
    relay = processes.outbox("relay", "--schedules", "shop:schedules", env=env, cwd=tmp_path)
    event = relay.wait_event("slot_fired")
    assert event["schedule"] == "tick"
    relay.terminate()
    assert relay.wait() == 0, relay.story()


@pytest.mark.parametrize(
    ("target", "code", "told"),
    [
        ("shop:handlers", 2, "handlers in shop is missing"),
        ("shop:outbox", 2, "must be an outbox.Schedules"),
        ("nowhere:schedules", 78, "no module nowhere"),
        ("shop:schedules", 2, "two schedules called 'tick'"),
    ],
)
def test_what_is_wrong_with_an_applications_schedules_is_told(
    processes: Processes, tmp_path: Path, target: str, code: int, told: str
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "outbox.toml").write_text('[[schedules]]\nname = "tick"\ncron = "@daily"\nkind = "k"\n')
    env = {"OUTBOX_DATABASE_URL": "postgresql://h/d", "OUTBOX_BROKER_URL": "amqp://h"}
    relay = processes.outbox("relay", "--schedules", target, env=env, cwd=tmp_path)
    assert relay.wait() == code, relay.story()
    assert told in relay.story()
