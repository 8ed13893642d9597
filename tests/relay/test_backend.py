"""One session: what it refuses and sets, how long it waits, and what its errors mean. On real servers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from helpers import eventually
from roles import role
from sqlalchemy import make_url

from outbox.errors import ConfigError, OutboxError, Unreachable, WrongEnvironment
from relay.backend import ANSWER_WITHIN, SETTINGS, Backend, Postponed, Replica, label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bouncer import PgBouncer
    from databases import Database

    from relay import sandbox
    from relay.theatre.proxy import Proxy

FAILS = "DO $$ BEGIN RAISE 'made' USING ERRCODE = '{}'; END $$"


@pytest.fixture
def backend(database: Database) -> Iterator[Backend]:
    opened = Backend(database.dsn)
    yield opened
    opened.close()


def test_a_pooler_is_refused_and_the_remedy_named(pgbouncer: PgBouncer) -> None:
    with pytest.raises(WrongEnvironment, match="OUTBOX_DATABASE_URL"):
        Backend(pgbouncer.dsn)


def test_a_replica_is_refused(replica_url: str) -> None:
    dsn = make_url(replica_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with pytest.raises(Replica, match="set OUTBOX_DATABASE_URL to the primary"):
        Backend(dsn)


def test_what_the_proofs_rest_on_is_set_whatever_the_defaults_say(database: Database) -> None:
    for setting in (
        "synchronous_commit = off",
        "default_transaction_isolation = 'serializable'",
        "idle_session_timeout = '1s'",
        "statement_timeout = 0",
        "default_transaction_read_only = on",  # the last: it reaches this test's sessions too
    ):
        database.execute(f"ALTER DATABASE {database.name} SET {setting}")
    backend = Backend(database.dsn)
    shown = {name: backend.row(f"SHOW {name}") for name in SETTINGS}
    backend.close()
    expected = {name: (value,) for name, value in SETTINGS.items()}
    assert shown == expected | {"tcp_user_timeout": ("12000",)}  # which is shown without its unit


def test_it_is_known_by_its_name(backend: Backend, database: Database) -> None:
    found = database.value("SELECT application_name FROM pg_stat_activity WHERE pid = %s", backend.pid)
    assert found == label()
    assert found.startswith("outbox-relay:")


def test_nothing_listens_there() -> None:
    with pytest.raises(Unreachable) as caught:
        Backend("postgresql://somebody:hidden@127.0.0.1:1/nowhere")
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_wrong_password_is_no_fault_of_ours(database: Database) -> None:
    url = make_url(database.dsn).set(username="nobody_at_all", password="wrong")
    with pytest.raises(Unreachable):
        Backend(url.render_as_string(hide_password=False))


def test_an_address_that_cannot_be_read_is_a_wrong_setting(database: Database) -> None:
    with pytest.raises(ConfigError):
        Backend(database.dsn + "?no_such_option=1")


@pytest.mark.parametrize("state", ["22012", "23514", "40001", "40P01", "53100", "53200", "55P03", "57014"])
def test_a_statement_that_fails_on_a_healthy_session_is_postponed(backend: Backend, state: str) -> None:
    with pytest.raises(Postponed, match=state):
        backend.rows(FAILS.format(state))
    assert backend.row("SELECT 1") == (1,)


@pytest.mark.parametrize("state", ["42501", "42P01", "3F000"])
def test_what_no_repetition_mends_is_a_wrong_environment(backend: Backend, state: str) -> None:
    with pytest.raises(WrongEnvironment, match=state):
        backend.rows(FAILS.format(state))


@pytest.mark.parametrize("state", ["25006", "57P01", "XX000", "08006"])
def test_what_a_new_session_may_mend_ends_this_one(backend: Backend, state: str) -> None:
    with pytest.raises(Unreachable, match=state):
        backend.rows(FAILS.format(state))


def test_a_missing_right_is_told_with_the_remedy(database: Database) -> None:
    with role(database) as powerless:
        url = make_url(powerless.url("psycopg")).set(drivername="postgresql")
        backend = Backend(url.render_as_string(hide_password=False))
        with pytest.raises(WrongEnvironment, match="grants"):
            backend.rows("SELECT term FROM outbox.leader")
        backend.close()


def test_a_statement_ends_after_two_seconds(backend: Backend) -> None:
    began = time.monotonic()
    with pytest.raises(Postponed, match="57014"):
        backend.rows("SELECT pg_sleep(60)")
    assert time.monotonic() - began < 3.5


def test_a_lock_is_waited_for_one_second(backend: Backend, database: Database) -> None:
    with database.connect(autocommit=False) as other:
        other.execute("LOCK TABLE outbox.taker")
        began = time.monotonic()
        with pytest.raises(Postponed, match="55P03"):
            backend.rows("SELECT FROM outbox.taker")
        assert time.monotonic() - began < 1.8


def test_a_session_that_was_ended_is_gone(backend: Backend, database: Database) -> None:
    database.execute("SELECT pg_terminate_backend(%s)", backend.pid)
    with pytest.raises(Unreachable):
        eventually(lambda: backend.rows("SELECT 1") and None)
    with pytest.raises(Unreachable):
        backend.row("SELECT 1")


def test_a_connection_that_was_cut_is_gone(database: Database, proxy: Callable[[str], Proxy]) -> None:
    between = proxy(database.dsn)
    backend = Backend(between.url(database.dsn))
    between.cut()
    with pytest.raises(Unreachable):
        backend.row("SELECT 1")
    assert backend.fileno() is None
    with pytest.raises(Unreachable):
        backend.listen()
    backend.close()


def test_a_silent_server_is_not_waited_for_for_ever(
    database: Database, proxy: Callable[[str], Proxy]
) -> None:
    between = proxy(database.dsn)
    backend = Backend(between.url(database.dsn))
    between.stall()
    began = time.monotonic()
    with pytest.raises(Unreachable, match="no answer"):
        backend.row("SELECT 1")
    assert ANSWER_WITHIN <= time.monotonic() - began < ANSWER_WITHIN + 1
    began = time.monotonic()
    with pytest.raises(Unreachable):
        backend.row("SELECT 1")
    assert time.monotonic() - began < 0.5, "the second one does not wait again"


def test_a_frozen_server_does_not_keep_a_new_session_waiting(own_postgres: sandbox.Postgres) -> None:
    dsn = make_url(own_postgres.url).set(drivername="postgresql").render_as_string(hide_password=False)
    own_postgres.pause()
    began = time.monotonic()
    with pytest.raises(Unreachable):
        Backend(dsn)
    assert time.monotonic() - began < 3.5
    own_postgres.resume()


def test_what_rings_is_heard_once(backend: Backend, database: Database) -> None:
    backend.row("LISTEN outbox")
    database.execute("NOTIFY outbox, 'bound'")
    assert eventually(backend.listen) == [("outbox", "bound")]
    assert backend.listen() == []


def test_what_rings_during_a_statement_is_heard_too(backend: Backend, database: Database) -> None:
    backend.row("LISTEN outbox")
    database.execute("NOTIFY outbox")
    eventually(lambda: backend.row("SELECT 1") and backend.rang)
    assert backend.listen() == [("outbox", "")]


def test_an_error_is_one_line(backend: Backend) -> None:
    with pytest.raises(OutboxError) as caught:
        backend.rows("SELECT * FROM\n nowhere.nothing")
    assert "\n" not in str(caught.value)
