"""The broker is away for long: an application's transactions do not notice it, and nothing is lost."""

from __future__ import annotations

import statistics
import threading
import time
from typing import TYPE_CHECKING

import pytest
from faults.collector import Collector
from faults.fleet import Fleet
from faults.load import KIND
from faults.pipeline import Pipeline
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import outbox
from relay.theatre.judge import Account, Written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database
    from faults.figures import Figures
    from processes import Processes

    from relay.sandbox import RabbitMQ

ATTEMPTS_A_MINUTE, FIRST_ATTEMPTS = 12, 5
"""Of each relay. The first come soon: a broker that restarts is back in a moment."""
BACK_WITHIN = 10.0
"""Seconds."""
WORSE = 1.5
NOISE = 0.05
"""Seconds: less than that, a p99 tells of the disk's other work."""
PART = 250
"""Commits whose p99 is one figure; of several the median counts: one stall of the disk does not decide."""


class Application:
    """Commits a job at a time, at a rate, and times each transaction. An error of one ends the test.

    Args:
        database: where it writes.
        rate: commits a second.
    """

    def __init__(self, database: Database, rate: float) -> None:
        self.account = Account()
        self._engine, self._every = create_engine(database.url), 1 / rate

    def commit(self, count: int) -> float:
        """Commit ``count`` jobs; return the p99 of a transaction's seconds."""
        took, pause, began = [], threading.Event(), time.monotonic()
        for nth in range(count):
            pause.wait(max(0.0, began + nth * self._every - time.monotonic()))
            at = time.monotonic()
            with Session(self._engine) as session, session.begin():
                job = outbox.add(session, KIND, {"nth": nth})
            took.append(time.monotonic() - at)
            self.account.committed.append(Written(job, None))
        parts = [sorted(took[n : n + PART]) for n in range(0, count, PART)]
        return statistics.median(part[len(part) * 99 // 100] for part in parts)

    def close(self) -> None:
        """End its connections."""
        self._engine.dispose()


@pytest.fixture
def pipeline(
    processes: Processes, database: Database, own_amqp_url: str, figures: Figures
) -> Iterator[Pipeline]:
    fleet = Fleet(processes, database.dsn, own_amqp_url)
    with Collector(own_amqp_url) as collector:
        fleet.start(2)
        fleet.wait_standbys()
        yield Pipeline(database, own_amqp_url, fleet, collector, figures)


@pytest.mark.measured
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(30, marks=pytest.mark.long),
        pytest.param(600, marks=pytest.mark.exhaustive),
    ],
)
def test_a_broker_that_is_away_for_long_is_no_business_of_the_application(
    seconds: int, own_rabbitmq: RabbitMQ, pipeline: Pipeline
) -> None:
    application = Application(pipeline.database, rate=1000 / seconds)
    application.commit(PART // 5)  # the first ones are the connections' and the caches'
    normal = application.commit(2 * PART)
    own_rabbitmq.kill()
    tries, began = attempts(pipeline), time.monotonic()
    away = application.commit(1000)
    minutes = (time.monotonic() - began) / 60
    tries = attempts(pipeline) - tries
    assert not pipeline.collector.seen & {job.id for job in application.account.committed[-1000:]}
    own_rabbitmq.start()
    back = time.monotonic()
    pipeline.collector.wait_for(application.account.ids, 3 * BACK_WITHIN)
    recovery = time.monotonic() - back
    report = pipeline.settle(application.account)
    application.close()
    pipeline.figures.say(
        f"away for {60 * minutes:.0f} s: p99 of a commit {away * 1000:.1f} ms, {normal * 1000:.1f} before, "
        f"{tries} attempts to connect of two relays, {report.duplicates.total()} duplicates"
    )
    pipeline.figures.within(BACK_WITHIN, [recovery], "all delivered after the broker is back")
    assert tries <= 2 * (ATTEMPTS_A_MINUTE * minutes + FIRST_ATTEMPTS)
    assert away <= max(WORSE * normal, NOISE)
    assert len(pipeline.fleet.events("leadership_gained")) == 1


def attempts(pipeline: Pipeline) -> int:
    """Return how often the relays have tried to connect in vain."""
    return len(pipeline.fleet.events("broker_lost"))
