"""Makes a job of this database out of an event, or out of anybody's message: the inbox.

The row's id follows from the message's id and the queue, so the second of two copies finds the row there.
From then on it is an ordinary job here: this database's relay sends its retries straight to the queue. Never
commits.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects.postgresql import insert

from outbox.message import adopted_id
from outbox.models import job
from outbox.names import check_headers, check_kind
from outbox.payload import encode
from outbox.sessions import checked
from outbox.states import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, scoped_session


def adopt(
    session: Session | scoped_session[Any],
    message_id: str,
    queue: str,
    *,
    kind: str = "message",
    payload: Any = None,
    headers: Mapping[str, str] | None = None,
    content_type: str | None = None,
) -> bool:
    """Take a message once, in the session's transaction: for those who have a consumer of their own.

    Call it first, do the work if it returns True, commit, then ack. While another transaction that took the
    same message is open, the call waits for its end. The row that remembers it is a job that has succeeded;
    it goes the way of all finished jobs after the retention, so keep that longer than the broker keeps
    copies.

    Args:
        session: A session of SQLAlchemy on PostgreSQL.
        message_id: What the sender calls the message: the same in every copy.
        queue: Where it came from; each queue takes a message once.
        kind: For those who look at the table.
        payload: The same; anything that ``outbox.add`` takes.
        headers: The same.
        content_type: Media type of the payload, ``application/json`` by default.

    Returns:
        False: this queue has taken the message before, so it is a duplicate.

    Raises:
        TypeError, ValueError: Something cannot be stored; it is named, and the transaction goes on.
        Misuse: No engine for us, AUTOCOMMIT, or another database.
    """
    body, media_type = encode(payload, content_type)
    row = {
        "id": adopted_id(message_id, queue),
        "kind": check_kind(kind),
        "payload": body,
        "content_type": media_type,
        "headers": check_headers(headers),
        "state": State.SUCCEEDED,
        "attempt": 1,
        **routed(queue),
    }
    return born(checked(session), row)


async def adopt_async(
    session: AsyncSession,
    message_id: str,
    queue: str,
    *,
    kind: str = "message",
    payload: Any = None,
    headers: Mapping[str, str] | None = None,
    content_type: str | None = None,
) -> bool:
    """``adopt`` for sessions that are awaited."""
    call = partial(
        adopt,
        message_id=message_id,
        queue=queue,
        kind=kind,
        payload=payload,
        headers=headers,
        content_type=content_type,
    )
    return await session.run_sync(call)


def born(connection: Connection, row: dict[str, Any]) -> bool:
    """Insert an adopted row. False: it is there already, committed by whoever took another copy."""
    statement = insert(job).values(row).on_conflict_do_nothing().returning(job.c.id)
    return connection.execute(statement).one_or_none() is not None


def routed(queue: str) -> dict[str, str]:
    """Return the route of an adopted job: the default exchange leads straight to the queue."""
    return {"exchange": "", "routing_key": queue}
