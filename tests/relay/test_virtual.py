"""Publishing through kombu's virtual transports: nothing is dropped in silence, nobody waited for."""

from __future__ import annotations

import time
import uuid
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection, Exchange, Queue
from relays import nothing, row

from outbox.errors import LeadershipLost
from relay import sandbox
from relay.batch import chunks
from relay.publisher import BrokerGone
from relay.routes import Routes
from relay.virtual import VirtualPublisher, opened
from relay.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from relay.term import Term
    from relay.theatre.proxy import Proxy


@pytest.fixture
def window() -> Window:
    return Window(1000, 8_000_000)


@pytest.fixture
def publisher(redis_url: str, window: Window) -> Iterator[VirtualPublisher]:
    made = VirtualPublisher(redis_url, Routes("outbox", ()), window)
    made.connect(nothing)
    yield made
    made.drop()


@pytest.fixture
def server(redis_url: str) -> Iterator[Any]:
    """Kombu as a consumer has it."""
    with Connection(redis_url) as connection:
        yield connection


def bind(server: Any, queue: str, kinds: str, exchange: str = "outbox", kind: str = "topic") -> Any:
    bound = Queue(queue, Exchange(exchange, kind, durable=True), routing_key=kinds)(server.default_channel)
    bound.declare()
    return bound


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_what_is_bound_is_confirmed_and_arrives(
    publisher: VirtualPublisher, window: Window, server: Any, term: Term
) -> None:
    queue = bind(server, "all", "#")
    rows = [row(payload=b'{"n": 1}', headers={"trace": "1"}) for _ in range(20)]
    assert publisher.send(rows, term, lambda _: True)
    assert {r.id for r in window.take().confirmed} == {r.id for r in rows}
    assert publisher.depth("all") == 20
    message = queue.get()
    assert message.body == b'{"n": 1}'
    assert uuid.UUID(message.properties["message_id"]) == rows[0].id
    assert message.headers["trace"] == "1"
    assert message.headers["x-outbox-possible-duplicate"] is True


def test_what_nothing_is_bound_for_is_unroutable(
    publisher: VirtualPublisher, window: Window, server: Any, term: Term
) -> None:
    bind(server, "known", "known.#")
    rows = [row(kind="known.x"), row(kind="other.x"), row(kind="known.y")]
    publisher.send(rows, term, lambda _: False)
    outcomes = window.take()
    assert {r.id for r in outcomes.confirmed} == {rows[0].id, rows[2].id}
    assert [(r.id, words) for r, words in outcomes.unroutable] == [
        (rows[1].id, "nothing is bound to 'outbox' for 'other.x'")
    ]
    assert publisher.depth("known") == 2


def test_a_jobs_own_exchange_is_no_direct_one(
    publisher: VirtualPublisher, window: Window, server: Any, term: Term
) -> None:
    """Of an exchange that it has not declared kombu believes so, and drops what a pattern is bound for."""
    bind(server, "own", "order.*", exchange="own")
    publisher.send([row(kind="order.paid", exchange="own")], term, lambda _: False)
    assert len(window.take().confirmed) == 1
    assert publisher.depth("own") == 1


def test_a_queue_can_be_named_directly(publisher: VirtualPublisher, window: Window, term: Term) -> None:
    publisher.send([row(exchange="", routing_key="plain")], term, lambda _: False)
    assert len(window.take().confirmed) == 1
    assert publisher.depth("plain") == 1


def test_a_queue_that_is_unbound_takes_no_more(
    publisher: VirtualPublisher, window: Window, server: Any, term: Term
) -> None:
    queue = bind(server, "all", "#")
    publisher.send([row()], term, lambda _: False)
    queue.delete()
    publisher.send([row()], term, lambda _: False)
    outcomes = window.take()
    assert (len(outcomes.confirmed), len(outcomes.unroutable)) == (1, 1)


def test_without_trust_nothing_is_sent(
    publisher: VirtualPublisher, window: Window, server: Any, term: Term
) -> None:
    bind(server, "all", "#")
    term._deadline, term._heartbeat = 0.0, 10**9
    with pytest.raises(LeadershipLost):
        publisher.send([row()], term, lambda _: False)
    assert publisher.depth("all") == 0


def test_reconnects_leave_nothing_open(redis_url: str, window: Window) -> None:
    before = open_files()
    for _ in range(50):
        made = VirtualPublisher(redis_url, Routes("outbox", ()), window)
        made.connect(nothing)
        assert made.depth("all") == 0
        made.drop()
    assert open_files() <= before


def test_a_server_that_is_gone_or_frozen_is_not_waited_for(
    tmp_path: Path, window: Window, term: Term
) -> None:
    rows = [row(exchange="", routing_key="q")]
    with sandbox.valkey(tmp_path) as server:
        publisher = VirtualPublisher(server.url, Routes("outbox", ()), window)
        other = VirtualPublisher(server.url, Routes("outbox", ()), window)
        publisher.connect(nothing)
        server.pause()
        publisher._asked_at = float("-inf")
        took = {"settle": seconds(publisher.settle), "connect": seconds(lambda: other.connect(nothing))}
        server.resume()
        publisher.connect(nothing)
        server.kill()
        took["send"] = seconds(lambda: publisher.send(rows, term, lambda _: False))
        took["dead"] = seconds(lambda: publisher.connect(nothing))
    assert max(took.values()) < 2.0, took
    assert len(window.suspects) == 1


@pytest.fixture
def between(redis_url: str, proxy: Callable[[str], Proxy]) -> Proxy:
    """The way to the server."""
    return proxy(redis_url)


