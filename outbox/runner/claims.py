"""Takes hold of a job before its handler runs: one copy at a time, and only where its version is still right.

The claim is an advisory lock on the id, in the bigint space, until the end of the transaction. The row itself
stays free while a handler works: else the relay's mark, a cancel and ``add_unique`` would wait for it. So the
row is changed last, by a statement that compares the version again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from sqlalchemy import Text, bindparam, func, literal_column, select, true, update

from outbox.adoption import born, routed
from outbox.joined import MARK, refuse_ended
from outbox.models import job
from outbox.new import MAX_ATTEMPTS
from outbox.states import FINAL, State
from outbox.transitions import (
    Ahead,
    AlreadyApplied,
    Applied,
    Illegal,
    Missing,
    Result,
    Superseded,
    classify,
    move,
)

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection

    from outbox.handlers import Handler
    from outbox.runner.delivery import Delivery

DELIVERED: Final = (State.PENDING, State.PUBLISHED)
"""Where a job stands whose message is on its way; pending, because a message can overtake its own mark."""

_UNNAMED: Final = "unknown"


class Held(Protocol):
    """A job that this delivery may move on."""

    @property
    def version(self) -> int:
        """Of its row."""

    @property
    def state(self) -> State:
        """Where it stands."""

    @property
    def attempt(self) -> int:
        """How many attempts are counted."""

    @property
    def max_attempts(self) -> int:
        """After so many failures it is dead."""

    @property
    def created_at(self) -> datetime:
        """When it was added."""

    def move(self, connection: Connection, to: State, charge: int, values: dict[str, Any]) -> Result:
        """Make its next transition.

        Args:
            connection: In the transaction to commit with.
            to: The state it shall have.
            charge: How many attempts to add to its count.
            values: Other columns to set.
        """


@dataclass(frozen=True, slots=True)
class Row:
    """A job of this database, as its row was just now."""

    id: UUID
    version: int
    state: State
    attempt: int
    max_attempts: int
    created_at: datetime
    error: str | None

    def move(self, connection: Connection, to: State, charge: int, values: dict[str, Any]) -> Result:
        """Make its next transition, if its version is still the same."""
        counted = {"attempt": job.c.attempt + charge} if charge else {}
        return move(connection, self.id, self.version, to, {**counted, **values})

    def succeed(self, connection: Connection, charge: int) -> Result:
        """Complete it: the one transition that runs by the thousand, so its statement is made once."""
        seen = {"job_id": self.id, "seen": self.version, "charge": charge, "mark": str(self.id)}
        if connection.execute(_SUCCEED, seen).rowcount:
            return Applied(self.version + 1)
        refuse_ended(connection, str(self.id))
        return classify(connection, self.id, self.version, State.SUCCEEDED)


@dataclass(frozen=True, slots=True)
class Unadopted:
    """A message that this database has no row of yet: its first transition is the row's birth."""

    delivery: Delivery
    max_attempts: int
    created_at: datetime

    version: int = 0
    state: State = State.PUBLISHED
    attempt: int = 0

    def move(self, connection: Connection, to: State, charge: int, values: dict[str, Any]) -> Result:
        """Insert the row in the state ``to``. No row inserted: another copy was adopted."""
        message = self.delivery.message
        row = {
            "id": self.delivery.id,
            "kind": message.kind or _UNNAMED,
            "key": message.key,
            "payload": message.body,
            "content_type": message.content_type,
            "headers": message.headers,
            "state": State.SCHEDULED if to is State.CANCELLED else to,
            "attempt": charge,
            "max_attempts": self.max_attempts,
            **routed(self.delivery.queue),
            **values,
        }
        if not born(connection, row):
            return AlreadyApplied(1)
        # No row is born cancelled: it says in the log who cancelled what.
        return move(connection, row["id"], 1, to, {}) if to is State.CANCELLED else Applied(1)

    def succeed(self, connection: Connection, charge: int) -> Result:
        """Insert the row as one whose work is done."""
        refuse_ended(connection, str(self.delivery.id))
        return self.move(connection, State.SUCCEEDED, charge, {"started_at": func.now()})


