"""The consumer on brokers that kombu emulates AMQP on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis
from consuming import Shop
from handling import write
from helpers import eventually
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from outbox import events
from outbox.handlers import Handlers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from databases import Database
    from sqlalchemy.orm import Session

    from outbox.job import Job
    from relay.theatre.proxy import Proxy


@pytest.fixture(params=["redis", "memory"])
def shop(request: pytest.FixtureRequest, database: Database) -> Iterator[Shop]:
    url = request.getfixturevalue("redis_url") if request.param == "redis" else "memory://"
    made = Shop(database, url)
    yield made
    made.close()


def registry(shop: Shop, handler: Any = write) -> Handlers[Any]:
    handlers = Handlers(f"receipts-{shop.database.name}", session=shop.sessions)
    handlers("order.paid")(handler)
    return handlers


def test_jobs_are_done_once(shop: Shop) -> None:
    ids = [shop.job() for _ in range(30)]
    with shop.consuming(registry(shop)) as running:
        running.started(shop)
        for _ in range(2):
            shop.send_all(ids)
        for job_id in ids:
            shop.becomes(job_id, "succeeded")
        eventually(lambda: len(shop.heard(events.MessageIgnored)) == 30)
    assert shop.effects() == 30


def test_a_database_that_goes_away_is_waited_for_with_messages_in_hand(
    shop: Shop, proxy: Callable[[str], Proxy]
) -> None:
    """What is kept is due long before the database is back; a wait of less than nothing was one for ever."""
    between, ids = proxy(shop.database.dsn), [shop.job() for _ in range(40)]
    url = between.url(shop.database.dsn).replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url, connect_args={"connect_timeout": 2})
    handlers = Handlers(f"receipts-{shop.database.name}", session=sessionmaker(engine))
    handlers("order.paid")(write)
    with shop.consuming(handlers) as running:
        running.started(shop)
        between.refuse()
        shop.send_all(ids)
        eventually(lambda: len(shop.heard(events.ConsumerLost, server="database")) >= 4, 20)
        between.accept()
        for job_id in ids:
            assert shop.becomes(job_id, "succeeded").attempt == 1
    engine.dispose()


def test_an_event_is_adopted_with_its_properties(shop: Shop) -> None:
    event = shop.job(payload={"a": 1}, key="order:7", headers={"tenant": "a"}, tracked=False)
    got: list[Job] = []
    with shop.consuming(registry(shop, lambda job, _session: got.append(job))) as running:
        running.started(shop)
        shop.send(event, version=None)
        eventually(lambda: shop.heard(events.JobHandled))
    assert (got[0].kind, got[0].key, got[0].payload, got[0].headers) == (
        "order.paid",
        "order:7",
        {"a": 1},
        {"tenant": "a"},
    )


@pytest.mark.parametrize("shop", ["redis"], indirect=True)  # memory forgets nothing while it lives
def test_a_server_that_forgot_the_bindings_is_told_them_again(shop: Shop) -> None:
    handlers = registry(shop)
    with shop.consuming(handlers) as running, redis.Redis.from_url(shop.broker_url) as client:
        running.started(shop)
        client.flushdb()
        eventually(lambda: client.exists("_kombu.binding.outbox"), 15)
        job_id = shop.job()
        shop.send(job_id)
        shop.becomes(job_id, "succeeded")
    assert len(shop.heard(events.ConsumerStarted)) == 1


@pytest.mark.parametrize("shop", ["redis"], indirect=True)  # memory forgets what was not acked
def test_what_was_not_finished_comes_back_and_takes_the_slow_path(shop: Shop) -> None:
    job_id, inside, on = shop.job(), threading.Event(), threading.Event()

    def handle(job: Job, session: Session) -> None:
        if not inside.is_set():
            inside.set()
            assert on.wait(20)
            raise RuntimeError("too late")
        write(job, session)

    handlers = registry(shop, handle)
    with shop.consuming(handlers, grace=0.2) as running:
        running.started(shop)
        shop.send(job_id)
        assert inside.wait(10)
        running.stop()
    with shop.consuming(handlers):
        # The first handler is at it still: the copy is kept.
        eventually(lambda: shop.heard(events.MessageKept))
        shop.database.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        shop.becomes(job_id, "succeeded")
        assert (shop.row(job_id).attempt, shop.effects()) == (1, 1)
    on.set()
