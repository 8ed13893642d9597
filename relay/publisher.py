"""Sends jobs over AMQP and learns what the broker says of each, by delivery tag.

One connection, one channel, one thread. No call blocks for more than its bound (seconds below): kombu's and
py-amqp's own defaults wait for ever. After any error the connection is thrown away: a revived channel is out
of confirm mode and counts its tags anew. An error of one call says nothing about the message of that call;
what is unconfirmed is unknown.
"""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from amqp import exceptions as amqp_errors

from outbox.errors import LeadershipLost, OutboxError, WrongEnvironment
from relay import cork
from relay.backend import Postponed
from relay.blame import blame, blame_probe, told
from relay.envelope import UNWRITABLE, Unsendable, filled, unfit
from relay.frames import Content, publish
from relay.side import Refusal, SideChannel, asked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from relay.routes import Routes
    from relay.row import Row
    from relay.term import Term
    from relay.window import Window

CHUNK: Final = 64
"""Messages that are written at once; between two chunks we read what has arrived."""

NOT_FOUND: Final = 404
EXISTS_OTHERWISE: Final = 406


class BrokerGone(OutboxError):
    """The connection ended or had to be ended.

    Args:
        reason: in the broker's words where it had any.
        unknown: messages without a confirm; they stay pending.
    """

    def __init__(self, reason: str, *, unknown: int = 0) -> None:
        self.unknown = unknown
        super().__init__(reason)


