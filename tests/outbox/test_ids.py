"""Ids are valid, grow, and are never given twice, across threads and forks."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

from outbox import ids

if TYPE_CHECKING:
    import pytest


def test_an_id_is_a_uuid_of_version_7_with_the_time_of_now() -> None:
    before = time.time_ns() // 1_000_000
    made = ids.uuid7()
    after = time.time_ns() // 1_000_000
    assert type(made) is uuid.UUID
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before - 1 <= made.int >> 80 <= after + 1


def test_ids_grow_within_a_process() -> None:
    clock = ids.Clock()
    made = [clock.next() for _ in range(20_000)]
    assert all(earlier < later for earlier, later in pairwise(made))


def test_a_clock_that_is_set_back_gives_greater_ids_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ids.Clock()
    before = clock.next()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert before < clock.next() < clock.next()


def test_a_counter_that_is_full_borrows_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ids.Clock()
    before = clock.next()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    clock._counter = (1 << 42) - 2
    full, borrowed = clock.next(), clock.next()
    assert before < full < borrowed
    assert borrowed.int >> 80 == (full.int >> 80) + 1
    assert (borrowed.version, borrowed.variant) == (7, uuid.RFC_4122)


def test_threads_never_get_the_same_id(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ids.Clock()
    advance = clock._advance
    turns = iter(range(1, 10**9))

    def interrupted(now: int, noise: int) -> None:
        advance(now, noise)
        threading.Event().wait(0.001 * (next(turns) % 2))  # lets another thread in, where the lock does not

    monkeypatch.setattr(clock, "_advance", interrupted)
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda _: [clock.next().int >> 32 for _ in range(50)], range(8)))
    # Without the random tail: the counter alone has to tell them apart.
    assert len({made for batch in batches for made in batch}) == 400


def test_a_forked_child_does_not_go_on_with_its_parents_counter() -> None:
    clock = ids.Clock()
    clock.next()
    clock._lock.acquire()  # as if another thread were making an id at the moment of the fork
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()

    def child() -> None:
        answers.put((clock._counter, clock.next().version))

    process = fork.Process(target=child, daemon=True)
    process.start()
    process.join(10)
    clock._lock.release()
    assert process.exitcode == 0, "the child waits for a lock that nobody can release"
    fresh, version = answers.get()
    assert (fresh, version) == (0, 7)


def test_two_hosts_that_share_a_millisecond_do_not_share_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: frozen)
    first, second = ids.Clock(), ids.Clock()
    made = [clock.next() for clock in (first, second) for _ in range(5_000)]
    assert len({each.int >> 32 for each in made}) == 10_000


def test_randomness_comes_from_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    urandom = os.urandom

    def counted(size: int) -> bytes:
        asked.append(size)
        return urandom(size)

    monkeypatch.setattr(os, "urandom", counted)
    ids.Clock().next()
    assert asked == [10]
