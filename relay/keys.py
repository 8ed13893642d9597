"""The lane of jobs with a key: which keys have something to send, and from which place in line on.

A key's head is one lookup in an index, once the key is known; to look for the keys is what costs. Under a
snapshot that is held open no dead row leaves an index, and whoever walks along the keys walks over all that
was ever sent. So the keys are remembered, each with a floor: nothing of it waits before that place. What is
remembered stays true, because only two can make a job pending:

- a transaction that adds it. Each look asks for what the one before could not see: rows of transactions
  that ran then and have ended, and of those that have begun since. A row keeps the xid that it was added
  with, so both are found by an index, in as many steps as there are rows.
- this leader, when it stages, unparks or sends again: the ledger notes what.

A head that has come since the last look waits for the next one: an earlier job of its key may have come with
it, below the floor. A new term knows nothing and walks through all that is pending, a slice a round; so does
one that has had too much to remember, and each one now and then, for whatever an administrator did.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from relay.row import COLUMNS, Row
from relay.term import clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from relay.term import Term
    from relay.window import Window

MOST: Final = 20_000
"""Keys in memory. Beyond it those that are held are forgotten first, and found again by the next walk."""
ARRIVALS: Final = 5000
"""Rows that one look takes in; after more of them a walk is cheaper."""
STRIDE: Final = 2000
"""Rows of a slice of a walk."""
SPAN: Final = 64
"""Transactions of a slice at first; it grows while it is quick, and shrinks towards the end."""
SHARE: Final = 8
SLOW: Final = 0.004
WALK_EVERY: Final = 60.0
WALK_AGAIN: Final = 0.25
WALK_SHARE: Final = 20
"""A walk rests for so many times its own time."""
FEWEST: Final = 100
"""Keys that are looked at in a round, however little room there is: those that are held hide no other."""
PIPELINED: Final = 16
LAST: Final = 2**63 - 1
NEVER: Final = float("-inf")

# Spelled so that the index by key does not fit: without statistics the planner would walk along all keys.
PENDING: Final = "state = 'pending' AND coalesce(key, '') <> ''"

ARRIVED: Final = f"""
WITH s AS MATERIALIZED (SELECT pg_current_snapshot() AS now),
a AS MATERIALIZED (
    SELECT r.key, r.line FROM s CROSS JOIN unnest(%(running)s::text[]) u(xid) CROSS JOIN LATERAL (
        SELECT key, line FROM outbox.job WHERE {PENDING} AND xid = u.xid::xid8) r
     WHERE pg_visible_in_snapshot(u.xid::xid8, s.now)
    UNION ALL
    SELECT r.key, r.line FROM s CROSS JOIN LATERAL (
        SELECT key, line FROM outbox.job
         WHERE {PENDING} AND xid >= %(since)s::text::xid8 AND xid < pg_snapshot_xmax(s.now)) r
    LIMIT %(rows)s)
SELECT s.now::text, (SELECT count(*) FROM a), k.key, k.line
FROM s LEFT JOIN (SELECT key, min(line) AS line FROM a GROUP BY key) k ON true
ORDER BY k.line
"""  # noqa: S608 - constants of ours

WALK: Final = f"""
SELECT j.xid::text::bigint, j.line, j.key FROM outbox.job j
 WHERE {PENDING} AND (j.xid, j.line) > (%(xid)s::text::xid8, %(line)s) AND j.xid <= %(upto)s::text::xid8
ORDER BY j.xid, j.line LIMIT %(rows)s
"""  # noqa: S608 - constants of ours

# A row that neither the last look saw nor this statement's own snapshot knows has its xid from another
# cluster (a dump that was restored): it has not come since, and must not wait for ever.
HEADS: Final = f"""
WITH q AS MATERIALIZED (
    SELECT h.n, r.*, coalesce(r.line > (
            SELECT b.line FROM outbox.job b
             WHERE b.key = h.key AND (b.state = 'parked' OR (b.state = 'scheduled' AND b.attempt > 0))
             ORDER BY b.line LIMIT 1), false)
        OR (%(serial)s AND EXISTS (SELECT FROM outbox.job b WHERE b.key = h.key AND b.tracked
                                     AND b.state IN ('published', 'running'))) AS held
      FROM unnest(%(keys)s::text[], %(floors)s::bigint[]) WITH ORDINALITY h(key, floor, n)
     CROSS JOIN LATERAL (
        SELECT {COLUMNS}, line FROM outbox.job j
         WHERE j.state = 'pending' AND j.key = h.key AND j.line >= h.floor AND j.id <> ALL(%(mine)s)
           AND (pg_visible_in_snapshot(j.xid, %(seen)s::text::pg_snapshot)
                OR NOT pg_visible_in_snapshot(j.xid, pg_current_snapshot()))
         ORDER BY j.line LIMIT %(depth)s) r),