@pytest.fixture
def afar(between: Proxy, redis_url: str, window: Window) -> Iterator[VirtualPublisher]:
    """A publisher on that way."""
    made = VirtualPublisher(between.url(redis_url), Routes("outbox", ()), window)
    made.connect(nothing)
    yield made
    made.drop()


def test_a_long_way_is_gone_once_a_chunk_and_not_once_a_message(
    afar: VirtualPublisher, between: Proxy, window: Window, server: Any, term: Term
) -> None:
    bind(server, "all", "#")
    between.delay(0.05)
    began = time.monotonic()
    assert afar.send([row() for _ in range(256)], term, lambda _: False)
    assert time.monotonic() - began < 256 * 0.1 / 3
    assert len(window.take().confirmed) == 256


def test_a_chunk_without_an_answer_is_unknown(
    afar: VirtualPublisher, publisher: VirtualPublisher, between: Proxy, window: Window, term: Term
) -> None:
    rows = [row(exchange="", routing_key="plain") for _ in range(10)]
    afar.send([row(exchange="", routing_key="plain")], term, lambda _: False)
    window.forget(window.take().confirmed)
    between.stall_replies()
    with pytest.raises(BrokerGone) as gone:
        afar.send(rows, term, lambda _: False)
    assert gone.value.unknown == 10
    assert not window.take().confirmed
    assert window.suspects == {r.ident for r in rows}
    assert publisher.depth("plain") == 11, "they have arrived, and only we do not know"


def test_a_queue_that_is_refused_is_the_ways_fault_and_the_others_go(
    publisher: VirtualPublisher, window: Window, server: Any, term: Term
) -> None:
    bind(server, "good", "good.#")
    bind(server, "bad", "bad.#")
    server.default_channel.client.set("bad", "no list")
    secret = b"4111111111111111"
    rows = [row(kind=kind, payload=secret) for kind in ("good.a", "bad.a", "good.b")]
    assert publisher.send(rows, term, lambda _: False)
    outcomes = window.take()
    assert {r.id for r in outcomes.confirmed} == {rows[0].id, rows[2].id}
    ((refused, words),) = outcomes.unroutable
    assert refused.id == rows[1].id
    assert "WRONGTYPE" in words
    assert b64encode(secret).decode() not in words
    assert (window.flying, publisher.depth("good")) == (0, 2)


def test_of_two_queues_that_take_an_event_one_refuses(
    publisher: VirtualPublisher, window: Window, server: Any, term: Term
) -> None:
    """Each message is a command for each of its queues: the answers of one are not its neighbour's."""
    bind(server, "every", "#")
    bind(server, "some", "two.#")
    server.default_channel.client.set("some", "no list")
    rows = [row(kind=kind) for kind in ("two.a", "one.b", "two.c", "one.d")]
    assert publisher.send(rows, term, lambda _: False)
    outcomes = window.take()
    assert {r.id for r in outcomes.confirmed} == {rows[1].id, rows[3].id}
    assert {r.id for r, _ in outcomes.unroutable} == {rows[0].id, rows[2].id}
    assert publisher.depth("every") == 4


def test_a_server_that_takes_no_more_is_gone_and_what_it_took_is_confirmed(
    tmp_path: Path, window: Window, term: Term
) -> None:
    secret = b"4111111111111111"
    rows = [row(exchange="", routing_key=f"q{n}", payload=secret) for n in range(3)]
    with sandbox.valkey(tmp_path) as valkey:
        publisher = VirtualPublisher(valkey.url, Routes("outbox", ()), window)
        publisher.connect(nothing)
        with Connection(valkey.url) as other:
            client = other.default_channel.client
            client.config_set("maxmemory", "1")
            with pytest.raises(BrokerGone) as gone:
                publisher.send(rows, term, lambda _: False)
            assert "OutOfMemory" in str(gone.value)
            assert b64encode(secret).decode() not in str(gone.value)
            assert (gone.value.unknown, client.llen("q0")) == (3, 0)
            client.config_set("maxmemory", "0")
        publisher.connect(nothing)
        assert publisher.send(rows, term, lambda _: True)
        publisher.drop()
    assert {r.id for r in window.take().confirmed} == {r.id for r in rows}


def test_a_queue_that_is_unbound_after_the_look_still_gets_its_message(
    publisher: VirtualPublisher, window: Window, server: Any, term: Term, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kombu's own second look found nothing, dropped the message, and nobody knew."""
    bind(server, "all", "#")
    look_up = publisher._bindings._look_up

    def and_then_unbound(exchange: str) -> Any:
        found = look_up(exchange)
        server.default_channel.client.delete("_kombu.binding.outbox")
        return found

    monkeypatch.setattr(publisher._bindings, "_look_up", and_then_unbound)
    publisher.send([row()], term, lambda _: False)
    assert (len(window.take().confirmed), publisher.depth("all")) == (1, 1)


def test_big_messages_are_few_a_chunk() -> None:
    rows = [row(payload=b"x" * size) for size in (10, 70_000, 10, 40_000, 40_000, 10)]
    assert [len(chunk) for chunk in chunks(rows)] == [2, 3, 1]
    assert [len(chunk) for chunk in chunks([row() for _ in range(130)])] == [64, 64, 2]
    assert not list(chunks([]))


def seconds(step: Any) -> float:
    """How long a step takes to find out that the server is gone."""
    began = time.monotonic()
    with pytest.raises(BrokerGone):
        step()
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("rediss://h/0", "CERT_REQUIRED"),
        ("rediss://h/0?ssl_cert_reqs=none", "CERT_NONE"),
        ("redis://h/0", None),
    ],
)
def test_certificates_are_checked_unless_the_address_says_otherwise(url: str, checked: str | None) -> None:
    ssl = opened(url).ssl
    assert (ssl["ssl_cert_reqs"].name if checked else ssl) == (checked or None)
