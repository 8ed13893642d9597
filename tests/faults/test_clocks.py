"""Clocks on the wall jump by an hour, there and back: nobody is deposed, and only the database's counts."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import light
import pytest
from clocks import ClockedPostgres
from databases import Databases
from faults.collector import Collector
from faults.fleet import stamp
from faults.load import Load, Shape
from faults.plant import Plant
from helpers import eventually
from sqlalchemy.orm import Session

import outbox
from relay.theatre.judge import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from databases import Database
    from faults.figures import Figures
    from processes import Process, Processes
    from servers import Servers

    from relay.theatre.judge import Account

APP = Path(__file__).with_name("clock_app.py")
HOUR = 3600
JUMPS = (HOUR, -HOUR)
LOAD = Shape(rate=200)
LEASE = 2.0
"""Seconds; its handler works for twice as long, and is renewed meanwhile."""
FAST = "SELECT extract(epoch FROM clock_timestamp())::float8"
STATE = "SELECT state FROM outbox.job WHERE id = %s"


@pytest.fixture
def plant(processes: Processes, database: Database, amqp_url: str, figures: Figures) -> Iterator[Plant]:
    with Collector(amqp_url) as collector:
        yield Plant(processes, database, amqp_url, collector, figures)


@pytest.fixture
def clocked(servers: Servers) -> Iterator[ClockedPostgres]:
    def start() -> ClockedPostgres:
        made = ClockedPostgres(folder / "postgres")
        made.start()
        return made

    with light.folder() as folder:
        yield from servers.first("clocked postgres", "auto", [("binary", start)])


@pytest.fixture
def clocked_plant(
    processes: Processes, clocked: ClockedPostgres, amqp_url: str, figures: Figures
) -> Iterator[Plant]:
    databases = Databases(clocked)
    database = databases.kept()
    databases.close()
    with Collector(amqp_url) as collector:
        yield Plant(processes, database, amqp_url, collector, figures)
    database.engine.dispose()


class Hand:
    """The clock of relays and consumers, in a file that they read.

    Args:
        file: which.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(0)

    def set(self, seconds: float) -> None:
        """Be fast by so many seconds from now on."""
        self.file.write_text(f"{seconds:<31}")


class Jobs:
    """Adds single jobs beside a load, and looks at them.

    Args:
        plant: where.
        account: of the load; it learns of those that are to be done.
    """

    def __init__(self, plant: Plant, account: Account) -> None:
        self._database, self._account = plant.database, account

    def add(self, kind: str = "order.paid", payload: Any = None, delay: float = 0.0) -> UUID:
        """Add a job that is to be done before the test ends."""
        job = self.later(delay, kind, payload)
        self._account.committed.append(Written(job, None))
        return job

    def later(self, delay: float, kind: str = "order.paid", payload: Any = None) -> UUID:
        """Add a job that is due in so many seconds, by the database's clock."""
        with Session(self._database.engine) as session, session.begin():
            return outbox.add(session, kind, payload, delay=delay or None)

    def becomes(self, job: UUID, state: str, timeout: float = 20.0) -> None:
        """Wait until a job has a state."""
        eventually(lambda: self.state(job) == state, timeout)

    def state(self, job: UUID) -> str:
        """Return where a job stands."""
        return str(self._database.value(STATE, job))

    def cancel(self, job: UUID) -> None:
        """Take a job back."""
        with Session(self._database.engine) as session, session.begin():
            outbox.cancel(session, job)


def one_hour(jobs: Jobs, load: Load, jump: Callable[[], None]) -> None:
    """Jump while a lease is held, and see that what comes due, comes, and that the lease's work ends."""
    leased = jobs.add("report", {"sleep": 2 * LEASE})
    jobs.becomes(leased, "running")
    jump()
    due = jobs.add(delay=0.5)
    jobs.becomes(due, "succeeded")
    load.wait_committed(100)
    jobs.becomes(leased, "succeeded", 9 * LEASE + 20)


def nobody_was_deposed(plant: Plant) -> None:
    assert not plant.fleet.events("leader_deposed")
    assert len(plant.fleet.events("leadership_gained")) == 1


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("rounds", [1, pytest.param(8, marks=pytest.mark.exhaustive)])
def test_a_host_whose_clock_jumps_deposes_nobody_and_loses_no_lease(
    rounds: int, plant: Plant, processes: Processes, tmp_path: Path
) -> None:
    hand = Hand(tmp_path / "clock")
    at_work(plant, processes, hand)
    with Load(plant.database, LOAD) as load:
        jobs = Jobs(plant, load.account)
        later = jobs.later(HOUR / 2)
        for seconds in JUMPS * rounds:
            one_hour(jobs, load, lambda seconds=seconds: hand.set(seconds))
            says(plant.consumers[0], seconds)
        assert jobs.state(later) == "scheduled", "by the database's clock it is not due"
        jobs.cancel(later)
    report = plant.settle(load.account)
    paid = plant.attempts()
    jumps = f"{2 * rounds} jumps of up to 2 h"
    plant.tell(
        f"clocks of relays and consumer, {jumps}", "leads on", f"early leases {paid}", report, "none needed"
    )
    nobody_was_deposed(plant)
    assert (paid, report.duplicates.total()) == (0, 0)


def at_work(plant: Plant, processes: Processes, hand: Hand) -> None:
    """Start two relays and a consumer that wear the clock."""
    worn = (sys.executable, APP, hand.file)
    plant.fleet.relays += [processes.start(*worn, *plant.fleet.arguments) for _ in range(2)]
    plant.consumers.append(processes.start(*worn, "consumer", env={**plant.consumer, "LEASE": str(LEASE)}))
    plant.consumers[0].wait_event("consumer_started", 30)
    plant.fleet.wait_leader()


def says(process: Process, fast: float) -> None:
    """See that a process has the clock that it was given."""

    def worn() -> bool:
        return abs(stamp(process.events[-1]) - time.time() - fast) < 60

    eventually(worn)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("rounds", [1, pytest.param(8, marks=pytest.mark.exhaustive)])
def test_a_database_whose_clock_jumps_deposes_nobody_and_ends_a_lease_once_at_the_most(
    rounds: int, clocked_plant: Plant, clocked: ClockedPostgres
) -> None:
    plant = clocked_plant
    plant.fleet.start(2)
    plant.consume(LEASE=LEASE).wait_event("consumer_started", 30)
    plant.fleet.wait_leader()
    with Load(plant.database, LOAD) as load:
        jobs = Jobs(plant, load.account)
        for _ in range(rounds):
            soon, later = jobs.add(delay=HOUR / 2), jobs.later(3 * HOUR)
            for seconds in JUMPS:
                one_hour(jobs, load, lambda seconds=seconds: clocked.jump(seconds))
                assert abs(plant.database.value(FAST) - time.time() - seconds) < 60
                jobs.becomes(soon, "succeeded")
            assert jobs.state(later) == "scheduled"
            jobs.cancel(later)
    report = plant.settle(load.account)
    paid = plant.attempts()
    most: int = plant.database.value("SELECT max(attempt) FROM outbox.job")
    jumps = f"{2 * rounds} jumps of up to 2 h"
    plant.tell(f"clock of PostgreSQL, {jumps}", "leads on", f"early leases {paid}", report, "none needed")
    nobody_was_deposed(plant)
    assert most <= 2, "a lease was taken early more than once"
    assert paid <= rounds, "one of two jumps goes forward, beside one lease"
