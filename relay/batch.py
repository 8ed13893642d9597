"""What a virtual transport writes at once: a chunk of jobs, and the bindings that it was sent by.

A message by itself costs three round trips: for the bindings, by us and again by kombu, and to push it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from relay.cork import ENOUGH
from relay.publisher import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from relay.row import Row


UNBOUNDED: Final = 2**31
"""Commands: a batch is written when we say so, after a last look at the term."""


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


class Batch:
    """Publishes many at once: kombu's own batch, with the answer to each message by itself.

    kombu's ``flush`` raises the first refusal, with the command and so the payload in it, and forgets what
    the others were answered: sent again, they would be duplicates at every try.

    Args:
        channel: kombu's.
    """

    def __init__(self, channel: Any) -> None:
        self._batch = channel.create_publish_batch(UNBOUNDED)
        self._ends: list[int] = []

    def publish(self, prepared: Any, exchange: str, routing_key: str) -> None:
        """Add a message, which is a command for each queue that is bound."""
        self._batch.publish(prepared, exchange=exchange, routing_key=routing_key)
        self._ends.append(len(self._batch.pipeline))

    def flush(self) -> list[BaseException | None]:
        """Send them; return the refusal of each, or None. Raises what the transport does for a lost line."""
        answers = self._batch.pipeline.execute(raise_on_error=False) if self._ends else []
        starts = [0, *self._ends]
        return [_refusal(answers[start:end]) for start, end in pairwise(starts)]

    def close(self) -> None:
        """Give its connection back."""
        self._batch.close()


class OneByOne:
    """Publishes at once, for a transport that has no batches. As ``Batch``.

    Args:
        channel: kombu's.
    """

    def __init__(self, channel: Any) -> None:
        self._channel, self._count = channel, 0

    def publish(self, prepared: Any, exchange: str, routing_key: str) -> None:
        """Send a message."""
        self._channel.basic_publish(prepared, exchange, routing_key)
        self._count += 1

    def flush(self) -> list[BaseException | None]:
        """Return that none was refused: all is sent."""
        return [None] * self._count

    def close(self) -> None:
        """Do nothing: nothing is held."""


def _refusal(answers: Iterable[Any]) -> BaseException | None:
    return next((answer for answer in answers if isinstance(answer, BaseException)), None)


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
