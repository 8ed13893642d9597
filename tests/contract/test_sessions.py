"""One ``outbox.add`` for every session: the same stories, told by each, end in the same rows.

Directly as the owner, as a role that may only insert jobs, and through PgBouncer in transaction pooling.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from roles import role
from sqlalchemy import BigInteger, Column, Identity, Integer, NullPool, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session, scoped_session, sessionmaker
from sqlmodel import Field, SQLModel
from sqlmodel import Session as SQLModelSession
from sqlmodel.ext.asyncio.session import AsyncSession as SQLModelAsyncSession

import outbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from databases import Database

STORIES = {
    # what is done                                                           orders, jobs in the end
    ("order", "job", "event", "three", "commit"): (1, 5),
    ("order", "job", "event", "three", "rollback"): (0, 0),
    ("job", "order", "savepoint", "order", "job", "back", "commit"): (1, 1),
    ("job", "order", "savepoint", "order", "job", "release", "commit"): (2, 2),
    ("order", "savepoint", "job", "release", "rollback"): (0, 0),
    ("order", "bad", "job", "commit"): (1, 1),
    ("order", "unique", "unique", "order", "commit"): (2, 1),
    ("order", "unique", "rollback", "unique", "commit"): (0, 1),
    ("order", "insert", "later", "commit"): (1, 2),
    ("order", "job", "commit", "order", "job", "rollback", "job", "commit"): (1, 2),
}


class Base(DeclarativeBase):
    """The application's."""


class Order(Base):
    """A row that jobs belong to."""

    __tablename__ = "orders"
    id = Column(Integer, Identity(), primary_key=True)


class ModelledOrder(SQLModel, table=True):
    """The same for SQLModel."""

    __tablename__ = "orders"
    id: int | None = Field(default=None, primary_key=True)


def write(session: Any, step: str, order: type[Any]) -> None:
    """The steps that need no awaiting, whatever the session."""
    match step:
        case "order":
            session.add(order())
        case "job":
            outbox.add(session, "order.paid", {"order_id": 7}, key="order:7", headers={"tenant": "a"})
        case "later":
            outbox.add(session, "order.paid", {"order_id": 7}, delay=60)
        case "event":
            outbox.emit(session, "order.paid", {"order_id": 7})
        case "three":
            outbox.add_all(session, [{"kind": "order.paid", "payload": n} for n in range(3)])
        case "bad":
            with suppress(ValueError):
                outbox.add(session, "order.paid", {"total": float("nan")})


def play(session: Any, story: tuple[str, ...], order: type[Any]) -> None:
    savepoint: Any = None
    for step in story:
        match step:
            case "savepoint":
                savepoint = session.begin_nested()
            case "back":
                savepoint.rollback()
            case "release":
                savepoint.commit()
            case "unique":
                outbox.add_unique(session, "order.paid", {}, unique="order:7")
            case "insert":
                session.connection().execute(outbox.insert("order.paid", {"order_id": 7}))
            case "commit" | "rollback":
                getattr(session, step)()
            case _:
                write(session, step, order)


async def play_awaited(session: Any, story: tuple[str, ...], order: type[Any]) -> None:
    savepoint: Any = None
    for step in story:
        match step:
            case "savepoint":
                savepoint = await session.begin_nested()
            case "back":
                await savepoint.rollback()
            case "release":
                await savepoint.commit()
            case "unique":
                await outbox.add_unique_async(itself(session), "order.paid", {}, unique="order:7")
            case "insert":
                connection = await session.connection()
                await connection.execute(outbox.insert("order.paid", {"order_id": 7}))
            case "commit" | "rollback":
                await getattr(session, step)()
            case _:
                write(session, step, order)


def itself(session: Any) -> Any:
    """Return the session that a scoped one stands for: the functions that await need it."""
    return session() if callable(session) else session


Sessions = "Iterator[tuple[Any, type[Any]]]"


@contextmanager
def plain(url: str, options: dict[str, Any]) -> Sessions:
    with Session(create_engine(url, **options)) as session:
        yield session, Order


@contextmanager
def scoped(url: str, options: dict[str, Any]) -> Sessions:
    registry = scoped_session(sessionmaker(create_engine(url, **options)))
    yield registry, Order
    registry.remove()


@contextmanager
def sqlmodel(url: str, options: dict[str, Any]) -> Sessions:
    with SQLModelSession(create_engine(url, **options)) as session:
        yield session, ModelledOrder


@contextmanager
def flask(url: str, options: dict[str, Any]) -> Sessions:
    app = Flask("shop")
    app.config.update(SQLALCHEMY_DATABASE_URI=url, SQLALCHEMY_ENGINE_OPTIONS=options)
    db = SQLAlchemy(app)

    class Order(db.Model):  # type: ignore[name-defined]
        __tablename__ = "orders"
        id = Column(BigInteger, Identity(), primary_key=True)

    with app.app_context():
        yield db.session, Order


