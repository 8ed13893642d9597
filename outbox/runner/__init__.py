"""Runs one delivery to a verdict: acked, kept and looked at again, or run alone. Knows no broker.

Here is the way of a message before a handler is found for it: what cannot be read is buried, a kind that
nobody handles waits for the next release, and what came back from the broker is handled with care.
"""

from __future__ import annotations

import os
import random
import socket
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from sqlalchemy import select, true

from outbox import events, logs
from outbox.joined import Sessions
from outbox.runner.calling import caller
from outbox.runner.claims import Row, charge_before
from outbox.runner.delivery import Ack, Alone, Keep, Verdict
from outbox.runner.desk import Desk
from outbox.runner.faults import told, unreachable, unstorable
from outbox.runner.leasing import Leasing
from outbox.runner.renewals import Renewals
from outbox.runner.settling import came_back, unknown_kind, unreadable, worn_out
from outbox.runner.transactional import Transactional

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from outbox.events import Observer
    from outbox.handlers import Handler, Handlers
    from outbox.runner.claims import Unadopted
    from outbox.runner.delivery import Delivery
    from outbox.runner.settling import Decision

S = TypeVar("S", bound="Session | AsyncSession")

_SHORT: Final = 1.0
_LONG: Final = 5.0


class Runner(Generic[S]):
    """Runs deliveries of one queue.

    Args:
        handlers: Of the queue.
        observer: Told what happens.
        on_running: Told when a delivery's message may be acked although its handler still works.
        bridge: Runs a function that talks to the database from any thread; needed where handlers are awaited,
            since their connections belong to the event loop.
    """

    def __init__(
        self,
        handlers: Handlers[S],
        *,
        observer: Observer = logs.log,
        on_running: Callable[[Delivery], None] = lambda _: None,
        bridge: Callable[[Callable[[], None]], None] = lambda function: function(),
    ) -> None:
        self.sessions = Sessions(handlers.session)
        self._handlers = handlers
        self._emit = observer
        self._renewals = Renewals(bridge)
        self._desk = Desk(self.sessions, f"{handlers.name}@{socket.gethostname()}:{os.getpid()}", observer)
        call = caller(awaited=handlers.awaited)
        self._transactional = Transactional(self._desk, call)
        self._leasing = Leasing(
            self._desk, call, self._renewals, awaited=handlers.awaited, on_running=on_running
        )

    def run(self, delivery: Delivery, *, alone: bool = False) -> Verdict:
        """Run a delivery to a verdict. Never raises.

        Args:
            delivery: What came, or what was kept.
            alone: Whether no other handler of this process is at work.
        """
        try:
            verdict = self._run(delivery, alone=alone)
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing is proven: no ack
            verdict = _unproven(error)
        if isinstance(verdict, Keep):
            self._emit(events.MessageKept(str(delivery.id), verdict.reason, verdict.seconds))
        return verdict

    def hand_back(self, delivery: Delivery) -> None:
        """Give up the lease of a delivery that this process will not finish.

        Raises:
            Exception: Whatever the database's driver raises; the lease ends by itself then.
        """
        self._leasing.hand_back(delivery)

    def ping(self) -> None:
        """Ask the database for a sign of life.

        Raises:
            Exception: Whatever its driver raises.
        """
        with self.sessions.begin() as work:
            work.connection.execute(select(true()))

    def close(self) -> None:
        """Stop renewing leases."""
        self._renewals.close()

    def _run(self, delivery: Delivery, *, alone: bool) -> Verdict:
        if delivery.decision is not None:
            return self._leasing.settle(delivery, delivery.decision)
        if delivery.message.problem is not None:
            return self._decided(delivery, partial(unreadable, problem=delivery.message.problem))
        handler = self._handlers.get(delivery.kind)
        if handler is None:
            nobody = partial(unknown_kind, kind=delivery.kind, queue=delivery.queue)
            return self._decided(delivery, nobody)
        if delivery.redelivered and delivery.lease is None:
            verdict = self._came_back(delivery, handler, alone=alone)
            if verdict is not None:
                return verdict
        mode = self._transactional if handler.lease is None else self._leasing
        return mode.run(delivery, handler)

    def _decided(self, delivery: Delivery, decide: Callable[[Row | Unadopted], Decision]) -> Verdict:
        """Write what needs no handler to decide."""
        with self.sessions.begin() as work:
            held = self._desk.take(work, delivery, None)
            if isinstance(held, Ack | Keep):
                return held
            decision = decide(held)
        return self._desk.settle(delivery, decision)

    def _came_back(self, delivery: Delivery, handler: Handler, *, alone: bool) -> Verdict | None:
        """Look at a message that the broker gave out before: its job may have killed the consumer.

        So its attempt is counted first, and it runs while no other handler of the process does: a job that
        kills the process ends dead, and those that were beside it pay nothing.

        Returns:
            A verdict, or None: run it now.
        """
        if delivery.charged:
            return None if alone else Alone()
        with self.sessions.begin() as work:
            held = self._desk.take(work, delivery, handler)
            if isinstance(held, Ack | Keep):
                return held
            if isinstance(held, Row) and held.attempt < held.max_attempts:
                if not alone:
                    return Alone()
                if handler.lease is None:  # a lease counts its attempt anyway before its handler runs
                    delivery.charged = charge_before(work.connection, held)
                    work.commit()
                return None
        return self._desk.settle(delivery, worn_out(held) if isinstance(held, Row) else came_back(held))


def _unproven(error: Exception) -> Keep:
    """Keep a message although no handler failed: our own statements did."""
    spread = random.uniform(1.0, 2.0)  # noqa: S311 - not a secret
    reason, refused = told(error)
    if unstorable(error):
        return Keep(_LONG * spread, reason)  # this message alone
    if refused:
        # A missing grant, a missing schema: nothing else would work either, and somebody has to see it.
        return Keep(_LONG * spread, reason, database_lost=True, refused=True)
    return Keep(_SHORT * spread, reason, database_lost=unreachable(error))
