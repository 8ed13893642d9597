"""No row says what cannot be, and no state changes without leaving a trace, whoever writes the SQL."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.errors import CheckViolation, Error, GeneratedAlways, NotNullViolation, UniqueViolation

from outbox.states import FINAL, INSERTABLE, NEXT_VERSION, SAME_VERSION, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from databases import Database


@pytest.fixture
def connection(database: Database) -> Iterator[psycopg.Connection]:
    """A connection of the leading relay: it alone may make a job pending."""
    with database.connect() as made:
        made.execute("UPDATE outbox.leader SET pid = pg_backend_pid()")
        yield made


def put(connection: psycopg.Connection, **columns: Any) -> uuid.UUID:
    row = {"id": uuid.uuid4(), "kind": "order.paid", "payload": b"{}"} | columns
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    connection.execute(f"INSERT INTO outbox.job ({names}) VALUES ({marks})", list(row.values()))
    return row["id"]


def move(connection: psycopg.Connection, to: State, step: int = 1, **columns: Any) -> None:
    """Move the one job there is."""
    if to is State.RUNNING:
        columns = {"lease_until": "9998-01-01 UTC", "lease_token": uuid.uuid4()} | columns
    sets = "".join(f", {name} = %s" for name in columns)
    moved = connection.execute(
        f"UPDATE outbox.job SET state = %s, version = version + %s{sets}", [to, step, *columns.values()]
    )
    assert moved.rowcount == 1


def value(connection: psycopg.Connection, what: str) -> Any:
    row = connection.execute(f"SELECT {what} FROM outbox.job").fetchone()
    assert row
    return row[0]


@pytest.mark.parametrize(
    ("columns", "error"),
    [
        ({"state": "waiting"}, CheckViolation),
        ({"kind": ""}, CheckViolation),
        ({"kind": "x" * 256}, CheckViolation),
        ({"kind": "order.*"}, CheckViolation),
        ({"kind": "order.#"}, CheckViolation),
        ({"kind": "a\nb"}, CheckViolation),
        ({"kind": None}, NotNullViolation),
        ({"key": ""}, CheckViolation),
        ({"payload": None}, NotNullViolation),
        ({"headers": "[]"}, CheckViolation),
        ({"headers": "1"}, CheckViolation),
        ({"version": 0}, CheckViolation),
        ({"attempt": -1}, CheckViolation),
        ({"max_attempts": 0}, CheckViolation),
        ({"sends": 0}, CheckViolation),
        ({"state": "running"}, CheckViolation),
        ({"state": "pending", "finished_at": "now"}, CheckViolation),
        ({"id": None}, NotNullViolation),
        ({"pos": 7}, GeneratedAlways),
        ({"line": 7}, GeneratedAlways),
    ],
)
def test_an_illegal_row_is_refused(
    connection: psycopg.Connection, columns: dict[str, Any], error: type[Error]
) -> None:
    with pytest.raises(error):
        put(connection, **columns)


def test_two_equal_jobs_do_not_wait_at_the_same_time(connection: psycopg.Connection) -> None:
    put(connection, unique_key="user:7")
    with pytest.raises(UniqueViolation):
        put(connection, unique_key="user:7", state="scheduled")
    put(connection, unique_key="user:7", kind="other")


@pytest.mark.parametrize(
    "change",
    [
        "id = gen_random_uuid()",
        "kind = 'other'",
        "key = 'other'",
        "payload = 'other'",
        "content_type = 'text/plain'",
        "tracked = false",
        "xid = pg_current_xact_id()",
    ],
)
def test_what_a_job_is_never_changes(connection: psycopg.Connection, change: str) -> None:
    put(connection)
    with pytest.raises(CheckViolation, match="never changes"):
        connection.execute(f"UPDATE outbox.job SET {change}")


def test_only_a_final_job_has_finished(connection: psycopg.Connection) -> None:
    put(connection)
    move(connection, State.DEAD)
    assert value(connection, "finished_at <= clock_timestamp()")
    move(connection, State.SCHEDULED)
    assert value(connection, "finished_at") is None


def test_only_a_running_job_has_a_lease(connection: psycopg.Connection) -> None:
    put(connection)
    move(connection, State.RUNNING)
    assert value(connection, "lease_token")
    move(connection, State.SCHEDULED)
    assert value(connection, "(lease_until, lease_token)") == (None, None)


def test_a_job_that_waits_again_lets_an_equal_one_that_came_since_keep_the_key(
    connection: psycopg.Connection,
) -> None:
    first = put(connection, unique_key="user:7")
    move(connection, State.DEAD)
    put(connection, unique_key="user:7")
    connection.execute(
        "UPDATE outbox.job SET state = 'scheduled', version = version + 1 WHERE id = %s", [first]
    )
    kept = connection.execute("SELECT unique_key FROM outbox.job ORDER BY pos").fetchall()
    assert kept == [(None,), ("user:7",)]


def test_a_job_staged_again_keeps_its_place_in_its_keys_line(connection: psycopg.Connection) -> None:
    put(connection, key="order:7", state="scheduled")
    before = value(connection, "pos")
    connection.execute("UPDATE outbox.job SET state = 'pending', version = 2, first_pos = pos, pos = DEFAULT")
    assert value(connection, "pos") > before
    assert value(connection, "line") == before


STEPS = {start: sorted(to for was, to in NEXT_VERSION if was is start) for start in State}
MARKS = dict(SAME_VERSION)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_log_has_a_row_for_each_version_after_the_first(
    connection: psycopg.Connection, data: st.DataObject
) -> None:
    connection.execute("TRUNCATE outbox.job, outbox.transition")
    state = data.draw(st.sampled_from(sorted(INSERTABLE)))
    put(connection, state=state, lease_until="9998-01-01 UTC" if state is State.RUNNING else None)
    path = []
    for _ in range(data.draw(st.integers(0, 12))):
        marks = [MARKS[state]] if state in MARKS else []
        to = data.draw(st.sampled_from(STEPS[state] + marks))
        same = (state, to) in SAME_VERSION
        move(connection, to, 0 if same else 1)
        if not same:
            path.append((len(path) + 2, state, to))
        state = to
    log = connection.execute('SELECT version, "from", "to" FROM outbox.transition ORDER BY 1').fetchall()
    assert log == path
    assert value(connection, "version") == 1 + len(log)
    assert (value(connection, "finished_at") is not None) == (state in FINAL)


def test_the_log_says_who_and_why(database: Database, connection: psycopg.Connection) -> None:
    put(connection)
    move(connection, State.SCHEDULED, error="timeout")
    move(connection, State.PENDING)
    with connection.transaction():
        connection.execute(
            "SELECT set_config('outbox.by', 'ada', true), set_config('outbox.note', 'why', true)"
        )
        move(connection, State.DEAD, error="refused")
    log = connection.execute("SELECT by, note FROM outbox.transition ORDER BY version").fetchall()
    user = database.value("SELECT session_user")
    assert log == [(user, "timeout"), (user, None), ("ada", "why")]
