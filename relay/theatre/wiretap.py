"""Notes every message that reaches a queue of its own, with a plain kombu client and none of our code.

Run as ``python -m relay.theatre.wiretap FILE EXCHANGE QUEUE``. What it wrote is what was on the wire: the
judge trusts it, and not us.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kombu import Consumer, Exchange, Queue  # type: ignore[attr-defined]
from kombu.connection import Connection

from relay.theatre.journal import Journal, Lines
from relay.theatre.judge import Delivery

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFETCH: Final = 100
LOOK_EVERY: Final = 0.5
AGAIN_AFTER: Final = 0.1
"""Seconds between two tries to connect: a silence that is measured must not be ours."""


def declare(url: str, exchange: str, queue: str) -> None:
    """Bind the wiretap's queue to all that is published, before the first job is: it must miss nothing."""
    with Connection(url) as connection:
        _queue(connection, exchange, queue)(connection.channel()).declare()


def deliveries(lines: Lines) -> Iterator[Delivery]:
    """Yield what a wiretap noted since the last call."""
    for line in lines.new():
        id_, version, flagged, again, at = line.split()
        known = None if version == "-" else int(version)
        yield Delivery(id_, known, flagged == "flagged", again == "redelivered", float(at))


def listen(url: str, exchange: str, queue: str, journal: Journal) -> None:
    """Take every message, for ever; the broker may come and go."""
    while True:
        connection = Connection(url, connect_timeout=5)
        with suppress(*connection.connection_errors, *connection.channel_errors), connection:
            _consume(connection, _queue(connection, exchange, queue), journal)
        time.sleep(AGAIN_AFTER)


def _queue(connection: Connection, exchange: str, queue: str) -> Any:
    arguments = {"x-queue-type": "quorum"} if connection.transport.driver_type == "amqp" else None
    source = Exchange(exchange, "topic", durable=True)
    return Queue(queue, source, routing_key="#", durable=True, queue_arguments=arguments)


def _consume(connection: Connection, queue: Any, journal: Journal) -> None:
    channel = connection.channel()
    consumer = Consumer(
        channel, [queue], on_message=lambda message: _note(message, journal), prefetch_count=PREFETCH
    )
    with consumer:
        while True:
            with suppress(TimeoutError):
                connection.drain_events(timeout=LOOK_EVERY)
            if connection.transport.driver_type != "amqp":
                # A server that kombu emulates AMQP on may have forgotten the binding, and kombu believes for
                # ever that it knows.
                channel.state.clear()
                queue(channel).declare()


def _note(message: Any, journal: Journal) -> None:
    """Write down what came, then acknowledge it."""
    journal.note(
        message.properties.get("message_id"),
        message.headers.get("x-outbox-version", "-"),
        "flagged" if message.headers.get("x-outbox-possible-duplicate") else "plain",
        "redelivered" if (message.delivery_info or {}).get("redelivered") else "first",
    )
    message.ack()


def main() -> None:
    """Listen until the end of the performance."""
    file, exchange, queue = sys.argv[1:]
    with Journal(Path(file)) as journal:
        listen(os.environ["OUTBOX_BROKER_URL"], exchange, queue, journal)


if __name__ == "__main__":
    main()
