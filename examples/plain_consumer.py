"""A consumer with none of our library: pika, and a file of SQLite to remember what it has done.

    export OUTBOX_BROKER_URL=amqp://guest:guest@127.0.0.1//
    python examples/plain_consumer.py revenue.db

It keeps account of what the shop takes, from the events of the kind ``order.booked``. Any language that has
an AMQP client can do the same; what it needs to know of a message is here:

    body             the payload, just as the application wrote it: JSON in UTF-8
    type             the kind, which is the routing key as well
    message_id       the same in every copy: a message may come twice, after a fault on its way
    x-outbox-key     a header: the ordering key, if there is one

Three things make it safe: the queue is durable, the effect and the message's id are committed together, and
the message is acked after that commit and not before.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING

import pika

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingChannel

QUEUE = "revenue"
KIND = "order.booked"


def address(url: str) -> pika.URLParameters:
    """Read the relay's address: to pika, ``//`` at its end is a virtual host with no name, and not ``/``."""
    found = pika.URLParameters(url)
    found.virtual_host = found.virtual_host or "/"
    return found


def declare(channel: BlockingChannel) -> None:
    """Ask for a copy of each such event. Until somebody does, the relay keeps them in the database."""
    channel.exchange_declare("outbox", "topic", durable=True)
    channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    channel.queue_bind(QUEUE, "outbox", routing_key=KIND)
    channel.basic_qos(prefetch_count=10)


def account(database: sqlite3.Connection, message_id: str, body: bytes) -> None:
    """Book an order, once: the second copy of a message finds its id there."""
    order = json.loads(body, parse_float=Decimal)
    with database:  # one transaction
        database.execute(
            "INSERT INTO revenue (message_id, order_id, total) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (message_id, order["order_id"], order["total"]),
        )


def consume(path: str) -> None:
    """Book orders until the process is stopped."""
    with (
        closing(sqlite3.connect(path)) as database,
        pika.BlockingConnection(address(os.environ["OUTBOX_BROKER_URL"])) as connection,
    ):
        database.execute(
            "CREATE TABLE IF NOT EXISTS revenue (message_id TEXT PRIMARY KEY, order_id INTEGER, total TEXT)"
        )
        channel = connection.channel()
        declare(channel)
        print(f"waiting for {KIND}", flush=True)
        for method, properties, body in channel.consume(QUEUE):
            account(database, properties.message_id, body)
            channel.basic_ack(method.delivery_tag)
            print(f"booked {body.decode()}", flush=True)


if __name__ == "__main__":
    consume(sys.argv[1])
