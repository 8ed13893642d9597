"""The network loses every packet between two of three, and tells nobody: half-open connections.

The relay or the consumer is in a network namespace; all faults are made on the one line that leads there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from consuming import Shop
from faults.effects import judge_effects
from faults.load import Load, Shape
from helpers import eventually

from outbox.database import LOCK_CLASS, LOCK_LEADER
from relay.theatre.judge import Account, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from databases import Database
    from faults.figures import Figures
    from faults.namespaces import Namespace
    from faults.pipeline import Pipeline
    from processes import Process, Processes

APP = Path(__file__).with_name("consumer_app.py")
LOAD = Shape(rate=300)
WINDOW = 1000
LOCK_FREE = 30.0
JOBS, IN_HAND = 60, 8
QUICK = "?connect_timeout=2&tcp_user_timeout=3000&keepalives_idle=1&keepalives_interval=1&keepalives_count=2"
"""What an application's engine needs to miss a silent server within seconds; without, it takes hours."""
SILENT = [("both", 1.0), ("both", 10.0), ("broker", 10.0), ("database", 10.0)]
"""Which servers do not hear the consumer any more, and the seconds between its heartbeats to the broker."""


@pytest.mark.long
@pytest.mark.parametrize(
    ("heartbeat", "stale"), [(0.2, 4.0), pytest.param(1.0, 8.0, marks=pytest.mark.exhaustive)]
)
def test_a_leader_that_the_database_does_not_hear_is_replaced(
    heartbeat: float, stale: float, network: Namespace, across: Pipeline
) -> None:
    """It still reaches the broker: that is what must not be used."""
    fleet, timing = across.fleet, ("--heartbeat", str(heartbeat), "--stale", str(stale))
    fleet.start(1, *timing, through=network.enter())
    old = fleet.wait_leader()
    fleet.start(1, *timing)
    fleet.wait_standbys()
    with Load(across.database, LOAD) as load:
        in_full_flight(across, load)
        network.sever(across.database.dsn)
        cut, cut_at = time.monotonic(), time.time()
        new = fleet.wait_leader(after=old.term, timeout=stale + 20)
        first = across.collector.first_of(new.term)
        old.process.wait_event("leadership_given_up", term=old.term)
        load.wait_committed(300)
        told = len(old.process.events)
        network.heal()
        old.process.wait_event("standing_by", after=told)
        load.wait_committed(300)
    report = across.settle(load.account)
    theirs = [delivery.at for delivery in across.collector.deliveries if delivery.term == old.term]
    assert not [at for at in theirs if at > first.at], "messages of the old term after the first of the new"
    across.figures.within(stale, [max(theirs) - cut], "the old leader publishes for")
    across.figures.within(stale + 1, [new.since - cut_at], "another one leads after")
    told_of = "dropped: leader and database"
    across.figures.row(told_of, report, first.at - cut, relay="a standby leads, the old one stands by")
    assert report.duplicates.total() <= WINDOW


@pytest.mark.exhaustive
def test_a_lock_whose_holder_is_not_heard_gets_free(network: Namespace, across: Pipeline) -> None:
    """With nobody to end the silent session, PostgreSQL itself has to miss it."""
    across.fleet.start(1, through=network.enter())
    old = across.fleet.wait_leader()
    with Load(across.database, LOAD) as load:
        in_full_flight(across, load)
        network.sever(across.database.dsn)
        cut = time.monotonic()
        eventually(lambda: not held(across.database), LOCK_FREE + 15, every=0.1)
        across.figures.within(LOCK_FREE, [time.monotonic() - cut], "the lock is free after")
        network.heal()
        healed = time.monotonic()
        new = across.fleet.wait_leader(after=old.term)
        recovery = across.collector.first_of(new.term).at - healed
        load.wait_committed(100)
    report = across.settle(load.account, timeout=60)
    across.figures.row("dropped: the only leader and database", report, recovery, relay="leads again")
    assert report.duplicates.total() <= WINDOW


