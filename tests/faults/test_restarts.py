"""PostgreSQL and the broker crash under load, again and again: both are found again, and nothing is lost."""

from __future__ import annotations

import os
import random
import threading
import time
from signal import SIGSTOP
from typing import TYPE_CHECKING

import pytest
from brokers import crash_proof
from faults.collector import Collector
from faults.fleet import Fleet
from faults.load import Load, Shape
from faults.pipeline import Pipeline
from helpers import eventually

from relay.config import Settings
from relay.loop import Relay
from relay.theatre.judge import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from databases import Database
    from faults.figures import Figures
    from processes import Processes

    from relay.sandbox import Postgres, RabbitMQ
    from relay.theatre.judge import Account
    from relay.theatre.proxy import Proxy

LOAD = Shape(rate=500)
WITHOUT_BROKER = Shape(rate=150)
"""It goes on while a broker starts, 20 s on a busy machine; its 16 keys are then caught up job by job."""
TAPE = "tape"
"""A queue that nobody takes from while the broker crashes: it tells what was sent, and in which order."""


@pytest.fixture
def on_own_postgres(
    processes: Processes, own_database: Database, amqp_url: str, figures: Figures
) -> Iterator[Pipeline]:
    fleet = Fleet(processes, own_database.dsn, amqp_url)
    with Collector(amqp_url) as collector:
        yield Pipeline(own_database, amqp_url, fleet, collector, figures)


@pytest.fixture
def on_own_rabbitmq(
    processes: Processes, database: Database, own_rabbitmq: RabbitMQ, own_amqp_url: str, figures: Figures
) -> Iterator[Pipeline]:
    fleet = Fleet(processes, database.dsn, own_amqp_url)
    with Collector(own_amqp_url, TAPE):
        crash_proof(own_rabbitmq, own_amqp_url, TAPE)
    with Collector(own_amqp_url) as collector:
        crash_proof(own_rabbitmq, own_amqp_url, collector.queue)
        yield Pipeline(database, own_amqp_url, fleet, collector, figures)


@pytest.mark.parametrize("crashes", [2, pytest.param(10, marks=pytest.mark.long)])
def test_crashes_of_the_database_lose_nothing(
    crashes: int, own_postgres: Postgres, on_own_postgres: Pipeline
) -> None:
    pipeline, gaps = on_own_postgres, []
    pipeline.fleet.start(2)
    with Load(pipeline.database, LOAD) as load:
        for _ in range(crashes):
            term = pipeline.fleet.wait_leader().term
            in_full_flight(pipeline, load)
            own_postgres.restart("immediate")
            back_at = time.monotonic()
            gaps.append(pipeline.collector.first_of(term + 1).at - back_at)
    pipeline.settle(load.account)
    pipeline.figures.within(5.0, gaps, "next publish after the database is back")
    assert all(relay.running for relay in pipeline.fleet.relays)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("crashes", [1, pytest.param(10, marks=pytest.mark.long)])
def test_crashes_of_the_broker_lose_nothing(
    crashes: int, own_rabbitmq: RabbitMQ, on_own_rabbitmq: Pipeline
) -> None:
    pipeline, gaps = on_own_rabbitmq, []
    pipeline.fleet.start(2)
    with Load(pipeline.database, WITHOUT_BROKER) as load:
        for _ in range(crashes):
            in_full_flight(pipeline, load)
            own_rabbitmq.restart("immediate")
            back_at = time.monotonic()
            gaps.append(pipeline.collector.first_after(back_at).at - back_at)
    pipeline.settle(load.account, timeout=120)
    check_tape(pipeline, load.account)
    pipeline.figures.within(7.0, gaps, "next publish after the broker is back")
    assert all(relay.running for relay in pipeline.fleet.relays)


def check_tape(pipeline: Pipeline, account: Account) -> None:
    """Hold what was sent against the account: here the broker repeats nothing, and hides nothing."""
    with Collector(pipeline.broker_url, TAPE) as tape:
        tape.wait_for(account.ids)
    report = judge(account, tape.deliveries)
    pipeline.figures.say(f"the tape: {report}")
    assert not report.repeated
    assert not report.broken, report


def in_full_flight(pipeline: Pipeline, load: Load) -> None:
    """Wait until the relay works through more than a window."""
    load.wait_committed(200)
    before = len(pipeline.collector.deliveries)
    load.burst(2000)
    pipeline.collector.wait_count(before + random.randint(100, 1500))


def test_nothing_is_published_that_a_crash_may_take_back(
    own_postgres: Postgres, on_own_postgres: Pipeline, amqp_url: str, proxy: Callable[[str], Proxy]
) -> None:
    """With synchronous_commit off a job is read before it is on disk: the relay flushes, and then sends."""
    pipeline, line = on_own_postgres, proxy(amqp_url)
    # Nothing flushes now but what a commit, or the relay, waits for.
    os.kill(
        pipeline.database.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"), SIGSTOP
    )
    relay = Relay(patient(pipeline.database, line.url(amqp_url)))
    thread = threading.Thread(target=relay.run, daemon=True)
    thread.start()
    eventually(lambda: relay.leading and relay.broker_live)
    line.stall_replies()  # no confirm, so no mark, whose commit would flush what was read
    with Load(pipeline.database, Shape(rate=2000, options="-c synchronous_commit=off")):
        pipeline.collector.wait_count(200)
        own_postgres.kill()
    own_postgres.start()
    relay.stop()
    line.resume()
    thread.join(20)
    kept = {row[0] for row in pipeline.database.execute("SELECT id FROM outbox.job")}
    seen = pipeline.collector.seen
    pipeline.figures.say(f"messages {len(seen)}, of jobs that the crash took back {len(seen - kept)}")
    assert seen <= kept
    assert not thread.is_alive()


def patient(database: Database, broker_url: str) -> Settings:
    """A relay whose heartbeats, which flush too, are rare."""
    return Settings(database_url=database.dsn, broker_url=broker_url, heartbeat=10.0, stale=60.0)
