"""The SQL that reads single jobs for operators: a page of them, or one with its history.

Pages are found by key and not by offset: the thousandth page costs what the first does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from psycopg.rows import dict_row

from outbox.errors import ConfigError
from outbox.states import State

if TYPE_CHECKING:
    from relay.sessions import Session

Record = dict[str, Any]

_COLUMNS: Final = (
    "id, kind, key, state, version, attempt, max_attempts, created_at, available_at, published_at, "
    "finished_at, error"
)

# Where an index on a state has a time, a page follows it; else it follows the id. Ids of ours, from Python as
# from SQL, begin with the time at which they were made; an index on the position would burden every insert.
_BY_ID: Final = ("id", "DESC")
_FOLLOWS: Final = {
    State.SCHEDULED: ("available_at", "ASC"),
    State.SUCCEEDED: ("finished_at", "DESC"),
    State.DEAD: ("finished_at", "DESC"),
    State.CANCELLED: ("finished_at", "DESC"),
}

_JOB: Final = """
SELECT id, kind, key, state, version, attempt, max_attempts, sends, tracked, exchange, routing_key, headers,
       content_type, payload, unique_key, created_at, available_at, published_at, published_term, started_at,
       finished_at, lease_until, error
  FROM outbox.job WHERE id = %s
"""

_HISTORY: Final = """
SELECT version, "from", "to", at, by, note FROM outbox.transition WHERE job_id = %s ORDER BY version
"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs.

    Args:
        state: None: any.
        kind: a kind, or a pattern with ``*``. None: any.
    """

    state: State | None = None
    kind: str | None = None

    def conditions(self) -> tuple[list[str], list[object]]:
        """Return conditions on ``outbox.job``, and their values."""
        # The state stands in the statement: only so does the planner see that a partial index serves.
        conditions = [f"state = '{self.state.value}'"] if self.state else []
        if self.kind is None:
            return conditions, []
        if "*" in self.kind:
            return [*conditions, "kind LIKE %s"], [_pattern(self.kind)]
        return [*conditions, "kind = %s"], [self.kind]


def _pattern(kind: str) -> str:
    quoted = kind.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return quoted.replace("*", "%")


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, and the mark after which the next page begins; None: there is none."""

    jobs: list[Record]
    after: str | None


def page(session: Session, which: Filter, limit: int, after: str | None = None) -> Page:
    """Read a page of jobs.

    Args:
        session: where.
        which: which jobs.
        limit: how many at most.
        after: the mark of the page before.

    Raises:
        ConfigError: ``after`` is no such mark.
    """
    query, values = statement(which, limit, after)
    found = _records(session, query, values)
    more = len(found) > limit
    last = found[limit - 1] if more else None
    return Page(found[:limit], f"{_written(last[_order(which)[0]])}~{last['id']}" if last else None)


def _order(which: Filter) -> tuple[str, str]:
    return _FOLLOWS.get(which.state, _BY_ID) if which.state else _BY_ID


def statement(which: Filter, limit: int, after: str | None = None) -> tuple[str, list[object]]:
    """Return the query of a page and of one job more, and its values. Raises as ``page``."""
    column, direction = _order(which)
    conditions, values = which.conditions()
    if after:
        conditions.append(f"({column}, id) {'>' if direction == 'ASC' else '<'} (%s, %s)")
        values += _mark(after, column)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    order = f"ORDER BY {column} {direction}, id {direction}"
    query = f"SELECT {_COLUMNS} FROM outbox.job {where} {order} LIMIT %s"  # noqa: S608 - parts of ours
    return query, [*values, limit + 1]


def _written(value: datetime | UUID) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _mark(after: str, column: str) -> list[object]:
    value, _, job_id = after.partition("~")
    try:
        return [UUID(value) if column == "id" else datetime.fromisoformat(value), UUID(job_id)]
    except ValueError:
        raise ConfigError([f"--after {after!r} is not what the page before printed for this state"]) from None


def job(session: Session, job_id: UUID) -> Record | None:
    """Return a job with its payload (decoded when it is JSON) and its history; None: there is none."""
    found = _records(session, _JOB, [job_id])
    if not found:
        return None
    record = found[0]
    payload = record["payload"]
    return {
        **record,
        "payload": _readable(payload, record["content_type"]),
        "history": _records(session, _HISTORY, [job_id]),
    }


def _readable(payload: bytes, content_type: str) -> Any:
    """Return JSON as what it says, text as text, and anything else in hexadecimal digits."""
    try:
        text = payload.decode()
        return json.loads(text) if "json" in content_type else text
    except ValueError:
        return payload.hex()


def _records(session: Session, query: str, values: list[object]) -> list[Record]:
    with session.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, values).fetchall()
