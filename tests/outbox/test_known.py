"""A job can be looked up and cancelled by its id, whatever else happens to it meanwhile."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import DeclarativeBase, Session

import outbox
from outbox import known
from outbox.states import State
from outbox.transitions import AlreadyApplied, Applied, Illegal, Missing

if TYPE_CHECKING:
    from databases import Database

NOBODY = uuid.UUID(int=0)
CANCELLED = "UPDATE outbox.job SET state = 'cancelled', version = version + 1"


def test_a_job_is_found_in_the_transaction_that_added_it(session: Session) -> None:
    job_id = outbox.add(
        session, "order.paid", {"order_id": 7}, key="order:7", headers={"tenant": "a"}, max_attempts=3
    )
    job = known.get(session, job_id)
    assert job is not None
    assert (job.id, job.kind, job.key, job.payload) == (job_id, "order.paid", "order:7", {"order_id": 7})
    assert (job.headers, job.state, job.version) == ({"tenant": "a"}, State.PENDING, 1)
    assert (job.attempt, job.max_attempts, job.error) == (0, 3, None)


def test_nothing_is_found_of_a_job_that_is_not_there(session: Session) -> None:
    assert known.get(session, NOBODY) is None


def test_it_shows_what_the_job_is_now(database: Database, session: Session) -> None:
    job_id = outbox.add(session, "order.paid", {})
    session.commit()
    assert known.get(session, job_id)
    database.execute(CANCELLED)
    job = known.get(session, job_id)
    assert job
    assert (job.state, job.version) == (State.CANCELLED, 2)


def test_a_payload_that_is_no_json_is_given_as_bytes(session: Session) -> None:
    job = known.get(session, outbox.add(session, "image", b"\x89PNG", content_type="image/png"))
    assert job
    assert job.payload == b"\x89PNG"


def in_state(database: Database, session: Session, state: State, *, tracked: bool = True) -> uuid.UUID:
    (job_id,) = outbox.add_all(session, [{"kind": "k", "payload": {}, "tracked": tracked}])
    session.commit()
    with database.connect() as connection:
        connection.execute("SET session_replication_role = replica")  # past the guard
        connection.execute(
            "UPDATE outbox.job SET state = %s, version = 5, lease_until = '9998-01-01 UTC', finished_at = %s",
            [state, "now" if state in {"succeeded", "dead", "cancelled"} else None],
        )
    return job_id


@pytest.mark.parametrize(
    ("state", "result"),
    [
        (State.SCHEDULED, Applied(6)),
        (State.PENDING, Applied(6)),
        (State.PARKED, Applied(6)),
        (State.PUBLISHED, Applied(6)),
        (State.RUNNING, Illegal(State.RUNNING)),
        (State.SUCCEEDED, Illegal(State.SUCCEEDED)),
        (State.DEAD, Illegal(State.DEAD)),
        (State.CANCELLED, AlreadyApplied(5)),
    ],
)
def test_a_job_that_has_not_begun_can_be_cancelled(
    database: Database, session: Session, state: State, result: object
) -> None:
    job_id = in_state(database, session, state)
    assert known.cancel(session, job_id, "changed my mind") == result
    session.commit()
    job = known.get(session, job_id)
    assert job
    if isinstance(result, Applied):
        assert (job.state, job.error) == (State.CANCELLED, "changed my mind")
        assert database.value("SELECT note FROM outbox.transition") == "changed my mind"
    else:
        assert (job.state, job.version) == (state, 5)


def test_a_published_event_cannot_be_called_back(database: Database, session: Session) -> None:
    job_id = in_state(database, session, State.PUBLISHED, tracked=False)
    assert known.cancel(session, job_id) == Illegal(State.PUBLISHED)


def test_a_job_can_be_cancelled_in_the_transaction_that_added_it(session: Session) -> None:
    job_id = outbox.add(session, "order.paid", {})
    assert known.cancel(session, job_id) == Applied(2)


@pytest.mark.parametrize("wrong", ["x", "", 7, None])
def test_what_is_no_id_is_refused_before_any_sql(session: Session, wrong: Any) -> None:
    job_id = outbox.add(session, "order.paid", {})
    session.flush()
    for call in (known.get, known.cancel):
        with pytest.raises((TypeError, ValueError), match="a job's id is a UUID, not"):
            call(session, wrong)
    with pytest.raises((TypeError, ValueError), match="a job's id is a UUID, not"):
        outbox.transition(session, wrong, 1, "cancelled")
    assert known.get(session, str(job_id)).id == job_id  # type: ignore[arg-type, union-attr]


def test_cancelling_nothing_is_no_error(session: Session) -> None:
    assert known.cancel(session, NOBODY) == Missing()


def test_a_cancel_that_rolls_back_did_not_happen(database: Database, session: Session) -> None:
    job_id = outbox.add(session, "order.paid", {})
    session.commit()
    known.cancel(session, job_id)
    session.rollback()
    assert database.value("SELECT state FROM outbox.job") == "pending"


@pytest.mark.parametrize(
    ("move", "result"),
    [
        ("UPDATE outbox.job SET state = 'scheduled', version = 2", Applied(3)),
        (CANCELLED, AlreadyApplied(2)),
        ("DELETE FROM outbox.job", Missing()),
        ("UPDATE outbox.job SET state = 'published'", Applied(2)),
    ],
)
def test_a_job_that_moves_between_the_look_and_the_move_is_looked_at_again(
    database: Database, session: Session, move: Any, result: object
) -> None:
    job_id = outbox.add(session, "order.paid", {})
    session.commit()
    moves = [move]

    def somebody_else(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE") and moves:
            database.execute(moves.pop())

    event.listen(session.connection(), "before_cursor_execute", somebody_else)
    assert known.cancel(session, job_id) == result


@pytest.mark.parametrize("reason", ["two\nlines", "nul\0", "x" * 2_001, "", "\ud800"])
def test_a_reason_that_cannot_be_stored_is_refused_before_any_sql(session: Session, reason: str) -> None:
    job_id = outbox.add(session, "order.paid", {})
    with pytest.raises(ValueError, match="reason"):
        known.cancel(session, job_id, reason)
    assert session.execute(text("SELECT 1")).scalar() == 1


def test_a_session_whose_binds_leave_us_out_hears_what_to_add(database: Database) -> None:
    class Base(DeclarativeBase):
        pass

    with Session(binds={Base: database.engine}) as session:
        with pytest.raises(outbox.Misuse, match="add it to binds"):
            known.get(session, NOBODY)
        with pytest.raises(outbox.Misuse, match="add it to binds"):
            known.cancel(session, NOBODY)
