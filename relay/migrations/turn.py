"""Waits for the migration lock, and tells who has it.

Never queues for it: a waiting ``pg_advisory_lock`` and a ``CREATE INDEX CONCURRENTLY`` on the other side
wait for each other for ever.
"""

from __future__ import annotations

import random
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psycopg

from outbox.database import LOCK_MIGRATE
from outbox.errors import Busy
from relay import sessions
from relay.seam import database_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from relay.sessions import Session

ROLE: Final = "outbox-migrate"
WAIT: Final = 120.0  # seconds
OWNER: Final = "migrate with a role that owns the schema outbox, or may create it"
POLL: Final = 0.25  # seconds, on average, between two looks at the lock


# A revision that waits for a lock holds up everybody who comes after it in the queue, so it soon gives up and
# tries again; but it may run for as long as it takes once it has what it needs.
SETTINGS: Final = {
    "lock_timeout": "5s",
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One process's turn at the schema.

    Args:
        session: the session that takes the lock and runs the DDL.
        wait: how long others are waited for, in seconds.
        deadline: when that is over, by ``time.monotonic``.
        say: told one line at a time what happens.
    """

    session: Session
    wait: float
    deadline: float
    say: Callable[[str], None]

    @property
    def left(self) -> float:
        """How long others may still be waited for, in seconds."""
        return max(0.0, self.deadline - time.monotonic())

    @contextmanager
    def taken(self, needless: Callable[[], bool]) -> Iterator[bool]:
        """Hold the lock, and give True; or give False without it, once ``needless`` is true.

        Raises:
            Busy: somebody else had the lock all the time; the message names them.
        """
        sessions.settle(self.session, SETTINGS)
        if not self._won(needless):
            yield False
            return
        try:
            yield True
        finally:
            with suppress(psycopg.Error):  # a lost session has lost its lock
                sessions.unlock(self.session, LOCK_MIGRATE)

    def _won(self, needless: Callable[[], bool]) -> bool:
        told = False
        while not sessions.try_lock(self.session, LOCK_MIGRATE):
            if needless():
                return False
            holder = sessions.holder(self.session, LOCK_MIGRATE)
            if not self.left and holder:
                raise Busy(
                    f"another migration is at work: {holder}; gave up after {self.wait:g} s. "
                    "If it hangs, end it with pg_terminate_backend",
                )
            if not told and holder:
                self.say(f"waiting for another migration: {holder}")
                told = True
            self.pause()
        return True

    def pause(self) -> None:
        """Sleep until the next look; pods that started together drift apart."""
        time.sleep(POLL * random.uniform(0.5, 1.5))  # noqa: S311 - no secret


@contextmanager
def begun(url: str, wait: float, say: Callable[[str], None]) -> Iterator[Turn]:
    """Open a session that can hold the lock; the waiting begins now.

    Raises:
        ConfigError: the address cannot be read.
        Unreachable: the database does not answer, or does not let us in.
        WrongEnvironment: a pooler, a replica, a server that is too old.
    """
    with database_errors(denied=OWNER), sessions.opened(url, ROLE) as session:
        sessions.guard(session)
        yield Turn(session, wait, time.monotonic() + wait, say)
