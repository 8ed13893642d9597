"""Jobs that share a key are first delivered in the order they were added, whatever goes wrong in between."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING, LiteralString

import pytest
from consuming import Shop
from faults.collector import Collector
from faults.disturbance import Disturbance
from faults.fleet import Fleet
from faults.pipeline import Pipeline
from helpers import eventually
from relays import line, relaying

from outbox.backoff import Backoff
from outbox.handlers import Handlers
from relay.theatre.judge import Account, Written, judge

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from databases import Database
    from faults.disturbance import Fault
    from faults.figures import Figures
    from processes import Processes
    from sqlalchemy.orm import Session

    from outbox.job import Job
    from relay.theatre.proxy import Proxy

STEADY, WANDERING = "steady", "wandering"
KINDS = [STEADY, WANDERING]
MOST, PREFETCH = 100, 100
FULL = {"x-queue-type": "classic", "x-max-length": MOST, "x-overflow": "reject-publish"}
INSERT = """INSERT INTO outbox.job (id, kind, key, payload)
    SELECT gen_random_uuid(), (%s::text[])[1 + floor(random() * 2)::int], 'key ' || n, '{}'
    FROM generate_series(1, %s) n RETURNING id, key"""
ENDED: LiteralString = "SELECT count(*) FROM outbox.job WHERE state IN ('succeeded', 'dead')"


@pytest.fixture
def far(amqp_url: str, proxy: Callable[[str], Proxy]) -> str:
    """Return the broker's address by a way on which confirms are late: much is in flight at any moment."""
    between = proxy(amqp_url)
    between.delay(0.02)
    return between.url(amqp_url)


@pytest.fixture
def pipeline(
    processes: Processes, database: Database, amqp_url: str, far: str, figures: Figures
) -> Iterator[Pipeline]:
    """One queue for all jobs: their order of arrival is the broker's. It says no while it is full."""
    fleet = Fleet(processes, database.dsn, far)
    with Collector(amqp_url, kinds=KINDS, prefetch=PREFETCH, arguments=FULL) as collector:
        yield Pipeline(database, amqp_url, fleet, collector, figures)


class Faults:
    """What goes wrong, each for a moment: a full queue, a kind with nothing bound, a dead leader."""

    def __init__(self, amqp_url: str, pipeline: Pipeline) -> None:
        self._amqp_url, self._pipeline = amqp_url, pipeline
        self.at_work = 0
        """How many have begun to bite: what is committed now meets the latest one."""
        self.all: list[Fault] = [self.nack, self.give_back, self.kill]

    def nack(self, over: threading.Event) -> None:
        """Keep the queue full."""
        self._pipeline.collector.pause()
        self.at_work += 1
        with line(self._amqp_url) as opened, suppress(AssertionError):
            eventually(lambda: opened.depth("collected") >= MOST or over.is_set(), 2)
            over.wait(random.uniform(0.1, 0.4))  # all that is sent now is refused
        self._pipeline.collector.resume()

    def give_back(self, over: threading.Event) -> None:
        """Bind nothing to one kind, until jobs were parked for it."""
        before = self._parked()
        with line(self._amqp_url) as opened:
            opened.channel.queue_unbind("collected", "outbox", WANDERING)
            self.at_work += 1
            with suppress(AssertionError):
                eventually(lambda: self._parked() > before or over.is_set(), 20)
            over.wait(random.uniform(0.1, 0.4))
            opened.channel.queue_bind("collected", "outbox", WANDERING)

    def kill(self, _over: threading.Event) -> None:
        """Kill the leader, and start another relay."""
        self.at_work += 1
        self._pipeline.fleet.wait_leader().process.kill()
        self._pipeline.fleet.start()

    def _parked(self) -> int:
        return len(list(self._pipeline.fleet.events("jobs_parked")))


@pytest.fixture
def faults(amqp_url: str, pipeline: Pipeline) -> Faults:
    return Faults(amqp_url, pipeline)


@pytest.mark.parametrize(
    ("keys", "each", "rounds"),
    [(100, 20, 1), pytest.param(1_000, 50, 10, marks=[pytest.mark.long, pytest.mark.timeout(400)])],
)
def test_first_deliveries_of_each_key_are_in_order(
    keys: int, each: int, rounds: int, pipeline: Pipeline, faults: Faults
) -> None:
    pipeline.fleet.start(2)
    pipeline.fleet.wait_leader()
    pipeline.fleet.wait_standbys()
    account = Account()
    with Disturbance(faults.all) as disturbance:
        for n in range(each):
            # Just as a fault bites: an idle relay would not notice it.
            eventually(lambda n=n: faults.at_work > rounds * len(faults.all) * n // each, 60)
            add_round(pipeline.database, account, keys)
    pipeline.collector.wait_for(account.ids, 100)
    report = judge(account, pipeline.collector.deliveries)
    parked = sum(event["count"] for event in pipeline.fleet.events("jobs_parked"))
    pipeline.figures.say(f"{report}; {dict(disturbance.done)}, {parked} parked")
    assert len(account.ids) == keys * each
    assert parked
    assert not report.broken, report


def add_round(database: Database, account: Account, keys: int) -> None:
    """Commit one more job of every key, of either kind."""
    rows = database.execute(INSERT, KINDS, keys)
    account.committed.extend(Written(*row) for row in rows)


# --- the other ways to order ---


def test_pipelined_keeps_the_order_where_nothing_goes_wrong(
    database: Database, amqp_url: str, far: str, figures: Figures
) -> None:
    account = Account()
    for _ in range(50):
        add_round(database, account, keys=40)
    with Collector(amqp_url) as collector, relaying(database, far, order="pipelined", window=500):
        collector.wait_for(account.ids)
    report = judge(account, collector.deliveries)
    figures.say(report)
    assert not report.broken, report
    assert not report.duplicates, report


def test_serial_sends_the_next_of_a_key_when_the_one_before_is_final(
    database: Database, amqp_url: str, figures: Figures
) -> None:
    """A second queue sees when a job is sent: never while an earlier one of its key is at work or waits."""
    shop, account = Shop(database, amqp_url), Account()
    handlers = Handlers("receipts", session=shop.sessions)
    early: list[UUID] = []
    tries: list[UUID] = []
    for _ in range(4):
        add_round(database, account, keys=16)
    later = successors(account)

    def handle(job: Job, session: Session) -> None:
        tries.append(job.id)
        session.connection()
        early.extend(later[job.id] & collector.seen)
        if random.random() < 0.3:
            raise RuntimeError("no")

    for kind in KINDS:
        handlers(kind, backoff=Backoff.fixed(0))(handle)
    with Collector(amqp_url) as collector, shop.consuming(handlers) as running:
        running.started(shop)
        with relaying(database, amqp_url, order="serial"):
            eventually(lambda: shop.value(ENDED) == len(account.ids), 60, every=0.05)
    report = judge(account, collector.deliveries)
    figures.say(f"{len(account.ids)} jobs, {len(tries)} tries, {len(early)} sent early")
    assert not early
    assert not report.disordered, report
    assert len(tries) > len(account.ids)
    shop.close()


def successors(account: Account) -> dict[UUID, set[UUID]]:
    """Return, for each job, the later ones of its key."""
    found: dict[UUID, set[UUID]] = {}
    behind: dict[str | None, set[UUID]] = {}
    for id_, key, *_ in reversed(account.committed):
        found[id_] = set(behind.setdefault(key, set()))
        behind[key].add(id_)
    return found
