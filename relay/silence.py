"""Of which destinations the broker says nothing, although messages to them are in flight. Pure.

A quorum queue without a leader takes messages and confirms none, for hours, and nobody says so. *Silent*:
something flies there, and for a second nothing was heard of any of it. *Proven*: a message that went
elsewhere after that has been answered, so it is not the broker that stands still.

It is not our window alone that fills. A channel of RabbitMQ that has 32 messages waiting for one quorum queue
gives its connection no more credit; 400 messages later, to whatever queues, the connection is not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from relay.term import clock

if TYPE_CHECKING:
    from collections.abc import Collection

QUIET: Final = 1.0
STUCK: Final = 2.0
"""Seconds of a silence after which a connection is given up for it, where a crowd waits."""
CROWD: Final = 16
"""Messages to one destination that no broker minds, however long they wait."""
LASTING: Final = 5.0
"""Seconds of a silence after which nobody waits for it any more: an election of a leader takes less."""


@dataclass(slots=True)
class Wait:
    """How many messages of a destination fly, since when nothing was heard of it, when it was proven."""

    count: int
    since: float
    proven_at: float | None = None


class Silence:
    """Knows of each destination with messages in flight since when nothing was heard of it."""

    def __init__(self) -> None:
        self._waits: dict[str, Wait] = {}
        self._silent: dict[str, Wait] = {}
        self._latest = float("-inf")

    @property
    def silent(self) -> Collection[str]:
        """The destinations that are silent."""
        return self._silent.keys()

    @property
    def lasting(self) -> list[str]:
        """Those of which nothing was heard for long, while others were answered: that will not pass soon."""
        return self._proven(LASTING)

    @property
    def stuck(self) -> bool:
        """Whether the broker stops, or has stopped, to read this connection because of one of them."""
        return any(self._silent[destination].count > CROWD for destination in self._proven(STUCK))

    @property
    def unproven_since(self) -> float | None:
        """Since when nothing at all was heard, where that may be the broker's own silence."""
        unproven = [wait.since for wait in self._silent.values() if wait.proven_at is None]
        return min(unproven, default=None)

    def sent(self, destination: str, now: float) -> None:
        """Note that a message leaves."""
        wait = self._waits.get(destination)
        if wait is None:
            self._waits[destination] = Wait(1, now)
        else:
            wait.count += 1

    def heard(self, destination: str, sent_at: float, now: float) -> bool:
        """Note the broker's word on a message that left at ``sent_at``; return whether it ends a silence."""
        wait = self._waits[destination]
        wait.count, wait.since, wait.proven_at = wait.count - 1, now, None
        if not wait.count:
            del self._waits[destination]
        self._latest = max(self._latest, sent_at)
        return self._silent.pop(destination, None) is not None

    def listen(self) -> set[str]:
        """Return the destinations that have fallen silent since the last look."""
        now, fresh = clock(), set()
        for destination, wait in self._waits.items():
            if wait.proven_at is None and self._latest > wait.since:
                wait.proven_at = now
            if now - wait.since > QUIET and destination not in self._silent:
                self._silent[destination] = wait
                fresh.add(destination)
        return fresh

    def excuse(self, now: float) -> None:
        """Begin anew with what is in flight: the broker had asked for a pause."""
        self._silent.clear()
        for wait in self._waits.values():
            wait.since, wait.proven_at = now, None

    def forget(self) -> None:
        """Forget everything: nothing is in flight any more."""
        self._waits.clear()
        self._silent.clear()
        self._latest = float("-inf")

    def _proven(self, seconds: float) -> list[str]:
        """Return what is silent for so long, and proven for a while: else an answer may be on its way."""
        now = clock()
        return [
            destination
            for destination, wait in self._silent.items()
            if wait.proven_at is not None and now - wait.proven_at > QUIET and now - wait.since > seconds
        ]