class AmqpPublisher:
    """A publisher with confirms of our own.

    Args:
        url: one broker's address.
        routes: where each job goes.
        window: learns what flies and what is settled.
    """

    def __init__(self, url: str, routes: Routes, window: Window) -> None:
        self._url, self._routes, self._window = url, routes, window
        self._connection: Any = None
        self._channel: Any = None
        self._cork: Any = None
        self._tag = self._probes = 0
        self.blocked: str | None = None

    def connect(self, between: Callable[[], None]) -> None:
        """Open connection and channel, in steps of at most 1.5 s.

        Args:
            between: called between the steps (the leader's heartbeat).

        Raises:
            BrokerGone: not this time.
            WrongEnvironment: never, as it is set: an exchange of another type is in the way.
        """
        self._pid, self._tag, self._probes, self.blocked = os.getpid(), 0, 0, None
        try:
            self._open(between)
        except ERRORS as error:
            raise self._gone(error) from None
        except BaseException:
            self.drop()
            raise

    def send(self, rows: Sequence[Row], term: Term, duplicate: Callable[[Row], bool]) -> bool:
        """Write messages to the socket; what the broker says of them arrives in the window.

        Args:
            rows: the jobs.
            term: asked before each write whether it may still publish.
            duplicate: whether a job may have been sent before.

        Returns:
            Whether all were written; the broker may ask for a pause on the way.

        Raises:
            BrokerGone: the connection ended.
            LeadershipLost: the term's trust ran out on the way.
        """
        if self._pid != os.getpid():
            raise BrokerGone("the connection belongs to the process before the fork")
        try:
            for start in range(0, len(rows), CHUNK):
                if self.blocked is not None:
                    return False
                self._write(rows[start : start + CHUNK], term, duplicate)
                self._read()
        except ERRORS as error:
            raise self._gone(error) from None
        return True

    def probe(self, row: Row, term: Term, *, duplicate: bool) -> None:
        """Send one job on a channel of its own: a refusal ends that one, and nothing else in flight.

        Raises:
            BrokerGone: the connection ended.
            LeadershipLost: the term's trust ran out.
        """
        self._probes -= 1
        tag = self._probes
        try:
            side = SideChannel(self._connection, partial(self._on_probe_refused, tag))
            side.confirm_select()
            side.events["basic_ack"].add(partial(self._on_probe_answered, side, self._window.acked, tag))
            side.events["basic_nack"].add(partial(self._on_probe_answered, side, self._window.nacked, tag))
            side.events["basic_return"].add(self._on_return)
            believe(term)
            if not self._publish(side, tag, row, term.number, duplicate=duplicate):
                side.leave()
        except ERRORS as error:
            raise self._gone(error) from None

    def settle(self) -> None:
        """Read what has arrived, without waiting.

        Raises:
            BrokerGone: the connection ended, or the broker closed the channel.
        """
        try:
            self._connection.heartbeat_tick()
            self._read()
        except ERRORS as error:
            raise self._gone(error) from None

    def fileno(self) -> int:
        """Return the socket, to sleep on."""
        return int(self._connection.sock.fileno())

    def depth(self, queue: str) -> int | None:
        """Return how many messages wait in ``queue``; 0 if it is gone, None if the broker will not tell.

        Raises:
            BrokerGone: the connection ended.
        """
        try:
            found = asked(self._connection, lambda side: side.queue_declare(queue, passive=True))
        except ERRORS as error:
            raise self._gone(error) from None
        if isinstance(found, Refusal):
            return 0 if found.code == NOT_FOUND else None
        return int(found.message_count)

    def drop(self) -> None:
        """Let go of the connection with no handshake: that may wait for ever for a frozen broker."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            connection.collect()

    def _open(self, between: Callable[[], None]) -> None:
        self._connection, self._cork = cork.connect(self._url, self._on_blocked, self._on_unblocked)
        between()
        self._channel = self._connection.channel()
        between()
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)
        for exchange in self._routes.exchanges():
            between()
            self._declare(exchange)

    def _declare(self, exchange: str) -> None:
        """Make sure of an exchange; without the right to, the first message will show whether it exists."""
        found = asked(
            self._connection,
            lambda side: side.exchange_declare(exchange, "topic", durable=True, auto_delete=False),
        )
        if isinstance(found, Refusal) and found.code == EXISTS_OTHERWISE:
            raise WrongEnvironment(
                f"the exchange {exchange!r} exists as another one: {found.text}; "
                "remove it, or name another with OUTBOX_EXCHANGE"
            )

    def _write(self, rows: Sequence[Row], term: Term, duplicate: Callable[[Row], bool]) -> None:
        """Write a chunk. Trust is asked for last: what a frozen process holds is not sent when it thaws."""
        with self._cork.holding(partial(believe, term)):
            for row in rows:
                tag = self._tag + 1
                if self._publish(self._channel, tag, row, term.number, duplicate=duplicate(row)):
                    self._tag = tag

    def _read(self) -> None:
        """Handle what has arrived, without waiting for more."""
        try:
            while True:
                self._connection.drain_events(timeout=0)
        except TimeoutError as over:
            if over.errno is not None:  # the kernel's, which says it once: the connection itself is dead
                raise

    def _publish(self, channel: Any, tag: int, row: Row, term: int, *, duplicate: bool) -> bool:
        """Write one message; False if nothing was written because no message can hold this job."""
        way = self._routes.way(row)
        self._window.fly(tag, row)
        try:
            content = Content(row.payload, *filled(row, term, duplicate=duplicate))
            publish(channel, content, way.exchange, way.routing_key)
        except (Unsendable, *UNWRITABLE) as error:
            self._window.refused(tag, unfit(row, way, error))
            return False
        return True

    def _gone(self, error: BaseException) -> BrokerGone:
        search = blame(error, self._window, self._routes)
        self.drop()
        return BrokerGone(told(error), unknown=self._window.drop(search=search))

    def _on_probe_refused(self, tag: int, refusal: Refusal) -> None:
        blame_probe(refusal, self._window, tag)

    def _on_probe_answered(
        self, side: SideChannel, verb: Callable[..., None], tag: int, _tag: int, _multiple: bool
    ) -> None:
        verb(tag, multiple=False)
        side.leave()

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._window.acked(tag, multiple=multiple)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self._window.nacked(tag, multiple=multiple)

    def _on_return(self, error: Any, exchange: str, routing_key: str, returned: Any) -> None:
        # A return names no tag; an id is in flight once at the most.
        words = f"{error.reply_text}: nothing is bound to exchange {exchange!r} for {routing_key!r}"
        self._window.returned(str(returned.properties.get("message_id")), words)

    def _on_blocked(self, reason: str) -> None:
        self.blocked = str(reason)

    def _on_unblocked(self) -> None:
        self.blocked = None


def believe(term: Term) -> None:
    """Beat when it is time, and make sure that nobody can have replaced us. Raises ``LeadershipLost``."""
    with suppress(Postponed):  # the next one may get through; until then trust has its end
        term.beat()
    if not term.trusted:
        raise LeadershipLost("this process stood still for longer than its lease")


ERRORS: Final = (
    amqp_errors.AMQPError,
    OSError,
    ssl.SSLError,
    EOFError,
    AttributeError,  # py-amqp, when its transport is gone
)
"""All that kombu and py-amqp raise for a connection that is no more, or a channel that was closed."""
