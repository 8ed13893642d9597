"""A consumer with no library of ours: takes every message that there is, and remembers it with its time."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit
from uuid import UUID

import amqp
from helpers import eventually

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

EXCHANGE = "outbox"
_BATCH = 200
_PREFETCH = 2000
_QUIET = 0.05


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it came; ``at`` in seconds of ``time.monotonic``."""

    id: UUID
    version: int | None
    term: int
    key: str | None
    flagged: bool
    """Whether the relay said that it may have sent the same before."""
    redelivered: bool
    """Whether the broker says that it may have delivered it before: no second message, the same once more."""
    at: float


class Collector:
    """Takes what reaches the exchange, in a thread of its own, and connects again after every loss.

    It acks by hand: what a dying broker had sent and we had not read comes again.

    Args:
        url: ``amqp://…``.
        queue: its queue, which it declares and binds.
        kinds: to which it binds it.
        prefetch: how many messages may be here without an ack.
        arguments: of the queue, quorum by default.
    """

    def __init__(
        self,
        url: str,
        queue: str = "collected",
        *,
        kinds: Sequence[str] = ("#",),
        prefetch: int = _PREFETCH,
        arguments: dict[str, object] | None = None,
    ) -> None:
        self._url, self.queue, self._kinds, self._prefetch = urlsplit(url), queue, kinds, prefetch
        self._arguments = arguments or {"x-queue-type": "quorum"}
        self.deliveries: list[Delivery] = []
        """In the order of arrival. Only ever grows."""
        self.seen: set[UUID] = set()
        self._tag = self._acked = 0
        self._bound, self._stopping = threading.Event(), threading.Event()
        self._reading, self._standing = threading.Event(), threading.Event()
        self._reading.set()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._bound.wait(20), "the collector could not bind its queue"
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._reading.set()
        self._thread.join(10)

    def pause(self) -> None:
        """Take nothing, until :meth:`resume`: the queue fills behind what is prefetched."""
        self._reading.clear()
        assert self._standing.wait(10), "the collector does not stand still"

    def resume(self) -> None:
        """Undo :meth:`pause`."""
        self._standing.clear()
        self._reading.set()

    def wait_for(self, ids: Iterable[UUID], timeout: float = 30.0) -> None:
        """Wait until each of ``ids`` has arrived.

        Raises:
            AssertionError: some did not; with how many.
        """
        wanted = set(ids)

        def all_there() -> bool:
            missing = len(wanted - self.seen)
            assert not missing, f"{missing} of {len(wanted)} jobs have not arrived"
            return True

        eventually(all_there, timeout, every=0.05)

    def wait_count(self, count: int, timeout: float = 30.0) -> None:
        """Wait until ``count`` messages have arrived in all."""
        eventually(lambda: len(self.deliveries) >= count, timeout)

    def first_of(self, term: int, timeout: float = 30.0) -> Delivery:
        """Return the first message of ``term`` or a later one; wait for it if need be."""
        return eventually(lambda: next((d for d in self.deliveries if d.term >= term), None), timeout)

    def first_after(self, moment: float, timeout: float = 60.0) -> Delivery:
        """Return the first message after ``moment`` that the broker does not merely repeat; wait for it."""

        def fresh() -> Delivery | None:
            new = takewhile(lambda delivery: delivery.at > moment, reversed(self.deliveries))
            return next((d for d in reversed(list(new)) if not d.redelivered), None)

        return eventually(fresh, timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            connection = self._connection()
            try:
                connection.connect()
                self._consume(connection)
            except (OSError, amqp.AMQPError):
                self._stopping.wait(0.1)
            finally:
                connection.collect()  # no handshake: it may be the broker that is frozen

    def _connection(self) -> Any:
        return amqp.Connection(
            host=f"{self._url.hostname}:{self._url.port}",
            userid=self._url.username,
            password=self._url.password,
            virtual_host=self._url.path[1:] or "/",
            connect_timeout=2,
            read_timeout=5,
            write_timeout=5,
        )

    def _consume(self, connection: Any) -> None:
        channel = connection.channel()
        channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
        channel.queue_declare(self.queue, durable=True, auto_delete=False, arguments=self._arguments)
        for kind in self._kinds:
            channel.queue_bind(self.queue, EXCHANGE, kind)
        channel.basic_qos(0, self._prefetch, a_global=False)
        self._tag = self._acked = 0
        channel.basic_consume(self.queue, callback=self._take)
        self._bound.set()
        batch = min(_BATCH, self._prefetch // 2)
        while not self._stopping.is_set():
            if not self._reading.is_set():
                self._standing.set()
                self._reading.wait()
            try:
                connection.drain_events(timeout=_QUIET)
                quiet = False
            except TimeoutError:
                quiet = True
            if self._tag - self._acked >= batch or (quiet and self._tag > self._acked):
                channel.basic_ack(self._tag, multiple=True)
                self._acked = self._tag

    def _take(self, message: Any) -> None:
        properties = message.properties
        headers = properties.get("application_headers", {})
        delivery = Delivery(
            id=UUID(properties["message_id"]),
            version=headers.get("x-outbox-version"),
            term=headers["x-outbox-term"],
            key=headers.get("x-outbox-key"),
            flagged=headers.get("x-outbox-possible-duplicate", False),
            redelivered=message.delivery_info["redelivered"],
            at=time.monotonic(),
        )
        self.deliveries.append(delivery)
        self.seen.add(delivery.id)
        self._tag = message.delivery_tag
