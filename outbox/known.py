"""What an application asks of a job that it knows by its id: how it stands, and that it be cancelled.

The role needs the rights of a consumer as well as of an application (``grants.py``). Never commits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import select

from outbox.ids import check_id
from outbox.job import Job, job_of
from outbox.models import JobRow
from outbox.names import check_name
from outbox.sessions import refuse_unbound
from outbox.states import State
from outbox.transitions import MAX_ERROR, AlreadyApplied, Illegal, Missing, Result, Superseded, transition

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, scoped_session

# Columns and not the entity: a row of the session's own would be what it was when it was first read.
SHOWN = (
    JobRow.id,
    JobRow.kind,
    JobRow.key,
    JobRow.payload,
    JobRow.content_type,
    JobRow.headers,
    JobRow.state,
    JobRow.version,
    JobRow.attempt,
    JobRow.max_attempts,
    JobRow.created_at,
    JobRow.error,
)


def get(session: Session | scoped_session[Any], job_id: UUID) -> Job | None:
    """Return a job as it is now, or None if there is none: never added, rolled back, or pruned.

    Args:
        session: A session of SQLAlchemy on PostgreSQL.
        job_id: What ``add`` returned.

    Raises:
        TypeError, ValueError: ``job_id`` is none.
        Misuse: The session has no engine for us.
    """
    wanted = check_id(job_id)
    refuse_unbound(session)
    row = session.execute(select(*SHOWN).where(JobRow.id == wanted)).one_or_none()
    return None if row is None else job_of(cast("JobRow", row))


async def get_async(session: AsyncSession, job_id: UUID) -> Job | None:
    """``get`` for sessions that are awaited."""
    return await session.run_sync(get, job_id)


def cancel(session: Session | scoped_session[Any], job_id: UUID, reason: str | None = None) -> Result:
    """Cancel a job that has not begun, in the session's transaction.

    A message that is with the broker already has no effect any more: the consumer compares the version. A job
    that runs is left alone, and so is an event that was published: others may have acted on it.

    Write your own rows first and call this last: the job's row stays locked until the commit. A handler that
    cancels its own job so commits what it wrote with it; ``raise outbox.Cancel(reason)`` rolls that back.

    Args:
        session: A session of SQLAlchemy on PostgreSQL.
        job_id: What ``add`` returned.
        reason: Kept with the job, at most 2,000 bytes on one line.

    Returns:
        ``Applied``; ``AlreadyApplied`` if it is cancelled; ``Illegal`` with the state of a job that runs or
        is finished; ``Missing``.

    Raises:
        TypeError, ValueError: ``job_id`` is none, or ``reason`` cannot be stored.
        Misuse: No engine for us, AUTOCOMMIT, or another database.
    """
    wanted = check_id(job_id)
    if reason is not None:
        check_name(reason, "reason", MAX_ERROR)
    refuse_unbound(session)
    result = _cancel(session, wanted, reason)
    while isinstance(result, Superseded):  # somebody moved it between the look and the move: look again
        result = _cancel(session, wanted, reason)
    return result


async def cancel_async(session: AsyncSession, job_id: UUID, reason: str | None = None) -> Result:
    """``cancel`` for sessions that are awaited."""
    return await session.run_sync(cancel, job_id, reason)


def _cancel(session: Session | scoped_session[Any], job_id: UUID, reason: str | None) -> Result:
    look = select(JobRow.version, JobRow.state, JobRow.tracked).where(JobRow.id == job_id)
    found = session.execute(look).one_or_none()
    if found is None:
        return Missing()
    match State(found.state):
        case State.CANCELLED:
            return AlreadyApplied(found.version)
        case State.RUNNING:
            return Illegal(State.RUNNING)
        case State.PUBLISHED if not found.tracked:
            return Illegal(State.PUBLISHED)
    return transition(session, job_id, found.version, State.CANCELLED, error=reason)
