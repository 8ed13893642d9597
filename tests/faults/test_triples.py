"""Every message three times, in no order, to many consumers: one effect a job."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from consuming import Shop
from faults.shovel import RAW, Shovel
from handling import write
from helpers import eventually
from relays import add, relaying, states

from outbox import events
from outbox.backoff import Backoff
from outbox.handlers import Handlers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database
    from faults.figures import Figures
    from sqlalchemy.orm import Session

    from outbox.job import Job

CONSUMERS = 8


@pytest.fixture
def shop(database: Database, amqp_url: str) -> Iterator[Shop]:
    made = Shop(database, amqp_url)
    yield made
    made.close()


@pytest.mark.parametrize(
    "jobs", [200, pytest.param(3_000, marks=[pytest.mark.long, pytest.mark.timeout(300)])]
)
def test_each_message_three_times_shuffled_has_one_effect_a_job(
    jobs: int, shop: Shop, figures: Figures
) -> None:
    """A fifth of the handlers fails after its write, so jobs move on under the copies of their messages."""
    registry = Handlers("receipts", session=shop.sessions)
    called: Counter[str] = Counter()

    @registry("order.paid", backoff=Backoff.fixed(0))
    def handle(job: Job, session: Session) -> None:
        write(job, session)
        session.flush()
        called["handlers"] += 1
        if random.random() < 0.2:
            raise RuntimeError("no")

    with ExitStack() as stack:
        consumers = [stack.enter_context(shop.consuming(registry, concurrency=3)) for _ in range(CONSUMERS)]
        eventually(lambda: len(shop.heard(events.ConsumerStarted)) == CONSUMERS, 20)
        shovel = stack.enter_context(Shovel(shop.broker_url))
        ids = add(shop.database, jobs, kind="order.paid")
        stack.enter_context(relaying(shop.database, shop.broker_url, exchange=RAW))
        eventually(lambda: states(shop.database) == {"succeeded": jobs}, 200, every=0.1)
        eventually(lambda: shovel.idle and settled(shop) == shovel.passed, 60, every=0.1)
        assert [consumer.error for consumer in consumers] == [None] * CONSUMERS
    check(shop, jobs, set(ids))
    ignored = Counter(event.result for event in shop.heard(events.MessageIgnored))
    figures.say(
        f"{jobs} jobs, {shovel.passed} messages, {called['handlers']} handlers ran, ignored {dict(ignored)}"
    )
    assert shovel.passed >= 3 * jobs
    assert set(ignored) == {"already_applied", "superseded"}
    # Two copies of each version had no effect. One may run beside the first: a failure is written after the
    # claim is given back, and then its handler's word is what is ignored.
    assert ignored.total() == shovel.passed - len(shop.heard(events.JobHandled)) >= 2 * jobs
    assert ignored["already_applied"] >= jobs


def settled(shop: Shop) -> int:
    """Count the messages that consumers have dealt with."""
    return len(shop.heard(events.JobHandled)) + len(shop.heard(events.MessageIgnored))


def check(shop: Shop, jobs: int, ids: set[object]) -> None:
    assert shop.effects() == jobs
    assert {row[0] for row in shop.database.execute("SELECT DISTINCT job_id FROM effect")} == ids
    assert shop.ready() == 0
