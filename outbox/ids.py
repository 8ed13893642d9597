"""Makes the ids of jobs: UUIDs of version 7, so that rows made together lie together in the index.

Not responsible for order: jobs are published by `pos`, because the clocks of an application's hosts differ.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import uuid

_COUNTER_BITS = 42
_TAIL_BITS = 32
_LOW_COUNTER_BITS = 30
_VERSION_7 = 0x7 << 76
_VARIANT_RFC = 0x2 << 62


class Clock:
    """Gives ids that grow within one process, whatever threads, forks and the wall clock do.

    Layout (RFC 9562, section 6.2, method 1): 48 bits of milliseconds, then a counter of 42 bits that starts
    at random in each millisecond, then 32 random bits in every id.
    """

    def __init__(self) -> None:
        self._reset()
        # A child that went on with its parent's counter would differ from it in the 32 random bits alone, and
        # a lock that another thread held at the fork would stay locked in the child for ever.
        if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self._counter = 0

    def next(self) -> uuid.UUID:
        """Return an id greater than every id that this clock gave before."""
        noise = int.from_bytes(os.urandom(10))
        with self._lock:
            self._advance(time.time_ns() // 1_000_000, noise >> _TAIL_BITS)
            moment, counter = self._last, self._counter
        high = moment << 80 | _VERSION_7 | (counter >> _LOW_COUNTER_BITS) << 64
        low = (
            _VARIANT_RFC
            | (counter & (1 << _LOW_COUNTER_BITS) - 1) << _TAIL_BITS
            | noise & (1 << _TAIL_BITS) - 1
        )
        return uuid.UUID(int=high | low)

    def _advance(self, now: int, noise: int) -> None:
        """Move to `now`, or count on where the clock stands still or was set back."""
        start = noise & (1 << _COUNTER_BITS - 1) - 1  # the top bit stays free: room to count
        if now > self._last:
            self._last, self._counter = now, start
        elif self._counter + 1 < 1 << _COUNTER_BITS:
            self._counter += 1
        else:
            self._last, self._counter = self._last + 1, start


if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    _clock = Clock()

    def uuid7() -> uuid.UUID:
        """Return a new UUID of version 7, greater than those that this process made before."""
        return _clock.next()


def check_id(value: object) -> uuid.UUID:
    """Return a job's id, or refuse what is none: an error of the database would end the transaction.

    Raises:
        TypeError: It is neither a UUID nor text.
        ValueError: The text is no UUID.
    """
    if isinstance(value, uuid.UUID):
        return value
    if not isinstance(value, str):
        raise TypeError(f"a job's id is a UUID, not {type(value).__name__}")
    try:
        return uuid.UUID(value)
    except ValueError:
        raise ValueError(f"a job's id is a UUID, not {value!a:.60}") from None


__all__ = ["check_id", "uuid7"]
