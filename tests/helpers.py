"""Waiting for conditions. No test sleeps for a fixed time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def eventually(look: Callable[[], T | None], timeout: float = 10.0, every: float = 0.01) -> T:
    """Look again and again until there is something.

    Args:
        look: returns something truthy when it has happened; an ``AssertionError`` counts as "not yet".
        timeout: seconds.
        every: seconds between looks.

    Returns:
        What ``look`` returned.

    Raises:
        AssertionError: it did not happen in time; with what was seen last.
    """
    pause = threading.Event()
    deadline = time.monotonic() + timeout
    while True:
        failure: AssertionError | None = None
        seen = None
        try:
            seen = look()
        except AssertionError as error:
            failure = error
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s; last seen: {failure or seen!r}") from failure
        pause.wait(every)
