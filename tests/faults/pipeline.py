"""The whole way of a job in one place: a database, relays, a broker, and somebody who takes all messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers import eventually

from relay.theatre.judge import judge

if TYPE_CHECKING:
    from databases import Database
    from faults.collector import Collector
    from faults.figures import Figures
    from faults.fleet import Fleet

    from relay.theatre.judge import Account, Report


@dataclass(frozen=True)
class Pipeline:
    """What a fault test breaks, and what it looks at afterwards."""

    database: Database
    broker_url: str
    fleet: Fleet
    collector: Collector
    figures: Figures

    def settle(self, account: Account, timeout: float = 30.0) -> Report:
        """Wait until all is delivered and marked, and hold it against the account; its load has ended.

        Raises:
            AssertionError: something was lost, came from nowhere, out of order, or twice without saying so;
                or a job paid for the fault with an attempt.
        """
        self.collector.wait_for(account.ids, timeout)
        self.wait_published(timeout)
        report = judge(account, self.collector.deliveries)
        self.figures.say(report)
        assert not report.broken, report
        charged = "SELECT count(*) FROM outbox.job WHERE attempt > 0 OR version > 1 OR state <> 'published'"
        assert self.database.value(charged) == 0
        return report

    def wait_published(self, timeout: float = 30.0) -> None:
        """Wait until no job waits for a relay."""
        waiting = "SELECT count(*) FROM outbox.job WHERE state IN ('scheduled', 'pending', 'parked')"
        eventually(lambda: self.database.value(waiting) == 0, timeout, every=0.1)
