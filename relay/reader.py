"""Which jobs to send next: by state, never by cursor, in two lanes, at a cost that dead rows do not raise.

Jobs without a key are read by position at two speeds: every round what lies past the front, and in slices
behind it what committed late. The low-water mark tells where the sweep may begin: up to it, everything is
settled for good. Jobs with a key are read as heads of their keys (``keys.py``), and never by a front: a late
one must not be passed by a later one.

This module remembers positions, nothing else; a new term begins at zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relay.backend import Postponed
from relay.keys import Keys
from relay.term import clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay.config import Settings
    from relay.ledger import Ledger
    from relay.row import Row
    from relay.term import Term
    from relay.window import Window

SWEEP_EVERY: Final = 0.25
"""Seconds between two sweeps at the least; a sweep that took long waits twenty times its own time."""
SWEEP_SHARE: Final = 20
SLICE: Final = 4000
"""Positions a sweep looks at in one statement: a round stays short beside a million dead rows."""
LONGEST_SLICE: Final = 8000
STRIDE: Final = 32_000
"""Positions of one read towards the tip: all below may be dead, and a statement that reads on times out."""
SLOW_SLICE: Final = 0.004
LAST: Final = 2**62
FIRST_GULP: Final = 16 * 1024
"""Bytes that the first read of a term may bring. A line that takes seconds for the whole window would take
the term's trust with it, and the next term, which knows as little, would do the same again, for ever."""
LEAST_GULP: Final = 1024
ROW: Final = 256
"""Bytes that a row takes on the line beside its payload, about."""
QUICK_READ: Final = 0.25
SLOW_READ: Final = 1.0
TRIPS: Final = 4
"""Round trips of a read, about: a line that is long need not be narrow."""


