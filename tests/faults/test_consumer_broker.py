"""A broker that goes away, freezes, comes back, or closes the channel: no ack meets the wrong message."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from brokers import crash_proof
from consuming import Shop
from handling import Held, write
from helpers import eventually
from kombu.transport.pyamqp import Channel

from outbox import events
from outbox.consumer import subscription
from outbox.handlers import Handlers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from databases import Database

    from relay import sandbox
    from relay.theatre.proxy import Proxy


@pytest.fixture
def shop(database: Database, amqp_url: str) -> Iterator[Shop]:
    made = Shop(database, amqp_url)
    yield made
    made.close()


def registry(shop: Shop, handler: Any = write) -> Handlers[Any]:
    handlers = Handlers("receipts", session=shop.sessions)
    handlers("order.paid")(handler)
    return handlers


def lost(shop: Shop, count: int = 1) -> None:
    """Wait until the consumer has noticed so many losses of its broker."""
    eventually(lambda: len(shop.heard(events.ConsumerLost, server="broker")) >= count, 30)


def back(shop: Shop, count: int) -> None:
    """Wait until the consumer has begun for the so-manieth time."""

    def there() -> bool:
        assert len(shop.heard(events.ConsumerStarted)) >= count, shop.heard(events.ConsumerLost)
        return True

    eventually(there, 30)


def test_an_ack_for_an_old_connection_is_never_sent_on_a_new_one(
    shop: Shop, proxy: Callable[[str], Proxy]
) -> None:
    """Tags begin again at 1 on each connection: an old one would forget another message, unprocessed."""
    first, second, third = (shop.job(payload=name) for name in ("first", "second", "third"))
    between, held = proxy(shop.broker_url), Held("second")
    handlers = registry(shop, held)
    with shop.consuming(handlers, broker_url=between.url(shop.broker_url), concurrency=1) as running:
        running.started(shop)
        shop.send(first)
        shop.becomes(first, "succeeded")
        shop.send(second)
        assert held.inside.wait(10)
        between.cut()
        back(shop, 2)
        shop.send(third)  # with tag 2 on the new connection, as the second had on the old one
        eventually(lambda: shop.ready() == 0)
        held.then = running.consumer.stop
        held.on.set()
        assert running.ended() is None
    assert shop.state(second) == "succeeded"
    assert shop.state(third) == "published"
    with shop.consuming(handlers):
        shop.becomes(third, "succeeded")
    assert (shop.effects(), shop.ready()) == (3, 0)


def test_cut_connections_lose_nothing_and_repeat_nothing(shop: Shop, proxy: Callable[[str], Proxy]) -> None:
    ids, between, pause = [shop.job() for _ in range(300)], proxy(shop.broker_url), threading.Event()
    handlers = registry(shop, lambda job, session: (write(job, session), pause.wait(0.005)))
    with shop.consuming(handlers, broker_url=between.url(shop.broker_url)) as running:
        running.started(shop)
        shop.send_all(ids)
        for count in range(2, 8):
            between.cut()
            back(shop, count)
        eventually(lambda: shop.effects() == 300, 60)
    assert shop.value("SELECT count(*) FROM outbox.job WHERE state = 'succeeded' AND attempt = 1") == 300
    assert shop.value("SELECT max(n) FROM (SELECT count(*) n FROM effect GROUP BY job_id) x") == 1
    assert shop.ready() == 0


@pytest.mark.parametrize("direction", ["stall", "stall_replies", "stall_requests"])
def test_a_silent_broker_is_noticed_and_left(
    shop: Shop, proxy: Callable[[str], Proxy], monkeypatch: pytest.MonkeyPatch, direction: str
) -> None:
    monkeypatch.setattr(subscription, "HEARTBEAT", 1.0)
    job_id, between = shop.job(), proxy(shop.broker_url)
    with shop.consuming(registry(shop), broker_url=between.url(shop.broker_url)) as running:
        running.started(shop)
        getattr(between, direction)()
        lost(shop)
        between.resume()
        shop.send(job_id)
        shop.becomes(job_id, "succeeded", 30)
    assert shop.effects() == 1


def test_a_queue_that_is_deleted_is_declared_again(shop: Shop) -> None:
    job_id = shop.job()
    with shop.consuming(registry(shop)) as running:
        running.started(shop)
        shop.delete_queue()
        back(shop, 2)
        shop.send(job_id)
        shop.becomes(job_id, "succeeded")


def test_a_broker_that_never_answers_but_sends_heartbeats_is_left(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ, where a queue has lost its leader: each heartbeat begins a read's time-out anew."""

    def never(channel: Channel, *_: object, **__: object) -> None:
        while True:
            channel.connection.drain_events()

    monkeypatch.setattr(subscription, "HEARTBEAT", 4.0)
    monkeypatch.setattr(subscription, "ANSWER", 3.0)
    monkeypatch.setattr(Channel, "basic_consume", never)
    job_id = shop.job()
    with shop.consuming(registry(shop)) as running:
        lost(shop)
        reason = shop.heard(events.ConsumerLost)[0].reason
        assert reason.startswith("no answer within 3 s; has queue receipts a leader?")
        monkeypatch.undo()
        running.started(shop)
        shop.send(job_id)
        shop.becomes(job_id, "succeeded")


