"""What a virtual transport writes at once: a chunk of jobs, and the bindings that it was sent by.

A message by itself costs three round trips: for the bindings, by us and again by kombu, and to push it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relay.cork import ENOUGH
from relay.publisher import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from relay.row import Row


class Bindings:
    """Has a channel look up the bindings of an exchange once a chunk: kombu asks the server at each message.

    Args:
        channel: kombu's.
    """

    def __init__(self, channel: Any) -> None:
        self._look_up = channel.get_table
        self._known: dict[str, Any] = {}
        channel.get_table = self._of

    def look_afresh(self) -> None:
        """Forget them: who is bound now is asked again."""
        self._known.clear()

    def _of(self, exchange: str) -> Any:
        if exchange not in self._known:
            self._known[exchange] = self._look_up(exchange)
        return self._known[exchange]


class OneByOne:
    """Publishes at once, for a transport that has no batches.

    Args:
        channel: kombu's.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def publish(self, prepared: Any, exchange: str, routing_key: str) -> None:
        """Send a message."""
        self._channel.basic_publish(prepared, exchange, routing_key)

    def flush(self) -> None:
        """Do nothing: all is sent."""

    def close(self) -> None:
        """Do nothing: nothing is held."""


def chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Part jobs into what is written at once: so many messages, or so many bytes and the one beyond them."""
    start = size = 0
    for end, row in enumerate(rows, 1):
        size += len(row.payload)
        if end - start == CHUNK or size >= ENOUGH:
            yield rows[start:end]
            start, size = end, 0
    if start < len(rows):
        yield rows[start:]
