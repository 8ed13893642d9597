"""Makes the consumer's queue the taker of its kinds, tells the relay, waits for the database."""

from __future__ import annotations

import queue
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from outbox import events
from outbox.consumer import takers
from outbox.consumer.gate import Backoff
from outbox.runner.faults import passing, told, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from outbox.consumer.crew import Crew
    from outbox.consumer.wake import Wake
    from outbox.events import Observer
    from outbox.handlers import Handlers
    from outbox.joined import Sessions

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
        self._kinds = [handler.kind for handler in handlers if not handler.event]
        self._sessions = sessions
        self._crew = crew
        self._wake = wake
        self._emit = observer
        self._stopped = stopped

    def take_kinds(self, *, take_over: bool) -> None:
        """Become the taker of our kinds of jobs; waits for a database that is away.

        Args:
            take_over: Whether kinds of another queue are moved to this one.

        Raises:
            WrongEnvironment: Another queue takes one of them; the database is not one that we can work with.
        """

        def register() -> None:
            with self._sessions.begin() as work:
                takers.register(work.connection, self._kinds, self._queue, take_over=take_over)
                work.commit()

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

    def announce(self) -> None:
        """Tell the relay that a queue was bound; does not wait for it."""
        self._crew.submit(self._announce)

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
