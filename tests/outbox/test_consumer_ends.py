"""How a consumer begins, what it refuses, and how it ends."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from consuming import Shop
from handling import Gatekeeper, write
from helpers import eventually
from kombu import Connection
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from outbox import events
from outbox.consumer import Consumer
from outbox.errors import Misuse, Unreachable, WrongEnvironment
from outbox.handlers import Handlers
from outbox.leased import LeasedJob, LeaseLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from databases import Database

    from relay.theatre.proxy import Proxy


@pytest.fixture
def shop(database: Database, amqp_url: str) -> Iterator[Shop]:
    made = Shop(database, amqp_url)
    yield made
    made.close()


def registry(shop: Shop, handler: Any = write, **options: Any) -> Handlers[Any]:
    handlers = Handlers("receipts", session=shop.sessions)
    handlers("order.paid", **options)(handler)
    return handlers


def test_the_relay_is_told_that_a_queue_was_bound(shop: Shop) -> None:
    with psycopg.connect(shop.database.dsn, autocommit=True) as listener:
        listener.execute("LISTEN outbox")
        with shop.consuming(registry(shop)):
            told = next(iter(listener.notifies(timeout=10, stop_after=1)))
    assert (told.channel, told.payload) == ("outbox", "bound")


def test_a_second_queue_for_a_kind_of_job_is_refused(shop: Shop) -> None:
    with shop.consuming(registry(shop)) as running:
        running.started(shop)
        others = Handlers("mails", session=shop.sessions)
        others("order.paid")(write)
        others("order.sent")(write)
        error = shop.refused(others)
    assert isinstance(error, WrongEnvironment)
    assert "order.paid" in str(error)
    assert "receipts" in str(error)
    assert "mails" in str(error)
    assert "--take-over" in str(error)
    assert shop.database.execute("SELECT kind, queue FROM outbox.taker") == [("order.paid", "receipts")]


def test_a_kind_can_be_taken_over(shop: Shop) -> None:
    shop.database.execute("INSERT INTO outbox.taker VALUES ('order.paid', 'old')")
    with shop.consuming(registry(shop), take_over=True) as running:
        running.started(shop)
    assert shop.value("SELECT queue FROM outbox.taker") == "receipts"
    with shop.consuming(registry(shop)) as running:
        running.started(shop)


def test_an_event_has_any_number_of_takers(shop: Shop) -> None:
    shop.database.execute("INSERT INTO outbox.taker VALUES ('order.paid', 'old')")
    with shop.consuming(registry(shop, event=True)) as running:
        running.started(shop)


def test_a_queue_that_is_different_is_named_with_the_remedy(shop: Shop) -> None:
    with Connection(shop.broker_url) as broker:
        broker.default_channel.queue_declare("receipts", durable=True, auto_delete=False)
    error = shop.refused(registry(shop))
    assert isinstance(error, WrongEnvironment)
    assert "receipts" in str(error)
    assert "--queue-type" in str(error)
    assert len(str(error).splitlines()) == 1
    with shop.consuming(registry(shop), queue_type="classic") as running:
        running.started(shop)


def test_a_topology_of_others_is_left_alone(shop: Shop) -> None:
    error = shop.refused(registry(shop), declare=False)
    assert isinstance(error, WrongEnvironment)
    assert "no queue 'receipts'" in str(error)
    with Connection(shop.broker_url) as broker:
        broker.default_channel.queue_declare("receipts", durable=True, auto_delete=False)
    job_id = shop.job()
    with shop.consuming(registry(shop), declare=False) as running:
        running.started(shop)
        shop.send(job_id, exchange="", routing_key="receipts")
        shop.becomes(job_id, "succeeded")


def test_a_login_that_is_refused_is_fatal_and_tells_no_secret(shop: Shop) -> None:
    url = shop.broker_url.replace("://", "://somebody:s3cret@", 1) if "@" not in shop.broker_url else ""
    url = url or "amqp://somebody:s3cret@" + shop.broker_url.rpartition("@")[2]
    error = shop.refused(registry(shop), broker_url=url)
    assert isinstance(error, Unreachable)
    assert "ACCESS_REFUSED" in str(error)
    assert "s3cret" not in str(error)


def test_a_broker_that_is_not_there_yet_is_waited_for(shop: Shop, proxy: Callable[[str], Proxy]) -> None:
    between = proxy(shop.broker_url)
    between.refuse()
    job_id = shop.job()
    with shop.consuming(registry(shop), broker_url=between.url(shop.broker_url)) as running:
        eventually(lambda: shop.heard(events.ConsumerLost, server="broker"))
        between.accept()
        running.started(shop)
        shop.send(job_id)
        shop.becomes(job_id, "succeeded")


def test_a_database_without_our_schema_is_named(empty_database: Database, amqp_url: str) -> None:
    shop = Shop(empty_database, amqp_url)
    error = shop.refused(registry(shop))
    assert isinstance(error, WrongEnvironment)
    assert "outbox migrate" in str(error)
    shop.close()


def test_sessions_without_an_engine_are_named(shop: Shop) -> None:
    handlers = Handlers("receipts", session=sessionmaker())
    handlers("order.paid")(write)
    error = shop.refused(handlers)
    assert isinstance(error, Misuse)
    assert "engine" in str(error)


def test_stopping_while_the_database_does_not_answer(shop: Shop, proxy: Callable[[str], Proxy]) -> None:
    between = proxy(shop.database.dsn)
    between.stall()
    engine = create_engine(between.url(shop.database.dsn).replace("postgresql://", "postgresql+psycopg://"))
    handlers = Handlers("receipts", session=sessionmaker(engine))
    handlers("order.paid")(write)
    with shop.consuming(handlers) as running:
        eventually(lambda: between.connections)
        running.stop(5)
        assert running.error is None
    between.cut()


def test_a_registry_without_handlers_is_refused(shop: Shop) -> None:
    with pytest.raises(Misuse, match="no handlers"):
        Consumer(Handlers("receipts", session=shop.sessions), broker_url=shop.broker_url)


@pytest.mark.parametrize("numbers", [{"concurrency": 0}, {"prefetch": 0}, {"prefetch": 65_536}])
def test_numbers_that_no_broker_takes_are_refused(shop: Shop, numbers: dict[str, int]) -> None:
    with pytest.raises(Misuse, match="65535"):
        Consumer(registry(shop), broker_url=shop.broker_url, **numbers)


def test_the_lifespan_is_entered_before_and_left_after(shop: Shop) -> None:
    said: list[str] = []

    @contextmanager
    def lifespan() -> Iterator[None]:
        said.append("in")
        yield
        said.append("out")

    handlers = Handlers("receipts", session=shop.sessions, lifespan=lifespan)
    handlers("order.paid")(lambda _job, _session: said.append("job"))
    job_id = shop.job()
    with shop.consuming(handlers) as running:
        running.started(shop)
        shop.send(job_id)
        shop.becomes(job_id, "succeeded")
    assert said == ["in", "job", "out"]


# --- the end ---


def test_what_is_at_work_is_finished_and_the_rest_handed_back(shop: Shop) -> None:
    ids, gate = [shop.job() for _ in range(4)], Gatekeeper()
    with shop.consuming(registry(shop, gate), concurrency=1) as running:
        running.started(shop)
        shop.send_all(ids)
        assert gate.inside.acquire(timeout=10)
        eventually(lambda: shop.ready() == 2)
        running.consumer.stop()
        gate.on.set()
        assert running.ended() is None
    assert (shop.effects(), shop.ready()) == (1, 3)


def test_what_takes_longer_than_the_grace_period_is_handed_back(shop: Shop) -> None:
    job_id, gate = shop.job(), Gatekeeper()
    with shop.consuming(registry(shop, gate), grace=0.2) as running:
        running.started(shop)
        shop.send(job_id)
        assert gate.inside.acquire(timeout=10)
        running.stop()
    eventually(lambda: shop.ready() == 1)
    assert shop.state(job_id) == "published"
    gate.on.set()


def test_the_second_stop_is_at_once(shop: Shop) -> None:
    job_id, gate = shop.job(), Gatekeeper()
    with shop.consuming(registry(shop, gate), grace=60) as running:
        running.started(shop)
        shop.send(job_id)
        assert gate.inside.acquire(timeout=10)
        began = time.monotonic()
        running.consumer.stop()
        running.consumer.stop()
        assert running.ended() is None
    assert time.monotonic() - began < 5
    gate.on.set()


def test_a_lease_is_handed_back_at_no_cost(shop: Shop) -> None:
    job_id, inside, on = shop.job(), threading.Event(), threading.Event()
    handlers = Handlers("receipts", session=shop.sessions)
    lost: list[bool] = []

    @handlers.leased("order.paid")
    def handle(job: LeasedJob[Any]) -> None:
        inside.set()
        assert on.wait(20)
        with pytest.raises(LeaseLost), job.finish():
            pass
        lost.append(job.lost)

    with shop.consuming(handlers, grace=0.2) as running:
        running.started(shop)
        shop.send(job_id)
        assert inside.wait(10)
        running.stop()
    assert shop.ready() == 0  # acked at once: the lease is what counts
    row = shop.row(job_id)
    assert (row.state, row.attempt, row.lease_token) == ("scheduled", 0, None)
    on.set()
    eventually(lambda: lost == [True])


def test_stopping_while_the_broker_is_away(shop: Shop, proxy: Callable[[str], Proxy]) -> None:
    between = proxy(shop.broker_url)
    with shop.consuming(registry(shop), broker_url=between.url(shop.broker_url)) as running:
        running.started(shop)
        between.refuse()
        eventually(lambda: shop.heard(events.ConsumerLost, server="broker"))
        running.stop(5)
        assert running.error is None
