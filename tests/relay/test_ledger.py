"""The relay's SQL that reads jobs: bounded in rows and bytes, heads of keys, holds. On a real database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from relays import add, row

from relay.ledger import Ledger

if TYPE_CHECKING:
    import uuid

    from databases import Database

    from relay.row import Row
    from relay.term import Term

ALL = {"after": 0, "upto": 2**62, "mine": [], "rows": 1000, "size": 10**9}
HEADS = {
    "after": "", "busy": [], "mine": [], "rows": 100, "size": 10**9, "depth": 1, "serial": False,
}  # fmt: skip


@pytest.fixture
def ledger(term: Term) -> Ledger:
    return Ledger(term)


def read(ledger: Ledger, **changes: Any) -> list[Row]:
    return ledger.keyless(**(ALL | changes)).rows


def heads(ledger: Ledger, **changes: Any) -> list[uuid.UUID]:
    return [each.id for each in ledger.keyed(**(HEADS | changes)).rows]


def ids(rows: list[Row]) -> list[uuid.UUID]:
    return [each.id for each in rows]


def column(database: Database, job: uuid.UUID, name: str) -> Any:
    return database.execute(f"SELECT {name} FROM outbox.job WHERE id = '{job}'")[0][0]


# --- reading: jobs without a key ---


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


# --- reading: heads of keys ---


def test_one_head_a_key_is_read_in_line(database: Database, ledger: Ledger) -> None:
    jobs = add(database, 9, key=lambda n: "abc"[n % 3])
    add(database)
    assert heads(ledger) == jobs[:3]
    assert heads(ledger, busy=["a"]) == jobs[1:3]
    assert heads(ledger, mine=[jobs[1]]) == [jobs[0], jobs[4], jobs[2]]
    assert heads(ledger, depth=2) == [jobs[0], jobs[3], jobs[1], jobs[4], jobs[2], jobs[5]]


def test_the_next_read_goes_on_where_one_was_cut_short(database: Database, ledger: Ledger) -> None:
    jobs = add(database, 10, key=lambda n: f"k{n}")
    first = ledger.keyed(**(HEADS | {"rows": 4}))
    assert (ids(first.rows), first.after) == (jobs[:4], "k3")
    second = ledger.keyed(**(HEADS | {"rows": 100, "after": "k3"}))
    assert (ids(second.rows), second.after) == (jobs[4:], "")


def test_a_read_that_bytes_cut_short_goes_on_after_its_last_key(database: Database, ledger: Ledger) -> None:
    jobs = add(database, 5, key=lambda n: f"k{n}", payload=b"x" * 100)
    found = ledger.keyed(**(HEADS | {"size": 250}))
    assert (ids(found.rows), found.after) == (jobs[:2], "k1")
    found = ledger.keyed(**(HEADS | {"size": 1}))
    assert (ids(found.rows), found.after) == (jobs[:1], "k0")


def test_held_keys_hide_no_other(database: Database, ledger: Ledger) -> None:
    """A read visits so many keys and no more; the next one goes on behind them."""
    add(database, 300, key=lambda n: f"k{n:03}")
    busy = [f"k{n:03}" for n in range(299)]
    found, after, reads = [], "", 0
    while not found and reads < 10:
        got = ledger.keyed(**(HEADS | {"rows": 10, "busy": busy, "after": after}))
        found, after, reads = got.rows, got.after, reads + 1
    assert [each.key for each in found] == ["k299"]
    assert reads == 3


def test_a_parked_or_retried_job_holds_those_behind_it(database: Database, ledger: Ledger) -> None:
    first, second, third = add(database, 3, key="k")
    assert heads(ledger) == [first]
    ledger.park([row(id=first)], "down")
    assert heads(ledger) == []
    database.execute("UPDATE outbox.job SET state = 'cancelled', version = 3 WHERE id = %s", first)
    assert heads(ledger) == [second]
    retry = "UPDATE outbox.job SET state = 'scheduled', version = version + 1, attempt = 1 WHERE id = %s"
    database.execute(retry, second)
    assert heads(ledger) == []
    database.execute("UPDATE outbox.job SET state = 'dead', version = version + 1 WHERE id = %s", second)
    assert heads(ledger) == [third], "a dead one does not hold"


def test_an_applications_delay_does_not_hold(database: Database, ledger: Ledger) -> None:
    add(database, key="k", state="scheduled", available_at="2100-01-01")
    (later,) = add(database, key="k")
    assert heads(ledger) == [later]


def test_a_job_staged_again_is_before_those_that_came_later(database: Database, ledger: Ledger) -> None:
    first, _second = add(database, 2, key="k")
    ledger.park([row(id=first)], "down")
    ledger.unpark(row().destination, 10)
    assert heads(ledger) == [first]
    assert column(database, first, "pos") > column(database, first, "line")


def test_serial_holds_a_key_until_its_job_is_final(database: Database, ledger: Ledger) -> None:
    first, second = add(database, 2, key="k")
    ledger.mark([row(id=first)])
    assert heads(ledger) == [second]
    assert heads(ledger, serial=True) == []
    database.execute("UPDATE outbox.job SET state = 'succeeded', version = 2 WHERE id = %s", first)
    assert heads(ledger, serial=True) == [second]


def test_serial_waits_for_no_event(database: Database, ledger: Ledger) -> None:
    first, second = add(database, 2, key="k", tracked=False)
    ledger.mark([row(id=first)])
    assert heads(ledger, serial=True) == [second]


@pytest.mark.parametrize("key", ["ключ", "😀", "a'b", "A", "\x7f", "k" * 1000])
def test_any_key_is_passed_in_byte_order(database: Database, ledger: Ledger, key: str) -> None:
    add(database, 2, key=key)
    add(database, key="b")
    seen, after = [], ""
    for _ in range(3):
        got = ledger.keyed(**(HEADS | {"rows": 1, "after": after}))
        seen += [each.key for each in got.rows]
        after = got.after
    assert seen[:2] == sorted(["b", key], key=str.encode)
