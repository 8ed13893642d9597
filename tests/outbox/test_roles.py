"""A role can do what its kind needs, and nothing else: every statement against every kind."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from psycopg.errors import InsufficientPrivilege
from roles import Role, role
from sqlalchemy import NullPool, create_engine
from sqlalchemy.orm import Session

import outbox
from outbox import grants
from outbox.errors import ConfigError
from relay import migrations

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from databases import Database

OWNER = "owner"
JOB = uuid.UUID(int=7)


def adding(column: str, value: str) -> str:
    return (
        f"INSERT INTO outbox.job (id, kind, payload, {column})"
        f" VALUES (gen_random_uuid(), 'k', '{{}}', {value})"
    )


MATRIX = {
    # the table: adding
    "INSERT INTO outbox.job (id, kind, payload) VALUES (gen_random_uuid(), 'k', '{}')": "app consumer relay",
    adding("exchange, key, tracked", "'', 'k', false") + " RETURNING id": "consumer relay",
    adding("state", "'scheduled'"): "app consumer",
    "SELECT outbox.add('k', '{}', delay => '1 s', headers => '{}', key => 'k')": "app consumer",
    "SELECT outbox.emit('k', '{}')": "app consumer",
    adding("unique_key", "'u'") + " ON CONFLICT DO NOTHING": "app consumer",
    adding("unique_key", "'u'") + " ON CONFLICT DO NOTHING RETURNING id": "consumer",
    adding("attempt", "1"): "consumer",
    adding("state, lease_until, lease_token", "'running', now(), gen_random_uuid()"): "consumer",
    adding("xid", "'1'"): "",
    adding("pos", "DEFAULT"): "",
    adding("first_pos", "1"): "",
    adding("version", "1"): "",
    adding("sends", "2"): "",
    adding("created_at", "now()"): "",
    adding("published_at", "now()"): "",
    adding("published_term", "1"): "",
    adding("finished_at", "NULL"): "",
    # the table: reading, changing, deleting
    "SELECT id, payload FROM outbox.job": "relay consumer",
    "SELECT payload FROM outbox.jobs": "relay",
    "SELECT id FROM outbox.job FOR NO KEY UPDATE SKIP LOCKED": "relay consumer",
    "UPDATE outbox.job SET state = 'dead', version = version + 1, error = 'x'": "relay consumer",
    "UPDATE outbox.job SET attempt = 1, available_at = now()": "relay consumer",
    "UPDATE outbox.job SET sends = sends + 1": "relay",
    "UPDATE outbox.job SET first_pos = pos, pos = DEFAULT": "relay",
    "UPDATE outbox.job SET published_at = now(), published_term = 1, state = 'published'": "relay",
    "UPDATE outbox.job SET headers = '{}'": "relay",
    "SELECT outbox.transition(gen_random_uuid(), 1, 'dead')": "relay consumer",
    "DELETE FROM outbox.job": "relay",
    "TRUNCATE outbox.job": "",
    # the log of transitions: nobody writes it
    "SELECT version FROM outbox.transition": "relay consumer",
    "DELETE FROM outbox.transition": "relay",
    "UPDATE outbox.transition SET note = 'x'": "",
    """INSERT INTO outbox.transition (job_id, version, "from", "to", by)
       VALUES (gen_random_uuid(), 2, 'pending', 'dead', 'me')""": "",
    # who leads, who takes
    "SELECT term FROM outbox.leader": "relay",
    "SELECT term FROM outbox.leader FOR SHARE": "relay",
    "UPDATE outbox.leader SET term = term + 1": "relay",
    "DELETE FROM outbox.leader": "",
    "SELECT queue FROM outbox.taker": "relay consumer",
    "INSERT INTO outbox.taker (kind, queue) VALUES ('k', 'q')"
    " ON CONFLICT (kind) DO UPDATE SET queue = EXCLUDED.queue": "consumer",
    "DELETE FROM outbox.taker": "",
    # which slots are done
    "SELECT slot_at FROM outbox.slot": "relay consumer",
    "INSERT INTO outbox.slot (schedule, slot_at, by) VALUES ('s', now(), 'me')"
    " ON CONFLICT DO NOTHING RETURNING slot_at": "relay consumer",
    "UPDATE outbox.slot SET slot_at = now()": "",
    "DELETE FROM outbox.slot": "relay",
    # what the schema is
    "SELECT revision FROM outbox.meta": "relay consumer",
    "UPDATE outbox.meta SET revision = '9999'": "",
    "SELECT last_value FROM outbox.job_pos_seq": "relay",
    "SELECT nextval('outbox.job_pos_seq')": "",
    "SELECT setval('outbox.job_pos_seq', 1)": "",
    # the schema
    "CREATE TABLE outbox.mine ()": "",
    "ALTER TABLE outbox.job DISABLE TRIGGER job_guard": "",
    "DROP TABLE outbox.taker": "",
    "CREATE OR REPLACE FUNCTION outbox.job_ring() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN RETURN NULL; END'": "",
}


@pytest.fixture
def roles(empty_database: Database) -> Iterator[dict[str, Role]]:
    """A role of each kind, and the owner that migrated, who is no superuser."""
    with ExitStack() as stack:
        owner = stack.enter_context(role(empty_database))
        empty_database.execute(f'GRANT CREATE ON DATABASE "{empty_database.name}" TO "{owner.name}"')
        migrations.upgrade(owner.url("psycopg"))
        made = {OWNER: owner}
        for kind in ("app", "relay", "consumer"):
            made[kind] = stack.enter_context(role(empty_database, kind))
        yield made


def may(connection: psycopg.Connection, statement: str) -> bool:
    """Try a statement; nothing of it stays. Other errors than a missing right are the statement's own."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)  # type: ignore[call-overload]
    except InsufficientPrivilege:
        return False
    return True


