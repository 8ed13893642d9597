"""Notes every message that reaches a queue of its own, with a plain kombu client and none of our code.

Run as ``python -m relay.demo.wiretap FOLDER``. What it wrote is what was on the wire: the verdict trusts it,
and not us.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from kombu import Exchange, Queue  # type: ignore[attr-defined]
from kombu.connection import Connection
from kombu.mixins import ConsumerMixin

if TYPE_CHECKING:
    from kombu.message import Message

QUEUE = Queue("wiretap", Exchange("outbox", "topic", durable=True), routing_key="#", durable=True)


class Wiretap(ConsumerMixin):
    """Writes a line a message, then acknowledges it."""

    def __init__(self, connection: Connection, notes: TextIO) -> None:
        self.connection, self._notes = connection, notes
        self.connect_max_retries = None

    def get_consumers(self, Consumer: Any, channel: Any) -> list[Any]:  # noqa: ARG002, N803 - kombu's signature
        """Return the one consumer."""
        return [Consumer([QUEUE], on_message=self.note, prefetch_count=100)]

    def note(self, message: Message) -> None:
        """Write down what came: job id, key, and whether the broker delivers it again by itself."""
        again = "redelivered" if (message.delivery_info or {}).get("redelivered") else "first"
        key = message.headers.get("x-outbox-key", "-")
        print(message.properties.get("message_id"), key, again, file=self._notes, flush=True)
        message.ack()

    def on_connection_error(self, exc: BaseException, interval: float) -> None:
        """Say nothing: the broker is restarted on purpose."""


def main() -> None:
    """Listen until the end of the demo."""
    with (
        Connection(os.environ["OUTBOX_BROKER_URL"]) as connection,
        (Path(sys.argv[1]) / "delivered").open("a") as notes,
    ):
        Wiretap(connection, notes).run()


if __name__ == "__main__":
    main()
