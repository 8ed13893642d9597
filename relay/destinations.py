"""Which destinations take messages now: jobs of a down one are parked, a resting one is left alone a moment.

A destination is what goes down together: a kind with its own exchange and routing key, if it has any. *Down*:
the broker could route its messages nowhere; one job at a time probes it, with a back-off. *Resting*: the
broker said no (nack); one job tries again after the rest. Everything else flows meanwhile. Memory of one
term, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from relay.term import clock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from relay.row import Row

FIRST_PROBE: Final = 1.0
FIRST_REST: Final = 0.1
LONGEST: Final = 60.0
RING_GAP: Final = 1.0


class Admission(Enum):
    """What becomes of a job that was read."""

    SEND = auto()
    PARK = auto()
    LEAVE = auto()


@dataclass(slots=True)
class Down:
    """Why, and when it is probed next. ``recovering``: a probe got through, the parked jobs come back."""

    reason: str
    wait: float = FIRST_PROBE
    probe_at: float = field(default_factory=clock)
    probing: bool = False
    recovering: bool = False


@dataclass(slots=True)
class Rest:
    """Until when a destination is left alone, and whether one job is trying it."""

    wait: float
    until: float
    trying: bool = False


class Destinations:
    """What is known of each destination. Seconds throughout."""

    def __init__(self, parked: Iterable[tuple[str, str]] = ()) -> None:
        self._down = {destination: Down(reason) for destination, reason in parked}
        self._resting: dict[str, Rest] = {}
        self._rung_at = 0.0

    @property
    def down(self) -> dict[str, Down]:
        """Every destination with parked jobs, by name."""
        return self._down

    def admit(self, row: Row) -> Admission:
        """Decide whether a job that was read is sent, parked or left pending."""
        down = self._down.get(row.destination)
        if down is not None and not down.recovering:
            return Admission.PARK
        rest = self._resting.get(row.destination)
        if rest is None:
            return Admission.SEND
        if rest.trying or clock() < rest.until:
            return Admission.LEAVE
        rest.trying = True
        return Admission.SEND

    def unroutable(self, destination: str, reason: str) -> Down | None:
        """Note that a message was returned. Returns the entry if this is news, or the probe's answer."""
        down = self._down.get(destination)
        if down is None:
            down = self._down[destination] = Down(reason)
        elif not (down.probing or down.recovering):
            return None
        else:
            down.wait = min(LONGEST, down.wait * 2)
        down.reason, down.probing, down.recovering = reason, False, False
        down.probe_at = clock() + down.wait
        return down

    def nacked(self, destination: str) -> None:
        """Note that the broker said no: leave the destination alone, longer each time."""
        rest = self._resting.get(destination)
        if rest is None:
            self._resting[destination] = Rest(FIRST_REST, clock() + FIRST_REST)
        elif rest.trying:
            rest.wait = min(LONGEST, rest.wait * 2)
            rest.until, rest.trying = clock() + rest.wait, False

    def confirmed(self, destination: str) -> bool:
        """Note that a message got through; return whether that brings a destination back."""
        rest = self._resting.get(destination)
        if rest is not None and rest.trying:
            del self._resting[destination]
        down = self._down.get(destination)
        if down is None or not down.probing:
            return False
        down.probing, down.recovering = False, True
        return True

    def recovered(self, destination: str) -> None:
        """Forget a destination whose last parked job is pending again."""
        self._down.pop(destination, None)

    def lost(self) -> None:
        """Note that the broker's connection ended: probes and tries that were under way have no answer."""
        for down in self._down.values():
            down.probing = False
        for rest in self._resting.values():
            rest.trying = False

    def rung(self) -> None:
        """Note that somebody bound a queue: probe at once, at most once a second."""
        if clock() - self._rung_at < RING_GAP:
            return
        self._rung_at = clock()
        for down in self._down.values():
            down.probe_at = min(down.probe_at, clock())

    def to_probe(self) -> list[str]:
        """Return the destinations whose probe is due, and note that it is under way."""
        now = clock()
        due = [
            d
            for d, down in self._down.items()
            if not (down.probing or down.recovering) and down.probe_at <= now
        ]
        for destination in due:
            self._down[destination].probing = True
        return due

    def to_recover(self) -> list[str]:
        """Return the destinations whose parked jobs may come back."""
        return [destination for destination, down in self._down.items() if down.recovering]

    @property
    def next_look(self) -> float:
        """Seconds until a probe or a rest is over; infinite if there is none."""
        times = [down.probe_at for down in self._down.values() if not down.probing]
        times += [rest.until for rest in self._resting.values() if not rest.trying]
        return max(0.0, min(times) - clock()) if times else float("inf")
