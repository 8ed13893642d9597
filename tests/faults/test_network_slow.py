"""The network is slow, or narrow, or loses some: nobody takes that for a death, and nothing is lost."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from consuming import Shop
from faults.effects import check_effects
from faults.load import backlog
from faults.namespaces import Quality
from relays import add

from relay.theatre.judge import Account, Written, judge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faults.namespaces import Namespace
    from faults.pipeline import Pipeline
    from processes import Process, Processes

APP = Path(__file__).with_name("consumer_app.py")
WINDOW = 1000
FAR = Quality(delay=0.1, jitter=0.01, loss=0.05)
ROUND_TRIP = 2 * FAR.delay
KILOBYTE = 1024
RATE = 10_000
GROWTH = 32 * KILOBYTE


@pytest.mark.exhaustive
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("network", "jobs"), [(FAR, 300)], indirect=["network"])
def test_a_line_that_is_long_and_loses_packets_costs_time_and_nothing_else(
    jobs: int, network: Namespace, across: Pipeline, shop: Shop, processes: Processes
) -> None:
    """200 ms there and back, a tenth more or less, and of a hundred packets five lost each way."""
    fleet = across.fleet
    fleet.start(1, through=network.enter())
    fleet.wait_leader().process.wait_event("broker_connected", timeout=30)
    fleet.start(1)
    fleet.wait_standbys()
    far_consumer(network, shop, processes)
    began = time.monotonic()
    account = backlog(across.database, jobs)
    across.collector.wait_for(account.ids, 200)
    published = time.monotonic() - began
    check_effects(across.database, account, across.figures, 200)
    report = judge(account, across.collector.deliveries)
    lost = len(fleet.events("database_lost")) + len(fleet.events("broker_lost"))
    ratio = jobs / published / (WINDOW / ROUND_TRIP)
    across.figures.row(
        "200 ms and 5 % loss each way",
        report,
        0.0,
        relay=f"{jobs} in {published:.2f} s, {ratio:.1%} of window / round trip, {lost} connections lost",
        consumer=f"{jobs} effects in {time.monotonic() - began:.2f} s",
    )
    assert not report.broken, report
    told = [fleet.events(name) for name in ("leadership_given_up", "leader_deposed", "database_lost")]
    assert [event["term"] for event in fleet.events("leadership_gained")] == [1], told


@pytest.mark.long
@pytest.mark.parametrize(
    "jobs", [60, pytest.param(600, marks=[pytest.mark.exhaustive, pytest.mark.timeout(400)])]
)
def test_a_narrow_line_is_used_to_its_width_and_no_further(
    jobs: int, network: Namespace, across: Pipeline
) -> None:
    """10 kB/s, and a kilobyte a job, which travels twice: from the database, and to the broker."""
    fleet = across.fleet
    fleet.start(1, through=network.enter())
    leader = fleet.wait_leader().process
    leader.wait_event("broker_connected")
    before = memory(leader)
    network.narrow(f"{8 * RATE}bit")
    began = time.monotonic()
    account = Account([Written(id_, None) for id_ in add(across.database, jobs, payload=b"x" * KILOBYTE)])
    across.collector.wait_for(account.ids, 60 + jobs / 2)
    took, grown = time.monotonic() - began, memory(leader) - before
    report = across.settle(account, 60)
    width = jobs * KILOBYTE / took / RATE
    did = f"{jobs} KiB in {took:.1f} s, {width:.0%} of the line, {grown / KILOBYTE:.1f} MiB more memory"
    across.figures.row("10 kB/s", report, 0.0, relay=did)
    assert grown < GROWTH
    assert not fleet.events("broker_lost")
    assert not fleet.events("database_lost")
    assert len(fleet.events("leadership_gained")) == 1


@pytest.fixture
def shop(across: Pipeline) -> Iterator[Shop]:
    made = Shop(across.database, across.broker_url)
    yield made
    made.close()


def far_consumer(network: Namespace, shop: Shop, processes: Processes) -> Process:
    """Start a consumer at the far end of the line."""
    env = {
        "DATABASE_URL": network.to(shop.database.url),
        "BROKER_URL": network.to(shop.broker_url),
        "CONCURRENCY": "16",
    }
    started = processes.start(*network.enter(), sys.executable, APP, env=env)
    started.wait_event("consumer_started", timeout=60)
    return started


def memory(process: Process) -> int:
    """Return the most that a process has had in memory so far, in KiB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
