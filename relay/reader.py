"""Which jobs to send next: by state, never by cursor, in two lanes, at a cost that dead rows do not raise.

Jobs without a key are read by position at two speeds: every round what lies past the front, and in slices
behind it what committed late. The low-water mark tells where the sweep may begin: up to it, everything is
settled for good. Jobs with a key are read as heads of their keys, and never by a front: a late one must not
be passed by a later one.

This module remembers positions, nothing else; a new term begins at zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relay.term import clock

if TYPE_CHECKING:
    from relay.config import Settings
    from relay.ledger import Ledger
    from relay.row import Row
    from relay.term import Term
    from relay.window import Window

SWEEP_EVERY: Final = 0.25
"""Seconds between two sweeps at the least; a sweep that took long waits twenty times its own time."""
SWEEP_SHARE: Final = 20
SLICE: Final = 20_000
"""Positions a sweep looks at in one statement: a round stays short beside a million dead rows."""
SLOW_SLICE: Final = 0.02
LAST: Final = 2**62


class Reader:
    """Reads what is to be sent, into a window's room.

    Args:
        ledger: the jobs.
        settings: order of keyed jobs.
    """

    def __init__(self, ledger: Ledger, term: Term, settings: Settings) -> None:
        self._ledger, self._term, self._settings = ledger, term, settings
        self._front = self._low = self._swept = 0
        self._slice = SLICE
        self._after = ""
        self._sweep_at, self._sweep_cost = 0.0, 0.0
        self.wrapped = True

    def fetch(self, window: Window, *, thorough: bool = False) -> list[Row]:
        """Read into the window's room, half of it for each lane and what one leaves for the other.

        Args:
            window: whose room bounds rows and bytes, and whose jobs are left out.
            thorough: sweep now, whatever the clock says (before falling asleep).
        """
        keyed = self._keyed(window, max(1, window.room // 2))
        fresh = self._past_front(window, window.room - len(keyed), taken=size_of(keyed))
        late: list[Row] = []
        if thorough or clock() >= self._sweep_at:
            room = window.room - len(keyed) - len(fresh)
            late = self._sweep(window, room, taken=size_of(keyed) + size_of(fresh), thorough=thorough)
        if fresh:
            # Only now: a sweep up to the new front would read, and send, the fresh ones a second time.
            self._front = fresh[-1].pos
        return keyed + fresh + late

    def start_over(self) -> None:
        """Read again behind the front: what was in flight there is unknown now."""
        self._front = self._swept = self._low
        self._after = ""

    @property
    def sweep_in(self) -> float:
        """Seconds until the next sweep is due."""
        return max(0.0, self._sweep_at - clock())

    def _keyed(self, window: Window, room: int) -> list[Row]:
        strict = self._settings.order != "pipelined"
        found = self._ledger.keyed(
            after=self._after,
            busy=window.keys() if strict else (),
            mine=window.ids(),
            rows=room,
            size=window.room_bytes,
            depth=1 if strict else 16,
            serial=self._settings.order == "serial",
        )
        # A read that began in the middle and found its end has not seen the keys before it.
        self.wrapped = found.after == "" and self._after == ""
        self._after = found.after
        return found.rows

    def _past_front(self, window: Window, room: int, *, taken: int) -> list[Row]:
        if room <= 0:
            return []
        found = self._ledger.keyless(
            after=self._front, upto=LAST, mine=window.ids(), rows=room, size=max(1, window.room_bytes - taken)
        )
        return found.rows

    def _sweep(self, window: Window, room: int, *, taken: int, thorough: bool) -> list[Row]:
        """Look at the next slice behind the front, or for a moment at all, for what committed late."""
        rows: list[Row] = []
        began = clock()
        while self._swept < self._front and room > len(rows):
            free = max(1, window.room_bytes - taken - size_of(rows))
            rows += self._look_back(window, room - len(rows), free)
            if not thorough or clock() - began > SLOW_SLICE:
                break
        self._sweep_cost += clock() - began
        if self._swept >= self._front or room <= len(rows):
            self._swept = self._low
            self._sweep_at = clock() + max(SWEEP_EVERY, SWEEP_SHARE * self._sweep_cost)
            self._sweep_cost = 0.0
        return rows

    def _look_back(self, window: Window, room: int, size: int) -> list[Row]:
        after, upto = self._swept, min(self._swept + self._slice, self._front)
        settled_pos, settled_xid = self._term.settled
        began = clock()
        found = self._ledger.keyless(after=after, upto=upto, mine=window.ids(), rows=room, size=size)
        self._slice = (
            max(1000, self._slice // 2) if clock() - began > SLOW_SLICE else min(SLICE * 50, self._slice * 2)
        )
        if after == self._low and found.xmin > settled_xid:
            # Everything up to settled_pos has committed or never will: no need to look below the oldest one
            # left.
            oldest = found.oldest - 1 if found.oldest is not None else upto
            self._low = max(self._low, min(oldest, settled_pos, upto))
        self._swept = found.rows[-1].pos if len(found.rows) >= room else upto
        return found.rows


def size_of(rows: list[Row]) -> int:
    """Return the bytes of payload in ``rows``."""
    return sum(len(row.payload) for row in rows)
