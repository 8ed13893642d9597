"""A connection is reset after any byte of what is said on it: nothing is lost, and each effect happens once.

What is said is recorded first, from the connection's opening to its end; then it is said again, and reset at
byte after byte, closest to one another where it ends: that is where marks and acks are said, in few bytes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from consuming import Shop
from faults.collector import Collector
from faults.effects import judge_effects
from handling import write
from helpers import eventually
from relays import Running, add, states
from sqlalchemy import NullPool, create_engine, make_url
from sqlalchemy.orm import sessionmaker

from outbox.handlers import Handlers
from relay.config import Settings
from relay.theatre.judge import Account, Written, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from uuid import UUID

    from databases import Database
    from faults.figures import Figures

    from relay.theatre.proxy import Proxy

JOBS = 5
LAST, APART = 300, 30
"""Bytes: how much of the end is swept closely, and how closely."""
pytestmark = pytest.mark.long
SWEEP = pytest.mark.parametrize(
    "places", [6, pytest.param(100, marks=[pytest.mark.exhaustive, pytest.mark.timeout(600)])]
)

SERVERS = pytest.mark.parametrize("server", ["database", "broker"])


@dataclass
class Lines:
    """The proxies between one process and its servers.

    Args:
        database: the one before the database.
        broker: the one before the broker.
        database_url: through it.
        broker_url: through it.
    """

    database: Proxy
    broker: Proxy
    database_url: str
    broker_url: str


@pytest.fixture
def lines(database: Database, amqp_url: str, proxy: Callable[[str], Proxy]) -> Lines:
    first, second = proxy(database.dsn), proxy(amqp_url)
    return Lines(first, second, first.url(database.dsn), second.url(amqp_url))


@SWEEP
@SERVERS
def test_a_relay_that_is_reset_at_any_byte(
    server: str, places: int, lines: Lines, database: Database, collector: Collector, *, figures: Figures
) -> None:
    settings = Settings(database_url=lines.database_url, broker_url=lines.broker_url)
    line: Proxy = getattr(lines, server)
    ids: list[UUID] = []

    def exchange() -> None:
        ids.extend(add(database, JOBS))
        running = Running(settings)
        try:
            eventually(lambda: running.failure or set(states(database)) == {"published"}, 30)
        finally:
            running.stop()
        assert running.failure is None, running.failure

    slowest = sweep(line, places, exchange)
    collector.wait_for(ids)
    report = judge(Account([Written(each, None) for each in ids]), collector.deliveries)
    told = f"reset {line.burnt} times"
    figures.row(f"reset at {places} bytes: relay and {server}", report, slowest, relay=told)
    assert not report.broken, report
    assert report.duplicates.total() <= JOBS * line.burnt
    assert database.value("SELECT max(attempt) FROM outbox.job") == 0


@SWEEP
@SERVERS
def test_a_consumer_that_is_reset_at_any_byte(
    server: str, places: int, lines: Lines, shop: Shop, figures: Figures
) -> None:
    line: Proxy = getattr(lines, server)
    engine = create_engine(
        make_url(lines.database_url).set(drivername="postgresql+psycopg"), poolclass=NullPool
    )
    handlers = Handlers("receipts", session=sessionmaker(engine))
    handlers("order.paid")(write)
    ids: list[UUID] = []

    def exchange() -> None:
        fresh = [shop.job() for _ in range(JOBS)]
        ids.extend(fresh)
        # One at a time: what is acknowledged before its handler has begun would be done all the same.
        with shop.consuming(handlers, broker_url=lines.broker_url, concurrency=1) as running:
            if len(ids) == JOBS:
                running.started(shop)  # the queue is there from now on
            shop.send_all(fresh)
            eventually(lambda: running.error or settled(shop), 40)
            assert running.error is None, running.error

    slowest = sweep(line, places, exchange)
    report = judge_effects(shop.database, Account([Written(each, None) for each in ids]))
    told = f"reset {line.burnt} times; effects {shop.effects()} of {len(ids)}"
    figures.row(f"reset at {places} bytes: consumer and {server}", report, slowest, consumer=told)


@pytest.fixture
def collector(amqp_url: str) -> Iterator[Collector]:
    with Collector(amqp_url) as made:
        yield made


@pytest.fixture
def shop(database: Database, amqp_url: str) -> Iterator[Shop]:
    made = Shop(database, amqp_url)
    yield made
    made.close()


def settled(shop: Shop) -> bool:
    """Whether every job is done, and every message acked."""
    waiting = shop.value("SELECT count(*) FROM outbox.job WHERE state <> 'succeeded'")
    return not waiting and shop.ready() == 0


def sweep(line: Proxy, places: int, exchange: Callable[[], None]) -> float:
    """Record an exchange, repeat it with a reset at so many places, and return how long the longest took."""
    exchange()  # whatever is declared by the first one alone
    before = line.passed
    exchange()
    length = line.passed - before
    slowest = reset_at(line, [1 + place * length // places for place in range(places)], exchange)
    assert line.burnt >= places * 0.7, f"only {line.burnt} of {places} exchanges came as far as their reset"
    return max(slowest, reset_at(line, range(length - LAST, length, APART), exchange))


def reset_at(line: Proxy, places: Iterable[int], exchange: Callable[[], None]) -> float:
    """Repeat an exchange with a reset at each of these bytes, and return how long the longest took."""
    slowest = 0.0
    for place in places:
        line.cut_after(place)
        began = time.monotonic()
        exchange()
        slowest = max(slowest, time.monotonic() - began)
    return slowest