@asynccontextmanager
async def awaited(url: str, options: dict[str, Any]) -> AsyncIterator[tuple[Any, type[Any]]]:
    async with AsyncSession(create_async_engine(url, **options)) as session:
        yield session, Order


@asynccontextmanager
async def awaited_scoped(url: str, options: dict[str, Any]) -> AsyncIterator[tuple[Any, type[Any]]]:
    maker = async_sessionmaker(create_async_engine(url, **options))
    registry = async_scoped_session(maker, asyncio.current_task)
    yield registry, Order
    await registry.remove()


@asynccontextmanager
async def awaited_sqlmodel(url: str, options: dict[str, Any]) -> AsyncIterator[tuple[Any, type[Any]]]:
    async with SQLModelAsyncSession(create_async_engine(url, **options)) as session:
        yield session, ModelledOrder


FLAVOURS: dict[str, tuple[Callable[..., Any], str]] = {
    "Session": (plain, "psycopg"),
    "Session, psycopg2": (plain, "psycopg2"),
    "scoped_session": (scoped, "psycopg"),
    "SQLModel": (sqlmodel, "psycopg"),
    "Flask-SQLAlchemy": (flask, "psycopg"),
    "AsyncSession, asyncpg": (awaited, "asyncpg"),
    "AsyncSession, psycopg": (awaited, "psycopg"),
    "async_scoped_session": (awaited_scoped, "asyncpg"),
    "SQLModel, awaited": (awaited_sqlmodel, "asyncpg"),
}

# A pooler gives each transaction another backend, so a driver must not count on what it prepared on the last.
POOLED = {
    "psycopg": {"prepare_threshold": None},
    "psycopg2": {},
    "asyncpg": {"statement_cache_size": 0, "prepared_statement_cache_size": 0},
}


@pytest.fixture
def shop(database: Database) -> Database:
    database.execute("CREATE TABLE orders (id bigint PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY)")
    return database


@pytest.fixture(params=["directly", "insert only", "through pgbouncer"])
def url(request: pytest.FixtureRequest, shop: Database) -> Iterator[Callable[[str], str]]:
    """Where a driver finds the database."""
    match request.param:
        case "directly":
            yield shop.url_for
        case "insert only":
            with role(shop, "app") as app:
                shop.execute(f"GRANT ALL ON orders TO {app.name}")  # type: ignore[arg-type]
                yield app.url
        case _:
            dsn = request.getfixturevalue("pgbouncer").dsn
            yield lambda driver: dsn.replace("postgresql://", f"postgresql+{driver}://")


def sessions(flavour: str, url: Callable[[str], str]) -> Any:
    opened, driver = FLAVOURS[flavour]
    return opened(url(driver), {"poolclass": NullPool, "connect_args": POOLED[driver]})


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_session_writes_jobs_with_its_rows(
    shop: Database, url: Callable[[str], str], flavour: str
) -> None:
    ends = {}
    for story in STORIES:
        shop.execute("TRUNCATE orders, outbox.job")
        tell(sessions(flavour, url), story)
        orders, jobs = shop.execute(
            "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM outbox.job)"
        )[0]
        ends[story] = (orders, jobs)
    assert ends == STORIES


def tell(opened: Any, story: tuple[str, ...]) -> None:
    if hasattr(opened, "__enter__"):
        with opened as (session, order):
            play(session, story, order)
    else:
        asyncio.run(told(opened, story))


async def told(opened: Any, story: tuple[str, ...]) -> None:
    async with opened as (session, order):
        await play_awaited(session, story, order)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_session_can_ask_for_a_job_and_cancel_it(shop: Database, flavour: str) -> None:
    opened = sessions(flavour, shop.url_for)
    found = by_id(opened) if hasattr(opened, "__enter__") else asyncio.run(by_id_awaited(opened))
    assert found == ("pending", outbox.Applied(2), "cancelled")
    assert shop.value("SELECT state FROM outbox.job") == "cancelled"


def by_id(opened: Any) -> tuple[object, ...]:
    with opened as (session, _):
        job_id = outbox.add(session, "order.paid", {})
        before = outbox.get(session, job_id)
        result = outbox.cancel(session, job_id)
        after = outbox.get(session, job_id)
        session.commit()
    return before.state, result, after.state


async def by_id_awaited(opened: Any) -> tuple[object, ...]:
    async with opened as (scoped, _):
        session = itself(scoped)
        job_id = outbox.add(session, "order.paid", {})
        before = await outbox.get_async(session, job_id)
        result = await outbox.cancel_async(session, job_id)
        after = await outbox.get_async(session, job_id)
        await session.commit()
    return before.state, result, after.state
