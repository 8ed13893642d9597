"""All of it under one fault: writers, relays, consumers, a plain client; and what the fault cost."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from faults.fleet import Fleet
from helpers import eventually

from relay.theatre.judge import judge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from databases import Database
    from faults.collector import Collector
    from faults.figures import Figures
    from processes import Event, Process, Processes

    from relay.theatre.judge import Account, Report

APP = Path(__file__).with_name("consumer_app.py")
EFFECT = """CREATE TABLE IF NOT EXISTS public.effect (
    id bigint GENERATED ALWAYS AS IDENTITY, job_id uuid NOT NULL, note text NOT NULL DEFAULT '')"""
UNDONE = "SELECT count(*) FROM outbox.job WHERE state NOT IN ('succeeded', 'cancelled')"
ATTEMPTS_A_MINUTE = 12


class Plant:
    """What a test breaks, and what it looks at afterwards; nothing is started yet.

    Args:
        processes: starts relays and consumers.
        database: where the jobs are; looked at directly.
        broker_url: where their messages go; looked at directly.
        collector: takes every message too.
        figures: told what was seen.
        logins: addresses that processes are told instead: ``relay_database``, ``relay_broker``,
            ``consumer_database`` (for SQLAlchemy), ``consumer_broker``.
    """

    def __init__(
        self,
        processes: Processes,
        database: Database,
        broker_url: str,
        collector: Collector,
        figures: Figures,
        *,
        logins: Mapping[str, str] | None = None,
    ) -> None:
        self.database, self.collector, self.figures = database, collector, figures
        self._processes, given = processes, dict(logins or {})
        self.fleet = Fleet(
            processes, given.get("relay_database", database.dsn), given.get("relay_broker", broker_url)
        )
        self.consumer = {
            "DATABASE_URL": given.get("consumer_database", database.url),
            "BROKER_URL": given.get("consumer_broker", broker_url),
        }
        """The environment of a consumer."""
        self.consumers: list[Process] = []
        database.execute(EFFECT)

    def start(self, relays: int = 2, *options: str) -> None:
        """Start relays and a consumer, and wait until all of them are at work."""
        self.fleet.start(relays, *options)
        self.consume().wait_event("consumer_started", 30)
        self.fleet.wait_leader()
        if relays > 1:
            self.fleet.wait_standbys(relays - 1)

    def consume(self, **settings: object) -> Process:
        """Start one more consumer, and wait for nothing."""
        env = {**self.consumer, **{name: str(value) for name, value in settings.items()}}
        self.consumers.append(self._processes.start(sys.executable, APP, env=env))
        return self.consumers[-1]

    @property
    def alive(self) -> list[Process]:
        """Relays and consumers that run."""
        return [process for process in (*self.fleet.relays, *self.consumers) if process.running]

    def settle(self, account: Account, timeout: float = 60.0) -> Report:
        """Wait until all is delivered and done, and hold it against the account; its load has ended.

        Raises:
            AssertionError: something was lost, came from nowhere, out of order, twice without saying so, or
                was not done exactly once.
        """
        self.collector.wait_for(account.ids, timeout)
        eventually(lambda: self.database.value(UNDONE) == 0, timeout, every=0.2)
        effects = Counter(row[0] for row in self.database.execute("SELECT job_id FROM effect"))
        report = judge(account, self.collector.deliveries, effects=effects)
        self.figures.say(report)
        assert not report.broken, report
        return report

    def attempts(self) -> int:
        """Return how many attempts all jobs paid beyond the one that each needs."""
        return int(self.database.value("SELECT coalesce(sum(greatest(attempt - 1, 0)), 0) FROM outbox.job"))

    def tell(self, fault: str, relay: str, consumer: str, report: Report, recovery: str) -> None:
        """Add a row to the matrix: fault | relay | consumer | lost | ghosts | duplicates | recovery."""
        counts = f"{len(report.lost)} | {len(report.ghosts)} | {report.duplicates.total()}"
        self.figures.say(f"| {fault} | {relay} | {consumer} | {counts} | {recovery} |")


def complaints(process: Process, after: int = 0) -> list[Event]:
    """Return the warnings and errors that a process logged, all but its first ``after`` events."""
    return [event for event in list(process.events)[after:] if event.get("level") in ("warning", "error")]


def marked(processes: Sequence[Process]) -> dict[Process, int]:
    """Remember how much each has said, for :func:`complaints`."""
    return {process: len(process.events) for process in processes}


def last(seconds: float) -> None:
    """Let a fault last for its time, however early everybody has noticed it."""
    threading.Event().wait(seconds)


def at_most(seconds: float) -> int:
    """Return how many attempts a back-off makes in a time: five quick ones, then twelve a minute."""
    return 6 + round(seconds * ATTEMPTS_A_MINUTE / 60)


def names(process: Process, after: int, words: str, timeout: float = 30.0) -> str:
    """Wait for a complaint with these words, after the first ``after`` events, and return it."""

    def found() -> str | None:
        told = (str(event["message"]) for event in complaints(process, after))
        return next((line for line in told if words in line), None)

    return eventually(found, timeout)


def back(plant: Plant, timeout: float = 60.0) -> float:
    """Return how long it takes from now to the next message that a relay sends."""
    now = time.monotonic()
    return plant.collector.first_after(now, timeout).at - now


def calm(plant: Plant, said: Mapping[Process, int], seconds: float, passwords: Sequence[str]) -> None:
    """See that none of them stormed its log while the fault lasted, or told a password."""
    counts = [len(complaints(process, after)) for process, after in said.items()]
    plant.figures.say(f"complaints of each process in {seconds} s: {counts}")
    assert 0 < max(counts) <= at_most(seconds) + 1, counts
    for process in (*plant.fleet.relays, *plant.consumers):
        said_by_it = process.story().partition("\n")[2]  # its arguments, which are ours, are the first line
        assert not [password for password in passwords if password in said_by_it]