class Gulp:
    """How much one read may bring: what the line to the database carries in a moment, learnt by reading."""

    def __init__(self) -> None:
        self.size = FIRST_GULP

    @property
    def rows(self) -> int:
        """The most rows."""
        return max(1, self.size // ROW)

    def learn(self, rows: Sequence[Row], seconds: float) -> None:
        """Halve it after a slow read; double it after a quick one that brought half of it or more."""
        brought = size_of(rows) + ROW * len(rows)
        if seconds > SLOW_READ:
            self.size = max(LEAST_GULP, min(self.size, brought) // 2)
        elif seconds < QUICK_READ and brought >= self.size // 2:
            self.size = min(LAST, self.size * 2)


class Reader:
    """Reads what is to be sent, into a window's room.

    Args:
        ledger: the jobs.
        term: knows up to which position everything is settled.
        settings: order of keyed jobs.
    """

    def __init__(self, ledger: Ledger, term: Term, settings: Settings) -> None:
        self._ledger, self._term = ledger, term
        self._keys = Keys(term, settings.order, ledger.staged)
        self._front = self._low = self._swept = self._drawn = 0
        self._tip = term.tip
        self._slice = SLICE
        self._sweep_at, self._sweep_cost = 0.0, 0.0
        self._gulp = Gulp()
        # Whether the sweep that is under way has found nothing so far; and whether the last whole one has.
        self._behind_clean, self._behind_clear = True, False
        self.found_ahead = False
        """Whether the last read past the front found something: more may lie there, whatever may be sent."""

    def fetch(self, window: Window) -> list[Row]:
        """Read into the window's room: half of it for the keys, half of the rest for what committed late.

        Args:
            window: whose room bounds rows and bytes, and whose jobs are left out. While it looks for a
                poisonous one, one of the suspects is read and nothing else.
        """
        self.found_ahead = False
        if window.room <= 0 or window.room_bytes <= 0:
            return []
        if window.search:
            return self._suspect(window)
        self._heed_reset()
        rows: list[Row] = []
        began, late = clock(), TRIPS * self._term.trip
        try:
            self._read(window, rows)
        except Postponed:
            self._gulp.learn((), LAST)
            raise
        self._gulp.learn(rows, clock() - began - late)
        return rows

    def start_over(self) -> None:
        """Read again behind the front: what was to be sent, or in flight there, is unknown now."""
        self._tip = max(self._tip, self._front)
        self._front = self._low
        self.look_afresh()

    def look_afresh(self) -> None:
        """Begin a new round over the keys and a new sweep: what was read before proves nothing about now."""
        self._keys.look_afresh()
        self._swept, self._sweep_at = self._low, 0.0
        self._behind_clean, self._behind_clear = True, False

    @property
    def caught_up(self) -> bool:
        """Whether the last whole round over the keys and the last whole sweep found nothing to send."""
        return self._keys.clear and self._behind_clear and not self._far_behind

    @property
    def catching_up(self) -> bool:
        """Whether the next read goes on at once, although this one may have found nothing."""
        return self._far_behind or self._keys.walking

    @property
    def _far_behind(self) -> bool:
        """Whether the front has yet to come to where it was, or to where the last leader's may have been."""
        return self._front < self._tip

    @property
    def passing(self) -> bool:
        """Whether a round over the keys is under way: it goes on with the next read."""
        return self._keys.under_way

    @property
    def sweep_in(self) -> float:
        """Seconds until the next sweep is due."""
        return max(0.0, self._sweep_at - clock())

    def _read(self, window: Window, rows: list[Row]) -> None:
        room, size = self._room(window, rows)
        rows += self._keys.fetch(window, rows=max(1, room // 2), size=size)
        if clock() >= self._sweep_at:
            rows += self._sweep(window, rows)
        rows += self._past_front(window, rows)

    def _room(self, window: Window, taken: Sequence[Row]) -> tuple[int, int]:
        """Return for how many more rows and bytes there is room, in the window and in this read."""
        rows, size = min(window.room, self._gulp.rows), min(window.room_bytes, self._gulp.size)
        return rows - len(taken), size - size_of(taken)

    def _suspect(self, window: Window) -> list[Row]:
        rows = self._ledger.among(window.search, mine=window.ids(), rows=1)
        if not rows and not window.flying:
            window.search.clear()  # the others have moved on: cancelled, parked, done by a copy
        return rows

    def _heed_reset(self) -> None:
        """Begin at zero if the sequence did (TRUNCATE … RESTART IDENTITY): new rows would lie behind us."""
        drawn = self._term.settled[0]
        if drawn < self._drawn:
            self._low = self._front = self._tip = 0
            self._keys.forget()
            self.start_over()
        self._drawn = drawn

    def _past_front(self, window: Window, taken: Sequence[Row]) -> list[Row]:
        room, size = self._room(window, taken)
        if room <= 0 or size <= 0:
            return []
        found: list[Row] = []
        if self._far_behind:
            upto = min(self._front + STRIDE, self._tip)
            found = self._ahead(window, upto, room, size)
            self._front = found[-1].pos if found else upto
        if not found and not self._far_behind:
            found = self._ahead(window, LAST, room, size)
            self._front = found[-1].pos if found else self._front
        self._behind_clear = self._behind_clear and not found
        self.found_ahead = bool(found)
        return found

    def _ahead(self, window: Window, upto: int, room: int, size: int) -> list[Row]:
        mine = window.ids()
        return self._ledger.keyless(after=self._front, upto=upto, mine=mine, rows=room, size=size).rows

    def _sweep(self, window: Window, taken: Sequence[Row]) -> list[Row]:
        """Look behind the front, for a moment, for what committed late; the next round goes on from there.

        It takes half of what room is left. What is found and may not be sent yet (its destination rests) must
        not keep the sweep from what lies behind it, nor new jobs from being read.
        """
        rows: list[Row] = []
        began = clock()
        most, bytes_ = self._room(window, taken)
        room = max(1, most // 2)
        while self._swept < self._front and clock() - began < SLOW_SLICE:
            size = bytes_ - size_of(rows)
            if room <= len(rows) or size <= 0:
                break
            rows += self._look_back(window, room - len(rows), size)
        self._sweep_cost += clock() - began
        self._behind_clean = self._behind_clean and not rows
        if self._swept >= self._front:
            self._end_sweep()
        return rows

    def _end_sweep(self) -> None:
        self._behind_clear, self._behind_clean = self._behind_clean, True
        self._swept = self._low
        self._sweep_at = clock() + max(SWEEP_EVERY, SWEEP_SHARE * self._sweep_cost)
        self._sweep_cost = 0.0

    def _look_back(self, window: Window, room: int, size: int) -> list[Row]:
        after, upto = self._swept, min(self._swept + self._slice, self._front)
        settled_pos, settled_xid = self._term.settled
        began = clock()
        found = self._ledger.keyless(after=after, upto=upto, mine=window.ids(), rows=room, size=size)
        slow = clock() - began > SLOW_SLICE
        self._slice = max(500, self._slice // 2) if slow else min(LONGEST_SLICE, self._slice * 2)
        if after == self._low and found.xmin > settled_xid:
            # Everything up to settled_pos has committed or never will: no need to look below the oldest one
            # left.
            oldest = found.oldest - 1 if found.oldest is not None else upto
            self._low = max(self._low, min(oldest, settled_pos, upto))
        # Not to the end of the slice: the bounds may have cut the read short.
        self._swept = found.rows[-1].pos if found.rows else upto
        return found.rows


def size_of(rows: Sequence[Row]) -> int:
    """Return the bytes of payload in ``rows``."""
    return sum(len(row.payload) for row in rows)
