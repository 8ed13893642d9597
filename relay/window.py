"""What is on its way: sent and not confirmed, confirmed and not marked; both bounded, in rows and bytes.

Confirms are matched to messages by delivery tag here and nowhere else: kombu's own ``confirm_publish`` takes
any ack for the message it waits for, so a late ack of one confirms the next. Memory is keyed by (id,
version). No I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from relay.term import clock

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

    from relay.row import Row

Ident = tuple["uuid.UUID", int]

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
        self._unmarked: dict[Ident, Row] = {}
        self._returned: dict[str, str] = {}
        self._bytes = 0
        self._clean = 0
        self._one_by_one = 0
        self._outcomes = Outcomes([], [], [], [])
        self.suspects: set[Ident] = set()

    def __len__(self) -> int:
        """Return how many jobs are in flight or unmarked."""
        return len(self._flying) + len(self._unmarked)

    @property
    def flying(self) -> int:
        """How many messages wait for the broker's word."""
        return len(self._flying)

    @property
    def room(self) -> int:
        """How many more jobs may be sent now; one at a time while a poisonous one is looked for."""
        most = 1 if self._one_by_one else int(self.limit)
        return max(0, most - len(self))

    @property
    def room_bytes(self) -> int:
        """How many more bytes of payload may be sent now."""
        return max(0, self._most_bytes - self._bytes)

    @property
    def oldest(self) -> float | None:
        """When the longest-waiting message was sent."""
        return next(iter(self._flying.values())).sent_at if self._flying else None

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
        """Remember a message before it is written: half-sent is unknown, not unsent."""
        self._flying[tag] = Flight(row, clock())
        self._bytes += len(row.payload)

    def returned(self, job_id: str, reason: str) -> None:
        """Remember that the broker could route a message nowhere; it says so before it acks it."""
        self._returned[job_id] = reason

    def acked(self, tag: int, *, multiple: bool) -> None:
        """Settle what the broker took responsibility for, except what it returned."""
        for row in self._settle(tag, multiple=multiple):
            reason = self._returned.pop(str(row.id), None) if self._returned else None
            if reason is None:
                self._outcomes.confirmed.append(row)
                self._unmarked[row.ident] = row
            else:
                self._outcomes.unroutable.append((row, reason))

    def nacked(self, tag: int, *, multiple: bool) -> None:
        """Settle what the broker could not take: it stays pending."""
        for row in self._settle(tag, multiple=multiple):
            self._returned.pop(str(row.id), None)
            self._outcomes.nacked.append(row)

    def refuse(self, reason: str) -> bool:
        """Settle the only message in flight as refused; False if there is not exactly one to blame."""
        if len(self._flying) != 1:
            return False
        tag = next(iter(self._flying))
        self._outcomes.refused.extend((row, reason) for row in self._settle(tag, multiple=False))
        return True

    def unroutable(self, reason: str) -> bool:
        """Settle the only message in flight as unroutable; False if there is not exactly one."""
        if len(self._flying) != 1:
            return False
        tag = next(iter(self._flying))
        self._outcomes.unroutable.extend((row, reason) for row in self._settle(tag, multiple=False))
        return True

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

    def drop(self, *, one_by_one: bool = False) -> int:
        """Give up every message in flight as unknown; return how many. Confirmed ones still get their mark.

        Args:
            one_by_one: send them singly next time, to find the one that the broker refuses.
        """
        unknown = [flight.row for flight in self._flying.values()]
        self._flying.clear()
        self._returned.clear()
        self._bytes = 0
        self.suspects.update(row.ident for row in unknown)
        if one_by_one:
            self._one_by_one = len(unknown)
        return len(unknown)

    def strain(self) -> None:
        """Halve the window and double the time-out: the same load again would only be slower still."""
        self.limit = max(1.0, self.limit / 2)
        self.timeout = min(LONGEST_TIMEOUT, self.timeout * 2)
        self._clean = 0

    def overdue(self, blocked_for: float = 0.0) -> bool:
        """Return whether the longest-waiting message has waited longer than the time-out (seconds)."""
        return self.oldest is not None and clock() - self.oldest - blocked_for > self.timeout

    def _settle(self, tag: int, *, multiple: bool) -> list[Row]:
        if multiple:
            tags = [known for known in self._flying if known <= tag]
        else:
            tags = [tag] if tag in self._flying else []
        rows = [self._flying.pop(known).row for known in tags]
        self._bytes -= sum(len(row.payload) for row in rows)
        self.suspects.difference_update(row.ident for row in rows)
        self._one_by_one = max(0, self._one_by_one - len(rows))
        self._grow(len(rows))
        return rows

    def _grow(self, settled: int) -> None:
        """After each clean window a tenth comes back, and the patience shrinks to normal."""
        self._clean += settled
        if self._clean >= self.limit and self.limit < self._most:
            self._clean = 0
            self.limit = min(float(self._most), self.limit * (1 + GIVE_BACK) + 1)
            self.timeout = max(FIRST_TIMEOUT, self.timeout * (1 - GIVE_BACK))
