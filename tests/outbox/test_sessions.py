"""A session in which a job could not share the fate of its rows is refused."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import NullPool, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session, scoped_session, sessionmaker

import outbox
from outbox.models import JobRow

if TYPE_CHECKING:
    from databases import Database


def count(database: Database) -> int:
    return int(database.value("SELECT count(*) FROM outbox.job"))


def refuses(session: Session, match: str) -> None:
    """Adding is no I/O, so the refusal comes with the flush, and nothing is written."""
    outbox.add(session, "order.paid", {})
    with pytest.raises(outbox.Misuse, match=match):
        session.flush()
    session.close()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_autocommit_whoever_set_it(database: Database, driver: str) -> None:
    engine = create_engine(database.url_for(driver))
    options = {"isolation_level": "AUTOCOMMIT"}
    by_engine = create_engine(database.url_for(driver), **options)
    with engine.connect().execution_options(**options) as connection:
        for bind in (by_engine, engine.execution_options(**options), connection):
            refuses(Session(bind), "AUTOCOMMIT")
        by_session = Session(engine)
        by_session.connection(execution_options=options)
        refuses(by_session, "AUTOCOMMIT")
        by_driver = Session(engine)
        by_driver.connection().connection.dbapi_connection.autocommit = True  # type: ignore[union-attr]
        refuses(by_driver, "AUTOCOMMIT")
    assert count(database) == 0
    engine.dispose()
    by_engine.dispose()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_autocommit_of_a_session_that_is_awaited(database: Database, driver: str) -> None:
    async def tried(**engine_options: str) -> None:
        engine = create_async_engine(database.url_for(driver), poolclass=NullPool, **engine_options)
        autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        async with AsyncSession(engine if engine_options else autocommit) as session:
            outbox.add(session, "order.paid", {})
            with pytest.raises(outbox.Misuse, match="AUTOCOMMIT"):
                await session.flush()
            await session.rollback()
            with pytest.raises(outbox.Misuse, match="AUTOCOMMIT"):
                await outbox.add_unique_async(session, "order.paid", {}, unique="one")

    asyncio.run(tried(isolation_level="AUTOCOMMIT"))
    asyncio.run(tried())
    assert count(database) == 0


def test_a_row_that_is_added_without_our_function(database: Database) -> None:
    autocommit = database.engine.execution_options(isolation_level="AUTOCOMMIT")
    with Session(autocommit) as session:
        session.add(JobRow(id=uuid.uuid4(), kind="k", payload=b"{}"))
        with pytest.raises(outbox.Misuse, match="AUTOCOMMIT"):
            session.flush()


def test_another_database_is_named() -> None:
    refuses(Session(create_engine("sqlite://")), "sqlite")


def test_a_session_whose_binds_leave_us_out_hears_what_to_add(database: Database) -> None:
    class Base(DeclarativeBase):
        pass

    for session in (
        Session(binds={Base: database.engine}),
        scoped_session(sessionmaker(binds={Base: database.engine})),
        Session(),
    ):
        with pytest.raises(outbox.Misuse, match="add it to binds"):
            outbox.add(session, "order.paid", {})
        with pytest.raises(outbox.Misuse, match="add it to binds"):
            outbox.add_unique(session, "order.paid", {}, unique="one")
    with Session(binds={Base: database.engine, JobRow: database.engine}) as session:
        outbox.add(session, "order.paid", {})
        outbox.add_unique(session, "order.paid", {}, unique="one")
        session.commit()


def test_an_awaited_session_whose_binds_leave_us_out_hears_it_too(database: Database) -> None:
    class Base(DeclarativeBase):
        pass

    engine = create_async_engine(database.url_for("asyncpg"))
    with pytest.raises(outbox.Misuse, match="add it to binds"):
        outbox.add(AsyncSession(binds={Base: engine}), "order.paid", {})
    outbox.add(AsyncSession(binds={Base: engine, JobRow: engine}), "order.paid", {})


def test_add_unique_refuses_autocommit_before_its_statement(database: Database) -> None:
    autocommit = database.engine.execution_options(isolation_level="AUTOCOMMIT")
    with Session(autocommit) as session, pytest.raises(outbox.Misuse, match="AUTOCOMMIT"):
        outbox.add_unique(session, "order.paid", {}, unique="one")
    assert count(database) == 0
