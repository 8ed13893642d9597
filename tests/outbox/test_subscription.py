"""What a broker's address asks for, what its refusals mean, and how a wait is ended."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import Any

import pytest

from outbox.consumer import refusals
from outbox.consumer.crew import Loop, Threads
from outbox.consumer.gate import Backoff
from outbox.consumer.wake import Wake


def test_no_address_is_shown_with_its_secrets() -> None:
    assert refusals.masked("amqp://bob:p@ss:w/rd@host:5672/v?heartbeat=3") == "amqp://bob:***@host:5672/v"
    assert refusals.masked("redis://:secret@host/0?ssl_key=x") == "redis://:***@host/0"
    assert refusals.masked("memory://") == "memory://"


@pytest.mark.parametrize(
    "url", ["amqp://h", "amqps://h", "pyamqp://h", "redis://h", "rediss://h", "sentinel://h"]
)
def test_no_broker_is_waited_for_for_ever(url: str) -> None:
    assert all(0 < value <= 5 for name, value in refusals.options(url).items() if "timeout" in name)
    assert refusals.options(url)


def test_certificates_are_verified_with_the_hosts_name() -> None:
    assert refusals.tls("amqps://h") == {"server_hostname": None, "cert_reqs": ssl.CERT_REQUIRED}
    assert refusals.tls("rediss://h") == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    assert refusals.tls("amqp://h") is False


def test_waits_grow_to_five_seconds_and_begin_again() -> None:
    waits = Backoff()
    grown = [waits.next() for _ in range(20)]
    assert grown[0] <= 0.25
    assert all(3.75 <= wait <= 6.25 for wait in grown[6:])
    waits.reset()
    assert waits.next() <= 0.25


def test_a_wait_ends_when_it_is_woken_and_not_before() -> None:
    wake = Wake()
    began = time.monotonic()
    assert not wake.wait(0.05)
    assert time.monotonic() - began >= 0.05
    for _ in range(100_000):  # more than the line holds: it neither blocks nor raises
        wake.up()
    began = time.monotonic()
    threading.Thread(target=wake.up).start()
    assert not wake.wait(10)
    assert time.monotonic() - began < 5
    wake.close()
    wake.up()  # by a handler that outlived the consumer


def test_a_wait_ends_when_its_socket_can_be_read() -> None:
    wake, (ours, theirs) = Wake(), socket.socketpair()
    theirs.send(b"x")
    assert wake.wait(10, ours)
    for each in (wake, ours, theirs):
        each.close()


@pytest.mark.parametrize("crew", [lambda: Threads(2), Loop])
def test_a_crew_works_and_raises_what_is_raised(crew: Any) -> None:
    made, done = crew(), threading.Event()
    made.start([])
    made.submit(done.set)
    assert done.wait(5)
    with pytest.raises(ZeroDivisionError):
        made.call(lambda: 1 / 0)
    made.close()


def test_a_crew_that_never_began_ends_quietly() -> None:
    Loop().close()
    Threads(1).close()


def test_a_thread_that_hangs_does_not_keep_the_crew_from_ending() -> None:
    crew, on = Threads(1), threading.Event()
    crew.start([])
    crew.submit(lambda: on.wait(30) and None)
    crew.close()
    on.set()
