"""What the leader does beside publishing, in small batches: stage, rescue, redeliver, prune, unpark, fire.

None of it needs the broker but the look into a queue before redelivering. Its SQL is here, under the ledger's
rules: ``SKIP LOCKED``, on the lock's session, fenced by the token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outbox import events
from relay.backend import Postponed
from relay.ledger import FENCED
from relay.scheduler import Scheduler
from relay.term import clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from outbox.events import Observer
    from relay.broker import Broker
    from relay.config import Settings
    from relay.destinations import Destinations
    from relay.ledger import Ledger
    from relay.term import Term

BATCH: Final = 500
SLICE: Final = 0.05
"""Seconds of chores in a row; a window must not wait for a long prune."""
SHARE: Final = 20
"""A slow chore rests for so many times its own time: beside a million dead rows the mere look takes long."""
ALIGN_EVERY: Final = 10.0

STAGE: Final = f"""
WITH {FENCED}, d AS MATERIALIZED (
    SELECT ctid AS spot FROM outbox.job WHERE state = 'scheduled' AND available_at <= statement_timestamp()
       AND EXISTS (SELECT FROM f)
    ORDER BY available_at LIMIT %(rows)s FOR NO KEY UPDATE SKIP LOCKED)
UPDATE outbox.job j SET state = 'pending', version = j.version + 1,
    first_pos = coalesce(j.first_pos, j.pos), pos = DEFAULT
FROM d WHERE j.ctid = d.spot RETURNING j.key, j.line
"""

RESCUE: Final = f"""
WITH {FENCED}, d AS MATERIALIZED (
    SELECT ctid AS spot FROM outbox.job WHERE state = 'running' AND lease_until < statement_timestamp()
       AND EXISTS (SELECT FROM f)
    ORDER BY lease_until LIMIT %(rows)s FOR NO KEY UPDATE SKIP LOCKED)
UPDATE outbox.job j SET version = j.version + 1, available_at = clock_timestamp(),
    state = CASE WHEN j.attempt >= j.max_attempts THEN 'dead' ELSE 'scheduled' END,
    error = 'the lease ran out: the consumer died, stood still, or lost the database'
FROM d WHERE j.ctid = d.spot RETURNING j.state
"""

OVERDUE: Final = """
SELECT t.kind, t.queue FROM outbox.taker t WHERE (
    SELECT j.published_at FROM outbox.job j
     WHERE j.state = 'published' AND j.tracked AND j.kind = t.kind ORDER BY j.published_at LIMIT 1
) < statement_timestamp() - make_interval(secs => %(after)s)
"""

# The version stays: whichever copy arrives does the work, and a slow consumer is not made stale again and
# again. A job that a handler has claimed is left alone.
REDELIVER: Final = f"""
WITH {FENCED}, l AS MATERIALIZED (
    SELECT id, ctid AS spot FROM outbox.job WHERE state = 'published' AND tracked AND kind = %(kind)s
       AND EXISTS (SELECT FROM f)
       AND published_at < statement_timestamp() - make_interval(secs => %(after)s)
       AND published_at < statement_timestamp() - make_interval(secs => %(after)s) * (2 ^ least(sends - 1, 8))
    ORDER BY published_at LIMIT %(rows)s FOR NO KEY UPDATE SKIP LOCKED),
d AS MATERIALIZED (SELECT spot FROM l WHERE pg_try_advisory_xact_lock(hashtextextended(id::text, 0)))
UPDATE outbox.job j SET state = 'pending', sends = j.sends + 1,
    first_pos = coalesce(j.first_pos, j.pos), pos = DEFAULT
FROM d WHERE j.ctid = d.spot RETURNING j.key, j.line
"""

# An adopted event that failed once goes straight to its queue, and its kind has no taker. The oldest of each
# kind are looked at: in a kind of jobs that others take without ever finishing them, no more.
OVERDUE_ADOPTED: Final = """
WITH RECURSIVE k AS (
    (SELECT kind FROM outbox.job WHERE state = 'published' AND tracked ORDER BY kind LIMIT 1)
    UNION ALL
    SELECT (SELECT j.kind FROM outbox.job j WHERE j.state = 'published' AND j.tracked AND j.kind > k.kind
            ORDER BY j.kind LIMIT 1) FROM k WHERE k.kind IS NOT NULL)
SELECT DISTINCT k.kind, o.routing_key FROM k CROSS JOIN LATERAL (
    SELECT j.exchange, j.routing_key, j.attempt FROM outbox.job j
     WHERE j.state = 'published' AND j.tracked AND j.kind = k.kind
       AND j.published_at < statement_timestamp() - make_interval(secs => %(after)s)
    ORDER BY j.published_at LIMIT %(rows)s) o
WHERE o.exchange = '' AND o.attempt > 0
  AND NOT EXISTS (SELECT FROM outbox.taker t WHERE t.kind = k.kind)
"""
REDELIVER_ADOPTED: Final = REDELIVER.replace(
    "AND kind = %(kind)s",
    "AND kind = %(kind)s AND exchange = '' AND routing_key = %(queue)s AND attempt > 0",
)

PRUNE: Final = """
WITH d AS MATERIALIZED (
    SELECT id, ctid AS spot FROM outbox.job
     WHERE {what} < statement_timestamp() - make_interval(secs => %(after)s)
    ORDER BY {when} LIMIT %(rows)s FOR UPDATE SKIP LOCKED),
