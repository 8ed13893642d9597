"""An AMQP server that answers when and what a test says: no real broker acks out of order on demand."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Any, Self

from amqp.serialization import dumps

_METHOD, _HEADER, _END = 1, 2, b"\xce"
_PUBLISH = (60, 40)

# What is answered at once: method → reply, format, arguments.
_ANSWERS: dict[tuple[int, int], tuple[tuple[int, int], str, tuple[Any, ...]]] = {
    (10, 11): ((10, 30), "BlB", (2047, 131_072, 0)),  # start-ok → tune
    (10, 40): ((10, 41), "s", ("",)),  # open → open-ok
    (20, 10): ((20, 11), "S", ("",)),  # channel.open → open-ok
    (20, 40): ((20, 41), "", ()),  # channel.close → close-ok
    (40, 10): ((40, 11), "", ()),  # exchange.declare → declare-ok
    (85, 10): ((85, 11), "", ()),  # confirm.select → select-ok
}


class Peer:
    """Takes one connection at a time and every message; acks nothing by itself."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._socket: socket.socket | None = None
        self.published = threading.Semaphore(0)
        """Released once for each message that has come in whole."""
        self._thread = threading.Thread(target=self._serve, name="peer", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """``amqp://…``."""
        return f"amqp://guest:guest@127.0.0.1:{self._listener.getsockname()[1]}//"

    def wait(self, count: int) -> None:
        """Wait for as many messages."""
        for _ in range(count):
            assert self.published.acquire(timeout=10), "a message did not come"

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Confirm."""
        self._send(1, (60, 80), "Lb", (tag, multiple))

    def nack(self, tag: int, *, multiple: bool = False) -> None:
        """Say no."""
        self._send(1, (60, 120), "Lb", (tag, multiple))

    def close_channel(self, code: int, text: str) -> None:
        """Refuse what came last on channel 1."""
        self._send(1, (20, 40), "BsBB", (code, text, *_PUBLISH))

    def close(self) -> None:
        """Close everything."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._socket is not None:
            self._socket.close()
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        while True:
            try:
                self._socket, _ = self._listener.accept()
                self._talk(self._socket)
            except OSError:
                if self._listener.fileno() == -1:
                    return

    def _talk(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        stream.read(8)
        capabilities = {"capabilities": {"publisher_confirms": True, "basic.nack": True}}
        self._send(0, (10, 10), "ooFSS", (0, 9, capabilities, "PLAIN", "en_US"))
        left: dict[int, int] = {}
        while len(head := stream.read(7)) == 7:
            kind, channel, size = struct.unpack(">BHI", head)
            payload = stream.read(size)
            stream.read(1)
            if kind == _METHOD:
                answer = _ANSWERS.get(struct.unpack(">HH", payload[:4]))
                if answer is not None:
                    self._send(channel, *answer)
                continue
            left[channel] = (
                struct.unpack(">Q", payload[4:12])[0] if kind == _HEADER else left.get(channel, 0) - size
            )
            if left[channel] == 0:
                self.published.release()

    def _send(self, channel: int, method: tuple[int, int], fields: str, values: tuple[Any, ...]) -> None:
        assert self._socket is not None
        payload = struct.pack(">HH", *method) + (dumps(fields, values) if fields else b"")
        self._socket.sendall(struct.pack(">BHI", _METHOD, channel, len(payload)) + payload + _END)
