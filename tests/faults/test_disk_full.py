"""A disk is full: the database's data or WAL, or RabbitMQ says so. It is freed, and all goes on by itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import light
import psycopg
import pytest
from databases import Databases
from disks import CrampedPostgres, Disk
from faults.collector import Collector
from faults.load import Load, Shape
from faults.plant import Plant, at_most, complaints, last, marked
from helpers import eventually

from relay.sandbox import StartFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database
    from faults.figures import Figures
    from processes import Processes
    from servers import Servers

    from relay.sandbox import RabbitMQ

LOAD = Shape(rate=200)
INSERT = """INSERT INTO outbox.job (id, kind, payload)
            SELECT gen_random_uuid(), 'nobody.hears', repeat('x', 2000)::bytea FROM generate_series(1, 50)"""
BACKLOG = 2000
IN_HAND = 8
"""Jobs: a consumer's prefetch. Each may pay an attempt if a disk stays full: it might be what fills it."""
PATIENCE = 15
"""Seconds, before which none of them does."""
CAUSE = "No space left on device"
ROOM = {"data": 40, "wal": 16}
"""Megabytes of the disk."""


@pytest.fixture
def disk(servers: Servers, part: Literal["wal", "data"]) -> Iterator[Disk]:
    with light.folder() as folder:
        yield from servers.first("small disk", "auto", [("mount", lambda: Disk(folder / "disk", ROOM[part]))])


@pytest.fixture
def cramped(servers: Servers, disk: Disk, part: Literal["wal", "data"]) -> Iterator[CrampedPostgres]:
    def start() -> CrampedPostgres:
        made = CrampedPostgres(folder / "postgres", disk, part)
        made.start()
        return made

    with light.folder() as folder:
        yield from servers.first("own postgres", "auto", [("binary", start)])


@pytest.fixture
def plant(processes: Processes, cramped: CrampedPostgres, amqp_url: str, figures: Figures) -> Iterator[Plant]:
    databases = Databases(cramped)
    database = databases.kept()
    databases.close()
    cramped.move(database.name)
    with Collector(amqp_url) as collector:
        yield Plant(processes, database, amqp_url, collector, figures)
    database.engine.dispose()


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("part", "seconds"),
    [("data", 3), *(pytest.param(part, 60, marks=pytest.mark.exhaustive) for part in ("data", "wal"))],
)
def test_a_full_disk_of_the_database_loses_nothing(
    part: str, seconds: int, plant: Plant, cramped: CrampedPostgres, disk: Disk
) -> None:
    plant.start()
    with Load(plant.database, LOAD) as load:
        load.wait_committed(200)
        said = marked(plant.alive)
        load.burst(BACKLOG)  # relay and consumer have their hands full too
        plant.collector.wait_count(200 + BACKLOG // 4)
        disk.fill()
        full_at = time.monotonic()
        refused = eventually(lambda: refusal(plant.database), 30)
        last(seconds)
        disk.free()
        ended = back(cramped)
        freed_at = time.monotonic()
        gap = plant.collector.first_after(freed_at).at - freed_at
        load.wait_committed(200)
    was_full = freed_at - full_at
    report = plant.settle(load.account)
    lines = [complaints(process, after) for process, after in said.items()]
    counts = [len(each) for each in lines]
    plant.figures.say(f"the application was told: {refused}; PostgreSQL ended: {ended}; complaints: {counts}")
    plant.figures.say(f"of each the first: {[each[0]['message'] for each in lines if each]}")
    paid = plant.attempts()
    plant.tell(f"disk of {part} full, {seconds} s", "goes on", f"attempts {paid}", report, f"{gap:.1f} s")
    assert paid <= (IN_HAND if seconds > PATIENCE else 0)
    assert max(counts) <= at_most(was_full), lines
    told = [CAUSE in str(each) for each in lines]
    assert all(told[-1:]) if part == "data" else any(told)


def refusal(database: Database) -> str:
    """Write a little, and take it back; return the words with which the database refuses it."""
    try:
        with database.connect() as connection, connection.transaction(force_rollback=True):
            connection.execute(INSERT)
    except psycopg.Error as error:
        return str(error).splitlines()[0]
    return ""


def back(server: CrampedPostgres) -> bool:
    """Start the server if it has ended, as a supervisor would; return whether it had. It answers then."""
    ended = not server.running
    if ended:
        eventually(lambda: _started(server), 30)
    return ended


def _started(server: CrampedPostgres) -> bool:
    try:
        server.start()
    except StartFailed:
        return False
    return True


@pytest.mark.exhaustive  # as with the memory alarm, whose short version is in test_outage_blocked.py
@pytest.mark.parametrize("seconds", [3, 30])
def test_a_broker_whose_disk_is_full_is_left_in_peace(
    seconds: int,
    *,
    processes: Processes,
    database: Database,
    own_rabbitmq: RabbitMQ,
    own_amqp_url: str,
    figures: Figures,
) -> None:
    with Collector(own_amqp_url) as collector:
        plant = Plant(processes, database, own_amqp_url, collector, figures)
        plant.start()
        leader = plant.fleet.wait_leader().process
        with Load(database, LOAD) as load:
            load.wait_committed(100)
            said = marked(plant.alive)
            own_rabbitmq.ctl("set_disk_free_limit", "500000GB")
            try:
                blocked = leader.wait_event("broker_blocked")
                before = len(collector.deliveries)
                load.wait_committed(seconds * 180, timeout=30 + 3 * seconds)
                slipped = len(collector.deliveries) - before
            finally:
                own_rabbitmq.ctl("set_disk_free_limit", "50MB")
            leader.wait_event("broker_unblocked")
            freed_at = time.monotonic()
            gap = collector.first_after(freed_at).at - freed_at
        report = plant.settle(load.account)
        lines = [event["message"] for process, after in said.items() for event in complaints(process, after)]
    figures.say(f"{blocked['message']}; messages during the alarm {slipped}; complaints {lines}")
    plant.tell(f"disk alarm of RabbitMQ, {seconds} s", "pauses", "goes on", report, f"{gap:.1f} s")
    assert lines == [blocked["message"]]
    assert len(plant.fleet.events("leadership_gained")) == 1
    assert report.duplicates.total() == 0
    assert plant.attempts() == 0
    figures.within(5.0, [gap], "next publish after the alarm")
