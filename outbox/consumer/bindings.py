"""What a queue is bound to. Speaks through the channel that it is given, and knows no connection."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

REMIND_EVERY: Final = 5.0
"""Seconds; a server that kombu emulates AMQP on is told again."""


class Bindings:
    """Exchange, queue and bindings of one connection.

    Args:
        exchange: Of type topic.
        queue: Its name.
        arguments: For the queue's declaration.
        kinds: The routing keys.
    """

    def __init__(self, exchange: str, queue: str, arguments: dict[str, str], kinds: Sequence[str]) -> None:
        self._exchange, self._queue, self._arguments, self._kinds = exchange, queue, arguments, kinds
        self._declared_at = 0.0

    def declare_exchange(self, channel: Any) -> None:
        """Declare the exchange: what is refused then is told apart from what the queue is refused for."""
        channel.exchange_declare(self._exchange, "topic", durable=True, auto_delete=False)

    def declare_queue(self, channel: Any) -> None:
        """Declare the queue, and bind it to every kind."""
        self._declared_at = time.monotonic()
        channel.queue_declare(self._queue, durable=True, auto_delete=False, arguments=self._arguments)
        for kind in self._kinds:
            channel.queue_bind(self._queue, self._exchange, kind)

    def without(self, queue: str, kind: str) -> str:
        """Return the exchange of a binding that is no more; it is not declared again if it was ours."""
        if queue == self._queue:
            self._kinds = [each for each in self._kinds if each != kind]
        return self._exchange

    def remind(self, channel: Any) -> None:
        """Declare it again, now and then: a Redis that was flushed forgot, and kombu would never ask."""
        if time.monotonic() - self._declared_at >= REMIND_EVERY:
            channel.state.clear()
            self.declare_exchange(channel)
            self.declare_queue(channel)


def unbind(channel: Any, exchange: str, queue: str, kind: str) -> None:
    """Take a binding away, if it is there. The channel must be spare: a broker that refuses closes it."""
    channel.queue_unbind(queue, exchange, kind)
    if not hasattr(channel, "keyprefix_queue"):
        return
    # kombu changes no more than its copy of the table that Redis keeps.
    member = channel.sep.join(channel.typeof(exchange).prepare_bind(queue, exchange, kind, {}))
    for prefix in ("keyprefix_queue", "keyprefix_binding_permanent"):
        if hasattr(channel, prefix):
            channel.client.srem(getattr(channel, prefix) % (exchange,), member)
