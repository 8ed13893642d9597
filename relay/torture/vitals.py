"""Memory and descriptors of processes, as the kernel tells them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from relay.torture.stage import CONSUMER, RELAY

if TYPE_CHECKING:
    from relay.theatre.cast import Actor
    from relay.torture.stage import Stage

SHARES: Final = (0.1, 0.5, 1.0)
"""Of the time, when they are taken."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The largest of a kind of process."""

    rss: int
    """Resident memory in KiB."""
    descriptors: int


def take(stage: Stage) -> dict[str, Sample]:
    """Return a sample of relays and one of consumers; none where the system has no ``/proc``."""
    found = {}
    for kind in (RELAY, CONSUMER):
        samples = [sample for actor in stage.of(kind) if (sample := _of(actor))]
        if samples:
            found[kind] = Sample(
                max(sample.rss for sample in samples), max(sample.descriptors for sample in samples)
            )
    return found


def _of(actor: Actor) -> Sample | None:
    home = Path("/proc", str(actor.process.pid))
    with suppress(OSError):  # it ended while we looked, or there is no such thing here
        for line in (home / "status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return Sample(int(line.split()[1]), len(list((home / "fd").iterdir())))
    return None
