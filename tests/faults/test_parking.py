"""A destination that takes nothing: its jobs are set aside and come back by themselves; all others flow."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import amqp
import kombu
import pytest
import relays
from faults.collector import Collector
from faults.fleet import Fleet
from faults.load import KIND, Load, Shape
from helpers import eventually

from outbox import events
from relay.theatre.judge import judge

if TYPE_CHECKING:
    from databases import Database
    from faults.figures import Figures
    from processes import Processes

NOWHERE = "nowhere.bound"


def parked(database: Database) -> int:
    return relays.states(database).get("parked", 0)


def test_jobs_with_nowhere_to_go_are_parked_and_return_in_order_with_no_command(
    database: Database, amqp_url: str
) -> None:
    ids = relays.add(database, 300, kind=NOWHERE)
    with relays.line(amqp_url) as line, relays.relaying(database, amqp_url) as relay:
        eventually(lambda: parked(database) == 300)
        down = relay.wait(events.DestinationDown)
        assert (down.destination, "NO_ROUTE" in down.reason) == (NOWHERE, True)
        line.bind("late", NOWHERE)
        database.execute("SELECT pg_notify('outbox', 'bound')")
        eventually(lambda: relays.states(database) == {"published": 300})
        assert relays.ids_of(line.take("late")) == ids
        assert relay.of(events.DestinationUp)


def test_a_probe_finds_a_queue_that_nobody_announced(database: Database, amqp_url: str) -> None:
    relays.add(database, 3, kind=NOWHERE)
    with relays.line(amqp_url) as line, relays.relaying(database, amqp_url):
        eventually(lambda: parked(database) == 3)
        line.bind("late", NOWHERE)
        eventually(lambda: line.depth("late") == 3)


def test_a_parked_job_holds_the_later_ones_of_its_key_and_nobody_else(
    database: Database, amqp_url: str
) -> None:
    kinds = [NOWHERE, "a.b", "a.b"]
    first = relays.add(database, 3, kind=kinds.__getitem__, key="k")
    with relays.line(amqp_url) as line:
        line.bind("open", "a.b")
        with relays.relaying(database, amqp_url):
            others = relays.add(database, 5, kind="a.b", key=lambda n: f"other-{n}")
            eventually(lambda: line.depth("open") == 5)
            assert set(relays.ids_of(line.take("open"))) == set(others)
            eventually(lambda: relays.states(database) == {"parked": 1, "pending": 2, "published": 5})
            line.bind("late", NOWHERE)
            database.execute("SELECT pg_notify('outbox', 'bound')")
            eventually(lambda: relays.states(database) == {"published": 8})
            assert relays.ids_of(line.take("late")) == first[:1]
            assert relays.ids_of(line.take("open")) == first[1:]


@pytest.mark.long
def test_a_queue_that_is_deleted_under_load_costs_no_job(
    processes: Processes, database: Database, amqp_url: str, figures: Figures
) -> None:
    """A classic queue, because only one of those can be deleted just when nothing in it goes with it."""
    fleet, classic = Fleet(processes, database.dsn, amqp_url), {"x-queue-type": "classic"}
    fleet.start()
    with relays.line(amqp_url) as line, Collector(amqp_url, "doomed", arguments=classic) as collector:
        leader = fleet.wait_leader().process
        with Load(database, Shape(rate=500)) as load:
            collector.wait_count(500)
            collector.pause()  # it takes on what is on its way, and declares no queue when this one is gone
            deleted_at = time.monotonic()
            eventually(lambda: deleted(line, "doomed"))
            assert "NO_ROUTE" in leader.wait_event("destination_down", destination=KIND)["reason"]
            told_in = time.monotonic() - deleted_at
            load.wait_committed(500)
            eventually(lambda: parked(database) > 200)
            collector.resume()
            back_at = time.monotonic()
            leader.wait_event("destination_up", destination=KIND)
            back_in = time.monotonic() - back_at
            load.wait_committed(200)
        collector.wait_for(load.account.ids)
        eventually(lambda: set(relays.states(database)) == {"published"})
        report = judge(load.account, collector.deliveries)
    figures.say(report)
    figures.say(f"told after {told_in:.2f} s, back {back_in:.2f} s after the queue, parked {moves(database)}")
    assert not report.broken, report
    assert not report.duplicates
    assert not fleet.events("broker_lost")
    assert told_in < 10


def deleted(line: relays.Line, queue: str) -> bool:
    """Delete a queue if nothing is in it."""
    try:
        line.channel.queue_delete(queue, if_empty=True)
    except amqp.PreconditionFailed:
        line.channel = line._connection.channel()
        return False
    return True


def moves(database: Database) -> int:
    """Count how many jobs were parked."""
    return int(database.value("SELECT count(*) FROM outbox.transition WHERE \"to\" = 'parked'"))


def test_a_missing_exchange_parks_and_buries_nothing(database: Database, amqp_url: str) -> None:
    lost = relays.add(database, 20, kind="to.nothing", exchange="not.there", routing_key="r")
    relays.add(database, 200)
    with relays.line(amqp_url) as line:
        line.bind("open", "a.b")
        with relays.relaying(database, amqp_url):
            eventually(lambda: relays.states(database) == {"parked": 20, "published": 200})
            line.bind("late", "r", exchange="not.there")
            eventually(lambda: relays.states(database) == {"published": 220}, timeout=20)
            assert relays.ids_of(line.take("late")) == lost


def test_on_a_virtual_transport_an_unbound_kind_is_parked_too(database: Database, redis_url: str) -> None:
    ids = relays.add(database, 20, kind=NOWHERE)
    with relays.relaying(database, redis_url), kombu.Connection(redis_url) as connection:
        eventually(lambda: parked(database) == 20)
        channel = connection.channel()
        exchange = kombu.Exchange("outbox", "topic", durable=True)
        queue = kombu.Queue("late", exchange, routing_key=NOWHERE)(channel)
        queue.declare()
        database.execute("SELECT pg_notify('outbox', 'bound')")
        eventually(lambda: relays.states(database) == {"published": 20})
        taken = [queue.get(no_ack=True) for _ in ids]
        assert [message.properties["message_id"] for message in taken] == [str(each) for each in ids]


@pytest.mark.measured
@pytest.mark.parametrize("waiting", [5_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_parked_jobs_cost_the_others_no_speed(
    database: Database, amqp_url: str, waiting: int, figures: Figures
) -> None:
    """One run, before and after: a rate here means little, their ratio much."""
    count = max(2_000, waiting // 5)

    def rate() -> float:
        began = time.monotonic()
        relays.add(database, count)
        eventually(lambda: relays.states(database).get("pending", 0) == 0, timeout=60)
        return count / (time.monotonic() - began)

    with relays.line(amqp_url) as line:
        line.bind("open", "a.b")
        with relays.relaying(database, amqp_url, window=500) as relay:
            relay.wait(events.BrokerConnected)
            rate()
            before = max(rate() for _ in range(2))
            database.execute(
                "INSERT INTO outbox.job (id, kind, payload) "
                "SELECT gen_random_uuid(), 'nowhere.bound', '\\x7b7d' FROM generate_series(1, %s)",
                waiting,
            )
            eventually(lambda: parked(database) == waiting, timeout=110)
            after = max(rate() for _ in range(2))
        assert parked(database) == waiting
        figures.say(f"{waiting} parked: the others at {after / before:.2f} of their speed")
        assert after > 0.6 * before


def test_an_event_that_was_parked_comes_back_flagged(database: Database, amqp_url: str) -> None:
    """It has no version on the wire, and a leader that died may have sent it before it was parked."""
    relays.add(database, kind=NOWHERE, tracked=False)
    with relays.line(amqp_url) as line, relays.relaying(database, amqp_url):
        eventually(lambda: parked(database) == 1)
        line.bind("late", NOWHERE)
        database.execute("SELECT pg_notify('outbox', 'bound')")
        eventually(lambda: line.depth("late") == 1)
        (message,) = line.take("late")
    assert message.headers["x-outbox-possible-duplicate"] is True
