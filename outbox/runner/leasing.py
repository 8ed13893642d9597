"""The leased mode: the job is running, in a commit of its own, before its handler is called."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

from outbox.leased import AsyncLeasedJob, Lease, LeasedJob
from outbox.models import clock
from outbox.runner.delivery import Ack, Keep
from outbox.runner.settling import Decision, Unreadable, decide, handed_back
from outbox.states import State
from outbox.transitions import Applied, Superseded, due_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from outbox.handlers import Handler
    from outbox.runner.calling import Call
    from outbox.runner.claims import Row, Unadopted
    from outbox.runner.delivery import Delivery
    from outbox.runner.desk import Desk
    from outbox.runner.renewals import Renewals

S = TypeVar("S", bound="Session | AsyncSession")


class Leasing(Generic[S]):
    """Runs handlers ``(job)``.

    Args:
        desk: Where deliveries are taken up and put down.
        call: Calls a handler.
        renewals: Keeps leases alive meanwhile.
        awaited: Whether handlers are coroutine functions.
        on_running: Told when a delivery's message may be acked, because its lease counts from now on.
    """

    def __init__(
        self,
        desk: Desk[S],
        call: Call,
        renewals: Renewals,
        *,
        awaited: bool,
        on_running: Callable[[Delivery], None],
    ) -> None:
        self._desk = desk
        self._call = call
        self._renewals = renewals
        self._job: type[Any] = AsyncLeasedJob if awaited else LeasedJob
        self._on_running = on_running

    def run(self, delivery: Delivery, handler: Handler) -> Ack | Keep:
        """Lease the job, let the handler work, complete what it did not complete itself."""
        lease = delivery.lease or self._begin(delivery, handler)
        if isinstance(lease, Ack | Keep):
            return lease
        began = time.perf_counter()
        error: BaseException | None = None
        try:
            job = self._job(**self._desk.job(delivery, lease, handler), lease=lease)
            self._call(handler, job)
        except BaseException as raised:  # noqa: BLE001 - a handler that calls sys.exit() has failed, no more
            error = raised
        verdict = self._ended(delivery, handler, lease, error, time.perf_counter() - began)
        if isinstance(verdict, Ack):
            self._let_go(delivery)
        return verdict

    def settle(self, delivery: Delivery, decision: Decision) -> Ack | Keep:
        """Write what was decided before and could not be written."""
        verdict = self._desk.settle(delivery, decision)
        if isinstance(verdict, Ack):
            self._let_go(delivery)
        return verdict

    def hand_back(self, delivery: Delivery) -> None:
        """Give the job up, unfinished and at no cost, for another consumer to take."""
        if delivery.lease is not None and not delivery.lease.finished:
            self.settle(delivery, delivery.decision or handed_back(delivery.lease))

    def _begin(self, delivery: Delivery, handler: Handler) -> Lease[S] | Ack | Keep:
        with self._desk.sessions.begin() as work:
            held = self._desk.take(work, delivery, handler)
            if isinstance(held, Ack | Keep):
                return held
            try:
                self._desk.job(delivery, held, handler)
            except Unreadable as error:
                unreadable = decide(error, held, handler, charged=delivery.charged, seconds=0.0)
            else:
                lease = self._lease(held, delivery, handler)
                values = {
                    "lease_until": due_in(lease.seconds),
                    "lease_token": lease.token,
                    "started_at": clock,
                    "progress": None,
                }
                result = held.move(work.connection, State.RUNNING, 1, values)
                if not isinstance(result, Applied):
                    return self._desk.ignored(delivery, result)
                work.commit()
                return self._leased(delivery, lease)
        return self._desk.settle(delivery, unreadable)

    def _lease(self, held: Row | Unadopted, delivery: Delivery, handler: Handler) -> Lease[S]:
        return Lease(
            self._desk.sessions,
            delivery.id,
            held.version + 1,
            uuid4(),
            handler.lease or 0.0,
            attempt=held.attempt + 1,
            max_attempts=held.max_attempts,
            created_at=held.created_at,
        )

    def _leased(self, delivery: Delivery, lease: Lease[S]) -> Lease[S]:
        delivery.lease = lease
        delivery.charged = True
        self._renewals.add(lease)
        self._on_running(delivery)
        return lease

    def _ended(
        self,
        delivery: Delivery,
        handler: Handler,
        lease: Lease[S],
        error: BaseException | None,
        seconds: float,
    ) -> Ack | Keep:
        if lease.finished:
            said = f"after it had finished: {error!r}" if error else None
            done = Decision(lease, lease.ended, reason=said, seconds=seconds)
            return self._desk.handled(delivery, done, lease.version + 1)
        if lease.lost:
            return self._desk.ignored(delivery, Superseded(lease.version + 1))
        if error is None:
            return self._desk.settle(delivery, Decision(lease, State.SUCCEEDED, seconds=seconds))
        judged = self._desk.judge(delivery, error, lease, handler, seconds)
        return judged if isinstance(judged, Keep) else self._desk.settle(delivery, judged)

    def _let_go(self, delivery: Delivery) -> None:
        if delivery.lease is not None:
            self._renewals.discard(delivery.lease)
            delivery.lease = None
