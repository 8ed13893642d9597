"""The relay's SQL that reads jobs: bounded in rows and bytes. On a real database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from relays import add

from relay.ledger import Ledger

if TYPE_CHECKING:
    import uuid

    from databases import Database

    from relay.row import Row
    from relay.term import Term

ALL = {"after": 0, "upto": 2**62, "mine": [], "rows": 1000, "size": 10**9}


@pytest.fixture
def ledger(term: Term) -> Ledger:
    return Ledger(term)


def read(ledger: Ledger, **changes: Any) -> list[Row]:
    return ledger.keyless(**(ALL | changes)).rows


def ids(rows: list[Row]) -> list[uuid.UUID]:
    return [each.id for each in rows]


def test_pending_jobs_without_a_key_are_read_by_position(database: Database, ledger: Ledger) -> None:
    jobs = add(database, 5)
    add(database, key="k")
    add(database, state="scheduled", available_at="2100-01-01")
    assert ids(read(ledger)) == jobs
    assert ids(read(ledger, after=2, upto=4)) == jobs[2:4]
    assert ids(read(ledger, mine=[jobs[1], jobs[3]])) == [jobs[0], jobs[2], jobs[4]]
    assert ids(read(ledger, rows=2)) == jobs[:2]


def test_bytes_are_bounded_in_sql_and_one_large_job_still_goes(database: Database, ledger: Ledger) -> None:
    jobs = add(database, 4, payload=lambda n: b"x" * (1000 if n else 5000))
    assert ids(read(ledger, size=1)) == jobs[:1]
    assert ids(read(ledger, size=6500)) == jobs[:2]
    assert ids(read(ledger, size=7000)) == jobs[:3]
    assert ids(read(ledger, size=2500, after=1)) == jobs[1:3]


def test_a_read_tells_the_oldest_of_its_range_in_flight_or_not(database: Database, ledger: Ledger) -> None:
    jobs = add(database, 3)
    found = ledger.keyless(**(ALL | {"mine": jobs}))
    assert (found.rows, found.oldest) == ([], 1)
    assert ledger.keyless(**(ALL | {"after": 1})).oldest == 2
    assert ledger.keyless(**(ALL | {"after": 3})).oldest is None


def test_a_read_and_its_horizon_are_of_one_moment(database: Database, ledger: Ledger) -> None:
    with database.connect(autocommit=False) as writer:
        writer.execute("SELECT outbox.add('a.b', '{}')")
        (xid,) = writer.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() or (0,)
        found = ledger.keyless(**ALL)
        assert found.rows == []
        assert found.xmin <= xid
        writer.commit()
    assert len(ledger.keyless(**ALL).rows) == 1
