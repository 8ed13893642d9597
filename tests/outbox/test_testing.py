"""The tools for users' suites: what was added, and its handlers run here and now."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from consuming import Shop
from handling import Effect
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

import outbox
from outbox import testing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """A session whose transaction is rolled back, as in many suites."""
    shop = Shop(database)
    with Session(shop.engine) as found:
        yield found
        found.rollback()
    shop.engine.dispose()


@pytest.fixture
def handlers(session: Session) -> outbox.Handlers[Session]:
    """A registry with a handler that writes."""
    registry = outbox.Handlers("effects", session=sessionmaker(session.get_bind()))

    @registry("effect.make")
    def make(job: outbox.Job, session: Session) -> None:
        session.add(Effect(job_id=job.id, note=job.payload["note"]))

    return registry


def effects(session: Session) -> int:
    return session.scalars(select(func.count()).select_from(Effect)).one()


def test_added_gives_this_transactions_jobs_in_order(session: Session, database: Database) -> None:
    database.execute("SELECT outbox.add('of.another', '{}')")
    outbox.add(session, "first", {"a": 1}, key="k")
    outbox.emit(session, "second", [2])
    seen = testing.added(session)
    assert [(job.kind, job.payload, job.key) for job in seen] == [
        ("first", {"a": 1}, "k"),
        ("second", [2], None),
    ]


def test_added_forgets_what_was_rolled_back(session: Session) -> None:
    with session.begin_nested() as savepoint:
        outbox.add(session, "first", {})
        session.flush()
        savepoint.rollback()
    assert testing.added(session) == []


def test_run_does_the_work_and_the_transition_in_the_same_transaction(
    session: Session, handlers: outbox.Handlers[Session], database: Database
) -> None:
    outbox.add(session, "effect.make", {"note": "hello"})
    outbox.add(session, "of.somebody.else", {})
    (done,) = testing.run(handlers, session)
    assert (done.state, done.version) == ("succeeded", 2)
    assert effects(session) == 1
    session.rollback()
    assert database.value("SELECT count(*) FROM outbox.job") == 0


def test_run_runs_what_a_handler_adds(session: Session, handlers: outbox.Handlers[Session]) -> None:
    @handlers("effect.twice")
    def twice(job: outbox.Job, session: Session) -> None:
        outbox.add_all(session, [{"kind": "effect.make", "payload": {"note": n}} for n in "ab"])

    outbox.add(session, "effect.twice", {})
    assert [job.kind for job in testing.run(handlers, session)] == [
        "effect.twice",
        "effect.make",
        "effect.make",
    ]
    assert effects(session) == 2


def test_a_handler_that_raises_raises_in_the_test_and_leaves_nothing(
    session: Session, handlers: outbox.Handlers[Session]
) -> None:
    @handlers("effect.half")
    def half(job: outbox.Job, session: Session) -> None:
        session.add(Effect(job_id=job.id))
        session.flush()
        raise LookupError("no such customer")

    outbox.add(session, "effect.half", {})
    with pytest.raises(LookupError, match="no such customer"):
        testing.run(handlers, session)
    assert effects(session) == 0
    assert [job.state for job in testing.added(session)] == ["pending"]


@pytest.mark.parametrize(
    ("answer", "state"),
    [(outbox.Snooze(5), "scheduled"), (outbox.Cancel("gone"), "cancelled"), (outbox.Bury("never"), "dead")],
    ids=["snooze", "cancel", "bury"],
)
def test_an_answer_decides_the_state(
    session: Session, handlers: outbox.Handlers[Session], answer: Exception, state: str
) -> None:
    handlers("effect.answer")(lambda _job, _session: answer)
    outbox.add(session, "effect.answer", {})
    assert [job.state for job in testing.run(handlers, session)] == [state]


def test_a_leased_handler_gets_the_tests_own_session(
    session: Session, handlers: outbox.Handlers[Session]
) -> None:
    @handlers.leased("effect.long")
    def long(job: outbox.LeasedJob[Session]) -> None:
        job.progress(0.5)
        with job.finish() as given:
            given.add(Effect(job_id=job.id))

    outbox.add(session, "effect.long", {})
    assert [job.state for job in testing.run(handlers, session)] == ["succeeded"]
    assert effects(session) == 1


def test_a_model_gets_the_payload_parsed(session: Session, handlers: outbox.Handlers[Session]) -> None:
    @dataclass
    class Note:
        note: str

    seen: list[Any] = []
    handlers("effect.note", model=Note)(lambda job, _session: seen.append(job.payload))
    outbox.add(session, "effect.note", {"note": "hi"})
    testing.run(handlers, session)
    assert seen == [Note("hi")]


def test_awaited_handlers_run_too(database: Database) -> None:
    async def story() -> tuple[list[str], int]:
        engine = create_async_engine(database.url)
        registry = outbox.Handlers("effects", session=async_sessionmaker(engine))

        @registry("effect.make")
        async def make(job: outbox.Job, session: AsyncSession) -> None:
            session.add(Effect(job_id=job.id))

        @registry.leased("effect.long")
        async def long(job: outbox.AsyncLeasedJob[AsyncSession]) -> None:
            async with job.finish() as given:
                given.add(Effect(job_id=job.id))

        async with AsyncSession(engine) as session:
            outbox.add(session, "effect.make", {})
            outbox.add(session, "effect.long", {})
            done = await testing.run_async(registry, session)
            count = await session.run_sync(effects)
        await engine.dispose()
        return [job.state for job in done], count

    Shop(database).engine.dispose()
    assert asyncio.run(story()) == (["succeeded", "succeeded"], 2)
