"""The consumer, against a real broker and a real database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from consuming import Effect, Shop
from helpers import eventually

from outbox import events
from outbox.handlers import Handlers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database
    from sqlalchemy.orm import Session

    from outbox.job import Job


@pytest.fixture
def shop(database: Database, amqp_url: str) -> Iterator[Shop]:
    made = Shop(database, amqp_url)
    yield made
    made.close()


def started(shop: Shop) -> bool:
    return bool(shop.heard(events.ConsumerStarted))


def test_a_job_is_done_and_what_its_handler_wrote_is_there(shop: Shop) -> None:
    handlers = Handlers("receipts", session=shop.sessions)

    @handlers("order.paid")
    def send_receipt(job: Job, session: Session) -> None:
        session.add(Effect(job_id=job.id, note=str(job.payload["order_id"])))

    job_id = shop.job("order.paid", {"order_id": 7})
    with shop.consuming(handlers):
        eventually(lambda: started(shop))
        shop.send(job_id)
        row = shop.becomes(job_id, "succeeded")
    assert (row.version, row.attempt) == (2, 1)
    assert shop.effects(job_id) == 1
