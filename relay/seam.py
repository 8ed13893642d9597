"""Turns other libraries' errors into ours, by SQLSTATE where there is one and never by guessing.

Here alone is it decided which exit code a foreign error has. Messages are one line, and hold no parameters,
no payload and no password (libpq and amqp name users and hosts only).
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg

from outbox.errors import Busy, ConfigError, OutboxError, Unreachable, WrongEnvironment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_GRANT = "give the role what it needs: outbox migrate --grant-app, --grant-relay or --grant-consumer ROLE"
_MIGRATE = "run outbox migrate"
_DENIED = "42501"

# A SQLSTATE, or its class of two characters → our error and what to do about it.
_BY_STATE: Final[Mapping[str, tuple[type[OutboxError], str]]] = {
    "08": (Unreachable, ""),
    "28": (Unreachable, ""),
    "3D": (Unreachable, ""),
    "53": (Unreachable, ""),
    "57P": (Unreachable, ""),
    "58": (Unreachable, ""),
    "25006": (
        WrongEnvironment,
        "this is a replica, or a database that is read-only: give the primary's address",
    ),
    "3F000": (WrongEnvironment, _MIGRATE),
    "42P01": (WrongEnvironment, _MIGRATE),
    "42703": (WrongEnvironment, _MIGRATE),
    "42883": (WrongEnvironment, _MIGRATE),
    _DENIED: (WrongEnvironment, _GRANT),
    "55P03": (Busy, "try again"),
    "40P01": (Busy, "try again"),
    "40001": (Busy, "try again"),
    "57014": (Busy, "try again"),
}


@contextmanager
def database_errors(denied: str = _GRANT) -> Iterator[None]:
    """Let none of a database library's errors out, but ours.

    Args:
        denied: what to do when a right is missing.
    """
    try:
        yield
    except Exception as error:
        if not _databases(error):
            raise
        raise database_error(error, denied) from error


def database_error(error: Exception, denied: str = _GRANT) -> OutboxError:
    """Return our error for one of psycopg's, or of SQLAlchemy's with one of psycopg's inside."""
    cause: BaseException = getattr(error, "orig", None) or error
    if not isinstance(cause, psycopg.Error):
        wrapped = sys.modules.get("sqlalchemy.exc")
        kind = Unreachable if wrapped and isinstance(error, wrapped.InterfaceError) else OutboxError
        return kind(one_line(cause))
    if cause.sqlstate is None:
        return _without_state(cause)
    kind, remedy = _looked_up(cause.sqlstate)
    remedy = denied if cause.sqlstate == _DENIED else remedy
    words = one_line(cause.diag.message_primary or cause)
    return kind(f"database: {words}" + (f"; {remedy}" if remedy else ""))


def _databases(error: Exception) -> bool:
    """Whether an error is psycopg's, or SQLAlchemy's, which most commands never import."""
    wrapped = sys.modules.get("sqlalchemy.exc")
    return isinstance(error, (psycopg.Error, *([wrapped.StatementError] if wrapped else [])))


def _without_state(error: psycopg.Error) -> OutboxError:
    """An error that no server sent: the connection failed, or the address cannot be read."""
    if isinstance(error, psycopg.ProgrammingError):
        return ConfigError([f"the database URL cannot be read: {_safe(error)}"])
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return Unreachable(f"database unreachable: {connection_words(error)}")
    return OutboxError(f"database: {one_line(error)}")


def _safe(error: psycopg.Error) -> str:
    """Libpq repeats what it cannot read, a password too; only an option's name is known to be harmless."""
    words = one_line(error)
    return (
        words
        if words.startswith("invalid URI query parameter")
        else "is every special character quoted by %?"
    )


def _looked_up(state: str) -> tuple[type[OutboxError], str]:
    for length in (5, 3, 2):
        if state[:length] in _BY_STATE:
            return _BY_STATE[state[:length]]
    return OutboxError, ""


def connection_words(error: Exception) -> str:
    """Return libpq's own words about a failed connection, without the list of every address it tried."""
    words = one_line(str(error).partition("\nMultiple connection attempts failed")[0])
    return words.removeprefix("connection failed: ").removeprefix("connection is bad: ")


def ours(error: Exception) -> OutboxError:
    """Return our error for any other that reached the command line."""
    if _databases(error):
        return database_error(error)
    if isinstance(error, _broker_errors()):
        return Unreachable(f"broker unreachable: {one_line(error) or type(error).__name__}")
    return OutboxError(f"unexpected {type(error).__name__}: {one_line(error)}; OUTBOX_DEBUG=1 shows where")


def _broker_errors() -> tuple[type[Exception], ...]:
    """Return what kombu and amqp raise, where they were imported at all."""
    kombu, amqp = sys.modules.get("kombu.exceptions"), sys.modules.get("amqp.exceptions")
    known = [kombu.OperationalError, kombu.KombuError] if kombu else []
    return (*known, *([amqp.AMQPError] if amqp else []), ConnectionError, TimeoutError)


def one_line(what: object) -> str:
    """Return text as one line."""
    return " ".join(str(what).split())
