"""The heart: stand for election, and while leading move what is pending to the broker."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from outbox import events
from outbox.errors import LeadershipLost, OutboxError, Unreachable
from relay import term as term_locks
from relay import transports, urls
from relay.backend import Postponed
from relay.broker import Broker
from relay.leader import Election
from relay.routes import Routes
from relay.shift import Shift
from relay.term import clock
from relay.waiter import Waiter
from relay.window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outbox.events import Event, Observer
    from relay.backend import Backend
    from relay.config import Settings
    from relay.term import Term

LAST_CONFIRMS: Final = 5.0
"""Seconds that a graceful stop waits for the broker's word, and for rows that handlers hold."""
LAST_LOOK: Final = 0.05
WITHOUT_BROKER: Final = 10.0
ABSTAIN: Final = 30.0
TELL_EVERY: Final = 10.0
FIRST_WAIT: Final = 0.2
LONGEST_WAIT: Final = 5.0


class Relay:
    """A relay process: one thread, one session, one broker connection.

    Args:
        settings: as the user set them.
        observers: called with every event, in this thread.
    """

    def __init__(self, settings: Settings, *, observers: Sequence[Observer] = ()) -> None:
        self._settings, self._observers = settings, tuple(observers)
        self._grade = transports.admit(settings.broker_url, allow_lossy=settings.allow_lossy)
        self._routes = Routes(settings.exchange, settings.routes)
        self._waiter = Waiter()
        self._broker = self._line()
        address = urls.masked(settings.broker_url)
        self._election = Election(
            settings,
            digest=self._routes.digest(urls.identity(settings.broker_url)),
            broker=address,
            observe=self._emit,
        )
        self._stopping = False
        self._wait = FIRST_WAIT
        self._told_at = float("-inf")
        self._ready_on: Backend | None = None
        self.ticked_at, self.leading = clock(), False

    # --- the heart ---

    def run(self) -> None:
        """Lead when elected, stand by otherwise, until ``stop``.

        Raises:
            WrongEnvironment: going on would break a promise.
            Unreachable: a server does not answer, with ``drain`` alone; a service keeps trying.
        """
        self._emit(events.RelayStarted(urls.masked(self._settings.broker_url), self._grade.letter))
        try:
            while not self._stopping:
                term = self._stand()
                if term is not None:
                    self._lead(term)
        finally:
            self._close()

    def poll(self, shift: Shift) -> float:
        """Move what is pending towards the broker, once; return the seconds to sleep."""
        shift.listen()
        shift.term.beat()
        self._broker.tend(shift.term.beat)
        shift.record()
        shift.do_chores()
        shift.send(shift.gather())
        return shift.pause()

    # --- what surrounds it ---

    def stop(self) -> None:
        """End gracefully: nothing new, the last confirms, their marks, the lock. Safe in a signal handler."""
        self._stopping = True
        self._waiter.wake()

    @property
    def broker_live(self) -> bool:
        """Whether the broker's connection stands."""
        return self._broker.live

    @property
    def database_live(self) -> bool:
        """Whether a session to PostgreSQL stands, as leader or standby."""
        return self.leading or self._election.backend is not None

    def _stand(self) -> Term | None:
        """Try for the lock once; sleep when somebody else has it."""
        self.ticked_at = clock()
        try:
            term = self._election.campaign()
            if term is None:
                self._broker.tend(_nothing)
                if self._broker.live:
                    self._election.abstain(0.0)  # two relays that make way for each other would both stay out
                self._announce(self._election.backend)
        except (Unreachable, Postponed) as error:
            self._database_lost(error)
            return None
        self._wait = FIRST_WAIT
        if term is None:
            self._sleep(self._election.wait, self._election.backend)
        return term

    def _lead(self, term: Term) -> None:
        """Serve a term to its end, whatever ends it."""
        self.leading, reason = True, "stopped"
        try:
            self._serve(term)
        except (LeadershipLost, Unreachable, Postponed) as lost:
            if self._settings.drain and isinstance(lost, Unreachable):
                raise
            reason = str(lost)
        finally:
            self.leading = False
            # What flies is unknown to the next leader; after a graceful end nothing flies.
            self._broker.drop()
            self._broker = self._line()
            term.release()
            self._ready_on = None
        if not self._stopping:
            self._emit(events.LeadershipGivenUp(term.number, reason, self._election.holder()))

    def _serve(self, term: Term) -> None:
        shift = Shift(
            term=term, broker=self._broker, routes=self._routes, settings=self._settings, observe=self._emit
        )
        while not self._stopping:
            self.ticked_at = clock()
            self._sleep(self._poll_or_wait(shift), term.backend)
        self._finish(shift)

    def _poll_or_wait(self, shift: Shift) -> float:
        try:
            self._announce(shift.term.backend)
            self._step_down_if_useless(shift.term)
            pause = self.poll(shift)
        except Postponed:
            pause = FIRST_WAIT  # nothing is lost by it; trust runs out if it goes on
        else:
            if self._settings.drain and shift.idle:
                self.stop()
        self._tell_of_postponed(shift.term.backend)
        return pause

    def _tell_of_postponed(self, backend: Backend) -> None:
        """Name a statement that does not get through, now and then: once is no event, for ever it is."""
        reason, backend.postponed = backend.postponed, None
        if reason is not None and clock() - self._told_at >= TELL_EVERY:
            self._told_at = clock()
            self._emit(events.StatementPostponed(reason))

    def _finish(self, shift: Shift) -> None:
        """Wait for the last confirms and mark them: a graceful end duplicates nothing."""
        deadline = clock() + LAST_CONFIRMS
        while len(self._broker.window) and clock() < deadline:
            with suppress(Postponed):
                shift.term.beat()
                if self._broker.live:
                    self._broker.tend(shift.term.beat)
                shift.record()
            if len(self._broker.window):
                self._sleep(LAST_LOOK, shift.term.backend)

    def _announce(self, backend: Backend | None) -> None:
        """Hold READY while the broker can be reached, on whichever session is ours now."""
        if backend is None:
            return
        if self._broker.live and self._ready_on is not backend:
            term_locks.ready(backend, able=True)
            self._ready_on = backend
        elif not self._broker.live and self._ready_on is backend:
            term_locks.ready(backend, able=False)
            self._ready_on = None

    def _step_down_if_useless(self, term: Term) -> None:
        """Without a broker, make way for a relay that has one; if nobody has, staging and rescue go on."""
        if self._broker.down_for < WITHOUT_BROKER:
            return
        if self._settings.drain:
            raise Unreachable(f"broker {urls.masked(self._settings.broker_url)}: {self._broker.reason}")
        if term_locks.others_ready(term.backend):
            self._election.abstain(ABSTAIN)
            raise LeadershipLost("no connection to the broker, and another relay has one")

    def _database_lost(self, error: OutboxError) -> None:
        self._election.close()
        self._ready_on = None
        if self._settings.drain:
            raise Unreachable(str(error))
        wait = self._wait * random.uniform(0.75, 1.25)  # noqa: S311 - jitter, not a secret
        self._wait = min(LONGEST_WAIT, self._wait * 2)
        self._emit(events.DatabaseLost(str(error), wait))
        until = clock() + wait
        while not self._stopping and (left := until - clock()) > 0:
            # Unread, the broker's heartbeats would end each sleep at once, and the database be stormed.
            self._broker.tend(_nothing)
            self._sleep(min(left, self._broker.next_try), None)

    def _line(self) -> Broker:
        window = Window(self._settings.window, self._settings.window_bytes)
        return Broker(self._settings.broker_url, self._routes, window, self._emit)

    def _sleep(self, seconds: float, backend: Backend | None) -> None:
        if not self._stopping or seconds < FIRST_WAIT:
            sockets = [self._broker.fileno(), backend.fileno() if backend is not None else None]
            self._waiter.wait(seconds, sockets)

    def _close(self) -> None:
        self._broker.drop()
        self._election.close()
        self._waiter.close()

    def _emit(self, event: Event) -> None:
        for observe in self._observers:
            observe(event)


def _nothing() -> None:
    """Stand in for the heartbeat of a relay that leads nobody."""
