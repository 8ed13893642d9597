"""Schedules: what is due, what is refused, and that of any number who fire one does."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from helpers import eventually
from roles import role
from sqlalchemy import NullPool, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import outbox
from outbox.errors import Misuse
from outbox.schedules import ON_TIME, schedule

if TYPE_CHECKING:
    from databases import Database

NOON = datetime(2027, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def minutes(found: list[datetime]) -> list[int]:
    return [slot.minute for slot in found]


def due(misfire: str, since: datetime, now: datetime, cron: str = "* * * * *") -> list[datetime]:
    return schedule("s", cron, "k", misfire=misfire).due(since, now)


# --- what is due ---


@pytest.mark.parametrize(
    ("misfire", "expected"), [("skip", 0), ("latest", 1), ("all(10)", 10), ("all(100)", 60)]
)
def test_after_an_hour_in_which_nobody_was_there(misfire: str, expected: int) -> None:
    late = NOON + ON_TIME + timedelta(seconds=1)
    found = due(misfire, NOON - HOUR, late)
    assert len(found) == expected
    assert found == sorted(found)
    assert not found or found[-1] == NOON


@pytest.mark.parametrize(("misfire", "expected"), [("skip", 1), ("latest", 1), ("all(10)", 10)])
def test_a_slot_that_is_on_time_counts_for_those_that_are_late(misfire: str, expected: int) -> None:
    assert len(due(misfire, NOON - HOUR, NOON + timedelta(seconds=5))) == expected


@pytest.mark.parametrize("misfire", ["skip", "latest", "all(1)"])
def test_what_is_on_time_is_never_left_out(misfire: str) -> None:
    found = due(misfire, NOON, NOON + timedelta(seconds=10), "* * * * * *")
    assert [slot.second for slot in found] == list(range(1, 11))


def test_nothing_is_due_before_the_next_slot_or_when_the_clock_was_set_back() -> None:
    for misfire in ("skip", "latest", "all(10)"):
        assert due(misfire, NOON, NOON) == []
        assert due(misfire, NOON, NOON + timedelta(seconds=59)) == []
        assert due(misfire, NOON, NOON - HOUR) == []
        assert minutes(due(misfire, NOON, NOON + timedelta(seconds=60))) == [1]


def test_a_year_of_seconds_is_not_counted_through() -> None:
    year = timedelta(days=365)
    assert len(due("all(1000)", NOON - year, NOON, "* * * * * *")) == 1000
    assert len(due("latest", NOON - year, NOON, "0 0 1 1 *")) == 1


# --- what a schedule may be ---


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": ""}, "a schedule's name is empty"),
        ({"name": "a\nb"}, "control character"),
        ({"name": "run:x"}, "must not begin with run:"),
        ({"name": "é" * 128}, "256 bytes"),
        ({"cron": "* * * *"}, "no cron expression"),
        ({"zone": "Mars"}, "'Mars' is not known"),
        ({"kind": "a.*"}, "wildcards"),
        ({"payload": float("nan")}, "nan"),
        ({"misfire": "all"}, "skip, latest, or all"),
        ({"misfire": "all(0)"}, "n from 1 to 1000"),
        ({"misfire": "all(1001)"}, "n from 1 to 1000"),
        ({"headers": {"slot": "x"}}, "header slot is the schedule's own"),
        ({"delay": 5}, "no delay"),
        ({"at": NOON}, "no at"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], told: str) -> None:
    given = {"name": "s", "cron": "* * * * *", "kind": "k", **changes}
    with pytest.raises(ValueError, match=told):
        outbox.Schedules().add(**given)


def test_two_of_one_name_are_refused() -> None:
    schedules = outbox.Schedules()
    schedules.add("nightly", "30 2 * * *", "a")
    with pytest.raises(Misuse, match="two schedules called 'nightly'"):
        schedules.add("nightly", "30 2 * * *", "b")
    assert [each.name for each in schedules] == ["nightly"]


def test_a_slots_job_has_one_id_whatever_the_zone_it_is_written_in() -> None:
    made = schedule("nightly", "30 2 * * *", "a")
    first = made.values(NOON, "me")["id"]
    assert first == made.values(NOON.astimezone(ZoneInfo("Asia/Tokyo")), "you")["id"]
    assert first != made.values(NOON + HOUR, "me")["id"]
    assert first != schedule("other", "30 2 * * *", "a").values(NOON, "me")["id"]
    # Written down: an upgrade must not fire a slot again under another id.
    assert first == UUID("d85b1977-4626-512f-bf7b-4d8bbb6ac644")


# --- firing ---


def seen_at(database: Database, name: str, at: datetime) -> None:
    """Let a schedule have been seen first at a time."""
    database.execute(
        "INSERT INTO outbox.slot (schedule, slot_at, at, by) VALUES (%s, 'epoch', %s, 'test')", name, at
    )


def fire(database: Database, schedules: outbox.Schedules) -> list[outbox.Fired]:
    with Session(database.engine) as session, session.begin():
        return schedules.fire(session)


def every_minute(**options: Any) -> outbox.Schedules:
    schedules = outbox.Schedules()
    schedules.add("tick", "* * * * *", "report.build", {"n": 1}, **options)
    return schedules


def test_a_new_schedule_has_nothing_to_make_good_and_begins_where_it_was_first_seen(
    database: Database,
) -> None:
    assert fire(database, every_minute(misfire="all(1000)")) == []
    assert fire(database, every_minute(misfire="all(1000)")) == []
    (row,) = database.execute(
        "SELECT slot_at = 'epoch', at > clock_timestamp() - interval '1 min' FROM outbox.slot"
    )
    assert row == (True, True)


def test_a_slots_job_says_which_slot_it_is_for(database: Database) -> None:
    seen_at(database, "tick", datetime.now(UTC) - 3 * HOUR)
    (fired,) = fire(database, every_minute(headers={"tenant": "a"}, key="reports", max_attempts=3))
    row = database.execute(
        "SELECT kind, payload, headers, key, max_attempts, state, tracked FROM outbox.job"
    )[0]
    slot = fired.slot.isoformat(timespec="seconds")
    headers = {"tenant": "a", "schedule": "tick", "slot": slot}
    assert row == ("report.build", b'{"n":1}', headers, "reports", 3, "pending", True)
    assert database.execute("SELECT id FROM outbox.job") == [(fired.id,)]
    assert database.value("SELECT slot_at FROM outbox.slot WHERE slot_at > 'epoch'") == fired.slot
    assert (fired.slot.second, fired.slot.microsecond) == (0, 0)
    assert slot.endswith("+00:00")


def test_what_is_fired_rolls_back_with_the_callers_transaction(database: Database) -> None:
    seen_at(database, "tick", datetime.now(UTC) - HOUR)
    with Session(database.engine) as session:
        assert len(every_minute().fire(session)) == 1
        session.rollback()
    assert database.value("SELECT count(*) FROM outbox.job") == 0
    assert len(fire(database, every_minute())) == 1


def test_an_event_may_be_scheduled(database: Database) -> None:
    seen_at(database, "tick", datetime.now(UTC) - HOUR)
    fire(database, every_minute(event=True))
    assert database.execute("SELECT tracked FROM outbox.job") == [(False,)]


def test_a_slot_that_was_fired_while_the_clock_was_wrong_holds_up_nothing(database: Database) -> None:
    seen_at(database, "tick", datetime.now(UTC) - HOUR)
    database.execute("INSERT INTO outbox.slot (schedule, slot_at, by) VALUES ('tick', '2100-01-01', 'test')")
    assert len(fire(database, every_minute())) == 1


def test_a_slot_whose_job_is_there_already_is_done(database: Database) -> None:
    seen_at(database, "tick", datetime.now(UTC) - HOUR)
    (fired,) = fire(database, every_minute())
    database.execute("DELETE FROM outbox.slot WHERE slot_at > 'epoch'")  # as after a clumsy repair
    assert [each.id for each in fire(database, every_minute())][:1] == [fired.id]
    assert database.value("SELECT count(*) FROM outbox.job WHERE id = %s", fired.id) == 1


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_consumers_rights_are_enough_through_every_driver(database: Database, driver: str) -> None:
    seen_at(database, "tick", datetime.now(UTC) - HOUR)
    with role(database, "consumer") as consumer:
        engine = create_engine(consumer.url(driver), poolclass=NullPool)
        with Session(engine) as session, session.begin():
            schedules = every_minute()
            schedules.add("new", "@hourly", "k", b"\0\1", content_type="image/png")
            assert len(schedules.fire(session)) == 1
            assert schedules.fire(session) == []


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_sessions_that_are_awaited(database: Database, driver: str) -> None:
    seen_at(database, "tick", datetime.now(UTC) - HOUR)
    schedules = every_minute(headers={"a": "ü:x"}, key="k", exchange="", routing_key="q")
    schedules.add("new", "@hourly", "k")

    async def main() -> list[outbox.Fired]:
        engine = create_async_engine(database.url_for(driver), poolclass=NullPool)
        async with AsyncSession(engine) as session, session.begin():
            return await schedules.fire_async(session)

    (fired,) = asyncio.run(main())
    assert database.execute("SELECT id, key FROM outbox.job") == [(fired.id, "k")]
    assert json.dumps(database.value("SELECT headers->>'a' FROM outbox.job")) == json.dumps("ü:x")


def test_a_session_that_would_not_keep_slot_and_job_together_is_refused(database: Database) -> None:
    engine = create_engine(database.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with Session(engine) as session, pytest.raises(Misuse, match="AUTOCOMMIT"):
        every_minute().fire(session)


@pytest.mark.parametrize("fails", [True, False], ids=["which_failed", "which_committed"])
def test_who_comes_second_waits_for_the_first(database: Database, fails: bool) -> None:
    seen_at(database, "tick", datetime.now(UTC) - HOUR)
    found: list[outbox.Fired] = []
    with Session(database.engine) as first:
        (mine,) = every_minute().fire(first)
        second = threading.Thread(target=lambda: found.extend(fire(database, every_minute())))
        second.start()
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
        eventually(lambda: database.value(waits))
        if fails:
            first.rollback()
        else:
            first.commit()
        second.join(10)
    assert [each.id for each in found if each.slot == mine.slot] == ([mine.id] if fails else [])
    assert database.value("SELECT count(*) FROM outbox.job WHERE id = %s", mine.id) == 1
