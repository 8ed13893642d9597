"""What the command says when it cannot do what it should: cause and remedy in one line, and a code."""

from __future__ import annotations

import socket
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import kombu
import pytest
from failing import UNREACHABLE, USAGE, WRONG, fails
from roles import role
from sqlalchemy import make_url

if TYPE_CHECKING:
    from pathlib import Path

    from bouncer import PgBouncer
    from databases import Database
    from processes import Processes
    from servers import Broker

    from relay import sandbox


NARROW = """
ok = rabbit_auth_backend_internal:add_user(<<"narrow">>, <<"canary">>, <<"tests">>),
ok = rabbit_auth_backend_internal:set_permissions(<<"narrow">>, <<"{host}">>, <<"">>, <<"">>, <<".*">>,
  <<"tests">>).
"""


def closed_port() -> int:
    """Return a port at which nobody listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


# --- the database ---


@pytest.mark.parametrize("command", [("migrate",), ("relay", "--broker-url", "amqp://h")])
def test_a_pooler(processes: Processes, pgbouncer: PgBouncer, command: tuple[str, ...]) -> None:
    line = fails(processes.outbox(*command, env={"OUTBOX_DATABASE_URL": pgbouncer.dsn}), WRONG)
    assert "pooler" in line
    assert "OUTBOX_DATABASE_URL" in line


def test_operators_may_use_a_pooler(processes: Processes, pgbouncer: PgBouncer) -> None:
    process = processes.outbox("status", env={"OUTBOX_DATABASE_URL": pgbouncer.dsn})
    assert process.wait() == 0, process.story()


def test_a_replica(processes: Processes, own_postgres: sandbox.Postgres, replica_url: str) -> None:
    for command in (("migrate",), ("relay", "--broker-url", "amqp://h")):
        line = fails(processes.outbox(*command, env={"OUTBOX_DATABASE_URL": replica_url}), WRONG)
        assert "replica" in line
        assert "primary" in line


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("list",),
        ("relay", "--broker-url", "amqp://h"),
        ("consume", "shop:handlers", "--broker-url", "amqp://h"),
    ],
)
def test_a_database_without_the_schema(
    processes: Processes, empty_database: Database, shop: Path, command: tuple[str, ...]
) -> None:
    process = processes.outbox(*command, env={"OUTBOX_DATABASE_URL": empty_database.url}, cwd=shop)
    assert "run outbox migrate" in fails(process, WRONG)


@pytest.mark.parametrize("command", [("status",), ("relay", "--broker-url", "amqp://h")])
def test_a_schema_that_is_too_new(processes: Processes, database: Database, command: tuple[str, ...]) -> None:
    database.execute("UPDATE outbox.meta SET revision = '0009', min_reader = '0008'")
    line = fails(processes.outbox(*command, env={"OUTBOX_DATABASE_URL": database.dsn}), WRONG)
    assert "install a newer outbox-relay" in line


@pytest.mark.parametrize(
    "command", [("migrate",), ("status",), ("relay", "--drain", "--broker-url", "amqp://h")]
)
def test_a_database_that_is_down(processes: Processes, command: tuple[str, ...]) -> None:
    port = closed_port()
    url = f"postgresql://shop:canary@127.0.0.1:{port}/shop"
    line = fails(processes.outbox(*command, env={"OUTBOX_DATABASE_URL": url}), UNREACHABLE, "canary")
    assert str(port) in line
    assert "Connection refused" in line


def test_a_wrong_password(processes: Processes, own_postgres: sandbox.Postgres) -> None:
    url = make_url(own_postgres.url).set(password="canary").render_as_string(hide_password=False)
    line = fails(processes.outbox("migrate", env={"OUTBOX_DATABASE_URL": url}), UNREACHABLE, "canary")
    assert "password authentication failed" in line


def test_an_unknown_database(processes: Processes, database: Database) -> None:
    url = make_url(database.dsn).set(database="nowhere")
    env = {"OUTBOX_DATABASE_URL": url.render_as_string(hide_password=False)}
    line = fails(processes.outbox("migrate", env=env), UNREACHABLE, url.password or "-")
    assert 'database "nowhere" does not exist' in line


def test_a_role_without_rights(processes: Processes, database: Database) -> None:
    with role(database) as nobody:
        line = fails(processes.outbox("status", env={"OUTBOX_DATABASE_URL": nobody.url("psycopg")}), WRONG)
    assert "permission denied for schema outbox" in line
    assert "--grant-relay" in line


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:canary@h/d?no_such_option=1",
        "postgresql://u:ca@nary@h/d",
        "postgresql://u:%zzcanary@h/d",
        "mysql://u:canary@h/d",
    ],
)
def test_an_address_that_cannot_be_read(processes: Processes, url: str) -> None:
    fails(processes.outbox("status", env={"OUTBOX_DATABASE_URL": url}), USAGE, "canary", "nary@")


def test_a_driver_without_libpq(processes: Processes, database: Database) -> None:
    env = {"OUTBOX_DATABASE_URL": database.dsn, "PSYCOPG_IMPL": "c"}
    assert 'pip install "outbox-relay[binary]"' in fails(processes.outbox("status", env=env), WRONG)


# --- the broker ---


def test_a_broker_that_is_down(processes: Processes, database: Database) -> None:
    env = {
        "OUTBOX_DATABASE_URL": database.dsn,
        "OUTBOX_BROKER_URL": f"amqp://u:canary@127.0.0.1:{closed_port()}//",
    }
    database.execute("SELECT outbox.add('order.paid', '1')")
    line = fails(processes.outbox("relay", "--drain", env=env), UNREACHABLE, "canary")
    assert "broker" in line


@pytest.mark.parametrize("debug", ["0", "1"])
def test_a_password_that_is_not_quoted(
    processes: Processes, database: Database, shop: Path, debug: str
) -> None:
    url = "amqp://guest:canary#x@127.0.0.1:5672//"
    env = {"OUTBOX_DATABASE_URL": database.url, "OUTBOX_BROKER_URL": url, "OUTBOX_DEBUG": debug}
    for command in (("relay", "--drain"), ("consume", "shop:handlers")):
        process = processes.outbox(*command, env=env, cwd=shop)
        assert process.wait() == USAGE, process.story()
        assert "canary" not in process.story()
        assert "percent-encode # as %23" in process.errors[-1]
        assert len(process.errors) == 1 or debug == "1"
        assert process.events == []
    assert database.value("SELECT term FROM outbox.leader") == 0


def test_a_broker_that_loses_messages(processes: Processes, database: Database, shop: Path) -> None:
    env = {"OUTBOX_DATABASE_URL": database.url, "OUTBOX_BROKER_URL": "memory://"}
    for command in (("relay",), ("consume", "shop:handlers")):
        assert "--allow-lossy" in fails(processes.outbox(*command, env=env, cwd=shop), WRONG)


def test_a_broker_that_refuses_the_login(
    processes: Processes, database: Database, amqp_url: str, shop: Path
) -> None:
    url = make_url(amqp_url).set(password="canary").render_as_string(hide_password=False)
    env = {"OUTBOX_DATABASE_URL": database.url, "OUTBOX_BROKER_URL": url}
    fails(processes.outbox("consume", "shop:handlers", env=env, cwd=shop), UNREACHABLE, "canary")


def test_a_queue_that_was_declared_otherwise(
    processes: Processes, database: Database, amqp_url: str, shop: Path
) -> None:
    with kombu.Connection(amqp_url) as connection:
        connection.default_channel.queue_declare("receipts", durable=True, auto_delete=False)
    env = {"OUTBOX_DATABASE_URL": database.url, "OUTBOX_BROKER_URL": amqp_url}
    line = fails(processes.outbox("consume", "shop:handlers", env=env, cwd=shop), WRONG)
    assert "receipts" in line


def test_an_exchange_that_was_declared_otherwise(
    processes: Processes, database: Database, amqp_url: str, shop: Path
) -> None:
    with kombu.Connection(amqp_url) as connection:
        connection.default_channel.exchange_declare("outbox", "fanout", durable=True, auto_delete=False)
    env = {"OUTBOX_DATABASE_URL": database.url, "OUTBOX_BROKER_URL": amqp_url}
    line = fails(processes.outbox("consume", "shop:handlers", env=env, cwd=shop), WRONG)
    assert "the exchange 'outbox' exists as another one" in line
    assert "OUTBOX_EXCHANGE" in line
    assert "queue" not in line


def test_a_drain_tells_what_had_nowhere_to_go(
    processes: Processes, database: Database, amqp_url: str
) -> None:
    database.execute("SELECT outbox.add('order.paid', '1'), outbox.add('order.paid', '2')")
    env = {"OUTBOX_DATABASE_URL": database.dsn, "OUTBOX_BROKER_URL": amqp_url, "OUTBOX_LOG": "json"}
    process = processes.outbox("relay", "--drain", env=env)
    assert process.wait() == 0, process.story()
    (line,) = process.errors
    assert line.startswith("outbox: 2 of order.paid parked, not published: ")
    assert "nothing is bound to exchange 'outbox' for 'order.paid'" in line


def test_a_user_without_the_right_to_declare(
    processes: Processes, database: Database, rabbitmq: Broker, amqp_url: str, shop: Path
) -> None:
    host = make_url(amqp_url).database
    rabbitmq.ctl("eval", NARROW.format(host=host))
    url = make_url(amqp_url).set(username="narrow", password="canary")
    broker = url.render_as_string(hide_password=False)
    env = {"OUTBOX_DATABASE_URL": database.url, "OUTBOX_BROKER_URL": broker}
    line = fails(processes.outbox("consume", "shop:handlers", env=env, cwd=shop), WRONG, "canary")
    assert "--no-declare" in line


def test_a_queue_that_nobody_declared(
    processes: Processes, database: Database, amqp_url: str, shop: Path
) -> None:
    env = {"OUTBOX_DATABASE_URL": database.url, "OUTBOX_BROKER_URL": amqp_url}
    process = processes.outbox("consume", "shop:handlers", "--no-declare", env=env, cwd=shop)
    assert "receipts" in fails(process, WRONG)


def test_a_kind_that_another_queue_takes(
    processes: Processes, database: Database, amqp_url: str, shop: Path
) -> None:
    database.execute("INSERT INTO outbox.taker (kind, queue) VALUES ('order.paid', 'billing')")
    env = {"OUTBOX_DATABASE_URL": database.url, "OUTBOX_BROKER_URL": amqp_url}
    line = fails(processes.outbox("consume", "shop:handlers", env=env, cwd=shop), WRONG)
    assert "billing" in line
    assert "receipts" in line
    assert "--take-over" in line


# --- the command itself ---


def test_what_is_not_set_is_named_all_at_once(processes: Processes) -> None:
    process = processes.outbox("relay", "--stale", "1")
    assert process.wait() == USAGE
    assert process.errors == [
        "outbox: --broker-url (or OUTBOX_BROKER_URL) is missing",
        "outbox: --database-url (or OUTBOX_DATABASE_URL) is missing",
        "outbox: stale must be more than 5 s when heartbeat is 1 s (heartbeat + 2 < 0.6 x stale), not 1",
    ]


def test_a_traceback_is_there_for_those_who_ask(processes: Processes) -> None:
    env = {"OUTBOX_DATABASE_URL": f"postgresql://u:canary@127.0.0.1:{closed_port()}/d", "OUTBOX_DEBUG": "1"}
    process = processes.outbox("status", env=env)
    assert process.wait() == UNREACHABLE
    assert "Traceback" in process.story()
    assert "canary" not in process.story()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("relay", "--windw", "1"), "; outbox relay --help"),
        (("list", "--state", "gone"), "Invalid value for '--state': 'gone' is not one of"),
        (("retry",), "name the jobs by their ids, or say --all with --state; outbox retry --help"),
        (("demo", "--seconds", "nan"), "--seconds must be a duration such as 10"),
        (("demo", "--seconds", "-5"), "--seconds must be a duration such as 10"),
        (("demo", "--seconds", "0"), "--seconds must be 1 or more, not '0'"),
        (("demo", "--picture", "/nonexistent/x.svg"), "--picture /nonexistent/x.svg cannot be written"),
        (("torture", "--picture", "/nonexistent/x.svg"), "--picture /nonexistent/x.svg cannot be written"),
        (("torture", "--minutes", "inf"), "--minutes must be more than 0, and finite"),
        (("torture", "--rate", "nan"), "--rate must be more than 0, and finite"),
    ],
)
def test_a_wrong_command_line_is_one_line(processes: Processes, words: tuple[str, ...], told: str) -> None:
    assert told in fails(processes.outbox(*words), USAGE)


def test_a_closed_standard_error_is_no_error(processes: Processes, database: Database, amqp_url: str) -> None:
    command = f"{sys.executable} -m relay relay --drain 2>&-"
    env = {"OUTBOX_DATABASE_URL": database.dsn, "OUTBOX_BROKER_URL": amqp_url}
    assert processes.start("sh", "-c", command, env=env).wait() == 0


@pytest.mark.parametrize("shell", ["zsh", "fish", "bash"])
def test_completion_for_every_shell(processes: Processes, shell: str) -> None:
    process = processes.outbox("completion", shell)
    assert process.wait() == 0, process.story()
    assert "_OUTBOX_COMPLETE" in process.output


def test_a_reader_that_leaves_early_is_no_error(processes: Processes, database: Database) -> None:
    database.execute("SELECT count(outbox.add('mail', to_jsonb(n))) FROM generate_series(1, 2000) n")
    command = f"{sys.executable} -m relay list --limit 2000 | head -1"
    process = processes.start("sh", "-c", command, env={"OUTBOX_DATABASE_URL": database.dsn})
    assert process.wait() == 0
    assert process.errors == []
