"""Wakes a thread that waits for a socket: a pipe to oneself."""

from __future__ import annotations

import os
import select
from contextlib import suppress


class Wake:
    """Ends a wait from any thread, and from a signal's handler."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)

    def up(self) -> None:
        """End the wait under way, or the next one."""
        with suppress(OSError):  # full: it will end anyway; closed: nobody waits any more
            os.write(self._write, b"\0")

    def wait(self, seconds: float, socket: int | None = None) -> bool:
        """Wait until woken, or until a socket can be read, or until the time is over.

        Args:
            seconds: At most so long.
            socket: A file descriptor to watch as well.

        Returns:
            Whether the socket can be read.
        """
        watched = [self._read] if socket is None else [self._read, socket]
        ready, _, _ = select.select(watched, [], [], max(seconds, 0.0))
        if self._read in ready:
            with suppress(BlockingIOError):
                os.read(self._read, 65_536)
        return socket in ready

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self._read)
        os.close(self._write)
