"""Messages that need care before a handler is found for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from handling import fail, fault, write

from outbox import events
from outbox.outcomes import Snooze
from outbox.runner.delivery import Ack, Alone, Keep

if TYPE_CHECKING:
    from consuming import Shop
    from sqlalchemy.orm import Session

    from outbox.job import Job


@dataclass
class Paid:
    """A model."""

    order_id: int


def test_a_model_parses_the_payload(shop: Shop, run: Any) -> None:
    job_id = shop.job(payload={"order_id": 7})
    got: list[Any] = []
    run(lambda job, _session: got.append(job.payload), model=Paid).run(shop.delivery(job_id))
    assert got == [Paid(7)]


@pytest.mark.parametrize(
    ("payload", "content_type", "model"),
    [
        (b'{"order_id": "seven"}', "application/json", Paid),
        (b"{not json", "application/json", None),
        (b"\xff\xfe", "application/json", None),
        (b"1e999", "application/json", None),
    ],
)
def test_what_cannot_be_read_is_buried(
    shop: Shop, run: Any, payload: bytes, content_type: str, model: Any
) -> None:
    job_id = shop.job(content_type=content_type)
    message = shop.delivery(job_id)
    object.__setattr__(message.message, "body", payload)
    assert run(write, model=model).run(message) == Ack()
    row = shop.row(job_id)
    assert (row.state, row.attempt, shop.effects()) == ("dead", 0, 0)
    assert row.error is not None
    assert "seven" not in row.error
    assert shop.heard(events.MessageUnreadable, job_id=str(job_id))


def test_bytes_of_another_type_are_given_as_they_are(shop: Shop, run: Any) -> None:
    job_id = shop.job(content_type="image/png")
    got: list[Any] = []
    run(lambda job, _session: got.append(job.payload)).run(shop.delivery(job_id))
    assert got == [b"null"]


def test_an_unknown_kind_waits_for_the_next_release(shop: Shop, run: Any) -> None:
    job_id = shop.job("order.refunded")
    assert run(write).run(shop.delivery(job_id)) == Ack()
    row = shop.row(job_id)
    assert (row.state, row.attempt) == ("scheduled", 0)
    assert 55 < shop.seconds_until("available_at") < 61
    assert shop.value("SELECT note FROM outbox.transition") == "no handler for order.refunded in receipts"


def test_an_unknown_kind_is_dead_after_a_day(shop: Shop, run: Any) -> None:
    job_id = shop.job("order.refunded", created_at="2020-01-01T00:00:00Z")
    run(write).run(shop.delivery(job_id))
    assert shop.state(job_id) == "dead"


def test_a_message_that_came_back_runs_alone_and_pays_first(shop: Shop, run: Any) -> None:
    job_id = shop.job()
    seen: list[tuple[int, int]] = []

    def handle(job: Job, session: Session) -> None:
        seen.append((shop.row(job_id).attempt, job.attempt))
        write(job, session)

    runner, message = run(handle), shop.delivery(job_id, redelivered=True)
    assert runner.run(message) == Alone()
    assert (seen, shop.row(job_id).attempt) == ([], 0)
    assert runner.run(message, alone=True) == Ack()
    assert seen == [(1, 1)]
    assert (shop.state(job_id), shop.row(job_id).attempt) == ("succeeded", 1)


def test_a_message_that_came_back_too_often_is_dead(shop: Shop, run: Any) -> None:
    job_id = shop.job(max_attempts=3, attempt=3)
    assert run(write).run(shop.delivery(job_id, redelivered=True)) == Ack()
    row = shop.row(job_id)
    assert (row.state, row.attempt, shop.effects()) == ("dead", 3, 0)
    assert "3 attempts" in (row.error or "")


def test_a_message_that_came_back_stale_needs_no_care(shop: Shop, run: Any) -> None:
    job_id = shop.job()
    runner = run(write)
    message = shop.delivery(job_id, redelivered=True)
    runner.run(shop.delivery(job_id))
    assert runner.run(message) == Ack()
    assert shop.row(job_id).attempt == 1


def test_a_failure_that_was_paid_before_pays_once(shop: Shop, run: Any) -> None:
    job_id = shop.job(max_attempts=2, attempt=1)
    assert run(fail).run(shop.delivery(job_id, redelivered=True), alone=True) == Ack()
    assert (shop.state(job_id), shop.row(job_id).attempt) == ("dead", 2)


def test_a_snooze_gives_the_attempt_back(shop: Shop, run: Any) -> None:
    job_id = shop.job()
    run(lambda _job, _session: Snooze(60)).run(shop.delivery(job_id, redelivered=True), alone=True)
    assert (shop.state(job_id), shop.row(job_id).attempt) == ("scheduled", 0)


def test_a_fault_on_the_slow_path_is_not_charged_twice(shop: Shop, run: Any) -> None:
    job_id = shop.job()
    runner, message = run(fault("40001")), shop.delivery(job_id, redelivered=True)
    assert isinstance(runner.run(message, alone=True), Keep)
    assert runner.run(message) == Alone()
    assert isinstance(runner.run(message, alone=True), Keep)
    assert shop.row(job_id).attempt == 1
