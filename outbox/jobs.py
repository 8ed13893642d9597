"""Adds jobs to the caller's transaction.

Never commits, and never opens a connection of its own. ``add``, ``emit`` and ``add_all`` do no I/O at all, so
one function serves sessions that block and sessions that are awaited. Publishing is the relay's work, running
the consumer's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import postgresql

from outbox import models
from outbox.ids import uuid7
from outbox.models import JobRow
from outbox.names import MAX_KEY, check_name
from outbox.new import MAX_ATTEMPTS, columns
from outbox.payload import LIMIT
from outbox.sessions import checked, refuse_unbound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta
    from typing import Unpack
    from uuid import UUID

    from sqlalchemy.dialects.postgresql import Insert
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, scoped_session

    from outbox.new import EventOptions, JobOptions, New
    from outbox.sessions import Adds


@dataclass(frozen=True, slots=True)
class Added:
    """``add_unique`` added a job."""

    id: UUID


@dataclass(frozen=True, slots=True)
class Skipped:
    """``add_unique`` added nothing: a job of this kind waits under the same ``unique``. Counts as false."""

    kind: str
    unique: str

    def __bool__(self) -> bool:
        """Say no: ``if outbox.add_unique(…)`` asks whether a job was added."""
        return False


def add(
    session: Adds,
    kind: str,
    payload: Any,
    *,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    delay: float | timedelta | None = None,
    at: datetime | None = None,
    max_attempts: int = MAX_ATTEMPTS,
    exchange: str | None = None,
    routing_key: str | None = None,
    content_type: str | None = None,
    max_bytes: int = LIMIT,
) -> UUID:
    """Add a job, work that one queue does, to the session's transaction: it commits or rolls back with it.

    Args:
        session: Any session of SQLAlchemy, awaited or not, on PostgreSQL.
        kind: What the work is, such as ``"order.paid"``; at most 255 bytes, without ``*`` and ``#``.
        payload: Anything that ``outbox.payload`` can write as JSON, or bytes together with ``content_type``.
        key: Jobs that share it are published in the order they were added; at most 1,024 bytes.
        headers: Headers of the message, at most 16 KiB together.
        delay: Seconds, or a timedelta, to wait by the database's clock before it is published.
        at: Publish it then, and not before; it needs a time zone.
        max_attempts: After so many failures the job is dead.
        exchange: Where to publish it; the relay's route by default.
        routing_key: The same; the kind by default.
        content_type: Media type of the payload, ``application/json`` by default.
        max_bytes: Largest payload, as bytes.

    Returns:
        The job's id, made here: the row is inserted at the next flush.

    Raises:
        TypeError, ValueError: Something cannot be stored or sent; it is named, and the transaction goes on.
        Misuse: The session has no engine for us; at the flush: AUTOCOMMIT, or another database.
    """
    row = columns(
        kind,
        payload,
        key=key,
        headers=headers,
        delay=delay,
        at=at,
        max_attempts=max_attempts,
        exchange=exchange,
        routing_key=routing_key,
        content_type=content_type,
        max_bytes=max_bytes,
    )
    return _put(session, row)


def emit(session: Adds, kind: str, payload: Any, **options: Unpack[EventOptions]) -> UUID:
    """Add an event, news for any number of queues, to the session's transaction.

    Its last state is ``published``: who consumes it keeps a job of their own.

    Args:
        session: As in ``add``.
        kind: What happened.
        payload: As in ``add``.
        options: ``key, headers, delay, at, exchange, routing_key, content_type, max_bytes`` as in ``add``.

    Returns:
        The event's id, which is the message's.

    Raises:
        TypeError, ValueError, Misuse: As in ``add``.
    """
    return _put(session, columns(kind, payload, tracked=False, **options))


def add_all(session: Adds, news: Iterable[New]) -> list[UUID]:
    """Add many; the next flush sends them together.

    Those with a ``delay`` are sent one at a time, because each asks the database for its clock.

    Args:
        session: As in ``add``.
        news: Dicts of the parameters of ``add``; ``"tracked": False`` makes one an event.

    Returns:
        Their ids, in the same order.

    Raises:
        TypeError, ValueError: One of them cannot be stored or sent; none is added.
        Misuse: As in ``add``.
    """
    rows = [columns(**new) for new in news]
    return [_put(session, row) for row in rows]


def add_unique(
    session: Session | scoped_session[Any],
    kind: str,
    payload: Any,
    *,
    unique: str,
    **options: Unpack[JobOptions],
) -> Added | Skipped:
    """Add a job unless one of this kind waits under the same ``unique``. One statement, sent at once.

    Waiting is scheduled, pending or parked: a job that runs already may have read what was there before your
    change, so it does not count. The transaction goes on either way. While another transaction that added an
    equal job is open, the statement waits for its end.

    Args:
        session: A session of SQLAlchemy on PostgreSQL.
        kind: As in ``add``.
        payload: As in ``add``.
        unique: What makes two jobs equal; at most 1,024 bytes.
        options: The rest of ``add``.

    Returns:
        ``Added`` with the id, or ``Skipped``.

    Raises:
        TypeError, ValueError: As in ``add``.
        Misuse: No engine for us, AUTOCOMMIT, or another database.
    """
    row = columns(kind, payload, **options)
    row["unique_key"] = check_name(unique, "unique", MAX_KEY)
    connection = checked(session)
    job_id = uuid7()
    inserted = connection.execute(_insert(job_id, row).on_conflict_do_nothing()).rowcount
    return Added(job_id) if inserted else Skipped(row["kind"], row["unique_key"])


async def add_unique_async(
    session: AsyncSession,
    kind: str,
    payload: Any,
    *,
    unique: str,
    **options: Unpack[JobOptions],
) -> Added | Skipped:
    """``add_unique`` for sessions that are awaited."""
    call = partial(add_unique, kind=kind, payload=payload, unique=unique, **options)
    return await session.run_sync(call)


def insert(
    kind: str,
    payload: Any,
    *,
    id: UUID | None = None,  # noqa: A002 - the column's name
    tracked: bool = True,
    **options: Unpack[JobOptions],
) -> Insert:
    """Return the INSERT of a job, for those who have a connection and no session.

    It sees no connection, so it cannot refuse AUTOCOMMIT: execute it in the transaction of the rows that the
    job belongs to.

    Args:
        kind: As in ``add``.
        payload: As in ``add``.
        id: The job's id; made here by default.
        tracked: False for an event.
        options: The rest of ``add``.

    Raises:
        TypeError, ValueError: As in ``add``.
    """
    return _insert(id or uuid7(), columns(kind, payload, tracked=tracked, **options))


def _insert(job_id: UUID, row: dict[str, Any]) -> Insert:
    """Return a statement whose ``rowcount`` can be read: by itself SQLAlchemy forgets it after an INSERT."""
    statement = postgresql.insert(models.job).values(id=job_id, **row)
    return statement.execution_options(preserve_rowcount=True)


def _put(session: Adds, row: dict[str, Any]) -> UUID:
    refuse_unbound(session)
    job_id = uuid7()
    session.add(JobRow(id=job_id, **row))
    return job_id
