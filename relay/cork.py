"""Opens AMQP connections that write many messages at once.

py-amqp makes one system call to write a message, and four before each one to see whether anything has
arrived: half of what a publish costs. Here frames are gathered while the publisher says so, and the reading
is left to it. Nothing here knows of messages or confirms.
"""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from amqp.method_framing import frame_writer
from kombu.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONNECT_TIMEOUT: Final = 1.0
IO_TIMEOUT: Final = 1.5
HEARTBEAT: Final = 10
ENOUGH: Final = 65_536
"""Bytes that are worth a system call."""
# py-amqp ends a connection whose broker reads nothing for a second, as RabbitMQ does to hold back those
# who publish too fast, and while it is blocked. A dead broker is found by heartbeats and late confirms.
PATIENT: Final = {socket.TCP_USER_TIMEOUT: 0} if hasattr(socket, "TCP_USER_TIMEOUT") else {}


class Cork:
    """Stands before a transport and gathers what is written, while it is asked to.

    Args:
        transport: py-amqp's.
    """

    def __init__(self, transport: Any) -> None:
        self._transport, self._held = transport, bytearray()
        self._check: Callable[[], None] | None = None

    def write(self, data: bytes | memoryview) -> None:
        """Write ``data``, or hold a copy: the frame writer, which calls this, uses its buffer again."""
        if self._check is None:
            self._transport.write(data)
            return
        self._held += data
        if len(self._held) >= ENOUGH:
            self._flush(self._check)

    @contextmanager
    def holding(self, check: Callable[[], None]) -> Iterator[None]:
        """Hold what is written in this block until it is enough, or the block ends; after an error, drop it.

        Args:
            check: called before each real write; raises to prevent it.
        """
        self._check = check
        try:
            yield
            self._flush(check)
        finally:
            self._check = None
            self._held.clear()

    def _flush(self, check: Callable[[], None]) -> None:
        if self._held:
            check()
            self._transport.write(self._held)
            self._held.clear()


def connect(
    url: str, on_blocked: Callable[[str], None], on_unblocked: Callable[[], None]
) -> tuple[Any, Cork]:
    """Open a connection whose every step is bounded: py-amqp's own defaults wait for ever.

    Args:
        url: one broker's address.
        on_blocked: called with the broker's reason when it asks for a pause.
        on_unblocked: called when the pause is over.

    Returns:
        py-amqp's connection, and the cork of its bottle.
    """
    corks: list[Cork] = []

    def corked(connection: Any, transport: Any) -> Any:
        corks.append(Cork(transport))
        return frame_writer(connection, corks[-1])

    options = {
        "read_timeout": IO_TIMEOUT,
        "write_timeout": IO_TIMEOUT,
        "socket_settings": PATIENT,
        "on_blocked": on_blocked,
        "on_unblocked": on_unblocked,
        "frame_writer": corked,
        "client_properties": {"connection_name": f"outbox-relay {socket.gethostname()}:{os.getpid()}"},
    }
    # Without a server_hostname py-amqp checks the certificate's chain and not whose it is.
    tls = {"server_hostname": None, "cert_reqs": ssl.CERT_REQUIRED} if url.startswith("amqps") else False
    client = Connection(
        url, heartbeat=HEARTBEAT, connect_timeout=CONNECT_TIMEOUT, ssl=tls, transport_options=options
    )
    connection = _established(client.transport)
    # The broker knows by now that we understand connection.blocked; py-amqp itself takes the same line as the
    # order to read the socket before every single publish.
    connection.client_properties = {**connection.client_properties, "capabilities": {}}
    return connection, corks[-1]


def _established(transport: Any) -> Any:
    """Return a connection, or leave nothing open: after most errors py-amqp keeps its socket."""
    made: list[Any] = []
    make = transport.Connection

    def remembered(**options: Any) -> Any:
        made.append(make(**options))
        return made[-1]

    transport.Connection = remembered
    try:
        return transport.establish_connection()
    except BaseException:
        for connection in made:
            connection.collect()
        raise
