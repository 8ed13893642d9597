"""Sees to it that a kind of job has one queue: two would share its jobs at random, and nobody would know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from outbox.database import CHANNEL
from outbox.errors import WrongEnvironment
from outbox.models import clock, job, taker
from outbox.runner.faults import READ_ONLY, one_line, remedy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection


def register(
    connection: Connection, kinds: Sequence[str], queue: str, *, take_over: bool
) -> list[tuple[str, str]]:
    """Write down that ``queue`` takes these kinds of jobs. The caller commits.

    Args:
        connection: In a transaction.
        kinds: Of jobs; events may have any number of takers.
        queue: The consumer's.
        take_over: Whether kinds of another queue are moved to this one.

    Returns:
        Which kinds were moved, and from which queue.

    Raises:
        WrongEnvironment: Another queue takes one of them, or the database cannot be written.
    """
    check(connection)
    if not kinds:
        return []
    mine = insert(taker).values([{"kind": kind, "queue": queue} for kind in sorted(kinds)])
    if take_over:
        others = elsewhere(connection, kinds, queue)
        moved = {"queue": mine.excluded.queue, "since": func.clock_timestamp()}
        connection.execute(
            mine.on_conflict_do_update(
                index_elements=[taker.c.kind], set_=moved, where=taker.c.queue != mine.excluded.queue
            )
        )
        return others
    connection.execute(mine.on_conflict_do_nothing())
    for kind, other in elsewhere(connection, kinds, queue):
        raise WrongEnvironment(
            f"jobs of kind {kind} are taken by queue {other}, and {queue} would get a random share of them: "
            "declare it with event=True if it is news for both (emit), or move it here with --take-over; to "
            f"drain {queue} after it was moved, leave the handler out: what lies there goes to {other} then"
        )
    return []


def elsewhere(connection: Connection, kinds: Sequence[str], queue: str) -> list[tuple[str, str]]:
    """Return which of these kinds another queue takes, and which."""
    others = select(taker.c.kind, taker.c.queue).where(taker.c.kind.in_(kinds), taker.c.queue != queue)
    return [(kind, other) for kind, other in connection.execute(others.order_by(taker.c.kind))]


def announce(connection: Connection) -> None:
    """Tell this database's relay that a queue was bound: what was parked for want of one can go."""
    connection.execute(select(func.pg_notify(CHANNEL, "bound")))


def check(connection: Connection) -> None:
    """Ask once for all that the consumer lives on: our table, a database that can be written, its dates.

    Raises:
        WrongEnvironment: The database cannot be written.
        Exception: Whatever the driver raises; see ``explained``.
    """
    a_job = select(job.c.created_at).limit(1).scalar_subquery()
    asked = select(func.current_setting("transaction_read_only"), clock, a_job)
    if connection.execute(asked).one()[0] == "on":
        raise WrongEnvironment(READ_ONLY)


def explained(error: Exception) -> Exception:
    """Say in one line what stands between us and the tables."""
    advice = remedy(error)
    return error if advice is None else WrongEnvironment(f"the database refuses: {one_line(error)}; {advice}")
