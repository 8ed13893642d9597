"""PostgreSQL has no connection left: who has one goes on, who has none waits until there is room."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from crowds import Crowd, narrow, turned_away
from faults.collector import Collector
from faults.load import Load, Shape
from faults.plant import Plant, at_most, complaints, last, marked
from helpers import eventually
from roles import role
from sqlalchemy import make_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database
    from faults.figures import Figures
    from processes import Process, Processes

    from relay.sandbox import Postgres

CONNECTIONS = 40
IN = {"standing_by", "leadership_gained"}
"""What a relay says that has a session."""


@pytest.fixture
def plant(
    processes: Processes, own_postgres: Postgres, own_database: Database, amqp_url: str, figures: Figures
) -> Iterator[Plant]:
    """Relays and a consumer whose roles are nobody special, on a server with few connections."""
    narrow(own_postgres, CONNECTIONS)
    with (
        role(own_database, "relay", name="relay") as relay,
        role(own_database, "consumer", name="consumer") as consumer,
        Collector(amqp_url) as collector,
    ):
        logins = {
            "relay_database": make_url(relay.url("psycopg"))
            .set(drivername="postgresql")
            .render_as_string(hide_password=False),
            "consumer_database": consumer.url("psycopg"),
        }
        made = Plant(processes, own_database, amqp_url, collector, figures, logins=logins)
        own_database.execute("GRANT SELECT, INSERT ON public.effect TO PUBLIC")
        yield made
        processes.close()  # a role whose sessions are at work cannot be dropped


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.exhaustive)])
def test_a_server_without_connections_keeps_its_leader_and_lets_others_wait(
    seconds: int, plant: Plant, own_postgres: Postgres
) -> None:
    plant.start(2)
    with Load(plant.database, Shape(rate=200)) as load:
        load.wait_committed(300)
        old = plant.fleet.wait_leader()
        with Crowd(plant.database) as crowd:
            said = marked(plant.alive)
            plant.fleet.start(1)
            late_relay, late_consumer = plant.fleet.relays[-1], plant.consume()
            for process, event in ((late_relay, "database_lost"), (late_consumer, "consumer_lost")):
                assert "connection slots" in process.wait_event(event)["reason"]
            goes_on(plant, old.process, seconds / 2)
            second = ends(plant, old.term)
            crowd.press()
            nobody_leads(plant, seconds / 2, crowd)
            crowd.leave()
            free_at = time.time()
            third = plant.fleet.wait_leader(after=second)
        eventually(lambda: IN & {event["event"] for event in list(late_relay.events)})
        late_consumer.wait_event("consumer_started")
        load.wait_committed(100)
    report = plant.settle(load.account)
    calm(plant, said, seconds, own_postgres)
    gap = third.since - free_at
    plant.tell(
        f"max_connections used up, {seconds} s",
        "leader goes on; others wait",
        "waits",
        report,
        f"{gap:.1f} s",
    )
    plant.figures.within(7.0, [gap], "one leads after there is room")
    assert plant.attempts() == 0


def goes_on(plant: Plant, leader: Process, seconds: float) -> None:
    """See that who leads goes on leading and publishing while nobody else gets in."""
    last(seconds)
    plant.collector.first_after(time.monotonic())
    assert not [event for event in leader.events if event["event"] == "leadership_given_up"]
    assert len(plant.fleet.events("leadership_gained")) == 1


def ends(plant: Plant, term: int) -> int:
    """End the leader's session: the standby, which has one, leads. Return its term."""
    (leader,) = plant.database.execute("SELECT pid FROM outbox.leader")[0]
    plant.database.execute("SELECT pg_terminate_backend(%s, 2000)", leader)
    return plant.fleet.wait_leader(after=term).term


def nobody_leads(plant: Plant, seconds: float, crowd: Crowd) -> None:
    """End that session too; nobody has one, and everybody waits."""
    (leader,) = plant.database.execute("SELECT pid FROM outbox.leader")[0]
    plant.database.execute("SELECT pg_terminate_backend(%s, 2000)", leader)
    crowd.press()
    before = len(plant.fleet.events("leadership_gained"))
    last(seconds)
    assert len(plant.fleet.events("leadership_gained")) == before
    for relay in plant.fleet.relays:
        relay.wait_event("database_lost")


def calm(plant: Plant, said: dict[Process, int], seconds: float, server: Postgres) -> None:
    """See that waiting was no storm, neither in the logs of ours nor in the server's."""
    counts = [len(complaints(process, said.get(process, 0))) for process in plant.alive]
    knocks = {name.partition("_")[0]: count for name, count in turned_away(server).items()}
    plant.figures.say(f"complaints of each process {counts}; refused by the server's log {knocks}")
    assert max(counts) <= at_most(seconds) + 5, counts
    relays = len(plant.fleet.relays)
    assert 0 < knocks["relay"] <= relays * (at_most(seconds) + 5)
