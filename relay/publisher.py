"""Sends jobs over AMQP and learns what the broker says of each, by delivery tag.

One connection, one channel, one thread. No call blocks for more than its bound (seconds below): kombu's and
py-amqp's own defaults wait for ever. After any error the connection is thrown away: a revived channel is out
of confirm mode and counts its tags anew. An error of one call says nothing about the message of that call;
what is unconfirmed is unknown.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any, Final

from amqp import exceptions as amqp_errors
from amqp.exceptions import ChannelError

from outbox import message
from outbox.errors import LeadershipLost, OutboxError, WrongEnvironment
from relay import cork

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from relay.routes import Routes
    from relay.row import Row
    from relay.term import Term
    from relay.window import Window

CHUNK: Final = 64
"""Messages that are written at once; between two chunks we read what has arrived, and beat."""

REFUSES_ROW: Final = frozenset({406, 501})
"""Codes with which a broker refuses one message for what it is: too large, a property it does not allow."""
REFUSES_WAY: Final = frozenset({403, 404})
"""Codes with which it refuses the way: no such exchange, no right to write. No job is to blame, or buried."""


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
        self._tag = 0
        self.blocked: str | None = None

    def connect(self, between: Callable[[], None]) -> None:
        """Open connection and channel, in steps of at most 1.5 s.

        Args:
            between: called between the steps (the leader's heartbeat).

        Raises:
            BrokerGone: not this time.
            WrongEnvironment: never, as it is set: an exchange of another type is in the way.
        """
        self._pid, self._tag, self.blocked = os.getpid(), 0, None
        try:
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
        except ERRORS as error:
            raise self._gone(error) from None

    def send(self, rows: Sequence[Row], term: Term, duplicate: Callable[[Row], bool]) -> None:
        """Write messages to the socket; what the broker says of them arrives in the window.

        Args:
            rows: the jobs.
            term: asked before each write whether it may still publish.
            duplicate: whether a job may have been sent before.

        Raises:
            BrokerGone: the connection ended.
            LeadershipLost: the term's trust ran out on the way.
        """
        if self._pid != os.getpid():
            raise BrokerGone("the connection belongs to the process before the fork")
        try:
            for start in range(0, len(rows), CHUNK):
                self._write(rows[start : start + CHUNK], term, duplicate)
                self._read()
                term.beat()
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

    def depth(self, queue: str) -> int:
        """Return how many messages wait in ``queue``; 0 if it is gone.

        Raises:
            BrokerGone: the connection ended.
        """
        try:
            channel = self._connection.channel()
            try:
                return int(channel.queue_declare(queue, passive=True).message_count)
            finally:
                channel.collect()
        except ChannelError:
            return 0
        except ERRORS as error:
            raise self._gone(error) from None

    def drop(self) -> None:
        """Let go of the connection with no handshake: that may wait for ever for a frozen broker."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            connection.collect()

    def _declare(self, exchange: str) -> None:
        """Make sure of an exchange, on a channel of its own: a refusal closes only that one."""
        channel = self._connection.channel()
        try:
            channel.exchange_declare(exchange, "topic", durable=True, auto_delete=False)
        except amqp_errors.PreconditionFailed as error:
            raise WrongEnvironment(
                f"the exchange {exchange!r} exists as another one: {error.reply_text}; "
                "remove it, or name another with OUTBOX_EXCHANGE"
            ) from None
        except amqp_errors.AccessRefused:
            return  # whose topology belongs to others; a missing exchange shows itself at the first message
        finally:
            channel.collect()

    def _write(self, rows: Sequence[Row], term: Term, duplicate: Callable[[Row], bool]) -> None:
        """Write a chunk. Trust is asked for last: what a frozen process holds is not sent when it thaws."""

        def check() -> None:
            if not term.trusted:
                raise LeadershipLost("this process stood still for longer than its lease")

        with self._cork.holding(check):
            for row in rows:
                self._publish(row, term.number, duplicate=duplicate(row))

    def _read(self) -> None:
        """Handle what has arrived, without waiting for more."""
        try:
            while True:
                self._connection.drain_events(timeout=0)
        except TimeoutError:
            return

    def _publish(self, row: Row, term: int, *, duplicate: bool) -> None:
        way = self._routes.way(row)
        prepared = prepare(self._channel, row, term, duplicate=duplicate)
        self._tag += 1
        self._window.fly(self._tag, row)
        self._channel.basic_publish(prepared, way.exchange, way.routing_key, mandatory=True)

    def _gone(self, error: BaseException) -> BrokerGone:
        """Drop the connection; blame a message only where it was alone on the way."""
        code = getattr(error, "reply_code", None)
        reason = f"{code} {error.reply_text}" if code else f"{type(error).__name__}: {error}"  # type: ignore[attr-defined]
        one_by_one = False
        if code in REFUSES_ROW:
            one_by_one = not self._window.refuse(reason)
        elif code in REFUSES_WAY:
            one_by_one = not self._window.unroutable(reason)
        self.drop()
        return BrokerGone(" ".join(reason.split()), unknown=self._window.drop(one_by_one=one_by_one))

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


def prepare(channel: Any, row: Row, term: int, *, duplicate: bool) -> Any:
    """Return a job's message as ``channel`` takes it. An event has no version: its takers have own rows."""
    properties, headers = message.outgoing(
        id=row.id,
        kind=row.kind,
        key=row.key,
        content_type=row.content_type,
        headers=row.headers,
        version=row.version if row.tracked else None,
        attempt=row.attempt,
        term=term,
        possible_duplicate=duplicate,
        created_at=row.created_at,
    )
    return channel.prepare_message(
        row.payload,
        content_type=properties.pop("content_type"),
        content_encoding=properties.pop("content_encoding"),
        headers=headers,
        properties=properties,
    )


ERRORS: Final = (
    amqp_errors.AMQPError,
    OSError,
    ssl.SSLError,
    EOFError,
    AttributeError,  # py-amqp, when its transport is gone
)
"""All that kombu and py-amqp raise for a connection that is no more, or a channel that was closed."""
