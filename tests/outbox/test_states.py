"""The table of transitions in the code and the one in the database are the same, cell by cell."""

from __future__ import annotations

import itertools
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.errors import CheckViolation

from outbox.states import FINAL, INSERTABLE, NEXT_VERSION, SAME_VERSION, TRANSITIONS, WAITING, State, sources

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from databases import Database

VERSION = 5
STEPS = (-1, 0, 1, 2, 7)

Cell = tuple[State, State, int]


@pytest.fixture
def connection(database: Database) -> Iterator[psycopg.Connection]:
    """A connection of the leading relay: it alone may make a job pending."""
    with database.connect() as made:
        made.execute("UPDATE outbox.leader SET pid = pg_backend_pid()")
        yield made


def put(connection: psycopg.Connection, state: State, **columns: Any) -> uuid.UUID:
    """Insert a job in any state and version, past the triggers."""
    row = {"id": uuid.uuid4(), "kind": "order.paid", "payload": b"{}", "state": state, "version": VERSION}
    row["lease_until"] = "9998-01-01 UTC" if state is State.RUNNING else None
    row["finished_at"] = "now" if state in FINAL else None
    row |= columns
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    connection.execute("SET session_replication_role = replica")
    connection.execute(f"INSERT INTO outbox.job ({names}) VALUES ({marks})", list(row.values()))
    connection.execute("SET session_replication_role = origin")
    return row["id"]


def moves(connection: psycopg.Connection, start: State, to: State, step: int) -> bool:
    """Try one cell; nothing of it stays."""
    try:
        with connection.transaction(force_rollback=True):
            moved = connection.execute(
                "UPDATE outbox.job SET state = %s, version = version + %s, lease_until = '9998-01-01 UTC'"
                " WHERE id = %s",
                (to, step, put(connection, start)),
            )
            return moved.rowcount == 1
    except CheckViolation:
        return False


def allowed(connection: psycopg.Connection) -> set[Cell]:
    cells = itertools.product(State, State, STEPS)
    return {(start, to, step) for start, to, step in cells if moves(connection, start, to, step)}


NOTHING_MOVES = {(state, state, 0) for state in State}
THE_TABLE = {(*pair, 0) for pair in SAME_VERSION} | {(*pair, 1) for pair in NEXT_VERSION}


def test_the_database_allows_the_table_and_nothing_else(connection: psycopg.Connection) -> None:
    assert allowed(connection) == THE_TABLE | NOTHING_MOVES


def test_ahead_alone_may_jump_and_only_forward_to_scheduled(connection: psycopg.Connection) -> None:
    jumps = {(state, State.SCHEDULED, step) for state in State for step in (1, 2, 7)}
    connection.execute("SET outbox.ahead = 'on'")
    assert allowed(connection) == THE_TABLE | NOTHING_MOVES | jumps


def test_nobody_but_the_leader_makes_a_job_pending(connection: psycopg.Connection) -> None:
    connection.execute("UPDATE outbox.leader SET pid = 0")
    assert allowed(connection) == {
        cell for cell in THE_TABLE | NOTHING_MOVES if cell[1] is not State.PENDING or cell[0] is cell[1]
    }


def test_a_job_begins_as_the_states_say_and_with_version_1(connection: psycopg.Connection) -> None:
    begun = set()
    for state, version in itertools.product(State, (0, 1, 2)):
        with suppress(CheckViolation), connection.transaction(force_rollback=True):
            connection.execute(
                "INSERT INTO outbox.job (id, kind, payload, state, version, lease_until)"
                " VALUES (gen_random_uuid(), 'k', '', %s, %s, '9998-01-01 UTC')",
                (state, version),
            )
            begun.add((state, version))
    assert begun == {(state, 1) for state in INSERTABLE}


def test_the_sets_of_states_agree_with_the_table() -> None:
    assert not FINAL & WAITING
    assert sources(State.CANCELLED) == (
        State.SCHEDULED,
        State.PENDING,
        State.PARKED,
        State.PUBLISHED,
        State.RUNNING,
    )
    # From a final state there is one way, an operator's retry.
    assert {to for start, to in TRANSITIONS if start in FINAL} == {State.SCHEDULED}
