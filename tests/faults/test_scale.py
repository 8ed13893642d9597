"""What was sent long ago, and what waits behind one key, cost nobody else anything."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import pytest
from desk import Desk
from relays import add, leading

if TYPE_CHECKING:
    import psycopg
    from databases import Database
    from faults.figures import Figures

ADDED = """
INSERT INTO outbox.job (id, kind, key, payload)
SELECT gen_random_uuid(), 'a.b', CASE WHEN n % 2 = 0 THEN 'key ' || n % 2000 END, '{}'
FROM generate_series(1, 1000) n
RETURNING id
"""
MARKED = "UPDATE outbox.job SET state = 'published', published_at = clock_timestamp() WHERE id = ANY(%s)"
"""By id: a search for what is pending would walk over all that died before, a thousand times."""
HOLDERS = {
    "a snapshot held open": "SELECT count(*) FROM outbox.job",
    "a write transaction held open": "SELECT pg_current_xact_id(), (SELECT count(*) FROM outbox.job)",
}
ROUNDS = 100
PROMISED = 0.010
"""Seconds of a fetch beside any number of dead rows; on a busy machine, twice as long as without them."""


@pytest.mark.measured
@pytest.mark.timeout(600)
@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("dead", [30_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_dead_rows_cost_a_fetch_nothing(database: Database, dead: int, holder: str, figures: Figures) -> None:
    """No row that is marked leaves an index while somebody may still see it as it was."""
    with leading(database) as term:
        desk = Desk(database, term)
        begun(desk)
        without = statistics.median(busy(desk, database))
    with database.connect() as holding, holding.transaction():
        holding.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holding.execute(HOLDERS[holder])  # type: ignore[arg-type] # a constant of ours
        with database.connect() as filler:
            filler.execute("SET session_replication_role = replica")  # the mark of a relay that is no more
            for _ in range(dead // 1000):
                ids = [job for (job,) in filler.execute(ADDED)]
                filler.execute(MARKED, (ids,))
        with leading(database) as term:
            desk = Desk(database, term)
            first = begun(desk)
            took = busy(desk, database)
    middle, most = statistics.median(took), sorted(took)[ROUNDS * 95 // 100]
    figures.say(
        f"{dead} dead rows beside {holder}: a fetch {middle * 1000:.1f} ms ({without * 1000:.1f} ms without),"
        f" 95 of 100 within {most * 1000:.1f} ms; a new term's first {len(first)} rounds"
        f" took {sum(first) * 1000:.0f} ms in all"
    )
    assert middle <= max(PROMISED, 2 * without)


@pytest.mark.measured
@pytest.mark.timeout(300)
@pytest.mark.parametrize("waiting", [20_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_a_key_with_many_jobs_in_front_holds_up_no_other(
    database: Database, waiting: int, figures: Figures
) -> None:
    with leading(database) as term:
        desk = Desk(database, term)
        begun(desk)
        without = busy(desk, database)
    with database.connect() as connection:
        fill(connection, waiting)
    with leading(database) as term:
        desk = Desk(database, term)
        begun(desk)
        beside = busy(desk, database)
    before, after = (sorted(took)[ROUNDS * 95 // 100] for took in (without, beside))
    figures.say(
        f"95 of 100 fetches of other jobs within {before * 1000:.1f} ms, within {after * 1000:.1f} ms with "
        f"{waiting} jobs of one key in front"
    )
    assert after <= max(2 * before, PROMISED)


def fill(connection: psycopg.Connection, waiting: int) -> None:
    """Let jobs of one key wait."""
    connection.execute(
        "INSERT INTO outbox.job (id, kind, key, payload) "
        "SELECT gen_random_uuid(), 'a.b', 'hot', '{}' FROM generate_series(1, %s)",
        (waiting,),
    )


def busy(desk: Desk, database: Database) -> list[float]:
    """Add jobs, with and without keys, and fetch, send and mark them; return how long each fetch took."""
    took = []
    for n in range(ROUNDS):
        jobs = set(add(database, 40, key=lambda i, n=n: f"new {n % 10} {i}" if i % 2 else None))
        began = time.perf_counter()
        rows = desk.reader.fetch(desk.window)
        took.append(time.perf_counter() - began)
        desk.fly(rows)
        desk.confirm()
        assert jobs <= {row.id for row in rows}
    return took


def begun(desk: Desk) -> list[float]:
    """Publish until a new term knows what there is; return how long each round took."""
    took = []
    while not took or desk.reader.passing or desk.reader.catching_up:
        began = time.perf_counter()
        desk.publish()
        took.append(time.perf_counter() - began)
    return took
