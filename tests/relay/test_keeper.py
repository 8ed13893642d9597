"""Nothing outlives the process that started it, however that process ends."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers import eventually

from relay import sandbox
from relay.sandbox.keeper import family
from relay.sandbox.keeper import processes as all_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from processes import Processes

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
    return pids & {pid for pid, _, _ in all_processes()}


def shared(pids: set[int]) -> set[str]:
    """Return PostgreSQL's shared memory that lies in no folder of ours."""
    maps = [Path(f"/proc/{pid}/maps") for pid in living(pids)]
    lines = [line for each in maps if each.exists() for line in each.read_text().splitlines()]
    return {line for line in lines if "/dev/shm/PostgreSQL" in line}


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A TMPDIR of the test's own, which every account can enter as it can enter the usual one."""
    folder = Path(tempfile.mkdtemp(prefix="outbox-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_parent_is_killed(
    number: int, processes: Processes, temporary: Path, tmp_path: Path
) -> None:
    with_rabbitmq = ["rabbitmq"] if shutil.which("rabbitmq-server") else []
    command = [sys.executable, "-c", START_ALL, str(tmp_path), *with_rabbitmq]
    parent = processes.start(*command, env={"TMPDIR": str(temporary)})
    eventually(lambda: "ready" in parent.output or not parent.running, timeout=60)
    started = set(family({parent.pid})) - {parent.pid}
    assert len(started) > 8, parent.story()  # keepers, PostgreSQL's processes, Valkey, Erlang and its helpers
    assert not shared(started), "it outlives a server that is killed"

    os.kill(parent.pid, number)

    eventually(lambda: not living(started) and not list(temporary.iterdir()), timeout=20)


@pytest.mark.parametrize("start", [sandbox.postgres, sandbox.valkey])
def test_nothing_is_left_when_the_keeper_is_told_to_end(
    start: Callable[[Path], sandbox.Server], tmp_path: Path
) -> None:
    with start(tmp_path) as server:
        keeper = server._leash._keeper.pid
        started = set(family({keeper}))
        assert server.pid in started
        os.kill(keeper, signal.SIGTERM)
        server._leash._keeper.wait(10)
        assert not living(started)
        with pytest.raises(sandbox.StartFailed, match="keeper is gone"):
            server.restart()


def test_a_process_of_a_test_ends_with_the_test_run(processes: Processes) -> None:
    """Also when the run itself is killed: its leash is let go."""
    sleeper = processes.start("/bin/sh", "-c", "sleep 1000 & echo started; wait")
    eventually(lambda: sleeper.output)
    started = set(family({sleeper.pid}))
    assert len(started) == 2

    processes._leash.close()

    eventually(lambda: not living(started))
    assert sleeper.wait() == -signal.SIGKILL
