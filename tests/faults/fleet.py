"""Several relays as real processes, of which one leads."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from helpers import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processes import Event, Process, Processes


class Leader(NamedTuple):
    """A relay that leads, its term, and when that began (seconds since the epoch, by its log)."""

    process: Process
    term: int
    since: float


class Fleet:
    """Starts relays on one database and one broker, and knows who leads.

    Args:
        processes: starts them.
        database_url: of the database.
        broker_url: of the broker.
    """

    def __init__(self, processes: Processes, database_url: str, broker_url: str) -> None:
        self._processes = processes
        addresses = ("--database-url", database_url, "--broker-url", broker_url)
        self.arguments = ("relay", *addresses, "--log", "json")
        """Of the command, for those that start it in a way of their own."""
        self.relays: list[Process] = []
        """Also those that have ended."""

    def start(self, count: int = 1, *options: str, through: Sequence[str] = ()) -> None:
        """Start ``count`` more, and wait for nothing.

        Args:
            count: how many.
            options: of the command, such as ``--stale``, ``4``.
            through: a command in front of it, such as one that enters a namespace.
        """
        arguments = (*self.arguments, *options)
        self.relays += [self._processes.outbox(*arguments, through=through) for _ in range(count)]

    def wait_leader(self, after: int = 0, timeout: float = 30.0) -> Leader:
        """Wait for a term later than ``after``.

        Raises:
            AssertionError: nobody leads in time; with all that the relays said.
        """
        try:
            return eventually(lambda: self._leader(after), timeout)
        except AssertionError as failure:
            told = [str(failure), *(relay.story() for relay in self.relays)]
            raise AssertionError("\n\n".join(told)) from None

    def wait_standbys(self, count: int = 1, timeout: float = 60.0) -> None:
        """Wait until ``count`` relays stand by and reach the broker: they can lead at once."""
        eventually(lambda: sum(_stands_by(relay) for relay in self.relays) >= count, timeout)

    def events(self, name: str) -> list[Event]:
        """Return every event of this name that any of them logged."""
        return [event for relay in self.relays for event in list(relay.events) if event["event"] == name]

    def _leader(self, after: int) -> Leader | None:
        terms = [
            Leader(relay, event["term"], stamp(event))
            for relay in self.relays
            for event in list(relay.events)
            if event["event"] == "leadership_gained"
        ]
        latest = max(terms, key=lambda leader: leader.term, default=None)
        return latest if latest and latest.term > after else None


def stamp(event: Event) -> float:
    """Return when an event was logged, in seconds since the epoch."""
    return datetime.fromisoformat(event["time"]).timestamp()


def _stands_by(relay: Process) -> bool:
    names = {event["event"] for event in list(relay.events)}
    return relay.running and "leadership_gained" not in names and {"standing_by", "broker_connected"} <= names
