"""The sleep, and what ends it."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from relay.waiter import Waiter

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def waiter() -> Iterator[Waiter]:
    made = Waiter()
    yield made
    made.close()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def slept(waiter: Waiter, seconds: float, *sockets: int | None) -> float:
    began = time.monotonic()
    waiter.wait(seconds, sockets)
    return time.monotonic() - began


def test_nothing_ends_it_but_time(waiter: Waiter) -> None:
    assert 0.09 < slept(waiter, 0.1) < 2


def test_no_time_is_no_sleep(waiter: Waiter) -> None:
    for seconds in (0, -1):
        assert min(slept(waiter, seconds) for _ in range(3)) < 0.1


def test_a_wake_up_ends_it(waiter: Waiter) -> None:
    timer = threading.Timer(0.05, waiter.wake)
    timer.start()
    assert slept(waiter, 30) < 5
    timer.join()


def test_a_wake_up_before_the_sleep_ends_the_sleep_once(waiter: Waiter) -> None:
    for _ in range(100_000):  # more than a pipe holds
        waiter.wake()
    assert slept(waiter, 30) < 5
    assert slept(waiter, 0.1) > 0.09


def test_what_arrives_ends_it(waiter: Waiter) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"!")
        assert slept(waiter, 30, None, ours.fileno(), -1) < 5


def test_a_closed_connection_ends_it(waiter: Waiter) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        assert slept(waiter, 30, ours.fileno()) < 5


def test_a_socket_may_be_named_twice(waiter: Waiter) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert slept(waiter, 0.1, ours.fileno(), ours.fileno()) > 0.09


def test_a_late_wake_up_writes_into_nobodys_file() -> None:
    waiter = Waiter()
    waiter.close()
    read, write = os.pipe()  # may get the numbers that the waiter had
    os.set_blocking(read, False)
    waiter.wake()
    with pytest.raises(BlockingIOError):
        os.read(read, 1)
    os.close(read)
    os.close(write)


def test_it_leaves_no_file_open(waiter: Waiter) -> None:
    before = open_files()
    for _ in range(50):
        waiter.wait(0.001, [])
    assert open_files() == before
