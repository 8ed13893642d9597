"""Renews the leases of this process while their handlers work, on a thread of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from outbox.leased import boottime

if TYPE_CHECKING:
    from collections.abc import Callable

    from outbox.leased import Lease


class Renewals:
    """Keeps leases alive until they are let go.

    Args:
        call: Runs a function that talks to the database where that may be done: here, or on the event loop.
    """

    def __init__(self, call: Callable[[Callable[[], None]], None]) -> None:
        self._call = call
        self._leases: list[Lease[Any]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def add(self, lease: Lease[Any]) -> None:
        """Keep a lease alive from now on."""
        with self._changed:
            self._leases.append(lease)
            if self._thread is None:
                self._thread = threading.Thread(target=self._renew, name="outbox-leases", daemon=True)
                self._thread.start()
            self._changed.notify()

    def discard(self, lease: Lease[Any]) -> None:
        """Let a lease go."""
        with self._changed:
            if lease in self._leases:
                self._leases.remove(lease)

    def close(self) -> None:
        """Let all go."""
        with self._changed:
            self._closed = True
            self._leases.clear()
            self._changed.notify()

    def _renew(self) -> None:
        while due := self._wait():
            for lease in due:
                self._call(lease.renew)

    def _wait(self) -> list[Lease[Any]]:
        """Return the leases that are due, once there are any; none when it is over."""
        with self._changed:
            while not self._closed:
                now = boottime()
                due = [lease for lease in self._leases if lease.due <= now]
                if due:
                    return due
                self._changed.wait(min((lease.due - now for lease in self._leases), default=None))
        return []
