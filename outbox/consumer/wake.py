"""Wakes a thread that waits for a socket: a line to oneself."""

from __future__ import annotations

import select
import socket
from contextlib import suppress


class Wake:
    """Ends a wait from any thread, and from a signal's handler."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        for end in (self._read, self._write):
            end.setblocking(False)

    def up(self) -> None:
        """End the wait under way, or the next one."""
        with suppress(OSError):  # full: it will end anyway; closed: nobody waits any more
            self._write.send(b"\0")

    def wait(self, seconds: float, watched: socket.socket | None = None) -> bool:
        """Wait until woken, or until a socket can be read, or until the time is over.

        Args:
            seconds: At most so long.
            watched: A socket to look at as well.

        Returns:
            Whether the socket can be read.
        """
        ends = [self._read] if watched is None else [self._read, watched]
        ready, _, _ = select.select(ends, [], [], max(seconds, 0.0))
        if self._read in ready:
            with suppress(BlockingIOError):
                self._read.recv(65_536)
        return watched in ready

    def close(self) -> None:
        """Give the line back."""
        self._read.close()
        self._write.close()
