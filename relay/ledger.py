"""All of the relay's SQL on jobs, one named function a statement.

Every statement runs on the session that holds the leader's lock, takes job rows ``FOR NO KEY UPDATE SKIP
LOCKED`` and so never waits for a consumer or an application: the leader is in no cycle of locks. What a
statement skipped is found again by its state. Times come from the database's clock; ``statement_timestamp()``
and not ``clock_timestamp()`` where an index is searched, because a volatile function is no index condition.

No statement's cost rests on the planner's statistics. A queue's table is full now and was empty a moment
ago, and statistics tell of the moment before; a planner that believes it to be empty reads all of an index
for each row of a join, and every mark runs into its time-out. So rows are found by LATERAL lookups, or by one
index in its order, and changed at the place (``ctid``) where they were locked: there is no other way then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from relay.row import COLUMNS, Row, prefixed

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence

    from relay.term import Term
    from relay.window import Ident

DESTINATION: Final = "(coalesce(exchange, '*') || chr(31) || coalesce(routing_key, '*') || chr(31) || kind)"
"""The expression of the index ``job_parked``; ``Row.destination`` spells the same."""

WITHIN: Final = "sum(octet_length(payload)) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING)"
"""Bytes are bounded in SQL: a thousand rows of a megabyte do not even leave the server."""

# FOR SHARE, and neither FOR KEY SHARE nor a subselect: only it makes the bump of the next term wait for an
# open mark and a late mark find nothing.
FENCED: Final = "f AS MATERIALIZED (SELECT 1 FROM outbox.leader WHERE token = %(token)s FOR SHARE)"

# Not min(pos): where the planner expects few rows, it goes through all that wait.
KEYLESS: Final = f"""
SELECT s.xmin, s.oldest, {", ".join("d." + name.strip() for name in COLUMNS.split(","))}
FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xmin,
             (SELECT pos FROM outbox.job
               WHERE state = 'pending' AND key IS NULL AND pos > %(after)s AND pos <= %(upto)s
              ORDER BY pos LIMIT 1) AS oldest) s
LEFT JOIN (
    SELECT * FROM (
        SELECT {COLUMNS},
               {WITHIN.format(order="pos")} AS bytes,
               row_number() OVER (ORDER BY pos) AS nth
        FROM outbox.job
        WHERE state = 'pending' AND key IS NULL AND pos > %(after)s AND pos <= %(upto)s
          AND id <> ALL(%(mine)s)
        ORDER BY pos LIMIT %(rows)s) w
    WHERE bytes <= %(bytes)s OR nth = 1) d ON true
ORDER BY d.pos
"""

# The version is compared: by id alone, a remembered confirm marks a later version that was never sent. The
# state is spelled so that no partial index fits: for each id the planner would read all that is pending.
NAMED: Final = """
unnest(%(ids)s::uuid[], %(versions)s::int[]) w(id, version) CROSS JOIN LATERAL (
    SELECT {what} FROM outbox.job j
     WHERE j.id = w.id AND j.version = w.version AND j.state || '' = 'pending' {more}) n
"""
LOCKED: Final = f"""
WITH {FENCED}, d AS MATERIALIZED (SELECT n.spot FROM {
    NAMED.format(what="j.ctid AS spot", more="AND EXISTS (SELECT FROM f) FOR NO KEY UPDATE SKIP LOCKED")
})
"""

MARK: Final = f"""{LOCKED}
UPDATE outbox.job j SET state = 'published', published_at = clock_timestamp(), published_term = %(term)s
FROM d WHERE j.ctid = d.spot RETURNING j.id
"""

SET_ASIDE: Final = f"""{LOCKED}
UPDATE outbox.job j SET state = %(state)s, version = j.version + 1, error = %(reason)s
FROM d WHERE j.ctid = d.spot RETURNING j.id
"""

STILL_PENDING: Final = f"SELECT n.id, n.version FROM {NAMED.format(what='j.id, j.version', more='')}"

AMONG: Final = f"""
SELECT {prefixed("n")} FROM {NAMED.format(what=COLUMNS, more="AND j.id <> ALL(%(mine)s)")}
ORDER BY n.pos LIMIT %(rows)s
"""

UNPARKED: Final = f"""
UPDATE outbox.job j SET state = 'pending', version = j.version + 1,
    first_pos = coalesce(j.first_pos, j.pos), pos = DEFAULT, error = NULL
FROM d WHERE j.ctid = d.spot
RETURNING j.line, {prefixed("j")}
"""

UNPARK: Final = f"""
WITH {FENCED}, d AS MATERIALIZED (
    SELECT ctid AS spot FROM outbox.job
     WHERE state = 'parked' AND {DESTINATION} = %(destination)s AND EXISTS (SELECT FROM f)
    ORDER BY line LIMIT %(rows)s FOR NO KEY UPDATE SKIP LOCKED)
{UNPARKED}
"""

# One parked job that nothing holds, of the first hundred: a probe must not pass an earlier job of its key, be
# it parked, to be tried again, or pending: about to go out beside it, or kept by a destination that rests.
STAGE_PROBE: Final = f"""
WITH {FENCED}, c AS MATERIALIZED (
    SELECT id, key, line FROM outbox.job
     WHERE state = 'parked' AND {DESTINATION} = %(destination)s ORDER BY line LIMIT 100),
e AS MATERIALIZED (
    SELECT c.id FROM c WHERE c.key IS NULL OR (c.key <> ALL(%(busy)s) AND coalesce(c.line <= (
        SELECT b.line FROM outbox.job b
         WHERE b.key = c.key AND (b.state = 'parked' OR (b.state = 'scheduled' AND b.attempt > 0))
         ORDER BY b.line LIMIT 1), true) AND coalesce(c.line < (
        SELECT b.line FROM outbox.job b WHERE b.key = c.key AND b.state = 'pending'
         ORDER BY b.line LIMIT 1), true))
     ORDER BY c.line LIMIT 1),
