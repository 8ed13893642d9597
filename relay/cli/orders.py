"""The SQL with which operators change jobs: retry, cancel, bury, prune.

Every change is an ordinary transition: guarded by the version, checked and written down by the database. A
row that somebody has locked is passed over and counted as busy, so that an operator never waits for a
handler, nor a handler for an operator.
"""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

import psycopg

from outbox.states import State
from relay.chores import PRUNE, PRUNE_EVENTS, PRUNE_JOBS
from relay.cli.listing import page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from relay.cli.listing import Filter
    from relay.sessions import Session

BATCH: Final = 500  # rows of one transaction

_S = State


@dataclass(frozen=True, slots=True)
class Order:
    """Something an operator may have done to jobs.

    Args:
        verb: as the command is called.
        to: the state it leads to.
        sources: the states it starts from.
        changes: what else is set.
        told: whether it may start from an event that was published, too.
    """

    verb: str
    to: State
    sources: frozenset[State]
    changes: str = ""
    told: bool = False


# A finished job begins anew. One that is on its way keeps its count; with a key it has at least one, for only
# then does it go on holding those behind it in its key's line until it is sent.
_SCHEDULED: Final = """, available_at = clock_timestamp(),
    attempt = CASE WHEN j.finished_at IS NOT NULL THEN 0
                   WHEN coalesce(j.key, '') = '' THEN j.attempt
                   ELSE greatest(j.attempt, 1) END"""

# What runs is the handler's alone, and the leader's when the lease runs out.
RETRY: Final = Order(
    "retry", _S.SCHEDULED, frozenset({_S.PARKED, _S.DEAD, _S.CANCELLED, _S.PUBLISHED}), _SCHEDULED
)
AGAIN: Final = Order("retry", RETRY.to, RETRY.sources | {_S.SUCCEEDED}, _SCHEDULED, told=True)
CANCEL: Final = Order("cancel", _S.CANCELLED, frozenset({_S.SCHEDULED, _S.PARKED, _S.PENDING, _S.PUBLISHED}))
BURY: Final = Order("bury", _S.DEAD, CANCEL.sources, ", error = coalesce(%(reason)s, j.error)")

_MOVE: Final = """
WITH d AS MATERIALIZED (
    SELECT id FROM outbox.job
     WHERE id = ANY(%(ids)s) AND state = ANY(%(sources)s) AND (tracked OR state <> 'published' OR %(told)s)
     ORDER BY id FOR NO KEY UPDATE SKIP LOCKED),
c AS MATERIALIZED (SELECT id FROM d WHERE pg_try_advisory_xact_lock(hashtextextended(id::text, 0)))
UPDATE outbox.job j SET state = %(to)s, version = j.version + 1{changes}
  FROM c WHERE j.id = c.id RETURNING j.id
"""

_PRUNE_DEAD: Final = PRUNE.format(what="state = 'dead' AND finished_at", when="finished_at")

# Somebody adds an equal unique job, or deletes, just now. The batch is as it was.
_IN_THE_WAY: Final = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.UniqueViolation,
)

_LOOK: Final = "SELECT id, state, tracked FROM outbox.job WHERE id = ANY(%s)"


@dataclass(slots=True)
class Outcome:
    """What became of an order.

    Args:
        done: how many jobs were changed.
        busy: how many somebody had locked just then.
        refused: why the others were not, by their ids.
    """

    done: int = 0
    busy: int = 0
    refused: dict[str, str] = field(default_factory=dict)

    def __iadd__(self, other: Outcome) -> Self:
        self.done += other.done
        self.busy += other.busy
        self.refused |= other.refused
        return self


def operator() -> str:
    """Return who gives orders, as the history of a job names them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"operator:{user}@{socket.gethostname()}"


def carry_out(session: Session, order: Order, ids: Sequence[UUID], reason: str | None = None) -> Outcome:
    """Change these jobs, some hundreds in a transaction.

    Args:
        session: where.
        order: what is to be done.
        ids: to which jobs.
        reason: kept with a job that is buried.
    """
    outcome = Outcome()
    for start in range(0, len(ids), BATCH):
        outcome += _batch(session, order, ids[start : start + BATCH], reason)
    return outcome


def carry_out_all(session: Session, order: Order, which: Filter, reason: str | None = None) -> Outcome:
    """Change all jobs that a filter finds. Jobs that get into its state meanwhile may be left out."""
    outcome, after = Outcome(), None
    while True:
        found = page(session, which, BATCH, after)
        outcome += _batch(session, order, [job["id"] for job in found.jobs], reason)
        after = found.after
        if after is None:
            return outcome


def _batch(session: Session, order: Order, ids: Sequence[UUID], reason: str | None) -> Outcome:
    try:
        done = _move(session, order, ids, reason)
    except _IN_THE_WAY:
        return Outcome(busy=len(ids))
    left = [job_id for job_id in ids if job_id not in done]
    outcome = Outcome(done=len(done), refused={str(job_id): "there is no such job" for job_id in left})
    for job_id, state, tracked in session.execute(_LOOK, (left,)).fetchall():
        why = _why(order, State(state), tracked)
        if why is None:
            outcome.busy += 1
            del outcome.refused[str(job_id)]
        else:
            outcome.refused[str(job_id)] = why
    return outcome


def _move(session: Session, order: Order, ids: Sequence[UUID], reason: str | None) -> set[UUID]:
    values = {"ids": list(ids), "sources": list(order.sources), "to": order.to, "told": order.told}
    with session.transaction():
        session.execute("SELECT set_config('outbox.by', %s, true)", (operator(),))
        session.execute("SET LOCAL lock_timeout = '2s'")
        rows = session.execute(_MOVE.format(changes=order.changes), {**values, "reason": reason}).fetchall()
    return {job_id for (job_id,) in rows}


def _why(order: Order, state: State, tracked: bool) -> str | None:
    """Return why a job in this state cannot be changed so; None: it could, and somebody has it locked."""
    if state is State.PUBLISHED and not tracked and not order.told:
        return "it is an event that was published, and nothing more happens to it" + (
            "; --again sends it once more" if order.to is State.SCHEDULED else ""
        )
    if state in order.sources:
        return None
    if state is State.SUCCEEDED and order.to is State.SCHEDULED:
        return "it succeeded; --again runs it once more"
    if state is State.RUNNING:
        return "a handler is running it; it can be changed when that ends or its lease runs out"
    return f"it is {state}"


def prune(session: Session, older_than: float, *, dead: bool) -> int:
    """Delete finished jobs with their history, some hundreds in a transaction.

    Args:
        session: where.
        older_than: seconds since they finished.
        dead: delete dead jobs too; they are kept otherwise, whatever their age.

    Returns:
        How many were deleted.
    """
    statements = (PRUNE_JOBS, PRUNE_EVENTS, *((_PRUNE_DEAD,) if dead else ()))
    return sum(_prune(session, statement, older_than) for statement in statements)


def _prune(session: Session, statement: str, older_than: float) -> int:
    total = 0
    while True:
        count = len(session.execute(statement, {"after": older_than, "rows": BATCH}).fetchall())
        total += count
        if count < BATCH:
            return total
