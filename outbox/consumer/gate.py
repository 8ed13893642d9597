"""Keeps handlers from starting while the database is away, and finds out when it is back."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from outbox import events
from outbox.runner.faults import told

if TYPE_CHECKING:
    from collections.abc import Callable

    from outbox.consumer.crew import Crew
    from outbox.events import Observer
    from outbox.runner import Runner
    from outbox.runner.delivery import Keep

_PATIENT: Final = (2.0, 60.0)
"""Waits for a database that refuses: somebody has to do something about it."""

_STEADY: Final = 1.0
"""Seconds of an open gate after which the next loss is another one. That a database answers proves little:
one whose disk is full does, and refuses the jobs that come then."""


class Backoff:
    """Waits between tries to reach a server: doubled, with jitter.

    Args:
        first: Seconds.
        longest: The same; 12 tries a minute by default.
    """

    def __init__(self, first: float = 0.2, longest: float = 5.0) -> None:
        self._first, self._longest = first, longest
        self._tries = 0

    def next(self) -> float:
        """Return how long to wait now, in seconds."""
        ceiling = min(self._longest, self._first * 2.0 ** min(self._tries, 10))
        self._tries += 1
        return ceiling * random.uniform(0.75, 1.25)  # noqa: S311 - not a secret

    def reset(self) -> None:
        """Begin again: the server answered."""
        self._tries = 0


class Gate:
    """Open while the database answers.

    Args:
        runner: Asks the database.
        crew: Where it may be asked.
        observer: Told that it is away.
        wake: Ends the consumer's wait; called from any thread.
    """

    def __init__(self, runner: Runner[Any], crew: Crew, observer: Observer, wake: Callable[[], None]) -> None:
        self._runner = runner
        self._crew = crew
        self._emit = observer
        self._wake = wake
        self._backoff, self._patience = Backoff(), Backoff(*_PATIENT)
        self._asking = False
        self._next = self._opened_at = 0.0
        self._answer: BaseException | bool | None = None
        self.open = True

    def close(self, verdict: Keep, now: float) -> None:
        """Let nothing start before the database has answered."""
        if self.open:
            self.open = False
            if now - self._opened_at >= _STEADY:
                self._backoff.reset()
            self._lost(verdict.reason, now, refused=verdict.refused)

    def proven(self) -> None:
        """Be as quick as at first the next time: the database does what we ask for."""
        self._patience.reset()

    def tick(self, now: float) -> None:
        """Look at the answer, or ask again when it is time."""
        if self._answer is not None:
            answer, self._answer, self._asking = self._answer, None, False
            if isinstance(answer, BaseException):
                reason, refused = told(answer)
                self._lost(reason, now, refused=refused)
            else:
                self.open, self._opened_at = True, now
        if not self.open and not self._asking and now >= self._next:
            self._asking = True
            self._crew.submit(self._ask)

    def next_due(self, now: float) -> float:
        """Return in how many seconds to tick, if nothing happens before."""
        return 3600.0 if self.open or self._asking else self._next - now

    def _lost(self, reason: str, now: float, *, refused: bool) -> None:
        wait = (self._patience if refused else self._backoff).next()
        self._next = now + wait
        lost = (
            events.ConsumerRefused(reason, wait) if refused else events.ConsumerLost("database", reason, wait)
        )
        self._emit(lost)

    def _ask(self) -> None:
        try:
            self._runner.ping()
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no answer
            self._answer = error
        else:
            self._answer = True
        self._wake()
