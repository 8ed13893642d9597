"""Moves a job from one state to the next, once per version. A move that loses is a value, never an exception.

Whoever moves a job says which version of it they saw. The UPDATE hits one row or none; with none, the row is
read again to say why. Redelivered, duplicated and late messages all end there. This module never commits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Integer, Uuid, bindparam, exists, func, literal_column, select, text, update

from outbox.backoff import LONGEST_DELAY
from outbox.ids import check_id
from outbox.models import clock, job
from outbox.models import transition as log
from outbox.new import duration, instant
from outbox.sessions import checked
from outbox.states import State, sources

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Connection, Executable
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, scoped_session
    from sqlalchemy.sql.dml import Update

MAX_ERROR: Final = 2_000
"""Characters of an error that are kept with a job."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The job moved; ``version`` is its new one."""

    version: int


@dataclass(frozen=True, slots=True)
class AlreadyApplied:
    """Just this move was made before, from this version: a duplicate."""

    version: int


@dataclass(frozen=True, slots=True)
class Superseded:
    """The job moved elsewhere meanwhile; it has ``version`` now."""

    version: int


@dataclass(frozen=True, slots=True)
class Ahead:
    """The caller knows a later version than the row has: a failover lost the tail of the history."""

    version: int


@dataclass(frozen=True, slots=True)
class Illegal:
    """The version is right, but no transition leads from ``state`` to where the caller wanted."""

    state: State


@dataclass(frozen=True, slots=True)
class Missing:
    """No such job: pruned, or lost in a failover."""


Result = Applied | AlreadyApplied | Superseded | Ahead | Illegal | Missing

_OPEN: Final = frozenset({State.SUCCEEDED, State.SCHEDULED, State.DEAD, State.CANCELLED})


def transition(
    session: Session | scoped_session[Any],
    job_id: UUID,
    version: int,
    to: State | str,
    *,
    error: str | None = None,
    available_at: datetime | None = None,
    delay: float | None = None,
    note: str | None = None,
    by: str | None = None,
) -> Result:
    """Move a job, in the session's transaction, if it still has the version that you saw.

    For those who run jobs with a consumer of their own, and for operators' tools. Write your own rows first
    and call this last: the row stays locked until the commit.

    Args:
        session: A session of SQLAlchemy on PostgreSQL.
        job_id: Of the job.
        version: The version that you saw: of the message (``x-outbox-version``), or of the row.
        to: ``succeeded``, ``scheduled``, ``dead`` or ``cancelled``; the other states are the relay's and the
            leased handlers'.
        error: Kept with the job, cut at 2,000 characters.
        available_at: When a scheduled job is due; now by default.
        delay: The same as seconds from now, by the database's clock.
        note: Kept in the log of transitions.
        by: Who did it, in the log of transitions; the database's user by default.

    Returns:
        ``Applied``, or why not: ``AlreadyApplied``, ``Superseded``, ``Ahead``, ``Illegal``, ``Missing``.

    Raises:
        TypeError, ValueError: ``job_id`` is none, ``to`` is not one of the four, ``delay`` or
            ``available_at`` cannot be one, or both are given.
        Misuse: No engine for us, AUTOCOMMIT, or another database.
    """
    wanted, target = check_id(job_id), State(to)
    if target not in _OPEN:
        raise ValueError(
            f"only the relay and the consumer make a job {target}; {', '.join(sorted(_OPEN))} are open to all"
        )
    if delay is not None and available_at is not None:
        raise ValueError("delay and available_at are two ways to say one thing: give one")
    values: dict[str, Any] = {} if error is None else {"error": error[:MAX_ERROR]}
    if target is State.SCHEDULED:
        due = due_in(duration(delay or 0.0).total_seconds())
        values["available_at"] = due if available_at is None else instant(available_at)
    connection = checked(session)
    if session.autoflush:
        session.flush()
    sign(connection, by, note)
    result = move(connection, wanted, version, target, values)
    sign(connection, by and "", note and "")
    return result


async def transition_async(
    session: AsyncSession,
    job_id: UUID,
    version: int,
    to: State | str,
    *,
    error: str | None = None,
    available_at: datetime | None = None,
    delay: float | None = None,
    note: str | None = None,
    by: str | None = None,
) -> Result:
    """``transition`` for sessions that are awaited."""
    call = partial(
        transition,
        job_id=job_id,
        version=version,
        to=to,
        error=error,
        available_at=available_at,
        delay=delay,
        note=note,
        by=by,
    )
    return await session.run_sync(call)


