"""What both modes do around a handler: take hold of the job, judge how it ended, write what was decided.

An ack needs positive proof: a transition that we committed, or a row that shows a later version. Whatever
else happens, such as a commit whose answer was lost, ends in looking again.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from outbox import events
from outbox.payload import decode
from outbox.runner.claims import Row, Unadopted, claim, look
from outbox.runner.delivery import Ack, Keep
from outbox.runner.faults import disconnected, one_line, passing, remedy, told, unstorable
from outbox.runner.settling import Unreadable, decide
from outbox.transitions import Ahead, Applied, Missing, Result, catch_up

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from outbox.events import Observer
    from outbox.handlers import Handler
    from outbox.joined import Sessions, Work
    from outbox.runner.claims import Held
    from outbox.runner.delivery import Delivery
    from outbox.runner.settling import Decision

S = TypeVar("S", bound="Session | AsyncSession")

BUSY: Final = 1.0
"""Seconds until a message is looked at again whose other copy is at work."""

STRIKES: Final = 10
"""So many faults of the surroundings in a row cost an attempt: a job that causes them must end some day."""

_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 5.0


class Desk(Generic[S]):
    """Where deliveries are taken up and put down.

    Args:
        sessions: The application's, in the database where its jobs live.
        by: Who this is, in the log of transitions.
        observer: Told what happens.
    """

    def __init__(self, sessions: Sessions[S], by: str, observer: Observer) -> None:
        self.sessions = sessions
        self.by = by
        self._emit = observer

    def take(
        self, work: Work[S], delivery: Delivery, handler: Handler | None
    ) -> Row | Unadopted | Ack | Keep:
        """Claim the delivery's job for this transaction, if it is still there to be done.

        Args:
            work: The transaction.
            delivery: Of the job.
            handler: Of its kind, if there is one.

        Returns:
            The job, or what becomes of the message instead.
        """
        if not claim(work.connection, delivery, self.by):
            return Keep(BUSY, "another copy of it is at work")
        found = look(work.connection, delivery, handler)
        if isinstance(found, Row | Unadopted):
            return found
        if isinstance(found, Ahead):
            # A failover lost the tail: nobody is left who would do what this message knows of.
            catch_up(work.connection, delivery.id, found.version, delivery.message.version or 0)
            work.commit()
            self._emit(events.MessageIgnored(str(delivery.id), delivery.kind, "ahead"))
            return Ack()
        return self.ignored(delivery, found)

    def job(self, delivery: Delivery, held: Held, handler: Handler) -> dict[str, Any]:
        """Return the fields of the job that a handler gets.

        Raises:
            Unreadable: The payload cannot be decoded, or does not fit the model.
        """
        message = delivery.message
        try:
            payload = decode(message.body, message.content_type)
            if handler.parse is not None:
                payload = handler.parse(message.body, payload)
        except ValueError as error:
            raise Unreadable(one_line(error)) from error
        return {
            "id": delivery.id,
            "kind": handler.kind,
            "key": message.key,
            "payload": payload,
            "headers": message.headers,
            "state": held.state,
            "version": held.version,
            "attempt": held.attempt + (0 if delivery.charged else 1),
            "max_attempts": held.max_attempts,
            "created_at": held.created_at,
        }

    def judge(
        self, delivery: Delivery, error: BaseException, held: Held, handler: Handler, seconds: float
    ) -> Keep | Decision:
        """Say what a handler's exception means for its job.

        Returns:
            ``Keep`` if it was the surroundings' fault, else what to settle.
        """
        if passing(error):
            delivery.strikes += 1
            if delivery.strikes < STRIKES:
                reason, refused = told(error)
                lost = disconnected(error)
                return Keep(_wait(delivery.strikes), reason, database_lost=lost, refused=lost and refused)
        delivery.strikes = 0
        delivery.decision = decide(error, held, handler, charged=delivery.charged, seconds=seconds)
        return delivery.decision

    def settle(self, delivery: Delivery, decision: Decision) -> Ack | Keep:
        """Write what was decided, in a transaction of its own."""
        delivery.decision = decision
        try:
            result = self._write(decision)
        except Exception as error:
            if decision.refused and remedy(error) is not None:
                # Rights that were taken away under the handler refused its job's completion, and now this:
                # nothing was the handler's fault. Where they refuse it alone (SET ROLE), the job pays.
                delivery.decision = None
            if not unstorable(error):
                raise
            # Tried again it would fail again, and the job would never get any further.
            decision = decision.spelt_out()
            result = self._write(decision)
        delivery.decision = None
        if not isinstance(result, Applied):
            return self.ignored(delivery, result)
        if decision.unreadable:
            self._emit(events.MessageUnreadable(str(delivery.id), decision.reason or ""))
        else:
            self.handled(delivery, decision, result.version)
        return Ack()

    def _write(self, decision: Decision) -> Result:
        with self.sessions.begin() as work:
            result = decision.write(work.connection, self.by)
            work.commit()
        return result

    def handled(self, delivery: Delivery, decision: Decision, version: int) -> Ack:
        """Tell that a job moved on."""
        self._emit(
            events.JobHandled(
                job_id=str(delivery.id),
                kind=delivery.kind,
                state=decision.to,
                version=version,
                attempt=decision.held.attempt + decision.charge,
                seconds=decision.seconds,
                reason=decision.reason,
            )
        )
        return Ack()

    def ignored(self, delivery: Delivery, result: Result) -> Ack | Keep:
        """Ack a message that had no effect, and rightly so: its row proves it."""
        if isinstance(result, Ahead):
            return Keep(BUSY, "its row went back in time: a failover")
        if isinstance(result, Missing):
            self._emit(events.JobMissing(str(delivery.id), delivery.kind))
        word = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(result).__name__).lower()
        self._emit(events.MessageIgnored(str(delivery.id), delivery.kind, word))
        return Ack()


def _wait(strikes: int) -> float:
    """Return how long to wait after so many faults in a row; deadlocked twins must not meet again."""
    ceiling = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0**strikes)
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - not a secret
