"""A publisher with its window, and what became of what it sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers import eventually
from relays import nothing

from relay.publisher import AmqpPublisher
from relay.routes import Routes
from relay.window import Outcomes, Window

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from relay.row import Row
    from relay.term import Term


class Sender:
    """A publisher with its window."""

    def __init__(self, url: str, term: Term, exchange: str = "outbox") -> None:
        self.window, self.term = Window(1000, 8_000_000), term
        self.publisher = AmqpPublisher(url, Routes(exchange, ()), self.window)
        self.publisher.connect(nothing)

    def send(self, rows: Sequence[Row]) -> bool:
        return self.publisher.send(rows, self.term, lambda _: False)

    def settled(self, count: int) -> Outcomes:
        """Wait until nothing flies any more; return what became of ``count`` messages."""
        every = Outcomes([], [], [], [])

        def look() -> bool:
            self.publisher.settle()
            for known, new in zip(every, self.window.take(), strict=True):
                known.extend(new)  # type: ignore[arg-type]
            return sum(map(len, every)) >= count

        eventually(look)
        assert self.window.flying == 0
        return every

    def ended(self, rows: Sequence[Row]) -> None:
        """Send, and read until the connection is gone, which is raised."""
        self.send(rows)
        eventually(self.publisher.settle)


def ids(rows: Sequence[Row]) -> set[uuid.UUID]:
    return {each.id for each in rows}
