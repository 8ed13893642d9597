"""The broker is away, stands still, or asks publishers to pause: the relay waits, and loses nothing."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from faults.collector import Collector
from faults.fleet import Fleet, stamp
from faults.load import Load, Shape, backlog
from faults.pipeline import Pipeline
from helpers import eventually
from relays import relaying

from outbox import events
from relay.broker import Broker
from relay.routes import Routes
from relay.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from databases import Database
    from faults.figures import Figures
    from processes import Processes

    from outbox.events import Event
    from relay.sandbox import RabbitMQ
    from relay.theatre.proxy import Proxy

LOAD = Shape(rate=200)
ATTEMPTS_A_MINUTE = 12


@pytest.fixture
def pipeline(
    processes: Processes, database: Database, own_amqp_url: str, figures: Figures
) -> Iterator[Pipeline]:
    """A way for jobs over a RabbitMQ that the test may torment; one relay leads, one stands by."""
    fleet = Fleet(processes, database.dsn, own_amqp_url)
    with Collector(own_amqp_url) as collector:
        fleet.start(2)
        fleet.wait_standbys()
        yield Pipeline(database, own_amqp_url, fleet, collector, figures)


@pytest.mark.parametrize("seconds", [4, pytest.param(30, marks=pytest.mark.long)])
def test_a_blocked_broker_is_left_in_peace(seconds: int, own_rabbitmq: RabbitMQ, pipeline: Pipeline) -> None:
    leader = pipeline.fleet.wait_leader().process
    with Load(pipeline.database, LOAD) as load:
        load.wait_committed(100)
        own_rabbitmq.ctl("set_vm_memory_high_watermark", "0")
        leader.wait_event("broker_blocked")
        load.wait_committed(seconds * 180, timeout=3 * seconds)
        own_rabbitmq.ctl("set_vm_memory_high_watermark", "0.4")
        unblocked = stamp(leader.wait_event("broker_unblocked"))
        unblocked += time.monotonic() - time.time()
        gap = pipeline.collector.first_after(unblocked).at - unblocked
    pipeline.settle(load.account)
    pipeline.figures.within(5.0, [gap], "next publish after the pause")
    assert not pipeline.fleet.events("broker_lost")
    assert len(pipeline.fleet.events("leadership_gained")) == 1


@pytest.mark.parametrize("seconds", [6.0, pytest.param(15.0, marks=pytest.mark.long)])
def test_a_frozen_broker_does_not_stop_the_leader(
    seconds: float, own_rabbitmq: RabbitMQ, pipeline: Pipeline
) -> None:
    with Load(pipeline.database, LOAD) as load:
        load.wait_committed(100)
        own_rabbitmq.pause()
        silences = watch_heartbeat(pipeline.database, seconds)
        own_rabbitmq.resume()
        thawed_at = time.monotonic()
        gap = pipeline.collector.first_after(thawed_at).at - thawed_at
        load.wait_committed(100)
    pipeline.settle(load.account)
    pipeline.figures.within(8.0, [gap], "next publish after the broker has thawed")
    pipeline.figures.within(3.0, silences[-1:], "longest silence of the leader beside a frozen broker")
    assert len(pipeline.fleet.events("leadership_gained")) == 1


def test_a_broker_that_is_away_is_called_ever_more_seldom(
    amqp_url: str, proxy: Callable[[str], Proxy], clock: Clock
) -> None:
    line = proxy(amqp_url)
    line.refuse()
    waits = attempts(line.url(amqp_url), clock)
    assert min(waits[-5:]) >= 60 / ATTEMPTS_A_MINUTE
    assert sum(waits[:4]) < 5, "the first attempts come soon"


def test_a_broker_that_ends_every_connection_is_not_stormed(
    amqp_url: str, proxy: Callable[[str], Proxy], clock: Clock
) -> None:
    line = proxy(amqp_url)
    waits = attempts(line.url(amqp_url), clock, at_connect=line.cut)
    assert min(waits[-5:]) >= 60 / ATTEMPTS_A_MINUTE


@pytest.mark.long
def test_an_outage_sees_an_attempt_every_five_seconds_at_the_most(
    database: Database, amqp_url: str, proxy: Callable[[str], Proxy], figures: Figures
) -> None:
    line = proxy(amqp_url)
    with relaying(database, line.url(amqp_url)) as relay:
        relay.wait(events.BrokerConnected)
        account = backlog(database, 100)
        line.refuse()
        relay.wait(events.BrokerLost, count=5)
        before = len(relay.of(events.BrokerLost))
        threading.Event().wait(30)
        called = len(relay.of(events.BrokerLost)) - before
        figures.say(f"attempts to connect in 30 s: {called}")
        assert called <= ATTEMPTS_A_MINUTE / 2
        line.accept()
        with Collector(amqp_url) as collector:
            collector.wait_for(account.ids)
    assert database.value("SELECT max(attempt) FROM outbox.job") == 0


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give the relay's broker line a clock of the test's own."""
    made = Clock()
    monkeypatch.setattr("relay.broker.clock", made)
    return made


def attempts(broker_url: str, clock: Clock, at_connect: Callable[[], None] = lambda: None) -> list[float]:
    """Let a relay's line try to connect ten times; return the seconds that it waits after each."""
    lost: list[float] = []

    def observe(event: Event) -> None:
        if isinstance(event, events.BrokerConnected):
            at_connect()
        if isinstance(event, events.BrokerLost):
            lost.append(event.wait)

    line = Broker(broker_url, Routes("outbox", ()), Window(10, 1000), observe)

    def lost_again() -> bool:
        line.tend(lambda: None)
        return not line.live

    for _ in range(10):
        eventually(lost_again)
        clock.now += lost[-1]
    assert len(lost) == 10
    return lost


def watch_heartbeat(database: Database, seconds: float) -> list[float]:
    """Look at the leader's row for ``seconds``; return how old its heartbeat was at each look, sorted."""
    query = "SELECT extract(epoch FROM clock_timestamp() - heartbeat_at)::float8 FROM outbox.leader"
    pause, until, ages = threading.Event(), time.monotonic() + seconds, []
    while time.monotonic() < until:
        ages.append(database.value(query))
        pause.wait(0.2)
    return sorted(ages)
