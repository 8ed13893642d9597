"""Decides what becomes of a job whose handler did not simply succeed, and writes it.

A decision is a value: where the database is away when it should be written, it is kept and written later, and
the handler does not run again for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from outbox.outcomes import Bury, Cancel, Snooze
from outbox.runner.faults import one_line, remedy
from outbox.states import State
from outbox.transitions import MAX_ERROR, Result, due_in, sign

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from outbox.handlers import Handler
    from outbox.runner.claims import Held

UNKNOWN_KIND_DELAY: Final = 60.0
"""Seconds after which a kind that nobody handles is tried again: the next release may know it."""

UNKNOWN_KIND_LIMIT: Final = timedelta(hours=24)
"""No roll-out takes longer: after it the job is dead."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a job goes next.

    Args:
        held: The job.
        to: Its next state.
        charge: Attempts to add to its count.
        reason: In one line; None where there is nothing to say.
        delay: Seconds until it is due, where it is scheduled.
        failed: Whether the reason is an error to keep with the job.
        unreadable: Whether its message could not be understood.
        seconds: How long the handler took.
        refused: Whether it was taken because the database refused something.
    """

    held: Held
    to: State
    charge: int = 0
    reason: str | None = None
    delay: float = 0.0
    failed: bool = False
    unreadable: bool = False
    seconds: float = 0.0
    refused: bool = False

    def write(self, connection: Connection, by: str) -> Result:
        """Make the transition, in the caller's transaction.

        Args:
            connection: In it.
            by: Who decided, for the log of transitions.
        """
        values: dict[str, Any] = {}
        if self.to is State.SCHEDULED:
            values["available_at"] = due_in(self.delay)
        if self.failed or self.to is State.SUCCEEDED:
            values["error"] = self.reason if self.failed else None
        sign(connection, by, self.reason)
        return self.held.move(connection, self.to, self.charge, values)

    def spelt_out(self) -> Decision:
        """Return the same with a reason in ASCII: the database's encoding may not have its characters."""
        reason = None if self.reason is None else self.reason.encode("ascii", "backslashreplace").decode()
        return replace(self, reason=reason and reason[:MAX_ERROR])


class Unreadable(Exception):
    """A payload that cannot be decoded, or does not fit the model."""


def succeeded(held: Held, seconds: float) -> Decision:
    """The handler of a lease that returned."""
    return Decision(held, State.SUCCEEDED, seconds=seconds)


def decide(error: BaseException, held: Held, handler: Handler, *, charged: bool, seconds: float) -> Decision:
    """What becomes of a job whose handler raised, or answered.

    Args:
        error: What it raised, or what it returned in its place.
        held: The job.
        handler: That ran.
        charged: Whether this attempt is counted already.
        seconds: How long it took.
    """
    charge = 0 if charged else 1
    match error:
        case Snooze():
            # Waiting is no attempt: one that was counted is given back.
            return Decision(held, State.SCHEDULED, charge - 1, error.reason, error.seconds, seconds=seconds)
        case Cancel():
            return Decision(held, State.CANCELLED, charge, _cut(error.reason), failed=True, seconds=seconds)
        case Bury():
            return Decision(held, State.DEAD, charge, _cut(error.reason), failed=True, seconds=seconds)
        case Unreadable():
            return Decision(
                held, State.DEAD, charge - 1, str(error), failed=True, unreadable=True, seconds=seconds
            )
    return _failed(error, held, handler, charge, seconds)


def _failed(error: BaseException, held: Held, handler: Handler, charge: int, seconds: float) -> Decision:
    attempt = held.attempt + charge
    reason, refused = one_line(error), remedy(error) is not None
    if isinstance(error, handler.permanent) or attempt >= held.max_attempts:
        return Decision(held, State.DEAD, charge, reason, failed=True, seconds=seconds, refused=refused)
    delay = handler.backoff.delay(attempt)
    return Decision(
        held, State.SCHEDULED, charge, reason, delay, failed=True, seconds=seconds, refused=refused
    )


def unreadable(held: Held, problem: str) -> Decision:
    """A message that names no job, or no kind."""
    return Decision(held, State.DEAD, reason=_cut(problem), failed=True, unreadable=True)


def unknown_kind(held: Held, kind: str, queue: str) -> Decision:
    """A kind without a handler here: another release of this consumer may have one."""
    reason = f"no handler for {kind} in {queue}"
    if datetime.now(UTC) - held.created_at > UNKNOWN_KIND_LIMIT:
        return Decision(held, State.DEAD, reason=f"{reason} for 24 h", failed=True)
    return Decision(held, State.SCHEDULED, reason=reason, delay=UNKNOWN_KIND_DELAY)


def came_back(held: Held) -> Decision:
    """A message without a row that the broker gave out before: a row can count attempts, so it gets one."""
    return Decision(
        held, State.SCHEDULED, charge=1, reason="redelivered by the broker: its consumer went away"
    )


def worn_out(held: Held) -> Decision:
    """A job that came back although its attempts are used up: each of them ended with the process.

    It has run once more than that: a first return is not counted, since what died may have held healthy jobs.
    """
    reason = f"its consumer went away each time, and its {held.attempt} attempts are used up"
    return Decision(held, State.DEAD, reason=reason, failed=True)


def handed_back(held: Held) -> Decision:
    """A lease that is given up because the consumer stops: no attempt was made."""
    return Decision(held, State.SCHEDULED, charge=-1, reason="handed back: the consumer stopped")


def _cut(reason: str) -> str:
    return " ".join(str(reason).replace("\0", "").split())[:MAX_ERROR]
