"""The relay's sleep: ended at once by a stop, the doorbell, or the broker. It decides nothing."""

from __future__ import annotations

import os
import selectors
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Waiter:
    """Sleeps on sockets; ``wake`` may come from a signal handler or another thread, before the sleep too."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def wait(self, seconds: float, sockets: Iterable[int | None]) -> None:
        """Sleep for at most ``seconds``, or until one of ``sockets`` can be read or ``wake`` is called."""
        if seconds <= 0:
            return
        with selectors.DefaultSelector() as selector:
            for fileno in {self._read, *(known for known in sockets if known is not None and known >= 0)}:
                selector.register(fileno, selectors.EVENT_READ)
            for key, _ in selector.select(seconds):
                if key.fd == self._read:
                    self._drain()

    def wake(self) -> None:
        """End the sleep, or the next one."""
        with suppress(OSError):  # full of wake-ups already, or closed: nobody sleeps here any more
            os.write(self._write, b"!")

    def close(self) -> None:
        """Close the pipe."""
        read, write = self._read, self._write
        self._read = self._write = -1  # a late wake-up must not write into whoever gets the number next
        os.close(read)
        os.close(write)

    def _drain(self) -> None:
        try:
            while os.read(self._read, 512):
                pass
        except BlockingIOError:
            return
