"""Looks into the database while others work: who holds the leader's lock, who waits, who is at what."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Self

import psycopg

from outbox.database import LOCK_CLASS, LOCK_LEADER

if TYPE_CHECKING:
    from databases import Database

EVERY = 0.005
# Whatever the mode: a lock that could be shared would be no lock.
HOLDERS = f"""
SELECT count(DISTINCT pid) FROM pg_locks
 WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = {LOCK_CLASS} AND objid = {LOCK_LEADER}
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Sampler:
    """Counts the holders of the leader's lock every 5 ms while the context is open.

    Args:
        database: where; it may be restarted meanwhile.
    """

    def __init__(self, database: Database) -> None:
        self.seen: Counter[int] = Counter()
        """How often so many sessions held the lock."""
        self._database = database
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def __str__(self) -> str:
        held = f"{self.seen.total() - self.seen[0]} of {self.seen.total()} looks found the lock held"
        return f"{held}, by {max(self.seen)} at most"

    @property
    def most(self) -> int:
        """The largest number of holders that was seen; 0 where it was never held."""
        return max(self.seen, default=0)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                with self._database.connect() as session:
                    self._look(session)
            except psycopg.OperationalError:  # the server is being restarted
                self._over.wait(EVERY)

    def _look(self, session: psycopg.Connection) -> None:
        while not self._over.wait(EVERY):
            (count,) = session.execute(HOLDERS).fetchone() or (0,)
            self.seen[count] += 1


def waiting(database: Database) -> int:
    """Count the sessions that wait for another one's lock on a row, a key or a transaction."""
    query = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return int(database.value(query))


def busy(database: Database, query: str) -> int:
    """Count the sessions whose running statement is like ``query``."""
    return int(
        database.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND state = 'active' AND pid <> pg_backend_pid() AND query LIKE %s",
            query,
        )
    )
