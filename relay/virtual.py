"""Sends jobs through kombu's virtual transports (Redis, Valkey, memory): no confirms, no returns.

They drop a message silently when nothing is bound, ``mandatory`` or not, so the bindings are looked up before
every chunk, which is then one round trip. What the server accepted is confirmed as far as its grade goes
(``transports.py``).
"""

from __future__ import annotations

import os
import ssl
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final

from kombu.connection import Connection

from relay.batch import Batch, Bindings, OneByOne, chunks
from relay.blame import told
from relay.cork import CONNECT_TIMEOUT, IO_TIMEOUT
from relay.envelope import Unsendable, prepare, unfit
from relay.publisher import BrokerGone, believe
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
        self._errors: tuple[type[BaseException], ...] = ()
        self._tag, self._asked_at = 0, clock()

    def connect(self, between: Callable[[], None]) -> None:
        """Open the connection and declare the exchanges. Raises ``BrokerGone``."""
        self._pid, self._tag = os.getpid(), 0
        self._connection = opened(self._url)
        self._errors = errors_of(self._connection.transport)
        try:
            transport = self._connection.transport
            self._channel = transport.create_channel(transport.establish_connection())
            self._bindings = Bindings(self._channel)
            between()
            for exchange in self._routes.exchanges():
                self._declare(exchange)
        except self._errors as error:
            raise self._gone(error) from None
        except BaseException:
            self.drop()
            raise

    def send(self, rows: Sequence[Row], term: Term, duplicate: Callable[[Row], bool]) -> bool:
        """Send each job to the queues that are bound; where none is, it is unroutable. As on AMQP."""
        if self._pid != os.getpid():
            raise BrokerGone("the connection belongs to the process before the fork")
        for chunk in chunks(rows):
            self._send(chunk, term, duplicate)
        return True

    def probe(self, row: Row, term: Term, *, duplicate: bool) -> None:
        """Send one job. Raises ``BrokerGone`` and ``LeadershipLost``."""
        self._send([row], term, lambda _: duplicate)

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
        except self._errors as error:
            raise self._gone(error) from None

    def fileno(self) -> None:
        """Return None: nothing arrives by itself."""

    def depth(self, queue: str) -> int:
        """Return how many messages wait in ``queue``; 0 if it is gone. Raises ``BrokerGone``."""
        try:
            return int(self._channel._size(queue))  # noqa: SLF001 - kombu has no public way
        except self._errors as error:
            raise self._gone(error) from None

    def drop(self) -> None:
        """Let go of the connection."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with suppress(Exception):  # what it says of a server that is gone interests nobody
                connection.transport.close_connection(connection)
            connection.collect()

    def _send(self, rows: Sequence[Row], term: Term, duplicate: Callable[[Row], bool]) -> None:
        """Write a chunk. Trust is asked for last: what a frozen process holds is not sent when it thaws."""
        believe(term)
        self._bindings.look_afresh()
        try:
            with closing(self._batch()) as batch:
                written = [
                    tag
                    for row in rows
                    if (tag := self._put(batch, row, term.number, duplicate=duplicate(row)))
                ]
                believe(term)
                answers = batch.flush()
        except self._errors as error:
            raise self._gone(error) from None
        self._heed(written, answers)

    def _heed(self, written: Sequence[int], answers: Sequence[BaseException | None]) -> None:
        """Settle each message by its own answer: one that is refused says nothing of the others.

        Raises:
            BrokerGone: the server takes nothing just now; what it took before that is confirmed.
        """
        failed: BaseException | None = None
        for tag, answer in zip(written, answers, strict=True):
            if answer is None:
                self._window.acked(tag, multiple=False)
            elif refuses_queue(answer):
                self._window.turned_away(tag, f"the broker refuses it: {told(answer)}")
            else:
                failed = failed or answer
        if failed is not None:
            raise self._gone(failed)

    def _batch(self) -> Any:
        transport = self._connection.transport
        if getattr(transport, "supports_batch_publish", False):
            return Batch(self._channel)
        return OneByOne(self._channel)

    def _put(self, batch: Any, row: Row, term: int, *, duplicate: bool) -> int | None:
        """Add one message to the batch; return its tag, or None if it is settled: it will not be sent."""
        way = self._routes.way(row)
        self._tag += 1
        self._window.fly(self._tag, row)
        try:
            prepared = prepare(self._channel, row, term, duplicate=duplicate)
        except Unsendable as error:
            self._window.refused(self._tag, unfit(row, way, error))
            return None
        if self._bound(way.exchange, way.routing_key):
            batch.publish(prepared, exchange=way.exchange, routing_key=way.routing_key)
            return self._tag
        words = f"nothing is bound to {way.exchange!r} for {way.routing_key!r}"
        self._window.returned(str(row.id), words)
        self._window.acked(self._tag, multiple=False)
        return None

    def _bound(self, exchange: str, routing_key: str) -> bool:
        if not exchange:
            return True  # the broker's own: the routing key is the queue, a list that the first push makes
        # Of an exchange that this process has not declared kombu believes that it is a direct one, and drops
        # what only a pattern is bound for.
        self._declare(exchange)
        table = self._channel.get_table(exchange)
        return bool(self._channel.typeof(exchange).lookup(table, exchange, routing_key, None))

    def _declare(self, exchange: str) -> None:
        if exchange not in self._channel.state.exchanges:
            self._channel.exchange_declare(exchange, "topic", durable=True, auto_delete=False)

    def _gone(self, error: BaseException) -> BrokerGone:
        self.drop()
        return BrokerGone(told(error), unknown=self._window.drop())


def opened(url: str) -> Any:
    """Return kombu's connection, which is not open yet, with bounds on each step.

    kombu's own ``rediss://`` trusts any certificate, unless the address says otherwise.
    """
    tls = {"ssl_cert_reqs": ssl.CERT_REQUIRED} if url.startswith("rediss") else None
    return Connection(url, ssl=tls, transport_options={} if url.startswith("memory") else dict(OPTIONS))


def errors_of(transport: Any) -> tuple[type[BaseException], ...]:
    """Return all that kombu's transport raises for a server that is gone or refuses."""
    return (*transport.connection_errors, *transport.channel_errors, OSError)


def refuses_queue(answer: BaseException) -> bool:
    """Whether Redis or Valkey refuses one queue and not the others: what goes there is parked, as on AMQP."""
    return type(answer).__name__ == "NoPermissionError" or str(answer).startswith("WRONGTYPE")
