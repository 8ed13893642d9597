"""One connection to the broker, from its opening to its loss; the one module of ``outbox`` with kombu.

A connection is used by one thread, and never again after an error: py-amqp would reopen a channel that the
broker closed, its delivery tags would begin again at 1, and an ack would forget a message that nobody has
seen.
"""

from __future__ import annotations

import select
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from kombu.connection import Connection

from outbox.consumer.bindings import Bindings, unbind
from outbox.consumer.reading import understood
from outbox.consumer.refusals import (
    CONNECT_TIMEOUT,
    LEADERLESS,
    left_bound,
    masked,
    of_exchange,
    of_queue,
    options,
    refuses_login,
    tls,
    words,
)
from outbox.errors import Unreachable, WrongEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from outbox.consumer.refusals import Refusal
    from outbox.consumer.wake import Wake
    from outbox.runner.delivery import Delivery

EXCHANGE: Final = "outbox"
"""Durable, of type topic: where the relay publishes, with the kind as the routing key."""

HEARTBEAT: Final = 10.0
"""Seconds; a broker that is silent for two of them is gone."""

ANSWER: Final = 10.0
GOODBYE: Final = 2.0

_SLICE_BUSY: Final = 0.01
_SLICE_IDLE: Final = 0.1
_PARTIAL: Final = 0.05
"""Seconds that the rest of a message may take before we look at something else."""

_AT_ONCE: Final = 100
"""Messages read before finished work is looked at."""


class Gone(Exception):
    """The connection is of no use any more; ``str()`` says why, in one line."""


