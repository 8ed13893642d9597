"""The proxy breaks connections the way networks do; a test that relies on it must be able to trust it."""

from __future__ import annotations

import gc
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
import pytest
from helpers import eventually

from relay.theatre.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from databases import Database


class Echo:
    """A server that sends back what it gets, in capitals, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self.answer, args=(self.listener.accept()[0],), daemon=True).start()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def answer(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            while data := client.recv(1000):
                self.heard += data
                client.sendall(data.upper())


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def wire(echo: Echo) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo.port) as proxy:
        yield proxy


@pytest.fixture
def client(wire: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", wire.port)) as connection:
        connection.settimeout(0.2)
        yield connection


def test_what_is_said_arrives(client: socket.socket) -> None:
    client.sendall(b"hello")
    assert client.recv(10) == b"HELLO"


def test_the_end_of_a_stream_arrives(client: socket.socket, wire: Proxy) -> None:
    client.sendall(b"last")
    client.shutdown(socket.SHUT_WR)
    assert client.recv(10) == b"LAST"
    assert client.recv(10) == b""
    eventually(lambda: wire.connections == 0)


def test_a_cut_resets_what_is_open_and_takes_new_ones(client: socket.socket, wire: Proxy) -> None:
    client.sendall(b"a")
    assert client.recv(1) == b"A"
    wire.cut()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with socket.create_connection(("127.0.0.1", wire.port)) as again:
        again.sendall(b"b")
        assert again.recv(1) == b"B"


def test_it_leads_to_another_server_from_then_on(echo: Echo, wire: Proxy, client: socket.socket) -> None:
    client.sendall(b"a")
    assert client.recv(1) == b"A"
    other = Echo()
    wire.lead_to(f"any://user@127.0.0.1:{other.port}/name")
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with socket.create_connection(("127.0.0.1", wire.port)) as again:
        again.sendall(b"b")
        assert again.recv(1) == b"B"
    assert (echo.heard, other.heard) == (b"a", b"b")
    other.close()


def test_a_stall_holds_and_a_resume_delivers(client: socket.socket, wire: Proxy) -> None:
    wire.stall()
    client.sendall(b"a")
    with pytest.raises(TimeoutError):
        client.recv(1)
    wire.resume()
    assert client.recv(1) == b"A"


def test_stalled_replies_are_lost_by_a_cut_after_the_request_arrived(
    echo: Echo, wire: Proxy, client: socket.socket
) -> None:
    wire.stall_replies()
    client.sendall(b"a")
    eventually(lambda: echo.heard == b"a")
    with pytest.raises(TimeoutError):
        client.recv(1)
    wire.cut()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_stalled_requests_do_not_arrive(echo: Echo, wire: Proxy, client: socket.socket) -> None:
    wire.stall_requests()
    client.sendall(b"a")
    with pytest.raises(TimeoutError):
        client.recv(1)
    assert echo.heard == b""


def test_a_refusal_is_a_refusal_until_it_is_taken_back(wire: Proxy) -> None:
    wire.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", wire.port))
    wire.accept()
    with socket.create_connection(("127.0.0.1", wire.port)) as again:
        again.sendall(b"a")
        assert again.recv(1) == b"A"


def test_who_knocks_at_the_moment_of_a_refusal_is_closed_too(
    wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asyncio forgets what it accepted just before its server was closed: 202 of 500 times here."""
    forgotten: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: forgotten.append(args.exc_value))
    over = threading.Event()

    def knock() -> None:
        while not over.is_set():
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", wire.port), timeout=1).close()

    knocking = [threading.Thread(target=knock) for _ in range(4)]
    for each in knocking:
        each.start()
    for _ in range(200):
        wire.refuse()
        wire.accept()
    over.set()
    for each in knocking:
        each.join()
    gc.collect()
    assert not forgotten


def test_a_cut_comes_after_a_byte_and_not_again(echo: Echo, wire: Proxy, client: socket.socket) -> None:
    client.sendall(b"ab")
    assert client.recv(2) == b"AB"
    assert wire.passed == 4
    wire.cut_after(3)
    client.sendall(b"cdef")
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    eventually(lambda: wire.burnt)
    eventually(lambda: echo.heard == b"abcde")
    assert wire.passed == 7
    with socket.create_connection(("127.0.0.1", wire.port)) as again:
        again.sendall(b"ghijkl")
        assert again.recv(6) == b"GHIJKL"


def test_a_cut_within_an_answer_lets_its_beginning_through(wire: Proxy, client: socket.socket) -> None:
    wire.cut_after(5)
    client.sendall(b"abc")
    assert client.recv(9) == b"AB"
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_delay_is_paid_once_each_way(wire: Proxy, client: socket.socket) -> None:
    client.settimeout(2)
    wire.delay(0.1)
    begun = time.monotonic()
    for letter in (b"a", b"b", b"c"):
        client.sendall(letter)
    got = b""
    while len(got) < 3:
        got += client.recv(3)
    assert got == b"ABC"
    assert 0.2 <= time.monotonic() - begun < 1


def test_postgres_behind_a_proxy(database: Database, proxy: Callable[[str], Proxy]) -> None:
    between = proxy(database.dsn)
    with psycopg.connect(between.url(database.dsn)) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == (database.name,)
        between.cut()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