def move(connection: Connection, job_id: UUID, version: int, to: State, values: dict[str, Any]) -> Result:
    """Make one move, or say why not.

    Args:
        connection: In the transaction that it shall commit with.
        job_id: Of the job.
        version: That it must have.
        to: The state it shall have.
        values: Other columns to set; may be SQL expressions.
    """
    if connection.execute(guarded(job_id, version, to, values)).rowcount:
        return Applied(version + 1)
    return classify(connection, job_id, version, to)


def guarded(job_id: UUID, version: int, to: State, values: dict[str, Any]) -> Update:
    """The one statement that moves a job: it hits one row or none."""
    return (
        update(job)
        .where(job.c.id == job_id, job.c.version == version, job.c.state.in_(sources(to)))
        .values({"state": to, "version": job.c.version + 1, **values})
    )


_LOOK = select(
    job.c.version,
    job.c.state,
    exists().where(
        log.c.job_id == job.c.id,
        log.c.version == bindparam("next", type_=Integer),
        log.c.to == bindparam("to"),
    ),
).where(job.c.id == bindparam("id"))


def classify(connection: Connection, job_id: UUID, version: int, to: State) -> Result:
    """Say why a move hit no row."""
    row = connection.execute(_LOOK, {"id": job_id, "next": version + 1, "to": to}).one_or_none()
    if row is None:
        return Missing()
    found, state, done = row
    if found < version:
        return Ahead(found)
    if found == version:
        return Illegal(State(state))
    return AlreadyApplied(found) if done else Superseded(found)


# A subtransaction has a number of its own, so xmin is not compared with ours. A row that we see is committed,
# or ours; and what is ours is still in progress. xmin has 32 bits: the rest is that of the number next to it.
_MOVED_HERE = text(
    """
    SELECT state, version FROM outbox.job, CAST(CAST(pg_current_xact_id() AS text) AS bigint) AS mine
     WHERE id = :id AND pg_xact_status(CAST(CAST(
           mine + ((CAST(CAST(job.xmin AS text) AS bigint) - mine + 2147483648) & 4294967295) - 2147483648
           AS text) AS xid8)) = 'in progress'
    """
).bindparams(bindparam("id", type_=Uuid))


def moved_here(connection: Connection, job_id: UUID) -> tuple[State, int] | None:
    """Return state and version of a job that this very transaction has moved, or None.

    Args:
        connection: In the transaction, which has seen the job before it was moved.
        job_id: Of the job.
    """
    row = connection.execute(_MOVED_HERE, {"id": job_id}).one_or_none()
    return None if row is None else (State(row.state), row.version)


def catch_up(connection: Connection, job_id: UUID, found: int, known: int) -> bool:
    """Bring a row that lost the tail of its history past what a message knows: scheduled, due now.

    Args:
        connection: In a transaction of the caller's.
        job_id: Of the job.
        found: The version that the row has.
        known: The version that the message has, which is later.

    Returns:
        Whether the row still had ``found``.
    """
    values = {"state": State.SCHEDULED, "version": known + 1, "available_at": clock}
    statement = update(job).where(job.c.id == job_id, job.c.version == found).values(values)
    connection.execute(setting("outbox.ahead", "on"))
    hit = connection.execute(statement).rowcount
    connection.execute(setting("outbox.ahead", "off"))
    return bool(hit)


def due_in(seconds: float) -> Any:
    """The moment ``seconds`` from now, by the database's clock: the hosts' clocks differ.

    A longer wait than the table takes becomes the longest: a handler's answer must not be one that nobody can
    write down.
    """
    zero = literal_column("0", Integer)
    wait = min(float(seconds), LONGEST_DELAY.total_seconds())
    return func.clock_timestamp() + func.make_interval(zero, zero, zero, zero, zero, zero, wait)


def sign(connection: Connection, by: str | None, note: str | None) -> None:
    """Say who moves jobs in this transaction, and why; None leaves what is set, "" takes it back."""
    for name, value in (("outbox.by", by), ("outbox.note", note)):
        if value is not None:
            connection.execute(setting(name, value))


def setting(name: str, value: str) -> Executable:
    """Set a value for the rest of the transaction."""
    return select(func.set_config(name, value, True))
