"""The consumer, against a real broker and a real database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from consuming import Shop
from handling import Gatekeeper, fail, write
from helpers import eventually

from outbox import events
from outbox.backoff import Backoff
from outbox.handlers import Handlers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database


@pytest.fixture
def shop(database: Database, amqp_url: str) -> Iterator[Shop]:
    made = Shop(database, amqp_url)
    yield made
    made.close()


def registry(shop: Shop, handler: Any = write, **options: Any) -> Handlers[Any]:
    handlers = Handlers("receipts", session=shop.sessions)
    handlers("order.paid", **options)(handler)
    return handlers


def told(shop: Shop, count: int) -> bool:
    assert len(shop.heard(events.MessageIgnored)) >= count, shop.seen
    return True


def test_a_job_is_done_and_its_message_is_acked(shop: Shop) -> None:
    job_id = shop.job("order.paid", {"order_id": 7})
    with shop.consuming(registry(shop)) as running:
        running.started(shop)
        shop.send(job_id)
        row = shop.becomes(job_id, "succeeded")
    assert shop.ready() == 0
    assert (row.version, row.attempt, shop.effects(job_id)) == (2, 1, 1)


def test_so_many_run_at_once_and_so_many_wait_here(shop: Shop) -> None:
    ids, gate = [shop.job() for _ in range(10)], Gatekeeper()
    with shop.consuming(registry(shop, gate), concurrency=3, prefetch=5) as running:
        running.started(shop)
        shop.send_all(ids)
        for _ in range(3):
            assert gate.inside.acquire(timeout=10)
        eventually(lambda: shop.ready() == 5)
        gate.on.set()
        for job_id in ids:
            shop.becomes(job_id, "succeeded")
    assert gate.most == 3


def test_each_of_many_copies_counts_once(shop: Shop) -> None:
    ids = [shop.job() for _ in range(30)]
    with shop.consuming(registry(shop)) as running:
        running.started(shop)
        for _ in range(3):
            shop.send_all(ids)
        for job_id in ids:
            shop.becomes(job_id, "succeeded")
        eventually(lambda: told(shop, 60))
    assert (shop.effects(), shop.ready()) == (30, 0)


def test_a_failure_is_written_and_acked(shop: Shop) -> None:
    job_id = shop.job()
    with shop.consuming(registry(shop, fail, backoff=Backoff.fixed(60))) as running:
        running.started(shop)
        shop.send(job_id)
        row = shop.becomes(job_id, "scheduled")
    assert (row.error, shop.ready()) == ("RuntimeError: no", 0)


def test_garbage_is_buried_and_the_rest_goes_on(shop: Shop) -> None:
    job_id = shop.job()
    with shop.consuming(registry(shop)) as running:
        running.started(shop)
        for body in (b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000):
            shop.publish(
                body, routing_key="order.paid", message_id=str(body[:9]), content_type="application/json"
            )
        shop.publish(
            b'{"__type__": "zzz", "__value__": 1}',
            routing_key="order.paid",
            message_id="trick",
            content_type="application/json",
        )
        shop.send(job_id)
        shop.becomes(job_id, "succeeded")
        eventually(lambda: len(shop.heard(events.MessageUnreadable)) == 4)
    assert shop.ready() == 0
    assert shop.value("SELECT count(*) FROM outbox.job WHERE state = 'dead'") == 4
    assert shop.value("SELECT count(*) FROM outbox.job WHERE state = 'succeeded'") == 2


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8", "binary", "nonsense"])
def test_bytes_arrive_as_they_were_sent(shop: Shop, encoding: str) -> None:
    got: list[bytes] = []
    with shop.consuming(registry(shop, lambda job, _: got.append(job.payload))) as running:
        running.started(shop)
        shop.publish(
            b"caf\xe9",
            routing_key="order.paid",
            message_id="m",
            content_type="a/b",
            content_encoding=encoding,
        )
        eventually(lambda: got)
    assert got == [b"caf\xe9"]


def test_a_long_message_arrives_whole(shop: Shop) -> None:
    job_id = shop.job(payload="x" * 5_000_000)
    got: list[int] = []
    with shop.consuming(registry(shop, lambda job, _: got.append(len(job.payload)))) as running:
        running.started(shop)
        shop.send(job_id)
        shop.becomes(job_id, "succeeded")
    assert got == [5_000_000]
