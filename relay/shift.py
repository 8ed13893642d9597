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
from relay.clerk import Clerk
from relay.destinations import Admission, Destinations
from relay.ledger import Ledger
from relay.reader import Reader
from relay.term import clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outbox.events import Observer
    from relay.broker import Broker
    from relay.config import Settings
    from relay.routes import Routes
    from relay.row import Row
    from relay.term import Term

REMARK_EVERY: Final = 0.1
IDLE: Final = 1.0
DROWSY: Final = 0.2
NAP: Final = 0.01
"""Seconds of the first sleep while somebody may commit unheard; the next ones double, up to ``DROWSY``."""
PASSING: Final = 0.02
"""Seconds between two reads of a pass over keys of which none may go."""
PROBES: Final = 8
"""Probes a round: each is a few round trips, and a thousand destinations may be down."""


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
        self._settings, self._observe = settings, observe
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
        self._clerk = Clerk(
            ledger=self._ledger, destinations=self._destinations, routes=routes, observe=observe
        )
        self._asleep = self._busy = False
        self._nap = NAP
        self._remark_at = 0.0
        self._losses = broker.losses
        self._probes: list[Row] = []
        self._held: set[str] = set()

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
            self._clerk.judge(outcomes)
        self._heed_silence()
        overtaken = 0
        if outcomes.confirmed or (self._window.unmarked() and clock() >= self._remark_at):
            overtaken = self._mark()
        if outcomes:
            counts = (len(outcomes.confirmed), overtaken, len(outcomes.nacked), len(outcomes.unroutable))
            self._observe(events.BatchPublished(*counts))

    def gather(self) -> list[Row]:
        """Read what may be sent now; park what has nowhere to go; stage the probes that are due."""
        if self._losses != self._broker.losses:
            self._after_loss()
        if not self._broker.able or self._full:
            return []
        try:
            rows = self._admit(self._reader.fetch(self._window))
            self._stage_probes(self._window.room - len(rows))
        except Postponed:
            self._give_back()
            raise
        found = bool(rows or self._probes) or self._reader.found_ahead
        self._busy = self._busy or found or self._reader.catching_up
        return rows

    def send(self, rows: Sequence[Row]) -> None:
        """Fence, flush, and publish; afterwards commits need not ring any more."""
        probes, self._probes = self._probes, []
        if rows or probes:
            self._publish(rows, probes)
        if self._asleep and self._busy:
            self.term.wake_up()
            self._asleep = False

    def pause(self) -> float:
        """Return for how many seconds there is nothing to do, if nobody rings and nothing arrives."""
        if self._busy or self.term.backend.rang:
            self._nap = NAP
            return 0.0
        longest = min(self.term.next_beat, self._broker.next_try)
        if self._window.unmarked():
            longest = min(longest, REMARK_EVERY)
        if not self._broker.able or self._full:
            return min(longest, DROWSY)
        longest = min(longest, self._destinations.next_look)
        if self._reader.passing:
            return min(longest, PASSING)
        if self._window.flying or self._window.unmarked():
            return min(longest, DROWSY, self._reader.sweep_in)
        return min(longest, self._fall_asleep())

    @property
    def idle(self) -> bool:
        """Whether everything that was due is sent, confirmed and marked (``--drain`` ends then)."""
        quiet = not self._busy and not len(self._window) and self._broker.able
        return quiet and self._reader.caught_up and not self._destinations.to_recover()

    @property
    def _full(self) -> bool:
        """Whether there is no room, or too little to be worth a read while most of the window flies."""
        window = self._window
        if window.room <= 0 or window.room_bytes <= 0:
            return True
        return window.room < window.limit / 4 < window.flying

    def _fall_asleep(self) -> float:
        """Have commits ring from now on, and look once more before sleeping: none can slip by unheard."""
        if not self._settings.doorbell:
            return DROWSY if self._reader.caught_up else min(DROWSY, self._reader.sweep_in)
        if self._asleep:
            return IDLE if self._reader.caught_up else min(DROWSY, self._reader.sweep_in)
        self._asleep = self.term.fall_asleep()
        if not self._asleep:
            return self._doze()
        self._reader.look_afresh()
        return 0.0

    def _doze(self) -> float:
        """Sleep longer each time: whoever keeps the bell from us commits without a word, soon or in hours."""
        nap, self._nap = self._nap, min(DROWSY, 2 * self._nap)
        return nap

    def _publish(self, rows: Sequence[Row], probes: Sequence[Row]) -> None:
        try:
            self.term.fence()
            sent = self._broker.send(rows, self.term, self._possible_duplicate)
            for row in probes:
                duplicate = self._possible_duplicate(row)
                sent = sent and self._broker.probe(row, self.term, duplicate=duplicate)
        except Postponed:
            self._give_back()
            raise
        if not sent:
            self._give_back()

    def _give_back(self) -> None:
        """Find again by its state what was read and not sent: the front is past it, and probes await it."""
        self._probes = []
        self._reader.start_over()
        self._destinations.lost()

    def _heed_silence(self) -> None:
        """Read again what was left alone in a silence that is over; have one that lasts written down."""
        held = {*self._window.silent, *self._destinations.resting}
        if self._held - held:
            self._reader.start_over()
        self._held = held
        self._clerk.unheard(self._window.unheard)

    def _after_loss(self) -> None:
        """What was in flight is unknown; remember of it only what is still to be sent."""
        self._give_back()
        for destination in self._window.mute:
            self._destinations.mute(destination)
        self._window.suspects &= self._ledger.still_pending(self._window.suspects)
        self._losses = self._broker.losses

    def _admit(self, rows: Sequence[Row]) -> list[Row]:
        admitted: list[Row] = []
        parked: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            if not self._clerk.fits(row):
                continue
            may_try = len(self._probes) < PROBES
            verdict = self._destinations.admit(row, self._window.silent, may_try=may_try)
            if verdict is Admission.SEND:
                admitted.append(row)
            elif verdict is Admission.TRY:
                self._probes.append(row)
            elif verdict is Admission.PARK:
                parked[row.destination].append(row)
            else:
                self._window.search.discard(row.ident)  # the others need not wait for its rest
        for destination, theirs in parked.items():
            if self._clerk.park(theirs, self._destinations.down[destination].reason):
                self._busy = True
        return admitted

    def _stage_probes(self, room: int) -> None:
        """Stage one parked job a destination; sent as a parked one, a fast consumer would find it illegal.

        After the read, which would find a staged one, and park it.
        """
        busy = self._window.keys() if self._settings.order != "pipelined" else []
        for destination in self._destinations.to_probe()[: min(PROBES, room)]:
            row = self._ledger.stage_probe(destination, busy)
            self._destinations.probing(destination, sent=row is not None)
            if row is not None:
                self._probes.append(row)

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
        """Whether the same message may be out already: nobody knows what a dead leader sent.

        An event has no version on the wire, so one that was parked and came back looks like the one before.
        """
        if row.sends > 1 or row.pos <= self.term.tip or row.ident in self._window.suspects:
            return True
        return row.version > 1 and not row.tracked
