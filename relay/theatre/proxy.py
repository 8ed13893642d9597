"""A TCP proxy that fails on demand: what a network does to connections, without touching the network."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlsplit

from relay.sandbox.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: close() sends RST, as a firewall or a dead machine would
_CHUNK = 65_536
_LAST_LOOK = 1.0


def reset(end: asyncio.StreamWriter) -> None:
    """Close a connection by RST."""
    raw = end.get_extra_info("socket")
    if raw is not None and raw.fileno() != -1:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    end.transport.abort()


class Proxy:
    """Passes connections on to one address, in a thread of its own.

    Args:
        host: of the server.
        port: of the server.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.port = free_port()
        self._delay = 0.0
        self._fuse: int | None = None
        self._burning: asyncio.Task[None] | None = None
        self.passed = 0
        """Bytes that were passed on, both ways together."""
        self.burnt = 0
        """How often :meth:`cut_after` came to its cut."""
        self._open: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._to_server, self._to_client = self._call(self._gates())
        self.accept()

    def url(self, original: str) -> str:
        """The same URL with this proxy in the place of host and port."""
        parts = urlsplit(original)
        login, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{login}{at}127.0.0.1:{self.port}").geturl()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def cut(self) -> None:
        """Reset every connection, on both sides. New ones are accepted."""
        self._call(self._cut())

    def cut_after(self, count: int) -> None:
        """Reset every connection when so many more bytes have passed, both ways together; once.

        The last of them still arrives. A later call takes the place of an earlier one.
        """
        self._call(self._light(count))

    def lead_to(self, url: str) -> None:
        """Lead to another server from now on, as an address does after a failover. Resets every connection.

        Args:
            url: of the other server; the client's own login and database still count.
        """
        parts = urlsplit(url)
        self._call(self._lead_to((parts.hostname or "", parts.port or 0)))

    def stall(self) -> None:
        """Hold everything back, both ways, and tell nobody. Connections stay open."""
        self._call(self._set(self._to_server, self._to_client, passing=False))

    def stall_replies(self) -> None:
        """Hold back what the server says; what the client says still arrives."""
        self._call(self._set(self._to_client, passing=False))

    def stall_requests(self) -> None:
        """Hold back what the client says; what the server says still arrives."""
        self._call(self._set(self._to_server, passing=False))

    def resume(self) -> None:
        """Deliver what was held back, and pass on again. Undoes every kind of stall."""
        self._call(self._set(self._to_server, self._to_client, passing=True))

    def delay(self, seconds: float) -> None:
        """Let everything travel this long, each way, from now on."""
        self._delay = seconds

    def refuse(self) -> None:
        """Reset every connection and refuse new ones, as a machine without a server does."""
        self._call(self._refuse())

    def accept(self) -> None:
        """Undo :meth:`refuse`."""
        self._call(self._accept())

    def close(self) -> None:
        """Reset every connection and end the thread."""
        if self._loop.is_running():
            self._call(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _gates(self) -> tuple[asyncio.Event, asyncio.Event]:
        gates = (asyncio.Event(), asyncio.Event())
        for gate in gates:
            gate.set()
        return gates

    async def _set(self, *gates: asyncio.Event, passing: bool) -> None:
        for gate in gates:
            if passing:
                gate.set()
            else:
                gate.clear()

    async def _accept(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def _refuse(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            for each in listener.sockets:
                self._loop.remove_reader(each.fileno())
            await asyncio.sleep(0)  # asyncio forgets what it just accepted, if the server is closed at once
            listener.close()
        await self._cut()

    async def _cut(self) -> None:
        cut = list(self._open)
        for connection in cut:
            connection.cancel()
        await asyncio.gather(*cut, return_exceptions=True)

    async def _light(self, count: int) -> None:
        self._fuse = count

    async def _burn(self) -> None:
        await self._cut()
        self._fuse = None
        self.burnt += 1

    async def _lead_to(self, target: tuple[str, int]) -> None:
        self._target = target
        await self._cut()

    async def _end(self) -> None:
        await self._refuse()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:  # asyncio's own, taking what has just come: cancelled, they would leave it open
            await asyncio.wait(left, timeout=_LAST_LOOK)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0)  # what was reset is closed in the loop's next turn

    def _connected(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self._listener is None:  # it was on its way in when we began to refuse
            reset(client)
            return
        connection = self._loop.create_task(self._serve(reader, client))
        self._open.add(connection)
        connection.add_done_callback(self._open.discard)
        # Cut before its first step, it has had no chance to reset anything.
        connection.add_done_callback(lambda done: reset(client) if done.cancelled() else None)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        ends = [client]
        try:
            replies, server = await asyncio.open_connection(*self._target)
            ends.append(server)
            await asyncio.gather(
                self._pump(reader, server, self._to_server),
                self._pump(replies, client, self._to_client),
            )
            for end in ends:
                end.close()
        except (OSError, asyncio.CancelledError):  # nobody there, or cut
            for end in ends:
                reset(end)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        travelling: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        arrival = asyncio.create_task(self._arrive(travelling, writer, gate))
        try:
            with suppress(OSError):  # a reset travels on as the end of the stream
                while data := await reader.read(_CHUNK):
                    travelling.put_nowait((self._loop.time() + self._delay, data))
            travelling.put_nowait((self._loop.time() + self._delay, b""))
            await arrival
        finally:
            arrival.cancel()

    async def _arrive(
        self,
        travelling: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
        gate: asyncio.Event,
    ) -> None:
        with suppress(OSError):
            while True:
                due, data = await travelling.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                await gate.wait()
                if not data:
                    writer.write_eof()
                    return
                await self._pass_on(data, writer)

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Write, up to where a fuse ends; then cut, and let nothing more through before that is done."""
        data = data[: self._fuse]
        self.passed += len(data)
        if self._fuse:
            self._fuse -= len(data)
            if self._fuse == 0:
                self._burning = self._loop.create_task(self._burn())
        writer.write(data)
        await writer.drain()
