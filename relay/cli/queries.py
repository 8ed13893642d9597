"""The SQL of ``outbox status``: who leads, how many jobs, how late, what is down.

Every statement is bounded, so that a table of a hundred million jobs answers at once. Single jobs are read in
``listing.py``, and changed in ``orders.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outbox.database import LOCK_CLASS, LOCK_LEADER
from outbox.states import State
from relay import sessions
from relay.ledger import DESTINATION

if TYPE_CHECKING:
    from relay.sessions import Session

Record = dict[str, Any]

CAP: Final = 100_000
"""A state with more jobs is estimated from the statistics that autovacuum keeps, unless asked otherwise."""

DESTINATIONS: Final = 100
"""So many destinations that are down are told, the first in the order of their names."""

_LEADER: Final = """
SELECT l.host, l.term, extract(epoch FROM clock_timestamp() - l.heartbeat_at)::float8, l.broker,
       a.pid, a.pid = l.pid, a.application_name
  FROM outbox.leader l
  LEFT JOIN (pg_catalog.pg_locks k JOIN pg_catalog.pg_stat_activity a USING (pid))
    ON k.locktype = 'advisory' AND k.granted AND k.mode = 'ExclusiveLock' AND k.objsubid = 2
   AND k.classid = %s AND k.objid = %s
   AND k.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
"""

# One partial index a line; a state may have two.
_COUNTED: Final = (
    (State.SCHEDULED, "state = 'scheduled'", "job_due"),
    (State.PENDING, "state = 'pending' AND key IS NULL", "job_pending_keyless"),
    (State.PENDING, "state = 'pending' AND key IS NOT NULL", "job_pending_keyed"),
    (State.PARKED, "state = 'parked'", "job_parked"),
    (State.PUBLISHED, "state = 'published' AND tracked", "job_outstanding"),
    (State.PUBLISHED, "state = 'published' AND NOT tracked", "job_told"),
    (State.RUNNING, "state = 'running'", "job_leased"),
    (State.SUCCEEDED, "state = 'succeeded'", None),
    (State.DEAD, "state = 'dead'", "job_dead"),
    (State.CANCELLED, "state = 'cancelled'", None),
)

_ESTIMATE: Final = """
SELECT greatest(c.reltuples, 0)::bigint FROM pg_catalog.pg_class c
 WHERE c.oid = to_regclass('outbox.' || %s)
"""

# job_finished holds two states, which the column's statistics tell apart.
_ESTIMATE_STATE: Final = """
SELECT (c.reltuples * s.freq)::bigint
  FROM pg_catalog.pg_class c, LATERAL (
       SELECT unnest(most_common_vals::text::text[]) AS val, unnest(most_common_freqs) AS freq
         FROM pg_catalog.pg_stats WHERE schemaname = 'outbox' AND tablename = 'job' AND attname = 'state') s
 WHERE c.oid = to_regclass('outbox.job') AND s.val = %s
"""

# Staging and publishing are both the leader's: a job that is due and not staged lags as one that is pending
# does.
_OLDEST: Final = """
SELECT extract(epoch FROM clock_timestamp() - least(
    (SELECT available_at FROM outbox.job WHERE state = 'pending' AND key IS NULL ORDER BY pos LIMIT 1),
    (SELECT min(available_at) FROM (SELECT available_at FROM outbox.job
                                     WHERE state = 'pending' AND key IS NOT NULL LIMIT %(cap)s) k),
    (SELECT min(available_at) FROM outbox.job
      WHERE state = 'scheduled' AND available_at <= statement_timestamp())
))::float8
"""

# A loose index scan on job_parked: one probe a destination, whatever is parked there.
_DOWN: Final = f"""
WITH RECURSIVE d AS (
    (SELECT {DESTINATION} AS destination, kind, exchange, routing_key, error, 1 AS nth
       FROM outbox.job WHERE state = 'parked' ORDER BY {DESTINATION}, line LIMIT 1)
    UNION ALL
    SELECT n.*, d.nth + 1 FROM d CROSS JOIN LATERAL (
        SELECT {DESTINATION}, kind, exchange, routing_key, error FROM outbox.job
         WHERE state = 'parked' AND {DESTINATION} > d.destination
         ORDER BY {DESTINATION}, line LIMIT 1) n
     WHERE d.nth < %(most)s)
SELECT d.kind, d.exchange, d.routing_key,
       (SELECT count(*) FROM (SELECT FROM outbox.job
          WHERE state = 'parked' AND {DESTINATION} = d.destination LIMIT %(cap)s) c),
       d.error
  FROM d ORDER BY d.nth
"""  # noqa: S608 - constants of ours


def leader(session: Session) -> tuple[Record | None, str | None]:
    """Return the leading relay, and in words a session that holds its lock without being one."""
    row = session.execute(_LEADER, (LOCK_CLASS, LOCK_LEADER)).fetchone()
    if row is None or row[4] is None:
        return None, None
    host, term, age, broker, backend, relays, application = row
    if not relays:
        return None, sessions.described(session, backend)
    pid = (application or "").rpartition(":")[2]
    found = {"host": host, "pid": int(pid) if pid.isdigit() else None, "term": term, "heartbeat_age": age}
    return {**found, "backend_pid": backend, "broker": broker}, None


def counts(session: Session, *, exact: bool) -> tuple[dict[str, int], list[str]]:
    """Return how many jobs each state has, and the states of which that is an estimate."""
    found = dict.fromkeys((state.value for state in State), 0)
    estimated = set()
    for state, condition, index in _COUNTED:
        number = _bounded(session, condition, None if exact else CAP + 1)
        if number > CAP and not exact:
            number = max(number, _estimate(session, state, index))
            estimated.add(state.value)
        found[state.value] += number
    return found, sorted(estimated)


def _bounded(session: Session, condition: str, most: int | None) -> int:
    query = f"SELECT count(*) FROM (SELECT FROM outbox.job WHERE {condition} LIMIT %s) c"  # noqa: S608 - from _COUNTED
    return _number(session, query, most)


def _estimate(session: Session, state: State, index: str | None) -> int:
    return _number(session, _ESTIMATE, index) if index else _number(session, _ESTIMATE_STATE, state.value)


def _number(session: Session, query: str, value: object) -> int:
    row = session.execute(query, (value,)).fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def lag(session: Session) -> float:
    """Return the age in seconds of the oldest job that should be published by now; 0: there is none."""
    row = session.execute(_OLDEST, {"cap": CAP}).fetchone()
    return max(0.0, float(row[0])) if row and row[0] is not None else 0.0


def down(session: Session) -> list[Record]:
    """Return the destinations with parked jobs; ``count`` is at most ``CAP``."""
    names = ("kind", "exchange", "routing_key", "count", "reason")
    rows = session.execute(_DOWN, {"most": DESTINATIONS, "cap": CAP}).fetchall()
    return [dict(zip(names, row, strict=True)) for row in rows]
