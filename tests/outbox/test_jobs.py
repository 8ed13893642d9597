"""A job is written with the caller's rows or not at all, and the call itself does no I/O."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from helpers import eventually
from sqlalchemy import create_engine, event, select
from sqlalchemy.orm import Session

import outbox
from outbox import models
from outbox.models import JobRow

if TYPE_CHECKING:
    from databases import Database
    from sqlalchemy import Row


def committed(session: Session) -> Row[Any]:
    """Commit, and return the one row there is."""
    session.commit()
    return session.execute(select(models.job)).one()


def test_it_does_no_io() -> None:
    nowhere = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    with Session(nowhere) as session:
        job_id = outbox.add(session, "order.paid", {"order_id": 7}, key="order:7", delay=60)
        outbox.emit(session, "order.paid", {})
        outbox.add_all(session, [{"kind": "order.paid", "payload": {}}])
        assert len(session.new) == 3
        assert job_id in {row.id for row in session.new}


def test_it_returns_an_id_of_version_7_that_the_commit_does_not_expire(session: Session) -> None:
    job_id = outbox.add(session, "order.paid", {})
    assert committed(session).id == job_id
    assert type(job_id) is uuid.UUID
    assert job_id.version == 7


def test_a_job_is_pending_and_has_the_tables_defaults(session: Session) -> None:
    outbox.add(session, "order.paid", {"order_id": 7})
    row = committed(session)
    assert (row.kind, row.payload, row.content_type) == (
        "order.paid",
        b'{"order_id":7}',
        "application/json",
    )
    assert (row.state, row.version, row.attempt, row.max_attempts, row.sends) == ("pending", 1, 0, 20, 1)
    assert (row.tracked, row.headers) == (True, {})
    assert (row.key, row.exchange, row.routing_key, row.unique_key) == (None, None, None, None)


def test_every_option_is_stored(session: Session) -> None:
    outbox.add(
        session,
        "image.shrink",
        b"\x89PNG",
        key="image:7",
        headers={"tenant": "é"},
        max_attempts=3,
        exchange="media",
        routing_key="shrink.fast",
        content_type="image/png",
    )
    row = committed(session)
    assert (row.payload, row.content_type) == (b"\x89PNG", "image/png")
    assert (row.key, row.headers, row.max_attempts) == ("image:7", {"tenant": "é"}, 3)
    assert (row.exchange, row.routing_key) == ("media", "shrink.fast")


def test_a_route_may_be_given_in_part_and_may_be_empty(session: Session) -> None:
    outbox.add(session, "one", {}, exchange="")
    outbox.add(session, "two", {}, routing_key="x" * 255)
    session.commit()
    rows = session.execute(select(JobRow.exchange, JobRow.routing_key).order_by(JobRow.pos)).all()
    assert rows == [("", None), (None, "x" * 255)]


def test_the_largest_allowed_texts_fit_every_index(session: Session) -> None:
    noise = "".join(chr(0x4E00 + number * 37 % 20_000) for number in range(341)) + "x"
    assert len(noise.encode()) == 1_024
    outbox.add(session, noise[:85], {}, key=noise, exchange=noise[85:170], routing_key=noise[170:255])
    assert outbox.add_unique(session, noise[:85], {}, unique=noise, key=noise, delay=1)
    session.commit()


def test_an_event_is_not_tracked(session: Session) -> None:
    outbox.emit(session, "order.paid", {"order_id": 7}, key="order:7")
    row = committed(session)
    assert (row.tracked, row.state, row.key) == (False, "pending", "order:7")


def test_it_is_one_statement(session: Session) -> None:
    sent: list[bool] = []
    event.listen(session.connection(), "before_cursor_execute", lambda *given: sent.append(given[-1]))
    ids = outbox.add_all(
        session,
        [{"kind": "order.paid", "payload": {"n": n}, "key": f"order:{n}"} for n in range(500)],
    )
    session.flush()
    assert sent == [True]  # executemany
    rows = session.execute(select(models.job.c.id, models.job.c.key).order_by(models.job.c.pos)).all()
    assert rows == [(job_id, f"order:{n}") for n, job_id in enumerate(ids)]


def test_it_takes_events_too(session: Session) -> None:
    outbox.add_all(session, [{"kind": "order.paid", "payload": {}, "tracked": False}])
    assert committed(session).tracked is False


def test_the_second_is_skipped_and_the_transaction_goes_on(session: Session) -> None:
    first = outbox.add_unique(session, "mail", {"n": 1}, unique="user:7")
    assert isinstance(first, outbox.Added)
    second = outbox.add_unique(session, "mail", {"n": 2}, unique="user:7", delay=60, key="user:7")
    assert second == outbox.Skipped("mail", "user:7")
    assert first
    assert not second
    outbox.add(session, "other", {})
    session.commit()
    assert session.scalars(select(JobRow.kind).order_by(JobRow.pos)).all() == ["mail", "other"]
    assert session.get_one(JobRow, first.id).unique_key == "user:7"


def test_it_is_one_statement_without_returning(session: Session) -> None:
    sent: list[str] = []
    event.listen(session.connection(), "before_cursor_execute", lambda *given: sent.append(given[2]))
    outbox.add_unique(session, "mail", {}, unique="user:7")
    assert len(sent) == 1
    assert sent[0].endswith("ON CONFLICT DO NOTHING")


def test_kinds_do_not_disturb_one_another(session: Session) -> None:
    for kind in ("mail", "letter"):
        assert isinstance(outbox.add_unique(session, kind, {}, unique="user:7"), outbox.Added)


@pytest.mark.parametrize(
    ("state", "waits"), [("pending", True), ("published", False), ("running", False), ("dead", False)]
)
def test_only_a_waiting_job_counts(database: Database, session: Session, state: str, waits: bool) -> None:
    outbox.add_unique(session, "mail", {}, unique="user:7")
    session.commit()
    if state in {"published", "running", "dead"}:
        database.execute("UPDATE outbox.job SET state = 'published'")
    if state in {"running", "dead"}:
        database.execute(
            "UPDATE outbox.job SET version = 2, state = %s, lease_until = now() + '1 min'", state
        )
    again = outbox.add_unique(session, "mail", {}, unique="user:7")
    assert isinstance(again, outbox.Skipped if waits else outbox.Added)


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_it_waits_for_an_equal_job_whose_transaction_is_open(database: Database, ending: str) -> None:
    answers: list[object] = []

    def other() -> None:
        with Session(database.engine) as session, session.begin():
            answers.append(outbox.add_unique(session, "mail", {}, unique="user:7"))

    with Session(database.engine) as session:
        outbox.add_unique(session, "mail", {}, unique="user:7")
        thread = threading.Thread(target=other)
        thread.start()
        eventually(
            lambda: database.value(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND datname = current_database()"
            )
        )
        getattr(session, ending)()
    thread.join(10)
    (answer,) = answers
    assert isinstance(answer, outbox.Skipped if ending == "commit" else outbox.Added)
    assert database.value("SELECT count(*) FROM outbox.job") == 1


def test_it_serves_those_who_have_a_connection(database: Database) -> None:
    job_id = uuid.uuid4()
    with database.engine.begin() as connection:
        connection.execute(outbox.insert("order.paid", {"n": 1}, id=job_id, key="order:7", delay=60))
        connection.execute(outbox.insert("order.paid", {"n": 2}, tracked=False))
        rows = connection.execute(select(models.job).order_by(models.job.c.pos)).all()
    assert [(row.id == job_id, row.state, row.tracked) for row in rows] == [
        (True, "scheduled", True),
        (False, "pending", False),
    ]


def test_it_rolls_back_with_its_transaction(database: Database) -> None:
    with database.engine.connect() as connection:
        connection.execute(outbox.insert("order.paid", {}))
        connection.rollback()
    assert database.value("SELECT count(*) FROM outbox.job") == 0


def test_it_takes_clauses_of_postgresql(database: Database) -> None:
    with database.engine.begin() as connection:
        once = outbox.insert("order.paid", {}, id=uuid.UUID(int=7)).on_conflict_do_nothing()
        assert [connection.execute(once).rowcount for _ in range(2)] == [1, 0]