d AS (SELECT *, sum(octet_length(payload)) FILTER (WHERE NOT held) OVER so_far AS bytes,
             count(*) FILTER (WHERE NOT held) OVER so_far AS nth
        FROM q WINDOW so_far AS (ORDER BY n, line ROWS UNBOUNDED PRECEDING)),
g AS (SELECT *, NOT held AND nth <= %(rows)s AND (bytes <= %(bytes)s OR nth = 1) AS goes FROM d)
SELECT n, line, held, goes, {COLUMNS.replace("payload", "CASE WHEN goes THEN payload END")}
FROM g ORDER BY n, line
"""  # noqa: S608 - constants of ours


class Keys:
    """The keys that may have something to send.

    Args:
        term: whose session reads.
        order: strict, pipelined or serial.
        staged: where the ledger notes which keys this leader made something pending for, and where in line.
    """

    def __init__(self, term: Term, order: str, staged: dict[str, int]) -> None:
        self._rows, self._staged = term.backend.rows, staged
        self._one_of_key, self._serial = order != "pipelined", order == "serial"
        self._floors: OrderedDict[str, int] = OrderedDict()
        self._seen = ""
        # The walk: where it is (None: none is under way) and where it may end; when the last one ended and
        # what it cost; whether something was left out since it began, and whether the last one was whole.
        self._at: tuple[int, int] | None = None
        self._end, self._span, self._cost, self._walked_at = 0, SPAN, 0.0, NEVER
        self._missed, self._whole = True, False
        # The round: how many keys are still to be looked at; whether it, and the walk, found nothing to send.
        self._round = 0
        self._clean = self._walk_clean = True
        self.clear = False
        """Whether the last whole round found nothing to send, of all keys that there are."""

    @property
    def under_way(self) -> bool:
        """Whether a round over the keys, or a walk, goes on with the next read."""
        return self._round > 0 or self._at is not None

    @property
    def walking(self) -> bool:
        """Whether a walk is under way that the next read takes further."""
        return self._at is not None and len(self._floors) < MOST

    def fetch(self, window: Window, *, rows: int, size: int) -> list[Row]:
        """Read heads of keys that nothing in flight, parked or retried holds.

        Args:
            window: what is in flight.
            rows: at most so many.
            size: at most so many bytes of payload; a single larger job goes alone.

        Raises:
            Postponed: a statement did not get through; what is remembered still holds.
            Unreachable: the session is gone, and the term with it.
        """
        self._look()
        self._walk()
        return self._heads(window, rows, size)

    def look_afresh(self) -> None:
        """Begin a new round: what was read before proves nothing about now."""
        self._round, self.clear = 0, False
        if not self._whole:
            self._walked_at = NEVER

    def forget(self) -> None:
        """Take no floor for granted any more, and walk again."""
        self._floors = OrderedDict.fromkeys(self._floors, 0)
        self._whole, self._missed, self.clear = False, True, False

    def _look(self) -> None:
        """Take in what has come since the last look."""
        _, xmax, running = self._seen.split(":") if self._seen else ("", str(LAST), "")
        values = {"since": xmax, "running": running.split(",") if running else [], "rows": ARRIVALS}
        found = self._rows(ARRIVED, values)
        self._seen = found[0][0]
        if found[0][1] >= ARRIVALS:
            self.forget()
        self._came((key, line) for _, _, key, line in found if key is not None)
        self._came(self._staged.items())
        self._staged.clear()

    def _came(self, arrivals: Iterable[tuple[str, int]]) -> None:
        for key, line in arrivals:
            floor = self._floors.get(key)
            if floor is not None:
                self._floors[key] = min(floor, line)
            elif len(self._floors) < MOST:
                self._know(key, line if self._whole else 0)
            else:
                self._whole, self._missed = False, True

    def _know(self, key: str, floor: int) -> None:
        self._floors[key] = floor
        if self._round:
            self._round += 1  # it has its turn in this one

    def _walk(self) -> None:
        """Go on, for a slice, through all that is pending, and meet its keys."""
        if self._at is None and self._walk_is_due:
            self._at, self._end, self._cost = (0, 0), int(self._seen.split(":")[1]), 0.0
            self._missed, self._walk_clean = False, True
        began = clock()
        while (at := self._at) is not None and len(self._floors) < MOST:
            self._slice(*at)
            if clock() - began >= SLOW:
                break
        self._cost += clock() - began

    @property
    def _walk_is_due(self) -> bool:
        rest = max(WALK_AGAIN if self._missed else WALK_EVERY, WALK_SHARE * self._cost)
        return clock() >= self._walked_at + rest

    def _slice(self, xid: int, line: int) -> None:
        upto = xid + min(self._span, SPAN + (self._end - xid) // SHARE)
        upto = upto if upto < self._end else LAST
        began = clock()
        self._meet(self._rows(WALK, {"xid": str(xid), "line": line, "upto": str(upto), "rows": STRIDE}), upto)
        took = clock() - began
        self._span = max(1, self._span // 4) if took > SLOW else min(LAST, self._span * 2)

    def _meet(self, found: Sequence[tuple[int, int, str]], upto: int) -> None:
        for xid, line, key in found:
            floor = self._floors.get(key)
            if floor is None:
                if len(self._floors) >= MOST:
                    return
                self._know(key, 0)
            else:
                self._floors[key] = min(floor, line)
            self._at = xid, line
        if len(found) < STRIDE:
            self._at = (upto, LAST) if upto < LAST else None
        if self._at is None:
            self._whole, self._walked_at = not self._missed, clock()

    def _heads(self, window: Window, rows: int, size: int) -> list[Row]:
        if self._round <= 0:
            self._round, self._clean = len(self._floors), True
        in_flight = set(window.keys())
        asked = self._next(in_flight if self._one_of_key else (), max(rows, FEWEST))
        read: list[Row] = []
        if asked:
            bounds = {"rows": rows, "bytes": size, "mine": [] if self._one_of_key else window.ids()}
            found, crowded = self._lookup(asked, bounds), len(self._floors) >= MOST
            for n, key in enumerate(asked, 1):
                if crowded and found[n] and found[n][0][1]:
                    self._make_room(key)
                else:
                    read += self._learn(key, found[n], in_flight=key in in_flight)
        if read:
            self._clean = self._walk_clean = self.clear = False
        if self._round <= 0 and self._at is None:
            self.clear = self._clean and (self._whole or self._walk_clean)
        return read

    def _next(self, busy: Iterable[str], most: int) -> list[str]:
        """Choose whose turn it is; those with a job in flight have had theirs."""
        asked: list[str] = []
        for key in list(islice(self._floors, self._round)):
            if key in busy:
                self._had_its_turn(key)
            else:
                asked.append(key)
                if len(asked) == most:
                    break
        return asked

    def _lookup(self, asked: Sequence[str], bounds: dict[str, Any]) -> Mapping[int, list[tuple[Any, ...]]]:
        """Return (line, held, goes, row …) of the heads of each key, by its number."""
        found: Mapping[int, list[tuple[Any, ...]]] = defaultdict(list)
        floors = [self._floors[key] for key in asked]
        order = {"depth": 1 if self._one_of_key else PIPELINED, "serial": self._serial}
        for n, *head in self._rows(
            HEADS, {"keys": asked, "floors": floors, "seen": self._seen} | order | bounds
        ):
            found[n].append(tuple(head))
        return found

    def _learn(self, key: str, heads: Sequence[tuple[Any, ...]], *, in_flight: bool) -> list[Row]:
        """Remember of a key what its lookup has shown; return what may go."""
        going = [Row(*columns) for _, _, goes, *columns in heads if goes]
        if heads and not in_flight:
            self._floors[key] = heads[0][0]
        if not heads and not in_flight:
            del self._floors[key]
            self._round -= 1
        elif len(going) == len(heads) or heads[0][1]:
            self._had_its_turn(key)
        return going

    def _make_room(self, key: str) -> None:
        """Forget a key that is held: the next walk finds it again."""
        del self._floors[key]
        self._round -= 1
        self._whole, self._missed = False, True

    def _had_its_turn(self, key: str) -> None:
        self._floors.move_to_end(key)
        self._round -= 1