def test_every_role_may_do_exactly_what_its_kind_needs(roles: dict[str, Role]) -> None:
    with ExitStack() as stack:
        logged_in = {kind: stack.enter_context(each.connect()) for kind, each in roles.items()}
        logged_in[OWNER].execute(f"INSERT INTO outbox.job (id, kind, payload) VALUES ('{JOB}', 'k', '{{}}')")
        found = {
            statement: {kind for kind, connection in logged_in.items() if may(connection, statement)}
            for statement in MATRIX
        }
    assert found == {statement: {OWNER, *kinds.split()} for statement, kinds in MATRIX.items()}


def test_a_role_without_rights_sees_nothing(database: Database) -> None:
    with role(database) as stranger, stranger.connect() as connection:
        assert not any(may(connection, statement) for statement in MATRIX)


def test_a_role_that_may_only_insert_adds_through_every_driver(database: Database) -> None:
    with role(database, "app") as app:
        for driver in ("psycopg", "psycopg2"):
            engine = create_engine(app.url(driver), poolclass=NullPool)
            with Session(engine) as session, session.begin():
                outbox.add(session, "order.paid", {}, key="order:7", headers={"tenant": "a"}, delay=1)
                outbox.emit(session, "order.paid", {}, exchange="shop", routing_key="paid")
                outbox.add_all(session, [{"kind": "k", "payload": {}, "max_attempts": 3}] * 3)
                added = [outbox.add_unique(session, driver, {}, unique="one") for _ in range(2)]
                assert [bool(each) for each in added] == [True, False]
                session.execute(outbox.insert("order.paid", b"x", content_type="image/png"))
    assert database.value("SELECT count(*) FROM outbox.job") == 2 * 7


def test_a_consumer_moves_jobs_and_leaves_a_trace_that_it_cannot_write(database: Database) -> None:
    job_id = database.value("SELECT outbox.add('order.paid', '{}')")
    with role(database, "consumer") as consumer:
        with consumer.connect() as connection:
            # As after a few calls, when PostgreSQL keeps a trigger's plan: rights are checked on all of it.
            connection.execute("SET plan_cache_mode = force_generic_plan")
            for version, to in enumerate(["dead", "scheduled", "cancelled"], start=1):
                moved = connection.execute("SELECT outbox.transition(%s, %s, %s)", [job_id, version, to])
                assert moved.fetchone() == ("applied",)
        assert database.execute("SELECT by, count(*) FROM outbox.transition GROUP BY 1") == [
            (consumer.name, 3)
        ]


def test_grants_may_be_run_again(database: Database) -> None:
    with role(database, "app", "app", "consumer", "relay") as everything, everything.connect() as connection:
        assert may(connection, "SELECT id FROM outbox.job")


@pytest.mark.parametrize("name", ['we"ird', "Größe; --", "a:b %s $1", "select", "Mixed Case", "x'y\\z"])
def test_a_roles_name_is_quoted(database: Database, name: str) -> None:
    with role(database, "app", name=name) as app, app.connect() as connection:
        connection.execute("SELECT outbox.add('order.paid', '{}')")


@pytest.mark.parametrize("name", ["", "x" * 64, "é" * 32, "a\0b", "a\nb", "\ud800", "public", "none", 7])
def test_what_is_no_roles_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        grants.statements(name, "app")


def test_a_kind_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="app, relay, consumer"):
        grants.statements("shop", "admin")  # type: ignore[arg-type]
