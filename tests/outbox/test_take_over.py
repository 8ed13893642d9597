"""A kind that moves from one queue to another: the first gets no more of it, and does what it has."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from amqp.exceptions import ChannelError
from consuming import Shop
from handling import Gatekeeper, write
from helpers import eventually

from outbox import events
from outbox.consumer import registration
from outbox.errors import WrongEnvironment
from outbox.handlers import Handlers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database


@pytest.fixture(params=["amqp", "redis", "memory"])
def shop(request: pytest.FixtureRequest, database: Database) -> Iterator[Shop]:
    url = "memory://" if request.param == "memory" else request.getfixturevalue(f"{request.param}_url")
    made = Shop(database, url)
    yield made
    made.close()


def registry(shop: Shop, name: str, handler: Any = write) -> Handlers[Any]:
    """Two kinds of job; one of them is to move."""
    handlers = Handlers(f"{name}-{shop.database.name}", session=shop.sessions)
    handlers(f"paid.{shop.database.name}")(handler)
    return handlers


def test_the_queue_that_was_taken_over_from_gets_no_more(shop: Shop) -> None:
    old, new = registry(shop, "old"), registry(shop, "new")
    with shop.consuming(old) as running:
        running.started(shop)
    with shop.consuming(new, take_over=True):
        eventually(lambda: shop.heard(events.KindMoved, queue=old.name, taker=new.name, reason=None))
        ids = [shop.job(kind=old.kinds[0]) for _ in range(3)]
        shop.send_all(ids)
        for job_id in ids:
            shop.becomes(job_id, "succeeded")
    with suppress(ChannelError):  # to Redis an empty queue is none
        assert shop.ready(old.name) == 0
    error = shop.refused(old)
    assert isinstance(error, WrongEnvironment)
    assert "leave the handler out" in str(error)


def test_a_running_consumer_notices_and_does_what_it_has(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "LOOK_EVERY", 0.2)
    gate = Gatekeeper()
    old, new = registry(shop, "old", gate), registry(shop, "new")
    first, second = shop.job(kind=old.kinds[0]), shop.job(kind=old.kinds[0])
    with shop.consuming(old) as running:
        running.started(shop)
        shop.send(first)
        assert gate.inside.acquire(timeout=10)
        shop.database.execute("UPDATE outbox.taker SET queue = %s", new.name)
        eventually(lambda: shop.heard(events.KindMoved, queue=old.name, taker=new.name))
        with shop.consuming(new):
            eventually(lambda: len(shop.heard(events.ConsumerStarted)) == 2)
            shop.send(second)
            shop.becomes(second, "succeeded")
        gate.on.set()
        shop.becomes(first, "succeeded")
    assert (gate.most, len(shop.heard(events.KindMoved))) == (1, 1)


@pytest.mark.parametrize("shop", ["amqp"], indirect=True)
def test_a_binding_that_is_not_ours_to_remove_is_named(shop: Shop) -> None:
    old, new = registry(shop, "old"), registry(shop, "new")
    shop.database.execute("INSERT INTO outbox.taker VALUES (%s, %s)", old.kinds[0], old.name)
    with shop.broker() as broker:
        broker.default_channel.queue_declare(new.name, durable=True, auto_delete=False)
    with shop.consuming(new, take_over=True, declare=False):
        moved = eventually(lambda: shop.heard(events.KindMoved))
    assert moved[0].reason == f"remove its binding to {old.kinds[0]}"


@pytest.mark.parametrize("shop", ["amqp"], indirect=True)
def test_a_queue_that_is_gone_needs_no_unbinding(shop: Shop) -> None:
    new = registry(shop, "new")
    shop.database.execute("INSERT INTO outbox.taker VALUES (%s, 'gone')", new.kinds[0])
    with shop.consuming(new, take_over=True):
        eventually(lambda: shop.heard(events.KindMoved, queue="gone", reason=None))
    assert len(shop.heard(events.ConsumerStarted)) == 1
