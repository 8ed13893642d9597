"""A transaction that the handler ended unseen, by SQL: its job has not succeeded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from handling import Effect, write
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.util import greenlet_spawn

from outbox.errors import Misuse
from outbox.handlers import Handlers
from outbox.runner import Runner
from outbox.runner.delivery import Ack

if TYPE_CHECKING:
    from consuming import Shop
    from sqlalchemy.orm import Session

    from outbox.job import Job
    from outbox.leased import LeasedJob
    from outbox.runner.delivery import Verdict

WORDS = "Ended: the handler ended the job's transaction with SQL of its own"

statements = pytest.mark.parametrize(
    "statement", ["rollback", "commit", "commit; begin", "rollback; select 1"]
)


@statements
def test_a_job_does_not_succeed_in_another_transaction(shop: Shop, run: Any, statement: str) -> None:
    job_id = shop.job()

    def handle(job: Job, session: Session) -> None:
        write(job, session)
        session.flush()
        session.execute(text(statement))

    assert run(handle).run(shop.delivery(job_id)) == Ack()
    row = shop.row(job_id)
    assert (row.state, row.attempt) == ("scheduled", 1)
    assert str(row.error).startswith(WORDS)


@statements
def test_an_event_is_not_done_in_another_transaction(shop: Shop, run: Any, statement: str) -> None:
    def handle(_job: Job, session: Session) -> None:
        session.execute(text(statement))

    assert run(handle, event=True).run(shop.foreign()) == Ack()
    assert shop.value("SELECT state FROM outbox.job") == "scheduled"
    assert shop.value("SELECT error FROM outbox.job").startswith(WORDS)


def test_a_lease_is_not_finished_in_another_transaction(shop: Shop) -> None:
    handlers = Handlers("receipts", session=shop.sessions)
    job_id = shop.job()

    @handlers.leased("order.paid")
    def handle(job: LeasedJob[Session]) -> None:
        with job.finish() as session:
            session.execute(text("rollback"))

    runner = Runner(handlers, observer=shop.observe)
    assert runner.run(shop.delivery(job_id)) == Ack()
    runner.close()
    assert shop.state(job_id) == "scheduled"
    assert str(shop.row(job_id).error).startswith(WORDS)


def test_a_lease_is_finished_once(shop: Shop) -> None:
    handlers = Handlers("receipts", session=shop.sessions)
    job_id = shop.job()

    @handlers.leased("order.paid")
    def handle(job: LeasedJob[Session]) -> None:
        with job.finish() as session:
            session.add(Effect(job_id=job.id))
        with pytest.raises(Misuse, match="once"), job.finish() as session:
            session.add(Effect(job_id=job.id))

    runner = Runner(handlers, observer=shop.observe)
    assert runner.run(shop.delivery(job_id)) == Ack()
    runner.close()
    assert (shop.state(job_id), shop.effects()) == ("succeeded", 1)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_an_awaited_job_does_not_succeed_in_another_transaction(shop: Shop, driver: str) -> None:
    """With asyncpg each statement would commit by itself from there on."""
    job_id = shop.job()

    async def handle(_job: Job, session: AsyncSession) -> None:
        await session.execute(text("commit"))

    async def run() -> Verdict:
        engine = create_async_engine(shop.database.url.replace("+psycopg", f"+{driver}"))
        handlers = Handlers("receipts", session=async_sessionmaker(engine))
        handlers("order.paid")(handle)
        verdict = await greenlet_spawn(Runner(handlers, observer=shop.observe).run, shop.delivery(job_id))
        await engine.dispose()
        return verdict

    assert asyncio.run(run()) == Ack()
    assert shop.state(job_id) == "scheduled"
    assert str(shop.row(job_id).error).startswith(WORDS)