@pytest.mark.exhaustive
@pytest.mark.parametrize("standbys", [0, 1])
def test_a_leader_that_the_broker_does_not_hear_notices_it(
    standbys: int, network: Namespace, across: Pipeline
) -> None:
    """It goes on when the line does; a standby that reaches the broker leads meanwhile."""
    fleet = across.fleet
    fleet.start(1, through=network.enter())
    old = fleet.wait_leader()
    fleet.start(standbys)
    fleet.wait_standbys(standbys)
    with Load(across.database, LOAD) as load:
        in_full_flight(across, load)
        network.sever(across.broker_url)
        cut = time.monotonic()
        lost = old.process.wait_event("broker_lost", timeout=30)
        noticed = time.monotonic() - cut
        if standbys:
            recovery = across.collector.first_of(old.term + 1).at - cut
        network.heal()
        healed = time.monotonic()
        if not standbys:
            recovery = across.collector.first_after(healed).at - healed
        load.wait_committed(100)
    report = across.settle(load.account, timeout=60)
    across.figures.within(21.0, [noticed], "noticed after")
    did = "a standby leads" if standbys else "connects again"
    across.figures.row(f"dropped: leader and broker, {standbys} standbys", report, recovery, relay=did)
    assert report.duplicates.total() <= lost["unknown"] <= WINDOW
    assert len(fleet.events("leadership_gained")) == 1 + standbys


@pytest.fixture
def shop(database: Database, amqp_url: str) -> Iterator[Shop]:
    made = Shop(database, amqp_url)
    yield made
    made.close()


@pytest.fixture
def consumer(shop: Shop, network: Namespace, processes: Processes) -> Callable[..., Process]:
    """Return what starts a consumer, in the namespace or beside it."""

    def start(heartbeat: float, *through: str) -> Process:
        env = {
            "DATABASE_URL": network.to(shop.database.url) + QUICK,
            "BROKER_URL": network.to(shop.broker_url),
            "HEARTBEAT": str(heartbeat),
        }
        started = processes.start(*through, sys.executable, APP, env=env)
        started.wait_event("consumer_started")
        return started

    return start


@pytest.mark.exhaustive
@pytest.mark.parametrize(("severed", "heartbeat"), SILENT)
def test_a_consumer_that_is_not_heard_is_stood_in_for(
    severed: str,
    heartbeat: float,
    shop: Shop,
    network: Namespace,
    consumer: Callable[..., Process],
    *,
    figures: Figures,
) -> None:
    """Whatever it had in hand is done by another one, or by itself later; once in any case."""
    servers = ("database", "broker") if severed == "both" else (severed,)
    lines = {"database": shop.database.dsn, "broker": shop.broker_url}
    silent = consumer(heartbeat, *network.enter())
    ids = [shop.job(payload={"sleep": 0.3}) for _ in range(JOBS)]
    shop.send_all(ids)
    eventually(lambda: shop.effects() >= 4)
    consumer(heartbeat)
    network.sever(*(lines[server] for server in servers))
    cut = time.monotonic()
    # Where the broker hears it, its acks are waited for.
    eventually(lambda: done(shop) >= JOBS - (IN_HAND if severed == "database" else 0), 60, every=0.1)
    others = time.monotonic() - cut
    for server in servers:
        silent.wait_event("consumer_lost", server=server, timeout=30)
    network.heal()
    healed = time.monotonic()
    eventually(lambda: done(shop) == JOBS and shop.ready() == 0, 30, every=0.1)
    recovery = time.monotonic() - healed if severed == "database" else others
    report = judge_effects(shop.database, Account([Written(each, None) for each in ids]))
    did = f"others had done theirs after {others:.1f} s; effects {shop.effects()} of {JOBS}"
    figures.row(f"dropped: consumer and {severed}, heartbeat {heartbeat:g} s", report, recovery, consumer=did)
    assert silent.running


def in_full_flight(pipeline: Pipeline, load: Load) -> None:
    """Wait until the leader works through more than a window."""
    load.wait_committed(100)
    before = len(pipeline.collector.deliveries)
    load.burst(3000)
    pipeline.collector.wait_count(before + 500)


def held(database: Database) -> bool:
    """Whether anybody has the leader's lock."""
    return bool(
        database.value(
            """SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
               WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
                 AND l.classid = %s AND l.objid = %s AND d.datname = current_database()""",
            LOCK_CLASS,
            LOCK_LEADER,
        )
    )


def done(shop: Shop) -> int:
    return int(shop.value("SELECT count(*) FROM outbox.job WHERE state = 'succeeded'"))