class Subscription:
    """A connection, its channel and its consumer tag.

    Args:
        url: The broker's.
        queue: To consume.
        generation: Number of this connection, counted by its owner.
        on_delivery: Gets each message.
    """

    def __init__(
        self, url: str, queue: str, generation: int, on_delivery: Callable[[Delivery], None]
    ) -> None:
        self.generation = generation
        self._url = url
        self._queue = queue
        self._on_delivery = on_delivery
        self._amqp = url.split("://", 1)[0] in ("amqp", "amqps", "pyamqp")
        self._client = Connection(
            url,
            connect_timeout=CONNECT_TIMEOUT,
            heartbeat=HEARTBEAT if self._amqp else 0,
            ssl=tls(url),
            transport_options=options(url),
        )
        self._transport: Any = None
        self._connection: Any = None
        self._channel: Any = None
        self._tag = ""
        self._bindings: Bindings | None = None

    @property
    def broker(self) -> str:
        """The address without its password, for logs."""
        return masked(self._url)

    def connect(self) -> None:
        """Open the connection: one try, no hidden ones.

        Raises:
            Unreachable: The broker refuses the login or the virtual host.
            Gone: It cannot be reached.
        """
        with self._talking():
            self._transport = self._client.transport
            self._connection = self._transport.establish_connection()
            self._channel = self._transport.create_channel(self._connection)
        if self._amqp:
            self._channel.auto_decode = False  # else a body comes as text, or as bytes if it cannot be text

    def declare(self, kinds: Sequence[str], queue_type: str, exchange: str = EXCHANGE) -> None:
        """Declare the exchange and the queue, and bind it to every kind.

        Raises:
            WrongEnvironment: Something of that name exists and is different, or we have no right.
            Gone: The connection was lost.
        """
        arguments = {"x-queue-type": queue_type} if self._amqp else {}
        self._bindings = Bindings(exchange, self._queue, arguments, kinds)
        with self._talking(ANSWER, of_exchange(exchange)):
            self._bindings.declare_exchange(self._channel)
        with self._talking(ANSWER, of_queue(self._queue, queue_type)):
            self._bindings.declare_queue(self._channel)

    def release(self, queue: str, kind: str) -> str | None:
        """Take the binding of a queue to a kind away; return what is left to do by hand.

        Raises:
            Gone: The connection was lost.
        """
        if self._bindings is None:
            return left_bound(kind, None)  # the topology belongs to others
        with self._talking(ANSWER):
            channel = self._transport.create_channel(self._connection) if self._amqp else self._channel
            try:
                unbind(channel, self._bindings.without(queue, kind), queue, kind)
            except self._transport.channel_errors as error:
                return left_bound(kind, error)
            if self._amqp:
                channel.close()
        return None

    def consume(self, prefetch: int) -> None:
        """Let messages come.

        Args:
            prefetch: How many may be here without an ack.

        Raises:
            WrongEnvironment: There is no such queue, or we have no right.
            Gone: The connection was lost.
        """
        self._tag = f"{self._queue}.{self.generation}"
        with self._talking(ANSWER, of_queue(self._queue, "")):
            self._channel.basic_qos(0, prefetch, False)
            self._channel.basic_consume(
                self._queue, no_ack=False, callback=self._take, consumer_tag=self._tag
            )

    def ack(self, received: Delivery) -> None:
        """Let the broker forget a message, if it came on this connection and is not acked yet.

        Raises:
            Gone: The connection was lost.
        """
        if not received.acked and received.generation == self.generation:
            received.acked = True
            with self._talking():
                self._channel.basic_ack(received.tag)

    def beat(self) -> None:
        """Send a heartbeat if one is due, and see whether the broker's are; to be called about once a second.

        Raises:
            Gone: The broker is silent.
        """
        with self._talking():
            self._transport.heartbeat_check(self._connection)
            if self._bindings and not self._amqp:
                self._bindings.remind(self._channel)

    def wait(self, wake: Wake, seconds: float, *, busy: bool) -> None:
        """Wait for messages, for somebody to wake us, or for the time to be over; take what came.

        Args:
            wake: Ends the wait.
            seconds: At most so long.
            busy: Whether somebody may wake us soon: brokers without a socket to wait for are polled faster.

        Raises:
            Gone: The connection was lost.
        """
        with self._talking():
            if self._amqp:
                self._wait_for_socket(wake, seconds)
            else:
                wake.wait(0.0)
                # Never less than nothing: kombu hands that to poll(), which takes it for "for ever".
                self._poll(max(0.0, min(seconds, _SLICE_BUSY if busy else _SLICE_IDLE)))

    def cancel(self) -> None:
        """Let no more messages come.

        Raises:
            Gone: The connection was lost.
        """
        with self._talking(GOODBYE):
            self._channel.basic_cancel(self._tag)

    def close(self) -> None:
        """Say goodbye; what is not acked goes to other consumers at once. For a connection that is well."""
        with suppress(Gone), self._talking(GOODBYE):
            self._transport.close_connection(self._connection)
        self.drop()

    def drop(self) -> None:
        """Let go without a word: a broker that is lost would not answer."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is None:
            return
        with suppress(*self._errors()):
            if self._amqp:
                connection.collect()
            else:
                self._transport.close_connection(connection)

    @contextmanager
    def _talking(self, within: float | None = None, asked: Refusal | None = None) -> Iterator[None]:
        """Let none of the libraries' errors out, but ours; and let nothing take for ever.

        Args:
            within: Seconds for all of it. A broker may be well and never answer: RabbitMQ, where a queue has
                lost its leader. It sends heartbeats, and each of them begins the time-out of a read anew.
            asked: What was asked for, where the answer may be no.
        """
        late = threading.Event()
        timer = threading.Timer(within, self._break_off, [late]) if within else None
        try:
            if timer:
                timer.start()
            yield
        except self._errors() as error:
            opening = self._channel is None
            self.drop()
            if late.is_set():
                hint = LEADERLESS.format(queue=self._queue) if asked is not None else ""
                raise Gone(f"no answer within {within:.0f} s{hint}") from None
            raise self._understood(error, asked, opening=opening) from None
        finally:
            if timer:
                timer.cancel()

    def _break_off(self, late: threading.Event) -> None:
        late.set()
        if self._amqp:
            with suppress(OSError, AttributeError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)

    def _understood(self, error: BaseException, asked: Refusal | None, *, opening: bool) -> Exception:
        """Return our error for one of the libraries': what ends the consumer, or what it gets over."""
        if opening and refuses_login(error):
            return Unreachable(f"the broker {self.broker} refuses us: {words(error)}")
        refusal = asked(error) if asked else None
        return WrongEnvironment(refusal) if refusal else Gone(words(error))

    def _wait_for_socket(self, wake: Wake, seconds: float) -> None:
        sock = self._connection.sock
        if self._pending(sock) or wake.wait(seconds, sock):
            for _ in range(_AT_ONCE):
                self._drain(_PARTIAL)
                if not self._pending(sock) and not select.select([sock], [], [], 0)[0]:
                    return

    def _pending(self, sock: Any) -> bool:
        """Whether TLS has decrypted something that the socket does not show any more."""
        return hasattr(sock, "pending") and sock.pending() > 0

    def _poll(self, seconds: float) -> None:
        for _ in range(_AT_ONCE):
            if not self._drain(seconds):
                return
            seconds = 0.0

    def _drain(self, seconds: float) -> bool:
        try:
            self._transport.drain_events(self._connection, timeout=seconds)
        except TimeoutError:
            return False
        return True

    def _take(self, message: Any) -> None:
        self._on_delivery(understood(message, amqp=self._amqp, queue=self._queue, generation=self.generation))

    def _errors(self) -> tuple[type[BaseException], ...]:
        # AttributeError: py-amqp raises it on a connection that was lost meanwhile.
        transport = self._client.transport
        return (*transport.connection_errors, *transport.channel_errors, OSError, AttributeError)
