"""Writes down what becomes of jobs that are not published: parked, buried, left alone; and tells of it.

What it cannot write just now stays pending, and is found again by its state.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from outbox import events
from relay.backend import Postponed
from relay.row import readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from outbox.events import Observer
    from relay.destinations import Destinations
    from relay.ledger import Ledger
    from relay.routes import Routes
    from relay.row import Row
    from relay.window import Outcomes

UNHEARD: Final = "its messages are not confirmed, while others are: is it a queue without a leader?"


class Clerk:
    """Keeps the books of one term.

    Args:
        ledger: where jobs are parked and buried.
        destinations: learns how messages fared.
        routes: how large a job may be.
        observe: gets the events.
    """

    def __init__(
        self, *, ledger: Ledger, destinations: Destinations, routes: Routes, observe: Observer
    ) -> None:
        self._ledger, self._destinations = ledger, destinations
        self._routes, self._observe = routes, observe

    def judge(self, outcomes: Outcomes) -> None:
        """Draw the consequences of what the broker said, for jobs and for destinations."""
        for row in outcomes.nacked:
            rest = self._destinations.nacked(row.destination)
            if rest is not None:
                self._observe(events.DestinationResting(readable(row.destination), rest))
        returned: dict[str, list[Row]] = defaultdict(list)
        reasons: dict[str, str] = {}
        for row, reason in outcomes.unroutable:
            returned[row.destination].append(row)
            reasons[row.destination] = reason
        for destination, rows in returned.items():
            self._turned_away(destination, rows, reasons[destination])
        for row, reason in outcomes.refused:
            self._destinations.refused(row.destination)
            self.bury(row, reason)
        for row in outcomes.confirmed:
            if self._destinations.confirmed(row.destination):
                self._observe(events.DestinationUp(readable(row.destination)))

    def unheard(self, destinations: Iterable[str]) -> None:
        """Take destinations of which the broker says nothing for long for down."""
        for destination in destinations:
            down = self._destinations.unheard(destination, UNHEARD)
            if down is not None:
                self._observe(events.DestinationDown(readable(destination), UNHEARD, down.wait))

    def fits(self, row: Row) -> bool:
        """Whether a job is no larger than its route takes; one that is gets buried."""
        most = self._routes.way(row).max_bytes
        if most is None or len(row.payload) <= most:
            return True
        self.bury(row, f"{len(row.payload)} bytes of payload, and its route takes {most}")
        return False

    def park(self, rows: Sequence[Row], reason: str) -> int:
        """Set jobs aside, with the reason; return how many."""
        try:
            count = self._ledger.park(rows, reason)
        except Postponed:
            return 0  # they are pending still, and found again
        if count:
            self._observe(events.JobsParked(count))
        return count

    def bury(self, row: Row, reason: str) -> None:
        """Give up a job that the broker refuses for what it is."""
        try:
            buried = self._ledger.bury([row], reason)
        except Postponed:
            return
        if buried:
            self._observe(events.JobRefused(str(row.id), row.kind, reason))

    def _turned_away(self, destination: str, rows: Sequence[Row], reason: str) -> None:
        down = self._destinations.unroutable(destination, reason)
        if down is not None:
            self._observe(events.DestinationDown(readable(destination), reason, down.wait))
        self.park(rows, reason)
