"""The relay's line to its broker: connecting with a back-off, losing it, being asked to pause.

It decides *when* to connect and what a loss means for the window; how messages are sent is the publishers'
business. A broker outage costs no job anything.
"""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Final

from outbox import events
from relay import transports, urls
from relay.publisher import AmqpPublisher, BrokerGone
from relay.term import clock
from relay.virtual import VirtualPublisher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outbox.events import Observer
    from relay.routes import Routes
    from relay.row import Row
    from relay.term import Term
    from relay.window import Window

FIRST_WAIT: Final = 0.25
LONGEST_WAIT: Final = 5.0
"""Seconds between attempts, plus jitter: an outage sees at most twelve a minute from each relay."""
PUBLISHERS: Final[dict[str, type[AmqpPublisher | VirtualPublisher]]] = {
    "amqp": AmqpPublisher,
    "redis": VirtualPublisher,
    "memory": VirtualPublisher,
}


class Broker:
    """Keeps one publisher connected.

    Args:
        url: the broker's address; several, divided by ``;``, are tried in turn.
        routes: where jobs go.
        window: what is in flight.
        observe: gets the events.
    """

    def __init__(self, url: str, routes: Routes, window: Window, observe: Observer) -> None:
        self._urls = itertools.cycle(transports.listed(url))
        self._routes, self.window, self._observe = routes, window, observe
        self.publisher: AmqpPublisher | VirtualPublisher | None = None
        self.reason = "not connected yet"
        self._wait, self._try_at = FIRST_WAIT, 0.0
        self._connected_at, self._settled_before = 0.0, 0
        self._blocked: str | None = None
        self.lost_at = clock()
        self.losses = 0

    @property
    def able(self) -> bool:
        """Whether messages may be sent now."""
        return self.publisher is not None and self._blocked is None

    @property
    def live(self) -> bool:
        """Whether there is a connection, blocked or not."""
        return self.publisher is not None

    @property
    def down_for(self) -> float:
        """Seconds without a connection."""
        return 0.0 if self.publisher is not None else clock() - self.lost_at

    @property
    def next_try(self) -> float:
        """Seconds until the next attempt to connect; infinite while connected."""
        return max(0.0, self._try_at - clock()) if self.publisher is None else float("inf")

    def fileno(self) -> int | None:
        """Return the socket to sleep on, if there is one."""
        return self.publisher.fileno() if self.publisher is not None else None

    def tend(self, between: Callable[[], None]) -> None:
        """Connect when it is time; read what arrived; see what is overdue or blocked.

        Args:
            between: called between the steps of connecting (the leader's heartbeat).
        """
        if self.publisher is None:
            if clock() >= self._try_at:
                self._connect(between)
            return
        try:
            self.publisher.settle()
        except BrokerGone as gone:
            self._lost(gone)
            return
        self._notice_block()
        if self._blocked is None:
            self.window.set_aside()
            self._notice_silence(self.publisher)

    def send(self, rows: Sequence[Row], term: Term, duplicate: Callable[[Row], bool]) -> bool:
        """Send jobs; a loss or a pause on the way leaves some pending. Raises ``LeadershipLost``.

        Returns:
            Whether all were sent.
        """
        if self.publisher is None:
            return False
        try:
            return self.publisher.send(rows, term, duplicate)
        except BrokerGone as gone:
            self._lost(gone)
            return False

    def probe(self, row: Row, term: Term, *, duplicate: bool) -> bool:
        """Send one job so that its refusal touches no other. Returns and raises as ``send``."""
        if self.publisher is None or self.publisher.blocked is not None:
            return False
        try:
            self.publisher.probe(row, term, duplicate=duplicate)
        except BrokerGone as gone:
            self._lost(gone)
            return False
        return True

    def depth(self, queue: str) -> int | None:
        """Return how many messages wait in ``queue`` (0: empty or gone), or None if that cannot be told."""
        if self.publisher is None:
            return None
        try:
            return self.publisher.depth(queue)
        except BrokerGone as gone:
            self._lost(gone)
            return None

    def drop(self) -> None:
        """Let go of the connection at once; what is unconfirmed is unknown."""
        if self.publisher is not None:
            self.publisher.drop()
            self.publisher, self.lost_at = None, clock()
            self.losses += 1
        self.window.drop()

    def _connect(self, between: Callable[[], None]) -> None:
        url = next(self._urls)
        publisher = PUBLISHERS[transports.family(url)](url, self._routes, self.window)
        try:
            publisher.connect(between)
        except BrokerGone as gone:
            self._lost(gone)
            return
        self.publisher, self._blocked = publisher, None
        self._connected_at, self._settled_before = clock(), self.window.settled
        self._observe(events.BrokerConnected(urls.masked(url)))

    def _lost(self, gone: BrokerGone) -> None:
        if self.publisher is not None:
            self.lost_at = clock()
            self.losses += 1
            self._wait = FIRST_WAIT if self._was_of_use else self._wait
        self.publisher, self.reason = None, str(gone)
        wait = self._wait * random.uniform(1.0, 1.25)  # noqa: S311 - jitter, not a secret
        self._wait = min(LONGEST_WAIT, self._wait * 2)
        self._try_at = clock() + wait
        self._observe(events.BrokerLost(self.reason, gone.unknown, wait))

    @property
    def _was_of_use(self) -> bool:
        """Whether the connection lasted, or settled anything: a broker that hangs up is not stormed."""
        return self.window.settled > self._settled_before or clock() - self._connected_at > LONGEST_WAIT

    def _notice_silence(self, publisher: AmqpPublisher | VirtualPublisher) -> None:
        """Give up a connection on which nothing is confirmed, or which one destination has stuffed."""
        if self.window.overdue:
            reason = f"no confirm for {self.window.timeout:.0f} s"
            self.window.strain()
        elif self.window.stuck:
            reason = "what waits for one destination holds up all others"
        else:
            return
        publisher.drop()
        self._lost(BrokerGone(reason, unknown=self.window.drop()))

    def _notice_block(self) -> None:
        blocked = self.publisher.blocked if self.publisher is not None else None
        if blocked is not None and self._blocked is None:
            self._observe(events.BrokerBlocked(blocked))
        elif blocked is None and self._blocked is not None:
            self.window.excuse()
            self._observe(events.BrokerUnblocked())
        self._blocked = blocked
