"""How the library is used, as a type checker sees it. Checked by mypy and never run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, assert_type
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker

import outbox

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy
    from sqlalchemy import Connection


def adding(
    session: Session,
    scoped: scoped_session[Session],
    awaited: AsyncSession,
    awaited_scoped: async_scoped_session[AsyncSession],
    flask: SQLAlchemy,
) -> None:
    """Every session is one that jobs can be added to."""
    assert_type(outbox.add(session, "order.paid", {"order_id": 7}), UUID)
    assert_type(outbox.add(scoped, "order.paid", [1], key="order:7", delay=1.5), UUID)
    assert_type(outbox.add(awaited, "order.paid", None, delay=timedelta(minutes=5)), UUID)
    assert_type(outbox.add(awaited_scoped, "order.paid", "text", at=datetime.now(UTC)), UUID)
    assert_type(outbox.add(flask.session, "order.paid", {}, headers={"tenant": "a"}), UUID)
    assert_type(outbox.get(flask.session, UUID(int=7)), outbox.Job | None)
    outbox.add_unique(flask.session, "order.paid", {}, unique="order:7")
    assert_type(outbox.emit(awaited, "order.paid", {}, key="order:7"), UUID)
    news: list[outbox.New] = [{"kind": "k", "payload": n, "key": "k"} for n in range(3)]
    assert_type(outbox.add_all(session, news), list[UUID])
    assert_type(outbox.add_all(awaited, [{"kind": "k", "payload": {}, "tracked": False}]), list[UUID])


def refused(session: Session, connection: Connection) -> None:
    """What a checker refuses. An ignore that ignores nothing is an error as well."""
    outbox.add(connection, "order.paid", {})  # type: ignore[arg-type]
    outbox.add(session, b"order.paid", {})  # type: ignore[arg-type]
    outbox.add(session, "order.paid")  # type: ignore[call-arg]
    outbox.add(session, "order.paid", {}, "order:7")  # type: ignore[call-arg]
    outbox.add(session, "order.paid", {}, colour="red")  # type: ignore[call-arg]
    outbox.add(session, "order.paid", {}, headers={"n": 1})  # type: ignore[dict-item]
    outbox.emit(session, "order.paid", {}, max_attempts=3)  # type: ignore[call-arg]
    outbox.add_unique(session, "order.paid", {})  # type: ignore[call-arg]
    outbox.add_all(session, [{"kind": "order.paid"}])  # type: ignore[typeddict-item]


def unique(session: Session) -> UUID | None:
    """An answer that can be matched, or asked whether it is one."""
    if not outbox.add_unique(session, "order.paid", {}, unique="order:7", delay=60):
        return None
    match outbox.add_unique(session, "order.paid", {}, unique="order:7"):
        case outbox.Added(id):
            return assert_type(id, UUID)
        case outbox.Skipped(kind, unique):
            assert_type((kind, unique), tuple[str, str])
            return None


def by_id(session: Session, job_id: UUID, connection: Connection) -> str:
    """A job is a value, and a move has a result that can be matched to its end."""
    job = outbox.get(session, job_id)
    if job is not None:
        assert_type(job.state, outbox.State)
    connection.execute(outbox.insert("order.paid", {}, id=job_id, key="order:7").on_conflict_do_nothing())
    match outbox.cancel(session, job_id, "changed my mind"):
        case outbox.Applied(version):
            return f"cancelled, version {version}"
        case outbox.AlreadyApplied() | outbox.Superseded() | outbox.Ahead() | outbox.Missing():
            return "nothing to do"
        case outbox.Illegal(state):
            return f"it is {state}"


async def awaited(session: AsyncSession, job_id: UUID) -> None:
    """The twins of what does I/O."""
    assert_type(await outbox.add_unique_async(session, "k", {}, unique="u"), outbox.Added | outbox.Skipped)
    assert_type(await outbox.get_async(session, job_id), outbox.Job | None)
    assert_type(await outbox.cancel_async(session, job_id), outbox.Result)
    assert_type(await outbox.adopt_async(session, "message", "queue"), bool)


@dataclass
class Paid:
    """A model for payloads."""

    order_id: int


class MySession(Session):
    """A session of an application's own."""


handlers = outbox.Handlers("receipts", session=sessionmaker(class_=MySession))
async_handlers = outbox.Handlers("receipts", session=async_sessionmaker())


@handlers("order.paid", model=Paid, max_attempts=3)
def send_receipt(job: outbox.Job, session: MySession) -> outbox.Snooze | None:
    """A handler gets the session that its registry makes."""
    outbox.add(session, "receipt.sent", {"order": job.idempotency_key})
    return outbox.Snooze(60) if job.attempt > 1 else None


@async_handlers("order.paid")
async def send_receipt_async(job: outbox.Job, session: AsyncSession) -> None:
    """And so does one that awaits."""
    outbox.emit(session, "receipt.sent", job.payload)
    raise outbox.Cancel("why")


@handlers.leased("report.built", seconds=30)
def build_report(job: outbox.LeasedJob[MySession]) -> None:
    """A leased handler gets the job alone."""
    job.progress(0.4)
    with job.finish() as session:
        assert_type(session, MySession)
