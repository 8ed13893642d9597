"""Decides which delivery runs when: as many at once as there are hands, and some of them alone.

Everything here happens on one thread, the consumer's; the crew reports back through a queue.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from outbox.runner.delivery import Alone, Keep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outbox.consumer.crew import Crew
    from outbox.runner import Runner
    from outbox.runner.delivery import Delivery, Verdict

PATIENCE: Final = 30.0
"""Seconds for which a leased handler counts as one that others must not run beside. It may work for hours,
and its lease pays for itself if the process dies."""

IDLE: Final = 3600.0


class Dispatcher:
    """Hands deliveries to the crew, and hands back what became of them.

    Args:
        runner: Runs one delivery.
        crew: Does the work.
        concurrency: How many run at once.
        wake: Ends the consumer's wait; called from any thread.
    """

    def __init__(self, runner: Runner[Any], crew: Crew, concurrency: int, wake: Callable[[], None]) -> None:
        self._runner = runner
        self._crew = crew
        self._concurrency = concurrency
        self._wake = wake
        self._ready: deque[Delivery] = deque()
        self._returned: deque[Delivery] = deque()
        self._alone: deque[Delivery] = deque()
        self._kept: list[tuple[float, int, Delivery]] = []
        self._numbers = itertools.count()
        self._back: queue.SimpleQueue[tuple[Delivery, Verdict]] = queue.SimpleQueue()
        self._handling: dict[Delivery, float] = {}
        self._looking: set[Delivery] = set()
        self._solo: Delivery | None = None
        self._generation = 0

    @property
    def busy(self) -> bool:
        """Whether anything is at work."""
        return bool(self._handling or self._looking)

    @property
    def unfinished(self) -> list[Delivery]:
        """What this process has hold of: at work, or kept with a lease."""
        kept = (delivery for _, _, delivery in self._kept)
        return [*self._handling, *(delivery for delivery in kept if delivery.lease is not None)]

    def add(self, delivery: Delivery) -> None:
        """Take a delivery that came, or whose time to be kept is over."""
        came_back = delivery.redelivered and delivery.lease is None
        (self._returned if came_back else self._ready).append(delivery)

    def dispatch(self, now: float) -> None:
        """Start whatever may run now."""
        while self._kept and self._kept[0][0] <= now:
            self.add(heapq.heappop(self._kept)[2])
        while self._returned and self._free:
            # Only looked at: no handler runs before it is alone.
            self._submit(self._returned.popleft(), alone=False)
        while self._ready and self._free and not self._alone and not self._reserved(now):
            self._handle(self._ready.popleft(), now)
        if self._alone and self._free and self._quiet(now):
            self._solo = self._alone.popleft()
            self._handle(self._solo, now)

    def next_due(self, now: float) -> float:
        """Return in how many seconds there may be something to dispatch, if nothing happens before."""
        due = self._kept[0][0] - now if self._kept else IDLE
        return min(due, 1.0) if self._alone or self._solo else due

    def reported(self) -> Iterator[tuple[Delivery, Verdict]]:
        """Give what the crew has come to; what is to be kept or to run alone is taken care of here."""
        while True:
            try:
                delivery, verdict = self._back.get_nowait()
            except queue.Empty:
                return
            self._handling.pop(delivery, None)
            self._looking.discard(delivery)
            if self._solo is delivery:
                self._solo = None
            if self._counts(delivery):
                self._put_by(delivery, verdict)
            yield delivery, verdict

    def forget(self, generation: int) -> None:
        """Drop what the broker will deliver again: all of older connections that is not under a lease.

        Args:
            generation: Of the connection that deliveries come on from now on.
        """
        self._generation = generation
        self._ready = deque(filter(self._counts, self._ready))
        self._returned = deque(filter(self._counts, self._returned))
        self._alone = deque(filter(self._counts, self._alone))
        self._kept = [entry for entry in self._kept if self._counts(entry[2])]
        heapq.heapify(self._kept)

    def _counts(self, delivery: Delivery) -> bool:
        return delivery.lease is not None or delivery.generation == self._generation

    def _put_by(self, delivery: Delivery, verdict: Verdict) -> None:
        if isinstance(verdict, Keep):
            due = time.monotonic() + verdict.seconds
            heapq.heappush(self._kept, (due, next(self._numbers), delivery))
        elif isinstance(verdict, Alone):
            self._alone.append(delivery)

    @property
    def _free(self) -> bool:
        return len(self._handling) + len(self._looking) < self._concurrency

    def _quiet(self, now: float) -> bool:
        """Whether nothing is at work that a process which dies now would take with it."""
        return all(_settled_in(delivery, now - began) for delivery, began in self._handling.items())

    def _reserved(self, now: float) -> bool:
        """Whether a delivery is at work that nothing may run beside."""
        solo = self._solo
        return solo is not None and not _settled_in(solo, now - self._handling[solo])

    def _handle(self, delivery: Delivery, now: float) -> None:
        self._handling[delivery] = now
        self._run(delivery, alone=delivery is self._solo)

    def _submit(self, delivery: Delivery, *, alone: bool) -> None:
        self._looking.add(delivery)
        self._run(delivery, alone=alone)

    def _run(self, delivery: Delivery, *, alone: bool) -> None:
        self._crew.submit(partial(self._work, delivery, alone))

    def _work(self, delivery: Delivery, alone: bool) -> None:
        self._back.put((delivery, self._runner.run(delivery, alone=alone)))
        self._wake()


def _settled_in(delivery: Delivery, seconds: float) -> bool:
    return delivery.lease is not None and seconds > PATIENCE
