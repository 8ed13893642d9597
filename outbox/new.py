"""What an application says of a job before it is a row: checked before any SQL, and turned into columns.

A value that PostgreSQL or the broker would refuse later is refused by name, while the caller's transaction is
still usable. Knows nothing of sessions and touches no database.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Required, TypedDict

from sqlalchemy import DateTime, Interval, func, literal

from outbox.backoff import LONGEST_DELAY
from outbox.names import MAX_KEY, check_headers, check_kind, check_name
from outbox.payload import JSON, LIMIT, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement

MAX_ATTEMPTS = 20
_MOST_ATTEMPTS = 2**31 - 1  # the column's type
_YEARS = range(1970, 9999)  # the table's; a session's time zone must not carry it over Python's edge
_NO_ROUTE = "*"  # stands for "the relay's route" in an index


class EventOptions(TypedDict, total=False):
    """What ``emit`` takes beside kind and payload; each is told in ``add``."""

    key: str | None
    headers: Mapping[str, str] | None
    delay: float | timedelta | None
    at: datetime | None
    exchange: str | None
    routing_key: str | None
    content_type: str | None
    max_bytes: int


class JobOptions(EventOptions, total=False):
    """What ``add_unique`` and ``insert`` take beside kind and payload; each is told in ``add``."""

    max_attempts: int


class New(JobOptions, total=False):
    """One of the many for ``add_all``: a dict of the parameters of ``add``; not tracked, it is an event."""

    kind: Required[str]
    payload: Required[Any]
    tracked: bool


def columns(
    kind: str,
    payload: Any,
    *,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    delay: float | timedelta | None = None,
    at: datetime | None = None,
    max_attempts: int = MAX_ATTEMPTS,
    exchange: str | None = None,
    routing_key: str | None = None,
    content_type: str | None = None,
    max_bytes: int = LIMIT,
    tracked: bool = True,
) -> dict[str, Any]:
    """Check everything and return the columns that differ from the table's defaults.

    Raises:
        TypeError: A value is of another type; the message names it.
        ValueError: A value is not allowed; the message names it.
    """
    body, media_type = encode(payload, content_type, limit=max_bytes)
    row: dict[str, Any] = {"kind": check_kind(kind), "payload": body}
    if media_type != JSON:
        row["content_type"] = media_type
    if key is not None:
        row["key"] = check_name(key, "key", MAX_KEY)
    if headers is not None:
        row["headers"] = check_headers(headers)
    if max_attempts != MAX_ATTEMPTS:
        row["max_attempts"] = _attempts(max_attempts)
    if exchange is not None or routing_key is not None:
        row |= _route(exchange, routing_key)
    if delay is not None or at is not None:
        row |= _moment(delay, at)
    if not tracked:
        row["tracked"] = False
    return row


def _attempts(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"max_attempts is {type(value).__name__}, not int")
    if not 1 <= value <= _MOST_ATTEMPTS:
        raise ValueError(f"max_attempts is {value}, not between 1 and {_MOST_ATTEMPTS}")
    return int(value)


def _route(exchange: str | None, routing_key: str | None) -> dict[str, str]:
    """Check where a job goes. Both may be empty: the default exchange, and the routing key of a fanout."""
    given = {"exchange": exchange, "routing_key": routing_key}
    route = {what: check_name(name, what, empty=True) for what, name in given.items() if name is not None}
    for what, name in route.items():
        if name == _NO_ROUTE:
            raise ValueError(f"{what} is {name!r}, which is no name")
    return route


def _moment(delay: float | timedelta | None, at: datetime | None) -> dict[str, Any]:
    """Return state and time of a job that is due later, or nothing for one that is due at once."""
    if delay is None:
        return {"state": "scheduled", "available_at": instant(at)}
    if at is not None:
        raise ValueError("delay and at are two ways to say one thing: give one")
    wait = duration(delay)
    if not wait:
        return {}
    return {"state": "scheduled", "available_at": _database_clock() + literal(wait, Interval)}


def _database_clock() -> ColumnElement[datetime]:
    """Return the clock by which the leader judges what is due: the hosts' clocks differ."""
    return func.clock_timestamp(type_=DateTime(timezone=True))


def duration(delay: object) -> timedelta:
    """Return a delay, given in seconds or as a timedelta.

    Raises:
        TypeError: it is neither.
        ValueError: it is negative, or longer than the table takes.
    """
    if isinstance(delay, bool) or not isinstance(delay, int | float | timedelta):
        raise TypeError(f"delay is {type(delay).__name__}, not seconds or a timedelta")
    try:
        wait = delay if isinstance(delay, timedelta) else timedelta(seconds=delay)
    except (OverflowError, ValueError):  # infinite, or no number
        wait = timedelta(-1)
    if not timedelta() <= wait <= LONGEST_DELAY:
        raise ValueError(f"delay is {delay}, not between 0 and {LONGEST_DELAY.days} days")
    return wait


def instant(at: object) -> datetime:
    """Return a moment in UTC.

    Raises:
        TypeError: it is no datetime.
        ValueError: it has no time zone, or is none that the table takes.
    """
    if not isinstance(at, datetime):
        raise TypeError(f"at is {type(at).__name__}, not a datetime")
    if at.utcoffset() is None:
        raise ValueError("at has no time zone, so it is no moment: use datetime.now(UTC) and the like")
    try:
        moment = at.astimezone(UTC)
    except OverflowError:
        moment = at
    if moment.year not in _YEARS:
        raise ValueError(f"at is in the year {moment.year}, not between {_YEARS[0]} and {_YEARS[-1]}")
    return moment
