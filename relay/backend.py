"""One PostgreSQL session of the relay: opened, guarded, bounded, and its errors told apart.

The leader's lock *is* this session, so it never comes from a pool, never waits long, and is never opened
twice by one relay. It holds no SQL on jobs (``ledger.py``) and knows nothing of leading (``leader.py``).
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.rows import tuple_row

from outbox.errors import OutboxError, Unreachable, WrongEnvironment
from relay.seam import database_error

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

APPLICATION: Final = "outbox-relay"

# The server's defaults keep a dead client's lock for two hours (keepalive) and run its statement to the end;
# database and role defaults reach every session, so what the proofs rest on is set here and not assumed.
SETTINGS: Final = {
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "3s",
    "statement_timeout": "2s",
    "lock_timeout": "1s",
    "tcp_keepalives_idle": "4",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "12s",
    "synchronous_commit": "on",  # off would make the barrier before a window no barrier
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    # Every statement here finds few rows by an index, in an order that matters, and every other plan is a
    # stall; a kept one was made for a table of another size.
    "plan_cache_mode": "force_custom_plan",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_material": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "jit": "off",
}
SET: Final = "SELECT set_config(%(name)s, %(value)s, false)"
OPTIONAL_SETTINGS: Final = {"client_connection_check_interval": "1s"}  # read-only on some managed services

CONNECT: Final[dict[str, Any]] = {
    "connect_timeout": 2,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 4000,
}

ANSWER_WITHIN: Final = 4.0
"""Seconds within which a server that ends statements after two has answered, or is not there any more."""

NOT_THIS_TIME: Final = ("22", "23", "40", "53", "54", "55", "57014")
"""SQLSTATEs of a statement that failed on a healthy session: it is tried again later, and nothing is lost."""

NOT_ALLOWED: Final = ("3D", "3F", "42")
"""SQLSTATEs that no repetition mends: a missing right, table, schema or database."""


class Silent(psycopg.OperationalError):
    """No answer came, not even the one that the statement took too long."""


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for no answer for ever: a frozen server's kernel keeps it alive."""

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait as psycopg does. Raises ``Silent``."""
        return super().wait(_within(ANSWER_WITHIN, gen), *args, **kwargs)


def _within(seconds: float, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Pass on what psycopg's generator asks for, until it has come to its end or time is up."""
    until, ready = time.monotonic() + seconds, None
    while True:
        try:
            wanted = steps.send(ready)
        except StopIteration as end:
            return end.value
        ready = yield wanted
        if not ready and time.monotonic() > until:
            raise Silent(f"no answer for {seconds:g} s")


class Postponed(OutboxError):
    """A statement did not get through this time (a lock, a deadlock, a time-out); the session lives."""


class Replica(WrongEnvironment):
    """A hot standby answers: after a promotion two would lead."""


def label(application: str = APPLICATION) -> str:
    """Return this process's name in ``pg_stat_activity``: standbys depose only who carries a relay's."""
    return f"{application}:{socket.gethostname()[:32]}:{os.getpid()}"


class Backend:
    """A guarded session in autocommit.

    Args:
        dsn: libpq connection string or ``postgresql://`` URL, direct to the primary.
        application: what the session is for; the first part of its name.

    Raises:
        ConfigError: libpq cannot read the address.
        Unreachable: nothing answers, or it refuses us.
        WrongEnvironment: a pooler or a replica answers.
    """

    def __init__(self, dsn: str, application: str = APPLICATION) -> None:
        self._label = label(application)
        try:
            self._connection = Session.connect(
                dsn, autocommit=True, row_factory=tuple_row, application_name=self._label, **CONNECT
            )
        except psycopg.OperationalError as error:
            raise Unreachable(f"PostgreSQL: {one_line(error)}") from None
        except psycopg.ProgrammingError as error:
            raise database_error(error) from None  # libpq cannot read the address
        self.rang: list[tuple[str, str]] = []
        self.postponed: str | None = None
        self._connection.add_notify_handler(lambda notify: self.rang.append((notify.channel, notify.payload)))
        try:
            self._refuse_pooler()
            self._refuse_replica()
            self._set()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The server's process id for this session."""
        return self._connection.info.backend_pid

    def fileno(self) -> int | None:
        """Return the socket, to sleep on; None if the session is gone, which the next statement will tell."""
        try:
            return self._connection.fileno()
        except psycopg.Error:
            return None

    def rows(self, sql: str, params: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows.

        Raises:
            Postponed: it did not get through this time.
            Unreachable: the session is gone, and every lock it held with it.
            WrongEnvironment: a right or a table is missing.
        """
        try:
            cursor = self._connection.execute(sql, params, binary=True)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise self._judge(error) from None

    def row(self, sql: str, params: Mapping[str, Any] | None = None) -> tuple[Any, ...] | None:
        """Run one statement and return its first row, or None. Raises as ``rows``."""
        found = self.rows(sql, params)
        return found[0] if found else None

    def listen(self) -> list[tuple[str, str]]:
        """Return (channel, payload) of what rang since the last call; read the socket without waiting.

        Raises:
            Unreachable: the session is gone.
        """
        try:
            pgconn = self._connection.pgconn
            pgconn.consume_input()
            while (notify := pgconn.notifies()) is not None:
                self.rang.append((notify.relname.decode(), notify.extra.decode()))
        except psycopg.Error as error:
            raise self._judge(error) from None
        heard, self.rang[:] = list(self.rang), []
        return heard

    def close(self) -> None:
        """End the session at once, and with it every lock it holds."""
        self._connection.close()

    def _judge(self, error: psycopg.Error) -> OutboxError:
        state = error.sqlstate or ""
        if isinstance(error, Silent):
            self.close()  # else the next one would wait as long
        if self._connection.broken or self._connection.closed:
            return Unreachable(f"PostgreSQL: {one_line(error)}")
        if state.startswith(NOT_THIS_TIME):
            self.postponed = f"PostgreSQL: {one_line(error)} ({state})"
            return Postponed(self.postponed)
        if state.startswith(NOT_ALLOWED):
            return WrongEnvironment(
                f"PostgreSQL: {one_line(error)} ({state}); see `outbox migrate --help` for grants"
            )
        return Unreachable(f"PostgreSQL: {one_line(error)} ({state})")

    def _refuse_pooler(self) -> None:
        """A pooler lends the lock's session to others: both would lead."""
        found = self.row("SELECT pg_backend_pid()")
        if found is None or found[0] != self.pid:
            raise WrongEnvironment(
                "a connection pooler stands before PostgreSQL, and a lock taken through it would be shared: "
                "set OUTBOX_DATABASE_URL (or --database-url) to the server's direct address"
            )

    def _refuse_replica(self) -> None:
        """A hot standby grants advisory locks too."""
        if self.row("SELECT pg_is_in_recovery()") != (False,):
            raise Replica(
                "this PostgreSQL is a replica: set OUTBOX_DATABASE_URL to the primary "
                "(several hosts in one URL need target_session_attrs=read-write)"
            )

    def _set(self) -> None:
        for name, value in SETTINGS.items():
            self.row(SET, {"name": name, "value": value})
        for name, value in OPTIONAL_SETTINGS.items():
            with suppress(Postponed, WrongEnvironment):
                self.row(SET, {"name": name, "value": value})
        self.row(SET, {"name": "outbox.by", "value": self._label})


def one_line(error: BaseException) -> str:
    """Return an error's first line: libpq adds hints and repeats itself over several."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].strip()
