"""The README holds: its code runs, its commands exist and do what it says, what it points to is there."""

from __future__ import annotations

import asyncio
import re
import shlex
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import fastapi
import httpx
import pydantic
import pytest
import readme
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

import outbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from databases import Database
    from processes import Processes


class Base(DeclarativeBase):
    """What the README's reader has already."""


class Order(Base):
    """An order of the reader's shop."""

    __tablename__ = "order"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    total: Mapped[Decimal]
    receipts: Mapped[int] = mapped_column(default=0)

    @property
    def receipt_sent(self) -> bool:
        """Whether it has one."""
        return self.receipts == 1


class Receipt(Base):
    """A receipt."""

    __tablename__ = "receipt"
    order_id: Mapped[int] = mapped_column(primary_key=True)


class Video(Base):
    """A video."""

    __tablename__ = "video"
    name: Mapped[str] = mapped_column(primary_key=True)


class NewOrder(pydantic.BaseModel):
    """What a customer sends."""

    id: int
    total: Decimal


def reader_has(database: Database) -> dict[str, Any]:
    """Return the names that the README takes for granted."""
    engine = create_engine(database.url)
    Base.metadata.create_all(engine)
    session = Session(engine)
    asynchronous = async_sessionmaker(create_async_engine(database.url))

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with asynchronous() as found:
            yield found

    known = [Session, AsyncSession, Order, Receipt, Video, NewOrder, Decimal, Annotated, sessionmaker]
    return {name.__name__: name for name in known if name is not Annotated} | {
        "Annotated": Annotated,
        "Depends": fastapi.Depends,
        "app": fastapi.FastAPI(),
        "encoder": lambda file, token: [0.5, 1.0],
        "engine": engine,
        "get_session": get_session,
        "outbox": outbox,
        "session": session,
    }


@pytest.fixture
def story(database: Database) -> dict[str, Any]:
    """Run the README's Python from top to bottom, as one story; return the names it leaves."""
    names = reader_has(database)
    for block in readme.blocks("python"):
        code = "\n" * (block.line - 1) + block.code
        if "job_id" not in names and "job_id" in code:
            names["job_id"] = outbox.add(names["session"], "order.paid", {"order_id": 7})
            names["session"].commit()
        exec(compile(code, readme.README.name, "exec"), names)
    names["session"].commit()
    return names


def test_its_python_runs_from_top_to_bottom_and_adds_what_it_says(
    story: dict[str, Any], database: Database
) -> None:
    kinds = dict(database.execute("SELECT kind, count(*) FROM outbox.job GROUP BY kind"))
    assert kinds == {
        "order.paid": 2,
        "customer.moved": 1,
        "report.build": 1,
        "mail.send": 100,
        "search.reindex": 1,
    }
    assert set(story["handlers"].kinds) == {"order.paid", "video.encode"}


def test_its_endpoint_answers_with_the_id_of_a_committed_job(
    story: dict[str, Any], database: Database
) -> None:
    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app=story["app"])
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.post("/orders", json={"id": 9, "total": "1.50"})

    answer = asyncio.run(post())
    job = UUID(answer.json()["job"])
    assert database.value("SELECT state FROM outbox.job WHERE id = %s", job) == "pending"


def test_its_own_test_passes(story: dict[str, Any]) -> None:
    def pay(session: Session, order_id: int) -> None:
        session.get_one(Order, order_id).receipts = 1
        outbox.add(session, "order.paid", {"order_id": order_id})

    story["pay"] = pay
    story["session"].query(Receipt).delete()
    story["test_paying_sends_a_receipt"](story["session"])


COMMANDS = [command for command in readme.commands() if command.startswith("outbox ")]
SERVERS = {"relay", "consume"}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_does_what_it_is_for(
    command: str, database: Database, amqp_url: str, processes: Processes, tmp_path: Path
) -> None:
    job = database.value("SELECT outbox.add('order.paid', '{\"order_id\": 7}')")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "jobs.py").write_text(
        f"import outbox, sqlalchemy as sa, sqlalchemy.orm as orm\n"
        f"engine = sa.create_engine({database.url!r})\n"
        f"handlers = outbox.Handlers('receipts', session=orm.sessionmaker(engine))\n"
        f"handlers('order.paid')(lambda job, session: None)\n"
        f"schedules = outbox.Schedules()\n"
    )
    words = [str(job) if "…" in word else word for word in shlex.split(command)[1:]]
    env = {"OUTBOX_DATABASE_URL": database.dsn, "OUTBOX_BROKER_URL": amqp_url, "OUTBOX_LOG": "json"}
    process = processes.outbox(*words, env=env, cwd=tmp_path)
    if words[0] in SERVERS:
        process.wait_event("leadership_gained" if words[0] == "relay" else "consumer_started")
        process.terminate()
    assert process.wait() == 0, process.story()


def test_every_other_command_is_one_that_make_or_pip_knows() -> None:
    others = [command for command in readme.commands() if not command.startswith("outbox ")]
    makefile = (readme.README.parent / "Makefile").read_text()
    for command in others:
        program, *words = command.split()
        assert program in {"make", "pip", "export"}, command
        assert program != "make" or f"\n{words[0]}:" in makefile, command


@pytest.mark.parametrize("link", readme.links())
def test_what_it_points_to_is_there(link: str) -> None:
    assert (readme.README.parent / link).exists()


def test_each_test_that_it_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", readme.README.read_text())
    assert named
    for file, function in named:
        code = (readme.README.parent / file).read_text()
        assert not function or f"def {function}(" in code, f"{file}::{function}"