t AS (DELETE FROM outbox.transition WHERE job_id = ANY (ARRAY(SELECT id FROM d)))
DELETE FROM outbox.job j USING d WHERE j.ctid = d.spot RETURNING j.id
"""
PRUNE_JOBS: Final = PRUNE.format(
    what="state IN ('succeeded', 'cancelled') AND finished_at", when="finished_at"
)
PRUNE_EVENTS: Final = PRUNE.format(
    what="state = 'published' AND NOT tracked AND published_at", when="published_at"
)


class Chores:
    """The leader's chores, each when it is due.

    Args:
        term: whose session does them.
        ledger: brings parked jobs back.
        broker: looks into queues.
        destinations: tells whose jobs come back.
        settings: retention, redeliver_after (seconds), window (rows), schedules.
        observe: gets the events.
    """

    def __init__(
        self,
        *,
        term: Term,
        ledger: Ledger,
        broker: Broker,
        destinations: Destinations,
        settings: Settings,
        observe: Observer,
    ) -> None:
        self._term, self._ledger, self._broker = term, ledger, broker
        self._destinations, self._settings, self._observe = destinations, settings, observe
        self._scheduler = Scheduler(term.backend, settings.schedules, observe)
        # What is due soonest comes first; the number is seconds between two looks that found nothing.
        self._chores: list[tuple[float, Callable[[], bool]]] = [
            (0.2, self._stage),
            (0.05, self._unpark),
            (0.05, self._scheduler.run),
            (1.0, self._rescue),
            (min(5.0, settings.redeliver_after / 4), self._redeliver),
            (30.0, self._prune_jobs),
            (30.0, self._prune_events),
            (30.0, self._prune_slots),
            (ALIGN_EVERY, self._align),
        ]
        self._due = [0.0] * len(self._chores)

    def run(self) -> bool:
        """Do what is due, for about 50 ms at the most; return whether more waits."""
        began, more = clock(), False
        for n, (every, chore) in enumerate(self._chores):
            if clock() < self._due[n]:
                continue
            if clock() - began > SLICE:
                return True
            at = clock()
            unfinished = self._try(chore)
            more = more or unfinished
            self._due[n] = clock() + (0.0 if unfinished else max(every, SHARE * (clock() - at)))
        return more

    def _try(self, chore: Callable[[], bool]) -> bool:
        try:
            return chore()
        except Postponed:
            return False  # a lock or a time-out: the same rows are found again

    def _stage(self) -> bool:
        count = self._returned(STAGE)
        if count:
            self._observe(events.JobsStaged(count))
        return count == BATCH

    def _rescue(self) -> bool:
        states = [r[0] for r in self._rows(RESCUE)]
        if states:
            buried = states.count("dead")
            self._observe(events.JobsRescued(retried=len(states) - buried, buried=buried))
        return len(states) == BATCH

    def _redeliver(self) -> bool:
        """Send again what was published, never finished, and is in no queue any more."""
        after = {"after": self._settings.redeliver_after}
        depths: dict[str, int | None] = {}
        counts = [0]
        taken = [(REDELIVER, *found) for found in self._rows(OVERDUE, **after)]
        adopted = [(REDELIVER_ADOPTED, *found) for found in self._rows(OVERDUE_ADOPTED, **after)]
        for statement, kind, queue in (*taken, *adopted):
            self._term.beat()  # each look is a few round trips, and there may be many queues
            if queue not in depths:
                depths[queue] = self._broker.depth(queue)
            if depths[queue] == 0:
                counts.append(self._returned(statement, kind=kind, queue=queue, **after))
        if any(counts):
            self._observe(events.JobsRedelivered(sum(counts)))
        return max(counts) == BATCH

    def _prune_jobs(self) -> bool:
        return self._prune(PRUNE_JOBS)

    def _prune_events(self) -> bool:
        return self._prune(PRUNE_EVENTS)

    def _prune_slots(self) -> bool:
        return self._scheduler.prune(self._settings.retention, BATCH)

    def _prune(self, statement: str) -> bool:
        count = len(self._rows(statement, after=self._settings.retention))
        if count:
            self._observe(events.JobsPruned(count))
        return count == BATCH

    def _unpark(self) -> bool:
        """Bring the jobs of destinations that take messages again back, in line."""
        more, began = False, clock()
        for destination in self._destinations.to_recover():
            if clock() - began > SLICE:
                return True
            count = len(self._ledger.unpark(destination, BATCH))
            if count:
                self._observe(events.JobsUnparked(count))
            if count < BATCH:
                self._destinations.recovered(destination)
            more = more or count == BATCH
        return more

    def _align(self) -> bool:
        """See which destinations have parked jobs: one may have been locked when the others came back."""
        self._destinations.align(self._ledger.parked())
        return False

    def _returned(self, statement: str, **values: Any) -> int:
        """Make jobs pending, have the reader know whose, and return how many."""
        staged = self._rows(statement, **values)
        self._ledger.note((key, line) for key, line in staged)
        return len(staged)

    def _rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._term.backend.rows(statement, {"token": self._term.token, "rows": BATCH} | values)
