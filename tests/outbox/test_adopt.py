"""Events and foreign messages become jobs of the consumer's database, once for each queue."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from handling import Effect, fail, fault, write
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from outbox import events
from outbox.adoption import adopt, adopt_async
from outbox.backoff import Backoff
from outbox.handlers import Handlers
from outbox.message import adopted_id
from outbox.outcomes import Cancel, Snooze
from outbox.runner import Runner
from outbox.runner.delivery import Ack, Keep

if TYPE_CHECKING:
    from consuming import Shop
    from databases import Database

    from outbox.job import Job
    from outbox.leased import LeasedJob

M1 = adopted_id("m-1", "receipts")


def test_an_event_is_adopted_in_its_handlers_transaction(shop: Shop, run: Any) -> None:
    event = shop.job(payload={"order_id": 7}, key="order:7", headers={"tenant": "a"}, tracked=False)
    got: list[Job] = []

    def handle(job: Job, session: Session) -> None:
        got.append(job)
        write(job, session)
        session.flush()
        assert shop.value("SELECT count(*) FROM outbox.job") == 1

    assert run(handle).run(shop.delivery(event, version=None)) == Ack()
    adopted = adopted_id(str(event), "receipts")
    row = shop.row(adopted)
    assert (row.state, row.version, row.attempt, row.kind) == ("succeeded", 1, 1, "order.paid")
    assert (row.exchange, row.routing_key, row.key, row.headers) == (
        "",
        "receipts",
        "order:7",
        {"tenant": "a"},
    )
    assert (bytes(row.payload), row.content_type) == (b'{"order_id": 7}', "application/json")
    assert row.finished_at
    assert (got[0].id, got[0].key, got[0].attempt) == (adopted, "order:7", 1)
    assert shop.state(event) == "published"
    assert shop.effects(adopted) == 1


def test_the_second_copy_is_a_duplicate(shop: Shop, run: Any) -> None:
    runner = run(write)
    assert [runner.run(shop.foreign()) for _ in range(3)] == [Ack()] * 3
    assert shop.effects() == 1
    assert len(shop.heard(events.MessageIgnored, result="already_applied")) == 2


def test_each_queue_adopts_it_once(shop: Shop) -> None:
    for queue in ("receipts", "mails", "receipts"):
        handlers = Handlers(queue, session=shop.sessions)
        handlers("order.paid", event=True)(write)
        message = shop.foreign()
        message.queue, message.id = queue, adopted_id("m-1", queue)
        assert Runner(handlers, observer=shop.observe).run(message) == Ack()
    assert shop.effects() == 2


def test_a_copy_that_was_adopted_meanwhile_rolls_this_one_back(shop: Shop, run: Any) -> None:
    def handle(job: Job, session: Session) -> None:
        write(job, session)
        with Session(shop.engine) as other, other.begin():
            assert adopt(other, "m-1", "receipts")

    assert run(handle).run(shop.foreign()) == Ack()
    assert (shop.effects(), shop.row(M1).kind) == (0, "message")


def test_two_copies_at_once_are_one_at_a_time(shop: Shop, run: Any) -> None:
    inside, on = threading.Event(), threading.Event()

    def handle(job: Job, session: Session) -> None:
        write(job, session)
        inside.set()
        assert on.wait(10)

    runner = run(handle)
    first = threading.Thread(target=runner.run, args=(shop.foreign(),))
    first.start()
    assert inside.wait(10)
    assert isinstance(runner.run(shop.foreign()), Keep)
    on.set()
    first.join()
    assert shop.effects() == 1


def test_a_failure_becomes_a_job_that_this_database_retries(shop: Shop, run: Any) -> None:
    assert run(fail, backoff=Backoff.fixed(60), max_attempts=3).run(shop.foreign()) == Ack()
    row = shop.row(M1)
    assert (row.state, row.version, row.attempt, row.max_attempts) == ("scheduled", 1, 1, 3)
    assert (row.exchange, row.routing_key, row.error) == ("", "receipts", "RuntimeError: no")
    assert run(write).run(shop.foreign()) == Ack()  # a copy of the event: the job has the work now
    assert shop.effects() == 0


def test_the_retry_of_an_adopted_event_is_an_ordinary_job(shop: Shop, run: Any) -> None:
    run(fail, backoff=Backoff.fixed(60)).run(shop.foreign(headers={"a": "b"}))
    shop.stage()
    assert run(write).run(shop.delivery(M1, version=2)) == Ack()
    row = shop.row(M1)
    assert (row.state, row.version, row.attempt, shop.effects(M1)) == ("succeeded", 3, 2, 1)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(Snooze(60), ("scheduled", 1, 0)), (Cancel("not ours"), ("cancelled", 2, 1))],
)
def test_answers(shop: Shop, run: Any, answer: Exception, expected: tuple[object, ...]) -> None:
    run(lambda _job, _session: answer).run(shop.foreign())
    row = shop.row(M1)
    assert (row.state, row.version, row.attempt) == expected


def test_the_only_attempt_that_fails_is_the_end(shop: Shop, run: Any) -> None:
    run(fail, max_attempts=1).run(shop.foreign())
    assert (shop.row(M1).state, shop.row(M1).attempt) == ("dead", 1)


def test_a_passing_fault_leaves_no_row(shop: Shop, run: Any) -> None:
    assert isinstance(run(fault("40001")).run(shop.foreign()), Keep)
    assert shop.value("SELECT count(*) FROM outbox.job") == 0


def test_an_event_that_came_back_becomes_a_job_before_anything_runs(shop: Shop, run: Any) -> None:
    assert run(write).run(shop.foreign(redelivered=True)) == Ack()
    row = shop.row(M1)
    assert (row.state, row.attempt, shop.effects()) == ("scheduled", 1, 0)


def test_a_leased_event_is_running_from_its_birth(shop: Shop) -> None:
    handlers = Handlers("receipts", session=shop.sessions)

    @handlers.leased("order.paid", event=True)
    def handle(job: LeasedJob[Any]) -> None:
        assert (shop.row(job.id).state, shop.row(job.id).version, shop.row(job.id).attempt) == (
            "running",
            1,
            1,
        )
        with job.finish() as session:
            session.add(Effect(job_id=job.id))

    runner = Runner(handlers, observer=shop.observe)
    assert runner.run(shop.foreign()) == Ack()
    runner.close()
    row = shop.row(M1)
    assert (row.state, row.version, row.attempt, shop.effects()) == ("succeeded", 2, 1, 1)


# --- what nobody can handle is kept where it can be seen ---


def test_a_message_without_an_id_is_buried_with_its_body(shop: Shop, run: Any) -> None:
    assert run(write).run(shop.foreign(b"\x00raw", message_id=None, content_type="x/y")) == Ack()
    body, kind, error, content_type = shop.database.execute(
        "SELECT payload, kind, error, content_type FROM outbox.job WHERE state = 'dead'"
    )[0]
    assert (bytes(body), kind, error, content_type) == (
        b"\x00raw",
        "order.paid",
        "message_id is missing",
        "x/y",
    )
    assert shop.heard(events.MessageUnreadable, reason="message_id is missing")


def test_a_body_that_cannot_be_read_is_buried_as_it_is(shop: Shop, run: Any) -> None:
    assert run(write).run(shop.foreign(b"{\xff")) == Ack()
    row = shop.row(M1)
    assert (row.state, row.attempt, bytes(row.payload)) == ("dead", 0, b"{\xff")


def test_a_message_without_a_type_has_the_kind_of_its_routing_key(shop: Shop, run: Any) -> None:
    run(write).run(shop.foreign(type=None, routing_key="order.paid"))
    assert (shop.row(M1).state, shop.row(M1).kind) == ("succeeded", "order.paid")


def test_a_message_without_any_kind_is_buried(shop: Shop, run: Any) -> None:
    run(write).run(shop.foreign(type=None))
    assert (shop.row(M1).state, shop.row(M1).kind) == ("dead", "unknown")


def test_an_unknown_kind_waits_for_the_next_release(shop: Shop, run: Any) -> None:
    run(write).run(shop.foreign(type="order.refunded"))
    row = shop.row(M1)
    assert (row.state, row.attempt, row.kind, row.routing_key) == (
        "scheduled",
        0,
        "order.refunded",
        "receipts",
    )


def test_headers_of_any_kind_become_text(shop: Shop, run: Any) -> None:
    got: list[Job] = []
    headers = {"n": 1, "t": {"nested": 1}, "b": b"x", "x-outbox-term": 3, "nul": "a\0b", "ok": "yes"}
    run(lambda job, _session: got.append(job)).run(shop.foreign(headers=headers))
    assert dict(got[0].headers) == {"n": "1", "b": "x", "ok": "yes"}


# --- the inbox for those with a consumer of their own ---


def test_adopt_is_true_once_for_each_queue(shop: Shop) -> None:
    with Session(shop.engine) as session, session.begin():
        assert adopt(session, "m-1", "receipts", kind="order.paid", payload={"a": 1}, headers={"h": "v"})
        assert not adopt(session, "m-1", "receipts")
        assert adopt(session, "m-1", "mails")
        assert adopt(session, "m-2", "receipts")
    row = shop.row(M1)
    assert (row.state, row.kind, bytes(row.payload), row.headers) == (
        "succeeded",
        "order.paid",
        b'{"a":1}',
        {"h": "v"},
    )


def test_what_is_rolled_back_was_not_adopted(shop: Shop) -> None:
    with Session(shop.engine) as session:
        assert adopt(session, "m-1", "receipts")
        session.rollback()
        assert adopt(session, "m-1", "receipts")


def test_two_at_once_are_one_after_the_other(shop: Shop) -> None:
    answers: list[bool] = []

    def second() -> None:
        with Session(shop.engine) as session, session.begin():
            answers.append(adopt(session, "m-1", "receipts"))

    with Session(shop.engine) as session, session.begin():
        assert adopt(session, "m-1", "receipts")
        thread = threading.Thread(target=second)
        thread.start()
        while not shop.value("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            session.execute(text("SELECT 1"))
    thread.join()
    assert answers == [False]


def test_a_bad_message_id_leaves_the_transaction_usable(shop: Shop) -> None:
    with Session(shop.engine) as session, session.begin():
        session.execute(text("SELECT 1"))
        for bad in ("", "a\nb", "x" * 256):
            with pytest.raises(ValueError, match="message_id"):
                adopt(session, bad, "receipts")
        assert adopt(session, "m-1", "receipts")


def test_sessions_that_are_awaited(shop: Shop, database: Database) -> None:
    async def twice() -> list[bool]:
        engine = create_async_engine(database.url)
        async with AsyncSession(engine) as session, session.begin():
            answers = [await adopt_async(session, "m-1", "receipts", kind="a", payload=1) for _ in range(2)]
        await engine.dispose()
        return answers

    assert asyncio.run(twice()) == [True, False]
    assert shop.row(M1).kind == "a"
