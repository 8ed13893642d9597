"""Every language that speaks SQL can add and move jobs: outbox.add, outbox.emit, outbox.transition."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.errors import CheckViolation, NotNullViolation
from psycopg.rows import dict_row

from outbox import payload

if TYPE_CHECKING:
    import psycopg
    from databases import Database

NOBODY = uuid.UUID(int=0)


def row(database: Database, job_id: object) -> dict[str, Any]:
    with database.connect(row_factory=dict_row) as connection:
        found = connection.execute("SELECT * FROM outbox.job WHERE id = %s", [job_id]).fetchone()
    assert found
    return dict(found)


def call(database: Database, function: str, **arguments: object) -> Any:
    """Call a function by the names of its arguments, as a public one may be called."""
    given = ", ".join(f'"{name}" => %({name})s' for name in arguments)
    with database.connect() as connection:
        answer = connection.execute(f"SELECT {function}({given})", arguments).fetchone()
    assert answer
    return answer[0]


def test_add_needs_a_kind_and_a_payload_alone(database: Database) -> None:
    job_id = database.value("""SELECT outbox.add('order.paid', '{"order_id": 7, "name": "é"}')""")
    found = row(database, job_id)
    assert (found["kind"], found["state"], found["version"]) == ("order.paid", "pending", 1)
    assert (found["tracked"], found["max_attempts"], found["headers"]) == (True, 20, {})
    assert found["content_type"] == "application/json"
    assert payload.decode(found["payload"], found["content_type"]) == {"order_id": 7, "name": "é"}


def test_add_takes_what_the_library_takes(database: Database) -> None:
    given = {
        "kind": "order.paid",
        "payload": "[1]",
        "key": "order:7",
        "headers": json.dumps({"tenant": "a"}),
        "max_attempts": 3,
        "exchange": "shop",
        "routing_key": "paid",
        "delay": "90 seconds",
    }
    found = row(database, call(database, "outbox.add", **given))
    assert (found["key"], found["headers"], found["max_attempts"]) == ("order:7", {"tenant": "a"}, 3)
    assert (found["exchange"], found["routing_key"]) == ("shop", "paid")
    assert found["state"] == "scheduled"
    assert 89 < (found["available_at"] - found["created_at"]).total_seconds() < 91


def test_ids_grow_with_time_as_the_librarys_do(database: Database) -> None:
    ids = [database.value("SELECT outbox.add('a', '{}')") for _ in range(5)]
    assert ids == sorted(ids)
    assert {(each.version, each.variant) for each in ids} == {(7, uuid.RFC_4122)}
    assert abs((ids[0].int >> 80) / 1000 - time.time()) < 60


def test_an_event_is_not_tracked(database: Database) -> None:
    found = row(database, call(database, "outbox.emit", kind="order.paid", payload="{}", key="order:7"))
    assert (found["tracked"], found["state"], found["key"]) == (False, "pending", "order:7")


def test_it_rolls_back_with_the_transaction(database: Database) -> None:
    with database.connect(autocommit=False) as connection:
        connection.execute("SELECT outbox.add('order.paid', '{}'), outbox.emit('order.paid', '{}')")
        connection.rollback()
    assert database.value("SELECT count(*) FROM outbox.job") == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"kind": "order.*", "payload": "{}"}, CheckViolation),
        ({"kind": "", "payload": "{}"}, CheckViolation),
        ({"kind": None, "payload": "{}"}, NotNullViolation),
        ({"kind": "k", "payload": None}, NotNullViolation),
        ({"kind": "k", "payload": "{}", "key": ""}, CheckViolation),
        ({"kind": "k", "payload": "{}", "headers": "[]"}, CheckViolation),
        ({"kind": "k", "payload": "{}", "headers": '{"n": 1}'}, CheckViolation),
        ({"kind": "k", "payload": "{}", "headers": '{"x-outbox-version": "1"}'}, CheckViolation),
        ({"kind": "k", "payload": "{}", "headers": json.dumps({"n": "x" * 16_384})}, CheckViolation),
        ({"kind": "k", "payload": "{}", "exchange": "*"}, CheckViolation),
        ({"kind": "k", "payload": "{}", "routing_key": "*"}, CheckViolation),
        ({"kind": "k", "payload": json.dumps("x" * 131_071)}, CheckViolation),
    ],
)
def test_what_the_library_refuses_the_function_refuses(
    database: Database, arguments: dict[str, Any], error: type[psycopg.Error]
) -> None:
    with pytest.raises(error):
        call(database, "outbox.add", **arguments)


def transition(database: Database, job_id: object, version: int, to: str) -> str:
    return str(call(database, "outbox.transition", id=job_id, version=version, to=to))


def test_a_transition_is_applied_once_per_version(database: Database) -> None:
    job_id = database.value("SELECT outbox.add('order.paid', '{}')")
    assert transition(database, job_id, 1, "cancelled") == "applied"
    assert transition(database, job_id, 1, "cancelled") == "already_applied"
    assert transition(database, job_id, 1, "dead") == "superseded"
    assert transition(database, job_id, 2, "cancelled") == "illegal"
    assert transition(database, job_id, 2, "succeeded") == "illegal"
    assert transition(database, job_id, 3, "scheduled") == "ahead"
    assert transition(database, NOBODY, 1, "cancelled") == "missing"
    found = row(database, job_id)
    assert (found["state"], found["version"]) == ("cancelled", 2)


@pytest.mark.parametrize("to", ["pending", "published", "running", "parked!", ""])
def test_a_transition_that_is_not_its_callers_is_illegal(database: Database, to: str) -> None:
    job_id = database.value("SELECT outbox.add('order.paid', '{}', delay => '1 hour')")
    assert transition(database, job_id, 1, to) == "illegal"
    assert row(database, job_id)["version"] == 1


def test_a_job_scheduled_by_hand_is_due_now(database: Database) -> None:
    job_id = database.value("SELECT outbox.add('order.paid', '{}', delay => '1 hour')")
    assert transition(database, job_id, 1, "dead") == "applied"
    assert transition(database, job_id, 2, "scheduled") == "applied"
    assert database.value("SELECT available_at <= clock_timestamp() FROM outbox.job") is True


def test_the_transaction_goes_on_after_a_refusal(database: Database) -> None:
    with database.connect(autocommit=False) as connection:
        job_id = connection.execute("SELECT outbox.add('order.paid', '{}')").fetchone()
        assert job_id
        connection.execute("SELECT outbox.transition(%s, 1, 'nonsense')", job_id)
        connection.commit()
    assert database.value("SELECT state FROM outbox.job") == "pending"


def test_the_view_shows_json_as_text_and_the_rest_as_hex(database: Database) -> None:
    database.execute("SELECT outbox.add('order.paid', '{}')")
    database.execute(
        "INSERT INTO outbox.job (id, kind, payload, content_type)"
        " VALUES (gen_random_uuid(), 'image', '\\xff', 'image/png')"
    )
    assert database.execute("SELECT kind, payload FROM outbox.jobs ORDER BY kind") == [
        ("image", "\\xff"),
        ("order.paid", "{}"),
    ]
