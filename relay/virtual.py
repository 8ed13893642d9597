"""Sends jobs through kombu's virtual transports (Redis, Valkey, memory): no confirms, no returns.

They drop a message silently when nothing is bound, ``mandatory`` or not, so the binding is looked up before
every send. What the server accepted is confirmed as far as its grade goes (``transports.py``).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from kombu.connection import Connection

from outbox.errors import LeadershipLost
from relay.cork import CONNECT_TIMEOUT, IO_TIMEOUT
from relay.publisher import CHUNK, BrokerGone, prepare
from relay.term import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from relay.routes import Routes
    from relay.row import Row
    from relay.term import Term
    from relay.window import Window

ASK_EVERY: Final = 5.0
OPTIONS: Final = {
    "socket_timeout": IO_TIMEOUT,
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "socket_keepalive": True,
}


class VirtualPublisher:
    """A publisher for brokers that kombu emulates AMQP on.

    Args:
        url: one broker's address.
        routes: where each job goes.
        window: learns what was accepted.
    """

    blocked: str | None = None

    def __init__(self, url: str, routes: Routes, window: Window) -> None:
        self._url, self._routes, self._window = url, routes, window
        self._connection: Any = None
        self._channel: Any = None
        self._tag, self._asked_at = 0, clock()

    def connect(self, between: Callable[[], None]) -> None:
        """Open the connection and declare the exchanges. Raises ``BrokerGone``."""
        options = {} if self._url.startswith("memory") else dict(OPTIONS)
        self._pid, self._tag = os.getpid(), 0
        self._connection = Connection(self._url, transport_options=options)
        try:
            transport = self._connection.transport
            self._channel = transport.create_channel(transport.establish_connection())
            between()
            for exchange in self._routes.exchanges():
                self._channel.exchange_declare(exchange, "topic", durable=True, auto_delete=False)
        except self._errors() as error:
            raise self._gone(error) from None

    def send(self, rows: Sequence[Row], term: Term, duplicate: Callable[[Row], bool]) -> None:
        """Send each job to the queues that are bound; where none is, it is unroutable. Raises as on AMQP."""
        for count, row in enumerate(rows):
            if not term.trusted:
                raise LeadershipLost("this process stood still for longer than its lease")
            if count % CHUNK == CHUNK - 1:
                term.beat()
            try:
                self._publish(row, term.number, duplicate=duplicate(row))
            except self._errors() as error:
                raise self._gone(error) from None

    def settle(self) -> None:
        """Ask now and then whether the server is still there; every send is settled when it returns.

        Raises:
            BrokerGone: it is not.
        """
        if clock() - self._asked_at < ASK_EVERY or not hasattr(self._channel, "client"):
            return
        self._asked_at = clock()
        try:
            self._channel.client.ping()
        except self._errors() as error:
            raise self._gone(error) from None

    def fileno(self) -> None:
        """Return None: nothing arrives by itself."""

    def depth(self, queue: str) -> int:
        """Return how many messages wait in ``queue``; 0 if it is gone. Raises ``BrokerGone``."""
        try:
            return int(self._channel._size(queue))  # noqa: SLF001 - kombu has no public way
        except self._errors() as error:
            raise self._gone(error) from None

    def drop(self) -> None:
        """Let go of the connection."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            connection.collect()

    def _publish(self, row: Row, term: int, *, duplicate: bool) -> None:
        way = self._routes.way(row)
        self._tag += 1
        self._window.fly(self._tag, row)
        if not self._bound(way.exchange, way.routing_key):
            self._window.returned(
                str(row.id), f"nothing is bound to {way.exchange!r} for {way.routing_key!r}"
            )
        else:
            prepared = prepare(self._channel, row, term, duplicate=duplicate)
            self._channel.basic_publish(prepared, way.exchange, way.routing_key)
        self._window.acked(self._tag, multiple=False)

    def _bound(self, exchange: str, routing_key: str) -> bool:
        if not exchange:
            return True  # the broker's own: the routing key is the queue, a list that the first push makes
        table = self._channel.get_table(exchange)
        return bool(self._channel.typeof(exchange, "topic").lookup(table, exchange, routing_key, None))

    def _errors(self) -> tuple[type[BaseException], ...]:
        transport = self._connection.transport
        return (*transport.connection_errors, *transport.channel_errors, OSError)

    def _gone(self, error: BaseException) -> BrokerGone:
        self.drop()
        return BrokerGone(" ".join(f"{type(error).__name__}: {error}".split()), unknown=self._window.drop())
