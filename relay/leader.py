"""Who may publish: the election, and the end of a leader that has gone silent.

The lock is the connection. It is polled, never waited for; lock and term are taken in one statement; whoever
loses the session loses the lock and the ability to mark in the same instant. A holder that has been silent
for ``stale`` seconds of this standby's own clock is ended, whatever the database's clock says.

This module publishes nothing and reads no job.
"""

from __future__ import annotations

import random
import socket
from typing import TYPE_CHECKING, Any, Final

from outbox import events, schema
from outbox.database import LOCK_CLASS, LOCK_LEADER
from outbox.errors import OutboxError, Unreachable, WrongEnvironment
from relay.backend import APPLICATION, Backend, Replica
from relay.routes import differences
from relay.term import CHANNEL, Term, clock

if TYPE_CHECKING:
    from outbox.events import Observer
    from relay.config import Settings

POLL: Final = 0.4
"""Seconds between a standby's tries, jittered: a killed leader is followed well within one second."""
SHORTEST: Final = 0.05

# One statement takes lock and term. In two, a holder frozen between them cannot be told from its dead
# predecessor, and every standby waits for ever. The lock is not even tried when the last leader served
# another broker.
ACQUIRE: Final = f"""
WITH same AS MATERIALIZED (
    SELECT FROM outbox.leader WHERE digest IS NULL OR digest = %(digest)s OR %(take_over)s),
lock AS MATERIALIZED (
    SELECT pg_try_advisory_lock({LOCK_CLASS}, {LOCK_LEADER}) AS got FROM same)
UPDATE outbox.leader SET term = term + 1, token = gen_random_uuid(), pid = pg_backend_pid(),
    backend_start = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()),
    heartbeat_at = clock_timestamp(), since = clock_timestamp(),
    host = %(host)s
FROM lock WHERE lock.got
RETURNING term, token, (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM outbox.job_pos_seq)
"""

