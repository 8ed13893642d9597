"""Lets things go wrong at random, one at a time, while a test looks on."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Fault = Callable[[threading.Event], None]


class Disturbance:
    """Runs faults in a thread while the context is open, in random order, each as often as every other.

    Args:
        faults: each gets an event that is set when it must come to an end, and mends what it broke.
        rest: seconds between two of them at most.
    """

    def __init__(self, faults: Sequence[Fault], rest: float = 0.4) -> None:
        self._faults, self._rest = list(faults), rest
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disturbance", daemon=True)
        self._failure: BaseException | None = None
        self.done: Counter[str] = Counter()
        """How often each was at work, to its end."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        self._thread.join(30)
        if self._failure is not None and kind is None:
            raise self._failure

    @property
    def count(self) -> int:
        """How many are over."""
        return self.done.total()

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._round()
        except BaseException as failure:  # noqa: BLE001 - raised at the end of the context
            self._failure = failure

    def _round(self) -> None:
        for fault in random.sample(self._faults, len(self._faults)):
            if self._over.wait(random.uniform(0, self._rest)):
                return
            fault(self._over)
            self.done[fault.__name__] += 1
