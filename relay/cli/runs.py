"""Single runs: the lock that one run holds, the row that says which slot it was for, and who ran what.

The lock is the session: it has no time to live and needs no renewal, and whatever ends the process ends it.
The row is the slot's, so that a second start after the first has ended runs nothing either. What is run is
not known here (``child.py``).
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from outbox import schema
from outbox.errors import ConfigError, LockLost, OutboxError
from outbox.slots import RUN
from relay.backend import Backend, Postponed

if TYPE_CHECKING:
    from datetime import datetime

    from outbox.cron import Cron
    from relay.sessions import Session

ROLE: Final = "outbox-cron"
EARLY: Final = timedelta(seconds=30)
"""A start that is early by so much, or by a quarter of the time between two slots, means the coming slot: the
clock of whoever starts us may be ahead of the database's."""

# Consumers' claims are in the same space, hashes of uuids.
KEY: Final = "hashtextextended(%(task)s, 0)"
LOCK: Final = f"SELECT pg_try_advisory_lock({KEY}), clock_timestamp()"
TAKE: Final = """
INSERT INTO outbox.slot (schedule, slot_at, by) VALUES (%(task)s, %(slot)s, %(by)s)
ON CONFLICT DO NOTHING RETURNING slot_at
"""
WHO: Final = "SELECT by, at FROM outbox.slot WHERE schedule = %(task)s AND slot_at = %(slot)s"
LAST: Final = "SELECT by, at FROM outbox.slot WHERE schedule = %(task)s ORDER BY at DESC LIMIT 1"

_ADVISORY: Final = """
SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
   AND l.mode = 'ExclusiveLock'
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
   AND l.classid = ((k.key >> 32) & 4294967295)::oid AND l.objid = (k.key & 4294967295)::oid
"""
HELD: Final = f"""
SELECT EXISTS ({_ADVISORY} AND l.pid = pg_backend_pid()) FROM (SELECT {KEY} AS key) k
"""  # noqa: S608 - constants of ours

# One probe of the primary key for each name, however many slots it has.
NAMES: Final = f"""
WITH RECURSIVE n AS (
    (SELECT schedule FROM outbox.slot ORDER BY schedule LIMIT 1)
    UNION ALL
    SELECT (SELECT s.schedule FROM outbox.slot s WHERE s.schedule > n.schedule ORDER BY s.schedule LIMIT 1)
      FROM n WHERE n.schedule IS NOT NULL)
SELECT n.schedule, last.slot_at, last.at, last.by,
       (SELECT EXISTS ({_ADVISORY}) FROM (SELECT hashtextextended(n.schedule, 0) AS key) k)
  FROM n LEFT JOIN LATERAL (SELECT slot_at, at, by FROM outbox.slot s
                             WHERE s.schedule = n.schedule AND s.slot_at > 'epoch'
                             ORDER BY s.slot_at DESC LIMIT 1) last ON true
 WHERE n.schedule IS NOT NULL
"""  # noqa: S608 - constants of ours
RECORD: Final = ("last", "at", "by", "running")
"""What ``NAMES`` gives for each name."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """There is nothing to run, and why."""

    why: str


class Turn:
    """A session that may hold a command's lock.

    Args:
        dsn: PostgreSQL, direct and the primary.
        name: of the command.

    Raises:
        ConfigError: the address cannot be read.
        Unreachable: nothing answers, or it refuses us.
        WrongEnvironment: a pooler, a replica, an old schema.
    """

    def __init__(self, dsn: str, name: str) -> None:
        self.name, self._task = name, f"{RUN}{name}"
        self._backend = Backend(dsn, ROLE)
        try:
            schema.check(self._backend.row)
        except BaseException:
            self.close()
            raise

    def take(self, cron: Cron) -> Skipped | datetime:
        """Take lock and slot.

        The lock comes first: a slot whose start was skipped because of the run before is not used up.

        Returns:
            The slot, now ours alone; or why not.

        Raises:
            ConfigError: the schedule has no slots.
            Unreachable, WrongEnvironment, Postponed: as of ``Backend.rows``; nothing may be run.
        """
        got, now = self._backend.rows(LOCK, {"task": self._task})[0]
        if not got:
            return Skipped(f"it still runs, {self._told(LAST)}")
        slot = nearest(cron, now)
        by = f"{socket.gethostname()}:{os.getpid()}"
        if self._backend.rows(TAKE, {"task": self._task, "slot": slot, "by": by}):
            return slot
        return Skipped(f"the slot of {slot:%Y-%m-%d %H:%M:%S} UTC has run, {self._told(WHO, slot)}")

    def fileno(self) -> int | None:
        """Return the session's socket: it can be read when the server has ended it."""
        return self._backend.fileno()

    def prove(self, *, ask: bool) -> None:
        """Make sure that the lock is still ours.

        Args:
            ask: the server, and not only whether it has hung up.

        Raises:
            LockLost: it is not.
        """
        try:
            self._backend.listen()
            held = not ask or self._backend.row(HELD, {"task": self._task}) == (True,)
        except Postponed:
            return  # a slow server is no dead one
        except OutboxError as error:
            raise LockLost(str(error)) from None
        if not held:
            raise LockLost("somebody released it")

    def close(self) -> None:
        """End the session, and with it the lock."""
        self._backend.close()

    def _told(self, query: str, slot: datetime | None = None) -> str:
        found = self._backend.row(query, {"task": self._task, "slot": slot})
        if found is None:
            return "begun this moment"
        host, _, pid = found[0].rpartition(":")
        return f"on {host}, pid {pid}, since {found[1].astimezone():%Y-%m-%d %H:%M:%S %Z}"


def nearest(cron: Cron, now: datetime) -> datetime:
    """Return the slot that a start at this time is for: the last one, or the next if that is very near.

    Raises:
        ConfigError: there is none within fifty years.
    """
    latest, following = cron.latest(now), cron.next(now)
    if latest is None or following is None:
        raise ConfigError([f"--schedule {cron.expression!r} has no slot within fifty years of now"])
    return following if following - now <= min(EARLY, (following - latest) / 4) else latest


def listed(session: Session) -> list[dict[str, Any]]:
    """Return every schedule and every command that has a row, with its last slot."""
    found = []
    for name, *values in session.execute(NAMES).fetchall():
        command = name.startswith(RUN)
        record = dict(zip(RECORD, values, strict=True))
        record["running"] = record["running"] if command else None
        what = "command" if command else "schedule"
        found.append({"name": name.removeprefix(RUN) if command else name, "what": what, **record})
    return found
