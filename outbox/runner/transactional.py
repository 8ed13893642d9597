"""The transactional mode: what the handler writes and the job's completion are one commit.

A crash anywhere rolls both back, and the broker delivers again at once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Generic, TypeVar

from outbox.job import Job
from outbox.runner.delivery import Ack, Keep
from outbox.runner.settling import Decision
from outbox.states import State
from outbox.transitions import Applied, moved_here

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from outbox.handlers import Handler
    from outbox.joined import Work
    from outbox.runner.calling import Call
    from outbox.runner.claims import Row, Unadopted
    from outbox.runner.delivery import Delivery
    from outbox.runner.desk import Desk
    from outbox.transitions import Result

S = TypeVar("S", bound="Session | AsyncSession")


class Transactional(Generic[S]):
    """Runs handlers ``(job, session)``.

    Args:
        desk: Where deliveries are taken up and put down.
        call: Calls a handler.
    """

    def __init__(self, desk: Desk[S], call: Call) -> None:
        self._desk = desk
        self._call = call

    def run(self, delivery: Delivery, handler: Handler) -> Ack | Keep:
        """Run the handler in the claim's own transaction, and complete the job last of all."""
        with self._desk.sessions.begin_with_session() as work:
            held = self._desk.take(work, delivery, handler)
            if isinstance(held, Ack | Keep):
                return held
            began = time.perf_counter()
            charge = 0 if delivery.charged else 1
            try:
                result, state = self._work(work, delivery, handler, held, charge)
            except BaseException as error:  # noqa: BLE001 - a handler that calls sys.exit() has failed, no more
                seconds = time.perf_counter() - began
                judged = self._desk.judge(delivery, error, held, handler, seconds)
            else:
                if not isinstance(result, Applied):
                    return self._desk.ignored(delivery, result)
                counted = charge if state is State.SUCCEEDED else 0
                done = Decision(held, state, counted, seconds=time.perf_counter() - began)
                return self._desk.handled(delivery, done, result.version)
        return judged if isinstance(judged, Keep) else self._desk.settle(delivery, judged)

    def _work(
        self, work: Work[S], delivery: Delivery, handler: Handler, held: Row | Unadopted, charge: int
    ) -> tuple[Result, State]:
        job = Job(**self._desk.job(delivery, held, handler))
        self._call(handler, job, work.session)
        work.flush()
        # Last: the row is locked from here to the commit, so nobody waits for a handler.
        result, state = held.succeed(work.connection, charge), State.SUCCEEDED
        if not isinstance(result, Applied):
            result, state = self._handlers_own(work, delivery, result)
        if isinstance(result, Applied):
            work.commit()
        return result, state

    def _handlers_own(self, work: Work[S], delivery: Delivery, result: Result) -> tuple[Result, State]:
        """Let the handler's own transition of its job stand: it commits with what the handler wrote."""
        moved = moved_here(work.connection, delivery.id)
        return (result, State.SUCCEEDED) if moved is None else (Applied(moved[1]), moved[0])
