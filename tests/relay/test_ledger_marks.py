"""The relay's SQL that changes jobs: marks by version, setting aside, coming back in line."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from relays import add, row, states

from relay.ledger import Ledger

if TYPE_CHECKING:
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


def column(database: Database, job: uuid.UUID, name: str) -> Any:
    return database.execute(f"SELECT {name} FROM outbox.job WHERE id = '{job}'")[0][0]


def test_what_is_confirmed_is_published_at_the_same_version(
    database: Database, ledger: Ledger, term: Term
) -> None:
    jobs = add(database, 3)
    marked, locked = ledger.mark([row(id=job) for job in jobs[:2]])
    assert (marked, locked) == (set(jobs[:2]), set())
    assert states(database) == {"published": 2, "pending": 1}
    assert column(database, jobs[0], "version") == 1
    assert column(database, jobs[0], "published_term") == term.number
    assert column(database, jobs[0], "published_at") is not None
    assert database.value("SELECT count(*) FROM outbox.transition") == 0


def test_a_mark_names_the_version(database: Database, ledger: Ledger) -> None:
    """The job failed and was staged again meanwhile: version 3 was never sent."""
    (job,) = add(database)
    database.execute("UPDATE outbox.job SET state = 'scheduled', version = 2, attempt = 1 WHERE id = %s", job)
    database.execute("UPDATE outbox.leader SET pid = pg_backend_pid()")
    with database.connect() as leader:
        leader.execute("UPDATE outbox.leader SET pid = pg_backend_pid()")
        leader.execute("UPDATE outbox.job SET state = 'pending', version = 3 WHERE id = %s", [job])
    assert ledger.mark([row(id=job, version=1)]) == (set(), set())
    assert states(database) == {"pending": 1}


def test_a_mark_waits_for_no_lock_and_tells_locked_from_overtaken(database: Database, ledger: Ledger) -> None:
    locked, overtaken, free = add(database, 3)
    database.execute("UPDATE outbox.job SET state = 'succeeded', version = 2 WHERE id = %s", overtaken)
    with database.connect(autocommit=False) as handler:
        handler.execute("SELECT FROM outbox.job WHERE id = %s FOR UPDATE", [locked])
        rows = [row(id=job) for job in (locked, overtaken, free)]
        assert ledger.mark(rows) == ({free}, {locked})
        handler.rollback()
    assert ledger.mark([row(id=locked)]) == ({locked}, set())


def test_still_pending_is_asked_by_version(database: Database, ledger: Ledger) -> None:
    one, two = add(database, 2)
    database.execute("UPDATE outbox.job SET state = 'cancelled', version = 2 WHERE id = %s", two)
    named = {(one, 1), (one, 2), (two, 1), (two, 2), (uuid.uuid4(), 1)}
    assert ledger.still_pending(named) == {(one, 1)}
    assert ledger.still_pending([]) == set()


def test_suspects_are_read_by_name_whatever_their_lane(database: Database, ledger: Ledger) -> None:
    keyless, gone, keyed = add(database, 3, key=lambda n: "k" if n == 2 else None)
    database.execute("UPDATE outbox.job SET state = 'cancelled', version = 2 WHERE id = %s", gone)
    named = [(job, 1) for job in (keyless, gone, keyed)]
    assert ids(ledger.among(named, mine=[], rows=9)) == [keyless, keyed]
    assert ids(ledger.among(named, mine=[keyless], rows=9)) == [keyed]
    assert ids(ledger.among(named, mine=[], rows=1)) == [keyless]


@pytest.mark.parametrize(("verb", "state"), [("park", "parked"), ("bury", "dead")])
def test_what_is_set_aside_keeps_the_reason(
    database: Database, ledger: Ledger, verb: str, state: str
) -> None:
    job, other = add(database, 2)
    assert getattr(ledger, verb)([row(id=job), row(id=other, version=7)], "why" * 1000) == 1
    assert (column(database, job, "state"), column(database, job, "version")) == (state, 2)
    assert column(database, job, "error") == ("why" * 1000)[:2000]
    assert column(database, other, "state") == "pending"
    assert database.value('SELECT "to" FROM outbox.transition WHERE job_id = %s', job) == state


def test_parked_jobs_come_back_in_line_and_keep_their_place(database: Database, ledger: Ledger) -> None:
    jobs = add(database, 30)
    ledger.park(read(ledger), "down")
    assert ledger.parked() == [(row().destination, "down")]
    back = ledger.unpark(row().destination, 20)
    assert ids(back) == jobs[:20]
    assert {each.version for each in back} == {3}
    assert [column(database, job, "line") for job in jobs[:20]] == list(range(1, 21))
    assert ids(ledger.unpark(row().destination, 20)) == jobs[20:]
    assert ledger.parked() == []


def test_destinations_with_parked_jobs_are_told_once_each(database: Database, ledger: Ledger) -> None:
    for n in range(20):
        add(database, 5, kind=f"kind.{n % 4}", exchange="e" if n % 2 else None)
    ledger.park(read(ledger), "down")
    assert [destination for destination, _ in ledger.parked()] == sorted(
        {row(kind=f"kind.{n % 4}", exchange="e" if n % 2 else None).destination for n in range(4)}
    )


def test_a_probe_is_the_first_that_nothing_holds(database: Database, ledger: Ledger) -> None:
    busy, held, *_later = add(database, 4, key=lambda n: ("busy", "other", None, None)[n])
    ledger.park([*read(ledger), row(id=busy), row(id=held)], "down")
    probe = ledger.stage_probe(row().destination, ["busy"])
    assert probe is not None
    assert probe.id == held
    assert (probe.version, column(database, held, "state")) == (3, "pending")


def test_a_probe_does_not_pass_an_earlier_job_of_its_key(database: Database, ledger: Ledger) -> None:
    (first,) = add(database, kind="other", key="k")
    (second,) = add(database, key="k")
    ledger.park([row(id=second)], "down")
    database.execute(
        "UPDATE outbox.job SET state = 'scheduled', version = 2, attempt = 1 WHERE id = %s", first
    )
    assert ledger.stage_probe(row().destination, []) is None
    database.execute("UPDATE outbox.job SET state = 'dead', version = 3 WHERE id = %s", first)
    probe = ledger.stage_probe(row().destination, [])
    assert probe is not None
    assert probe.id == second


def test_no_probe_waits_for_a_lock(database: Database, ledger: Ledger) -> None:
    (job,) = add(database)
    ledger.park([row(id=job)], "down")
    with database.connect(autocommit=False) as operator:
        operator.execute("SELECT FROM outbox.job FOR UPDATE")
        assert ledger.stage_probe(row().destination, []) is None
        assert ledger.unpark(row().destination, 5) == []
        operator.rollback()
    assert ledger.stage_probe(row().destination, []) is not None
