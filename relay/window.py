"""What is on its way: sent and not confirmed, confirmed and not marked; both bounded, in rows and bytes.

Confirms are matched to messages by delivery tag here and nowhere else: kombu's own ``confirm_publish`` takes
any ack for the message it waits for, so a late ack of one confirms the next. Memory is keyed by (id,
version). No I/O.

What flies to a destination of which the broker says nothing is *set aside*: it is in flight as before, and
takes no room from the others, for as much as one window more.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from relay.silence import Silence
from relay.term import clock

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection, Iterable

    from relay.row import Row

Ident = tuple["uuid.UUID", int]
"""One version of one job."""

FIRST_TIMEOUT: Final = 10.0
LONGEST_TIMEOUT: Final = 600.0
GIVE_BACK: Final = 0.1


class Flight(NamedTuple):
    """A message on its way to the broker, and when it left (seconds of ``clock``)."""

    row: Row
    sent_at: float


class Outcomes(NamedTuple):
    """What the broker said since the last look."""

    confirmed: list[Row]
    nacked: list[Row]
    unroutable: list[tuple[Row, str]]
    refused: list[tuple[Row, str]]

    def __bool__(self) -> bool:
        """Whether it said anything."""
        return any(self)


class Window:
    """Jobs in flight, and how many more there may be.

    Args:
        rows: the most jobs at once.
        size: the most bytes of payload at once; a single larger job still goes, alone.
    """

    def __init__(self, rows: int, size: int) -> None:
        self._most, self._most_bytes = rows, size
        self.limit = float(rows)
        self.timeout = FIRST_TIMEOUT
        self._flying: OrderedDict[int, Flight] = OrderedDict()
        self._silence = Silence()
        self._aside: set[int] = set()
        self._unmarked: dict[Ident, Row] = {}
        self._returned: dict[str, str] = {}
        self._bytes = 0
        self._clean = 0
        self.settled = 0
        """Messages that the broker has spoken of."""
        self._outcomes = Outcomes([], [], [], [])
        self.suspects: set[Ident] = set()
        self.search: set[Ident] = set()
        self.mute: set[str] = set()
        """The destinations that were silent when the connection ended."""

    def __len__(self) -> int:
        """Return how many jobs are in flight or unmarked."""
        return len(self._flying) + len(self._unmarked)

    @property
    def flying(self) -> int:
        """How many messages wait for the broker's word, beside those that are set aside."""
        return len(self._flying) - len(self._aside)

    @property
    def silent(self) -> Collection[str]:
        """The destinations of which the broker says nothing: no more is sent there for now."""
        return self._silence.silent

    @property
    def stuck(self) -> bool:
        """Whether so much waits for one of them that the broker reads no more of what we send."""
        return self._silence.stuck

    @property
    def unheard(self) -> list[str]:
        """Those of which it says nothing for long, while it answers others."""
        return self._silence.lasting

    @property
    def room(self) -> int:
        """How many more jobs may be sent now; one at a time while a poisonous one is looked for.

        Unmarked jobs count against the whole alone: a handler may hold a row for minutes, and what is left of
        a strained window must not wait for it.
        """
        most = 1 if self.search else int(self.limit)
        return max(0, min(most, self._most - len(self._unmarked)) - self.flying)

    @property
    def room_bytes(self) -> int:
        """How many more bytes of payload may be sent now."""
        return max(0, self._most_bytes - self._bytes)

    @property
    def oldest(self) -> float | None:
        """When the longest-waiting message was sent, of those that are not set aside."""
        return next((flight.sent_at for tag, flight in self._flying.items() if tag not in self._aside), None)

    @property
    def only(self) -> int | None:
        """The tag of the only message in flight on the shared channel; None if there is not exactly one."""
        tags = [tag for tag in self._flying if tag > 0]
        return tags[0] if len(tags) == 1 else None

    def flights(self) -> list[tuple[int, Row]]:
        """Return tag and job of every message in flight."""
        return [(tag, flight.row) for tag, flight in self._flying.items()]

    def ids(self) -> list[uuid.UUID]:
        """Return the ids that a fetch leaves out."""
        return [flight.row.id for flight in self._flying.values()] + [
            row.id for row in self._unmarked.values()
        ]

    def keys(self) -> list[str]:
        """Return the keys that have a job in flight or unmarked."""
        rows = [flight.row for flight in self._flying.values()] + list(self._unmarked.values())
        return list({row.key for row in rows if row.key is not None})

    def fly(self, tag: int, row: Row) -> None:
        """Remember a message before it is written: half-sent is unknown, not unsent.

        Args:
            tag: the broker's delivery tag; negative for a message on a channel of its own, which no
                ``multiple`` of the shared one settles.
            row: the job.
        """
        now = clock()
        self._flying[tag] = Flight(row, now)
        self._silence.sent(row.destination, now)
        self._bytes += len(row.payload)

    def returned(self, job_id: str, reason: str) -> None:
        """Remember that the broker could route a message nowhere; it says so before it acks it."""
        self._returned[job_id] = reason

    def acked(self, tag: int, *, multiple: bool) -> None:
        """Settle what the broker took responsibility for, except what it returned."""
        for row in self._settle(tag, multiple=multiple):
            reason = self._returned.pop(str(row.id), None) if self._returned else None
            if reason is None:
                # Without its payload: it counts no bytes any more, so it must hold none.
                self._unmarked[row.ident] = row._replace(payload=b"")
                self._outcomes.confirmed.append(self._unmarked[row.ident])
            else:
                self._outcomes.unroutable.append((row, reason))

    def nacked(self, tag: int, *, multiple: bool) -> None:
        """Settle what the broker could not take: it stays pending."""
        for row in self._settle(tag, multiple=multiple):
            self._returned.pop(str(row.id), None)
            self._outcomes.nacked.append(row)

    def refused(self, tag: int, reason: str) -> None:
        """Settle a message that the broker refuses for what it is."""
        self._outcomes.refused.extend((row, reason) for row in self._settle(tag, multiple=False))

    def turned_away(self, tag: int, reason: str) -> None:
        """Settle a message whose way the broker refuses."""
        self._outcomes.unroutable.extend((row, reason) for row in self._settle(tag, multiple=False))

    def take(self) -> Outcomes:
        """Return what was settled since the last call."""
        taken, self._outcomes = self._outcomes, Outcomes([], [], [], [])
        return taken

    def unmarked(self) -> list[Row]:
        """Return what is confirmed and waits for its mark."""
        return list(self._unmarked.values())

    def forget(self, rows: Iterable[Row]) -> None:
        """Let go of jobs that are marked, or that have moved on."""
        for row in rows:
            self._unmarked.pop(row.ident, None)

    def drop(self, *, search: bool = False) -> int:
        """Give up every message in flight as unknown; return how many. Confirmed ones still get their mark.

        Args:
            search: send them singly next time, to find the one that the broker refuses.
        """
        unknown = {flight.row.ident for flight in self._flying.values()}
        self._flying.clear()
        self._aside.clear()
        self.mute = set(self.silent)
        self._silence.forget()
        self._returned.clear()
        self._bytes = 0
        self.suspects |= unknown
        if search:
            self.search |= unknown
        return len(unknown)

    def set_aside(self) -> None:
        """Have what waits for silent destinations take no room any more; its payload is not needed again."""
        fresh = self._silence.listen()
        for tag, flight in self._flying.items() if fresh else ():
            if len(self._aside) >= self._most:
                break
            if flight.row.destination in fresh:
                self._aside.add(tag)
                self._flying[tag] = flight._replace(row=flight.row._replace(payload=b""))
                self._bytes -= len(flight.row.payload)
                self.search.discard(flight.row.ident)

    def excuse(self) -> None:
        """Start every message's waiting time anew: the broker had asked for a pause."""
        now = clock()
        self._aside.clear()
        self._silence.excuse(now)
        for tag, flight in self._flying.items():
            self._flying[tag] = flight._replace(sent_at=now)

    def strain(self) -> None:
        """Halve the window and double the time-out: the same load again would only be slower still."""
        self.limit = max(1.0, self.limit / 2)
        self.timeout = min(LONGEST_TIMEOUT, self.timeout * 2)
        self._clean = 0

    @property
    def overdue(self) -> bool:
        """Whether a message has waited longer than the time-out; where others are answered, it may."""
        since = [at for at in (self.oldest, self._silence.unproven_since) if at is not None]
        return bool(since) and clock() - min(since) > self.timeout

    def _settle(self, tag: int, *, multiple: bool) -> list[Row]:
        if multiple:
            tags = [known for known in self._flying if 0 < known <= tag]
        else:
            tags = [tag] if tag in self._flying else []
        flights = [self._flying.pop(known) for known in tags]
        self._aside.difference_update(tags)
        self._hear(flights)
        rows = [flight.row for flight in flights]
        self._bytes -= sum(len(row.payload) for row in rows)
        idents = [row.ident for row in rows]
        self.suspects.difference_update(idents)
        self.search.difference_update(idents)
        self._grow(len(rows))
        return rows

    def _hear(self, flights: Iterable[Flight]) -> None:
        """Count what was set aside again once something of its destination is answered."""
        now = clock()
        for row, sent_at in flights:
            if self._silence.heard(row.destination, sent_at, now):
                back = [tag for tag in self._aside if self._flying[tag].row.destination == row.destination]
                self._aside.difference_update(back)
                for tag in back:
                    self._flying[tag] = self._flying.pop(tag)._replace(sent_at=now)

    def _grow(self, settled: int) -> None:
        """After each clean window a tenth comes back, and the patience shrinks to normal."""
        self._clean += settled
        self.settled += settled
        if self._clean >= self.limit and self.limit < self._most:
            self._clean = 0
            self.limit = min(float(self._most), self.limit * (1 + GIVE_BACK) + 1)
            self.timeout = max(FIRST_TIMEOUT, self.timeout * (1 - GIVE_BACK))
