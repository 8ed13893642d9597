"""The torture's SQL on the scratch database: effects, what is left to do, and two faults of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import dict_row

from outbox.database import LOCK_CLASS, LOCK_LEADER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import psycopg

_EFFECTS: Final = "SELECT token FROM torture_effect"
_UNFINISHED: Final = """
SELECT count(*) FROM outbox.job
WHERE state IN ('scheduled', 'pending', 'parked', 'running') OR (tracked AND state = 'published')
"""
_SENT_AGAIN: Final = "SELECT count(*) FROM outbox.job WHERE sends > 1"
_END: Final = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock' AND objsubid = 2
  AND classid = %s AND objid = %s
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_LOCK: Final = """
SELECT id FROM outbox.job WHERE state IN ('scheduled', 'pending', 'published', 'running')
ORDER BY pos LIMIT %s FOR UPDATE SKIP LOCKED
"""
_JOBS: Final = """
SELECT id::text, kind, key, state::text, version, attempt, sends, error FROM outbox.job
WHERE id::text = ANY(%s) OR state IN ('scheduled', 'pending', 'parked', 'running', 'dead')
   OR (tracked AND state = 'published')
ORDER BY pos LIMIT 1000
"""


def effects(connection: psycopg.Connection) -> list[str]:
    """Return what handlers did, as the writers named it."""
    return [token for (token,) in connection.execute(_EFFECTS).fetchall()]


def unfinished(connection: psycopg.Connection) -> int:
    """Return how many jobs there are to do."""
    return _count(connection, _UNFINISHED)


def sent_again(connection: psycopg.Connection) -> int:
    """Return how many jobs were sent again because the broker had lost them."""
    return _count(connection, _SENT_AGAIN)


def end_leaders_session(connection: psycopg.Connection) -> bool:
    """End the session of the relay that leads on this database; False: there is none."""
    return bool(connection.execute(_END, (LOCK_CLASS, LOCK_LEADER)).fetchall())


def lock_jobs(connection: psycopg.Connection, most: int) -> int:
    """Lock jobs that wait to be published or done, until the transaction ends; return how many."""
    return len(connection.execute(_LOCK, [most]).fetchall())


def described(connection: psycopg.Connection, ids: Iterable[object]) -> Iterator[str]:
    """Yield a line for each of these jobs, and for each that is unfinished or dead."""
    wanted = sorted(map(str, ids))
    with connection.cursor(row_factory=dict_row) as cursor:
        rows: list[dict[str, Any]] = cursor.execute(_JOBS, [wanted]).fetchall()
    for row in rows:
        yield " ".join(f"{name}={value}" for name, value in row.items())
    found = {row["id"] for row in rows}
    yield from (f"id={each} is not in the table" for each in wanted if each not in found)


def _count(connection: psycopg.Connection, question: str) -> int:
    row = connection.execute(question.encode()).fetchone()
    return int(row[0]) if row else 0
