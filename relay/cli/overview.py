"""What ``outbox status`` shows: gathered for machines, and told to people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outbox import schema
from relay import seam, sessions
from relay.cli import queries, tables

if TYPE_CHECKING:
    from relay.sessions import Session


def read(session: Session, *, exact: bool) -> dict[str, Any]:
    """Return the state of the outbox as ``--json`` prints it.

    Args:
        session: where.
        exact: count every job, however long that takes.
    """
    leader, holder = queries.leader(session)
    jobs, estimated = queries.counts(session, exact=exact)
    row = session.execute(schema.READ_META).fetchone()
    return {
        "leader": leader,
        "lock_holder": holder,
        "jobs": jobs,
        "estimated": estimated,
        "lag_seconds": queries.lag(session),
        "down": queries.down(session),
        "schema": row[0] if row else None,
    }


def told(status: dict[str, Any]) -> str:
    """Return the same for people."""
    parts = [
        f"leader  {_leader(status)}",
        f"lag     {tables.age(status['lag_seconds'])}",
        f"schema  {status['schema']}",
        "",
        tables.aligned([(state, _count(status, state)) for state in status["jobs"]]),
    ]
    if status["down"]:
        head = ("DOWN", "EXCHANGE", "ROUTING KEY", "PARKED", "REASON")
        rows = [(d["kind"], d["exchange"], d["routing_key"], _parked(d), d["reason"]) for d in status["down"]]
        parts += ["", tables.aligned([head, *rows])]
    return "\n".join(parts)


def parked(dsn: str) -> list[str]:
    """Return a line for each destination that takes nothing: how many jobs stay in the table, and why."""
    with seam.database_errors(), sessions.opened(dsn, "outbox-cli") as session:
        down = queries.down(session)
    return [f"{_parked(each)} of {each['kind']} parked, not published: {each['reason']}" for each in down]


def _leader(status: dict[str, Any]) -> str:
    leader = status["leader"]
    if leader is None:
        holder = status["lock_holder"]
        return f"none; its lock is held by {holder}, which is no relay" if holder else "none"
    beat = tables.age(leader["heartbeat_age"] or 0.0)
    who = f"{leader['host']}, pid {leader['pid']}, term {leader['term']}"
    to = f"to {leader['broker']}" if leader["broker"] else "nothing sent yet"
    return f"{who}, heartbeat {beat} ago, {to}"


def _count(status: dict[str, Any], state: str) -> int | str:
    number = status["jobs"][state]
    return f"~{number:,}" if state in status["estimated"] else number


def _parked(destination: dict[str, Any]) -> int | str:
    number: int = destination["count"]
    return number if number < queries.CAP else f"{number:,} or more"
