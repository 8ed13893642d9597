"""Lets SIGTERM and Ctrl-C end a server: the first lets it finish, the second ends it at once."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDING: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def handled(finish: Callable[[], object]) -> Iterator[None]:
    """Call ``finish`` at the first signal; at the second, leave as a crash would, which loses nothing.

    Args:
        finish: asks a server to end when its work in hand is done. Must not wait.
    """
    heard: list[int] = []

    def on_signal(number: int, _frame: object) -> None:
        heard.append(number)
        if len(heard) > 1:
            os._exit(128 + number)
        finish()

    before = {number: signal.signal(number, on_signal) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