HOLDER: Final = f"""
SELECT l.token, l.heartbeat_at, a.pid, a.backend_start, a.application_name, a.client_addr::text,
       coalesce(a.usename = current_user AND a.application_name LIKE '{APPLICATION}:%%', false)
FROM outbox.leader l
LEFT JOIN (pg_locks k JOIN pg_stat_activity a ON a.pid = k.pid)
  ON k.locktype = 'advisory' AND k.granted AND k.mode = 'ExclusiveLock' AND k.objsubid = 2
 AND k.classid = {LOCK_CLASS} AND k.objid = {LOCK_LEADER}
 AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

# pid and backend_start together: a process id is used again. It waits for the session's end, 0.5 s at most.
DEPOSE: Final = """
SELECT pg_terminate_backend(pid, 500) FROM pg_stat_activity WHERE pid = %(pid)s AND backend_start = %(start)s
"""


class Election:
    """Stands for election with one session, watches the holder, and ends one that has gone silent.

    Args:
        settings: database_url, stale, take_over, and what is told of the broker.
        digest: what must be equal in two relays that may follow each other.
        broker: the broker's address for people, without password.
        observe: gets the events.
    """

    def __init__(self, settings: Settings, *, digest: str, broker: str, observe: Observer) -> None:
        self._settings, self._observe = settings, observe
        self._serves = {"digest": digest, "broker": broker}
        self._ballot = {
            "digest": digest,
            "host": socket.gethostname(),
            "take_over": settings.take_over,
        }
        self.backend: Backend | None = None
        self._seen: tuple[Any, ...] = ()
        self._seen_at = clock()
        self._told: tuple[Any, ...] = ()
        self._looked_at = 0.0
        self._abstain_until = 0.0
        self._served = False

    @property
    def wait(self) -> float:
        """Seconds to the next try: jittered, lest standbys march in step, and never past our patience.

        None at all where a notice came in with the answer to a statement of ours: the socket is read already.
        """
        if self.backend is not None and self.backend.rang:
            return 0.0
        jittered = POLL * random.uniform(0.75, 1.25)  # noqa: S311 - jitter, not a secret
        patience = max(self._seen_at + self._settings.stale, self._abstain_until) - clock()
        return max(SHORTEST, min(jittered, patience))

    def campaign(self) -> Term | None:
        """Try once.

        Returns:
            The term, or None while somebody else leads.

        Raises:
            Unreachable: PostgreSQL does not answer.
            WrongEnvironment: a pooler, a replica, an old schema, or a leader that served another broker.
        """
        backend = self._session()
        backend.listen()
        if clock() < self._abstain_until:
            return None
        found = self._acquire(backend)
        if found is None and self._watch(backend):
            found = self._acquire(backend)
        if found is None:
            return None
        self.backend, self._told = None, ()
        self._observe(events.LeadershipGained(found[0]))
        return Term(backend, found[0], found[1], found[2], self._settings, serves=self._serves)

    def abstain(self, seconds: float) -> None:
        """Stay out for ``seconds``, or until we reach the broker (0 s): another relay does and we do not."""
        self._abstain_until = clock() + seconds

    def holder(self) -> str | None:
        """Return who holds the lock now, for the log; None if nobody or unknown."""
        try:
            found = self._session().row(HOLDER)
        except OutboxError:
            return None
        return describe(found) if found and found[2] else None

    def close(self) -> None:
        """End the session, if one is open."""
        if self.backend is not None:
            self.backend.close()
            self.backend = None

    def _session(self) -> Backend:
        if self.backend is None:
            backend = self._opened()
            try:
                schema.check(backend.row)
                self._refuse_other_broker(backend)
                backend.row(f"LISTEN {CHANNEL}")
                backend.row("LISTEN outbox")
            except BaseException:
                backend.close()
                raise
            self.backend, self._seen_at, self._seen = backend, clock(), ()
            self._served = True
        return self.backend

    def _opened(self) -> Backend:
        try:
            return Backend(self._settings.dsn)
        except Replica as replica:
            # Not our setting is wrong, but a failover under way: the address still leads to the old primary.
            if self._served:
                raise Unreachable(str(replica)) from None
            raise

    def _acquire(self, backend: Backend) -> tuple[Any, ...] | None:
        try:
            return backend.row(ACQUIRE, self._ballot)
        except OutboxError:
            # The lock may have been granted before the update failed. Locks stack, and a kept one would stand
            # alone.
            self.close()
            raise

    def _refuse_other_broker(self, backend: Backend) -> None:
        found = backend.row("SELECT digest, broker FROM outbox.leader")
        if found is None:
            raise WrongEnvironment(
                "the row of outbox.leader is gone: INSERT INTO outbox.leader DEFAULT VALUES"
            )
        if found[0] not in {None, self._ballot["digest"]} and not self._settings.take_over:
            raise WrongEnvironment(self._moved(found[0], found[1]))

    def _moved(self, digest: str, broker: str) -> str:
        """Say in what the last leader's settings differ from ours: two addresses alone may be equal."""
        ours, theirs = self._serves["broker"], differences(digest, self._serves["digest"])
        remedy = "mend its settings, or move with --take-over"
        if "broker" in theirs:
            return f"the last leader published to {broker} and this relay is set to {ours}: {remedy}"
        words = {"exchange": "another --exchange", "routes": "other [[routes]]"}
        told = " and ".join(words[each] for each in theirs)
        return f"the last leader published to {broker} too, but with {told} than this relay: {remedy}"

    def _watch(self, backend: Backend) -> bool:
        """Tell who leads; end a holder whose heartbeat and session have not changed for ``stale`` seconds.

        Returns:
            Whether it was ended, so that the lock is free.
        """
        now = clock()
        if now - self._looked_at < POLL / 2:  # a doorbell wakes standbys too
            return False
        self._looked_at = now
        found = backend.row(HOLDER)
        if found is None or found[2] is None:
            self._seen_at = now
            self._refuse_other_broker(backend)
            return False
        if found[:4] != self._seen:
            self._seen, self._seen_at = found[:4], now
        if found[2:4] != self._told:
            self._told = found[2:4]
            self._observe(events.StandingBy(describe(found)))
        silent = now - self._seen_at
        return silent > self._settings.stale and self._depose(backend, found, silent)

    def _depose(self, backend: Backend, found: tuple[Any, ...], silent: float) -> bool:
        self._seen_at = clock()
        if not found[6]:
            self._observe(events.ForeignHolder(describe(found), silent))
            return False
        backend.row(DEPOSE, {"pid": found[2], "start": found[3]})
        self._observe(events.LeaderDeposed(describe(found), silent))
        return True


def describe(found: tuple[Any, ...]) -> str:
    """Return a holder as people need it: name, process id, address, age of its session."""
    name = found[4] or "a session of another role"
    since = f", since {found[3]:%Y-%m-%d %H:%M:%S}" if found[3] else ""  # hidden from other roles
    return f"{name} (backend {found[2]}, {found[5] or 'local'}{since})"
