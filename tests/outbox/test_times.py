"""Times that Python cannot hold stay out of the table: nobody could read them, nor those behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import relays
from psycopg.errors import CheckViolation
from sqlalchemy import select
from sqlalchemy.orm import Session

import outbox
from outbox.transitions import due_in

if TYPE_CHECKING:
    from databases import Database

COLUMNS = ("created_at", "available_at", "published_at", "started_at", "lease_until")


@pytest.mark.parametrize(
    "moment", ["infinity", "-infinity", "9999-01-01 UTC", "1969-12-31 UTC", "0001-01-01 BC"]
)
@pytest.mark.parametrize("column", COLUMNS)
def test_a_time_out_of_range_is_refused(database: Database, column: str, moment: str) -> None:
    with pytest.raises(CheckViolation, match="job_times_in_range"):
        relays.add(database, **{column: moment})
    (job_id,) = relays.add(database)
    with pytest.raises(CheckViolation, match="job_times_in_range"):
        database.execute(f"UPDATE outbox.job SET {column} = %s WHERE id = %s", moment, job_id)  # type: ignore[arg-type]


def test_the_time_of_the_end_is_the_databases(database: Database) -> None:
    (job_id,) = relays.add(database)
    database.execute("UPDATE outbox.job SET state = 'dead', version = 2, finished_at = 'infinity'")
    assert database.value("SELECT finished_at < '9999-01-01 UTC' FROM outbox.job WHERE id = %s", job_id)
    with pytest.raises(CheckViolation, match="job_times_in_range"):
        database.execute("UPDATE outbox.job SET finished_at = 'infinity'")


@pytest.mark.parametrize("delay", ["9000 years", "365001 days", "-1 second"])
@pytest.mark.parametrize("function", ["add", "emit"])
def test_the_functions_refuse_the_delays_that_the_library_refuses(
    database: Database, function: str, delay: str
) -> None:
    with pytest.raises(CheckViolation, match=r"outbox: delay is .*, not between 0 and 365000 days"):
        database.execute(f"SELECT outbox.{function}('ok', '{{}}', delay => %s)", delay)  # type: ignore[arg-type]
    assert database.value("SELECT count(*) FROM outbox.job") == 0


@pytest.mark.parametrize("delay", ["0", "365000 days", None])
def test_the_edges_are_taken(database: Database, delay: str | None) -> None:
    assert database.value("SELECT outbox.add('ok', '{}', delay => %s::interval)", delay)


def test_a_wait_that_no_table_takes_is_the_longest(database: Database) -> None:
    with Session(database.engine) as session:
        due = session.scalar(select(due_in(1e300)))
    assert due.year < 9999


def test_a_transition_takes_the_same_delays(database: Database) -> None:
    (job_id,) = relays.add(database)
    with Session(database.engine) as session:
        for wrong in ({"delay": -1.0}, {"delay": 1e12}, {"available_at": due_in(1)}):
            with pytest.raises((TypeError, ValueError), match=r"(delay|at) is"):
                outbox.transition(session, job_id, 1, "scheduled", **wrong)
        assert outbox.transition(session, job_id, 1, "scheduled", delay=60.0)
