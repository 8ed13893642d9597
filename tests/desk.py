"""A reader with its window, without a broker: what is read is sent and marked when a test says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relays import settings

from relay.ledger import Ledger
from relay.reader import Reader
from relay.window import Window

if TYPE_CHECKING:
    import uuid

    from databases import Database

    from relay.row import Row
    from relay.term import Term


class Desk:
    """A reader with a window; what is read is sent and marked, as a test says."""

    def __init__(
        self, database: Database, term: Term, rows: int = 1000, size: int = 10**9, **changes: Any
    ) -> None:
        self.term, self.ledger, self.window = term, Ledger(term), Window(rows, size)
        self.reader = Reader(self.ledger, term, settings(database, **changes))
        self._tag = 0

    def fetch(self) -> list[uuid.UUID]:
        """Read, and do nothing with it."""
        return [each.id for each in self.reader.fetch(self.window)]

    def fly(self, rows: list[Row]) -> None:
        """Send rows."""
        for each in rows:
            self._tag += 1
            self.window.fly(self._tag, each)

    def publish(self) -> list[uuid.UUID]:
        """Read, send, confirm and mark."""
        rows = self.reader.fetch(self.window)
        self.fly(rows)
        self.confirm()
        return [each.id for each in rows]

    def confirm(self) -> None:
        """Confirm and mark all that flies."""
        self.window.acked(self._tag, multiple=True)
        unmarked = self.window.unmarked()
        marked, _ = self.ledger.mark(unmarked)
        assert marked == {each.id for each in unmarked}
        self.window.forget(unmarked)

    def beat(self) -> None:
        """Renew the heartbeat now."""
        self.term._beaten = 0.0
        self.term.beat()
