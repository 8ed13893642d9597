"""Makes the consumer's queue the taker of its kinds, tells the relay, waits for the database."""

from __future__ import annotations

import queue
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from outbox import events
from outbox.consumer import takers
from outbox.consumer.gate import Backoff
from outbox.runner.faults import passing, told, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from outbox.consumer.crew import Crew
    from outbox.consumer.subscription import Subscription
    from outbox.consumer.wake import Wake
    from outbox.events import Observer
    from outbox.handlers import Handlers
    from outbox.joined import Sessions

LOOK_EVERY: Final = 60.0
"""Seconds."""

BEAT: Final = 1.0
"""Seconds between two looks at whether we shall stop."""


class Registration:
    """What the database is told of a consumer.

    Args:
        handlers: Its registry.
        sessions: Of the database.
        crew: Where it may be asked.
        wake: Ends the consumer's wait.
        observer: Told that the database is away.
        stopped: Whether the consumer shall end.
    """

    def __init__(
        self,
        handlers: Handlers[Any],
        sessions: Sessions[Any],
        crew: Crew,
        wake: Wake,
        *,
        observer: Observer,
        stopped: Callable[[], bool],
    ) -> None:
        self._queue = handlers.name
        self._all = handlers.kinds
        self._kinds = [handler.kind for handler in handlers if not handler.event]
        self._sessions = sessions
        self._crew = crew
        self._wake = wake
        self._emit = observer
        self._stopped = stopped
        self._looked_at = 0.0
        self._moves: deque[tuple[str, str, str]] = deque()
        """Kind, the queue that took it, and the one that takes it now."""
        self._lost: frozenset[str] = frozenset()

    @property
    def bound(self) -> list[str]:
        """The kinds that our queue is to be bound to: all but those that were taken over from us."""
        return [kind for kind in self._all if kind not in self._lost]

    def take_kinds(self, *, take_over: bool) -> None:
        """Become the taker of our kinds of jobs; waits for a database that is away.

        Args:
            take_over: Whether kinds of another queue are moved to this one.

        Raises:
            WrongEnvironment: Another queue takes one of them; the database is not one that we can work with.
        """

        def register() -> None:
            with self._sessions.begin() as work:
                moved = takers.register(work.connection, self._kinds, self._queue, take_over=take_over)
                work.commit()
            self._moves.extend((kind, before, self._queue) for kind, before in moved)

        backoff = Backoff()
        while not self._stopped():
            try:
                self._ask(register)
            except Exception as error:
                reason, refused = told(error)
                if refused or not (unreachable(error) or passing(error)):
                    raise takers.explained(error) from error
                wait = backoff.next()
                self._emit(events.ConsumerLost("database", reason, wait))
                self._wake.wait(wait)
            else:
                return

    def look(self, now: float) -> None:
        """See every minute whether somebody took a kind over from us; does not wait for the answer."""
        if self._kinds and now - self._looked_at >= LOOK_EVERY:
            self._looked_at = now
            self._crew.submit(self._look)

    def follow(self, subscription: Subscription) -> None:
        """Unbind the queue that a kind was taken from, and tell. On the connection's thread.

        Raises:
            Gone: The connection was lost; it is done on the next one.
        """
        while self._moves:
            kind, before, after = self._moves[0]
            left = subscription.release(before, kind)
            self._moves.popleft()
            self._emit(events.KindMoved(kind, before, after, left))

    def announce(self) -> None:
        """Tell the relay that a queue was bound, and look at the takers soon; does not wait for either."""
        self._looked_at = 0.0
        self._crew.submit(self._announce)

    def _look(self) -> None:
        with suppress(Exception), self._sessions.begin() as work:  # another time
            lost = dict(takers.elsewhere(work.connection, self._kinds, self._queue))
            known, self._lost = self._lost, frozenset(lost)
            self._moves.extend((kind, self._queue, lost[kind]) for kind in sorted(lost.keys() - known))
            self._wake.up()

    def _announce(self) -> None:
        with suppress(Exception), self._sessions.begin() as work:  # the relay probes by itself, later
            takers.announce(work.connection)
            work.commit()

    def _ask(self, function: Callable[[], None]) -> None:
        """Have a function run by the crew, and wait for it or for the end: a database may never answer."""
        answer: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

        def run() -> None:
            try:
                function()
            except Exception as error:  # noqa: BLE001 - raised again by who asked
                answer.put(error)
            else:
                answer.put(None)
            self._wake.up()

        self._crew.submit(run)
        while answer.empty() and not self._stopped():
            self._wake.wait(BEAT)
        error = None if answer.empty() else answer.get()
        if error is not None:
            raise error
