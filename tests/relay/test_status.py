"""``outbox status``: who leads, how many, how late, what is down."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from helpers import eventually
from operating import read

from relay.cli import queries

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from click.testing import Result
    from databases import Database
    from operating import Jobs
    from processes import Processes

    Outbox = Callable[..., Result]


def test_status_of_an_empty_outbox(outbox: Outbox) -> None:
    found = read(outbox("status", "--json"))
    assert found["leader"] is None
    assert set(found["jobs"].values()) == {0}
    assert len(found["jobs"]) == 8
    assert found["lag_seconds"] == 0
    assert found["down"] == []


def test_status_counts_every_state(outbox: Outbox, jobs: Jobs) -> None:
    for state in (
        "pending",
        "published",
        "running",
        "succeeded",
        "dead",
        "dead",
        "cancelled",
        "parked",
        "scheduled",
    ):
        jobs.add(state)
    jobs.add(key="a")
    told = jobs.add(tracked=False)
    assert jobs.state(told) == "pending"
    found = read(outbox("status", "--json"))["jobs"]
    assert found == {
        "scheduled": 1, "pending": 3, "parked": 1, "published": 1,
        "running": 1, "succeeded": 1, "dead": 2, "cancelled": 1,
    }  # fmt: skip


def test_lag_is_the_age_of_the_oldest_job_that_should_be_gone(outbox: Outbox, jobs: Jobs) -> None:
    jobs.add(delay="1 hour")
    assert read(outbox("status", "--json"))["lag_seconds"] == 0
    jobs.add(key="a")
    jobs.age(60, "available_at")
    jobs.add()
    assert 59 < read(outbox("status", "--json"))["lag_seconds"] < 90
    jobs.age(7200, "available_at")
    assert 3500 < read(outbox("status", "--json"))["lag_seconds"] < 7300


def test_what_is_down_is_told_by_destination_with_the_brokers_words(outbox: Outbox, jobs: Jobs) -> None:
    for _ in range(3):
        jobs.add("parked", "mail", "NO_ROUTE")
    jobs.add("parked", "bill", "no exchange 'x' in vhost", exchange="x", routing_key="r")
    found = read(outbox("status", "--json"))["down"]
    assert sorted(found, key=lambda each: str(each["kind"])) == [
        {
            "kind": "bill",
            "exchange": "x",
            "routing_key": "r",
            "count": 1,
            "reason": "no exchange 'x' in vhost",
        },
        {"kind": "mail", "exchange": None, "routing_key": None, "count": 3, "reason": "NO_ROUTE"},
    ]
    table = outbox("status").output
    assert "DOWN  EXCHANGE  ROUTING KEY  PARKED  REASON" in table
    assert "mail                              3  NO_ROUTE" in table


def test_a_large_table_is_estimated_and_says_so(
    outbox: Outbox, jobs: Jobs, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for state in ("dead", "succeeded"):
        for _ in range(30):
            jobs.add(state)
    database.execute("ANALYZE outbox.job")
    monkeypatch.setattr(queries, "CAP", 10)
    found = read(outbox("status", "--json"))
    assert found["estimated"] == ["dead", "succeeded"]
    assert (found["jobs"]["dead"], found["jobs"]["succeeded"]) == (30, 30)
    assert "~30" in outbox("status").output
    exact = read(outbox("status", "--json", "--exact"))
    assert (exact["jobs"]["dead"], exact["estimated"]) == (30, [])


def test_status_names_the_leader(
    processes: Processes, database: Database, amqp_url: str, outbox: Outbox
) -> None:
    env = {"OUTBOX_DATABASE_URL": database.dsn, "OUTBOX_BROKER_URL": amqp_url, "OUTBOX_LOG": "json"}
    relay = processes.outbox("relay", env=env)
    relay.wait_event("leadership_gained")
    found = read(outbox("status", "--json"))["leader"]
    assert (found["pid"], found["term"], found["host"]) == (relay.pid, 1, os.uname().nodename)
    assert 0 <= found["heartbeat_age"] < 5
    assert f"pid {relay.pid}, term 1" in outbox("status").output
    relay.terminate()
    assert relay.wait() == 0, relay.story()
    assert eventually(lambda: read(outbox("status", "--json"))["leader"] is None)


def test_status_names_who_has_the_lock_and_is_no_relay(outbox: Outbox, database: Database) -> None:
    with database.connect(application_name="somebody") as holder:
        holder.execute("SELECT pg_advisory_lock(1869968482, 1)")
        found = read(outbox("status", "--json"))
        assert found["leader"] is None
        assert found["lock_holder"].startswith(f"pid {holder.info.backend_pid} (user ")
        assert "somebody" in found["lock_holder"]
        assert "which is no relay" in outbox("status").output
