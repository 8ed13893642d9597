"""Opens the PostgreSQL sessions that may hold an advisory lock: direct, on a primary, missed when dead.

The lock is the session, so a pooler, which shares sessions, and a replica, which grants every lock (each
server for itself), are refused here. Who holds a lock is told here too. What the lock is for is not known
here.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from outbox import schema
from outbox.database import LOCK_CLASS
from outbox.errors import WrongEnvironment
from relay import urls
from relay.seam import database_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Session = psycopg.Connection[tuple[Any, ...]]

OLDEST: Final = 15
"""The oldest major version of PostgreSQL that is tested."""

_NAME_LENGTH = 63  # bytes that PostgreSQL keeps of an application's name

# What libpq would leave to the kernel: two hours until a dead peer is noticed. An address may say otherwise.
_LIBPQ: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 12_000,
}

# The server's side of the same: without client_connection_check_interval a killed client's statement, and
# with it the lock, lives on until the statement ends.
_ALIVE: Final = {
    "client_connection_check_interval": "1s",
    "idle_session_timeout": "0",
    "tcp_keepalives_idle": "4",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "12s",
}

_HOLDER: Final = """
SELECT l.pid FROM pg_catalog.pg_locks l
 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = %s AND l.objid = %s
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
 LIMIT 1
"""

_WHO: Final = """
SELECT usename, application_name, host(client_addr),
       extract(epoch FROM clock_timestamp() - backend_start)::bigint
  FROM pg_catalog.pg_stat_activity WHERE pid = %s
"""


def application_name(role: str) -> str:
    """Return ``role:host:pid``, with the host cut so that PostgreSQL keeps the pid."""
    pid = str(os.getpid())
    return f"{role}:{socket.gethostname()[: _NAME_LENGTH - len(role) - len(pid) - 2]}:{pid}"


@contextmanager
def opened(url: str, role: str) -> Iterator[Session]:
    """Give a session in autocommit, and close it at the end.

    Args:
        url: any PostgreSQL address.
        role: what the session is for; the first part of its application name.

    Raises:
        ConfigError: the address cannot be read.
        Unreachable: no connection.
        WrongEnvironment: the server is too old, or the database's encoding is not UTF8.
    """
    try:
        given = conninfo_to_dict(urls.database(url))
        options: dict[str, Any] = {**_LIBPQ, **given, "application_name": application_name(role)}
        # Never prepared: these sessions run little, and some through a pooler, which lends each statement a
        # server.
        session: Session = psycopg.connect(**options, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise database_error(error) from None
    try:
        _refuse_old(session)
        _refuse_other_encodings(session)
        yield session
    finally:
        session.close()


def _refuse_old(session: Session) -> None:
    major = session.info.server_version // 10_000
    if major < OLDEST:
        raise WrongEnvironment(f"this is PostgreSQL {major}; {OLDEST} or newer is needed")


def _refuse_other_encodings(session: Session) -> None:
    """Refuse a database that does not know what its text means: psycopg gives bytes for it."""
    encoding = session.info.parameter_status("server_encoding")
    if encoding not in {"UTF8", None}:  # None: a pooler that does not pass it on
        remedy = "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        raise WrongEnvironment(f"the database's encoding is {encoding}, and must be UTF8: {remedy}")


def guard(session: Session) -> None:
    """Refuse a session that cannot hold a lock for us alone.

    Runs before any setting is made: a pooler would hand it to others.

    Raises:
        WrongEnvironment: a pooler stands between, or the server is a replica.
    """
    row = session.execute("SELECT pg_backend_pid(), pg_is_in_recovery()").fetchone()
    pid, replica = row if row is not None else (None, None)
    if pid != session.info.backend_pid:
        raise WrongEnvironment(
            "the database URL leads to a pooler (pgbouncer or the like), where sessions are shared, with "
            "their locks: give PostgreSQL's direct address in --database-url or OUTBOX_DATABASE_URL",
        )
    if replica:
        raise WrongEnvironment(
            "the database is a replica (hot standby): give the primary's address in --database-url or "
            "OUTBOX_DATABASE_URL",
        )


def check_schema(session: Session) -> None:
    """Refuse a database that this release cannot work on. For the start of whatever reads or writes jobs.

    Raises:
        WrongEnvironment: there is no schema, it is too old, or too new for this release.
    """
    schema.check(lambda statement: session.execute(statement).fetchone())


def settle(session: Session, settings: Mapping[str, str]) -> None:
    """Make settings for the session, besides those that let it be noticed when dead.

    One that the server does not know or does not let us have is left out: some hosters fix them.
    """
    for name, value in {**_ALIVE, **settings}.items():
        try:
            session.execute("SELECT set_config(%s, %s, false)", (name, value))
        except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError):
            continue
        except psycopg.OperationalError as error:
            if error.sqlstate != "55P02":  # cannot be changed now
                raise


def try_lock(session: Session, lock: int) -> bool:
    """Take one of our locks for the session unless somebody has it. Never waits."""
    row = session.execute("SELECT pg_try_advisory_lock(%s::int, %s::int)", (LOCK_CLASS, lock)).fetchone()
    return bool(row and row[0])


def unlock(session: Session, lock: int) -> None:
    """Give the lock back."""
    session.execute("SELECT pg_advisory_unlock(%s::int, %s::int)", (LOCK_CLASS, lock))


def holder(session: Session, lock: int) -> str | None:
    """Return who has one of our locks, in words. None: nobody any more."""
    row = session.execute(_HOLDER, (LOCK_CLASS, lock)).fetchone()
    return described(session, row[0]) if row else None


def described(session: Session, pid: int) -> str:
    """Return a session in words: pid, user, application, address, age. What we may not see is left out."""
    user, application, address, age = session.execute(_WHO, (pid,)).fetchone() or (None,) * 4
    told = [f"user {user}" if user else "", application or "", f"from {address}" if address else ""]
    told.append(f"for {age} s" if age is not None else "")
    details = ", ".join(part for part in told if part)
    return f"pid {pid} ({details})" if details else f"pid {pid}"
