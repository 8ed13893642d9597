"""The consumer: takes messages from the broker, has their handlers run, and acks what is proven.

One thread, the caller of ``run``, has the broker's connection, and everything of the broker happens on it. A
connection that fails is dropped and another one opened; what it delivered is acked no more, and comes again.
"""

from __future__ import annotations

import itertools
import queue
import re
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from outbox import events, logs
from outbox.consumer.crew import Loop, Threads
from outbox.consumer.dispatcher import Dispatcher
from outbox.consumer.gate import Backoff, Gate
from outbox.consumer.registration import BEAT, Registration
from outbox.consumer.subscription import EXCHANGE, Gone, Subscription
from outbox.consumer.wake import Wake
from outbox.errors import Misuse, Unreachable, WrongEnvironment
from outbox.runner import Runner
from outbox.runner.delivery import Ack, Keep

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from outbox.consumer.crew import Crew
    from outbox.events import Observer
    from outbox.handlers import Handlers
    from outbox.runner.delivery import Delivery

S = TypeVar("S", bound="Session | AsyncSession")

CONCURRENCY: Final = 8
GRACE: Final = 25.0
"""Seconds: five less than Kubernetes gives."""

MOST_IN_HAND: Final = 65_535
"""Messages: AMQP has 16 bits for it."""

_HAND_BACK: Final = 3.0
_LISTED: Final = re.compile(r";(?=[a-z][a-z0-9+.-]*://)", re.IGNORECASE)


