"""Where a job goes. Pure."""

from __future__ import annotations

import pytest
from relays import row

from relay.config import Route
from relay.routes import Routes, Way, differences

TABLE = (
    Route("mail.*", exchange="mails", max_bytes=100),
    Route("mail.urgent", exchange="never"),
    Route("stock.*", exchange="", routing_key="stock"),
    Route("audit", routing_key="log"),
)


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("order.paid", Way("outbox", "order.paid", None)),
        ("mail.urgent", Way("mails", "mail.urgent", 100)),
        ("mail", Way("outbox", "mail", None)),
        ("Mail.x", Way("outbox", "Mail.x", None)),
        ("stock.low", Way("", "stock", None)),
        ("audit", Way("outbox", "log", None)),
    ],
)
def test_the_first_route_that_matches_takes_the_kind(kind: str, way: Way) -> None:
    assert Routes("outbox", TABLE).way(row(kind=kind)) == way


@pytest.mark.parametrize(
    ("exchange", "routing_key", "way"),
    [
        ("own", None, Way("own", "mail.x", 100)),
        ("own", "key", Way("own", "key", 100)),
        (None, "key", Way("mails", "key", 100)),
        ("", "queue", Way("", "queue", 100)),
    ],
)
def test_a_jobs_own_way_comes_first(exchange: str | None, routing_key: str | None, way: Way) -> None:
    assert Routes("outbox", TABLE).way(row(kind="mail.x", exchange=exchange, routing_key=routing_key)) == way


def test_exchanges_are_named_once_and_the_brokers_own_is_not_declared() -> None:
    assert Routes("outbox", (*TABLE, Route("x", exchange="outbox"))).exchanges() == [
        "outbox",
        "mails",
        "never",
    ]


def test_what_differs_in_two_digests() -> None:
    ours = Routes("outbox", TABLE).digest("amqp://a")
    assert differences(ours, ours) == []
    assert differences(ours, Routes("outbox", TABLE).digest("amqp://b")) == ["broker"]
    assert differences(ours, Routes("other", TABLE[1:]).digest("amqp://a")) == ["exchange", "routes"]


def test_a_digest_changes_with_the_broker_the_exchange_and_the_table() -> None:
    digests = [
        Routes("outbox", TABLE).digest("amqp://a"),
        Routes("outbox", TABLE).digest("amqp://b"),
        Routes("other", TABLE).digest("amqp://a"),
        Routes("outbox", TABLE[1:]).digest("amqp://a"),
        Routes("outbox", tuple(reversed(TABLE))).digest("amqp://a"),
    ]
    assert len(set(digests)) == len(digests)
    assert Routes("outbox", TABLE).digest("amqp://a") == digests[0]
