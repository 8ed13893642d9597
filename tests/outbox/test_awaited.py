"""Handlers that are awaited: the same modes, on one event loop."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from consuming import Shop
from handling import Effect
from helpers import eventually
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from outbox import events
from outbox.backoff import Backoff
from outbox.errors import Misuse
from outbox.handlers import Handlers
from outbox.leased import AsyncLeasedJob, LeaseLost
from outbox.outcomes import Snooze

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from databases import Database

    from outbox.job import Job


@pytest.fixture
def shop(database: Database, amqp_url: str) -> Iterator[Shop]:
    made = Shop(database, amqp_url)
    yield made
    made.close()


@pytest.fixture(params=["psycopg", "asyncpg"])
def handlers(request: pytest.FixtureRequest, shop: Shop) -> Handlers[AsyncSession]:
    """A registry that closes its engine on the loop it was used on."""
    engine = create_async_engine(shop.database.url_for(request.param))

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        await engine.dispose()

    sessions = async_sessionmaker(engine, expire_on_commit=False)
    return Handlers("receipts", session=sessions, lifespan=lifespan)


def test_a_job_is_done_in_its_own_transaction(shop: Shop, handlers: Handlers[AsyncSession]) -> None:
    job_id = shop.job(payload=7)

    @handlers("order.paid")
    async def handle(job: Job, session: AsyncSession) -> None:
        session.add(Effect(job_id=job.id, note=str(job.payload)))
        await session.commit()
        await asyncio.sleep(0)
        assert shop.effects() == 0

    with shop.consuming(handlers) as running:
        running.started(shop)
        shop.send(job_id)
        row = shop.becomes(job_id, "succeeded")
    assert (row.version, row.attempt, shop.effects(job_id), shop.ready()) == (2, 1, 1, 0)


def test_many_run_at_once_on_one_loop(shop: Shop, handlers: Handlers[AsyncSession]) -> None:
    ids, together = [shop.job() for _ in range(5)], asyncio.Barrier(5)
    threads: set[int] = set()

    @handlers("order.paid")
    async def handle(job: Job, session: AsyncSession) -> None:
        await together.wait()
        threads.add(threading.get_ident())
        session.add(Effect(job_id=job.id))

    with shop.consuming(handlers, concurrency=5) as running:
        running.started(shop)
        shop.send_all(ids)
        for job_id in ids:
            shop.becomes(job_id, "succeeded")
    assert (len(threads), shop.effects()) == (1, 5)


def test_failures_and_answers(shop: Shop, handlers: Handlers[AsyncSession]) -> None:
    failed, snoozed, rolled = shop.job("fail"), shop.job("snooze"), shop.job("roll")

    @handlers("fail", backoff=Backoff.fixed(60))
    async def fail(_job: Job, session: AsyncSession) -> None:
        await session.execute(text("SELECT 1/0"))

    @handlers("snooze")
    async def snooze(_job: Job, _session: AsyncSession) -> Snooze:
        return Snooze(60)

    @handlers("roll")
    async def roll(job: Job, session: AsyncSession) -> None:
        session.add(Effect(job_id=job.id))
        await session.rollback()
        session.add(Effect(job_id=job.id))
        await session.commit()

    with shop.consuming(handlers) as running:
        running.started(shop)
        shop.send_all([failed, snoozed, rolled])
        assert "division by zero" in (shop.becomes(failed, "scheduled").error or "")
        assert shop.becomes(snoozed, "scheduled").attempt == 0
        assert "rolled back" in (shop.becomes(rolled, "scheduled").error or "")
    assert shop.effects() == 0


def test_an_event_is_adopted(shop: Shop, handlers: Handlers[AsyncSession]) -> None:
    event = shop.job(tracked=False)

    @handlers("order.paid", event=True)
    async def handle(job: Job, session: AsyncSession) -> None:
        session.add(Effect(job_id=job.id))

    with shop.consuming(handlers) as running:
        running.started(shop)
        for _ in range(3):
            shop.send(event, version=None)
        eventually(lambda: len(shop.heard(events.MessageIgnored)) == 2)
    assert (shop.effects(), shop.state(event)) == (1, "published")


def test_a_lease(shop: Shop, handlers: Handlers[AsyncSession]) -> None:
    job_id = shop.job()

    @handlers.leased("order.paid", seconds=1)
    async def handle(job: AsyncLeasedJob[AsyncSession]) -> None:
        first = shop.row(job_id).lease_until
        await job.progress(0.5)
        await asyncio.to_thread(eventually, lambda: shop.row(job_id).lease_until > first)
        async with job.finish() as session:
            session.add(Effect(job_id=job.id))
            await session.flush()
            assert shop.state(job_id) == "running"

    with shop.consuming(handlers) as running:
        running.started(shop)
        shop.send(job_id)
        row = shop.becomes(job_id, "succeeded")
    assert (row.version, row.progress, shop.effects(job_id)) == (3, 0.5, 1)


def test_the_zombie_of_a_lost_lease_writes_nothing(shop: Shop, handlers: Handlers[AsyncSession]) -> None:
    job_id = shop.job()

    @handlers.leased("order.paid")
    async def handle(job: AsyncLeasedJob[AsyncSession]) -> None:
        shop.database.execute("UPDATE outbox.job SET state = 'scheduled', version = 3")
        with pytest.raises(LeaseLost):
            async with job.finish() as session:
                session.add(Effect(job_id=job.id))

    with shop.consuming(handlers) as running:
        running.started(shop)
        shop.send(job_id)
        eventually(lambda: shop.heard(events.MessageIgnored, result="superseded"))
    assert shop.effects() == 0


def test_around_is_entered_on_the_loop(shop: Shop, handlers: Handlers[AsyncSession]) -> None:
    said: list[str] = []

    @asynccontextmanager
    async def around(job: Job) -> AsyncIterator[None]:
        said.append(job.kind)
        await asyncio.sleep(0)
        yield
        said.append("out")

    inner = Handlers("inner", session=async_sessionmaker(), around=around)

    @inner("order.paid")
    async def handle(_job: Job, _session: AsyncSession) -> None:
        said.append("handler")

    handlers.include(inner)
    job_id = shop.job()
    with shop.consuming(handlers) as running:
        running.started(shop)
        shop.send(job_id)
        shop.becomes(job_id, "succeeded")
    assert said == ["order.paid", "handler", "out"]


def test_functions_and_sessions_must_both_await_or_neither(shop: Shop) -> None:
    awaited: Handlers[Any] = Handlers("a", session=async_sessionmaker())
    plain: Handlers[Any] = Handlers("b", session=shop.sessions)

    async def later(_job: Job, _session: Any) -> None: ...

    def now(_job: Job, _session: Any) -> None: ...

    with pytest.raises(Misuse, match="now is not async"):
        awaited("k")(now)
    with pytest.raises(Misuse, match="later is async"):
        plain("k")(later)
    with pytest.raises(Misuse, match="must both await"):
        plain.include(awaited)


def test_a_registry_of_two_handlers_for_a_kind_names_both(shop: Shop) -> None:
    handlers = Handlers("a", session=shop.sessions)

    @handlers("k")
    def first(_job: Job, _session: Any) -> None: ...

    with pytest.raises(Misuse) as error:

        @handlers("k")
        def second(_job: Job, _session: Any) -> None: ...

    assert "first" in str(error.value)
    assert "second" in str(error.value)