class Consumer(Generic[S]):
    """Runs the handlers of one queue until it is stopped.

    Args:
        handlers: The registry; its name is the queue.
        broker_url: Of the broker; several addresses, divided by ``;``, are tried in turn.
        concurrency: How many handlers run at once.
        prefetch: How many messages are here unacked; twice ``concurrency`` by default.
        grace: Seconds that handlers have to finish after ``stop``.
        exchange: Where the relay publishes; the queue is bound to it.
        queue_type: ``quorum`` or ``classic``; RabbitMQ alone looks at it.
        declare: Whether to declare the exchange and the queue and to bind it to the kinds.
        take_over: Whether kinds that another queue takes are moved to this one.
        observer: Told what happens.

    Raises:
        Misuse: There are no handlers, or a number is out of range.
    """

    def __init__(
        self,
        handlers: Handlers[S],
        *,
        broker_url: str,
        concurrency: int = CONCURRENCY,
        prefetch: int | None = None,
        grace: float = GRACE,
        exchange: str = EXCHANGE,
        queue_type: str = "quorum",
        declare: bool = True,
        take_over: bool = False,
        observer: Observer = logs.log,
    ) -> None:
        if not handlers.kinds:
            raise Misuse(f"{handlers.name} has no handlers")
        in_hand = 2 * concurrency if prefetch is None else prefetch
        if concurrency < 1 or not 1 <= in_hand <= MOST_IN_HAND:
            raise Misuse(f"concurrency is 1 or more, and prefetch from 1 to {MOST_IN_HAND}")
        self._handlers = handlers
        self._urls = itertools.cycle(_LISTED.split(broker_url))
        self._prefetch = in_hand
        self._grace = grace
        self._exchange = exchange
        self._queue_type = queue_type
        self._declare = declare
        self._take_over = take_over
        self._emit = observer
        self._wake = Wake()
        self._crew: Crew = Loop() if handlers.awaited else Threads(concurrency)
        self._started: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        self._runner = Runner(handlers, observer=observer, on_running=self._leased, bridge=self._crew.call)
        self._dispatcher = Dispatcher(self._runner, self._crew, concurrency, self._wake.up)
        self._gate = Gate(self._runner, self._crew, observer, self._wake.up)
        self._backoff = Backoff()
        self._subscription: Subscription | None = None
        self._generation = 0
        self._beaten = 0.0
        self._stops = 0
        self._registration = self._registering()

    def run(self) -> None:
        """Consume until ``stop``; returns when handlers have finished or the grace period is over.

        Broker and database may go away and come back meanwhile, and at the start too.

        Raises:
            WrongEnvironment: Another queue takes one of our kinds; the queue is declared otherwise; a right
                or the schema is missing.
            Unreachable: The broker refuses the login.
        """
        try:
            self._crew.start(self._handlers.lifespans)
            self._registration.take_kinds(take_over=self._take_over)
            while not self._stops:
                self._live()
            self._wind_down()
        finally:
            self._runner.close()
            if self._subscription is not None:
                self._subscription.close()
            self._crew.close()
            self._wake.close()

    def stop(self) -> None:
        """Take nothing new and finish; a second call ends at once. From any thread, or a signal's handler."""
        self._stops += 1
        self._wake.up()

    def _live(self) -> None:
        """Go through the life of one connection, or wait for the next try."""
        try:
            subscription = self._subscribe()
            self._backoff.reset()
            while not self._stops:
                self._turn(subscription)
        except Gone as gone:
            self._subscription = None
            wait = self._backoff.next()
            self._emit(events.ConsumerLost("broker", str(gone), wait))
            self._pause(wait)

    def _subscribe(self) -> Subscription:
        self._generation += 1
        self._dispatcher.forget(self._generation)
        subscription = Subscription(
            next(self._urls), self._handlers.name, self._generation, self._dispatcher.add
        )
        try:
            subscription.connect()
            if self._declare:
                subscription.declare(self._registration.bound, self._queue_type, self._exchange)
            subscription.consume(self._prefetch)
        except (Unreachable, WrongEnvironment) as error:
            if self._subscribed_before:
                raise Gone(str(error)) from None
            raise
        self._subscription = subscription
        self._subscribed_before = True
        self._emit(events.ConsumerStarted(self._handlers.name, self._handlers.kinds, subscription.broker))
        if self._declare:
            self._registration.announce()
        return subscription

    _subscribed_before = False

    def _turn(self, subscription: Subscription) -> None:
        """Ack what is done, start what may run, wait for what comes next."""
        now = time.monotonic()
        self._collect(subscription, now)
        if self._gate.open:
            self._dispatcher.dispatch(now)
        if now - self._beaten >= BEAT:
            self._beaten = now
            subscription.beat()
        self._registration.look(now)
        self._registration.follow(subscription)
        subscription.wait(self._wake, self._leisure(now), busy=self._dispatcher.busy)

    def _pause(self, seconds: float) -> None:
        """Wait without a broker; handlers that are at work, and leases, go on meanwhile."""
        until = time.monotonic() + seconds
        while not self._stops and (now := time.monotonic()) < until:
            self._collect(None, now)
            if self._gate.open:
                self._dispatcher.dispatch(now)
            self._wake.wait(min(until - now, self._leisure(now)))

    def _collect(self, subscription: Subscription | None, now: float) -> None:
        """Take what the crew has come to."""
        self._gate.tick(now)
        for delivery, verdict in self._dispatcher.reported():
            if isinstance(verdict, Keep) and verdict.database_lost:
                self._gate.close(verdict, now)
            if isinstance(verdict, Ack):
                self._gate.proven()
                if subscription is not None:
                    subscription.ack(delivery)
        with suppress(queue.Empty):
            while True:
                delivery = self._started.get_nowait()
                if subscription is not None:
                    subscription.ack(delivery)

    def _leisure(self, now: float) -> float:
        """Return how long nothing needs to be done unless something happens."""
        if self._gate.open:
            return max(0.0, min(BEAT, self._dispatcher.next_due(now)))
        # What is kept may be due long since, and must wait for the gate: no reason not to rest.
        return max(0.0, min(BEAT, self._gate.next_due(now)))

    def _wind_down(self) -> None:
        """Finish what is at work, within the grace period; hand back the rest."""
        subscription, until = self._subscription, time.monotonic() + self._grace
        try:
            if subscription is not None:
                subscription.cancel()
            self._dispatcher.forget(self._generation + 1)
            while self._dispatcher.busy and self._stops == 1 and (now := time.monotonic()) < until:
                self._collect(subscription, now)
                if subscription is None:
                    self._wake.wait(min(BEAT, until - now))
                else:
                    subscription.beat()
                    subscription.wait(self._wake, min(BEAT, until - now), busy=True)
            self._collect(subscription, time.monotonic())
        except Gone:
            self._subscription = None
        self._hand_back()

    def _hand_back(self) -> None:
        """Give up leases. On a thread: a database that does not answer must not keep us."""
        leased = [delivery for delivery in self._dispatcher.unfinished if delivery.lease is not None]
        if not leased or self._stops > 1:
            return

        def hand_back() -> None:
            for delivery in leased:
                with suppress(Exception):  # the lease ends by itself
                    self._crew.call(partial(self._runner.hand_back, delivery))

        thread = threading.Thread(target=hand_back, daemon=True)
        thread.start()
        thread.join(_HAND_BACK)

    def _registering(self) -> Registration:
        return Registration(
            self._handlers,
            self._runner.sessions,
            self._crew,
            self._wake,
            observer=self._emit,
            stopped=lambda: self._stops > 0,
        )

    def _leased(self, delivery: Delivery) -> None:
        """Have a message acked whose handler works under a lease from now on. Called by the crew."""
        self._started.put(delivery)
        self._wake.up()
