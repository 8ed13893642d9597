"""Handlers that fail at random while marks are late, confirms are late and leaders die: no job is stranded.

What strands a job is a mark that meets a later version of it: the row says published, and no message of that
version was ever sent. It takes a confirm that is late and a consumer that is fast.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, LiteralString

import psycopg
import pytest
from consuming import Shop
from faults.disturbance import Disturbance
from faults.fleet import Fleet
from handling import write
from helpers import eventually
from relays import add, line, states

from outbox import events
from outbox.backoff import Backoff
from outbox.handlers import Handlers

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from databases import Database
    from faults.figures import Figures
    from processes import Processes
    from sqlalchemy.orm import Session

    from outbox.job import Job
    from relay.theatre.proxy import Proxy

KIND = "order.paid"
ATTEMPTS = 4
FAILING = 0.3
BATCH, OPEN = 50, 150
"""Few jobs are under way at a time: in a long queue no message would overtake its own confirm."""
ROWS: LiteralString = (
    """SELECT id FROM outbox.job WHERE state = 'pending' LIMIT 200 FOR NO KEY UPDATE SKIP LOCKED"""
)


@pytest.fixture
def shop(database: Database, amqp_url: str) -> Iterator[Shop]:
    made = Shop(database, amqp_url)
    yield made
    made.close()


@pytest.fixture
def between(shop: Shop, proxy: Callable[[str], Proxy]) -> Proxy:
    """A proxy between the relays and the broker."""
    return proxy(shop.broker_url)


@pytest.fixture
def fleet(shop: Shop, between: Proxy, processes: Processes) -> Fleet:
    with line(shop.broker_url) as opened:
        opened.bind("receipts", KIND, queue_type="quorum")
    return Fleet(processes, shop.database.dsn, between.url(shop.broker_url))


@pytest.fixture
def faults(shop: Shop, between: Proxy, fleet: Fleet) -> list[Callable[[threading.Event], None]]:
    """What goes wrong, each for a moment: late confirms, lost connections, locked rows, a dead leader."""

    def late_confirms(over: threading.Event) -> None:
        between.stall_replies()
        over.wait(random.uniform(0.1, 0.6))
        between.resume()

    def cut(_over: threading.Event) -> None:
        between.cut()

    def lock_rows(over: threading.Event) -> None:
        with psycopg.connect(shop.database.dsn) as session:
            session.execute(ROWS)
            over.wait(random.uniform(0.1, 0.5))
            session.rollback()

    def kill(_over: threading.Event) -> None:
        fleet.wait_leader().process.kill()
        fleet.start()

    return [*[late_confirms] * 6, *[lock_rows] * 2, cut, kill]


@pytest.mark.parametrize(
    "jobs", [1_000, pytest.param(20_000, marks=[pytest.mark.long, pytest.mark.timeout(500)])]
)
def test_every_job_ends_succeeded_or_dead(
    jobs: int,
    shop: Shop,
    fleet: Fleet,
    faults: list[Callable[[threading.Event], None]],
    figures: Figures,
) -> None:
    handlers = Handlers("receipts", session=shop.sessions)

    @handlers(KIND, backoff=Backoff.fixed(0))
    def handle(job: Job, session: Session) -> None:
        write(job, session)
        if random.random() < FAILING:
            raise RuntimeError("no")

    fleet.start(2)
    fleet.wait_leader()
    with shop.consuming(handlers):
        with Disturbance(faults, rest=0.2) as disturbance:
            for _ in range(jobs // BATCH):
                eventually(lambda: waiting(shop) <= OPEN - BATCH, 60)
                add(shop.database, BATCH, kind=KIND, max_attempts=ATTEMPTS, key=key)
            eventually(lambda: disturbance.count >= len(faults), 60)
        eventually(lambda: ended(shop), 30, every=0.1)
    found = states(shop.database)
    figures.say(f"{found}, {dict(disturbance.done)}, {told(shop)}")
    assert set(found) == {"succeeded", "dead"}
    assert shop.effects() == found["succeeded"]
    assert shop.value("SELECT count(DISTINCT job_id) FROM effect") == found["succeeded"]
    # Each failure cost one attempt, and nothing else did.
    assert shop.value("SELECT count(*) FROM outbox.job WHERE state = 'dead' AND attempt <> %s", ATTEMPTS) == 0
    assert sum(found.values()) == jobs


def key(number: int) -> str | None:
    """Give every other job a key."""
    return f"key {number}" if number % 2 else None


def waiting(shop: Shop) -> int:
    """Count the jobs that have not ended."""
    return int(shop.value("SELECT count(*) FROM outbox.job WHERE state NOT IN ('succeeded', 'dead')"))


def ended(shop: Shop) -> bool:
    found = states(shop.database)
    assert set(found) <= {"succeeded", "dead"}, found
    return True


def told(shop: Shop) -> str:
    handled = Counter(str(event.state) for event in shop.heard(events.JobHandled))
    ignored = Counter(event.result for event in shop.heard(events.MessageIgnored))
    return f"handled {dict(handled)}, ignored {dict(ignored)}"
