"""A consumer that is killed, by its own job or by others, at any moment."""

from __future__ import annotations

import random
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from consuming import Shop
from helpers import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from databases import Database
    from processes import Process, Processes
    from servers import Broker

APP = Path(__file__).with_name("consumer_app.py")


@pytest.fixture
def shop(database: Database, amqp_url: str) -> Iterator[Shop]:
    made = Shop(database, amqp_url)
    yield made
    made.close()


@pytest.fixture
def start(shop: Shop, processes: Processes) -> Callable[..., Process]:
    """Return what starts a consumer as a process."""

    def consumer(**settings: object) -> Process:
        env = {"DATABASE_URL": shop.database.url, "BROKER_URL": shop.broker_url}
        return processes.start(
            sys.executable, APP, env={**env, **{name: str(value) for name, value in settings.items()}}
        )

    return consumer


def declare(start: Callable[..., Process]) -> None:
    """Let a consumer declare the queue, and go."""
    process = start()
    process.wait_event("consumer_started")
    process.terminate()
    assert process.wait() == 0


def done(shop: Shop) -> int:
    return int(shop.value("SELECT count(*) FROM outbox.job WHERE state IN ('succeeded', 'dead')"))


def test_a_job_that_kills_its_consumer_ends_dead_and_its_neighbours_pay_nothing(
    shop: Shop, start: Callable[..., Process]
) -> None:
    declare(start)
    poison = shop.job(payload={"die": True}, max_attempts=3)
    neighbours = [shop.job() for _ in range(6)]
    shop.send_all([poison, *neighbours])
    deaths = 0
    while done(shop) < 7:
        process = start()
        eventually(lambda process=process: not process.running or done(shop) == 7, 30)
        if process.running:
            process.terminate()
            assert process.wait() == 0
        else:
            deaths += 1
        assert deaths < 10
    assert (shop.state(poison), shop.row(poison).attempt) == ("dead", 3)
    # Once without having paid (nobody knew), then once for each attempt.
    assert deaths == 4
    assert {shop.row(each).attempt for each in neighbours} == {1}
    assert shop.effects() == 6
    assert shop.ready() == 0


@pytest.mark.long
def test_kills_at_random_lose_nothing_and_repeat_nothing(shop: Shop, start: Callable[..., Process]) -> None:
    declare(start)
    dice = random.Random(7)
    ids = [shop.job(payload={"sleep": 0.01}, max_attempts=1000) for _ in range(150)]
    for _ in range(3):
        shop.send_all(ids)
    pause, kills = threading.Event(), 0
    while done(shop) < len(ids):
        process = start()
        process.wait_event("consumer_started")
        pause.wait(dice.uniform(0.05, 0.8))
        process.kill()
        kills += 1
        assert kills < 60
        # What failed or was charged is scheduled by nobody here: only the broker's copies bring jobs back.
        assert shop.value("SELECT count(*) FROM outbox.job WHERE state = 'scheduled'") == 0
    assert kills > 1
    assert shop.value("SELECT count(*) FROM outbox.job WHERE state = 'succeeded'") == 150
    assert shop.effects() == 150
    assert shop.value("SELECT max(n) FROM (SELECT count(*) n FROM effect GROUP BY job_id) x") == 1


def test_a_leased_job_of_a_killed_consumer_is_left_to_the_leader(
    shop: Shop, start: Callable[..., Process], rabbitmq: Broker
) -> None:
    declare(start)
    job_id = shop.job("report", {"sleep": 60})
    shop.send(job_id)
    process = start()
    shop.becomes(job_id, "running")
    virtual_host = urlsplit(shop.broker_url).path[1:]
    eventually(lambda: rabbitmq.ctl("list_queues", "-p", virtual_host, "messages").split()[-1] == "0", 30)
    process.kill()
    row = shop.row(job_id)
    assert (row.state, row.attempt, shop.ready()) == ("running", 1, 0)
    eventually(lambda: shop.seconds_until("lease_until") < 0, 10)


def test_sigterm_finishes_what_is_at_work(shop: Shop, start: Callable[..., Process]) -> None:
    declare(start)
    ids = [shop.job(payload={"sleep": 1}) for _ in range(6)]
    shop.send_all(ids)
    process = start(CONCURRENCY=2)
    process.wait_event("consumer_started")
    eventually(lambda: shop.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 2)
    process.terminate()
    assert process.wait() == 0
    assert (shop.effects(), shop.ready()) == (2, 4)