d AS MATERIALIZED (
    SELECT n.spot FROM e CROSS JOIN LATERAL (
        SELECT j.ctid AS spot FROM outbox.job j
         WHERE j.id = e.id AND j.state || '' = 'parked' AND EXISTS (SELECT FROM f)
        FOR NO KEY UPDATE SKIP LOCKED) n)
{UNPARKED}
"""

PARKED: Final = f"""
WITH RECURSIVE p AS (
    (SELECT {DESTINATION} AS destination, error FROM outbox.job WHERE state = 'parked' ORDER BY 1 LIMIT 1)
    UNION ALL
    SELECT n.* FROM p CROSS JOIN LATERAL (
        SELECT {DESTINATION}, error FROM outbox.job
         WHERE state = 'parked' AND {DESTINATION} > p.destination ORDER BY 1 LIMIT 1) n)
SELECT destination, error FROM p LIMIT 10000
"""


@dataclass(frozen=True, slots=True)
class Keyless:
    """What a read of the keyless lane saw; ``oldest`` is the lowest pending position in range."""

    rows: list[Row]
    xmin: int
    oldest: int | None


class Ledger:
    """The jobs, as one term may read and change them.

    Args:
        term: whose session and token every statement uses.
    """

    def __init__(self, term: Term) -> None:
        self._term = term
        self._rows, self._row = term.backend.rows, term.backend.row
        self.staged: dict[str, int] = {}
        """Keys for which this leader made something pending, and where in line; the reader takes it."""

    def keyless(self, *, after: int, upto: int, mine: Sequence[uuid.UUID], rows: int, size: int) -> Keyless:
        """Read pending jobs without a key in (after, upto], by position: ``rows``, ``size`` bytes at most."""
        found = self._rows(
            KEYLESS, {"after": after, "upto": upto, "mine": list(mine), "rows": rows, "bytes": size}
        )
        return Keyless([Row(*r[2:]) for r in found if r[2] is not None], found[0][0], found[0][1])

    def mark(self, rows: Sequence[Row]) -> tuple[set[uuid.UUID], set[uuid.UUID]]:
        """Record that the broker confirmed ``rows``.

        Returns:
            The ids that are marked, and the ids that were locked and wait for another try. The others have
            moved on: their message overtook its mark.
        """
        marked = {r[0] for r in self._rows(MARK, idents(row.ident for row in rows) | self._fence())}
        left = [row.ident for row in rows if row.id not in marked]
        return marked, {job_id for job_id, _ in self.still_pending(left)}

    def still_pending(self, jobs: Iterable[Ident]) -> set[Ident]:
        """Return those that are pending in the very version that is named."""
        named = idents(jobs)
        return {(r[0], r[1]) for r in self._rows(STILL_PENDING, named)} if named["ids"] else set()

    def among(self, jobs: Iterable[Ident], *, mine: Sequence[uuid.UUID], rows: int) -> list[Row]:
        """Read the first ``rows`` of the named jobs that are pending, and not ``mine``."""
        values = idents(jobs) | {"mine": list(mine), "rows": rows}
        return [Row(*r) for r in self._rows(AMONG, values)]

    def park(self, rows: Sequence[Row], reason: str) -> int:
        """Set jobs of a destination that is down aside, with the broker's words; return how many."""
        return self._set_aside(rows, "parked", reason)

    def bury(self, rows: Sequence[Row], reason: str) -> int:
        """Give up jobs that the broker refuses by themselves; return how many."""
        return self._set_aside(rows, "dead", reason)

    def unpark(self, destination: str, rows: int) -> list[Row]:
        """Make the first ``rows`` parked jobs of a destination pending; return them, in line."""
        values = {"destination": destination, "rows": rows}
        return sorted(self._staged(self._rows(UNPARK, values | self._fence())), key=lambda row: row.pos)

    def stage_probe(self, destination: str, busy: Iterable[str]) -> Row | None:
        """Make one parked job of a destination pending and return it; None if none may go before others.

        Args:
            destination: as ``Row.destination`` spells it.
            busy: keys with a job in flight.
        """
        values = {"destination": destination, "busy": list(busy)}
        found = self._staged(self._rows(STAGE_PROBE, values | self._fence()))
        return found[0] if found else None

    def parked(self) -> list[tuple[str, str]]:
        """Return every destination that has parked jobs, with the words of the first."""
        return [(r[0], r[1] or "") for r in self._rows(PARKED)]

    def note(self, staged: Iterable[tuple[str | None, int]]) -> None:
        """Remember whom something was made pending for: (key, line) of each row that a statement staged."""
        for key, line in staged:
            if key is not None:
                self.staged[key] = min(line, self.staged.get(key, line))

    def _staged(self, found: Sequence[tuple[Any, ...]]) -> list[Row]:
        rows = [Row(*columns) for _, *columns in found]
        self.note((row.key, line) for row, (line, *_) in zip(rows, found, strict=True))
        return rows

    def _set_aside(self, rows: Sequence[Row], state: str, reason: str) -> int:
        values = {"state": state, "reason": reason[:2000]}
        return len(self._rows(SET_ASIDE, idents(row.ident for row in rows) | values | self._fence()))

    def _fence(self) -> dict[str, Any]:
        return {"token": self._term.token, "term": self._term.number}


def idents(jobs: Iterable[Ident]) -> dict[str, Any]:
    """Return ids and versions as the two arrays that the statements join on."""
    known = list(jobs)
    return {"ids": [job_id for job_id, _ in known], "versions": [version for _, version in known]}