@pytest.fixture
def own_shop(database: Database, own_amqp_url: str) -> Iterator[Shop]:
    made = Shop(database, own_amqp_url)
    yield made
    made.close()


@pytest.mark.long
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_broker_that_restarts_while_jobs_are_at_work(
    own_shop: Shop, own_rabbitmq: sandbox.RabbitMQ, end: str
) -> None:
    shop, held = own_shop, Held("held")
    job_id, others = shop.job(payload="held"), [shop.job() for _ in range(20)]
    with shop.consuming(registry(shop, held), concurrency=2) as running:
        running.started(shop)
        crash_proof(own_rabbitmq, shop.broker_url, "receipts")
        shop.send_all([job_id, *others])
        assert held.inside.wait(10)
        getattr(own_rabbitmq, end)()
        lost(shop)
        held.on.set()
        assert shop.becomes(job_id, "succeeded").attempt == 1  # it needs no broker to be finished
        own_rabbitmq.start()
        back(shop, 2)
        for each in others:
            shop.becomes(each, "succeeded", 30)
    assert (shop.effects(), shop.ready()) == (21, 0)


def test_a_channel_that_the_broker_closes_for_a_slow_handler(
    own_shop: Shop, own_rabbitmq: sandbox.RabbitMQ
) -> None:
    """consumer_timeout: the message comes again while its handler works, and is done once."""
    shop, held = own_shop, Held("slow")
    own_rabbitmq.ctl("eval", "application:set_env(rabbit, consumer_timeout, 1000).")
    own_rabbitmq.ctl("eval", "application:set_env(rabbit, channel_tick_interval, 500).")
    slow, others = shop.job(payload="slow"), [shop.job() for _ in range(20)]
    with shop.consuming(registry(shop, held), concurrency=2) as running:
        running.started(shop)
        shop.send(slow)
        assert held.inside.wait(10)
        lost(shop)
        assert "timeout" in shop.heard(events.ConsumerLost)[0].reason.lower()
        shop.send_all(others)
        held.on.set()
        for each in (slow, *others):
            shop.becomes(each, "succeeded", 30)
    own_rabbitmq.ctl("eval", "application:set_env(rabbit, consumer_timeout, 1800000).")
    with shop.consuming(registry(shop, held)):  # a second copy may be left, for a channel closed meanwhile
        eventually(lambda: shop.ready() == 0)
    assert (shop.effects(), shop.ready()) == (21, 0)


def test_nothing_of_the_slow_path_charges_a_job_for_a_flapping_broker(
    shop: Shop, proxy: Callable[[str], Proxy]
) -> None:
    """Its handler works on while the broker comes and goes: the copies wait, and cost nothing."""
    job_id, between, held = shop.job(payload="held"), proxy(shop.broker_url), Held("held")
    with shop.consuming(registry(shop, held), broker_url=between.url(shop.broker_url)) as running:
        running.started(shop)
        shop.send(job_id)
        assert held.inside.wait(10)
        for count in range(2, 6):
            between.cut()
            back(shop, count)
        eventually(lambda: shop.heard(events.MessageKept))
        held.on.set()
        assert shop.becomes(job_id, "succeeded").attempt == 1
        eventually(lambda: shop.heard(events.MessageIgnored, result="already_applied"))
    assert (shop.effects(), shop.ready()) == (1, 0)
