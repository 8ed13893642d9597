"""The line into a network namespace breaks as networks do, and nothing of it outlives who made it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from faults.namespaces import Namespace, Quality, namespace, run
from helpers import eventually

from relay.sandbox import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processes import Process, Processes

CLIENT = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 2) as line:
    while True:
        began = time.monotonic()
        line.sendall(b"x")
        assert line.recv(1) == b"x"
        print(time.monotonic() - began)
        time.sleep(0.05)
"""
FORGETFUL = """
import threading
from faults.namespaces import namespace
with namespace() as inside:
    print(inside.name, flush=True)
    threading.Event().wait()
"""


@pytest.fixture
def url() -> Iterator[str]:
    """Address a server on 127.0.0.1 that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(client: socket.socket) -> None:
            with client, suppress(OSError):
                while data := client.recv(1000):
                    client.sendall(data)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def inside(request: pytest.FixtureRequest) -> Iterator[Namespace]:
    made = namespace(getattr(request, "param", None))
    try:
        entered = made.__enter__()
    except Unavailable as reason:
        pytest.skip(f"no network namespace: {reason}")
    yield entered
    made.__exit__(None, None, None)


def talk(processes: Processes, inside: Namespace, url: str) -> Process:
    """Start a client inside that asks again and again."""
    port = url.rpartition(":")[2]
    return processes.start(*inside.enter(), sys.executable, "-c", CLIENT, inside.host, port)


def test_what_is_severed_is_silent_and_goes_on_when_it_heals(
    processes: Processes, inside: Namespace, url: str
) -> None:
    client = talk(processes, inside, url)
    eventually(lambda: client.output)
    inside.sever(url)
    before = client.output
    threading.Event().wait(0.5)
    assert len(client.output.split()) <= len(before.split()) + 1
    assert client.running
    inside.heal()
    eventually(lambda: len(client.output.split()) > len(before.split()) + 2)


@pytest.mark.parametrize("inside", [Quality(0.05, 0.01, 0.0)], indirect=True)
def test_a_bad_line_is_slow(processes: Processes, inside: Namespace, url: str) -> None:
    client = talk(processes, inside, url)
    eventually(lambda: len(client.output.split()) > 5)
    assert all(0.08 < float(trip) < 1 for trip in client.output.split())


@pytest.mark.parametrize("inside", [Quality(0.0, 0.0, 1.0)], indirect=True)
def test_a_line_may_lose_all(processes: Processes, inside: Namespace, url: str) -> None:
    client = talk(processes, inside, url)
    assert client.wait() == 1
    assert "timed out" in client.story()


def test_a_namespace_ends_with_its_owner_however_that_ends(processes: Processes, inside: Namespace) -> None:
    owner = processes.start(sys.executable, "-c", FORGETFUL, env={"PYTHONPATH": os.pathsep.join(sys.path)})
    name = eventually(lambda: owner.output).strip()
    assert name in left()
    assert inside.name in left()
    os.kill(owner.pid, signal.SIGKILL)  # it alone, and not its group
    eventually(lambda: name not in left())
    assert inside.name in left()


def left() -> str:
    """Return the devices and tables that there are."""
    return run("ip", "link") + run("nft", "list", "tables")
