"""Which destinations take messages now: jobs of a down one are parked, a resting one is left alone a moment.

A destination is what goes down together: a kind with its own exchange and routing key, if it has any. *Down*:
the broker could route its messages nowhere, or says nothing of them for long while it answers others; one
job at a time probes it, with a back-off. *Silent*: it says nothing just now (``silence.py``). *Resting*: the
broker said no (nack); after the rest a few try again, twice as many each time it goes well. Everything else
flows meanwhile. Memory of one term, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from relay.term import clock

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable

    from relay.row import Row

FIRST_PROBE: Final = 1.0
FIRST_REST: Final = 0.1
LONGEST: Final = 60.0
RING_GAP: Final = 1.0
TELL_EVERY: Final = 30.0
RESTED: Final = 256
"""Tries at once that go well end a rest."""


class Admission(Enum):
    """What becomes of a job that was read."""

    SEND = auto()
    TRY = auto()
    """Send it on a channel of its own."""
    PARK = auto()
    LEAVE = auto()


@dataclass(slots=True)
class Down:
    """Why, and when it is probed next. ``recovering``: a probe got through, the parked jobs come back."""

    reason: str
    probe_at: float
    wait: float = FIRST_PROBE
    probing: bool = False
    recovering: bool = False


@dataclass(slots=True)
class Rest:
    """Until when a destination is left alone, and how many jobs try it then; ``apart``: not beside others."""

    wait: float
    until: float
    allowed: int = 1
    trying: int = 0
    failed: bool = False
    passed: bool = False
    told_at: float = field(default_factory=clock)
    apart: bool = False


class Destinations:
    """What is known of each destination. Seconds throughout."""

    def __init__(self, parked: Iterable[tuple[str, str]] = ()) -> None:
        self._down = {destination: Down(reason, clock()) for destination, reason in parked}
        self._resting: dict[str, Rest] = {}
        self._rung_at = 0.0

    @property
    def down(self) -> dict[str, Down]:
        """Every destination with parked jobs, by name."""
        return self._down

    def align(self, parked: Iterable[tuple[str, str]]) -> None:
        """Compare with the table: a parked job that was locked when the others came back is not forgotten."""
        found = dict(parked)
        for destination, reason in found.items():
            if destination not in self._down:
                self._down[destination] = Down(reason, clock())
        for destination, down in list(self._down.items()):
            if destination not in found and not (down.probing or down.recovering):
                del self._down[destination]

    def admit(self, row: Row, silent: Container[str] = (), *, may_try: bool = True) -> Admission:
        """Decide whether a job that was read is sent, parked or left pending.

        Args:
            row: the job.
            silent: destinations of which the broker says nothing just now.
            may_try: whether one more may be sent on a channel of its own.
        """
        down = self._down.get(row.destination)
        if down is not None and not down.recovering:
            return Admission.PARK
        if row.destination in silent:
            return Admission.LEAVE
        rest = self._resting.get(row.destination)
        if rest is None:
            return Admission.SEND
        if rest.trying >= rest.allowed or clock() < rest.until or (rest.apart and not may_try):
            return Admission.LEAVE
        rest.trying += 1
        return Admission.TRY if rest.apart else Admission.SEND

    def unroutable(self, destination: str, reason: str) -> Down | None:
        """Note that a message was returned. Returns the entry if this is news, or the probe's answer."""
        self._resting.pop(destination, None)
        down = self._down.get(destination)
        if down is None:
            down = self._down[destination] = Down(reason, clock())
        elif not (down.probing or down.recovering):
            return None
        else:
            down.wait = min(LONGEST, down.wait * 2)
        down.reason, down.probing, down.recovering = reason, False, False
        down.probe_at = clock() + down.wait
        return down

    def unheard(self, destination: str, reason: str) -> Down | None:
        """Note that what flies there, now its probe, is not answered. Returns the entry if it is news."""
        down = self._down.get(destination)
        if down is not None and not down.recovering:
            return None
        self._resting.pop(destination, None)
        down = self._down[destination] = Down(reason, clock(), probing=True)
        return down

    def mute(self, destination: str) -> None:
        """Note that a connection ended in its silence: one job tries it, apart from all others.

        A channel that is new to a quorum queue asks its leader first, and serves nobody before the answer.
        """
        if destination not in self._down:
            self._resting[destination] = Rest(FIRST_REST, clock(), apart=True)

    @property
    def resting(self) -> Collection[str]:
        """The destinations that rest, or are tried after a rest."""
        return self._resting.keys()

    def nacked(self, destination: str) -> float | None:
        """Note that the broker said no: leave the destination alone, longer each time.

        Returns:
            The seconds of its rest, where somebody should be told: at the first no, and when it goes on.
        """
        down = self._down.get(destination)
        if down is not None and down.probing:
            self._put_off(down)
            return None
        rest = self._resting.get(destination)
        if rest is None:
            self._resting[destination] = Rest(FIRST_REST, clock() + FIRST_REST)
            return FIRST_REST
        if rest.trying:
            rest.failed = True
            self._answered(destination, rest)
            if clock() - rest.told_at >= TELL_EVERY:
                rest.told_at = clock()
                return rest.wait
        return None

    def confirmed(self, destination: str) -> bool:
        """Note that a message got through; return whether that brings a destination back."""
        rest = self._resting.get(destination)
        if rest is not None and rest.trying:
            rest.passed = True
            self._answered(destination, rest)
        down = self._down.get(destination)
        if down is None or not down.probing:
            return False
        down.probing, down.recovering = False, True
        return True

    def refused(self, destination: str) -> None:
        """Note that a message was refused for what it is: no news of the destination, but the try is over."""
        down = self._down.get(destination)
        if down is not None and down.probing:
            down.probing, down.probe_at = False, clock()
        rest = self._resting.get(destination)
        if rest is not None and rest.trying:
            self._answered(destination, rest)

    def recovered(self, destination: str) -> None:
        """Forget a destination whose last parked job is pending again."""
        self._down.pop(destination, None)

    def lost(self) -> None:
        """Note that probes and tries under way get no answer: the connection ended, or was not used."""
        for down in self._down.values():
            if down.probing:
                down.probing, down.probe_at = False, clock() + FIRST_PROBE
        for rest in self._resting.values():
            rest.trying, rest.failed, rest.passed = 0, False, False

    def rung(self) -> None:
        """Note that somebody bound a queue: probe at once, at most once a second."""
        at = max(clock(), self._rung_at + RING_GAP)
        self._rung_at = clock()
        for down in self._down.values():
            down.probe_at = min(down.probe_at, at)

    def to_probe(self) -> list[str]:
        """Return the destinations whose probe is due, the longest due first."""
        now = clock()
        due = [
            (down.probe_at, destination)
            for destination, down in self._down.items()
            if not (down.probing or down.recovering) and down.probe_at <= now
        ]
        return [destination for _, destination in sorted(due)]

    def probing(self, destination: str, *, sent: bool) -> None:
        """Note that a probe is under way; or that there was none to be had just now."""
        down = self._down[destination]
        if sent:
            down.probing = True
        else:
            self._put_off(down)

    def to_recover(self) -> list[str]:
        """Return the destinations whose parked jobs may come back."""
        return [destination for destination, down in self._down.items() if down.recovering]

    @property
    def next_look(self) -> float:
        """Seconds until a probe is due or a rest is over; infinite if there is neither."""
        now = clock()
        times = [down.probe_at for down in self._down.values() if not (down.probing or down.recovering)]
        # A rest that is over needs no look of its own: its jobs, if any are left, are read with the others.
        times += [rest.until for rest in self._resting.values() if rest.until > now]
        return max(0.0, min(times) - now) if times else float("inf")

    def _put_off(self, down: Down) -> None:
        down.wait = min(LONGEST, down.wait * 2)
        down.probing, down.probe_at = False, clock() + down.wait

    def _answered(self, destination: str, rest: Rest) -> None:
        """Count one answer; after the last one of a round decide how the next one goes."""
        rest.trying -= 1
        if rest.trying:
            return
        if not rest.failed:
            rest.allowed *= 2
            if rest.apart or rest.allowed > RESTED:
                del self._resting[destination]
        else:
            rest.wait = FIRST_REST if rest.passed else min(LONGEST, rest.wait * 2)
            rest.allowed, rest.until = 1, clock() + rest.wait
        rest.failed = rest.passed = False
