"""A handler that moves its own job: in its own transaction that counts, and the message is acked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from handling import Effect, write

import outbox
from outbox import events
from outbox.handlers import Handlers
from outbox.runner import Runner
from outbox.runner.delivery import Ack
from outbox.transitions import Applied

if TYPE_CHECKING:
    from collections.abc import Callable

    from consuming import Shop
    from sqlalchemy.orm import Session

    from outbox.job import Job
    from outbox.leased import LeasedJob

    Move = Callable[[Job, Session], object]


def cancel(job: Job, session: Session) -> object:
    return outbox.cancel(session, job.id, "no longer wanted")


def cancel_in_a_savepoint(job: Job, session: Session) -> object:
    with session.begin_nested():
        return outbox.cancel(session, job.id)


def bury(job: Job, session: Session) -> object:
    return outbox.transition(session, job.id, job.version, "dead", error="no such order")


def succeed(job: Job, session: Session) -> object:
    return outbox.transition(session, job.id, job.version, "succeeded")


def schedule(job: Job, session: Session) -> object:
    return outbox.transition(session, job.id, job.version, "scheduled", delay=60)


@pytest.mark.parametrize(
    ("move", "state"),
    [
        (cancel, "cancelled"),
        (cancel_in_a_savepoint, "cancelled"),
        (bury, "dead"),
        (succeed, "succeeded"),
        (schedule, "scheduled"),
    ],
)
def test_a_handler_may_move_its_own_job(shop: Shop, run: Any, move: Move, state: str) -> None:
    job_id = shop.job()

    def handle(job: Job, session: Session) -> None:
        write(job, session)
        assert move(job, session) == Applied(2)

    assert run(handle).run(shop.delivery(job_id)) == Ack()
    row = shop.row(job_id)
    assert (row.state, row.version, shop.effects()) == (state, 2, 1)
    assert shop.heard(events.JobHandled, state=state, version=2)


def test_a_move_that_the_handler_took_back_is_none(shop: Shop, run: Any) -> None:
    """And what somebody else did meanwhile is not the handler's."""
    job_id = shop.job()

    def handle(job: Job, session: Session) -> None:
        write(job, session)
        with session.begin_nested() as savepoint:
            cancel(job, session)
            savepoint.rollback()
        shop.database.execute("UPDATE outbox.job SET state = 'cancelled', version = 2")

    assert run(handle).run(shop.delivery(job_id)) == Ack()
    assert (shop.state(job_id), shop.effects()) == ("cancelled", 0)
    assert shop.heard(events.MessageIgnored, result="superseded")


def test_a_leased_handler_may_move_its_own_job_where_it_finishes(shop: Shop) -> None:
    handlers = Handlers("receipts", session=shop.sessions)
    job_id = shop.job()

    @handlers.leased("order.paid")
    def handle(job: LeasedJob[Session]) -> None:
        with job.finish() as session:
            session.add(Effect(job_id=job.id))
            assert outbox.transition(session, job.id, job.version, "dead") == Applied(3)

    runner = Runner(handlers, observer=shop.observe)
    assert runner.run(shop.delivery(job_id)) == Ack()
    runner.close()
    assert (shop.state(job_id), shop.effects()) == ("dead", 1)
    assert shop.heard(events.JobHandled, state="dead", version=3)


def test_an_event_that_the_handler_adopts_itself_is_done(shop: Shop, run: Any) -> None:
    def handle(job: Job, session: Session) -> None:
        session.add(Effect(job_id=job.id))
        assert outbox.adopt(session, "m-1", "receipts")

    assert run(handle, event=True).run(shop.foreign()) == Ack()
    assert (shop.value("SELECT state FROM outbox.job"), shop.effects()) == ("succeeded", 1)
