"""A handler whose transaction is open for long: nobody waits for it, neither relay nor application."""

from __future__ import annotations

import statistics
import threading
import time
from typing import TYPE_CHECKING, LiteralString, NamedTuple, TypeVar

import pytest
from consuming import Shop
from faults.load import KIND, Load, Shape
from handling import write
from helpers import eventually
from sqlalchemy import text
from sqlalchemy.orm import Session

import outbox
from outbox import events
from outbox.handlers import Handlers
from relay.theatre.judge import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from faults.pipeline import Pipeline

    from outbox.job import Job

T = TypeVar("T")

SLOW = "report.due"
AT_ONCE = 0.5
NOISE = 0.1
"""Seconds: less than that, a p99 tells of this machine's other work."""
PARTS = 4
"""A stretch of time is judged by the median of its parts: one stall of the machine does not decide."""
IMPATIENT = text("SET LOCAL lock_timeout = '5s'")
CREATED: LiteralString = """SELECT id, extract(epoch FROM created_at) FROM outbox.job
    WHERE kind = %s AND extract(epoch FROM created_at) BETWEEN %s AND %s"""


class Slow:
    """A consumer with a handler that writes, and then waits until it is let go."""

    def __init__(self, shop: Shop) -> None:
        self.inside, self.release = threading.Event(), threading.Event()
        self.handlers = Handlers("reports", session=shop.sessions)
        self.handlers(SLOW)(self._handle)

    def _handle(self, job: Job, session: Session) -> None:
        write(job, session)
        session.flush()
        if job.payload["slow"]:
            self.inside.set()
            assert self.release.wait(100)


class Moment(NamedTuple):
    """How long jobs took from their INSERT to their arrival, in seconds: the median of the parts' p99."""

    count: int
    p99: float


@pytest.fixture
def shop(pipeline: Pipeline) -> Iterator[Shop]:
    made = Shop(pipeline.database, pipeline.broker_url)
    yield made
    made.close()


@pytest.mark.measured
@pytest.mark.parametrize("seconds", [4.0, pytest.param(30.0, marks=pytest.mark.long)])
def test_nobody_waits_for_a_slow_handler(seconds: float, pipeline: Pipeline, shop: Shop) -> None:
    slow = Slow(shop)
    pipeline.fleet.start(2)
    leader = pipeline.fleet.wait_leader()
    with shop.consuming(slow.handlers) as running, Load(pipeline.database, Shape(rate=500)) as load:
        running.started(shop)
        load.wait_committed(300)  # the first moments are the connections' and the caches'
        began = time.time()
        load.wait_committed(int(250 * seconds), 60)
        job_id = asked(shop, slow=True)
        assert slow.inside.wait(10)
        amid = time.time()
        load.wait_committed(int(200 * seconds), 60)
        again, took = timed(lambda: asked(shop, slow=False))
        cancelled, took_cancel = timed(lambda: cancel(shop, job_id))
        eventually(lambda: time.time() >= amid + seconds, seconds + 10)
        ended = time.time()
        held = time.time() - amid
        slow.release.set()
        eventually(lambda: shop.heard(events.MessageIgnored, job_id=str(job_id), result="superseded"))
        shop.becomes(again, "succeeded")
    check(pipeline, load, {job_id, again})
    assert (type(cancelled).__name__, shop.state(job_id)) == ("Applied", "cancelled")
    assert (shop.effects(job_id), shop.effects(again)) == (0, 1)
    assert pipeline.fleet.wait_leader() == leader
    assert len(pipeline.fleet.events("leadership_gained")) == 1
    before, during = latency(pipeline, began, amid), latency(pipeline, amid, ended)
    pipeline.figures.say(
        f"p99 {before.p99 * 1000:.0f} ms of {before.count} jobs before, {during.p99 * 1000:.0f} ms of "
        f"{during.count} beside a handler of {held:.1f} s; add_unique {took * 1000:.0f} ms, "
        f"cancel {took_cancel * 1000:.0f} ms"
    )
    assert max(took, took_cancel) < AT_ONCE
    assert during.p99 <= max(2 * before.p99, NOISE)


def asked(shop: Shop, *, slow: bool) -> UUID:
    """Ask for a report, unless one waits already."""
    with Session(shop.engine) as session, session.begin():
        session.execute(IMPATIENT)
        added = outbox.add_unique(session, SLOW, {"slow": slow}, unique="the report")
    assert isinstance(added, outbox.Added), "the one that runs does not wait any more"
    return added.id


def cancel(shop: Shop, job_id: UUID) -> object:
    with Session(shop.engine) as session, session.begin():
        session.execute(IMPATIENT)
        return outbox.cancel(session, job_id, "nobody wants it")


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what ``work`` returns, and the seconds that it took with its commit."""
    began = time.monotonic()
    return work(), time.monotonic() - began


def check(pipeline: Pipeline, load: Load, slow: set[UUID]) -> None:
    """Nothing is lost or sent twice."""
    pipeline.collector.wait_for(load.account.ids | slow)
    pipeline.wait_published()
    others = [delivery for delivery in pipeline.collector.deliveries if delivery.id not in slow]
    report = judge(load.account, others)
    pipeline.figures.say(report)
    assert not report.broken, report
    assert not report.duplicates, report


def latency(pipeline: Pipeline, began: float, ended: float) -> Moment:
    """Measure the jobs that were inserted between two moments (seconds since the epoch)."""
    arrived: dict[UUID, float] = {}
    for delivery in pipeline.collector.deliveries:
        arrived.setdefault(delivery.id, delivery.at + time.time() - time.monotonic())
    part = (ended - began) / PARTS
    parts: list[list[float]] = [[] for _ in range(PARTS)]
    for job_id, created in pipeline.database.execute(CREATED, KIND, began, ended):
        nth = min(PARTS - 1, int((float(created) - began) / part))
        parts[nth].append(arrived[job_id] - float(created))
    slowest = [sorted(took)[len(took) * 99 // 100] for took in parts]
    return Moment(sum(map(len, parts)), statistics.median(slowest))
