"""One reign: its heartbeat, its fence, its trust in itself, and the locks that tell others of it.

How a term is won is ``leader.py``'s business; what is done in it, ``shift.py``'s.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from outbox.database import LOCK_CLASS, LOCK_DOORBELL, LOCK_LEADER, LOCK_READY
from outbox.errors import LeadershipLost, OutboxError

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping

    from relay.backend import Backend
    from relay.config import Settings

TRUST: Final = 0.6
"""The share of ``stale`` in which a leader believes in itself: it stops before anybody may end it."""

CHANNEL: Final = "outbox_leader"

# The position is read before the xid is drawn (the update needs m's row first): once every transaction up to
# that xid has ended, every job up to that position is settled. The low-water mark lives on this pair.
BEAT: Final = """
WITH m AS MATERIALIZED (SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS pos FROM outbox.job_pos_seq)
UPDATE outbox.leader SET heartbeat_at = clock_timestamp() FROM m WHERE token = %(token)s
RETURNING m.pos, pg_current_xact_id()::text::bigint
"""

# Fence and durability barrier in one statement that leaves no dead row: what a fetch saw is on disk before it
# is sent.
FENCE: Final = """
SELECT pg_current_xact_id()::text, pg_logical_emit_message(true, 'outbox', '')::text
FROM outbox.leader WHERE token = %(token)s
"""


# Which broker is served is written down before the first message goes there, and no sooner: a leader that was
# set to a wrong address, and never reached it, must not keep out the one that is set to the right one.
SERVES: Final = """
UPDATE outbox.leader SET broker = %(broker)s, digest = %(digest)s WHERE token = %(token)s RETURNING term
"""


def clock() -> float:
    """Return seconds that go on through suspend; steps of the wall clock do not touch it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Term:
    """One reign: from the lock to its loss.

    Args:
        backend: the session that holds the lock.
        number: grows with every reign.
        token: random; a failover may roll the number back, never this.
        tip: the highest position drawn when the term began.
        settings: heartbeat and stale, seconds.
        serves: broker and digest, as the leader's row is to hold them.
    """

    def __init__(
        self,
        backend: Backend,
        number: int,
        token: uuid.UUID,
        tip: int,
        settings: Settings,
        *,
        serves: Mapping[str, str],
    ) -> None:
        self.backend, self.number, self.token, self.tip = backend, number, token, tip
        self._serves, self._told = serves, False
        self.settled = (0, 0)
        self._heartbeat, self._trust = settings.heartbeat, TRUST * settings.stale
        self.trip = 0.0
        """Seconds that the last heartbeat took there and back."""
        self._beaten = clock()
        self._deadline = self._beaten + self._trust

    @property
    def trusted(self) -> bool:
        """Whether nobody may have deposed us yet; asked before every message that is sent."""
        return clock() < self._deadline

    @property
    def next_beat(self) -> float:
        """Seconds until the next heartbeat is due."""
        return max(0.0, self._beaten + self._heartbeat - clock())

    def beat(self) -> None:
        """Renew the heartbeat when it is due.

        Raises:
            LeadershipLost: another term has begun.
            Unreachable: the session is gone.
        """
        if self.next_beat > 0:
            return
        now = clock()
        found = self.backend.row(BEAT, {"token": self.token})
        if found is None:
            raise LeadershipLost("another term has begun")
        # From before the statement: it may have been answered late.
        self._beaten, self._deadline = now, now + self._trust
        self.settled = (int(found[0]), int(found[1]))
        self.trip = clock() - now

    def fence(self) -> None:
        """Prove that the term still stands, and flush everything a fetch has seen. Raises as ``beat``."""
        if not self._told:
            self._told = self.backend.row(SERVES, {**self._serves, "token": self.token}) is not None
        if self.backend.row(FENCE, {"token": self.token}) is None:
            raise LeadershipLost("another term has begun")
        if not self.trusted:
            raise LeadershipLost("this process stood still for longer than its lease")

    def fall_asleep(self) -> bool:
        """Take the doorbell's lock: from now on commits ring. False while a silent one is under way."""
        return self.backend.row(f"SELECT pg_try_advisory_lock({LOCK_CLASS}, {LOCK_DOORBELL})") == (True,)

    def wake_up(self) -> None:
        """Give the doorbell's lock back: commits are silent, and cost nothing for it."""
        self.backend.row(f"SELECT pg_advisory_unlock({LOCK_CLASS}, {LOCK_DOORBELL})")

    def release(self) -> None:
        """Hand over: free the lock, tell the standbys, end the session."""
        try:
            self.backend.row(
                f"SELECT pg_advisory_unlock({LOCK_CLASS}, {LOCK_LEADER}), pg_notify('{CHANNEL}', '')"
            )
        except OutboxError:
            pass  # the session is gone, and the lock with it
        finally:
            self.backend.close()


def ready(backend: Backend, *, able: bool) -> None:
    """Hold or give up READY, the shared lock of every relay that has a live channel to the broker."""
    verb = "pg_try_advisory_lock_shared" if able else "pg_advisory_unlock_shared"
    backend.row(f"SELECT {verb}({LOCK_CLASS}, {LOCK_READY})")


def others_ready(backend: Backend) -> bool:
    """Return whether a relay other than this session's reaches the broker."""
    found = backend.row(
        f"""SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2
            AND classid = {LOCK_CLASS} AND objid = {LOCK_READY} AND pid <> pg_backend_pid()
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"""
    )
    return found == (True,)
