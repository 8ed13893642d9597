"""One term's work: what to send, what the broker said of it, how long to sleep.

Its memory ends with the term. ``loop.py`` calls the verbs in order; the rules of each are in the modules that
this one brings together.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from outbox import events
from relay.backend import Postponed
from relay.chores import Chores
from relay.destinations import Admission, Destinations
from relay.ledger import Ledger
from relay.reader import Reader
from relay.row import readable
from relay.term import clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outbox.events import Observer
    from relay.broker import Broker
    from relay.config import Settings
    from relay.routes import Routes
    from relay.row import Row
    from relay.term import Term
    from relay.window import Outcomes

REMARK_EVERY: Final = 0.1
IDLE: Final = 1.0
DROWSY: Final = 0.2


class Shift:
    """Gathers, sends and records for one term.

    Args:
        term: the reign.
        broker: the line to the broker, with the window.
        routes: where each job goes.
        settings: as the user set them.
        observe: gets the events.
    """

    def __init__(
        self, *, term: Term, broker: Broker, routes: Routes, settings: Settings, observe: Observer
    ) -> None:
        self.term, self._broker, self._window = term, broker, broker.window
        self._routes, self._settings, self._observe = routes, settings, observe
        self._ledger = Ledger(term)
        self._reader = Reader(self._ledger, term, settings)
        self._destinations = Destinations(self._ledger.parked())
        self._chores = Chores(
            term=term,
            ledger=self._ledger,
            broker=broker,
            destinations=self._destinations,
            settings=settings,
            observe=observe,
        )
        self._asleep = self._thorough = self._busy = False
        self._remark_at = 0.0

    def listen(self) -> None:
        """Hear the doorbell: a commit's, or a consumer's that has bound a queue."""
        for channel, payload in self.term.backend.listen():
            if channel == "outbox" and payload == "bound":
                self._destinations.rung()

    def do_chores(self) -> None:
        """Stage, rescue, redeliver, prune, unpark: what is due."""
        self._busy = self._chores.run()

    def record(self) -> None:
        """Write down what the broker said: mark, park, bury; leave alone what it could not take."""
        outcomes = self._window.take()
        if outcomes:
            self._judge(outcomes)
        overtaken = 0
        if outcomes.confirmed or (self._window.unmarked() and clock() >= self._remark_at):
            overtaken = self._mark()
        if outcomes:
            counts = (len(outcomes.confirmed), overtaken, len(outcomes.nacked), len(outcomes.unroutable))
            self._observe(events.BatchPublished(*counts))

    def gather(self) -> list[Row]:
        """Read what may be sent now; park what has nowhere to go."""
        if not self._broker.live:
            self._destinations.lost()
        if not self._broker.able or self._window.room < self._window.limit / 4 < self._window.flying:
            return []
        probes = [row for d in self._destinations.to_probe() for row in self._probe(d)]
        rows = self._reader.fetch(self._window, thorough=self._thorough)
        self._busy = self._busy or bool(rows)
        return probes + self._admit(rows)

    def send(self, rows: Sequence[Row]) -> None:
        """Fence, flush, and publish; afterwards commits need not ring any more."""
        if rows:
            self.term.fence()
            self._broker.send(rows, self.term, self._possible_duplicate)
            if self._broker.publisher is None:
                self._reader.start_over()
        if self._asleep and self._busy:
            self.term.wake_up()
            self._asleep = False
        self._thorough = False

    def pause(self) -> float:
        """Return for how many seconds there is nothing to do, if nobody rings and nothing arrives."""
        if self._busy or self.term.backend.rang:
            return 0.0
        longest = min(self.term.next_beat, self._destinations.next_look, self._broker.next_try)
        if self._window.unmarked():
            return min(longest, REMARK_EVERY)
        if self._window.flying or not self._reader.wrapped:
            return min(longest, DROWSY, self._reader.sweep_in)
        if not self._broker.live:
            return min(longest, DROWSY)
        return min(longest, self._fall_asleep())

    @property
    def idle(self) -> bool:
        """Whether everything that was due is sent, confirmed and marked (``--drain`` ends then)."""
        return not self._busy and not len(self._window) and self._reader.wrapped and self._broker.able

    def _fall_asleep(self) -> float:
        """Have commits ring from now on, and look once more before sleeping: none can slip by unheard."""
        if not self._settings.doorbell:
            return DROWSY
        if self._asleep:
            return IDLE
        self._asleep = self._thorough = self.term.fall_asleep()
        return 0.0 if self._asleep else DROWSY

    def _admit(self, rows: Sequence[Row]) -> list[Row]:
        admitted: list[Row] = []
        parked: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            verdict = self._destinations.admit(row)
            if verdict is Admission.PARK:
                parked[row.destination].append(row)
            elif verdict is Admission.SEND and self._fits(row):
                admitted.append(row)
        for destination, theirs in parked.items():
            self._park(theirs, self._destinations.down[destination].reason)
        return admitted

    def _fits(self, row: Row) -> bool:
        most = self._routes.way(row).max_bytes
        if most is None or len(row.payload) <= most:
            return True
        self._bury(row, f"{len(row.payload)} bytes of payload, and its route takes {most}")
        return False

    def _probe(self, destination: str) -> list[Row]:
        """Stage one parked job, then send it: a fast consumer would find a parked one illegal."""
        rows = self._ledger.unpark(destination, 1)
        if not rows:
            self._destinations.recovered(destination)
        return rows

    def _judge(self, outcomes: Outcomes) -> None:
        for row in outcomes.nacked:
            self._destinations.nacked(row.destination)
        returned: dict[str, list[Row]] = defaultdict(list)
        reasons: dict[str, str] = {}
        for row, reason in outcomes.unroutable:
            returned[row.destination].append(row)
            reasons[row.destination] = reason
        for destination, rows in returned.items():
            self._turned_away(destination, rows, reasons[destination])
        for row, reason in outcomes.refused:
            self._bury(row, reason)
        for destination in {row.destination for row in outcomes.confirmed}:
            if self._destinations.confirmed(destination):
                self._observe(events.DestinationUp(readable(destination)))

    def _turned_away(self, destination: str, rows: Sequence[Row], reason: str) -> None:
        down = self._destinations.unroutable(destination, reason)
        if down is not None:
            self._observe(events.DestinationDown(readable(destination), reason, down.wait))
        self._park(rows, reason)

    def _park(self, rows: Sequence[Row], reason: str) -> None:
        try:
            count = self._ledger.park(rows, reason)
        except Postponed:
            return  # they are pending still, and found again
        if count:
            self._observe(events.JobsParked(count))

    def _bury(self, row: Row, reason: str) -> None:
        try:
            buried = self._ledger.bury([row], reason)
        except Postponed:
            return
        if buried:
            self._observe(events.JobRefused(str(row.id), row.kind, reason))

    def _mark(self) -> int:
        """Mark what is confirmed; forget what has moved on; keep what is locked for another try."""
        rows = self._window.unmarked()
        self._remark_at = clock() + REMARK_EVERY
        try:
            marked, locked = self._ledger.mark(rows)
        except Postponed:
            return 0  # never republished for it: it stays in memory
        done = [row for row in rows if row.id not in locked]
        self._window.forget(done)
        return len(done) - len(marked)

    def _possible_duplicate(self, row: Row) -> bool:
        """Whether another message of this version may exist: nobody knows what a dead leader sent."""
        return row.sends > 1 or row.pos <= self.term.tip or row.ident in self._window.suspects
