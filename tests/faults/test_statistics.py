"""A queue's table is full now and was empty a moment ago: what the planner believes must not cost a stall."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from relays import NOBODY, leading, settings

from relay.broker import Broker
from relay.chores import Chores
from relay.destinations import Destinations
from relay.ledger import Ledger
from relay.reader import Reader
from relay.routes import Routes
from relay.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from databases import Database

    from relay.term import Term

FILL = """
INSERT INTO outbox.job (id, kind, key, payload, state, attempt, lease_until, published_at, finished_at)
SELECT gen_random_uuid(), 'kind ' || n %% 3, CASE WHEN n %% 2 = 0 THEN 'key ' || n %% 20000 END, '{}',
       s.state,
       s.attempt, CASE s.state WHEN 'running' THEN clock_timestamp() - interval '1 s' END,
       CASE s.state WHEN 'published' THEN clock_timestamp() - interval '1 day' END,
       CASE WHEN s.state IN ('succeeded', 'dead') THEN clock_timestamp() - interval '1 year' END
FROM generate_series(1, %s) n, (VALUES
    ('pending', 0), ('pending', 0), ('parked', 0), ('scheduled', 1), ('running', 1), ('published', 0),
    ('succeeded', 1), ('dead', 1)) s (state, attempt)
"""
SLOW = 0.5
"""Seconds: a hundred times what each statement needs, and a quarter of what it may take."""


def timed(term: Term) -> dict[str, float]:
    """Note the longest time that each of the term's statements takes."""
    slowest: dict[str, float] = {}
    run = term.backend.rows

    def rows(sql: str, params: Any = None) -> list[tuple[Any, ...]]:
        began = time.perf_counter()
        try:
            return run(sql, params)
        finally:
            name = " ".join(sql.split())[:200]
            slowest[name] = max(slowest.get(name, 0.0), time.perf_counter() - began)

    term.backend.rows = rows  # type: ignore[method-assign]
    return slowest


def forget(database: Database) -> None:
    """Believe the tables to be empty, as autovacuum does that passes while a large transaction is open."""
    database.execute("UPDATE pg_class SET reltuples = 0 WHERE relnamespace = 'outbox'::regnamespace")


def learn(database: Database) -> None:
    """Believe that a moment ago, when nothing waited, was for ever."""
    database.execute("ANALYZE outbox.job, outbox.transition")


@pytest.mark.measured
@pytest.mark.parametrize("belief", [forget, learn])
def test_no_statement_is_slow_whatever_the_planner_believes(
    database: Database, belief: Callable[[Database], None]
) -> None:
    database.execute("ALTER TABLE outbox.job SET (autovacuum_enabled = off)")
    database.execute("INSERT INTO outbox.taker VALUES ('kind 1', 'queue')")
    belief(database)
    with database.connect() as connection:
        connection.execute("SET session_replication_role = replica")  # states that no INSERT may have
        connection.execute(FILL, (15_000,))
    if belief is forget:
        belief(database)
    with leading(database) as term:
        slowest = timed(term)
        _work(term, settings(database, retention=3600.0))
    assert not {name: seconds for name, seconds in slowest.items() if seconds > SLOW}


def _work(term: Term, chosen: Any) -> None:
    ledger, window = Ledger(term), Window(1000, 8_000_000)
    reader = Reader(ledger, term, chosen)
    rows = [row for _ in range(4) for row in reader.fetch(window)]
    ledger.mark(rows[:900])
    ledger.park(rows[900:950], "down")
    ledger.bury(rows[950:960], "refused")
    ledger.still_pending([row.ident for row in rows])
    ledger.among({row.ident for row in rows}, mine=[], rows=1)
    down = Destinations(ledger.parked())
    for destination in down.down:
        assert ledger.stage_probe(destination, ["key 2"])
        down.probing(destination, sent=True)
        down.confirmed(destination)
    broker = Broker(NOBODY, Routes("outbox", ()), window, lambda _: None)
    broker.depth = lambda _: 0  # type: ignore[method-assign] # as a broker that lost its messages
    chores = Chores(
        term=term, ledger=ledger, broker=broker, destinations=down, settings=chosen, observe=lambda _: None
    )
    for _, chore in chores._chores:
        chore()
