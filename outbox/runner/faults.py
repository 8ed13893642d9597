"""Tells the faults of the surroundings from the faults of a handler.

A lock time-out, a deadlock or a database that restarts says nothing about the job: it costs no attempt.
Everything here goes by SQLSTATE, which every driver reports, so no driver is imported.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import Final

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from outbox.transitions import MAX_ERROR

_PASSING: Final = ("08", "53", "57P", "58", "55P03", "40P01", "40001", "25006", "26000", "42P05")
"""Connection, resources, shutdown, system, lock time-out, deadlock, serialisation, a primary no longer, a
prepared statement that is another session's."""

_GONE: Final = ("08", "57P", "53100", "53300", "25006", "26000", "42P05")
"""Of these, the ones after which nothing else would work either: look for the database first. A full disk is
among them: each of our jobs writes something, and somebody has to be told."""

# 25P03 is in neither: PostgreSQL ends a session that the handler left idle, and would each time.

_POOLER: Final = (
    "a pooler in transaction mode is in between: say create_engine(..., connect_args={'prepare_threshold': "
    "None}), or with asyncpg {'statement_cache_size': 0}"
)
_SCHEMA: Final = "the database has no schema outbox, or an older one: run outbox migrate"

READ_ONLY: Final = "the database is read-only, or a replica: give the primary's address"

_REMEDIES: Final = {
    "25006": READ_ONLY,
    "26000": _POOLER,
    "42P05": _POOLER,
    "3F000": _SCHEMA,
    "42P01": _SCHEMA,
    "42703": _SCHEMA,
    "42883": _SCHEMA,
    "42501": "outbox migrate --grant-consumer ROLE mends it",
}
"""What to do about a database that answers, and refuses what we ask for."""

_DATE_STYLE: Final = "DateStyle"
_ISO: Final = "the driver reads no dates in this style: ALTER ROLE ... SET datestyle = 'ISO'"


def state_of(error: BaseException) -> str | None:
    """Return the SQLSTATE of a database's error, whichever driver it came through."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    for name in ("sqlstate", "pgcode"):
        state = getattr(cause, name, None)
        if isinstance(state, str):
            return state
    return None


def passing(error: BaseException) -> bool:
    """Whether an error is the surroundings' and not the handler's: the job is tried again at no cost."""
    if isinstance(error, CancelledError):  # the event loop ends before the handler does
        return True
    state = state_of(error)
    return disconnected(error) if state is None else state.startswith(_PASSING)


def disconnected(error: BaseException) -> bool:
    """Whether the database cannot be reached, judged by an error that a handler may have raised.

    A handler's other errors of connection are its own: the partner that refuses it is not our database.
    """
    state = state_of(error)
    if state is not None:
        return state.startswith(_GONE)
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    return isinstance(error, PoolTimeout)


def unreachable(error: BaseException) -> bool:
    """Whether the database cannot be reached, judged by an error of our own statements.

    Drivers differ in how they say that nobody listens: some raise the socket's error as it is.
    """
    if isinstance(error, OSError):
        return True
    nameless = isinstance(error, OperationalError | InterfaceError) and state_of(error) is None
    return nameless or disconnected(error)


def unstorable(error: BaseException) -> bool:
    """Whether the database, or its driver, refuses a value: characters that its encoding does not have."""
    return isinstance(error, UnicodeError) or (state_of(error) or "").startswith("22")


def remedy(error: BaseException) -> str | None:
    """Return what to do about a database that answers, and refuses what we ask for; None: we do not know."""
    state = state_of(error)
    if state is None and _DATE_STYLE in one_line(error):
        return _ISO
    return _REMEDIES.get(state or "")


def told(error: BaseException) -> tuple[str, bool]:
    """Return the words for an error of our own statements, and whether the database is there and refuses."""
    advice = remedy(error)
    if advice is not None:
        return f"{one_line(error)}; {advice}"[:MAX_ERROR], True
    return one_line(error), not (unreachable(error) or passing(error))


def one_line(error: BaseException) -> str:
    """Return an error as one line to keep with a job: its type, and what it says.

    Of a database's error the first line alone: the others quote the statement and its parameters, which are
    other people's data.
    """
    cause: BaseException = error
    if isinstance(error, DBAPIError) and isinstance(error.orig, BaseException):
        cause = error.orig
        words = str(cause).partition("\n")[0]
    else:
        words = str(error)
    text = " ".join(words.replace("\0", "").split())
    name = type(cause).__name__
    return (f"{name}: {text}" if text else name)[:MAX_ERROR]
