"""A term's quiet hours on real servers: who has nothing to do rests, and waits within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers import eventually
from relays import Line, add, line, relaying, states

from outbox import events

if TYPE_CHECKING:
    from collections.abc import Callable

    from databases import Database

    from relay.sandbox import RabbitMQ
    from relay.theatre.proxy import Proxy


RESTING = 30
LOSSES = 3


def published(database: Database, count: int, timeout: float = 15.0) -> None:
    eventually(lambda: states(database) == {"published": count}, timeout)


def test_an_idle_relay_rests(database: Database, amqp_url: str, look: Line) -> None:
    look.bind("all")
    add(database, 10)
    with relaying(database, amqp_url) as running:
        published(database, 10)
        assert running.polls_in(2.0) < RESTING


def test_a_relay_without_its_broker_rests_although_a_destination_is_down(
    database: Database, amqp_url: str, look: Line, proxy: Callable[[str], Proxy]
) -> None:
    between = proxy(amqp_url)
    look.bind("known", "known.#")
    add(database, 10, kind="unknown.kind")
    with relaying(database, between.url(amqp_url)) as running:
        eventually(lambda: states(database) == {"parked": 10})
        between.refuse()
        running.wait(events.BrokerLost)
        assert running.polls_in(3.0) < RESTING


def test_a_relay_rests_while_a_full_queue_rests(database: Database, amqp_url: str, look: Line) -> None:
    look.bind("full", max_length=1, overflow="reject-publish")
    add(database, 100, key=lambda n: f"k{n}")
    with relaying(database, amqp_url) as running:
        # How many go out before the first no comes back is chance; after it they go one by one.
        eventually(lambda: sum(b.nacked for b in running.of(events.BatchPublished)) > 3)
        eventually(lambda: len(running.of(events.BatchPublished)) > 3)
        assert running.polls_in(2.0) < RESTING
        assert states(database)["published"] == look.depth("full"), "what was refused is published"


def test_a_rest_that_nobody_waits_for_keeps_nobody_awake(
    database: Database, amqp_url: str, look: Line
) -> None:
    look.bind("full", max_length=1, overflow="reject-publish")
    add(database, 3)
    with relaying(database, amqp_url) as running:
        eventually(lambda: running.of(events.BatchPublished) and states(database).get("published") == 1)
        eventually(lambda: sum(b.nacked for b in running.of(events.BatchPublished)) >= 2)
        database.execute(
            "UPDATE outbox.job SET state = 'cancelled', version = version + 1 WHERE state = 'pending'"
        )
        assert running.polls_in(2.0) < RESTING


def test_a_blocked_broker_is_waited_for(
    database: Database, own_amqp_url: str, own_rabbitmq: RabbitMQ
) -> None:
    with line(own_amqp_url) as look, relaying(database, own_amqp_url) as running:
        look.bind("all")
        running.wait(events.BrokerConnected)
        own_rabbitmq.ctl("set_vm_memory_high_watermark", "0")
        try:
            add(database, 2000)
            running.wait(events.BrokerBlocked)
            assert running.polls_in(3.0) < RESTING
            assert not running.of(events.LeadershipGivenUp)
        finally:
            own_rabbitmq.ctl("set_vm_memory_high_watermark", "0.4")
        running.wait(events.BrokerUnblocked)
        published(database, 2000)


def test_bytes_in_flight_are_bounded(
    database: Database, amqp_url: str, look: Line, proxy: Callable[[str], Proxy]
) -> None:
    between = proxy(amqp_url)
    look.bind("all")
    with relaying(database, between.url(amqp_url), window_bytes=100_000) as running:
        running.wait(events.BrokerConnected)
        between.stall_replies()
        add(database, 200, payload=b"x" * 10_000)
        add(database, 200, payload=b"x" * 10_000, key=lambda n: f"k{n}")
        eventually(lambda: look.depth("all") >= 8)
        running.thread.join(1.0)
        assert look.depth("all") <= 13
        between.resume()
        published(database, 400)


def test_the_window_is_never_exceeded_by_keyed_jobs(
    database: Database, amqp_url: str, look: Line, proxy: Callable[[str], Proxy]
) -> None:
    between = proxy(amqp_url)
    look.bind("all")
    with relaying(database, between.url(amqp_url), window=10) as running:
        running.wait(events.BrokerConnected)
        between.stall_replies()
        add(database, 100, key=lambda n: f"k{n}")
        eventually(lambda: look.depth("all") >= 5)
        running.thread.join(1.0)
        assert look.depth("all") <= 10
        between.resume()
        published(database, 100)


def test_a_frozen_broker_does_not_stop_the_heartbeat(
    database: Database, own_amqp_url: str, own_rabbitmq: RabbitMQ
) -> None:
    age = "SELECT extract(epoch FROM clock_timestamp() - heartbeat_at) FROM outbox.leader"
    with line(own_amqp_url) as look, relaying(database, own_amqp_url, stale=30.0) as running:
        look.bind("all")
        running.wait(events.BrokerConnected)
        add(database, 300, payload=b"x" * 50_000)
        own_rabbitmq.pause()
        oldest = [0.0] * LOSSES
        with database.connect() as watcher:
            before = len(running.of(events.BrokerLost))
            while (lost := len(running.of(events.BrokerLost)) - before) < LOSSES:
                (seconds,) = watcher.execute(age).fetchone() or (0,)
                oldest[lost] = max(oldest[lost], float(seconds))
                running.thread.join(0.05)
        own_rabbitmq.resume()
        # The middle one: a single commit that waits for a busy disk is not the broker's doing.
        assert sorted(oldest)[LOSSES // 2] < 3.5, "a step took longer than the leader may be silent"
        assert not running.of(events.LeadershipGivenUp)
        eventually(lambda: states(database) == {"published": 300}, 60)