MISSED: Final = {
    "tcp_keepalives_idle": "4",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "12s",
}
"""Until the end of the transaction. By default the server keeps the claim of a machine that vanished for two
hours, and nobody else can do its jobs."""

_CLAIM = select(
    func.pg_try_advisory_xact_lock(func.hashtextextended(bindparam("id", type_=Text), literal_column("0"))),
    func.set_config("outbox.by", bindparam("by", type_=Text), true()),
    func.set_config(MARK, bindparam("id", type_=Text), true()),
    *(func.set_config(name, literal_column(f"'{value}'"), true()) for name, value in MISSED.items()),
)

_ROW = select(
    job.c.id,
    job.c.version,
    job.c.state,
    job.c.attempt,
    job.c.max_attempts,
    job.c.created_at,
    job.c.error,
).where(job.c.id == bindparam("id"))


_SUCCEED = (
    update(job)
    .where(
        job.c.id == bindparam("job_id"),
        job.c.version == bindparam("seen"),
        job.c.state.in_([str(state) for state in DELIVERED]),
        func.current_setting(MARK, true()) == bindparam("mark"),
    )
    .values(
        state=str(State.SUCCEEDED),
        version=job.c.version + 1,
        attempt=job.c.attempt + bindparam("charge"),
        error=None,
        started_at=func.now(),
    )
)


def claim(connection: Connection, delivery: Delivery, by: str) -> bool:
    """Claim a delivery's job until the end of the transaction. False: another copy of it is at work.

    Args:
        connection: In a transaction.
        delivery: Of the job.
        by: Who moves jobs in this transaction, for the log of transitions.
    """
    return bool(connection.execute(_CLAIM, {"id": str(delivery.id), "by": by}).scalar_one())


def look(connection: Connection, delivery: Delivery, handler: Handler | None) -> Row | Unadopted | Result:
    """Read where the job stands, in a statement of its own: its snapshot is younger than the claim.

    Returns:
        The job, if the message may move it; otherwise why not.
    """
    found = connection.execute(_ROW, {"id": delivery.id}).one_or_none()
    if delivery.message.job_id is None:
        return _unadopted(delivery, handler) if found is None else AlreadyApplied(found.version)
    if found is None:
        return Missing()
    row = Row(
        found.id,
        found.version,
        State(found.state),
        found.attempt,
        limited(found.max_attempts, handler),
        found.created_at,
        found.error,
    )
    return _compared(row, delivery.message.version or 0)


def _compared(row: Row, known: int) -> Row | Result:
    if row.version == known:
        return row if row.state in DELIVERED else Illegal(row.state)
    if row.version < known and row.state not in FINAL:
        return Ahead(row.version)
    done = row.state is State.SUCCEEDED and row.version == known + 1
    return AlreadyApplied(row.version) if done else Superseded(row.version)


def _unadopted(delivery: Delivery, handler: Handler | None) -> Unadopted:
    stamp = delivery.message.timestamp
    try:
        created = datetime.now(UTC) if stamp is None else datetime.fromtimestamp(stamp, UTC)
    except (OverflowError, ValueError, OSError):
        created = datetime.max.replace(tzinfo=UTC)
    if created.year == MAXYEAR:  # more than Python holds, or than the table takes
        created = datetime.now(UTC)
    return Unadopted(delivery, limited(MAX_ATTEMPTS, handler), created)


def limited(max_attempts: int, handler: Handler | None) -> int:
    """Return how many attempts a job has: its own limit, or its handler's if that is lower."""
    if handler is None or handler.max_attempts is None:
        return max_attempts
    return min(max_attempts, handler.max_attempts)


def charge_before(connection: Connection, row: Row) -> bool:
    """Count an attempt before it is made, so that a job that kills the process has paid for it.

    Returns:
        Whether the job is still where it was.
    """
    statement = (
        update(job)
        .where(job.c.id == row.id, job.c.version == row.version, job.c.state.in_(DELIVERED))
        .values(attempt=job.c.attempt + 1)
    )
    return bool(connection.execute(statement).rowcount)
